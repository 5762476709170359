// SPDX-License-Identifier: Apache-2.0
// Target: what is counted for each target, by workers and by health checks, for as long as the
// target is remembered.
#pragma once

#include <cerrno>

#include "stats/bytes.h"

namespace proxify::stats {

/// On cache lines of its own: what is read beside it for each pick is not to be fetched anew for
/// each session that ends.
struct alignas(64) Target {
    Timing connects;  ///< those that succeeded; each is a session
    Bytes bytes;
    // Connects that failed.
    Counter refused;
    Counter timed_out;
    Counter unreachable;   ///< or anything else
    Counter early_resets;  ///< sessions that it reset before it had sent a byte
    Counter ejections;
    Counter good_checks;
    Counter bad_checks;
    Counter unknown_checks;  ///< something ran out on this host

    void count_failed_connect(int error) {
        (error == ECONNREFUSED ? refused : error == ETIMEDOUT ? timed_out : unreachable).add();
    }
};

}  // namespace proxify::stats
