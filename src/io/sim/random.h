// SPDX-License-Identifier: Apache-2.0
// Random: every choice of a simulation, from one seed.
#pragma once

#include <bit>
#include <cstdint>

#include "base/clock.h"

namespace proxify::io::sim {

/// Spreads the bits of a number over the whole word.
inline uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    return x ^ (x >> 32);
}

class Random {
  public:
    explicit Random(uint64_t seed) : state_(mix(seed + 0x9E3779B97F4A7C15u)) {}

    uint64_t next() { return mix(state_ += 0x9E3779B97F4A7C15u); }
    /// 0 .. count-1.
    uint64_t below(uint64_t count) {
        return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * count) >> 64);
    }
    uint64_t between(uint64_t least, uint64_t most) { return least + below(most - least + 1); }
    bool chance(double probability) {
        return probability > 0 && static_cast<double>(next() >> 11) * 0x1p-53 < probability;
    }
    Duration up_to(Duration most) {
        return Duration(static_cast<int64_t>(below(static_cast<uint64_t>(most.count()) + 1)));
    }
    /// 0 .. most, with as many between 16 and 31 as between 1024 and 2047.
    uint64_t of_any_size(uint64_t most) {
        uint64_t bits = below(static_cast<uint64_t>(std::bit_width(most)) + 1);
        return below((most >> (static_cast<uint64_t>(std::bit_width(most)) - bits)) + 1);
    }

  private:
    uint64_t state_;
};

}  // namespace proxify::io::sim
