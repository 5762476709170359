// SPDX-License-Identifier: Apache-2.0
// Catch2, version 2 or 3, whichever the host has. The only file of the tests (with its .cc) that
// knows which. The .cc holds main().
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_test_macros.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

namespace proxify::test {

/// Remembers that the running test case was skipped, and what it would have needed.
void note_skipped(const std::string& missing);

}  // namespace proxify::test

/// Leaves the test case, and has it counted as skipped. `missing` names the exact thing that this
/// machine lacks, such as "needs CAP_SYS_ADMIN, to make a network namespace".
#define SKIP_TEST(missing)                      \
    do {                                        \
        ::proxify::test::note_skipped(missing); \
        SUCCEED();                              \
        return;                                 \
    } while (false)
