// SPDX-License-Identifier: Apache-2.0
// Scout: looks for the processes of somebody else's proxy, again whenever they may have changed, on
// a thread of its own: that takes walks through /proc.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "base/address.h"
#include "base/fd.h"

namespace proxify::intercept {

/// Who listens where the proxy is; nobody, when `pids` is empty.
struct ProxyOwner {
    std::set<int> pids;
    std::string name;    ///< "socat (pid 812)"
    std::string cgroup;  ///< the folder of the first one's cgroup; empty when unknown
    uint64_t asked = 0;  ///< the number of the last look_again() that this knows about
    bool operator==(const ProxyOwner&) const = default;
};

/// One look, in the calling thread. Takes milliseconds, and more on a host with many processes.
ProxyOwner look_for_owner(const Address& proxy, const std::string& cgroup_root);

class Scout {
  public:
    /// Called on the scout's thread, when somebody else is found, and after each look_again().
    using OnOwner = std::function<void(ProxyOwner)>;

    Scout(Address proxy, std::string cgroup_root, ProxyOwner known, OnOwner on_owner);
    ~Scout();
    Scout(Scout&&) = delete;

    /// Somebody may have begun to listen there.
    void look_again(uint64_t number);

  private:
    void run();

    const Address proxy_;
    const std::string cgroup_root_;
    ProxyOwner known_;
    const OnOwner on_owner_;
    std::mutex lock_;
    std::condition_variable changed_;
    uint64_t asked_ = 0;
    bool closing_ = false;
    std::thread thread_;
};

}  // namespace proxify::intercept
