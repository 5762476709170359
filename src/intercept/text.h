// SPDX-License-Identifier: Apache-2.0
// What is said of captured connections: one line for each, and a report. Pure; the log makes text
// or JSON of it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernel/connect_program.h"

namespace proxify::intercept {

/// Where a process lives.
struct Home {
    uint64_t cgroup = 0;         ///< id
    uint32_t pid_namespace = 0;  ///< inode
    auto operator<=>(const Home&) const = default;
};

/// "host"; the name of a container that is followed, "web"; the beginning of an unknown one's id,
/// "container 0123456789ab"; else the cgroup, "/user.slice", or "another PID namespace".
///
/// `cgroup` is the path of the process's cgroup below the root, `own` that of proxify's. A cgroup
/// alone does not make a container: every service of systemd has one.
std::string whose(const Home& home, const std::string& cgroup, const std::string& own,
                  uint32_t own_pid_namespace, const std::map<Home, std::string>& containers);

/// A line of the log: the text, and the same as fields.
struct Line {
    std::string message;
    std::vector<std::pair<const char*, std::string>> fields;
};

/// `from` as whose() says it; `container` is the name of the one that was dialled, or empty.
Line line_of(const kernel::FollowedConnection& connection, const std::string& from,
             const std::string& cgroup, const std::string& container);

/// How a capture stands.
struct Report {
    uint64_t redirected = 0, seen = 0, left_alone = 0;  ///< since it began
    size_t open = 0;
    std::map<std::string, size_t> by_state, by_cgroup, by_netns, by_source;  ///< of those open
    std::map<std::string, uint64_t> by_container;  ///< captured so far, by the one dialled
    std::vector<kernel::Counter> counters;
};

/// "established", "dialling"; a state of TCP as the kernel counts them.
std::string state_text(int state);

std::vector<Line> lines_of(const Report& report);

}  // namespace proxify::intercept
