// SPDX-License-Identifier: Apache-2.0
#include "balance/admission.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <list>
#include <optional>
#include <string>
#include <thread>

#include "balance/pool.h"
#include "support/catch.h"

using namespace proxify;
using balance::Admission;
using balance::Asking;
using balance::Choice;
using balance::Member;
using balance::Pool;
using balance::Seat;
using balance::Target;
using balance::Tried;
using config::Balance;

namespace {

Member member(uint16_t port, uint32_t max = 0, bool backup = false) {
    config::TargetPort where{.kind = config::TargetPort::Kind::fixed, .value = port};
    auto target = std::make_shared<Target>(Ip::v4(127, 0, 0, 1), where, std::to_string(port));
    target->sessions_max = max;
    return {.target = std::move(target), .is_backup = backup};
}

const Tried none;
const Asking anybody{.client = {}, .random = 0, .tried = none};

/// Somebody in line, who hears of it at once.
struct Waiting : balance::Waiter {
    explicit Waiting(const Pool& pool, const Asking& asking = anybody, size_t size = 100)
        : admission(pool.admission()), is_in(admission.line_up(*this, pool, asking, size)) {}
    ~Waiting() override { admission.step_out(*this); }
    void wake() override { is_woken = true; }
    int port() {
        seat = admission.step_out(*this).seat;
        return seat ? seat.target().port.value : 0;
    }
    bool is_woken = false;
    Admission& admission;
    Seat seat;
    bool is_in;
};

int port_of(const Choice& choice) {
    return choice.seat ? choice.seat.target().port.value : choice.is_full ? -1 : 0;
}

}  // namespace

TEST_CASE("a full target is passed over, and when all are full there is no seat") {
    for (auto policy : {Balance::round_robin, Balance::least_connections, Balance::random,
                        Balance::source_hash, Balance::maglev, Balance::first}) {
        INFO(static_cast<int>(policy));
        Pool pool(policy, {member(1, 2), member(2, 3)});
        std::vector<Seat> seats;
        for (int i = 0; i < 5; ++i) {
            seats.push_back(pool.take(anybody).seat);
            REQUIRE(seats.back());
        }
        CHECK(pool.targets()[0]->sessions == 2);
        CHECK(pool.targets()[1]->sessions == 3);
        CHECK(port_of(pool.take(anybody)) == -1);
        seats.pop_back();
        CHECK(port_of(pool.take(anybody)) > 0);
    }
}

TEST_CASE("a full target is no reason to use a backup or a later priority; a dead one is") {
    Member near = member(1, 1), far = member(2), backup = member(3, 0, true);
    far.priority = 1;
    Pool pool(Balance::round_robin, {near, far, backup});
    Seat seat = pool.take(anybody).seat;
    CHECK(port_of(pool.take(anybody)) == -1);
    near.target->set_up(false, {});
    CHECK(port_of(pool.take(anybody)) == 2);
    far.target->set_up(false, {});
    CHECK(port_of(pool.take(anybody)) == 3);
    backup.target->set_up(false, {});
    CHECK(port_of(pool.take(anybody)) == 0);
}

TEST_CASE("the cap of a service holds over all of its targets") {
    Pool pool(Balance::round_robin, {member(1), member(2)});
    pool.admission().set_sessions_max(3);
    std::vector<Seat> seats;
    for (int i = 0; i < 3; ++i) seats.push_back(pool.take(anybody).seat);
    CHECK(port_of(pool.take(anybody)) == -1);
    CHECK(pool.targets()[0]->sessions + pool.targets()[1]->sessions == 3);
    seats.clear();
    CHECK(pool.admission().sessions() == 0);
    CHECK(port_of(pool.take(anybody)) > 0);
}

TEST_CASE("who waits is served in the order of coming, and nobody overtakes") {
    Pool pool(Balance::round_robin, {member(1, 1)});
    Seat seat = pool.take(anybody).seat;
    std::list<Waiting> line;
    for (int i = 0; i < 3; ++i) line.emplace_back(pool);
    CHECK(pool.admission().waiting() == 3);
    for (int left = 3; left > 0; --left) {
        CHECK_FALSE(line.front().is_woken);
        seat = Seat();
        REQUIRE(line.front().is_woken);
        CHECK(pool.admission().waiting() == static_cast<size_t>(left - 1));
        CHECK(port_of(pool.take(anybody)) == -1);  // it is taken already
        CHECK(line.front().port() == 1);
        seat = std::move(line.front().seat);
        line.pop_front();
    }
    seat = Seat();
    CHECK(port_of(pool.take(anybody)) == 1);
}

