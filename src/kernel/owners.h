// SPDX-License-Identifier: Apache-2.0
// Who listens at an address: a process of this host, in whichever network namespace.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"
#include "kernel/listeners.h"

namespace proxify::kernel {

/// A listener, and all processes that have it open: a proxy with workers is many.
struct Owners {
    Address address;      ///< that it listens at
    uint64_t socket = 0;  ///< inode
    uint64_t netns = 0;   ///< inode of the network namespace in which it listens
    uint64_t netns_cookie = 0;
    std::set<int> pids;  ///< as this process sees them; none when it may not see whose it is
    std::string name;    ///< of the first one: "socat (pid 812)"
    uint32_t uid = 0;    ///< of the first one
};

struct OwnerSearch {
    std::vector<Owners> found;
    /// False when there may be owners that could not be seen: whose files, for want of privileges,
    /// may not be looked at. Then nobody found does not mean that there is nobody.
    bool is_complete = true;
};

/// The processes that listen at `address`. It is looked for in the network namespace of the calling
/// thread; and if nobody listens there, and it is no loopback address, in every other one that has
/// it. Walks through all of /proc and visits namespaces with a thread: not for a thread that must
/// not wait. Ends early, and incomplete, when it is to stop.
OwnerSearch find_owners(const Address& address, const std::stop_token& stop = {});

/// "socat (pid 812)".
std::string name_of_process(int pid);
/// The effective user; nullopt when there is no such process.
std::optional<uint32_t> uid_of_process(int pid);
/// When it began, in ticks since the host's start (proc_pid_stat(5)): tells it from a later one of
/// the same number. 0 when there is no such process. Anybody may ask.
uint64_t start_of_process(int pid);

/// Of the calling thread's network namespace.
Result<uint64_t> netns_cookie_here();

}  // namespace proxify::kernel
