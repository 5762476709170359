// SPDX-License-Identifier: Apache-2.0
// expect() states what must hold. When it does not, that is a bug in proxify, not bad input: the
// process stops with the sentence instead of going on with a state nobody thought about.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <source_location>

namespace proxify {

[[noreturn]] inline void stop_on_bug(const char* sentence, const std::source_location& where) {
    std::fprintf(stderr, "proxify: bug: expected that %s (%s:%u)\n", sentence, where.file_name(),
                 static_cast<unsigned>(where.line()));
    std::abort();
}

inline void expect(bool holds, const char* sentence,
                   const std::source_location& where = std::source_location::current()) {
    if (!holds) [[unlikely]]
        stop_on_bug(sentence, where);
}

}  // namespace proxify
