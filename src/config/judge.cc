// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
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

/// Who took a port, at one of its addresses or at all of them; of several the last one.
struct Claim {
    const DraftService* by = nullptr;
    Position at;
    uint32_t sharers = 0;  ///< of Sharing: who has it so far
};

/// Ports times addresses, in the whole file: each is an entry in a table of the kernel.
constexpr size_t addressed_ports_max = 262'144;

Position place_of(const DraftService& draft_service, uint16_t port) {
    const auto& ports = draft_service.service.ports;
    for (size_t i = 0; i < ports.size(); ++i)
        if (ports[i].first <= port && port <= ports[i].last) return draft_service.ports_at[i];
    return draft_service.name_at;
}

/// Services on one port at the same addresses are told apart by the names that clients ask for.
/// Ports mostly come in ranges that the same services share, so it is judged once for each set.
class Sharing {
  public:
    /// Those who share once `draft_service` comes to `sharers`. Nothing, and a complaint the first
    /// time, when it cannot.
    std::optional<uint32_t> join(uint32_t sharers, const DraftService& draft_service, uint16_t port,
                                 Problems& problems) {
        auto [known, is_new] = joined_.try_emplace({sharers, &draft_service});
        if (is_new) known->second = make(sharers, draft_service, port, problems);
        return known->second;
    }

  private:
    using Names = std::unordered_map<std::string_view, const DraftService*>;
    /// A set: another one, and a service that joined it.
    struct Set {
        uint32_t before = 0;
        const DraftService* joined = nullptr;
        std::optional<Names> names;  ///< unset once a larger set has taken them over
        const DraftService* nameless = nullptr;
    };

    Names take_names(uint32_t of) {
        if (sets_[of].names) return *std::exchange(sets_[of].names, std::nullopt);
        Names names;
        for (; of != 0; of = sets_[of].before)
            for (const auto& name : sets_[of].joined->service.sni)
                names.emplace(name, sets_[of].joined);
        return names;
    }

    std::optional<uint32_t> make(uint32_t sharers, const DraftService& draft_service, uint16_t port,
                                 Problems& problems) {
        const auto& service = draft_service.service;
        const DraftService* nameless = sets_[sharers].nameless;
        if (service.sni.empty() && nameless) {
            problems.add(place_of(draft_service, port),
                         format("ports: port {} is already in service \"{}\", at {}, and neither "
                                "has an sni",
                                port, nameless->service.name, place(place_of(*nameless, port))),
                         "of services that share a port, one may take the clients that no other "
                         "has the name of");
            return {};
        }
        auto names = take_names(sharers);
        for (size_t i = 0; i < service.sni.size(); ++i) {
            auto [first, is_new] = names.emplace(service.sni[i], &draft_service);
            if (is_new || first->second == &draft_service) continue;
            problems.add(draft_service.sni_at[i],
                         format("sni: \"{}\" is already a name of service \"{}\", and both have "
                                "port {}",
                                service.sni[i], first->second->service.name, port));
            return {};
        }
        // It comes before the name is known.
        const auto* other = sets_[sharers].joined;
        if (other && other->service.accept_proxy != service.accept_proxy) {
            problems.add(place_of(draft_service, port),
                         format("ports: port {} is already in service \"{}\", whose accept_proxy "
                                "is another",
                                port, other->service.name),
                         "services that share a port by sni have the same accept_proxy");
            return {};
        }
        sets_.push_back({.before = sharers,
                         .joined = &draft_service,
                         .names = std::move(names),
                         .nameless = service.sni.empty() ? &draft_service : nameless});
        return static_cast<uint32_t>(sets_.size() - 1);
    }

    std::vector<Set> sets_{{.names = Names{}}};  ///< the first is of nobody
    std::map<std::pair<uint32_t, const DraftService*>, std::optional<uint32_t>> joined_;
};

class Claims {
  public:
    /// The claim of whoever comes first; `prefix` is null for a service that is dialled everywhere.
    Claim& of(uint16_t port, const Prefix* prefix) {
        return prefix ? by_address_[{port, *prefix}] : everywhere_[port];
    }
    bool has_room_for(size_t more) const {
        return by_address_.size() + more <= addressed_ports_max;
    }
    Sharing& sharing() { return sharing_; }
    const Claim* any_of(uint16_t port) const {
        if (everywhere_[port].by) return &everywhere_[port];
        auto found = by_address_.lower_bound({port, Prefix{.ip = {}, .length = 0}});
        for (; found != by_address_.end() && found->first.first == port; ++found)
            if (found->second.by) return &found->second;
        return nullptr;
    }

  private:
    std::vector<Claim> everywhere_ = std::vector<Claim>(65536);
    std::map<std::pair<uint16_t, Prefix>, Claim> by_address_;
    Sharing sharing_;
};

