// SPDX-License-Identifier: Apache-2.0
// sim SEED          tells the story of one seed, event by event
// sim FIRST COUNT   runs so many seeds and counts how sessions ended
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "sim/scenario.h"

using namespace proxify;
using namespace proxify::test;

static bool tell(const Plan& plan, bool tracing) {
    Outcome outcome = run(plan, tracing);
    for (const auto& problem : outcome.problems)
        std::printf("seed %llu: %s\n", static_cast<unsigned long long>(plan.seed), problem.c_str());
    if (!outcome.problems.empty())
        std::printf("replay: ./dev sim %llu\n", static_cast<unsigned long long>(plan.seed));
    return outcome.problems.empty();
}

static int sweep(uint64_t first, uint64_t count) {
    std::map<std::string, size_t> endings;
    uint64_t failed = 0, bytes = 0, turns = 0, sessions = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (uint64_t seed = first; seed < first + count; ++seed) {
        Outcome outcome = run(Plan::drawn(seed));
        for (const auto& [letters, times] : outcome.endings) endings[letters] += times;
        bytes += outcome.bytes;
        turns += outcome.turns;
        sessions += outcome.records.size();
        if (outcome.problems.empty()) continue;
        ++failed;
        std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed),
                    outcome.problems.front().c_str());
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::printf("%llu seeds, %llu failed; %.0f a second; %llu sessions, %llu bytes, %llu turns\n",
                static_cast<unsigned long long>(count), static_cast<unsigned long long>(failed),
                static_cast<double>(count) / took.count(),
                static_cast<unsigned long long>(sessions), static_cast<unsigned long long>(bytes),
                static_cast<unsigned long long>(turns));
    for (const auto& [letters, times] : endings) std::printf("  %s %zu\n", letters.c_str(), times);
    return failed == 0 ? 0 : 1;
}

int main(int argc, char** argv) {
    if (argc != 2 && argc != 3) {
        std::fprintf(stderr, "usage: sim SEED | sim FIRST COUNT\n");
        return 2;
    }
    uint64_t seed = std::strtoull(argv[1], nullptr, 10);
    if (argc == 3) return sweep(seed, std::strtoull(argv[2], nullptr, 10));
    return tell(Plan::drawn(seed), /* tracing= */ true) ? 0 : 1;
}
