// SPDX-License-Identifier: Apache-2.0
#include "routing/orders.h"

#include "routing/snapshot.h"
#include "support/catch.h"

using namespace proxify;
using routing::Order;
using routing::Orders;
using routing::Snapshot;

TEST_CASE("an order changes a weight; a drained target has none, whatever else was ordered") {
    CHECK(Order{}.apply(5) == 5);
    CHECK(Order{.weight = 3}.apply(5) == 3);
    CHECK(Order{.weight = 0}.apply(5) == 0);
    CHECK(Order{.is_drained = true}.apply(5) == 0);
    CHECK(Order{.is_drained = true, .weight = 3}.apply(5) == 0);
}

TEST_CASE("an order is for one target of one service") {
    const Orders orders{{{"web", "127.0.0.1:1"}, {.is_drained = true}}};
    CHECK(order_for(orders, "web", "127.0.0.1:1").is_drained);
    CHECK(order_for(orders, "web", "127.0.0.1:2") == Order{});
    CHECK(order_for(orders, "mail", "127.0.0.1:1") == Order{});
}

namespace {

std::string picks(const Snapshot& snapshot, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) {
        balance::Tried tried;
        auto choice = snapshot.services()[1]->pool.take({.client = Ip::v4(198, 51, 100, 7),
                                                         .random = static_cast<uint64_t>(i),
                                                         .tried = tried,
                                                         .now = Time{}});
        out += choice.seat ? choice.seat.target().text.back() : '-';
    }
    return out;
}

}  // namespace

TEST_CASE("snapshots follow orders, keep what the file says, and go back to it") {
    auto config = config::parse(
        "service = [{ name = 'web', ports = 80, targets = [{ address = '127.0.0.1:1', weight = 2 "
        "}, "
        "'127.0.0.1:2'] }]",
        "test.toml");
    REQUIRE(config);
    auto no_names = [](const std::string&) { return std::vector<Endpoint>(); };
    const std::pair<std::string, std::string> first{"web", "127.0.0.1:1"},
        second{"web", "127.0.0.1:2"};
    auto plain = Snapshot::build(*config, no_names, nullptr, Time{});
    auto build = [&](const Orders& orders) {
        return Snapshot::build(*config, no_names, plain.get(), Time{}, orders);
    };
    auto share = [&](const Snapshot& snapshot) {
        return std::ranges::count(picks(snapshot, 12), '1');
    };
    CHECK(share(*plain) == 8);
    auto drained = build({{first, {.is_drained = true}}});
    CHECK(share(*drained) == 0);
    CHECK(drained->services()[1]->members[0].weight == 2);
    CHECK(drained->services()[1]->pool.targets()[0] == plain->services()[1]->pool.targets()[0]);
    CHECK(share(*build({{first, {.weight = 1}}})) == 6);
    CHECK(share(*build({{second, {.weight = 10}}})) == 2);
    CHECK(share(*build({})) == 8);

    auto nobody = build({{first, {.is_drained = true}}, {second, {.weight = 0}}});
    CHECK_FALSE(nobody->services()[1]->pool.any_available());
    CHECK(picks(*nobody, 2) == "--");
}

TEST_CASE("an order for one address of a name stays while others come and go") {
    auto config = config::parse(
        "service = [{ name = 'web', ports = 80, targets = 'web.example:8' }]", "test.toml");
    REQUIRE(config);
    const Orders orders{{{"web", "10.0.0.1:8"}, {.is_drained = true}}};
    std::shared_ptr<const Snapshot> snapshot;
    auto resolved = [&](std::vector<Endpoint> endpoints) {
        snapshot = Snapshot::build(
            *config, [&](const std::string&) { return endpoints; }, snapshot.get(), Time{}, orders);
        return snapshot->services()[1]->pool.any_available();
    };
    const Endpoint one{Ip::v4(10, 0, 0, 1)}, two{Ip::v4(10, 0, 0, 2)}, three{Ip::v4(10, 0, 0, 3)};
    CHECK(resolved({one, two}));
    auto share = [&] {
        int first = 0;
        for (int i = 0; i < 6; ++i) {
            balance::Tried tried;
            auto choice = snapshot->services()[1]->pool.take(
                {.client = Ip::v4(198, 51, 100, 7), .random = 1, .tried = tried, .now = Time{}});
            first += choice.seat && choice.seat.target().text == "10.0.0.1:8";
        }
        return first;
    };
    CHECK(share() == 0);
    CHECK(resolved({two, three}));
    CHECK(resolved({three, one}));
    CHECK(share() == 0);
    CHECK_FALSE(resolved({one}));
}
