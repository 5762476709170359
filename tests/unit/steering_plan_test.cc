// SPDX-License-Identifier: Apache-2.0
// The rules by which proxify and people share the map of steered ports.
#include "steering/plan.h"
#include "support/catch.h"

using namespace proxify::steering;

namespace {

using Ports = std::vector<uint16_t>;

struct Row {
    const char* claim;
    Ports have, own, want;
    Ports remove, add, own_after;
};

const Row rows[] = {
    {"nothing wanted, nothing there, nothing to do", {}, {}, {}, {}, {}, {}},
    {"the first start adds all", {}, {}, {80, 443}, {}, {80, 443}, {80, 443}},
    {"the same config again changes nothing", {80, 443}, {80, 443}, {80, 443}, {}, {}, {80, 443}},
    {"a port that left the config is removed", {80, 443}, {80, 443}, {443}, {80}, {}, {443}},
    {"one comes, one goes, one stays", {1, 2}, {1, 2}, {2, 3}, {1}, {3}, {2, 3}},
    {"a port put there by hand stays", {7, 80}, {80}, {80}, {}, {}, {80}},
    {"it stays, too, when the last configured port goes", {7, 80}, {80}, {}, {80}, {}, {}},
    {"a hand's port that the config now names too is still the hand's", {7}, {}, {7}, {}, {}, {}},
    {"a configured port that a hand deleted returns",
     {443},
     {80, 443},
     {80, 443},
     {},
     {80},
     {80, 443}},
    {"one that a hand deleted and the config dropped is let go", {}, {80}, {}, {}, {}, {}},
    {"the ends of the range are ports like others", {1}, {1}, {65535}, {1}, {65535}, {65535}},
};

}  // namespace

TEST_CASE("a plan changes what it must, and nothing else") {
    for (const auto& row : rows) {
        INFO(row.claim);
        auto plan = make_plan(to_set(row.have), to_set(row.own), to_set(row.want));
        CHECK(plan.remove == row.remove);
        CHECK(plan.add == row.add);
        CHECK(to_list(plan.own_after) == row.own_after);
    }
}

TEST_CASE("a port put there by hand outlives its time in the config") {
    PortSet have = to_set(Ports{7}), own;
    for (const Ports& want : {Ports{7, 80}, Ports{7}, Ports{80}, Ports{}}) {
        auto plan = make_plan(have, own, to_set(want));
        have = (have & ~to_set(plan.remove)) | to_set(plan.add);
        own = plan.own_after;
        CHECK(have.test(7));
    }
    CHECK(to_list(have) == Ports{7});
}

TEST_CASE(
    "after a plan the map holds all that is wanted, and of the rest only what a hand put there") {
    // All the states that one port can be in: in the map or not, ours or not, wanted or not.
    for (unsigned state = 0; state < 8; ++state) {
        PortSet have, own, want;
        have.set(9, state & 1);
        own.set(9, state & 2);
        want.set(9, state & 4);
        auto plan = make_plan(have, own, want);
        PortSet after = (have & ~to_set(plan.remove)) | to_set(plan.add);
        bool was_put_by_hand = have.test(9) && !own.test(9);
        INFO("state " << state);
        CHECK(after.test(9) == (want.test(9) || was_put_by_hand));
        CHECK(plan.own_after.test(9) == (want.test(9) && !was_put_by_hand));
    }
}

TEST_CASE("all ports at once make a list and a set of all ports") {
    PortSet all;
    all.set();
    auto plan = make_plan({}, {}, all);
    CHECK(plan.add.size() == 65536);
    CHECK(plan.remove.empty());
    CHECK(to_set(plan.add) == all);
}
