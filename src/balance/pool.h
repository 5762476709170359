// SPDX-License-Identifier: Apache-2.0
// Pool: the targets of a service, and how one is chosen.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "balance/admission.h"
#include "balance/tier.h"

namespace proxify::balance {

class Pool {
  public:
    Pool(const Rule& rule, const std::vector<Member>& members,
         std::shared_ptr<Admission> admission = std::make_shared<Admission>());

    /// A seat for who comes now, or none while others wait. From any thread: what a policy counts,
    /// it counts for all.
    Choice take(const Asking& asking) const;

    /// The same, whoever waits: for Admission.
    Choice choose(const Asking& asking) const;

    /// Where the client aimed, if the service goes there and that is known. Else a target that is
    /// up and was not tried and has room, by the service's policy, of the most preferred tier that
    /// has one up and untried. A tier without room does not lead to the next: those stand in for
    /// targets that are down, and would be buried by what the others refuse.
    Pick pick(const Asking& asking) const;

    /// One like this, to choose from without a trace: it goes on from the same place of the order,
    /// in the same state of panic, and nothing that is picked there is counted here. Its targets
    /// are these very ones, so pick() is meant, which takes no seat.
    Pool twin() const;

    Admission& admission() const { return *admission_; }
    const std::shared_ptr<Admission>& shared_admission() const { return admission_; }

    /// Whether a client who comes now has a target to go to, or to wait for. From any thread, and
    /// cheap enough to be asked after each change.
    bool any_available() const;

    /// How many of those that may get sessions at all take part at the moment.
    struct Census {
        size_t available = 0;
        size_t all = 0;
    };
    Census count() const;

    /// All of them, in the order written.
    std::span<const std::shared_ptr<Target>> targets() const { return targets_; }
    /// The most preferred first.
    const std::deque<Tier>& tiers() const { return tiers_; }
    /// The one at this address in memory, which may be long gone; null when it is none of them.
    std::shared_ptr<Target> find(const Target* target) const;
    /// Continues in the order where `other` stopped.
    void continue_after(const Pool& other);

  private:
    Pool() = default;

    std::shared_ptr<Admission> admission_;
    std::vector<std::shared_ptr<Target>> targets_;
    /// The most preferred first: by priority, and the backups last. They have a fixed place.
    std::deque<Tier> tiers_;
    std::vector<const Target*> in_use_;  ///< those with a weight
    /// Not in a tier, being no choice: where each client aimed. May be null.
    Target* original_ = nullptr;
};

}  // namespace proxify::balance
