// SPDX-License-Identifier: Apache-2.0
#include "stats/endings.h"

#include <algorithm>
#include <cstring>

namespace proxify::stats {

/// Never 0.
static uint16_t pack(const Ending& ending) {
    return static_cast<uint16_t>(static_cast<unsigned char>(ending.party) << 8 |
                                 static_cast<unsigned char>(ending.stage));
}

void Endings::add(const Ending& ending) {
    const uint16_t letters = pack(ending);
    for (Place& place : places_) {
        uint16_t there = place.letters.load(std::memory_order_relaxed);
        if (there == 0 &&
            place.letters.compare_exchange_strong(there, letters, std::memory_order_relaxed)) {
            place.reason.store(ending.reason, std::memory_order_relaxed);
            return place.count.add();
        }
        if (there != letters) continue;
        // The same words may stand in the program more than once.
        const char* reason = place.reason.load(std::memory_order_relaxed);
        if (reason && (reason == ending.reason || std::strcmp(reason, ending.reason) == 0))
            return place.count.add();
    }
    others_.add();
}

std::vector<Endings::Count> Endings::list() const {
    std::vector<Count> counts;
    for (const Place& place : places_) {
        const uint16_t letters = place.letters.load(std::memory_order_relaxed);
        const char* reason = place.reason.load(std::memory_order_relaxed);
        if (letters == 0) break;
        if (!reason) continue;
        const std::string text{static_cast<char>(letters >> 8), static_cast<char>(letters & 0xff)};
        auto known = std::ranges::find_if(counts, [&](const Count& other) {
            return other.letters == text && other.reason == reason;
        });
        if (known == counts.end()) known = counts.insert(known, {text, reason});
        known->value += place.count.value();
    }
    if (const uint64_t others = others_.value()) counts.push_back({"", "other", others});
    return counts;
}

}  // namespace proxify::stats
