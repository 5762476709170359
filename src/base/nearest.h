// SPDX-License-Identifier: Apache-2.0
// nearest() guesses which known word a mistyped one was meant to be, for "did you mean" hints.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace proxify {

/// How many single-letter insertions, removals, replacements and swaps of neighbours turn one word
/// into the other.
inline size_t edit_distance(std::string_view from, std::string_view to) {
    std::vector<size_t> two_above(to.size() + 1), above(to.size() + 1), row(to.size() + 1);
    for (size_t j = 0; j <= to.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= from.size(); ++i) {
        std::swap(two_above, above);
        std::swap(above, row);
        row[0] = i;
        for (size_t j = 1; j <= to.size(); ++j) {
            bool same = from[i - 1] == to[j - 1];
            row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1)});
            if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1])
                row[j] = std::min(row[j], two_above[j - 2] + 1);
        }
    }
    return row[to.size()];
}

/// The word of `known` closest to `word`; empty when none is close enough to be a likely guess.
inline std::string_view nearest(std::string_view word, std::span<const std::string_view> known) {
    constexpr size_t longest_word = 64;
    if (word.size() > longest_word) return {};
    std::string_view best;
    size_t best_distance = 2 + word.size() / 4;  // one more than what still counts as close
    for (auto candidate : known) {
        auto distance = edit_distance(word, candidate);
        if (distance < best_distance && distance < candidate.size()) {
            best = candidate;
            best_distance = distance;
        }
    }
    return best;
}

}  // namespace proxify
