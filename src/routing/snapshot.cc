// SPDX-License-Identifier: Apache-2.0
#include "routing/snapshot.h"

#include <algorithm>
#include <tuple>

#include "base/format.h"
#include "filter/filters.h"

namespace proxify::routing {

namespace {

using balance::Target;

std::shared_ptr<Target> find_target(const Service* service, const Ip& ip,
                                    const config::TargetPort& port) {
    if (!service) return nullptr;
    for (const auto& target : service->pool.targets())
        if (target->ip == ip && target->port == port) return target;
    for (const auto& left : service->left)
        if (auto target = left.lock(); target && target->ip == ip && target->port == port)
            return target;
    return nullptr;
}

std::string target_text(const Ip& ip, const config::TargetPort& port) {
    using Kind = config::TargetPort::Kind;
    if (port.is_tunnel()) return "tunnel";
    if (port.is_original()) return "original";
    std::string host = ip.is_v4 ? ip.text() : format("[{}]", ip.text());
    switch (port.kind) {
        case Kind::fixed:
            return format("{}:{}", host, port.value);
        case Kind::same:
            return host + ":*";
        case Kind::offset:
            return format("{}:+{}", host, port.value);
        case Kind::original:
        case Kind::tunnel:
            break;
    }
    return host;
}

std::vector<Endpoint> endpoints_of(const config::TargetSpec& written,
                                   const Snapshot::Resolve& resolve) {
    if (written.ip) return {Endpoint{*written.ip}};
    auto endpoints = resolve(written.host);
    // DNS may still say what it was asked before the file changed.
    std::erase_if(endpoints,
                  [&](const Endpoint& one) { return one.port.has_value() != written.srv; });
    return endpoints;
}

/// What a check asks for by name: of "_http._tcp.name.example" the part that is a host's.
std::string host_of(const config::TargetSpec& written) {
    if (!written.srv) return written.host;
    const auto protocol = written.host.find('.');
    return written.host.substr(written.host.find('.', protocol + 1) + 1);
}

struct Members {
    std::vector<balance::Member> all;
    std::vector<std::string> hosts;  ///< one for each
};

/// Each target of the file, and each address of a name, once, in the order written.
Members make_members(const config::Service& spec, const Snapshot::Resolve& resolve,
                     const Service* before, Time now) {
    auto [members, hosts] = Members{};
    for (const auto& written : spec.targets) {
        for (const Endpoint& endpoint : endpoints_of(written, resolve)) {
            const Ip& ip = endpoint.ip;
            const auto port =
                endpoint.port ? config::TargetPort{config::TargetPort::Kind::fixed, *endpoint.port}
                              : written.port;
            bool known = std::ranges::any_of(members, [&](const auto& member) {
                return member.target->ip == ip && member.target->port == port;
            });
            if (known) continue;
            auto target = find_target(before, ip, port);
            if (!target) {
                target = std::make_shared<Target>(ip, port, target_text(ip, port));
                // Until health/ knows better.
                if (spec.health.enabled && !spec.health.initially_up) target->set_up(false, now);
            }
            target->sessions_max = static_cast<uint32_t>(written.max_connections);
            hosts.push_back(host_of(written));
            members.push_back(
                {.target = std::move(target),
                 .weight = written.srv ? endpoint.weight : static_cast<uint32_t>(written.weight),
                 .priority = static_cast<uint32_t>(written.priority) + endpoint.priority,
                 .is_backup = written.backup});
        }
    }
    return {std::move(members), std::move(hosts)};
}

/// Null when the lists are empty; the one from before when they are the same.
std::shared_ptr<const access::List> make_list(const config::Access& written,
                                              const config::Access* before,
                                              const std::shared_ptr<const access::List>& known) {
    if (written == config::Access{}) return nullptr;
    if (before && written == *before) return known;
    return std::make_shared<access::List>(written.allow, written.deny);
}

void guard(Service& service, const Service* before) {
    service.own_list = make_list(service.spec.access, before ? &before->spec.access : nullptr,
                                 before ? before->own_list : nullptr);
    if (service.spec.limits == config::Limits{}) return;
    // What each source has is known from before.
    service.sources = before ? before->sources : nullptr;
    if (!service.sources) service.sources = std::make_shared<access::Sources>();
}

std::shared_ptr<stats::Counter> find_clients(const Service* before, const std::string& name) {
    if (before && before->spec.tls) {
        const auto& names = before->spec.tls->settings.allowed_names;
        for (size_t i = 0; i < names.size(); ++i)
            if (names[i] == name) return before->allowed_clients[i];
    }
    return std::make_shared<stats::Counter>();
}

/// What was counted goes on.
void keep_stats(Service& service, const Service* before) {
    service.stats = before ? before->stats : std::make_shared<stats::Service>();
    if (service.spec.tls)
        for (const auto& name : service.spec.tls->settings.allowed_names)
            service.allowed_clients.push_back(find_clients(before, name));
    if (!service.spec.count_ports) return;
    service.port_stats = before ? before->port_stats : nullptr;
    if (!service.port_stats) service.port_stats = std::make_shared<stats::Ports>();
}

/// Answers of other targets are forgotten, and so are those that were kept by other rules.
void keep_answers(Service& service, const Service* before) {
    const auto& rules = service.spec.cache;
    if (!rules) return;
    const auto& known = before ? before->cache : nullptr;
    if (known && before->spec.cache == rules && before->spec.targets == service.spec.targets) {
        service.cache = known;
        return;
    }
    service.cache = std::make_shared<cache::Store>(
        cache::Limits{rules->ttl, rules->max_response, rules->max_size},
        known ? known->stats() : std::make_shared<stats::Cache>());
}

/// Contexts that are written alike go on, with what can be resumed in them.
void keep_tls(Service& service, const Service* before) {
    const auto& [tls, target_tls] = std::tie(service.spec.tls, service.spec.target_tls);
    service.handshakes =
        before && before->handshakes ? before->handshakes : std::make_shared<std::atomic<int>>();
    // The file was checked with them, so that they open.
    if (tls) {
        const bool is_same =
            before && before->spec.tls && before->spec.tls->settings == tls->settings;
        service.tls = is_same ? before->tls : *tls::ServerContext::open(tls->settings);
    }
    if (target_tls) {
        const bool is_same = before && before->spec.target_tls &&
                             before->spec.target_tls->settings == target_tls->settings;
        service.target_tls =
            is_same ? before->target_tls : *tls::ClientContext::open(target_tls->settings);
    }
}

/// The same for the tunnel. What is written there was opened once already.
std::shared_ptr<const Tunnel> keep_tunnel(const std::optional<config::Tunnel>& written,
                                          const std::shared_ptr<const Tunnel>& known,
                                          std::shared_ptr<const access::List> common_list) {
    if (!written) return nullptr;
    auto tunnel = std::make_shared<Tunnel>(
        known && known->spec == *written
            ? *known
            : Tunnel{*written, *tls::ServerContext::open(written->server_settings()),
                     *tls::ClientContext::open(written->client_settings())});
    tunnel->common_list = std::move(common_list);
    if (known) tunnel->handshakes = known->handshakes;
    return tunnel;
}

/// Those that `before` had and `service` has not, and that somebody still holds.
std::vector<std::weak_ptr<Target>> find_left(const Service& before, const Service& service) {
    std::vector<std::weak_ptr<Target>> left(before.pool.targets().begin(),
                                            before.pool.targets().end());
    left.insert(left.end(), before.left.begin(), before.left.end());
    std::erase_if(left, [&](const auto& one) {
        auto target = one.lock();
        return !target ||
               std::ranges::find(service.pool.targets(), target) != service.pool.targets().end();
    });
    return left;
}

}  // namespace

std::shared_ptr<const Snapshot> Snapshot::build(config::Config config, const Resolve& resolve,
                                                const Snapshot* before, Time now,
                                                const Orders& orders) {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->services_.push_back(nullptr);
    snapshot->unserved_ = before ? before->unserved_ : std::make_shared<stats::Service>();
    snapshot->common_list_ = make_list(config.access, before ? &before->config_.access : nullptr,
                                       before ? before->common_list_ : nullptr);
    snapshot->tunnel_ =
        keep_tunnel(config.tunnel, before ? before->tunnel_ : nullptr, snapshot->common_list_);
    for (const auto& spec : config.services) {
        const Service* old = nullptr;
        if (before)
            for (const auto& service : before->services_)
                if (service && service->name == spec.name) old = service.get();

        auto admission =
            old ? old->pool.shared_admission() : std::make_shared<balance::Admission>();
        admission->set_sessions_max(static_cast<uint32_t>(spec.max_connections));
        auto members = make_members(spec, resolve, old, now);
        auto ordered = members.all;
        for (auto& member : ordered)
            member.weight = order_for(orders, spec.name, member.target->text).apply(member.weight);
        std::shared_ptr<Service> service(
            new Service{spec.name, spec,
                        balance::Pool({spec.balance, spec.slow_start, spec.hash_balance_factor},
                                      ordered, std::move(admission)),
                        std::move(members.hosts), std::move(members.all)});
        if (old) {
            service->pool.continue_after(old->pool);
            service->left = find_left(*old, *service);
        }
        service->common_list = snapshot->common_list_;
        guard(*service, old);
        keep_stats(*service, old);
        keep_answers(*service, old);
        keep_tls(*service, old);
        if (spec.goes_through_tunnel()) service->tunnel = snapshot->tunnel_;
        service->filters = filter::Filters::build(spec, old ? old->filters.get() : nullptr);
        snapshot->services_.push_back(std::move(service));
    }
    if (config.default_service)
        snapshot->default_ = snapshot->services_[*config.default_service + 1];

    snapshot->add_routes();
    for (const auto& capture : config.captures)
        for (const auto& service : snapshot->services_)
            if (service && service->name == capture.service)
                for (uint16_t port : capture.listen)
                    snapshot->captured_[port] = snapshot->way_to(service);
    if (snapshot->default_) snapshot->otherwise_ = snapshot->way_to(snapshot->default_);
    if (before) {
        for (const auto& [port, retired] : before->retired_)
            if (retired.until > now && snapshot->route_[port] == 0)
                snapshot->retired_[port] = retired;
        snapshot->retire(*before, now + retirement);
        snapshot->retire_captures(*before, config, now);
    }
    snapshot->config_ = std::move(config);
    return snapshot;
}

/// Services that share ports, each set of them once: many ports have the same.
class Snapshot::Sets {
  public:
    explicit Sets(Snapshot& snapshot) : snapshot_(snapshot) {}

