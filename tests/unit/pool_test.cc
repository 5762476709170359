// SPDX-License-Identifier: Apache-2.0
#include "balance/pool.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <thread>

#include "support/catch.h"

using namespace proxify;
using balance::Member;
using balance::Target;
using balance::Tried;
using config::Balance;

static std::shared_ptr<Target> target(uint16_t port) {
    config::TargetPort where{.kind = config::TargetPort::Kind::fixed, .value = port};
    return std::make_shared<Target>(Ip::v4(127, 0, 0, 1), where,
                                    "127.0.0.1:" + std::to_string(port));
}

static const Tried nobody;

/// A pool that anybody asks.
struct Pool : balance::Pool {
    Pool(std::vector<std::shared_ptr<Target>> targets)
        : balance::Pool(Balance::round_robin, {targets.begin(), targets.end()}) {}
    Pool(const balance::Rule& rule, std::vector<Member> members) : balance::Pool(rule, members) {}
    Target* pick(const balance::Asking& asking) const { return balance::Pool::pick(asking).target; }
    Target* pick(const Tried& tried) const {
        return pick({.client = {}, .random = 0, .tried = tried});
    }
    Target* pick(const Ip& client) const {
        return pick({.client = client, .random = 0, .tried = nobody});
    }
    using balance::Pool::take;
    balance::Seat take() const {
        return balance::Pool::take({.client = {}, .random = 0, .tried = nobody}).seat;
    }
};

static int port_of(const Target* target) {
    return target ? target->port.value : 0;
}

static std::vector<int> picks(const Pool& pool, int count) {
    std::vector<int> ports;
    for (int i = 0; i < count; ++i) ports.push_back(port_of(pool.pick(nobody)));
    return ports;
}

static Member weighted(uint16_t port, uint32_t weight, bool backup = false) {
    return {.target = target(port), .weight = weight, .is_backup = backup};
}

/// So many clients, 10.0.0.0 and up.
static Ip client(unsigned number) {
    return Ip::v4(10, static_cast<uint8_t>(number >> 16), static_cast<uint8_t>(number >> 8),
                  static_cast<uint8_t>(number));
}

/// How many of so many clients go to each port.
static std::map<int, int> shares(const Pool& pool, unsigned clients) {
    std::map<int, int> shares;
    for (unsigned i = 0; i < clients; ++i) ++shares[port_of(pool.pick(client(i)))];
    return shares;
}

TEST_CASE("targets are picked in the order written, round and round") {
    Pool pool({target(1), target(2), target(3)});
    CHECK(picks(pool, 7) == std::vector{1, 2, 3, 1, 2, 3, 1});
}

TEST_CASE("a target that is down is skipped, and its turn does not go to one neighbour only") {
    auto down = target(2);
    Pool pool({target(1), down, target(3)});
    down->set_up(false, {});
    CHECK(picks(pool, 4) == std::vector{1, 3, 1, 3});
    down->set_up(true, {});
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
    CHECK(Pool(std::vector<std::shared_ptr<Target>>{}).pick(nobody) == nullptr);
    auto only = target(1);
    only->set_up(false, {});
    CHECK(Pool({only}).pick(nobody) == nullptr);
}

