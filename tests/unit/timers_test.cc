// SPDX-License-Identifier: Apache-2.0
#include "io/timers.h"

#include <algorithm>
#include <memory>
#include <random>

#include "support/catch.h"

using namespace proxify;
using namespace proxify::io;

namespace {

struct Noted : Timer {
    explicit Noted(std::vector<int>& log, int number)
        : Timer([](Timer& timer) {
              auto& noted = static_cast<Noted&>(timer);
              noted.fired.push_back(noted.which);
          }),
          fired(log),
          which(number) {}
    std::vector<int>& fired;
    int which;
};

}  // namespace

TEST_CASE("timers fire in the order of their moments, and none early") {
    std::vector<int> fired;
    Noted a(fired, 1), b(fired, 2), c(fired, 3);
    Timers timers;
    timers.arm(a, Time(30ns));
    timers.arm(b, Time(10ns));
    timers.arm(c, Time(20ns));
    CHECK(timers.next() == Time(10ns));
    timers.fire_due(Time(9ns));
    CHECK(fired.empty());
    timers.fire_due(Time(20ns));
    CHECK(fired == std::vector{2, 3});
    timers.fire_due(Time(1s));
    CHECK(fired == std::vector{2, 3, 1});
    CHECK(timers.next() == Time::max());
}

TEST_CASE("a random mix of arming, moving and disarming keeps the order") {
    std::mt19937 random(7);
    std::vector<int> fired;
    std::vector<std::unique_ptr<Noted>> owned;
    for (int i = 0; i < 200; ++i) owned.push_back(std::make_unique<Noted>(fired, i));
    Timers timers;
    for (int round = 0; round < 50; ++round) {
        for (auto& timer : owned) {
            if (random() % 3 == 0)
                timers.disarm(*timer);
            else
                timers.arm(*timer, Time(Duration(random() % 1000)));
        }
        std::vector<Time> expected;
        for (auto& timer : owned)
            if (timer->armed()) expected.push_back(timer->when);
        std::ranges::sort(expected);
        fired.clear();
        timers.fire_due(Time(1us));
        std::vector<Time> moments;
        for (int which : fired) moments.push_back(owned[static_cast<size_t>(which)]->when);
        REQUIRE(moments == expected);
        REQUIRE(timers.size() == 0);
    }
}
