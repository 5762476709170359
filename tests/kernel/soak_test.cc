// SPDX-License-Identifier: Apache-2.0
// A short soak; `./dev soak` is the long one. PROXIFY_SEED=N runs the same plan again.
#include <cstdlib>
#include <random>

#include "soak/soak.h"
#include "support/kernel_test.h"

using namespace proxify::test;

TEST_CASE("ten seconds of soak lose nothing", "[P-15][P-18][P-19]") {
    if (auto missing = missing_for_proxify()) SKIP_TEST(*missing);
    const char* text = std::getenv("PROXIFY_SEED");
    const uint64_t seed = text ? std::strtoull(text, nullptr, 0) : std::random_device()();
    INFO("PROXIFY_SEED=" << seed);
    const auto problems =
        soak::run({.binary = proxify_binary(), .duration = 10s, .seed = seed, .out = nullptr});
    for (const auto& problem : problems) FAIL_CHECK(problem);
    CHECK(problems.empty());
}
