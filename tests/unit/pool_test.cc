// SPDX-License-Identifier: Apache-2.0
#include "balance/pool.h"

#include <map>
#include <thread>

#include "support/catch.h"

using namespace proxify;
using balance::Pool;
using balance::Target;
using balance::Tried;

static std::shared_ptr<Target> target(uint16_t port) {
    config::TargetPort where{.kind = config::TargetPort::Kind::fixed, .value = port};
    return std::make_shared<Target>(Ip::v4(127, 0, 0, 1), where,
                                    "127.0.0.1:" + std::to_string(port));
}

static std::vector<int> picks(const Pool& pool, int count) {
    std::vector<int> ports;
    for (int i = 0; i < count; ++i) {
        auto* picked = pool.pick({});
        ports.push_back(picked ? picked->port.value : 0);
    }
    return ports;
}

TEST_CASE("targets are picked in the order written, round and round") {
    Pool pool({target(1), target(2), target(3)});
    CHECK(picks(pool, 7) == std::vector{1, 2, 3, 1, 2, 3, 1});
}

TEST_CASE("a target that is down is skipped, and its turn does not go to one neighbour only") {
    auto down = target(2);
    Pool pool({target(1), down, target(3)});
    down->up = false;
    CHECK(picks(pool, 4) == std::vector{1, 3, 1, 3});
    down->up = true;
    CHECK(picks(pool, 3) == std::vector{1, 2, 3});
}

TEST_CASE("a target that was tried for this client is not picked for it again") {
    auto first = target(1), second = target(2);
    Pool pool({first, second});
    Tried tried;
    tried.add(*first);
    CHECK(pool.pick(tried) == second.get());
    tried.add(*second);
    CHECK(pool.pick(tried) == nullptr);
}

TEST_CASE("a pool with no target, or none that is up, picks nothing") {
    CHECK(Pool({}).pick({}) == nullptr);
    auto only = target(1);
    only->up = false;
    CHECK(Pool({only}).pick({}) == nullptr);
}

TEST_CASE("workers that pick at the same time share one order") {
    Pool pool({target(1), target(2), target(3), target(4)});
    std::vector<std::map<int, int>> counts(4);
    std::vector<std::thread> threads;
    for (auto& mine : counts)
        threads.emplace_back([&] {
            for (int i = 0; i < 10'000; ++i) ++mine[pool.pick({})->port.value];
        });
    for (auto& thread : threads) thread.join();
    std::map<int, int> all;
    for (auto& mine : counts)
        for (auto [port, count] : mine) all[port] += count;
    CHECK(all == std::map<int, int>{{1, 10'000}, {2, 10'000}, {3, 10'000}, {4, 10'000}});
}

TEST_CASE("a target's port is its own, the dialled one, or the dialled one moved up") {
    using Kind = config::TargetPort::Kind;
    struct Row {
        config::TargetPort port;
        int dialled, reached;
    };
    for (auto [port, dialled, reached] :
         {Row{{Kind::fixed, 80}, 5001, 80}, Row{{Kind::same, 0}, 5001, 5001},
          Row{{Kind::offset, 1000}, 5001, 6001}})
        CHECK(port.for_dialled(static_cast<uint16_t>(dialled)) == reached);
}

TEST_CASE("a seat counts as long as it is held, wherever it is moved") {
    auto at = target(1);
    {
        balance::Seat seat(*at);
        CHECK(at->sessions == 1);
        balance::Seat moved = std::move(seat);
        CHECK(at->sessions == 1);
    }
    CHECK(at->sessions == 0);
}
