// SPDX-License-Identifier: Apache-2.0
// Arena: a place of our own in which nothing outlives us and nobody else is met.
//
// The whole bench runs as the first process of a PID namespace: when it ends, however it ends, the
// kernel kills what is left of it. Each measurement gets a fresh network namespace, so no
// TIME_WAIT socket of one program is met by the next, and no firewall rule or conntrack of the
// host is on the way.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace proxify::bench {

/// Runs `body` as the first process of its own namespaces and gives its exit code. Needs root.
Result<int> in_arena(const std::function<int()>& body);

/// True once SIGINT or SIGTERM came. Everything that waits looks at it.
bool is_interrupted();
Error interrupted_error();

struct NetworkOptions {
    std::string reserved_ports;   ///< as ip_local_reserved_ports takes them
    std::string ephemeral_ports;  ///< "62100 65535"; empty: as the kernel has them
};

/// Moves this process, and so all it starts from now on, into a new network with a loopback.
Result<> enter_fresh_network(const NetworkOptions& options);

/// Another network with a loopback, for processes that are to be on another host. It is gone once
/// nobody holds it or is in it.
Result<Fd> make_network();

/// A cgroup below the root of the cgroup2 tree, so that what is attached to it meets nobody but
/// those who are put into it.
class Cgroup {
  public:
    static Result<Cgroup> make(const std::string& folder);
    Cgroup(Cgroup&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}
    Cgroup& operator=(Cgroup&&) = delete;
    ~Cgroup() { static_cast<void>(remove()); }

    const std::string& folder() const { return folder_; }
    /// Fails while a process is in it.
    Result<> remove();

  private:
    explicit Cgroup(std::string folder) : folder_(std::move(folder)) {}
    std::string folder_;
};
/// Where cgroup2 is mounted; empty where it is not.
std::string cgroup2_root();

/// The processes of the arena, ours excepted; all of them, or those that descend from `ancestor`.
std::vector<int> processes();
std::vector<int> descendants(int ancestor);

/// CPU time of the whole machine so far, in seconds: spent on work, and taken by the host of a
/// virtual machine.
struct MachineTime {
    double busy = 0;
    double stolen = 0;
};
MachineTime machine_time();
/// Bytes of kernel objects in use, in all caches (/proc/slabinfo); zero if the kernel does not
/// tell.
double slab_bytes();

}  // namespace proxify::bench
