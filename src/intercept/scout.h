// SPDX-License-Identifier: Apache-2.0
// Scout: looks for the processes of somebody else's proxy, again whenever they may have changed, on
// a thread of its own: that takes walks through /proc.
//
// A process that was root, and became another user, may not look at the files of others any more.
// Then it goes by what it knew: a process stays the proxy's until it ends, and one that began to
// listen there since, which the kernel's program has told of, is one as well.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>

#include "base/address.h"
#include "base/clock.h"
#include "base/fd.h"

namespace proxify::intercept {

/// Who listens where the proxy is; nobody, when `pids` is empty.
struct ProxyOwner {
    std::set<int> pids;
    std::string name;     ///< "socat (pid 812)"
    std::string cgroup;   ///< the folder of the first one's cgroup; empty when unknown
    uint64_t netns = 0;   ///< cookie of the network namespace in which it listens; 0 when unknown
    uint32_t uid = 0;     ///< effective, of the first one
    bool is_sure = true;  ///< false: not all processes could be looked at
    bool is_listening = false;  ///< somebody does, even if nobody can be named
    uint64_t asked = 0;         ///< the number of the last look_again() that this knows about
    bool operator==(const ProxyOwner&) const = default;
};

/// One look, in the calling thread. Takes milliseconds, and more on a host with many processes.
ProxyOwner look_for_owner(const Address& proxy, const std::string& cgroup_root,
                          const std::stop_token& stop = {});

class Scout {
  public:
    /// Called on the scout's thread, when somebody else is found, and after each look_again().
    using OnOwner = std::function<void(ProxyOwner)>;

    Scout(Address proxy, std::string cgroup_root, ProxyOwner known, OnOwner on_owner);
    /// Waits until the process that is looked at has been; not for a whole walk.
    ~Scout();
    Scout(Scout&&) = delete;

    /// Somebody has begun to listen there: `newcomer`, or 0 for one that cannot be relied on.
    void look_again(uint64_t number, int newcomer);

  private:
    void run();
    ProxyOwner look();

    const Address proxy_;
    const std::string cgroup_root_;
    ProxyOwner known_;                ///< these two are of the thread
    std::map<int, uint64_t> starts_;  ///< of the known ones, to tell them from later processes
    const OnOwner on_owner_;
    std::mutex lock_;
    std::condition_variable changed_;
    uint64_t asked_ = 0;
    std::map<int, uint64_t> newcomers_;  ///< and when each began, since the last complete look
    std::stop_source closing_;
    std::thread thread_;
};

}  // namespace proxify::intercept
