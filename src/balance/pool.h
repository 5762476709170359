// SPDX-License-Identifier: Apache-2.0
// Pool: the targets of a service, and how one is chosen.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "balance/tier.h"

namespace proxify::balance {

class Pool {
  public:
    Pool(config::Balance policy, const std::vector<Member>& members);

    /// A target that is up and was not tried, by the service's policy, of the most preferred tier
    /// that has one; null when there is none. From any thread: what a policy counts, it counts for
    /// all.
    Target* pick(const Asking& asking) const;

    /// Whether a client who comes now would be given a target. From any thread, and cheap enough
    /// to be asked after each change.
    bool any_available() const;

    /// All of them, in the order written.
    std::span<const std::shared_ptr<Target>> targets() const { return targets_; }
    /// Continues in the order where `other` stopped.
    void continue_after(const Pool& other);

  private:
    std::vector<std::shared_ptr<Target>> targets_;
    /// The most preferred first: by priority, and the backups last. They have a fixed place.
    std::deque<Tier> tiers_;
};

}  // namespace proxify::balance
