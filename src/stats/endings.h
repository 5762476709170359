// SPDX-License-Identifier: Apache-2.0
// Endings: how many sessions ended in which way. A reason is a constant of the program, so there
// are not many; each takes a place when it is first met, and keeps it. Who finds all places taken
// is counted without a name: nothing is lost, and nothing grows.
#pragma once

#include <array>
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "base/ending.h"
#include "stats/counter.h"

namespace proxify::stats {

class Endings {
  public:
    /// About twice as many as a service can meet.
    static constexpr size_t size_max = 48;

    /// One atomic addition, but for the first of its kind.
    void add(const Ending& ending);

    struct Count {
        std::string letters;  ///< empty when nobody knows: the places were taken
        std::string_view reason;
        uint64_t value = 0;
    };
    /// Each kind once. Those without a place come last, if there are any.
    std::vector<Count> list() const;

  private:
    /// Taken by who writes its letters first. Its reason follows a moment later; whoever looks for
    /// the same kind in that moment takes another place, and list() puts the two together.
    struct Place {
        std::atomic<uint16_t> letters = 0;
        std::atomic<const char*> reason = nullptr;
        Counter count;
    };
    std::array<Place, size_max> places_;
    Counter others_;
};

}  // namespace proxify::stats
