// SPDX-License-Identifier: Apache-2.0
#include "control/changes.h"

#include <algorithm>
#include <bitset>

#include "base/count_text.h"
#include "base/format.h"
#include "config/names.h"

namespace proxify::control {

namespace {

using config::Config;
using config::PortRange;
using Ports = std::bitset<65536>;

/// "5001, 5300-5399 and 4 more ranges"
std::string ports_text(const Ports& ports) {
    constexpr size_t listed_max = 8;
    std::vector<PortRange> ranges;
    for (size_t i = 1; i < ports.size(); ++i)
        if (ports[i]) ranges.push_back({static_cast<uint16_t>(i), static_cast<uint16_t>(i)});
    ranges = config::joined(std::move(ranges));
    std::string out;
    for (size_t i = 0; i < ranges.size() && i < listed_max; ++i) {
        auto [first, last] = ranges[i];
        out += format("{}{}", out.empty() ? "" : ", ", first);
        if (first != last) out += format("-{}", last);
    }
    if (ranges.size() > listed_max)
        out += format(" and {} more ranges", ranges.size() - listed_max);
    return out;
}

Ports ports_of(const config::Service& service) {
    Ports ports;
    for (auto [first, last] : service.ports)
        for (uint32_t port = first; port <= last; ++port) ports.set(port);
    return ports;
}

std::string text_of(const std::vector<Prefix>& prefixes) {
    std::string out;
    for (const auto& prefix : prefixes) out += (out.empty() ? "" : ", ") + prefix.text();
    return out.empty() ? "any" : out;
}

const routing::Service* find(const routing::Snapshot& snapshot, const std::string& name) {
    for (const auto& service : snapshot.services())
        if (service && service->name == name) return service.get();
    return nullptr;
}

/// Sessions of the target that the file calls `written`, and whether any address of it is up.
struct Standing {
    uint64_t sessions = 0;
    bool is_known = false;
    bool is_available = false;
};
/// `host` is what an SRV name ends with, or the name itself.
bool is_host_of(const config::TargetSpec& written, const std::string& host) {
    return written.srv ? written.host.ends_with("." + host) : written.host == host;
}

Standing standing_of(const routing::Service& service, const config::TargetSpec& written) {
    Standing standing;
    const auto targets = service.pool.targets();
    for (size_t i = 0; i < targets.size(); ++i) {
        const bool is_it = written.ip
                               ? targets[i]->ip == *written.ip && targets[i]->port == written.port
                               : is_host_of(written, service.hosts[i]) &&
                                     (written.srv || targets[i]->port == written.port);
        if (!is_it) continue;
        standing.is_known = true;
        standing.sessions += targets[i]->sessions;
        standing.is_available |= targets[i]->available;
    }
    return standing;
}

class Planner {
  public:
    Planner(const routing::Snapshot& running, const Config& next)
        : running_(running), before_(running.config()), next_(next) {}

    report::Plan plan() && {
        change_file();
        for (const auto& old : before_.services)
            if (!spec(next_, old.name)) remove(old);
        for (const auto& service : next_.services) {
            if (const auto* old = spec(before_, service.name))
                change(*old, service);
            else
                add(service);
            foretell(service);
        }
        if (plan_.changes.empty() && before_ != next_) note("~", "order of the services");
        return std::move(plan_);
    }

  private:
    void note(std::string_view sign, std::string what, std::string effect = {}) {
        plan_.changes.push_back({std::string(sign), std::move(what), std::move(effect)});
    }
    template <class T>
    void note_if(const std::string& what, const T& before, const T& after) {
        if (before != after) note("~", format("{}: {} -> {}", what, before, after));
    }

    static const config::Service* spec(const Config& config, const std::string& name) {
        auto found = std::ranges::find(config.services, name, &config::Service::name);
        return found == config.services.end() ? nullptr : &*found;
    }
    static std::string default_of(const Config& config) {
        return config.default_service ? config.services[*config.default_service].name : "none";
    }
    static std::string workers_of(const Config& config) {
        return config.workers ? std::to_string(*config.workers) : "auto";
    }

