// SPDX-License-Identifier: Apache-2.0
// The TCP sockets that listen in this network namespace, as `ss -ltn` shows them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"

namespace proxify::kernel {

struct Listening {
    Address address;
    uint64_t inode = 0;       ///< of the socket, as fstat() gives it
    std::string process;      ///< "sshd (pid 812)"; empty until name_processes(), or if unknown
    bool is_v6_only = false;  ///< of an IPv6 one at all addresses: IPv4 does not get there
};

/// Both families, of the calling thread's namespace.
Result<std::vector<Listening>> tcp_listeners_here();

/// Which of them the kernel would choose for a SYN to `destination`: the most specific one; null
/// when none listens there. It does not look at devices that a socket may be bound to.
const Listening* find_listener(const std::vector<Listening>& listeners, const Address& destination);

/// Says whose they are, by a walk through /proc/*/fd: slow, so ask only about those that matter.
void name_processes(std::vector<Listening>& listeners);

}  // namespace proxify::kernel
