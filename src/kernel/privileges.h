// SPDX-License-Identifier: Apache-2.0
// What the calling thread may do, said before the kernel says only EPERM.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace proxify::kernel {

/// "CAP_BPF", "CAP_NET_ADMIN"; empty when nothing is missing.
std::vector<std::string> missing_for_steering();

/// Whether CAP_NET_BIND_SERVICE is there, for ports below net.ipv4.ip_unprivileged_port_start.
bool may_bind_low_ports();

/// The way out for a person who reads that these are missing.
std::string privileges_hint(std::span<const std::string> missing);

/// "CAP_BPF and CAP_NET_ADMIN".
std::string join_with_and(std::span<const std::string> words);

}  // namespace proxify::kernel
