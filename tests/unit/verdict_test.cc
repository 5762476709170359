// SPDX-License-Identifier: Apache-2.0
#include "health/health.h"
#include "support/catch.h"

using proxify::health::Verdict;

/// Feeds checks ('+' good, '-' bad, '!' clients could not connect) and gives the state after each.
static std::string states(int rise, int fall, const std::string& checks) {
    Verdict verdict(rise, fall);
    std::string out;
    for (char check : checks) {
        check == '!' ? verdict.condemn() : void(verdict.judge(check == '+'));
        out += verdict.up() ? 'U' : 'd';
    }
    return out;
}

TEST_CASE("a target is up until its first check, which alone decides") {
    CHECK(Verdict(2, 3).up());
    CHECK(states(2, 3, "-") == "d");
    CHECK(states(2, 3, "+") == "U");
}

TEST_CASE("`fall` bad checks in a row take a target out, `rise` good ones bring it back") {
    struct Row {
        int rise, fall;
        const char *checks, *states;
    };
    for (auto [rise, fall, checks, expected] : {
             Row{2, 3, "+--+--+---", "UUUUUUUUUd"},
             Row{2, 3, "-+-++",
                 "dddd"
                 "U"},
             Row{1, 1, "+-+-", "UdUd"},
             Row{3, 1, "+-++-+++",
                 "Udddddd"
                 "U"},
         })
        CHECK(states(rise, fall, checks) == expected);
}

TEST_CASE("clients that cannot connect take a target out at once, and only checks bring it back") {
    CHECK(states(2, 3, "+!++") == "UddU");
    CHECK(states(2, 3, "!+") == "dd");
}
