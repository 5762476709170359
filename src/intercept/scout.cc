// SPDX-License-Identifier: Apache-2.0
#include "intercept/scout.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/thread.h"
#include "kernel/cgroups.h"
#include "kernel/owners.h"

namespace proxify::intercept {

ProxyOwner look_for_owner(const Address& proxy, const std::string& cgroup_root,
                          const std::stop_token& stop) {
    ProxyOwner found;
    auto search = kernel::find_owners(proxy, stop);
    found.is_sure = search.is_complete;
    found.is_listening = !search.found.empty();
    for (auto& owners : search.found) {
        if (found.pids.empty()) {
            found.name = owners.name;
            found.netns = owners.netns_cookie;
            found.uid = owners.uid;
        }
        found.pids.merge(owners.pids);
    }
    if (!found.pids.empty())
        found.cgroup = kernel::cgroup_of(*found.pids.begin(), cgroup_root).value_or("");
    return found;
}

static std::map<int, uint64_t> starts_of(const std::set<int>& pids) {
    std::map<int, uint64_t> starts;
    for (int pid : pids) starts[pid] = kernel::start_of_process(pid);
    return starts;
}

Scout::Scout(Address proxy, std::string cgroup_root, ProxyOwner known, OnOwner on_owner)
    : proxy_(proxy),
      cgroup_root_(std::move(cgroup_root)),
      known_(std::move(known)),
      starts_(starts_of(known_.pids)),
      on_owner_(std::move(on_owner)) {
    thread_ = start_thread("scout", [this] { run(); });
}

Scout::~Scout() {
    {
        std::lock_guard lock(lock_);
        closing_.request_stop();
    }
    changed_.notify_all();
    thread_.join();
}

void Scout::look_again(uint64_t number, int newcomer) {
    const uint64_t start = newcomer > 0 ? kernel::start_of_process(newcomer) : 0;
    std::lock_guard lock(lock_);
    asked_ = number;
    constexpr size_t newcomers_max = 1024;
    if (start != 0 && newcomers_.size() < newcomers_max) newcomers_[newcomer] = start;
}

static bool is_alive(const std::pair<const int, uint64_t>& process) {
    return process.second != 0 && kernel::start_of_process(process.first) == process.second;
}

/// What is found; and what is known, of which nobody can say that it is no more.
ProxyOwner Scout::look() {
    std::unique_lock lock(lock_);
    const uint64_t asked = asked_;
    auto newcomers = newcomers_;
    lock.unlock();
    auto found = look_for_owner(proxy_, cgroup_root_, closing_.get_token());
    found.asked = asked;
    auto starts = starts_of(found.pids);
    if (!found.is_sure) {
        const bool is_named = !found.pids.empty();
        for (const auto* list : {&starts_, &newcomers})
            for (const auto& process : *list)
                if (is_alive(process)) {
                    found.pids.insert(process.first);
                    starts.insert(process);
                }
        if (!is_named && !found.pids.empty()) {
            const int first = *found.pids.begin();
            found.name = kernel::name_of_process(first);
            found.uid = kernel::uid_of_process(first).value_or(0);
            found.cgroup = kernel::cgroup_of(first, cgroup_root_).value_or("");
            if (found.netns == 0) found.netns = known_.netns;
        }
    }
    starts_ = std::move(starts);
    lock.lock();
    // Those that are owners now are known; the others were not, or cannot be told any more.
    for (const auto& [pid, start] : newcomers)
        if (auto one = newcomers_.find(pid); one != newcomers_.end() && one->second == start)
            newcomers_.erase(one);
    return found;
}

void Scout::run() {
    // A death is seen soon, as it costs little; who takes over a listener that lives on is found by
    // a whole walk now and then. However often somebody listens, walks keep this distance.
    constexpr Duration step = 500ms;
    constexpr int steps_between_walks = 20;
    std::unique_lock lock(lock_);
    for (int steps = 1;; ++steps) {
        changed_.wait_for(lock, step, [&] { return closing_.stop_requested(); });
        if (closing_.stop_requested()) return;
        const bool is_asked = asked_ != known_.asked;
        const bool is_there = !starts_.empty() && std::ranges::all_of(starts_, is_alive);
        if (!is_asked && is_there && steps < steps_between_walks) continue;
        steps = 0;
        lock.unlock();
        auto found = look();
        if (closing_.stop_requested()) return;
        if (found != std::exchange(known_, found)) on_owner_(std::move(found));
        lock.lock();
    }
}

}  // namespace proxify::intercept
