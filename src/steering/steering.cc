// SPDX-License-Identifier: Apache-2.0
#include "steering/steering.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
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
        auto name = link.program_name.empty() ? "whose name only CAP_SYS_ADMIN may see"
                                              : format("\"{}\"", link.program_name);
        warnings.push_back(
            format("another sk_lookup program, {} (id {}), is attached in this network namespace{}",
                   name, link.program_id,
                   before_us ? ": the connections that it takes never reach proxify" : ""));
    }
    return warnings;
}

Result<Steering> Steering::start(int listener_fd, const PortSet& want) {
    TRY(check_privileges());
    TRY_TO(inode, socket_inode(listener_fd));
    TRY_TO(links_before, kernel::steering_links_here());
    TRY(refuse_second_proxify(links_before, /*own_program=*/0));

    // First the listener, then the ports, and the hook last: so the program has an answer for
    // every port from the first SYN that it sees, and a failure on the way changes nothing for
    // anybody.
    TRY_TO(program, kernel::SteeringProgram::load());
    Steering steering(std::move(program), inode);
    TRY(steering.program_.set_listener(listener_fd));
    TRY(steering.apply(want));
    TRY(steering.program_.attach());

    // Two proxifies that start together both saw nobody. The kernel keeps programs in the order
    // in which they were attached and shows both sides the same list, so exactly one of them finds
    // the other in front of it, and gives way.
    TRY_TO(ids, steering.program_.ids());
    TRY_TO(links, kernel::steering_links_here());
    TRY(refuse_second_proxify(links, ids.program));

    steering.warnings_ = foreign_warnings(links, ids.program);
    std::ranges::move(steering.shadow_warnings(want), std::back_inserter(steering.warnings_));
    return steering;
}

Result<> Steering::apply(const PortSet& want) {
    TRY_TO(have, program_.ports());
    auto plan = make_plan(to_set(have), own_, want);

    // Removals first. The connections' side already works by the new config, so a port that it
    // has lost does harm while it stays in the map: its clients are caught and refused. A port that
    // is not there yet only goes on as before.
    TRY(program_.remove_ports(plan.remove));
    // From here on even half an addition is ours, and the next plan will find out which half.
    {
        std::lock_guard lock(*own_lock_);
        own_ = plan.own_after;
    }
    return program_.add_ports(plan.add);
}

bool Steering::is_added_by_hand(uint16_t port) const {
    std::lock_guard lock(*own_lock_);
    return !own_.test(port) && program_.has_port(port);
}

std::vector<std::string> Steering::shadow_warnings(const PortSet& ports) const {
    auto listeners = kernel::tcp_listeners_here();
    if (!listeners) return {};  // a warning that cannot be given is not worth an error

    std::erase_if(*listeners, [&](const kernel::Listening& one) {
        return one.inode == listener_inode_ || !ports.test(one.address.port);
    });
    if (listeners->empty()) return {};
    kernel::name_processes(*listeners);

    std::vector<std::string> warnings;
    for (const auto& one : *listeners)
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
