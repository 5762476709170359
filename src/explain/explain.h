// SPDX-License-Identifier: Apache-2.0
// What would happen to a SYN, step by step. Nothing here decides: the steering program's twin, the
// snapshot, the access lists and a twin of the pool are asked, which are what decides for clients;
// and asking leaves no trace in any of them.
//
// Three things are beyond it. A target is not dialled, so one that is taken for up and does not
// answer is found out by clients only. Descriptors that have run out make clients wait in the
// kernel's queue. And the answer is of this moment: who comes in between may take the turn, or the
// seat.
#pragma once

#include <functional>
#include <optional>

#include "base/clock.h"
#include "base/result.h"
#include "dial/dial.h"
#include "explain/explanation.h"
#include "routing/snapshot.h"
#include "steering/steering.h"

namespace proxify::explain {

/// What is looked at.
struct Scene {
    const routing::Snapshot& snapshot;
    const steering::Steering* steering = nullptr;  ///< null without -b
    std::optional<uint16_t> listener_port = {};    ///< of the one listener, with -b
    const dial::Guard& doors;                      ///< knows the ports on which we listen
    /// Whether an address belongs to this host; may be empty, then all do.
    std::function<bool(const Ip&)> is_here = {};
    Time now;
    uint64_t random = 0;  ///< for policies that draw lots
};

/// Asks the kernel as well, so it is for the thread that steers, in the network namespace where
/// proxify runs. Fails when the kernel does not answer, or the two ends are of two families.
Result<Explanation> explain(const Question& question, const Scene& scene);

}  // namespace proxify::explain