/// Gives false, and complains, when somebody has it already.
bool claim(Claims& claims, const DraftService& draft_service, Position at, uint16_t port,
           const Prefix* prefix, Problems& problems) {
    Claim& claim = claims.of(port, prefix);
    const bool is_own = claim.by == &draft_service;
    const bool by_name =
        claim.by && !(claim.by->service.sni.empty() && draft_service.service.sni.empty());
    if (!claim.by || (!is_own && by_name)) {
        const auto sharers = claims.sharing().join(claim.sharers, draft_service, port, problems);
        if (sharers) claim = {&draft_service, at, *sharers};
        return sharers.has_value();
    }
    auto where = prefix ? format("port {} at {}", port, prefix->text()) : format("port {}", port);
    problems.add(at, is_own ? format("ports: {} is in this service twice, first at {}", where,
                                     place(claim.at))
                            : format("ports: {} is already in service \"{}\", at {}", where,
                                     claim.by->service.name, place(claim.at)));
    return false;
}

// Of an item that clashes only the first clashing port is reported, so that two overlapping ranges
// are one problem and not thousands.
void claim_ports(const DraftService& draft_service, Claims& claims, Problems& problems) {
    const auto& service = draft_service.service;
    std::vector<const Prefix*> prefixes;
    for (const auto& prefix : service.addresses) prefixes.push_back(&prefix);
    if (prefixes.empty()) prefixes.push_back(nullptr);
    for (size_t i = 0; i < service.ports.size(); ++i) {
        const auto at = draft_service.ports_at[i];
        bool is_free = true;
        for (uint32_t port = service.ports[i].first; is_free && port <= service.ports[i].last;
             ++port)
            for (const Prefix* prefix : prefixes) {
                auto number = static_cast<uint16_t>(port);
                is_free = is_free && claim(claims, draft_service, at, number, prefix, problems);
            }
    }
}

void check_ports(const Draft& draft, Problems& problems) {
    Claims claims;
    for (const auto& draft_service : draft.services) {
        const auto& service = draft_service.service;
        if (claims.has_room_for(service.port_count() * service.addresses.size()))
            claim_ports(draft_service, claims, problems);
        else
            problems.add(
                draft_service.addresses_at.front(),
                format("addresses: ports times addresses are more than {}", addressed_ports_max),
                "fewer and shorter prefixes do the same for the kernel's table");
        const bool is_named = std::ranges::any_of(
            draft.captures, [&](const auto& one) { return one.capture.service == service.name; });
        if (draft_service.no_ports_at && !is_named &&
            (service.name.empty() || service.name != draft.default_service))
            problems.add(*draft_service.no_ports_at,
                         "ports: the service has none, so nothing could reach it",
                         "list its ports, or name it as default_service in [proxify]\n"
                         "or as service of a [[capture]]");
    }
    for (const auto& draft_capture : draft.captures)
        for (uint16_t port : draft_capture.capture.listen)
            if (const Claim* clash = claims.any_of(port))
                problems.add(clash->at,
                             format("ports: service \"{}\" lists port {}, on which the "
                                    "[[capture]] at {} listens",
                                    clash->by->service.name, port, place(draft_capture.at)));
    // An unwritten `listen` is judged by check_listener_port(), once it is known that -b is wanted.
    const Claim* claim = claims.any_of(draft.config.listen);
    if (draft.listen_at && claim)
        problems.add(
            claim->at,
            format(
                "ports: service \"{}\" lists port {}, which is the listener's own (listen, at {})",
                claim->by->service.name, draft.config.listen, place(*draft.listen_at)),
            "take it out of ports, or choose another `listen`;\n"
            "what arrives at the listener's own port goes to default_service");
}

/// The longest prefix decides, so one that is allowed and denied decides nothing.
void check_access(const Access& access, const AccessAt& at, Problems& problems) {
    std::map<Prefix, Position> allowed;
    for (size_t i = 0; i < access.allow.size(); ++i) allowed.emplace(access.allow[i], at.allow[i]);
    for (size_t i = 0; i < access.deny.size(); ++i)
        if (auto found = allowed.find(access.deny[i]); found != allowed.end())
            problems.add(at.deny[i], format("deny: \"{}\" is allowed too, at {}",
                                            access.deny[i].text(), place(found->second)));
}

