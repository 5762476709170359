// SPDX-License-Identifier: Apache-2.0
// Histogram: how many durations were how long. The bounds are fixed; see those of each below.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "stats/counter.h"

namespace proxify::stats {

class Histogram {
  public:
    static constexpr size_t bounds_max = 16;

    /// Bounds in rising order, which outlive it.
    explicit Histogram(std::span<const Duration> bounds);

    /// Two atomic additions.
    void add(Duration duration);

    std::span<const Duration> bounds() const { return bounds_; }
    /// How many were within the bound of the same index and within none before it. The last, one
    /// more than there are bounds, is of those that were longer. Read once, so that whatever is
    /// summed up of it agrees with itself.
    std::vector<uint64_t> counts() const;
    double seconds() const { return sum_.seconds(); }

  private:
    std::span<const Duration> bounds_;
    TimeSum sum_;
    std::array<Counter, bounds_max + 1> counts_;
};

/// From a target in the same rack to one that does not answer.
inline constexpr std::array<Duration, 15> connect_bounds{
    100us, 250us, 500us, 1ms, 2500us, 5ms, 10ms, 25ms, 50ms, 100ms, 250ms, 500ms, 1s, 2500ms, 5s};

/// From a question and its answer to what is open for days.
inline constexpr std::array<Duration, 14> session_bounds{1ms, 10ms, 100ms, 500ms, 1s, 5s, 10s,
                                                         30s, 1min, 5min,  15min, 1h, 4h, 24h};

/// People give up after seconds; the limit is the file's.
inline constexpr std::array<Duration, 12> queue_bounds{1ms,   5ms, 10ms,   50ms, 100ms, 250ms,
                                                       500ms, 1s,  2500ms, 5s,   10s,   30s};

}  // namespace proxify::stats
