// SPDX-License-Identifier: Apache-2.0
// Gauge: a number that one thread changes and any thread may look at. Its owner pays no more than
// for a plain one: no lock, and no locked instruction.
#pragma once

#include <atomic>
#include <cstdint>

namespace proxify {

class Gauge {
  public:
    Gauge() = default;
    explicit Gauge(uint64_t value) : value_(value) {}

    operator uint64_t() const { return value_.load(std::memory_order_relaxed); }

    // For its owner's thread.
    void set(uint64_t value) { value_.store(value, std::memory_order_relaxed); }
    Gauge& operator+=(uint64_t more) {
        set(*this + more);
        return *this;
    }
    Gauge& operator-=(uint64_t less) {
        set(*this - less);
        return *this;
    }
    Gauge& operator++() { return *this += 1; }
    Gauge& operator--() { return *this -= 1; }

  private:
    std::atomic<uint64_t> value_ = 0;
};

}  // namespace proxify
