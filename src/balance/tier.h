// SPDX-License-Identifier: Apache-2.0
// Tier: targets that stand on one level, and the ways to choose one of them. A service has one for
// each priority, and the backups that are used when no other is to be had.
#pragma once

#include <array>
#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "balance/target.h"
#include "config/config.h"

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

/// What a choice may depend on.
struct Asking {
    Ip client;
    uint64_t random = 0;
    const Tried& tried;
};

struct Member {
    std::shared_ptr<Target> target;
    uint32_t weight = 1;    ///< 0 takes no new sessions
    uint32_t priority = 0;  ///< lower ones are preferred
    bool is_backup = false;
};

/// Where a tier stands among those of its service; the least goes first.
struct Level {
    bool is_backup = false;
    uint32_t priority = 0;
    auto operator<=>(const Level&) const = default;
};

/// What a tier has for somebody: a target with room; or none, and then whether it would have one
/// if it had room.
struct Pick {
    Target* target = nullptr;
    bool is_full = false;
};

class Tier {
  public:
    Tier(config::Balance policy, Level level, std::vector<Member> members);

    /// From any thread.
    Pick pick(const Asking& asking) const;

    /// Whether any target of it may be given to a client who has tried none, once it has room.
    bool any_available() const;

    const Level& level() const { return level_; }
    /// Continues in the order where `other` stopped.
    void continue_after(const Tier& other) { next_ = other.next_.load(std::memory_order_relaxed); }

  private:
    static bool is_open(const Member& member, const Asking& asking) {
        return member.weight > 0 && member.target->up.load(std::memory_order_relaxed) &&
               !asking.tried.contains(*member.target);
    }
    static bool is_free(const Member& member, const Asking& asking) {
        return is_open(member, asking) && !member.target->is_full();
    }
    Target* choose(const Asking& asking) const;
    Target* first(const Asking& asking) const;
    Target* in_turn(const Asking& asking) const;
    Target* least_connections(const Asking& asking) const;
    Target* one_of_two(const Asking& asking) const;
    const Member* drawn(const Asking& asking, uint64_t random) const;
    Target* by_source(const Asking& asking) const;
    Target* by_table(const Asking& asking) const;

    config::Balance policy_;
    Level level_;
    std::vector<Member> members_;
    /// Indices of members: whose turn it is (round robin), or who owns a key (maglev).
    std::vector<uint16_t> order_;
    mutable std::atomic<size_t> next_ = 0;
};

}  // namespace proxify::balance
