// SPDX-License-Identifier: Apache-2.0
// Streams of bytes that nobody has to keep: the first eight are the stream's id, every later word
// is a hash of the id and its place. Whoever knows the id can make, or check, any part of it.
//
// A stream whose id has its highest bit set is made of four letters after the id, which has none of
// them: whoever looks for a few letters in a row finds some.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "io/sim/random.h"

namespace proxify::io::sim {

inline constexpr uint64_t few_letters = uint64_t{1} << 63;
inline constexpr uint8_t first_letter = 0xF0;

inline uint64_t word_of_stream(uint64_t id, uint64_t index) {
    if (index == 0) return id;
    uint64_t x = (id ^ index) * 0x9E3779B97F4A7C15u;
    x ^= x >> 29;
    return id & few_letters ? (x & 0x0303030303030303u) | 0xF0F0F0F0F0F0F0F0u : x;
}

/// Calls `use(place in the span, bytes of the stream, count)` for each word that `size` bytes from
/// `offset` on touch; stops when it gives false.
template <class Use>
bool for_each_word(uint64_t id, uint64_t offset, size_t size, Use use) {
    for (size_t done = 0; done < size;) {
        uint64_t word = word_of_stream(id, (offset + done) / 8);
        size_t skip = (offset + done) % 8;
        size_t count = std::min<size_t>(8 - skip, size - done);
        if (!use(done, reinterpret_cast<const std::byte*>(&word) + skip, count)) return false;
        done += count;
    }
    return true;
}

inline void fill_from_stream(uint64_t id, uint64_t offset, std::span<std::byte> out) {
    for_each_word(id, offset, out.size(), [&](size_t at, const std::byte* bytes, size_t count) {
        count == 8 ? std::memcpy(&out[at], bytes, 8) : std::memcpy(&out[at], bytes, count);
        return true;
    });
}

inline bool is_of_stream(uint64_t id, uint64_t offset, std::span<const std::byte> bytes) {
    return for_each_word(id, offset, bytes.size(),
                         [&](size_t at, const std::byte* word, size_t count) {
                             return (count == 8 ? std::memcmp(&bytes[at], word, 8)
                                                : std::memcmp(&bytes[at], word, count)) == 0;
                         });
}

}  // namespace proxify::io::sim
