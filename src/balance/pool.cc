// SPDX-License-Identifier: Apache-2.0
#include "balance/pool.h"

#include <algorithm>
#include <iterator>

namespace proxify::balance {

static std::vector<Member> only(const std::vector<Member>& members, bool backups) {
    std::vector<Member> out;
    std::ranges::copy_if(members, std::back_inserter(out),
                         [&](const Member& member) { return member.is_backup == backups; });
    return out;
}

Pool::Pool(config::Balance policy, const std::vector<Member>& members)
    : targets_tier_(policy, only(members, false)), backups_tier_(policy, only(members, true)) {
    for (const auto& member : members) targets_.push_back(member.target);
}

}  // namespace proxify::balance
