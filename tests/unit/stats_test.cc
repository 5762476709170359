// SPDX-License-Identifier: Apache-2.0
#include <barrier>
#include <cerrno>
#include <deque>
#include <latch>
#include <map>
#include <numeric>
#include <thread>

#include "base/format.h"
#include "stats/ports.h"
#include "stats/service.h"
#include "stats/target.h"
#include "support/catch.h"

using namespace proxify;
using namespace proxify::stats;

namespace {

uint64_t sum(const std::vector<uint64_t>& counts) {
    return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

/// `work(number)` on several threads that begin together.
template <class Work>
void all_at_once(int threads, Work work) {
    std::latch begin(threads);
    std::vector<std::jthread> running;
    for (int i = 0; i < threads; ++i)
        running.emplace_back([&, i] {
            begin.arrive_and_wait();
            work(i);
        });
}

}  // namespace

TEST_CASE("a duration falls into the first bucket whose bound it does not exceed") {
    static constexpr std::array<Duration, 3> bounds{1ms, 10ms, 1s};
    struct Row {
        Duration duration;
        size_t bucket;
    };
    for (auto [duration, bucket] :
         {Row{0ns, 0}, Row{1ms - 1ns, 0}, Row{1ms, 0}, Row{1ms + 1ns, 1}, Row{10ms, 1},
          Row{10ms + 1ns, 2}, Row{1s, 2}, Row{1s + 1ns, 3}, Row{1000h, 3}, Row{-1ms, 0}}) {
        Histogram histogram(bounds);
        histogram.add(duration);
        INFO(to_text(duration));
        std::vector<uint64_t> expected(4, 0);
        expected[bucket] = 1;
        CHECK(histogram.counts() == expected);
    }
}

TEST_CASE(
    "a sum of durations is right to the microsecond, and a clock that went back adds nothing") {
    TimeSum sum;
    sum.add(1500ms);
    sum.add(250us);
    sum.add(600ns);  // rounded
    sum.add(400ns);
    sum.add(-1h);
    CHECK(sum.seconds() == Approx(1.500251).epsilon(1e-12));
}

TEST_CASE("100 000 sessions at a time may go on for a year before a sum of durations is full") {
    TimeSum sum;
    for (int i = 0; i < 100'000; ++i) sum.add(24h * 365);
    CHECK(sum.seconds() == Approx(100'000.0 * 24 * 365 * 3600));
}

TEST_CASE("endings are told apart by their letters and their reason, wherever its words stand") {
    Endings endings;
    const std::string copy = "refused";  // the same words at another place
    endings.add({Party::target, Stage::connect, "refused", ECONNREFUSED});
    endings.add({Party::target, Stage::connect, copy.c_str(), 0});
    endings.add({Party::policy, Stage::connect, "refused", 0});
    endings.add({Party::target, Stage::connect, "no answer", 0});
    endings.add({});
    std::map<std::string, uint64_t> found;
    for (const auto& [letters, reason, count] : endings.list())
        found[format("{} {}", letters, reason)] = count;
    CHECK(found == std::map<std::string, uint64_t>{
                       {"TC refused", 2}, {"PC refused", 1}, {"TC no answer", 1}, {"-- done", 1}});
}

TEST_CASE("the same words take one place, wherever they stand") {
    std::deque<std::string> copies(Endings::size_max + 10, "refused");
    Endings endings;
    for (const auto& copy : copies) endings.add({Party::target, Stage::connect, copy.c_str()});
    auto list = endings.list();
    REQUIRE(list.size() == 1);
    CHECK(list[0].letters == "TC");
    CHECK(list[0].value == copies.size());
}

TEST_CASE("more kinds of endings than there are places are counted without a name") {
    std::vector<std::string> reasons;
    for (size_t i = 0; i < Endings::size_max + 10; ++i) reasons.push_back(std::to_string(i));
    Endings endings;
    for (const auto& reason : reasons)
        for (int i = 0; i < 3; ++i) endings.add({Party::policy, Stage::accept, reason.c_str()});
    auto list = endings.list();
    REQUIRE(list.size() == Endings::size_max + 1);
    for (size_t i = 0; i < Endings::size_max; ++i) {
        CHECK(list[i].reason == reasons[i]);
        CHECK(list[i].value == 3);
    }
    CHECK(list.back().letters == "");
    CHECK(list.back().reason == "other");
    CHECK(list.back().value == 30);
}

TEST_CASE("threads that count at once lose nothing") {
    constexpr int threads = 8, times = 20'000;
    for (int round = 0; round < 20; ++round) {
        Service service;
        Ports ports;
        all_at_once(threads, [&](int number) {
            const Meter meter{.service = &service.bytes, .port = &ports.at(443).bytes};
            for (int i = 0; i < times / 20; ++i) {
                service.sessions.add();
                // All of them, so that places are fought for.
                for (const char* reason : {"one", "two", "three", "four"})
                    service.endings.add({Party::client, Stage::data, reason});
                service.durations.add(std::chrono::milliseconds(number));
                meter.add(3, 5);
                ports.at(static_cast<uint16_t>(i)).sessions.add();
            }
        });
        const uint64_t all = threads * times / 20;
        CHECK(service.sessions.value() == all);
        CHECK(sum(service.durations.counts()) == all);
        CHECK(service.durations.seconds() == Approx(0.001 * 28 * times / 20));
        CHECK(service.bytes.to_target.value() == 3 * all);
        CHECK(service.bytes.to_client.value() == 5 * all);
        CHECK(ports.at(443).bytes.to_client.value() == 5 * all);
        auto endings = service.endings.list();
        CHECK(endings.size() == 4);
        for (const auto& ending : endings) CHECK(ending.value == all);
        uint64_t sessions = 0;
        ports.for_each([&](uint16_t, const Port& port) { sessions += port.sessions.value(); });
        CHECK(sessions == all);
    }
}

TEST_CASE("who is the first of its kind at the same moment as another loses nothing either") {
    constexpr int threads = 4, rounds = 3000;
    struct Round {
        Ports ports;
        Endings endings;
    };
    constexpr Party parties[threads]{Party::client, Party::target, Party::policy, Party::operator_};
    std::deque<Round> all(rounds);
    std::barrier begin(threads);
    all_at_once(threads, [&](int number) {
        for (Round& round : all) {
            begin.arrive_and_wait();
            round.ports.at(static_cast<uint16_t>(number)).sessions.add();
            round.endings.add({parties[number], Stage::data, "reset"});
        }
    });
    for (const Round& round : all) {
        int ports = 0;
        round.ports.for_each([&](uint16_t, const Port& port) {
            ++ports;
            CHECK(port.sessions.value() == 1);
        });
        CHECK(ports == threads);
        auto endings = round.endings.list();
        CHECK(endings.size() == threads);
        for (const auto& ending : endings) CHECK(ending.value == 1);
    }
}

TEST_CASE("every port has its own place, and only those that were used are shown") {
    Ports ports;
    for (int port = 0; port <= 65535; port += 255)
        ports.at(static_cast<uint16_t>(port)).sessions.add(static_cast<uint64_t>(port) + 1);
    ports.at(7).failed.add();  // has its memory, and had no session
    int expected = 0;
    ports.for_each([&](uint16_t port, const Port& counts) {
        CHECK(port == expected);
        CHECK(counts.sessions.value() == port + 1u);
        expected += 255;
    });
    CHECK(expected == 65535 + 255);
}

TEST_CASE("a failed connect is counted by what it was") {
    Target target;
    target.count_failed_connect(ECONNREFUSED);
    target.count_failed_connect(ETIMEDOUT);
    target.count_failed_connect(ETIMEDOUT);
    target.count_failed_connect(EHOSTUNREACH);
    target.count_failed_connect(ENETUNREACH);
    target.count_failed_connect(ECONNRESET);
    CHECK(target.refused.value() == 1);
    CHECK(target.timed_out.value() == 2);
    CHECK(target.unreachable.value() == 3);
}
