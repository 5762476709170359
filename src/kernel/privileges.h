// SPDX-License-Identifier: Apache-2.0
// What the calling thread may do, said before the kernel says only EPERM; and how a proxify that
// was started as root stops being it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace proxify::kernel {

/// "CAP_BPF", "CAP_NET_ADMIN"; empty when nothing is missing.
std::vector<std::string> missing_for_steering();
/// The same for captures at connect(): also "CAP_PERFMON", for they look at processes.
std::vector<std::string> missing_for_connect();

/// Whether CAP_NET_BIND_SERVICE is there, for ports below net.ipv4.ip_unprivileged_port_start.
bool may_bind_low_ports();

/// Whether sockets of ours may bear a mark: that takes CAP_NET_ADMIN, since 5.17 also CAP_NET_RAW.
bool may_set_marks();

/// The way out for a person who reads that these are missing.
std::string privileges_hint(std::span<const std::string> missing);

/// "CAP_BPF and CAP_NET_ADMIN".
std::string join_with_and(std::span<const std::string> words);

/// Capabilities that somebody else's start script or service manager gave to a proxify that is not
/// root ("ambient" ones) stay with it: programs that it starts do not get them. For the calling
/// thread and those that it makes.
void keep_from_programs();

/// Whom the process becomes.
struct User {
    std::string name;
    uint32_t uid = 0;
    uint32_t gid = 0;
    std::vector<uint32_t> groups;  ///< all of them, as the host's user database has them
};

/// Looks the user up; `group` stands in for the user's own, unless it is empty.
Result<User> find_user(const std::string& name, const std::string& group);

/// True when the process is that user already, so that there is nothing to become.
bool is_user(const User& user);

/// Before another thread is made, as each only inherits: from here on no program that is run can
/// have more than the process has. Fails when this process may not become the user.
Result<> prepare_to_become(const User& user);

/// A socket that belongs to root cannot be joined by the user's (SO_REUSEPORT).
Result<> give_socket(int fd, const User& user);

/// What a running proxify does that takes capabilities.
struct Work {
    std::optional<uint16_t> steering_port = {};  ///< the listener's; unset without steering
    bool sets_marks = false;                     ///< or dials from other hosts' addresses
    bool has_programs = false;                   ///< at connect() or at interfaces
};

/// What it needs for any reload, as numbers (CAP_BPF).
std::vector<int> needed_for_reload(const Work& work);

/// Every thread becomes the user, for good. The calling thread, and those that it makes from now
/// on, have of these capabilities the ones that are there; the others have none. Gives their names.
Result<std::vector<std::string>> become(const User& user, std::span<const int> capabilities);

}  // namespace proxify::kernel
