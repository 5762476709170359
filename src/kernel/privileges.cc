// SPDX-License-Identifier: Apache-2.0
//
// Which capability is needed for what, tried on Linux 6.18 with all others dropped:
//
//     hash, LRU and per-CPU maps       CAP_BPF
//     sockmap, sk_lookup program       CAP_BPF and CAP_NET_ADMIN
//     attach, list who is attached     CAP_NET_ADMIN
//     names and links of others        CAP_SYS_ADMIN; links.cc does without
//
// CAP_SYS_ADMIN alone serves for all of them. CAP_SYS_RESOURCE, CAP_PERFMON and a raised
// RLIMIT_MEMLOCK are not needed; maps are charged to the memory cgroup since Linux 5.11.
#include "kernel/privileges.h"

#include <linux/capability.h>

#include <charconv>
#include <cstdint>
#include <fstream>

#include "base/format.h"

namespace proxify::kernel {

static uint64_t effective_capabilities() {
    constexpr std::string_view key = "CapEff:\t";
    std::ifstream status("/proc/thread-self/status");
    for (std::string line; std::getline(status, line);) {
        if (!line.starts_with(key)) continue;
        uint64_t bits = 0;
        std::from_chars(line.data() + key.size(), line.data() + line.size(), bits, 16);
        return bits;
    }
    return ~uint64_t{0};  // no /proc: let the kernel be the one to refuse
}

static bool has(int capability, uint64_t effective) {
    return (effective >> capability & 1) != 0;
}

std::vector<std::string> missing_for_steering() {
    const uint64_t effective = effective_capabilities();
    if (has(CAP_SYS_ADMIN, effective)) return {};

    std::vector<std::string> missing;
    if (!has(CAP_BPF, effective)) missing.emplace_back("CAP_BPF");
    if (!has(CAP_NET_ADMIN, effective)) missing.emplace_back("CAP_NET_ADMIN");
    return missing;
}

bool may_bind_low_ports() {
    return has(CAP_NET_BIND_SERVICE, effective_capabilities());
}

std::string privileges_hint(std::span<const std::string> missing) {
    return format(
        "run as root, or grant {}; or leave -b away:\n"
        "the same services then run on ordinary listeners, without privileges",
        join_with_and(missing));
}

std::string join_with_and(std::span<const std::string> words) {
    std::string out;
    for (size_t i = 0; i < words.size(); ++i) {
        if (i > 0) out += i + 1 == words.size() ? " and " : ", ";
        out += words[i];
    }
    return out;
}

}  // namespace proxify::kernel