TEST_CASE("while somebody waits, whoever comes lines up, even where there is room for them") {
    Member a = member(1, 1), b = member(2);
    Pool pool(Balance::round_robin, {a, b});
    Tried tried;
    tried.add(*b.target);
    Seat seat(pool.admission(), *a.target);  // by hand: a is full
    a.target->sessions = 1;
    pool.admission().enter();
    const Asking again{.client = {}, .random = 0, .tried = tried};
    Waiting retries(pool, again);
    CHECK_FALSE(retries.is_woken);  // only a is left for it
    CHECK(port_of(pool.take(anybody)) == -1);
    Waiting newcomer(pool);
    CHECK(newcomer.is_woken);  // at once, because nobody before it can use b
    CHECK(newcomer.port() == 2);
    seat = Seat();
    CHECK(retries.port() == 1);
}

TEST_CASE("the line takes so many and no more") {
    Pool pool(Balance::round_robin, {member(1, 1)});
    Seat seat = pool.take(anybody).seat;
    CHECK_FALSE(Waiting(pool, anybody, 0).is_in);
    Waiting first(pool, anybody, 2);
    {
        Waiting second(pool, anybody, 2);
        CHECK(second.is_in);
        CHECK_FALSE(Waiting(pool, anybody, 2).is_in);
    }
    CHECK(Waiting(pool, anybody, 2).is_in);  // one has stepped out
    CHECK(first.is_in);
}

TEST_CASE("who steps out of the line is passed over, wherever it stood") {
    for (int gone = 0; gone < 3; ++gone) {
        INFO(gone);
        Pool pool(Balance::round_robin, {member(1, 1)});
        Seat seat = pool.take(anybody).seat;
        std::optional<Waiting> line[3];
        for (auto& waiting : line) waiting.emplace(pool);
        CHECK(pool.admission().step_out(*line[gone]).is_full);
        line[gone].reset();
        CHECK(pool.admission().waiting() == 2);
        seat = Seat();
        for (auto& waiting : line)
            if (waiting) {
                CHECK(waiting->port() == 1);
                waiting->seat = Seat();
            }
        CHECK(pool.admission().sessions() == 0);
    }
}

TEST_CASE("a seat that was given to somebody who no longer wants it goes to the next") {
    Pool pool(Balance::round_robin, {member(1, 1)});
    Seat seat = pool.take(anybody).seat;
    std::optional<Waiting> first(std::in_place, pool);
    Waiting second(pool);
    seat = Seat();
    CHECK(first->is_woken);
    first.reset();
    CHECK(second.is_woken);
    CHECK(second.port() == 1);
}

TEST_CASE("when the last target goes down nobody waits any longer") {
    Member only = member(1, 1);
    Pool pool(Balance::round_robin, {only});
    Seat seat = pool.take(anybody).seat;
    Waiting first(pool), second(pool);
    only.target->set_up(false, {});
    pool.admission().look_again();
    CHECK(first.is_woken);
    CHECK(first.port() == 0);
    CHECK(second.port() == 0);
}

TEST_CASE("those who wait get what a raised limit, or a target that comes up, has for them") {
    Member a = member(1, 1), b = member(2, 1);
    b.target->set_up(false, {});
    Pool pool(Balance::round_robin, {a, b});
    Seat seat = pool.take(anybody).seat;
    Waiting first(pool), second(pool), third(pool);
    a.target->sessions_max = 2;
    pool.admission().look_again();
    CHECK(first.is_woken);
    CHECK_FALSE(second.is_woken);
    b.target->set_up(true, {});
    pool.admission().look_again();
    CHECK(second.is_woken);
    CHECK(second.port() == 2);
    CHECK_FALSE(third.is_woken);
}