    /// `set` and a service more; 0 is the set of nobody.
    uint32_t with(uint32_t set, uint32_t service) {
        auto [known, is_new] = joined_.try_emplace({set, service}, sets_.size());
        if (is_new) sets_.push_back({.before = set, .service = service});
        return known->second;
    }
    /// What leads to these services: one alone that has no names does so itself.
    uint32_t number_of(uint32_t set) {
        if (set == 0) return 0;
        auto& known = sets_[set].number;
        if (known != 0) return known;
        std::vector<std::shared_ptr<const Service>> services;
        for (uint32_t one = set; one != 0; one = sets_[one].before)
            services.push_back(snapshot_.services_[sets_[one].service]);
        std::ranges::reverse(services);
        if (services.size() == 1 && services[0]->spec.sni.empty())
            known = sets_[set].service;
        else
            known = snapshot_.add_names(std::move(services));
        return known;
    }

  private:
    struct Set {
        uint32_t before = 0, service = 0, number = 0;
    };
    Snapshot& snapshot_;
    std::vector<Set> sets_{Set{}};
    std::map<std::pair<uint32_t, uint32_t>, uint32_t> joined_;
};

uint32_t Snapshot::add_names(std::vector<std::shared_ptr<const Service>> services) {
    config::Service spec;
    spec.accept_proxy = services[0]->spec.accept_proxy;  // all have the same
    std::shared_ptr<Service> way(new Service{
        {}, spec, balance::Pool({}, {}, std::make_shared<balance::Admission>()), {}, {}});
    way->common_list = common_list_;
    way->stats = unserved_;
    way->names = std::make_shared<Names>(std::move(services));
    by_number_.push_back(std::move(way));
    return static_cast<uint32_t>(by_number_.size() - 1);
}

/// For doors that lead to one service, whatever its ports are.
std::shared_ptr<const Service> Snapshot::way_to(const std::shared_ptr<const Service>& service) {
    return service->spec.sni.empty() ? service : by_number_[add_names({service})];
}

void Snapshot::add_routes() {
    Sets sets(*this);
    by_number_ = services_;
    for (size_t i = 1; i < services_.size(); ++i) {
        const auto& spec = services_[i]->spec;
        const auto number = static_cast<uint32_t>(i);
        for (auto [first, last] : spec.ports) {
            for (uint32_t port = first; port <= last; ++port) {
                if (spec.addresses.empty()) route_[port] = sets.with(route_[port], number);
                for (const auto& prefix : spec.addresses)
                    written_[static_cast<uint16_t>(port)].emplace_back(prefix, number);
            }
        }
        port_count_ += spec.port_count();
    }
    for (uint32_t& number : route_) number = sets.number_of(number);
    for (auto& [port, entries] : written_) {
        std::ranges::sort(entries);  // those of one prefix side by side, in the file's order
        size_t kept = 0;
        for (auto& [prefix, number] : entries) {
            const bool is_same = kept > 0 && entries[kept - 1].first == prefix;
            const uint32_t set = sets.with(is_same ? entries[kept - 1].second : 0, number);
            if (!is_same) ++kept;
            entries[kept - 1] = {prefix, set};
        }
        entries.resize(kept);
        for (auto& [prefix, number] : entries) number = sets.number_of(number);
        by_address_[port] = PrefixMap<uint32_t>(entries, /*others=*/route_[port]);
    }
}

/// Ports of `before` that are gone, or some of their addresses are.
void Snapshot::retire(const Snapshot& before, Time until) {
    auto prefixes = [](const Snapshot& snapshot, uint16_t port) {
        std::vector<Prefix> out;
        if (auto found = snapshot.written_.find(port); found != snapshot.written_.end())
            for (const auto& [prefix, number] : found->second) out.push_back(prefix);
        return out;
    };
    for (size_t i = 0; i < before.route_.size(); ++i) {
        const auto port = static_cast<uint16_t>(i);
        if (route_[port] != 0 || !before.has_port(port)) continue;
        if (before.route_[port] == 0 && prefixes(before, port) == prefixes(*this, port)) continue;

        std::vector<PrefixMap<std::shared_ptr<const Service>>::Entry> entries;
        if (auto found = before.written_.find(port); found != before.written_.end())
            for (const auto& [prefix, number] : found->second)
                entries.emplace_back(prefix, before.by_number_[number]);
        retired_[port] = {{std::move(entries), before.by_number_[before.route_[port]]}, until};
    }
}

Route Snapshot::route(const Address& dialled, bool is_steered, Time now,
                      const std::function<bool(uint16_t port)>& is_added_by_hand) const {
    using By = Route::By;
    if (const auto& service = find(dialled)) return {service, By::listed};
    const bool is_listed = has_port(dialled.port);  // at other addresses, then
    auto retired = find_retired(dialled, now);
    // Without steering every address of the port leads to us, those of a moment ago as well.
    if (!is_steered) {
        if (is_listed || !retired) return {};
        return {std::move(retired), By::retired};
    }
    // What is steered here without being configured was dialled at the listener itself, or its
    // port was added by hand. Or it waited in the queue while its port was removed.
    if (retired && (is_listed || !is_added_by_hand(dialled.port)))
        return {std::move(retired), By::retired};
    if (is_listed || !otherwise_) return {};
    return {otherwise_, By::otherwise};
}

void Snapshot::retire_captures(const Snapshot& before, const config::Config& config, Time now) {
    const auto listeners = config::capture_listeners(config);
    for (const auto& [port, gone] : before.captured_before_)
        if (gone.until > now && !listeners.contains(port)) captured_before_[port] = gone;
    for (const auto& [port, service] : before.captured_)
        if (!listeners.contains(port)) captured_before_[port] = {service, now + retirement};
}

Route Snapshot::route_captured(uint16_t listener_port, const Address& original_dst,
                               Time now) const {
    using By = Route::By;
    if (auto named = captured_.find(listener_port); named != captured_.end())
        return {named->second, By::listed};
    if (auto gone = captured_before_.find(listener_port);
        gone != captured_before_.end() && gone->second.until > now)
        return {gone->second.service, By::retired};
    if (const auto& service = find(original_dst)) return {service, By::listed};
    if (auto retired = find_retired(original_dst, now)) return {std::move(retired), By::retired};
    if (otherwise_) return {otherwise_, By::otherwise};
    return {};
}

access::SourceLimits Service::limits_at(uint16_t dialled_port,
                                        std::optional<uint16_t> uncounted_port) const {
    const bool kernel_counts =
        uncounted_port && dialled_port != *uncounted_port && spec.accept_proxy.empty();
    return {.sessions = static_cast<uint32_t>(spec.limits.source_sessions),
            .rate = kernel_counts ? 0 : static_cast<uint32_t>(spec.limits.source_rate)};
}

uint32_t Snapshot::number_of(const Address& dialled) const {
    auto found = by_address_.find(dialled.port);
    return found == by_address_.end() ? route_[dialled.port] : found->second.at(dialled.ip);
}

std::shared_ptr<const Service> Snapshot::find_retired(const Address& dialled, Time now) const {
    auto found = retired_.find(dialled.port);
    if (found == retired_.end() || found->second.until < now) return nullptr;
    return found->second.services.at(dialled.ip);
}

}  // namespace proxify::routing