void check_sni(const DraftService& draft_service, Problems& problems) {
    std::map<std::string_view, Position> seen;
    for (size_t i = 0; i < draft_service.service.sni.size(); ++i) {
        const auto& name = draft_service.service.sni[i];
        auto [first, is_new] = seen.emplace(name, draft_service.sni_at[i]);
        if (!is_new)
            problems.add(draft_service.sni_at[i],
                         format("sni: \"{}\" is in this service twice, first at {}", name,
                                place(first->second)));
    }
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

/// The ports on which captures listen, and those that they take at ingress, are nobody else's.
void check_captures(const Draft& draft, Problems& problems) {
    std::map<uint16_t, Position> listening, dialled;
    for (const auto& one : draft.captures) {
        const auto& capture = one.capture;
        const auto& name = capture.service;
        if (!name.empty() && std::ranges::none_of(draft.services, [&](const auto& other) {
                return other.service.name == name;
            }))
            problems.add(one.service_at, format("service: no service is named {}", quoted(name)));
        for (uint16_t port : capture.listen) {
            auto [first, is_new] = listening.emplace(port, one.listen_at.value_or(one.at));
            if (!is_new)
                problems.add(one.listen_at.value_or(one.at),
                             format("a capture listens on port {} already, at {}", port,
                                    place(first->second)),
                             "give each capture ports of its own");
        }
        for (size_t i = 0; i < capture.ports.size(); ++i)
            for (uint32_t port = capture.ports[i].first; port <= capture.ports[i].last; ++port) {
                auto [first, is_new] =
                    dialled.emplace(static_cast<uint16_t>(port), one.ports_at[i]);
                if (is_new) continue;
                problems.add(one.ports_at[i], format("ports: {} is captured already, at {}", port,
                                                     place(first->second)));
                break;
            }
    }
    for (const auto& one : draft.captures)
        for (uint16_t port :
             one.capture.to_port ? std::vector{*one.capture.to_port} : one.capture.listen)
            if (auto found = dialled.find(port); found != dialled.end())
                problems.add(one.listen_at.value_or(one.at),
                             format("port {} is where connections are led to, and it is itself "
                                    "captured, at {}",
                                    port, place(found->second)),
                             "choose a port that clients do not dial");
    const auto connects = std::ranges::count(draft.captures, CaptureType::connect,
                                             [](const auto& one) { return one.capture.type; });
    if (connects > 1)
        problems.add(
            std::ranges::find(draft.captures.rbegin(), draft.captures.rend(), CaptureType::connect,
                              [](const auto& one) { return one.capture.type; })
                ->at,
            "there is a capture of type \"connect\" already, and one is enough for any "
            "number of destinations",
            "list them all in its cidr and containers");
}

/// Where a client aimed is no choice among others.
void check_original(const Draft& draft, Problems& problems) {
    for (const auto& draft_service : draft.services)
        for (size_t i = 0; i < draft_service.service.targets.size(); ++i) {
            const auto& target = draft_service.service.targets[i];
            if (target.port.is_original() &&
                (target.weight != 1 || target.priority || target.backup))
                problems.add(
                    draft_service.targets_at[i],
                    "targets: \"original\" has no weight, priority or backup: every client "
                    "goes where it aimed",
                    "take them out; other targets are for clients of whom that is unknown");
        }
}

/// What goes through a tunnel, and what comes out of one, takes a [tunnel].
void check_tunnel(const Draft& draft, Problems& problems) {
    constexpr auto add_one = "add it, with certificate, key and ca; docs/mesh.md has a whole file";
    for (const auto& one : draft.captures)
        if (one.capture.type == CaptureType::tunnel && !draft.tunnel_at)
            problems.add(one.at, "type: a capture of type \"tunnel\" needs a [tunnel]", add_one);
    for (const auto& draft_service : draft.services) {
        const auto& service = draft_service.service;
        const auto originals = std::ranges::count_if(
            service.targets, [](const auto& target) { return target.port.is_original(); });
        for (size_t i = 0; i < service.targets.size(); ++i) {
            const auto at = draft_service.targets_at[i];
            const auto& port = service.targets[i].port;
            if (!port.is_tunnel()) continue;
            if (!draft.tunnel_at) problems.add(at, "targets: \"tunnel\" needs a [tunnel]", add_one);
            if (service.target_tls)
                problems.add(draft_service.target_tls_at,
                             "target_tls: the tunnel is encrypted already, and what is at its end "
                             "speaks with the client itself",
                             "take it out");
            if (service.send_proxy)
                problems.add(
                    at,
                    "send_proxy: what a tunnel carries begins with the client's own bytes, "
                    "and its end is told of no client",
                    "take it out");
            if (originals > 1)
                problems.add(at,
                             "targets: \"original\" and \"tunnel\" lead to the same place, and "
                             "only one of them can be the way",
                             "take one out; fallback in [tunnel] says what becomes of clients when "
                             "nobody has a tunnel there");
        }
    }
}

}  // namespace

void judge(const Draft& draft, Problems& problems) {
    if (draft.services.empty() && draft.captures.empty() && problems.empty())
        problems.add({}, "there is no [[service]], so there is nothing to do",
                     "a service looks like this:\n[[service]]\nname = \"web\"\nports = [5001, "
                     "\"5300-5399\"]\ntargets = [\"10.0.0.1:80\"]");
    // Their numbers have 16 bits, 0 is nobody's, and one is for ports that are shared by name.
    constexpr size_t services_max = 65534;
    if (draft.services.size() > services_max)
        problems.add(draft.services[services_max].name_at,
                     format("there are more than {} services", services_max),
                     "services with the same targets can be one with several ports");
    check_names(draft, problems);
    check_default_service(draft, problems);
    check_ports(draft, problems);
    check_captures(draft, problems);
    check_targets(draft, problems);
    check_original(draft, problems);
    check_tunnel(draft, problems);
    check_access(draft.config.access, draft.access_at, problems);
    for (const auto& draft_service : draft.services) {
        check_access(draft_service.service.access, draft_service.access_at, problems);
        check_sni(draft_service, problems);
    }
}

}  // namespace proxify::config
