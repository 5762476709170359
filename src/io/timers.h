// SPDX-License-Identifier: Apache-2.0
// Timers: moments at which something is to happen, in a binary heap of pointers to timers that
// their owners keep. Arming and disarming cost O(log n); sessions arm one idle timer and look at
// their last activity when it fires, so moving bytes never touches the heap.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "base/clock.h"
#include "base/expect.h"

namespace proxify::io {

class Timers;

struct Timer {
    using Fire = void (*)(Timer&);
    explicit Timer(Fire on_fire) : fire(on_fire) {}
    Timer(const Timer&) = delete;
    ~Timer() { expect(!armed(), "a timer is disarmed before it goes"); }
    bool armed() const { return place != nowhere; }

    static constexpr uint32_t nowhere = std::numeric_limits<uint32_t>::max();
    Fire fire;
    Time when{};
    uint32_t place = nowhere;  ///< index in the heap
};

class Timers {
  public:
    /// Sets or moves a timer.
    void arm(Timer& timer, Time when);
    void disarm(Timer& timer);
    /// Runs each timer that is due. A timer may arm itself and others again.
    void fire_due(Time now);
    /// When the next one is due; Time::max() when there is none.
    Time next() const { return heap_.empty() ? Time::max() : heap_.front()->when; }
    size_t size() const { return heap_.size(); }

  private:
    void put(Timer& timer, size_t place);
    void sift_up(size_t place);
    void sift_down(size_t place);
    std::vector<Timer*> heap_;
};

}  // namespace proxify::io