TEST_CASE("those who came before a reload and those who came after share one line") {
    Member a = member(1, 1), b = member(2, 1);
    Pool before(Balance::round_robin, {a});
    Pool after(Balance::round_robin, {a, b}, before.shared_admission());
    Seat seat = before.take(anybody).seat;
    Waiting old(before);
    Waiting young(after);
    CHECK_FALSE(old.is_woken);
    CHECK(young.is_woken);  // it may have b, which the other does not know
    CHECK(young.port() == 2);
    Waiting younger(after), old_too(before);
    seat = Seat();
    CHECK(old.is_woken);
    CHECK_FALSE(younger.is_woken);
    CHECK_FALSE(old_too.is_woken);
}

TEST_CASE("when the last from before a reload has gone, the line is not walked whole any longer") {
    Member a = member(1, 1);
    Pool before(Balance::round_robin, {a});
    Pool after(Balance::round_robin, {a}, before.shared_admission());
    Seat seat = before.take(anybody).seat;
    std::optional<Waiting> old(std::in_place, before);
    std::list<Waiting> line;
    for (int i = 0; i < 5'000; ++i) line.emplace_back(after, anybody, 100'000);

    // What it takes when nothing else happens on this host.
    auto time_of_a_look = [&] {
        auto least = std::chrono::nanoseconds::max();
        for (int i = 0; i < 20; ++i) {
            const auto start = std::chrono::steady_clock::now();
            after.admission().look_again();
            least =
                std::min<std::chrono::nanoseconds>(least, std::chrono::steady_clock::now() - start);
        }
        return least;
    };
    const auto both = time_of_a_look();
    old.reset();
    const auto one = time_of_a_look();
    INFO(both.count() << " ns, " << one.count() << " ns");
    CHECK(one * 10 < both);
    // And nobody is forgotten.
    seat = Seat();
    CHECK(line.front().is_woken);
    CHECK_FALSE(line.back().is_woken);
}

namespace {

/// Takes a seat, waiting for it as long as it takes; none when the line is full.
Seat seat_of(const Pool& pool) {
    struct Sleeper : balance::Waiter {
        void wake() override {
            std::lock_guard guard(lock);
            woken = true;
            bell.notify_one();
        }
        std::mutex lock;
        std::condition_variable bell;
        bool woken = false;
    };
    Choice choice = pool.take(anybody);
    if (choice.seat) return std::move(choice.seat);
    Sleeper sleeper;
    if (!pool.admission().line_up(sleeper, pool, anybody, 1000)) return {};
    {
        std::unique_lock lock(sleeper.lock);
        sleeper.bell.wait(lock, [&] { return sleeper.woken; });
    }
    return pool.admission().step_out(sleeper).seat;
}

}  // namespace

TEST_CASE("limits are exact over all workers, and nobody is forgotten in the line") {
    struct Row {
        uint32_t of_a, of_b, of_all;
    };
    for (auto [of_a, of_b, of_all] : {Row{1, 0, 1}, Row{1, 1, 0}, Row{1, 2, 2}, Row{0, 0, 3}}) {
        INFO(of_a << " " << of_b << " " << of_all);
        Pool pool(Balance::round_robin, {member(1, of_a), member(2, of_b)});
        pool.admission().set_sessions_max(of_all);
        std::atomic<int> here[3] = {}, most[3] = {};
        std::atomic<int> served = 0;
        std::vector<std::thread> threads;
        for (int i = 0; i < 6; ++i)
            threads.emplace_back([&] {
                for (int round = 0; round < 3000; ++round) {
                    Seat seat = seat_of(pool);
                    if (!seat) return;  // Catch counts in one thread: `served` will tell
                    for (int which : {0, static_cast<int>(seat.target().port.value)}) {
                        int now = ++here[which], before = most[which];
                        while (now > before && !most[which].compare_exchange_weak(before, now)) {
                        }
                    }
                    if (round % 64 == 0) std::this_thread::yield();
                    for (int which : {0, static_cast<int>(seat.target().port.value)}) --here[which];
                    ++served;
                }
            });
        for (auto& thread : threads) thread.join();
        CHECK(served == 6 * 3000);
        if (of_all) CHECK(most[0] <= static_cast<int>(of_all));
        if (of_a) CHECK(most[1] <= static_cast<int>(of_a));
        if (of_b) CHECK(most[2] <= static_cast<int>(of_b));
        CHECK(pool.admission().sessions() == 0);
        CHECK(pool.admission().waiting() == 0);
        CHECK(pool.targets()[0]->sessions == 0);
        CHECK(pool.targets()[1]->sessions == 0);
    }
}
