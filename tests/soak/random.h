// SPDX-License-Identifier: Apache-2.0
// Random: small, the same on every machine, and cheap enough for each end of each connection to
// have one of its own. So what one of them draws does not depend on when the others draw.
#pragma once

#include <cstdint>

namespace proxify::test::soak {

class Random {
  public:
    Random(uint64_t seed, uint64_t which) : state_(seed + which * 0xD1B54A32D192ED03u) {
        next();
        state_ ^= next();
    }

    uint64_t next() {  // splitmix64
        uint64_t word = state_ += 0x9E3779B97F4A7C15u;
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
        word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
        return word ^ (word >> 31);
    }
    /// 0 to `count` - 1.
    uint64_t below(uint64_t count) { return next() % count; }
    /// Both included.
    uint64_t between(uint64_t least, uint64_t most) { return least + below(most - least + 1); }
    bool chance(unsigned percent) { return below(100) < percent; }
    /// 0 to `most`, where small is as likely as large.
    uint64_t any_size(uint64_t most) {
        unsigned bits = 0;
        while (most >> bits) ++bits;
        const uint64_t limit = uint64_t{1} << below(bits + 1);
        return below(limit < most ? limit : most + 1);
    }

  private:
    uint64_t state_;
};

}  // namespace proxify::test::soak
