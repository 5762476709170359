// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>

#include "base/format.h"
#include "config/config.h"
#include "doctor/findings.h"
#include "kernel/privileges.h"
#include "steering/tables.h"

namespace proxify::doctor {

using config::Service;
using kernel::Listening;
using steering::PortSet;

namespace {

constexpr uint16_t ssh_port = 22;

/// "5001, 5200-5300", with what is wanted between them.
std::string ranges_text(const PortSet& ports, std::string_view between) {
    std::string text;
    for (size_t first = 0; first < ports.size(); ++first) {
        if (!ports.test(first)) continue;
        size_t last = first;
        while (last + 1 < ports.size() && ports.test(last + 1)) ++last;
        if (!text.empty()) text += between;
        text += first == last ? std::to_string(first) : format("{}-{}", first, last);
        first = last;
    }
    return text;
}

/// The same for eyes, when there may be thousands.
std::string short_text(const PortSet& ports) {
    auto text = ranges_text(ports, ", ");
    constexpr size_t enough = 60;
    if (text.size() <= enough) return text;
    return text.substr(0, text.rfind(", ", enough)) + " and more";
}

std::string plural(const PortSet& ports) {
    return ports.count() == 1 ? "port" : "ports";
}

/// Sockets of one process on one port, which is how a person sees them.
struct Occupant {
    uint16_t port;
    std::string process, addresses;
    std::vector<Ip> ips;
};

std::vector<Occupant> occupants_of(const Host& host, const PortSet& ports) {
    std::map<std::pair<uint16_t, std::string>, Occupant> by_port;
    if (!host.listeners) return {};
    for (const auto& one : *host.listeners) {
        const uint16_t port = one.address.port;
        if (!ports.test(port)) continue;
        auto& occupant = by_port[{port, one.process}];
        occupant.port = port;
        occupant.process = one.process.empty() ? "an unknown process" : one.process;
        const auto at = one.address.text();
        if (std::ranges::find(occupant.ips, one.address.ip) != occupant.ips.end()) continue;
        occupant.addresses += (occupant.addresses.empty() ? "" : " and ") + at;
        occupant.ips.push_back(one.address.ip);
    }
    std::vector<Occupant> list;
    for (auto& [key, occupant] : by_port) list.push_back(std::move(occupant));
    return list;
}

bool has_port(const Service& service, uint16_t port) {
    return std::ranges::any_of(service.ports, [&](const auto& range) {
        return range.first <= port && port <= range.last;
    });
}

/// Whether a socket at `ip` may be dialled through an address that the service takes.
bool covers(const Service& service, const Ip& ip) {
    const bool is_wildcard = ip == Ip{} || ip == Ip{.bytes = {}, .is_v4 = false};
    return service.addresses.empty() || is_wildcard ||
           std::ranges::any_of(service.addresses,
                               [&](const Prefix& prefix) { return prefix.contains(ip); });
}

bool is_local(const Host& host, const Ip& ip) {
    return ip.is_loopback() || std::ranges::find(host.addresses, ip) != host.addresses.end();
}

/// The service has this very port of this host as a target, so whoever listens there is reached
/// through proxify.
bool leads_to(const Service& service, uint16_t port, const Host& host) {
    return std::ranges::any_of(service.targets, [&](const config::TargetSpec& target) {
        return target.ip && is_local(host, *target.ip) && target.port.for_dialled(port) == port;
    });
}

// ---- with -b

void judge_shadow(const Occupant& occupant, const Service& service, const Host& host,
                  Findings& findings) {
    const auto who = format("{}, which listens on {}", occupant.process, occupant.addresses);
    if (leads_to(service, occupant.port, host))
        return findings.ok("listeners", format("port {} is steered, and \"{}\" leads on to {}",
                                               occupant.port, service.name, who));
    if (occupant.port == ssh_port || occupant.process.starts_with("sshd"))
        return findings.fail(
            "listeners",
            format("port {} would be steered away from {}: nobody could log in any more",
                   occupant.port, who),
            format("take port {} out of service \"{}\", or move sshd to another port first",
                   occupant.port, service.name));
    if (service.when_down == config::WhenDown::pass)
        return findings.note(
            "listeners",
            format("port {} is steered away from {}, until no target of \"{}\" is up",
                   occupant.port, who, service.name),
            "as when_down = \"pass\" asks for; take the port out of the service if it was not "
            "meant");
    findings.warn(
        "listeners",
        format("port {} is steered away from {}: it would get no new connections", occupant.port,
               who),
        format("end it, or take port {} out of service \"{}\"; if clients are to reach it through "
               "proxify, name \"127.0.0.1:{}\" as a target",
               occupant.port, service.name, occupant.port));
}

void judge_shadows(const Host& host, const config::Config& config, Findings& findings) {
    const auto occupants = occupants_of(host, steering::ports_of(config));
    for (const auto& occupant : occupants)
        for (const auto& service : config.services)
            if (has_port(service, occupant.port) &&
                std::ranges::any_of(occupant.ips,
                                    [&](const Ip& ip) { return covers(service, ip); })) {
                judge_shadow(occupant, service, host, findings);
                break;
            }
    if (host.listeners && occupants.empty())
        findings.ok("listeners", "nobody listens on a port that is to be steered");
}

void judge_listener(const Host& host, const config::Config& config, uint16_t port,
                    Findings& findings) {
    if (auto fits = config::check_listener_port(config, port); !fits)
        findings.fail("listeners", fits.error().what, paragraph(fits.error().hint));
    for (const auto& occupant : occupants_of(host, PortSet().set(port)))
        findings.fail("listeners",
                      format("port {}, where the listener is to be, is taken by {} ({})", port,
                             occupant.process, occupant.addresses),
                      "choose another port with -p PORT, or end it");
}

// ---- without -b

void judge_taken(const Host& host, const PortSet& ports, Findings& findings) {
    const auto occupants = occupants_of(host, ports);
    for (const auto& occupant : occupants)
        findings.fail("listeners",
                      format("port {} is taken by {} ({})", occupant.port, occupant.process,
                             occupant.addresses),
                      format("end it, take port {} out of the file, or use -b", occupant.port));
    if (host.listeners && occupants.empty())
        findings.ok("listeners", "nobody listens on the ports of the services");
}

// ---- both

void judge_low_ports(const Host& host, const PortSet& own, const Start& start, Findings& findings) {
    PortSet low;
    for (size_t port = 1; port < host.unprivileged_from; ++port) low.set(port, own.test(port));
    if (low.none() || host.may_bind_low_ports) return;
    findings.fail(
        "ports",
        format("{} {} {} below {}: to listen there takes CAP_NET_BIND_SERVICE, which is missing",
               plural(low), short_text(low), low.count() == 1 ? "is" : "are",
               host.unprivileged_from),
        format("run as root; or `setcap cap_net_bind_service=ep $(command -v proxify)`; or `sysctl "
               "-w net.ipv4.ip_unprivileged_port_start={}`{}",
               steering::to_list(low).front(),
               start.steer ? "; or choose a higher port with -p" : ""));
}

/// Nothing is bound to a steered port, so the kernel may give it to any outgoing connection. Where
/// a port is bound, the danger is only that it is in use when proxify starts.
void judge_local_ports(const Host& host, const PortSet& ports, const Start& start,
                       Findings& findings) {
    PortSet clash;
    for (size_t port = host.local_ports.first; port <= host.local_ports.second; ++port)
        clash.set(port, ports.test(port) && !host.reserved_ports.test(port));
    if (clash.none()) return;
    const auto remedy = format("`sysctl -w net.ipv4.ip_local_reserved_ports={}`",
                               ranges_text(host.reserved_ports | clash, ","));
    const auto where = format("{} {} {} in ip_local_port_range ({}-{})", plural(clash),
                              short_text(clash), clash.count() == 1 ? "lies" : "lie",
                              host.local_ports.first, host.local_ports.second);
    if (start.steer)
        findings.warn("ports",
                      where +
                          ": a client on this host may be given the port that it dials, and "
                          "connect to itself",
                      remedy);
    else
        findings.note("ports",
                      where + ": when proxify starts, an outgoing connection may be using one",
                      remedy);
}

/// A session never dials a listener of our own.
void judge_targets(const Host& host, const config::Config& config, const PortSet& own,
                   const Start& start, Findings& findings) {
    for (const auto& service : config.services)
        for (const auto& target : service.targets) {
            if (target.srv || target.port.is_original() ||
                !((target.ip && is_local(host, *target.ip)) || target.host == "localhost"))
                continue;
            PortSet loops;
            for (auto [first, last] : service.ports)
                for (size_t dialled = first; dialled <= last; ++dialled)
                    if (auto port = target.port.for_dialled(static_cast<uint16_t>(dialled));
                        own.test(port))
                        loops.set(port);
            if (loops.none()) continue;
            findings.warn(
                "targets",
                format("target \"{}\" of \"{}\" is proxify itself, which listens on {} {}",
                       target.text, service.name, plural(loops), short_text(loops)),
                start.steer ? "give the target another port, or choose another listener with -p"
                            : "give the target another port, or use -b, which binds none of them");
        }
}

}  // namespace

void judge_ports(const Host& host, const config::Config& config, const Start& start,
                 Findings& findings) {
    const PortSet ports = steering::ports_of(config);
    const uint16_t listener = start.listen.value_or(config.listen);
    const PortSet own = start.steer ? PortSet().set(listener) : ports;
    if (start.steer) {
        judge_listener(host, config, listener, findings);
        judge_shadows(host, config, findings);
    } else {
        judge_taken(host, ports, findings);
    }
    judge_low_ports(host, own, start, findings);
    judge_local_ports(host, ports, start, findings);
    judge_targets(host, config, own, start, findings);
}

}  // namespace proxify::doctor
