// SPDX-License-Identifier: Apache-2.0
// Who listens at an address: a process of this host, in whichever network namespace.
#pragma once

#include <cstdint>
#include <set>
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
    std::set<int> pids;   ///< as this process sees them
    std::string name;     ///< of one of them: "socat (pid 812)"
};

/// The processes that listen at `address`; none when nobody does. It is looked for in the network
/// namespace of the calling thread; and if nobody listens there, and it is no loopback address, in
/// every other one that has it. Walks through all of /proc and visits namespaces with a thread: not
/// for a thread that must not wait.
std::vector<Owners> find_owners(const Address& address);

}  // namespace proxify::kernel
