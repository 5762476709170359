// SPDX-License-Identifier: Apache-2.0
// Pattern: the bytes that load and target send, so that each can check every byte it gets.
//
// A stream repeats a table of 4099 random bytes, begun at a place that differs from stream to
// stream. 4099 is a prime: bytes that were lost, doubled or swapped in any amount that programs
// handle (buffers, pages, pipes) move what follows to another place of the table, and so does a
// byte of another stream. Checking is a memcmp against 8 KB that stay in the first cache.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace proxify::bench {

enum class Direction : uint8_t { to_target, to_client };

class Pattern {
  public:
    static constexpr size_t period = 4099;
    static constexpr size_t longest = 256 * 1024;  ///< what at() gives at once

    Pattern() : table_(period + longest) {
        uint64_t x = 0x9E3779B97F4A7C15u;
        for (size_t i = 0; i < table_.size(); ++i) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            table_[i] = i < period ? static_cast<std::byte>(x) : table_[i - period];
        }
    }

    /// Where in the table a stream begins.
    static uint64_t start_of(uint32_t stream, Direction direction) {
        return (stream * uint64_t{1021} + (direction == Direction::to_client ? 2053 : 0)) % period;
    }

    /// `longest` bytes of what a stream says from `place` on (its start and its position, added).
    const std::byte* at(uint64_t place) const { return table_.data() + place % period; }

    bool matches(uint64_t place, const std::byte* bytes, size_t size) const {
        const std::byte* expected = at(place);
        // A whole period further the same bytes are expected again.
        for (; size > 0;) {
            size_t part = std::min(size, period);
            if (std::memcmp(expected, bytes, part) != 0) return false;
            bytes += part;
            size -= part;
        }
        return true;
    }

  private:
    std::vector<std::byte> table_;
};

}  // namespace proxify::bench
