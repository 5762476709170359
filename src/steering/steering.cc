// SPDX-License-Identifier: Apache-2.0
#include "steering/steering.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <span>
#include <utility>

#include "base/format.h"
#include "kernel/ingress_program.h"
#include "kernel/links.h"
#include "kernel/listeners.h"
#include "kernel/privileges.h"

namespace proxify::steering {

using kernel::SteeringLink;

static Result<> check_privileges() {
    auto missing = kernel::missing_for_steering();
    if (missing.empty()) return {};
    return fail(
        Error::of(format("cannot steer ports: {} {} missing", kernel::join_with_and(missing),
                         missing.size() == 1 ? "is" : "are"),
                  kernel::privileges_hint(missing)));
}

static Result<uint64_t> socket_inode(int fd) {
    struct stat about{};
    if (fstat(fd, &about) < 0) return fail(Error::from_errno(errno, "look at the listener"));
    return about.st_ino;
}

static Error already_steered_by(const SteeringLink& other) {
    return Error::of(
        format(
            "another proxify steers in this network namespace already (link id {}, program id {})",
            other.link_id, other.program_id),
        "end it first, or start this one in another namespace; `bpftool link` shows it");
}

/// The first proxify among the programs attached before ours; all count while ours is not there.
static Result<> refuse_second_proxify(const std::vector<SteeringLink>& links,
                                      uint32_t own_program) {
    for (const auto& link : links) {
        if (link.program_id == own_program) break;
        if (link.is_proxify) return fail(already_steered_by(link));
    }
    return {};
}

static std::vector<std::string> foreign_warnings(const std::vector<SteeringLink>& links,
                                                 uint32_t own_program) {
    std::vector<std::string> warnings;
    bool before_us = true;
    for (const auto& link : links) {
        if (link.program_id == own_program) {
            before_us = false;
            continue;
        }
        // Our own, which takes nothing that is steered: a port is captured or steered.
        if (link.program_name == kernel::ingress_program_name) continue;
        auto name = link.program_name.empty() ? "whose name only CAP_SYS_ADMIN may see"
                                              : format("\"{}\"", link.program_name);
        warnings.push_back(
            format("another sk_lookup program, {} (id {}), is attached in this network namespace{}",
                   name, link.program_id,
                   before_us ? ": the connections that it takes never reach proxify" : ""));
    }
    return warnings;
}

static uint16_t port_of(int listener_fd) {
    sockaddr_storage at{};
    socklen_t size = sizeof at;
    getsockname(listener_fd, reinterpret_cast<sockaddr*>(&at), &size);
    return Address::from_sockaddr(at).port;
}

Result<Steering> Steering::start(int listener_fd, const config::Config& config) {
    TRY(check_privileges());
    TRY_TO(inode, socket_inode(listener_fd));
    TRY_TO(links_before, kernel::steering_links_here());
    TRY(refuse_second_proxify(links_before, /*own_program=*/0));

    // First the listener, then the ports, and the hook last: so the program has an answer for
    // every port from the first SYN that it sees, and a failure on the way changes nothing for
    // anybody.
    TRY_TO(program, kernel::SteeringProgram::load());
    Steering steering(std::move(program), inode, port_of(listener_fd));
    TRY(steering.program_.set_listener(listener_fd));
    TRY(steering.apply(config));
    TRY(steering.program_.attach());

    // Two proxifies that start together both saw nobody. The kernel keeps programs in the order
    // in which they were attached and shows both sides the same list, so exactly one of them finds
    // the other in front of it, and gives way.
    TRY_TO(ids, steering.program_.ids());
    TRY_TO(links, kernel::steering_links_here());
    TRY(refuse_second_proxify(links, ids.program));

    steering.warnings_ = foreign_warnings(links, ids.program);
    std::ranges::move(steering.shadow_warnings(ports_of(config)),
                      std::back_inserter(steering.warnings_));
    return steering;
}

static bool drops_clients(const config::Service& service) {
    return service.on_deny == config::OnDeny::drop || service.when_down == config::WhenDown::drop;
}

/// The order is the one in which no packet is misled. What a service is comes before the ports that
/// lead to it. Ports that are to go leave proxy_ports before anything else changes: the
/// connections' side already works by the new config, so their clients would be caught and refused.
/// Ports that are new come last; until then they only go on as before.
Result<> Steering::apply(const config::Config& config) {
    config_ = config;
    const auto names = numbered_names(config);
    for (uint16_t number : numbers_.assign(names)) TRY(program_.count_service(number, true));
    std::erase_if(down_,
                  [&](const auto& name) { return std::ranges::find(names, name) == names.end(); });
    if (std::ranges::any_of(config.services, drops_clients)) TRY(open_sink());
    const Tables want = make_tables(config, numbers_, down_);
    TRY_TO(ports, program_.ports());
    const Plan plan = make_plan(to_set(ports), own_, want.ports);
    TRY(program_.remove_ports(plan.remove));
    TRY(write_lists(config));
    TRY(write_entries(want));
    {
        // From here on even half an addition is ours, and the next plan will find out which half.
        std::lock_guard lock(*own_lock_);
        own_ = plan.own_after;
    }
    TRY(program_.add_ports(plan.add));
    return forget(config, want);
}

Result<int> Steering::open_sink() {
    if (program_.sink() < 0) TRY(program_.open_sink(listener_port_));
    return program_.sink();
}

/// Where clients are named by a PROXY header, the kernel does not see whom the list is about.
static const config::Access& list_of(const config::Service& service) {
    static const config::Access nobody;
    return service.accept_proxy.empty() ? service.access : nobody;
}

/// Only those that have changed: a list may be long.
Result<> Steering::write_lists(const config::Config& config) {
    std::map<uint16_t, const config::Access*> changed;
    auto look = [&](uint16_t number, const config::Access& access) {
        if (lists_[number] != access) changed[number] = &access;
    };
    look(0, config.access);
    for (const auto& service : config.services)
        if (uint16_t number = numbers_.of(service.name); number != 0)
            look(number, list_of(service));

    std::vector<kernel::AccessList> lists;
    for (const auto& [number, access] : changed) {
        auto& list = lists.emplace_back();
        list.service = number;
        list.denies_others = !access->allow.empty();
        list.prefixes.reserve(access->allow.size() + access->deny.size());
        for (const auto& prefix : access->allow) list.prefixes.emplace_back(prefix, false);
        for (const auto& prefix : access->deny) list.prefixes.emplace_back(prefix, true);
    }
    TRY(program_.set_lists(lists));
    for (const auto& [number, access] : changed) lists_[number] = *access;
    return {};
}

/// Writes from the first entry that differs to the last one.
template <class T, class Write>
static Result<> write_changes(const std::vector<T>& have, const std::vector<T>& want, Write write) {
    size_t first = 0, last = want.size();
    const size_t common = std::min(have.size(), want.size());
    while (first < common && have[first] == want[first]) ++first;
    if (have.size() == want.size())
        while (last > first && have[last - 1] == want[last - 1]) --last;
    if (first == last) return {};
    return write(static_cast<uint16_t>(first), std::span(want).subspan(first, last - first));
}

Result<> Steering::write_services(std::vector<kernel::ServiceEntry> want) {
    want.resize(std::max(want.size(), have_.of_service.size()));
    TRY(write_changes(have_.of_service, want, [&](uint16_t first, auto entries) {
        return program_.set_services(first, entries);
    }));
    have_.of_service = std::move(want);
    return {};
}

/// After a failure nothing is known to be there, and all of it is written.
Result<> Steering::write_entries(const Tables& want) {
    const bool was_sure = std::exchange(is_sure_, false);
    if (!was_sure) have_.of_port.clear();
    if (!was_sure) have_.of_service.assign(have_.of_service.size(), {.number = UINT16_MAX});

    // Services that are to go stay as they are while a port may lead to them.
    auto services = want.of_service;
    for (size_t i = services.size(); was_sure && i < have_.of_service.size(); ++i)
        services.push_back(have_.of_service[i]);
    for (size_t i = 1; was_sure && i < have_.of_service.size(); ++i)
        if (services[i].number == 0) services[i] = have_.of_service[i];
    TRY(write_services(std::move(services)));

    // Addresses of the old config are still there, so that they are found when they are to go.
    std::vector<kernel::AddressEntry> added = want.addresses, all;
    if (was_sure) {
        added.clear();
        std::ranges::set_difference(want.addresses, have_.addresses, std::back_inserter(added));
    }
    std::ranges::set_union(want.addresses, have_.addresses, std::back_inserter(all));
    have_.addresses = std::move(all);
    TRY(program_.add_addresses(added));
    TRY(write_changes(have_.of_port, want.of_port, [&](uint16_t first, auto entries) {
        return program_.set_ports(first, entries);
    }));
    have_.of_port = want.of_port;
    is_sure_ = true;
    return {};
}

/// Takes away what the config has no more.
Result<> Steering::forget(const config::Config& config, const Tables& want) {
    auto place = [](const kernel::AddressEntry& entry) {
        return std::pair(entry.port, entry.prefix);
    };
    std::vector<kernel::AddressEntry> gone;
    std::ranges::copy_if(have_.addresses, std::back_inserter(gone), [&](const auto& entry) {
        return !std::ranges::binary_search(want.addresses, place(entry), {}, place);
    });
    TRY(program_.remove_addresses(gone));
    have_.addresses = want.addresses;

    TRY(write_services(want.of_service));
    std::vector<kernel::AccessList> lists;
    for (uint16_t number : numbers_.release_others(numbered_names(config))) {
        TRY(program_.count_service(number, false));
        if (lists_[number] != config::Access{}) lists.push_back({.service = number});
    }
    TRY(program_.set_lists(lists));
    for (const auto& list : lists) lists_.erase(list.service);
    return {};
}

Result<> Steering::set_down(const std::string& service, bool is_down) {
    auto spec = std::ranges::find(config_.services, service, &config::Service::name);
    if (spec == config_.services.end()) return {};
    bool changed = is_down ? down_.insert(service).second : down_.erase(service) > 0;
    const uint16_t number = numbers_.of(service);
    // After a change that failed, the kernel may know nothing of this service yet.
    if (!is_sure_ || number >= have_.of_service.size())
        return write_entries(make_tables(config_, numbers_, down_));
    if (!changed) return {};

    auto entries = have_.of_service;
    entries[number] = entry_of(*spec, number, down_);
    const auto index = static_cast<size_t>(spec - config_.services.begin());
    if (config_.default_service == index) entries[0] = entries[number];
    is_sure_ = false;
    TRY(write_services(std::move(entries)));
    is_sure_ = true;
    return {};
}

bool Steering::is_added_by_hand(uint16_t port) const {
    std::lock_guard lock(*own_lock_);
    return !own_.test(port) && program_.has_port(port);
}

std::vector<uint16_t> Steering::added_by_hand() const {
    auto ports = program_.ports();
    if (!ports) return {};
    std::lock_guard lock(*own_lock_);
    std::erase_if(*ports, [&](uint16_t port) { return own_.test(port); });
    return *ports;
}

Result<Explained> Steering::explain(const Address& client, const Address& destination) const {
    TRY_TO(found, program_.explain(client, destination));
    Explained explained{.outcome = found.outcome,
                        .meaning = found.meaning,
                        .service = numbers_.name_of(found.service),
                        .landing = found.landing};
    if (explained.service == by_name) {
        explained.service.clear();
        explained.is_by_name = true;
    }
    TRY_TO(ids, program_.ids());
    if (ids.link == 0)
        explained = {.outcome = "ended", .meaning = "proxify steers no more", .service = {}};
    if (auto links = kernel::steering_links_here())
        explained.others = foreign_warnings(*links, ids.program);
    return explained;
}

std::vector<kernel::Listening> Steering::shadowed(const PortSet& ports) const {
    auto listeners = kernel::tcp_listeners_here();
    if (!listeners) return {};
    std::erase_if(*listeners, [&](const kernel::Listening& one) {
        return one.inode == listener_inode_ || !ports.test(one.address.port);
    });
    if (!listeners->empty()) kernel::name_processes(*listeners);
    return std::move(*listeners);
}

std::vector<std::string> Steering::shadow_warnings(const PortSet& ports) const {
    std::vector<std::string> warnings;
    for (const auto& one : shadowed(ports))
        warnings.push_back(format(
            "port {} is steered away from {}, which listens on {}: it gets no new connections "
            "while proxify steers this port",
            one.address.port, one.process.empty() ? "an unknown process" : one.process,
            one.address.text()));
    // Several sockets of one process may share an address (SO_REUSEPORT); once is enough.
    std::ranges::sort(warnings);
    auto repeated = std::ranges::unique(warnings);
    warnings.erase(repeated.begin(), repeated.end());
    return warnings;
}

}  // namespace proxify::steering