    void change_file() {
        const size_t noted = plan_.changes.size();
        note_if("listen", before_.listen, next_.listen);
        note_if("default_service", default_of(before_), default_of(next_));
        note_if("workers", workers_of(before_), workers_of(next_));
        note_if("drain_timeout", to_text(before_.drain), to_text(next_.drain));
        note_if("resolve_interval", to_text(before_.resolve_interval),
                to_text(next_.resolve_interval));
        change_access("of all services", before_.access, next_.access);
        if (before_.log != next_.log) note("~", "[log]");
        if (before_.admin != next_.admin) note("~", "[admin]");
        if (before_.tunnel != next_.tunnel) note("~", "[tunnel]");
        auto rest = before_;
        rest.tunnel = next_.tunnel;
        rest.services = next_.services;
        rest.default_service = next_.default_service;
        if (plan_.changes.size() == noted && rest != next_) note("~", "[proxify]");
    }

    void change_access(const std::string& whose, const config::Access& before,
                       const config::Access& after) {
        auto change = [&](std::string_view list, std::vector<Prefix> had, std::vector<Prefix> has) {
            std::ranges::sort(had);
            std::ranges::sort(has);
            std::vector<Prefix> added, removed;
            std::ranges::set_difference(has, had, std::back_inserter(added));
            std::ranges::set_difference(had, has, std::back_inserter(removed));
            if (added.empty() && removed.empty()) return;
            constexpr size_t listed_max = 4;
            auto text = [](const std::vector<Prefix>& some) {
                return some.size() > listed_max ? format("{} prefixes", some.size())
                                                : text_of(some);
            };
            auto what = format("{} {}:", list, whose);
            if (!added.empty()) what += " + " + text(added);
            if (!removed.empty()) what += " - " + text(removed);
            note("~", what, "live sessions stay");
        };
        change("allow", before.allow, after.allow);
        change("deny", before.deny, after.deny);
    }

    void remove(const config::Service& old) {
        const auto* service = find(running_, old.name);
        const uint64_t sessions = service ? service->pool.admission().sessions() : 0;
        note("-", format("service {}, ports {}", old.name, ports_text(ports_of(old))),
             sessions == 0   ? ""
             : sessions == 1 ? "its session goes on"
                             : format("its {} sessions go on", sessions));
    }

    void add(const config::Service& service) {
        auto what = format("service {}", service.name);
        if (!service.ports.empty()) what += ", ports " + ports_text(ports_of(service));
        note("+", what);
        for (const auto& target : service.targets)
            note("+", format("target {} of service {}", target.text, service.name));
    }

    void change(const config::Service& old, const config::Service& service) {
        if (old == service) return;
        const size_t noted = plan_.changes.size();
        const std::string of = " of service " + service.name;
        const Ports had = ports_of(old), has = ports_of(service);
        if (Ports gone = had & ~has; gone.any())
            note("-", "ports " + ports_text(gone) + of, "open connections stay");
        if (Ports added = has & ~had; added.any()) note("+", "ports " + ports_text(added) + of);
        note_if("addresses" + of, text_of(old.addresses), text_of(service.addresses));
        change_targets(old, service);
        change_access("of service " + service.name, old.access, service.access);
        change_settings(old, service);
        change_scripts(old, service);
        change_certificates(old, service);
        if (plan_.changes.size() == noted) note("~", "service " + service.name);
    }

    void change_targets(const config::Service& old, const config::Service& service) {
        auto find_in = [](const config::Service& where, const config::TargetSpec& target) {
            return std::ranges::find(where.targets, target.text, &config::TargetSpec::text);
        };
        const auto* live = find(running_, service.name);
        for (const auto& target : old.targets) {
            if (find_in(service, target) != service.targets.end()) continue;
            const uint64_t sessions = live ? standing_of(*live, target).sessions : 0;
            note("-", format("target {} of service {}", target.text, service.name),
                 sessions == 0 ? "" : format("it keeps {}", count_text(sessions, "session")));
        }
        for (const auto& target : service.targets) {
            auto before = find_in(old, target);
            const auto what = format("target {} of service {}", target.text, service.name);
            if (before == old.targets.end()) {
                note("+", what);
                continue;
            }
            if (*before == target) continue;
            note_if("weight of " + what, before->weight, target.weight);
            note_if("priority of " + what, before->priority, target.priority);
            note_if("backup of " + what, before->backup, target.backup);
            note_if("max_connections of " + what, before->max_connections, target.max_connections);
        }
    }