TEST_CASE("workers that pick at the same time share one order") {
    Pool pool({target(1), target(2), target(3), target(4)});
    std::vector<std::map<int, int>> counts(4);
    std::vector<std::thread> threads;
    for (auto& mine : counts)
        threads.emplace_back([&] {
            for (int i = 0; i < 10'000; ++i) ++mine[pool.pick(nobody)->port.value];
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
    Pool pool({at});
    {
        balance::Seat seat = pool.take();
        CHECK(at->sessions == 1);
        CHECK(pool.admission().sessions() == 1);
        balance::Seat moved = std::move(seat);
        CHECK(at->sessions == 1);
    }
    CHECK(at->sessions == 0);
    CHECK(pool.admission().sessions() == 0);
}

TEST_CASE("weights 5, 1, 1 give nginx's order a a b a c a a") {
    Pool pool(Balance::round_robin, {weighted(1, 5), weighted(2, 1), weighted(3, 1)});
    CHECK(picks(pool, 9) == std::vector{1, 1, 2, 1, 3, 1, 1, 1, 1});
}

TEST_CASE("weights with a common measure make a short round") {
    Pool pool(Balance::round_robin, {weighted(1, 200), weighted(2, 100)});
    CHECK(picks(pool, 6) == std::vector{1, 2, 1, 1, 2, 1});
}

TEST_CASE("weight 0 takes no new sessions, whatever the policy") {
    for (auto policy : {Balance::round_robin, Balance::least_connections, Balance::random,
                        Balance::source_hash, Balance::maglev, Balance::first}) {
        INFO(static_cast<int>(policy));
        Pool pool(policy, {weighted(1, 0), weighted(2, 1), weighted(3, 0)});
        CHECK(shares(pool, 100) == std::map<int, int>{{2, 100}});
        Pool closed(policy, {weighted(1, 0), weighted(2, 0)});
        CHECK(closed.pick(nobody) == nullptr);
    }
}

TEST_CASE("a target that is down or tried is left out, whatever the policy") {
    for (auto policy : {Balance::round_robin, Balance::least_connections, Balance::random,
                        Balance::source_hash, Balance::maglev, Balance::first}) {
        INFO(static_cast<int>(policy));
        std::vector<Member> members;
        for (uint16_t port = 1; port <= 8; ++port) members.push_back(weighted(port, port));
        Pool pool(policy, members);
        for (int left = 8; left > 0; --left) {
            Target* picked = pool.pick(client(7));
            REQUIRE(picked);
            REQUIRE(picked->up);
            picked->set_up(false, {});
        }
        CHECK(pool.pick(client(7)) == nullptr);

        for (auto& member : members) member.target->set_up(true, {});
        Tried tried;
        for (int left = 8; left > 0; --left) {
            Target* picked = pool.pick({.client = client(7), .random = 5, .tried = tried});
            REQUIRE(picked);
            REQUIRE_FALSE(tried.contains(*picked));
            tried.add(*picked);
        }
        CHECK(pool.pick(tried) == nullptr);
    }
}

TEST_CASE("a backup is used when no other target is to be had, and no longer") {
    auto first = weighted(1, 1), second = weighted(2, 1);
    Pool pool(Balance::round_robin, {weighted(8, 1, true), first, weighted(9, 2, true), second});
    CHECK(picks(pool, 4) == std::vector{1, 2, 1, 2});
    first.target->set_up(false, {});
    CHECK(picks(pool, 2) == std::vector{2, 2});
    second.target->set_up(false, {});
    CHECK(picks(pool, 6) == std::vector{9, 8, 9, 9, 8, 9});
    second.target->set_up(true, {});
    CHECK(picks(pool, 2) == std::vector{2, 2});

    // A client that was tried on all others gets one as well.
    Tried tried;
    tried.add(*second.target);
    CHECK(port_of(pool.pick(tried)) >= 8);
}

TEST_CASE("a target serves when none of a more preferred priority is up and untried") {
    auto at = [](uint16_t port, uint32_t priority, bool backup = false) {
        Member member = weighted(port, 1, backup);
        member.priority = priority;
        return member;
    };
    auto near = at(1, 0), far = at(2, 10), farther = at(3, 20), backup = at(4, 0, true);
    Pool pool(Balance::round_robin, {backup, farther, at(5, 10), far, near});
    CHECK(picks(pool, 3) == std::vector{1, 1, 1});
    near.target->set_up(false, {});
    CHECK(picks(pool, 3) == std::vector{5, 2, 5});
    Tried tried;
    tried.add(*pool.targets()[2]);
    CHECK(port_of(pool.pick(tried)) == 2);
    tried.add(*far.target);
    CHECK(port_of(pool.pick(tried)) == 3);
    tried.add(*farther.target);
    CHECK(port_of(pool.pick(tried)) == 4);
    tried.add(*backup.target);
    CHECK(pool.pick(tried) == nullptr);
    near.target->set_up(true, {});
    CHECK(picks(pool, 2) == std::vector{1, 1});
}

TEST_CASE("backups come after every priority, and have priorities among themselves") {
    Member first = weighted(1, 1, true), second = weighted(2, 1, true), other = weighted(3, 1);
    second.priority = 1;
    other.priority = 255;
    Pool pool(Balance::round_robin, {second, first, other});
    CHECK(port_of(pool.pick(nobody)) == 3);
    other.target->set_up(false, {});
    CHECK(port_of(pool.pick(nobody)) == 1);
    first.target->set_up(false, {});
    CHECK(port_of(pool.pick(nobody)) == 2);
}

TEST_CASE("each priority keeps its place in the order through a reload") {
    Member far = weighted(3, 1), farther = weighted(4, 1);
    far.priority = farther.priority = 1;
    std::vector<Member> members{weighted(1, 1), weighted(2, 1), far, farther};
    Pool before(Balance::round_robin, members);
    CHECK(port_of(before.pick(nobody)) == 1);
    for (int i : {0, 1}) members[i].target->set_up(false, {});
    CHECK(port_of(before.pick(nobody)) == 3);

    Pool after(Balance::round_robin, members);
    after.continue_after(before);
    CHECK(port_of(after.pick(nobody)) == 4);
    for (int i : {0, 1}) members[i].target->set_up(true, {});
    CHECK(port_of(after.pick(nobody)) == 2);
}

TEST_CASE("a pool knows whether it has anybody for a client, backups included") {
    auto first = weighted(1, 1), closed = weighted(2, 0), backup = weighted(3, 1, true);
    Pool pool(Balance::round_robin, {first, closed, backup});
    CHECK(pool.any_available());
    first.target->set_up(false, {});
    CHECK(pool.any_available());
    backup.target->set_up(false, {});
    CHECK_FALSE(pool.any_available());
    CHECK_FALSE(Pool(std::vector<std::shared_ptr<Target>>{}).any_available());
}

TEST_CASE("the target with the fewest sessions for its weight is next, and equals take turns") {
    auto small = weighted(1, 1), large = weighted(2, 3);
    Pool pool(Balance::least_connections, {small, large});
    std::vector<balance::Seat> seats;
    std::map<int, int> sessions;
    for (int i = 0; i < 40; ++i) {
        seats.push_back(pool.take());
        ++sessions[port_of(&seats.back().target())];
    }
    CHECK(sessions == std::map<int, int>{{1, 10}, {2, 30}});

    Pool equal(Balance::least_connections, {weighted(1, 1), weighted(2, 1), weighted(3, 1)});
    std::map<int, int> turns;
    for (int port : picks(equal, 30)) ++turns[port];
    CHECK(turns == std::map<int, int>{{1, 10}, {2, 10}, {3, 10}});
}

TEST_CASE("sessions of all workers count when the fewest are looked for") {
    Pool pool(Balance::least_connections,
              {weighted(1, 1), weighted(2, 1), weighted(3, 1), weighted(4, 1)});
    std::vector<std::vector<balance::Seat>> seats(4);
    std::vector<std::thread> threads;
    for (auto& mine : seats)
        threads.emplace_back([&] {
            for (int i = 0; i < 1000; ++i) mine.push_back(pool.take());
        });
    for (auto& thread : threads) thread.join();
    // Two that look at the same moment may choose the same target.
    for (const auto& target : pool.targets()) {
        CHECK(target->sessions > 990);
        CHECK(target->sessions < 1010);
    }
}

TEST_CASE("of two drawn by weight the one with fewer sessions is taken") {
    auto busy = weighted(1, 1), free = weighted(2, 1);
    Pool pool(Balance::random, {busy, free});
    busy.target->sessions = 10;
    std::map<int, int> taken;
    uint64_t random = 1;
    for (int i = 0; i < 1000; ++i) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        ++taken[port_of(pool.pick({.client = {}, .random = random >> 8, .tried = nobody}))];
    }
    // Both draws fall on the busy one in a quarter of all cases.
    CHECK(taken[2] > 700);
    CHECK(taken[2] < 800);
}

TEST_CASE("the same client goes to the same target, and weights are respected by the hash") {
    for (auto policy : {Balance::source_hash, Balance::maglev}) {
        INFO(static_cast<int>(policy));
        Pool pool(policy, {weighted(1, 1), weighted(2, 2), weighted(3, 5)});
        Pool again(policy, {weighted(1, 1), weighted(2, 2), weighted(3, 5)});
        for (unsigned i = 0; i < 1000; ++i)
            REQUIRE(port_of(pool.pick(client(i))) == port_of(again.pick(client(i))));
        auto parts = shares(pool, 80'000);
        CHECK(std::abs(parts[1] - 10'000) < 800);
        CHECK(std::abs(parts[2] - 20'000) < 1000);
        CHECK(std::abs(parts[3] - 50'000) < 1500);
    }
}

TEST_CASE("which target a hash gives a client does not change between versions") {
    // Two proxify of different age may stand side by side.
    for (auto policy : {Balance::source_hash, Balance::maglev}) {
        std::vector<Member> members;
        for (uint16_t port = 1; port <= 5; ++port) members.push_back(weighted(port, 1));
        Pool pool(policy, members);
        std::vector<int> chosen;
        for (unsigned i = 0; i < 10; ++i) chosen.push_back(port_of(pool.pick(client(i))));
        CHECK(chosen == (policy == Balance::source_hash
                             ? std::vector{1, 1, 3, 4, 4, 5, 5, 3, 4, 3}
                             : std::vector{1, 1, 2, 1, 3, 2, 1, 3, 4, 5}));
    }
}

TEST_CASE("when a target goes, its own clients move and hardly any others") {
    constexpr unsigned clients = 50'000;
    for (auto policy : {Balance::source_hash, Balance::maglev}) {
        for (bool removed : {false, true}) {
            INFO(static_cast<int>(policy) << (removed ? " removed" : " down"));
            std::vector<Member> members;
            for (uint16_t port = 1; port <= 10; ++port) members.push_back(weighted(port, 1));
            Pool before(policy, members);
            std::vector<int> was;
            for (unsigned i = 0; i < clients; ++i) was.push_back(port_of(before.pick(client(i))));

            if (removed)
                members.erase(members.begin() + 3);
            else
                members[3].target->set_up(false, {});
            Pool after(policy, members);
            const Pool& now = removed ? after : before;
            int of_others = 0, moved = 0;
            std::map<int, int> heirs;
            for (unsigned i = 0; i < clients; ++i) {
                int is = port_of(now.pick(client(i)));
                REQUIRE(is != 4);
                if (was[i] == 4) {
                    ++heirs[is];
                } else {
                    ++of_others;
                    moved += is != was[i];
                }
            }
            const bool none_may = policy == Balance::source_hash || !removed;
            CHECK(moved <= (none_may ? 0 : of_others / 50));
            // All others inherit, about evenly.
            CHECK(heirs.size() == 9);
            for (auto [port, count] : heirs) CHECK(count > static_cast<int>(clients) / 10 / 9 / 2);
        }
    }
}

TEST_CASE("the first target that is up is always the one") {
    auto first = weighted(1, 1);
    Pool pool(Balance::first, {first, weighted(2, 9), weighted(3, 9)});
    CHECK(picks(pool, 3) == std::vector{1, 1, 1});
    first.target->set_up(false, {});
    CHECK(picks(pool, 3) == std::vector{2, 2, 2});
}

namespace {

constexpr Time start{1h};

/// Which of so many clients go to `port` at a moment, by their number.
std::vector<bool> clients_of(const Pool& pool, int port, Time now, unsigned clients) {
    std::vector<bool> out;
    uint64_t random = 1;
    for (unsigned i = 0; i < clients; ++i) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        out.push_back(
            port_of(pool.pick(
                {.client = client(i), .random = random >> 8, .tried = nobody, .now = now})) ==
            port);
    }
    return out;
}

double part(const std::vector<bool>& clients) {
    return static_cast<double>(std::ranges::count(clients, true)) /
           static_cast<double>(clients.size());
}

constexpr Balance all_but_first[] = {Balance::round_robin, Balance::least_connections,
                                     Balance::random, Balance::source_hash, Balance::maglev};

}  // namespace

TEST_CASE("a target that came back gets a share that grows from none to its own") {
    for (auto policy : all_but_first) {
        INFO(static_cast<int>(policy));
        auto back = weighted(1, 1);
        // With 9 sessions less than the others it would get each new one, if it took part.
        auto b = weighted(2, 1), c = weighted(3, 1);
        if (policy == Balance::least_connections) b.target->sessions = c.target->sessions = 9;
        const double full = policy == Balance::least_connections ? 1 : 1.0 / 3;
        Pool pool({policy, 100s}, {back, b, c});
        CHECK(std::abs(part(clients_of(pool, 1, start, 9000)) - full) < 0.03);  // as it began
        back.target->set_up(false, start);
        CHECK(part(clients_of(pool, 1, start, 900)) == 0);
        back.target->set_up(true, start);
        CHECK(part(clients_of(pool, 1, start, 900)) == 0);
        for (int percent : {10, 50, 90}) {
            INFO(percent);
            const double grown = percent / 100.0;
            // A turn that is passed over makes the round shorter, as a smaller weight would.
            const double expected =
                policy == Balance::round_robin ? grown / (2 + grown) : full * grown;
            double now = part(clients_of(pool, 1, start + percent * 1s, 9000));
            CHECK(std::abs(now - expected) < 0.02);
        }
        CHECK(std::abs(part(clients_of(pool, 1, start + 100s, 9000)) - full) < 0.03);
        CHECK(std::abs(part(clients_of(pool, 1, start + 1000s, 9000)) - full) < 0.03);
    }
}

TEST_CASE("with a hash, slow start moves clients back one after another, and each stays") {
    for (auto policy : {Balance::source_hash, Balance::maglev}) {
        INFO(static_cast<int>(policy));
        auto back = weighted(1, 1);
        std::vector<Member> members{back};
        for (uint16_t port = 2; port <= 5; ++port) members.push_back(weighted(port, 1));
        Pool pool({policy, 100s}, members);
        const auto own = clients_of(pool, 1, start, 2000);
        back.target->set_up(false, start);
        back.target->set_up(true, start);
        auto had = clients_of(pool, 1, start, 2000);
        for (int second = 5; second <= 100; second += 5) {
            auto has = clients_of(pool, 1, start + second * 1s, 2000);
            for (size_t i = 0; i < has.size(); ++i) {
                if (had[i]) REQUIRE(has[i]);
                if (has[i]) REQUIRE(own[i]);  // nobody who is not its own
            }
            CHECK(part(has) > part(had));
            had = has;
        }
        CHECK(had == own);
    }
}

TEST_CASE("a slow start keeps nobody waiting: who is alone is used at once") {
    for (auto policy : all_but_first) {
        auto only = weighted(1, 1), backup = weighted(2, 1, true);
        Pool pool({policy, 100s}, {only, backup});
        only.target->set_up(false, start);
        only.target->set_up(true, start);
        CHECK(part(clients_of(pool, 1, start, 100)) == 1);
    }
    auto first = weighted(1, 1);
    Pool pool({Balance::first, 100s}, {first, weighted(2, 1)});
    first.target->set_up(false, start);
    first.target->set_up(true, start);
    CHECK(part(clients_of(pool, 1, start, 100)) == 1);
}

TEST_CASE("with a bounded hash no target has more than its share, and few clients move") {
    for (auto policy : {Balance::source_hash, Balance::maglev}) {
        for (int factor : {101, 125, 200, 1000}) {
            INFO(static_cast<int>(policy) << " " << factor);
            std::vector<Member> members;
            for (uint16_t port = 1; port <= 8; ++port)
                members.push_back(weighted(port, port <= 4 ? 1 : 3));
            Pool pool({policy, {}, factor}, members);
            Pool unbounded(policy, members);
            std::vector<balance::Seat> seats;
            int moved = 0;
            for (unsigned i = 0; i < 3200; ++i) {
                const balance::Asking asking{.client = client(i), .random = 0, .tried = nobody};
                const Target* own = unbounded.pick(asking);
                seats.push_back(pool.take(asking).seat);
                moved += &seats.back().target() != own;
                for (const auto& member : members) {
                    // Nobody over the bound but by rounding up.
                    const double most = factor / 100.0 * (i + 1) * member.weight / 16;
                    REQUIRE(member.target->sessions < most + 1);
                }
            }
            CHECK(moved < (factor == 101 ? 3200 / 3 : factor == 125 ? 3200 / 8 : 3200 / 16));
        }
    }
}

TEST_CASE("one client that fills its target spreads over the others, in one order") {
    std::vector<Member> members;
    for (uint16_t port = 1; port <= 4; ++port) members.push_back(weighted(port, 1));
    Pool pool({Balance::source_hash, {}, 150}, members);
    const balance::Asking asking{.client = client(7), .random = 0, .tried = nobody};
    std::vector<balance::Seat> seats;
    std::map<int, int> shares;
    for (int i = 0; i < 400; ++i) {
        seats.push_back(pool.take(asking).seat);
        ++shares[port_of(&seats.back().target())];
    }
    std::vector<int> counts;
    for (auto [port, count] : shares) counts.push_back(count);
    std::ranges::sort(counts, std::greater());
    CHECK(counts == std::vector{150, 150, 100});
}

TEST_CASE("a bound is a wish: where all others are down, full or tried, it is exceeded") {
    auto a = weighted(1, 1), b = weighted(2, 1);
    Pool pool({Balance::source_hash, {}, 101}, {a, b});
    b.target->sessions_max = 1;
    const balance::Asking asking{.client = client(1), .random = 0, .tried = nobody};
    std::vector<balance::Seat> seats;
    for (int i = 0; i < 10; ++i) seats.push_back(pool.take(asking).seat);
    CHECK(a.target->sessions == 9);
    CHECK(b.target->sessions == 1);
}

TEST_CASE("in a panic all targets are used as if they were up, but those with weight 0") {
    auto a = weighted(1, 1), b = weighted(2, 1), closed = weighted(3, 0);
    Pool pool(Balance::round_robin, {a, b, closed, weighted(9, 1, true)});
    a.target->set_up(false, start);
    b.target->set_ejected(true, start);
    CHECK(port_of(pool.pick(nobody)) == 9);
    CHECK(pool.count().available == 1);
    CHECK(pool.count().all == 3);
    pool.admission().set_panic(true);
    CHECK(picks(pool, 4) == std::vector{1, 2, 1, 2});
    Tried tried;
    tried.add(*a.target);
    CHECK(port_of(pool.pick(tried)) == 2);
    pool.admission().set_panic(false);
    CHECK(port_of(pool.pick(nobody)) == 9);
}

TEST_CASE("a target takes part when it is up and not ejected") {
    auto at = target(1);
    const auto since = [&] { return Time(Duration(at->back_since)); };
    CHECK(at->back_since == Target::never_out);
    CHECK(at->set_ejected(true, start));
    CHECK_FALSE(at->set_up(false, start + 1s));
    CHECK_FALSE(at->set_ejected(false, start + 2s));
    CHECK_FALSE(at->available);
    CHECK(at->set_up(true, start + 3s));
    CHECK(at->available);
    CHECK(since() == start + 3s);
    CHECK_FALSE(at->set_up(true, start + 4s));
    CHECK(since() == start + 3s);
}

TEST_CASE("a twin picks what the pool would pick next, and the pool does not notice") {
    std::srand(7);
    for (auto policy : {Balance::round_robin, Balance::least_connections, Balance::random,
                        Balance::source_hash, Balance::maglev, Balance::first}) {
        std::vector<Member> members;
        for (uint16_t port = 1; port <= 6; ++port) {
            members.push_back(weighted(port, static_cast<uint32_t>(port % 3), port == 6));
            members.back().target->sessions = static_cast<uint32_t>(std::rand() % 5);
        }
        members[3].target->set_up(false, {});
        Pool pool(balance::Rule{policy}, members);
        for (unsigned i = 0; i < 40; ++i) {
            const balance::Asking asking{.client = client(i), .random = i * 7919u, .tried = nobody};
            const balance::Pool twin = pool.twin(), other = pool.twin();
            Target* expected = twin.pick(asking).target;
            for (int many = 0; many < 5; ++many) twin.pick(asking);
            CHECK(other.pick(asking).target == expected);
            CHECK(pool.pick(asking) == expected);
        }
    }
}

TEST_CASE("a twin has the pool's panic, and no seat or line of it") {
    auto down = target(1);
    Pool pool({down});
    down->set_up(false, {});
    CHECK_FALSE(pool.twin().any_available());
    pool.admission().set_panic(true);
    pool.admission().set_sessions_max(1);
    auto seat = pool.take();
    REQUIRE(seat);
    const auto twin = pool.twin();
    CHECK(twin.any_available());
    CHECK(twin.admission().sessions() == 0);
    twin.admission().set_panic(false);
    CHECK(pool.any_available());
    CHECK(twin.targets()[0] == pool.targets()[0]);
    CHECK(twin.count().all == 1);
    CHECK_FALSE(pool.admission().has_room());
}

TEST_CASE(
    "who aimed somewhere goes there; the other targets are for those of whom that is unknown") {
    config::TargetPort where{.kind = config::TargetPort::Kind::original};
    auto original = std::make_shared<Target>(Ip{}, where, "original");
    const Pool pool({original, target(1), target(2)});
    const balance::Asking knows{.client = {}, .random = 0, .tried = nobody};
    const balance::Asking knows_not{
        .client = {}, .random = 0, .tried = nobody, .knows_original = false};
    for (int i = 0; i < 3; ++i) CHECK(pool.pick(knows) == original.get());
    CHECK(port_of(pool.pick(knows_not)) == 1);
    CHECK(port_of(pool.pick(knows_not)) == 2);
    CHECK(port_of(pool.pick(knows_not)) == 1);

    // Nobody is sent elsewhere because it cannot be reached there.
    Tried tried;
    tried.add(*original);
    CHECK(pool.pick(tried) == nullptr);

    const Address aimed = *Address::parse("203.0.113.7:443");
    CHECK(original->for_dialled(aimed) == aimed);
    CHECK(Pool({original}).any_available());
    CHECK(Pool({original}).pick(knows_not) == nullptr);
}
