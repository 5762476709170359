// SPDX-License-Identifier: Apache-2.0
#include "balance/pool.h"

#include <algorithm>
#include <map>

namespace proxify::balance {

Pool::Pool(config::Balance policy, const std::vector<Member>& members) {
    std::map<Level, std::vector<Member>> levels;
    for (const auto& member : members) {
        targets_.push_back(member.target);
        levels[{member.is_backup, member.priority}].push_back(member);
    }
    for (auto& [level, of_level] : levels) tiers_.emplace_back(policy, level, std::move(of_level));
}

Target* Pool::pick(const Asking& asking) const {
    for (const auto& tier : tiers_)
        if (Target* target = tier.pick(asking)) return target;
    return nullptr;
}

bool Pool::any_available() const {
    return std::ranges::any_of(tiers_, &Tier::any_available);
}

void Pool::continue_after(const Pool& other) {
    for (auto& tier : tiers_)
        for (const auto& before : other.tiers_)
            if (before.level() == tier.level()) tier.continue_after(before);
}

}  // namespace proxify::balance
