// SPDX-License-Identifier: Apache-2.0
// Pool: the targets of a service, and how one is chosen.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "balance/tier.h"

namespace proxify::balance {

class Pool {
  public:
    Pool(config::Balance policy, const std::vector<Member>& members);

    /// A target that is up and was not tried, by the service's policy; a backup when there is no
    /// other; null when there is none. From any thread: what a policy counts, it counts for all.
    Target* pick(const Asking& asking) const {
        Target* target = targets_tier_.pick(asking);
        return target ? target : backups_tier_.pick(asking);
    }

    /// Backups among them, in the order written.
    std::span<const std::shared_ptr<Target>> targets() const { return targets_; }
    /// Continues in the order where `other` stopped.
    void continue_after(const Pool& other) {
        targets_tier_.continue_after(other.targets_tier_);
        backups_tier_.continue_after(other.backups_tier_);
    }

  private:
    std::vector<std::shared_ptr<Target>> targets_;
    Tier targets_tier_;
    Tier backups_tier_;
};

}  // namespace proxify::balance
