// SPDX-License-Identifier: Apache-2.0
// Pool: the targets of a service, and how one is chosen.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "balance/target.h"

namespace proxify::balance {

/// The targets that one client has been tried on already: never tried on again.
class Tried {
  public:
    static constexpr size_t count_max = 16;
    void add(const Target& target) { targets_[count_++] = &target; }
    bool contains(const Target& target) const {
        for (size_t i = 0; i < count_; ++i)
            if (targets_[i] == &target) return true;
        return false;
    }
    int count() const { return static_cast<int>(count_); }

  private:
    std::array<const Target*, count_max> targets_{};
    size_t count_ = 0;
};

class Pool {
  public:
    explicit Pool(std::vector<std::shared_ptr<Target>> targets) : targets_(std::move(targets)) {}

    /// The next target in the order written that is up and was not tried; null when there is
    /// none. Each call moves on by one target, whichever thread it comes from.
    Target* pick(const Tried& tried) const;

    std::span<const std::shared_ptr<Target>> targets() const { return targets_; }
    /// Continues in the order where `other` stopped.
    void continue_after(const Pool& other) { next_ = other.next_.load(std::memory_order_relaxed); }

  private:
    std::vector<std::shared_ptr<Target>> targets_;
    mutable std::atomic<size_t> next_ = 0;
};

}  // namespace proxify::balance
