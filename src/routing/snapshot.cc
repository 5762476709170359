// SPDX-License-Identifier: Apache-2.0
#include "routing/snapshot.h"

#include <algorithm>

#include "base/format.h"

namespace proxify::routing {

namespace {

using balance::Target;

std::shared_ptr<Target> find_target(const Service* service, const Ip& ip,
                                    const config::TargetPort& port) {
    if (!service) return nullptr;
    for (const auto& target : service->pool.targets())
        if (target->ip == ip && target->port == port) return target;
    return nullptr;
}

std::string target_text(const Ip& ip, const config::TargetPort& port) {
    using Kind = config::TargetPort::Kind;
    std::string host = ip.is_v4 ? ip.text() : format("[{}]", ip.text());
    switch (port.kind) {
        case Kind::fixed:
            return format("{}:{}", host, port.value);
        case Kind::same:
            return host + ":*";
        case Kind::offset:
            return format("{}:+{}", host, port.value);
    }
    return host;
}

/// Each target of the file, and each address of a name, once, in the order written.
std::vector<balance::Member> make_members(const config::Service& spec,
                                          const Snapshot::Resolve& resolve, const Service* before) {
    std::vector<balance::Member> members;
    for (const auto& written : spec.targets) {
        for (const Ip& ip : written.ip ? std::vector{*written.ip} : resolve(written.host)) {
            bool known = std::ranges::any_of(members, [&](const auto& member) {
                return member.target->ip == ip && member.target->port == written.port;
            });
            if (known) continue;
            auto target = find_target(before, ip, written.port);
            if (!target)
                target = std::make_shared<Target>(ip, written.port, target_text(ip, written.port));
            target->sessions_max = static_cast<uint32_t>(written.max_connections);
            members.push_back({.target = std::move(target),
                               .weight = static_cast<uint32_t>(written.weight),
                               .priority = static_cast<uint32_t>(written.priority),
                               .is_backup = written.backup});
        }
    }
    return members;
}

}  // namespace

std::shared_ptr<const Snapshot> Snapshot::build(config::Config config, const Resolve& resolve,
                                                const Snapshot* before, Time now) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->services_.push_back(nullptr);
    for (const auto& spec : config.services) {
        const Service* old = nullptr;
        if (before)
            for (const auto& service : before->services_)
                if (service && service->name == spec.name) old = service.get();

        auto admission =
            old ? old->pool.shared_admission() : std::make_shared<balance::Admission>();
        admission->set_sessions_max(static_cast<uint32_t>(spec.max_connections));
        std::shared_ptr<Service> service(
            new Service{spec.name, spec,
                        balance::Pool({spec.balance, spec.slow_start, spec.hash_balance_factor},
                                      make_members(spec, resolve, old), std::move(admission))});
        if (old) service->pool.continue_after(old->pool);
        for (auto [first, last] : spec.ports) {
            for (int port = first; port <= last; ++port)
                snapshot->route_[static_cast<size_t>(port)] =
                    static_cast<uint16_t>(snapshot->services_.size());
            snapshot->port_count_ += static_cast<size_t>(last - first + 1);
        }
        snapshot->services_.push_back(std::move(service));
    }
    if (config.default_service)
        snapshot->default_ = snapshot->services_[*config.default_service + 1];

    if (before) {
        for (const auto& [port, retired] : before->retired_)
            if (retired.until > now && snapshot->route_[port] == 0)
                snapshot->retired_[port] = retired;
        for (size_t port = 0; port < before->route_.size(); ++port)
            if (before->route_[port] != 0 && snapshot->route_[port] == 0)
                snapshot->retired_[static_cast<uint16_t>(port)] = {
                    before->services_[before->route_[port]], now + retirement};
    }
    snapshot->config_ = std::move(config);
    return snapshot;
}

std::shared_ptr<const Service> Snapshot::find_retired(uint16_t port, Time now) const {
    auto found = retired_.find(port);
    if (found == retired_.end() || found->second.until < now) return nullptr;
    return found->second.service;
}

}  // namespace proxify::routing
