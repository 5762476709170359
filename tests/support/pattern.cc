// SPDX-License-Identifier: Apache-2.0
#include "support/pattern.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace proxify::test {

// splitmix64: the state is a counter, so any place of the stream can be computed by itself.
static uint64_t word_at(uint64_t seed, uint64_t index) {
    uint64_t word = seed + (index + 1) * 0x9E3779B97F4A7C15u;
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
    return word ^ (word >> 31);
}

void Pattern::fill(uint64_t offset, std::span<char> out) const {
    constexpr size_t word_size = sizeof(uint64_t);
    while (!out.empty()) {
        const uint64_t word = word_at(seed_, offset / word_size);
        const size_t within = offset % word_size;
        const size_t count = std::min(word_size - within, out.size());
        std::memcpy(out.data(), reinterpret_cast<const char*>(&word) + within, count);
        out = out.subspan(count);
        offset += count;
        // The bulk, in a loop that the compiler can unroll.
        for (uint64_t index = offset / word_size; out.size() >= word_size; ++index) {
            const uint64_t whole = word_at(seed_, index);
            std::memcpy(out.data(), &whole, word_size);
            out = out.subspan(word_size);
            offset += word_size;
        }
    }
}

std::optional<uint64_t> Pattern::first_difference(uint64_t offset, std::string_view bytes) const {
    std::array<char, 16 << 10> expected;
    while (!bytes.empty()) {
        const size_t count = std::min(bytes.size(), expected.size());
        fill(offset, std::span(expected).first(count));
        if (std::memcmp(expected.data(), bytes.data(), count) != 0) {
            auto [ours, theirs] =
                std::mismatch(expected.begin(), expected.begin() + count, bytes.begin());
            return offset + static_cast<uint64_t>(ours - expected.begin());
        }
        bytes.remove_prefix(count);
        offset += count;
    }
    return std::nullopt;
}

void send_pattern(Stream& to, const Pattern& pattern, uint64_t count) {
    std::mt19937_64 random(count);
    std::vector<char> chunk(256 << 10);
    for (uint64_t sent = 0; sent < count;) {
        // Small ones are as likely as large ones.
        const uint64_t size =
            std::min<uint64_t>(random() % (uint64_t{1} << random() % 18) + 1, count - sent);
        pattern.fill(sent, std::span(chunk).first(size));
        to.send({chunk.data(), size}, 2min);
        sent += size;
    }
}

void receive_pattern(Stream& from, const Pattern& pattern, uint64_t count) {
    for (uint64_t received = 0;;) {
        const std::string chunk = from.receive(256 << 10, 2min);
        if (chunk.empty() && received == count) return;
        if (chunk.empty() || received + chunk.size() > count)
            throw std::runtime_error("the stream has " + std::to_string(received + chunk.size()) +
                                     " bytes instead of " + std::to_string(count));
        if (auto at = pattern.first_difference(received, chunk))
            throw std::runtime_error("byte " + std::to_string(*at) + " of the stream is wrong");
        received += chunk.size();
    }
}

}  // namespace proxify::test
