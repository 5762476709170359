// SPDX-License-Identifier: Apache-2.0
// What statistics are made of: numbers that only grow. Any thread adds and any thread reads,
// without a lock; nothing else is put into an order by it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace proxify::stats {

class Counter {
  public:
    void add(uint64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }
    uint64_t value() const { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<uint64_t> value_ = 0;
};

/// Durations, added up. In microseconds, rounded: the nanoseconds of 100 000 sessions at a time
/// would be too many for 64 bits after two days.
class TimeSum {
  public:
    void add(Duration duration) {
        sum_.add(static_cast<uint64_t>(std::max<Duration::rep>(duration.count() + 500, 0)) / 1000);
    }
    double seconds() const { return static_cast<double>(sum_.value()) / 1e6; }

  private:
    static_assert(std::is_same_v<Duration::period, std::nano>);
    Counter sum_;
};

/// How many, and how long all of them took.
struct Timing {
    Counter count;
    TimeSum sum;

    void add(Duration duration) {
        count.add();
        sum.add(duration);
    }
};

}  // namespace proxify::stats
