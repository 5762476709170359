// SPDX-License-Identifier: Apache-2.0
// What the element replace is to do, in the plainest words: for tests and fuzzers.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace proxify::test {

struct Replaced {
    std::string out;   ///< all that is certain
    std::string kept;  ///< the end of `text` that `find` may begin with
};

/// Tries each place, one after the other.
inline Replaced replace_naively(std::string_view text, std::string_view find,
                                std::string_view with) {
    Replaced replaced;
    size_t at = 0;
    while (at < text.size()) {
        const std::string_view rest = text.substr(at);
        if (rest.starts_with(find)) {
            replaced.out += with;
            at += find.size();
        } else if (find.starts_with(rest)) {
            replaced.kept = rest;
            break;
        } else {
            replaced.out += rest[0];
            ++at;
        }
    }
    return replaced;
}

}  // namespace proxify::test
