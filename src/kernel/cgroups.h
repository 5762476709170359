// SPDX-License-Identifier: Apache-2.0
// Control groups of version 2: where they are, which number the kernel knows one by, and who is in
// one. Those of version 1 have no BPF hooks; a host may have both, mixed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace proxify::kernel {

/// The folder where the cgroup2 tree is mounted, as /proc/self/mountinfo (proc_pid_mountinfo(5))
/// says in `mountinfo`; the first one, if there are several.
std::optional<std::string> find_cgroup2(std::string_view mountinfo);

/// The same of this process; fails where only version 1 is mounted.
Result<std::string> cgroup2_root();

struct Cgroup {
    Fd folder;
    uint64_t id = 0;
    std::string path;
};
/// Fails if that is no folder of a cgroup2 tree.
Result<Cgroup> open_cgroup(const std::string& path);

/// The path of a process's cgroup in the tree of version 2, from its root: "/", "/user.slice"; what
/// `cgroup` says, the text of /proc/PID/cgroup.
std::optional<std::string> cgroup_in(std::string_view cgroup);

/// The folder of the cgroup of a process; nullopt when there is no such process.
std::optional<std::string> cgroup_of(int pid, const std::string& root);

/// Where a cgroup with this id is; empty when it is gone; nullopt without CAP_DAC_READ_SEARCH,
/// which the kernel wants for this. `root` is any folder of the tree, opened.
std::optional<std::string> cgroup_path(uint64_t id, int root);

/// The paths of all cgroups, by id: of `root` and what is below it, of 65536 at most. Takes no
/// privileges, but a look at each folder.
std::map<uint64_t, std::string> all_cgroups(const std::string& root);

}  // namespace proxify::kernel
