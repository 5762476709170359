// SPDX-License-Identifier: Apache-2.0
#include "intercept/scout.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "base/thread.h"
#include "kernel/cgroups.h"
#include "kernel/owners.h"

namespace proxify::intercept {

ProxyOwner look_for_owner(const Address& proxy, const std::string& cgroup_root) {
    ProxyOwner found;
    for (auto& owners : kernel::find_owners(proxy)) {
        if (found.name.empty()) found.name = owners.name;
        found.pids.merge(owners.pids);
    }
    if (!found.pids.empty())
        found.cgroup = kernel::cgroup_of(*found.pids.begin(), cgroup_root).value_or("");
    return found;
}

Scout::Scout(Address proxy, std::string cgroup_root, ProxyOwner known, OnOwner on_owner)
    : proxy_(proxy),
      cgroup_root_(std::move(cgroup_root)),
      known_(std::move(known)),
      on_owner_(std::move(on_owner)) {
    thread_ = start_thread("scout", [this] { run(); });
}

Scout::~Scout() {
    {
        std::lock_guard lock(lock_);
        closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void Scout::look_again(uint64_t number) {
    {
        std::lock_guard lock(lock_);
        asked_ = number;
    }
    changed_.notify_all();
}

static bool are_alive(const std::set<int>& pids) {
    return !pids.empty() &&
           std::ranges::all_of(pids, [](int pid) { return kill(pid, 0) == 0 || errno == EPERM; });
}

void Scout::run() {
    // A death is seen soon, as it costs a system call; who takes over a listener that lives on is
    // found by a whole walk now and then.
    constexpr Duration step = 500ms;
    constexpr int steps_between_walks = 20;
    std::unique_lock lock(lock_);
    for (int steps = 0;; ++steps) {
        changed_.wait_for(lock, step, [&] { return closing_ || asked_ != known_.asked; });
        if (closing_) return;
        const uint64_t asked = asked_;
        const bool is_asked = asked != known_.asked;
        if (!is_asked && are_alive(known_.pids) && steps < steps_between_walks) continue;
        steps = 0;
        lock.unlock();
        auto found = look_for_owner(proxy_, cgroup_root_);
        found.asked = asked;
        if (found != std::exchange(known_, found)) on_owner_(std::move(found));
        lock.lock();
    }
}

}  // namespace proxify::intercept
