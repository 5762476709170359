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
#include "base/expect.h"
#include "config/config.h"

namespace proxify::balance {

/// The targets that one client has been tried on already: never tried on again.
class Tried {
  public:
    static constexpr size_t count_max = config::tries_max;
    void add(const Target& target) {
        expect(count_ < count_max, "no client is tried more often than the file may say");
        targets_[count_++] = &target;
    }
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
    Time now{};                  ///< for a slow start
    bool knows_original = true;  ///< where the client aimed is known
};

/// How a service chooses.
struct Rule {
    // NOLINTNEXTLINE(google-explicit-constructor): most rules are a policy and nothing else
    Rule(config::Balance how = config::Balance::round_robin, Duration slow = {}, int factor = 0)
        : policy(how), slow_start(slow), hash_balance_factor(factor) {}
    config::Balance policy;
    Duration slow_start;      ///< for so long a target that came back gets less than its share
    int hash_balance_factor;  ///< percent of the average load that a target may have; 0 for any
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
    Tier(const Rule& rule, Level level, std::vector<Member> members);
    /// Of the same targets, and at the same place in its order; from there each goes on alone.
    explicit Tier(const Tier& other);

    /// From any thread. In a panic every target counts as available.
    Pick pick(const Asking& asking, bool is_panic) const;

    /// Whether any target of it may be given to a client who has tried none, once it has room.
    bool any_available(bool is_panic) const;

    const Level& level() const { return level_; }
    const std::vector<Member>& members() const { return members_; }
    /// Whether the target has just come back, so that this choice may pass it over for another.
    bool is_warming_up(const Target& target, Time now) const;
    /// Continues in the order where `other` stopped.
    void continue_after(const Tier& other) { next_ = other.next_.load(std::memory_order_relaxed); }

  private:
    /// One choice in progress.
    struct Look {
        const Asking& asking;
        bool is_panic;
        /// Targets that have just come back, or have more than their share, are passed over.
        bool is_choosy = false;
        uint64_t key = 0;     ///< draws who is passed over in a slow start
        uint64_t load = 0;    ///< sessions of all that take part, for a bounded hash
        uint64_t weight = 0;  ///< of the same
    };

    static bool takes_part(const Member& member, bool is_panic) {
        return member.weight > 0 &&
               (member.target->available.load(std::memory_order_relaxed) || is_panic);
    }
    static bool is_open(const Member& member, const Look& look) {
        return takes_part(member, look.is_panic) && !look.asking.tried.contains(*member.target);
    }
    bool is_free(const Member& member, const Look& look) const {
        return is_open(member, look) && !member.target->is_full() &&
               (!look.is_choosy || is_welcome(member, look));
    }
    bool is_welcome(const Member& member, const Look& look) const;
    bool is_warm(const Target& target, const Look& look) const;
    Look choosy_look(const Asking& asking, bool is_panic) const;

    Target* choose(const Look& look) const;
    Target* first(const Look& look) const;
    Target* in_turn(const Look& look) const;
    Target* least_connections(const Look& look) const;
    Target* one_of_two(const Look& look) const;
    const Member* drawn(const Look& look, uint64_t random) const;
    Target* by_source(const Look& look) const;
    Target* by_table(const Look& look) const;
    bool is_hash() const {
        return rule_.policy == config::Balance::source_hash ||
               rule_.policy == config::Balance::maglev;
    }

    Rule rule_;
    Level level_;
    std::vector<Member> members_;
    std::vector<uint64_t> keys_;  ///< of each member, for policies that hash: who it is
    /// Indices of members: whose turn it is (round robin), or who owns a key (maglev).
    std::vector<uint16_t> order_;
    mutable std::atomic<size_t> next_ = 0;
};

}  // namespace proxify::balance
