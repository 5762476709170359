// SPDX-License-Identifier: Apache-2.0
#include "support/kernel_test.h"

#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>

namespace proxify::test {

static std::optional<std::string> find_missing() {
    try {
        Namespace::create();
    } catch (const Missing& missing) {
        return missing.what();
    }
    bpf_attr map{};
    map.map_type = BPF_MAP_TYPE_HASH;
    map.key_size = map.value_size = 4;
    map.max_entries = 1;
    if (!Fd::adopt(static_cast<int>(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map))))
        return std::string("needs CAP_BPF, and bpf says: ") + std::strerror(errno);
    io_uring_params parameters{};
    if (!Fd::adopt(static_cast<int>(syscall(SYS_io_uring_setup, 1, &parameters))))
        return std::string("needs io_uring, and io_uring_setup says: ") + std::strerror(errno);
    return std::nullopt;
}

std::optional<std::string> missing_for_proxify() {
    static const auto missing = find_missing();
    return missing;
}

std::optional<std::string> missing_program(const std::string& name) {
    if (run({.argv = {"sh", "-c", "command -v " + name}}).exit_code == 0) return std::nullopt;
    return "needs the program " + name;
}

std::set<std::string> listening(const Namespace& where) {
    Finished ss = run({.argv = {"ss", "-ltnH"}, .inside = &where});
    if (ss.exit_code != 0) throw std::runtime_error("ss failed: " + ss.err);
    std::set<std::string> addresses;
    for (const auto& line : lines_of(ss.out)) {
        std::istringstream words(line);
        std::string state, received, sent, local;
        words >> state >> received >> sent >> local;
        addresses.insert(local);
    }
    return addresses;
}

Namespace new_namespace() {
    auto created = Namespace::create();
    created.reserve_ports(5000, 5999);
    return created;
}

}  // namespace proxify::test
