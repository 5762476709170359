// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <unordered_map>

#include "base/format.h"
#include "base/nearest.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {
namespace {

void check_names(const Draft& draft, Problems& problems) {
    std::unordered_map<std::string_view, Position> seen;
    for (const auto& draft_service : draft.services) {
        const auto& name = draft_service.service.name;
        if (name.empty()) continue;  // it was already complained about
        auto [first, is_new] = seen.emplace(name, draft_service.name_at);
        if (!is_new)
            problems.add(draft_service.name_at,
                         format("name: \"{}\" is already the name of the service at {}", name,
                                place(first->second)));
    }
}

void check_default_service(const Draft& draft, Problems& problems) {
    if (draft.default_service.empty()) return;
    std::vector<std::string_view> names;
    for (const auto& draft_service : draft.services) names.push_back(draft_service.service.name);
    if (std::ranges::find(names, draft.default_service) != names.end()) return;
    auto near = nearest(draft.default_service, names);
    problems.add(draft.default_service_at,
                 format("default_service: no service is named {}", quoted(draft.default_service)),
                 near.empty() ? "" : format("did you mean \"{}\"?", near));
}

// Walks over all ports once, remembering who took each. Of an item that clashes only the first
// clashing port is reported, so that two overlapping ranges are one problem and not thousands.
void check_ports(const Draft& draft, Problems& problems) {
    struct Claim {
        const DraftService* by = nullptr;
        Position at;
    };
    std::vector<Claim> claims(65536);
    for (const auto& draft_service : draft.services) {
        const auto& service = draft_service.service;
        for (size_t i = 0; i < service.ports.size(); ++i) {
            auto at = draft_service.ports_at[i];
            for (uint32_t port = service.ports[i].first; port <= service.ports[i].last; ++port) {
                auto& claim = claims[port];
                if (!claim.by) {
                    claim = {&draft_service, at};
                    continue;
                }
                problems.add(
                    at, claim.by == &draft_service
                            ? format("ports: port {} is in this service twice, first at {}", port,
                                     place(claim.at))
                            : format("ports: port {} is already in service \"{}\", at {}", port,
                                     claim.by->service.name, place(claim.at)));
                break;
            }
        }
        if (draft_service.no_ports_at &&
            (service.name.empty() || service.name != draft.default_service))
            problems.add(*draft_service.no_ports_at,
                         "ports: the service has none, so nothing could reach it",
                         "list its ports, or name it as default_service in [proxify]");
    }
    // An unwritten `listen` is judged by check_listener_port(), once it is known that -b is wanted.
    auto& claim = claims[draft.config.listen];
    if (draft.listen_at && claim.by)
        problems.add(
            claim.at,
            format(
                "ports: service \"{}\" lists port {}, which is the listener's own (listen, at {})",
                claim.by->service.name, draft.config.listen, place(*draft.listen_at)),
            "take it out of ports, or choose another `listen`;\n"
            "what arrives at the listener's own port goes to default_service");
}

std::string lower(std::string text) {
    for (char& c : text) {
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    }
    return text;
}

void check_targets(const Draft& draft, Problems& problems) {
    for (const auto& draft_service : draft.services) {
        const auto& service = draft_service.service;
        PortRange highest{};
        for (auto range : service.ports) highest = highest.last < range.last ? range : highest;

        std::unordered_map<std::string, Position> seen;
        for (size_t i = 0; i < service.targets.size(); ++i) {
            const auto& target = service.targets[i];
            auto at = draft_service.targets_at[i];
            auto host = target.ip ? target.ip->text() : lower(target.host);
            auto same =
                format("{} {} {}", host, static_cast<int>(target.port.kind), target.port.value);
            auto [first, is_new] = seen.emplace(std::move(same), at);
            if (!is_new)
                problems.add(at, format("targets: {} is in this service twice, first at {}",
                                        quoted(target.text), place(first->second)));

            bool passes_end = target.port.kind == TargetPort::Kind::offset &&
                              highest.last + target.port.value > 65535;
            if (passes_end)
                problems.add(at, format("targets: {} would lead from port {} to {}, beyond 65535",
                                        quoted(target.text), highest.last,
                                        highest.last + target.port.value));
        }
    }
}

}  // namespace

void judge(const Draft& draft, Problems& problems) {
    if (draft.services.empty() && problems.empty())
        problems.add({}, "there is no [[service]], so there is nothing to do",
                     "a service looks like this:\n[[service]]\nname = \"web\"\nports = [5001, "
                     "\"5300-5399\"]\ntargets = [\"10.0.0.1:80\"]");
    check_names(draft, problems);
    check_default_service(draft, problems);
    check_ports(draft, problems);
    check_targets(draft, problems);
}

}  // namespace proxify::config
