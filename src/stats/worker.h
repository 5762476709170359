// SPDX-License-Identifier: Apache-2.0
// Worker: how a worker stands at a moment. A value.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace proxify::stats {

struct Worker {
    uint64_t number = 0;  ///< no other that is there has the same
    uint64_t sessions = 0;
    uint64_t sessions_max = 0;  ///< beyond it clients wait in the kernel's queue
    uint64_t accept_queue =
        0;  ///< clients who wait in that queue; only who has the listeners knows
    uint64_t accept_pauses = 0;  ///< times it stopped accepting, for want of room or descriptors
    uint64_t buffers = 0;        ///< shared receive buffers
    uint64_t buffer_waits = 0;   ///< times a stream found none of them free
    uint64_t pipes = 0;          ///< open, lent or idle
    uint64_t pipes_lent = 0;
    uint64_t pipes_max = 0;
    uint64_t pipes_refused = 0;  ///< times bulk was copied because none was to be had
    /// Connections that it accepted, by the door that they came in by.
    std::vector<std::pair<std::string_view, uint64_t>> accepted = {};
    uint64_t completion_overflows = 0;  ///< turns that began with more events than the ring holds
};

}  // namespace proxify::stats
