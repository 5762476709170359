// SPDX-License-Identifier: Apache-2.0
// What the calling thread lacks for steering, said before the kernel says only EPERM.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace proxify::kernel {

/// "CAP_BPF", "CAP_NET_ADMIN"; empty when nothing is missing.
std::vector<std::string> missing_for_steering();

/// The way out for a person who reads that these are missing.
std::string privileges_hint(std::span<const std::string> missing);

/// "CAP_BPF and CAP_NET_ADMIN".
std::string join_with_and(std::span<const std::string> words);

}  // namespace proxify::kernel