    void change_settings(const config::Service& old, const config::Service& service) {
        auto value_in = [](const config::Settings& settings, const std::string& label) {
            auto found = std::ranges::find(settings, label, &config::Settings::value_type::first);
            if (found != settings.end()) return found->second;
            return std::string(
                label == "filters" || label == "cache" || label == "tls" ? "none" : "as usual");
        };
        const auto before = config::settings_of(old), after = config::settings_of(service);
        std::vector<std::string> labels;
        for (const auto* settings : {&before, &after})
            for (const auto& [label, value] : *settings)
                if (std::ranges::find(labels, label) == labels.end()) labels.push_back(label);
        for (const auto& label : labels)
            if (label != "allow" && label != "deny")
                note_if(format("{} of service {}", label, service.name), value_in(before, label),
                        value_in(after, label));
    }

    /// The settings have the path of a script only.
    void change_scripts(const config::Service& old, const config::Service& service) {
        for (const auto& element : service.filters) {
            auto before = std::ranges::find(old.filters, element.name, &config::Element::name);
            if (before != old.filters.end() && before->script == element.script &&
                before->code != element.code)
                note("~",
                     format("script {} of element {} of service {}", element.script, element.name,
                            service.name),
                     "live sessions keep the old one");
        }
    }

    /// The settings have the paths of these files, and whom certificates are for.
    void change_certificates(const config::Service& old, const config::Service& service) {
        using File = std::optional<tls::Pem>;
        auto change = [&](std::string_view what, const File& before, const File& after) {
            if (before && after && before->name == after->name && before->text != after->text)
                note("~", format("{} {} of service {}", what, after->name, service.name),
                     "live sessions stay");
        };
        auto change_identity = [&](const tls::Identity& before, const tls::Identity& after) {
            change("certificate", before.certificate, after.certificate);
            if (after.key.name != after.certificate.name) change("key", before.key, after.key);
        };
        if (old.tls && service.tls) {
            const auto &before = old.tls->settings, &after = service.tls->settings;
            for (const auto& one : after.identities)
                for (const auto& had : before.identities)
                    if (had.certificate.name == one.certificate.name) change_identity(had, one);
            change("authority of clients", before.client_ca, after.client_ca);
            change("revoked certificates", before.crl, after.crl);
        }
        if (old.target_tls && service.target_tls) {
            const auto &before = old.target_tls->settings, &after = service.target_tls->settings;
            if (before.identity && after.identity)
                change_identity(*before.identity, *after.identity);
            change("authority of targets", before.ca, after.ca);
            change("revoked certificates", before.crl, after.crl);
        }
    }

    /// Whether somebody would be left to serve it.
    void foretell(const config::Service& service) {
        const auto* live = find(running_, service.name);
        const bool may_serve = std::ranges::any_of(service.targets, [&](const auto& target) {
            if (target.weight == 0) return false;
            const auto standing = live ? standing_of(*live, target) : Standing{};
            return standing.is_known ? standing.is_available : service.health.initially_up;
        });
        if (!may_serve)
            plan_.warnings.push_back(
                format("service {} would have no target that is up: its clients would be told so "
                       "by when_down = \"{}\"",
                       service.name, config::name_of(service.when_down, config::when_down_names)));
    }

    const routing::Snapshot& running_;
    const Config& before_;
    const Config& next_;
    report::Plan plan_;
};

}  // namespace

report::Plan plan_change(const routing::Snapshot& running, const config::Config& next) {
    return Planner(running, next).plan();
}

std::vector<std::string> warnings_of(const routing::Snapshot& snapshot) {
    std::vector<std::string> warnings;
    for (const auto& service : snapshot.services())
        if (service && !service->pool.any_available())
            warnings.push_back(format(
                "service {} has no target that is up: its clients are told so by "
                "when_down = \"{}\"",
                service->name, config::name_of(service->spec.when_down, config::when_down_names)));
    return warnings;
}

}  // namespace proxify::control
