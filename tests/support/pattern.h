// SPDX-License-Identifier: Apache-2.0
// Pattern: an endless stream of random-looking bytes that both ends of a connection can compute for
// themselves at any offset. Gigabytes are compared byte for byte, and nobody has to keep them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "support/stream.h"

namespace proxify::test {

class Pattern {
  public:
    explicit Pattern(uint64_t seed) : seed_(seed) {}

    void fill(uint64_t offset, std::span<char> out) const;
    /// Where `bytes`, which should begin at `offset` of the pattern, first differ from it.
    std::optional<uint64_t> first_difference(uint64_t offset, std::string_view bytes) const;

  private:
    uint64_t seed_;
};

/// Sends the first `count` bytes, in chunks of many sizes.
void send_pattern(Stream& to, const Pattern& pattern, uint64_t count);
/// Receives exactly `count` bytes and then the end; throws at the first byte that is wrong.
void receive_pattern(Stream& from, const Pattern& pattern, uint64_t count);

}  // namespace proxify::test
