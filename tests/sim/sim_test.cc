// SPDX-License-Identifier: Apache-2.0
// Whole sessions on a make-believe network. A seed that fails is named; `./dev sim SEED` tells its
// story.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <numeric>

#include "base/format.h"
#include "sim/scenario.h"
#include "support/catch.h"

using namespace proxify;
using namespace proxify::test;
using io::sim::Door;
using io::sim::Random;
using io::sim::Script;

namespace {

/// One service on port 5000, one target that says as much as it hears, and so many clients at once.
Plan plain_plan(size_t clients, const Script& client) {
    Plan plan;
    plan.seed = 1;
    const Ip ip = Ip::v4(10, 0, 0, 1);
    config::Service service;
    service.name = "web";
    service.ports = {{5000, 5000}};
    service.targets = {{.text = "10.0.0.1:9000",
                        .host = "10.0.0.1",
                        .ip = ip,
                        .port = {config::TargetPort::Kind::fixed, 9000}}};
    service.health.enabled = false;
    plan.config.services = {service};
    plan.targets[ip].script = [](Random&) {
        return Script{.says = Script::unlimited, .echoes = true};
    };
    plan.clients.assign(clients, {.when = 1ms, .port = 5000, .script = client});
    return plan;
}

void nothing_is_lost(const Outcome& outcome) {
    for (const auto& problem : outcome.problems) {
        INFO(problem);
        CHECK(outcome.problems.empty());
    }
}

/// One client every millisecond, each of which stays for 20 ms, and so many seats.
Plan crowded_plan(size_t clients, int seats) {
    Plan plan = plain_plan(clients, {.says = 100, .ends = Script::Ends::after_peer});
    plan.targets.begin()->second.script = [](Random&) {
        return Script{.says = 100, .first_pause = 20ms};
    };
    for (size_t i = 0; i < clients; ++i) plan.clients[i].when = i * 1ms;
    plan.config.services[0].targets[0].max_connections = seats;
    plan.config.services[0].queue = {.size = 1000, .timeout = 1h};
    return plan;
}

}  // namespace

TEST_CASE("10 000 seeds of make-believe network end with nothing lost") {
    std::string failed;
    size_t sessions = 0, normal = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (uint64_t seed = 1; seed <= 10'000; ++seed) {
        Outcome outcome = run(Plan::drawn(seed));
        sessions += outcome.records.size();
        normal += outcome.count("--");
        if (outcome.problems.empty()) continue;
        failed += format("{}\n  replay: ./dev sim {}\n", outcome.problems.front(), seed);
        if (failed.size() > 4000) break;
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::cout << format("{} sessions in {:.1f} s\n", sessions, took.count());
    INFO(failed);
    CHECK(failed.empty());
    // The troubles are to be survived, not to keep anybody from getting anywhere.
    CHECK(normal * 3 > sessions);
}

TEST_CASE("a seed tells the same story each time") {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        INFO("seed " << seed);
        Outcome first = run(Plan::drawn(seed));
        std::vector<std::vector<char>> other_places;  // pointers differ the second time
        for (size_t size = 16; size < 4096; size += 48) other_places.emplace_back(size);
        Outcome second = run(Plan::drawn(seed));
        CHECK(first.digest == second.digest);
        CHECK(first.turns == second.turns);
    }
}

TEST_CASE("two buffers, often none, serve forty clients") {
    Plan plan = plain_plan(40, {.says = 20'000});
    plan.ring.buffers = 2;
    plan.faults.no_buffers = 0.4;
    plan.faults.late = 0.5;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("--") == 40);
    CHECK(outcome.bytes == 40 * 2 * 20'000);
}

TEST_CASE("clients that cannot be accepted for want of descriptors are served later") {
    Plan plan = plain_plan(40, {.says = 100});
    plan.faults.no_accept = 0.8;
    plan.drain_at = 60s;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("--") == 40);
}

TEST_CASE("clients that wait in the queue when a drain begins are served") {
    Plan plan = plain_plan(40, {.says = 100});
    plan.faults.no_accept = 0.8;
    plan.drain_at = 1ms + 200us;
    plan.config.drain = 60s;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("--") == 40);
}

TEST_CASE("no session outlives a drain, not even one that begins in it") {
    Plan plan = plain_plan(40, {.says = 100, .ends = Script::Ends::never});
    plan.shares.sessions_max = 1;
    plan.drain_at = 10ms;
    plan.config.drain = 1s;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("OD") + outcome.count("OC") == 40);
}

TEST_CASE("a listener that changes hands keeps the clients in its queue") {
    for (bool steered : {false, true}) {
        Plan plan = plain_plan(40, {.says = 2000});
        plan.steered = steered;
        plan.shares.sessions_max = 2;  // the others wait in the queue
        for (int i = 0; i < 50; ++i) plan.handovers.push_back(i * 100us);
        Outcome outcome = run(plan);
        nothing_is_lost(outcome);
        CHECK(outcome.count("--") == 40);
    }
}

TEST_CASE("a client that never reads costs the others nothing") {
    Plan plan = plain_plan(20, {.says = 20'000});
    const Script deaf{.says = 200'000, .hears = 0, .step = 16'384, .window = 16'384};
    plan.clients.front().script = deaf;
    plan.ring.buffers = 2;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("--") == 19);
    CHECK(outcome.count("OD") == 1);
    auto slowest = std::ranges::max(outcome.records, {}, [](const auto& record) {
        return record.ending.is_normal() ? record.duration : Duration(0);
    });
    CHECK(slowest.duration < 1s);
}

TEST_CASE("every completion may be late and overtake others") {
    Plan plan = plain_plan(40, {.says = 20'000});
    plan.faults.late = 1;
    plan.faults.late_max = 5ms;
    plan.faults.short_receive = plan.faults.short_send = 0.5;
    plan.faults.cancel_loses = 0.5;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("--") == 40);
}

TEST_CASE("bulk in pipes leaves the buffers to others") {
    Plan plan =
        plain_plan(12, {.says = 3'000'000, .step = 180'000, .pace = 100ms, .window = 200'000});
    for (size_t i = 0; i < 6; ++i)
        plan.clients[i] = {.when = 400ms, .port = 5000, .script = {.says = 2'000}};
    plan.shares.pipes_max = 4;
    plan.ring.buffers = 4;
    plan.ring.buffer_size = 16'384;
    plan.targets.begin()->second.script = [](Random&) {
        return Script{.step = 65'536, .window = 200'000};
    };
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("--") == 12);
    for (const auto& record : outcome.records)
        if (record.to_target == 2'000) CHECK(record.duration < 50ms);
}

TEST_CASE("bulk that went through a pipe ends with a reset where its source did") {
    size_t reset = 0;
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        Plan plan = plain_plan(
            4, {.says = 900'000, .resets_after = 700'000, .step = 65'536, .window = 200'000});
        plan.seed = seed;
        plan.shares.pipes_max = 2;
        plan.ring.buffer_size = 16'384;
        plan.targets.begin()->second.script = [](Random&) {
            return Script{.step = 65'536, .window = 200'000};
        };
        Outcome outcome = run(plan);
        INFO("seed " << seed);
        nothing_is_lost(outcome);
        reset += outcome.count("CD") + outcome.count("CL");
    }
    CHECK(reset == 20 * 4);
}

TEST_CASE("clients wait in line for room at a target, and are served in the order of coming") {
    for (bool by_service : {false, true}) {
        Plan plan = crowded_plan(40, 2);
        if (by_service) {
            plan.config.services[0].targets[0].max_connections = 0;
            plan.config.services[0].max_connections = 2;
        }
        Outcome outcome = run(plan);
        nothing_is_lost(outcome);
        CHECK(outcome.count("--") == 40);
        CHECK(outcome.joined_max == 2);
        // Two at a time, for 20 ms each: the last one has waited for 19 rounds.
        auto last =
            std::ranges::max(outcome.records, {}, [](const auto& record) { return record.id; });
        CHECK(last.duration > 300ms);
        CHECK(last.duration < 500ms);
        for (size_t i = 2; i < outcome.records.size(); ++i)
            CHECK(outcome.records[i].id > outcome.records[i - 2].id);
    }
}

TEST_CASE("a queue that is full refuses at once, and one that is slow refuses in time") {
    Plan plan = crowded_plan(40, 1);
    plan.config.services[0].queue = {.size = 3, .timeout = 30ms};
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("RQ") > 20);
    CHECK(outcome.count("tQ") >= 2);
    CHECK(outcome.count("--") + outcome.count("RQ") + outcome.count("tQ") == 40);
    for (const auto& record : outcome.records) {
        if (record.ending.letters() == "RQ") CHECK(record.duration < 1ms);
        if (record.ending.letters() == "tQ") CHECK(record.duration < 35ms);
    }
}

TEST_CASE("a client that resets its connection leaves the line soon") {
    Plan plan = crowded_plan(3, 1);
    plan.targets.begin()->second.script = [](Random&) {
        return Script{.says = 100, .first_pause = 3s};
    };
    plan.clients[1].script.resets_in = 100ms;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("CQ") == 1);
    CHECK(outcome.count("--") == 2);
    for (const auto& record : outcome.records)
        if (record.ending.letters() == "CQ") CHECK(record.duration < 700ms);
}

TEST_CASE("time in line is not taken from the time for connecting") {
    Plan plan = crowded_plan(20, 1);
    plan.config.services[0].timeouts.connect = 30ms;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("--") == 20);
}

TEST_CASE("a reload that raises a limit is felt by those in line") {
    for (bool by_service : {false, true}) {
        Plan plan = crowded_plan(10, 1);
        auto& service = plan.config.services[0];
        if (by_service) {
            service.targets[0].max_connections = 0;
            service.max_connections = 1;
        }
        plan.targets.begin()->second.script = [](Random&) {
            return Script{.says = 100, .first_pause = 1s};
        };
        auto raised = plan.config;
        raised.services[0].targets[0].max_connections = 0;
        raised.services[0].max_connections = 0;
        plan.reloads = {{100ms, raised}};
        Outcome outcome = run(plan);
        nothing_is_lost(outcome);
        CHECK(outcome.count("--") == 10);
        for (const auto& record : outcome.records) CHECK(record.duration < 1200ms);
    }
}

TEST_CASE("a drain ends the wait of those in line when its deadline has passed") {
    Plan plan = crowded_plan(10, 1);
    plan.targets.begin()->second.script = [](Random&) {
        return Script{.says = 100, .first_pause = 1h};
    };
    plan.drain_at = 100ms;
    plan.config.drain = 1s;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("OQ") == 9);
    CHECK(outcome.count("OD") == 1);
}

TEST_CASE("who waits when the last target goes down is refused at once") {
    Plan plan = crowded_plan(10, 1);
    plan.targets.begin()->second.script = [](Random&) {
        return Script{.says = 100, .first_pause = 1s};
    };
    plan.states = {{50ms, 0, false}};
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("TQ") == 9);
    CHECK(outcome.count("--") == 1);
    for (const auto& record : outcome.records)
        if (record.ending.letters() == "TQ") CHECK(record.duration < 60ms);
}

namespace {

/// Three targets on 10.0.0.1 and up, checked every 50 ms, with room for two sessions each.
Plan checked_plan(size_t clients, Duration between) {
    Plan plan = crowded_plan(clients, 2);
    for (size_t i = 0; i < clients; ++i) plan.clients[i].when = i * between;
    auto& service = plan.config.services[0];
    service.health = {
        .enabled = true, .interval = 50ms, .timeout = 20ms, .rise = 1, .fall = 2, .port = {}};
    for (uint8_t i : {2, 3}) {
        auto target = service.targets[0];
        target.ip = Ip::v4(10, 0, 0, i);
        target.host = target.ip->text();
        target.text = target.host + ":9000";
        service.targets.push_back(target);
        plan.targets[*target.ip] = plan.targets[Ip::v4(10, 0, 0, 1)];
    }
    return plan;
}

}  // namespace

TEST_CASE("targets that flap lose no seat and forget nobody in line") {
    for (uint64_t seed = 1; seed <= 50; ++seed) {
        INFO("seed " << seed);
        Plan plan = checked_plan(300, 10ms);
        plan.seed = seed;
        Random dice(seed);
        auto& service = plan.config.services[0];
        service.slow_start = seed % 2 ? 500ms : 0ms;
        service.on_down = seed % 3 ? config::OnDown::keep : config::OnDown::reset;
        service.max_connections = seed % 5 ? 0 : 3;
        service.panic = seed % 7 ? 0 : 70;
        service.ejection = {.early_resets = 5, .time = 50ms, .max_time = 500ms};
        service.queue.timeout = 1s;
        for (Duration when = 0ms; when < 3s; when += 40ms)
            plan.answers.push_back(
                {when, Ip::v4(10, 0, 0, static_cast<uint8_t>(dice.between(1, 3))),
                 dice.chance(0.5) ? Door::Answer::accepts : Door::Answer::refuses});
        for (uint8_t i : {1, 2, 3})
            plan.answers.push_back({3s, Ip::v4(10, 0, 0, i), Door::Answer::accepts});
        plan.clients.push_back({.when = 8s, .port = 5000, .script = plan.clients[0].script});
        Outcome outcome = run(plan);
        nothing_is_lost(outcome);
        CHECK(outcome.count("--") > 50);
        // Who comes when all is well again is served.
        auto last =
            std::ranges::max(outcome.records, {}, [](const auto& record) { return record.id; });
        CHECK(last.ending.is_normal());
        CHECK(last.duration < 50ms);
    }
}

TEST_CASE("when all targets go down at once nobody waits for them, and they are used when back") {
    for (auto on_down : {config::OnDown::keep, config::OnDown::reset}) {
        Plan plan = checked_plan(20, 1ms);
        for (auto& [ip, door] : plan.targets) {
            door.script = [](Random&) { return Script{.says = 100, .first_pause = 2s}; };
            plan.answers.push_back({500ms, ip, Door::Answer::refuses});
            plan.answers.push_back({1s, ip, Door::Answer::accepts});
        }
        plan.config.services[0].on_down = on_down;
        plan.clients.push_back({.when = 800ms, .port = 5000, .script = plan.clients[0].script});
        plan.clients.push_back({.when = 3s, .port = 5000, .script = plan.clients[0].script});
        Outcome outcome = run(plan);
        nothing_is_lost(outcome);
        const bool resets = on_down == config::OnDown::reset;
        CHECK(outcome.count("TQ") == 15);  // 14 in line, and who came at 800 ms
        CHECK(outcome.count("TD") == (resets ? 6 : 0));
        CHECK(outcome.count("--") == (resets ? 1 : 7));
        for (const auto& record : outcome.records) {
            if (record.ending.letters() == "TD") {
                CHECK(record.ending.reason == std::string("the target is down"));
                CHECK(record.duration < 800ms);
            }
            if (record.ending.letters() == "TQ") CHECK(record.duration < 800ms);
        }
    }
}

TEST_CASE("a reload in the middle serves those in line, by the targets that they came for") {
    for (uint64_t seed = 1; seed <= 50; ++seed) {
        INFO("seed " << seed);
        Plan plan = checked_plan(100, 1ms);
        plan.seed = seed;
        Random dice(seed);
        auto config = plan.config;
        for (Duration when = 5ms; when < 400ms; when += 7ms) {
            auto& service = config.services[0];
            for (auto& target : service.targets)
                target.max_connections = static_cast<int>(dice.below(4));
            service.max_connections = static_cast<int>(dice.below(6));
            if (dice.chance(0.3)) std::ranges::reverse(service.targets);
            if (dice.chance(0.3) && service.targets.size() > 1)
                service.targets.pop_back();
            else if (dice.chance(0.5))
                service.targets = plan.config.services[0].targets;
            plan.reloads.push_back({when, config});
        }
        Outcome outcome = run(plan);
        nothing_is_lost(outcome);
        CHECK(outcome.count("--") == 100);
    }
}

TEST_CASE("a service that leaves the file serves those who wait in its line") {
    Plan plan = crowded_plan(20, 1);
    auto other = plan.config;
    other.services[0].name = "other";
    other.services[0].ports = {{5001, 5001}};
    plan.reloads = {{50ms, other}};
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("--") == 20);
}

TEST_CASE("a target that resets connections without a word is soon left alone") {
    Plan plan = checked_plan(200, 5ms);
    plan.targets[Ip::v4(10, 0, 0, 2)].script = [](Random&) {
        return Script{.ends = Script::Ends::never, .resets_in = 1ms};
    };
    for (auto& target : plan.config.services[0].targets) target.max_connections = 0;
    plan.config.services[0].ejection.early_resets = 5;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    CHECK(outcome.count("TD") + outcome.count("TL") == 5);
    CHECK(outcome.count("--") == 195);

    plan.config.services[0].ejection.enabled = false;
    outcome = run(plan);
    CHECK(outcome.count("TD") + outcome.count("TL") > 60);
}

// Statistics. That they agree with the records is asked of every run; here the traffic is known.

namespace {

const routing::Service& web(const routing::Snapshot& snapshot) {
    return *snapshot.services()[1];
}

uint64_t sum(const std::vector<uint64_t>& counts) {
    return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

/// A second target, at 10.0.0.2, which answers in this way.
void add_target(Plan& plan, Door::Answer answer) {
    auto target = plan.config.services[0].targets[0];
    target.ip = Ip::v4(10, 0, 0, 2);
    target.host = target.ip->text();
    target.text = target.host + ":9000";
    plan.config.services[0].targets.push_back(target);
    plan.targets[*target.ip] = {.answer = answer, .script = plan.targets.begin()->second.script};
}

}  // namespace

TEST_CASE("forty clients of 20 000 bytes are counted as such, and one target that fails as well") {
    for (auto answer : {Door::Answer::refuses, Door::Answer::unreachable, Door::Answer::silent}) {
        Plan plan = plain_plan(40, {.says = 20'000});
        add_target(plan, answer);
        plan.config.services[0].ejection.enabled = false;
        plan.config.services[0].count_ports = true;
        plan.config.services[0].timeouts.connect = 1s;
        Outcome outcome = run(plan);
        nothing_is_lost(outcome);
        uint64_t tried = 0;
        Duration longest{};
        for (const auto& record : outcome.records) {
            tried += static_cast<uint64_t>(record.tried);
            longest = std::max(longest, record.duration);
        }
        REQUIRE(tried > 40);

        const auto& service = web(*outcome.snapshot);
        const auto& stats = *service.stats;
        CHECK(stats.sessions.value() == 40);
        CHECK(stats.bytes.to_target.value() == 40 * 20'000);
        CHECK(stats.bytes.to_client.value() == 40 * 20'000);
        auto endings = stats.endings.list();
        REQUIRE(endings.size() == 1);
        CHECK(endings[0].letters == "--");
        CHECK(endings[0].value == 40);
        CHECK(sum(stats.connects.counts()) == 40);
        CHECK(stats.connects.seconds() > 0);
        CHECK(stats.connects.seconds() < 40 * 0.05);  // failures are not in it
        CHECK(stats.durations.seconds() > stats.connects.seconds());
        CHECK(stats.durations.seconds() <=
              40 * std::chrono::duration<double>(longest).count() + 40e-6);

        const auto& good = service.pool.targets()[0]->stats;
        CHECK(good.connects.count.value() == 40);
        CHECK(good.connects.sum.seconds() == Approx(stats.connects.seconds()).margin(40e-6));
        CHECK(good.bytes.to_client.value() == 40 * 20'000);
        CHECK(good.refused.value() + good.timed_out.value() + good.unreachable.value() == 0);

        const auto& bad = service.pool.targets()[1]->stats;
        CHECK(bad.refused.value() == (answer == Door::Answer::refuses ? tried - 40 : 0));
        CHECK(bad.unreachable.value() == (answer == Door::Answer::unreachable ? tried - 40 : 0));
        CHECK(bad.timed_out.value() == (answer == Door::Answer::silent ? tried - 40 : 0));
        CHECK(bad.connects.count.value() == 0);

        const auto& port = service.port_stats->at(5000);
        CHECK(port.sessions.value() == 40);
        CHECK(port.failed.value() == 0);
        CHECK(port.connects.count.value() == 40);
        CHECK(port.bytes.to_target.value() == 40 * 20'000);
    }
}

TEST_CASE("clients who reach no target are counted with their port, and have no time to connect") {
    Plan plan = plain_plan(40, {.says = 20'000});
    plan.targets.begin()->second.answer = Door::Answer::refuses;
    plan.config.services[0].ejection.enabled = false;
    plan.config.services[0].count_ports = true;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    const auto& service = web(*outcome.snapshot);
    auto endings = service.stats->endings.list();
    REQUIRE(endings.size() == 1);
    CHECK(endings[0].letters == "TC");
    CHECK(endings[0].reason == "refused");
    CHECK(endings[0].value == 40);
    CHECK(sum(service.stats->connects.counts()) == 0);
    CHECK(sum(service.stats->durations.counts()) == 40);
    CHECK(service.port_stats->at(5000).failed.value() == 40);
    CHECK(service.pool.targets()[0]->stats.refused.value() == 40);
}

TEST_CASE("a client who dialled what no service has is counted without one") {
    Plan plan = plain_plan(3, {.says = 100});
    plan.steered = true;
    plan.added_by_hand = {6000};
    plan.clients.push_back({.when = 1ms, .port = 6000, .script = {.says = 100}});
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    const auto& unserved = *outcome.snapshot->unserved();
    CHECK(unserved.sessions.value() == 1);
    auto endings = unserved.endings.list();
    REQUIRE(endings.size() == 1);
    CHECK(endings[0].letters == "PN");
    CHECK(web(*outcome.snapshot).stats->sessions.value() == 3);
}

TEST_CASE("the bytes of a session show while it goes on, all but the last MiB, and once") {
    for (size_t pipes : {0u, 2u}) {
        constexpr uint64_t all = 5'500'000;
        Plan plan = plain_plan(
            1, {.says = all, .ends = Script::Ends::never, .step = 65'536, .window = 200'000});
        plan.targets.begin()->second.script = [](Random&) {
            return Script{
                .says = Script::unlimited, .echoes = true, .step = 65'536, .window = 200'000};
        };
        plan.shares.pipes_max = pipes;
        plan.config.drain = 1s;
        uint64_t to_target = 0, to_client = 0;
        plan.looks = {{9s, [&](const routing::Snapshot& snapshot) {
                           to_target = web(snapshot).stats->bytes.to_target.value();
                           to_client = web(snapshot).stats->bytes.to_client.value();
                       }}};
        Outcome outcome = run(plan);
        nothing_is_lost(outcome);
        REQUIRE(outcome.records.size() == 1);
        CHECK(outcome.records[0].to_target == all);
        CHECK(to_target > all - (1 << 20));
        CHECK(to_client > all - (1 << 20));
        CHECK(to_target + to_client < 2 * all);
        CHECK(web(*outcome.snapshot).stats->bytes.to_target.value() == all);
        CHECK(web(*outcome.snapshot).stats->bytes.to_client.value() == all);
    }
}

TEST_CASE("every wait in line is counted, with what it took") {
    Plan plan = crowded_plan(40, 1);
    plan.config.services[0].queue = {.size = 3, .timeout = 30ms};
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    uint64_t waited = 0;
    Duration queued{};
    for (const auto& record : outcome.records) {
        waited += record.queued > 0s;
        queued += record.queued;
    }
    const auto& waits = web(*outcome.snapshot).stats->waits;
    CHECK(waited >= 3);
    CHECK(sum(waits.counts()) == waited);
    CHECK(waits.seconds() == Approx(std::chrono::duration<double>(queued).count()).margin(40e-6));
}

TEST_CASE("checks are counted by what they found, early resets and ejections at their target") {
    Plan plan = checked_plan(200, 5ms);
    plan.targets[Ip::v4(10, 0, 0, 2)].script = [](Random&) {
        return Script{.ends = Script::Ends::never, .resets_in = 1ms};
    };
    plan.targets[Ip::v4(10, 0, 0, 3)].answer = Door::Answer::refuses;
    for (auto& target : plan.config.services[0].targets) target.max_connections = 0;
    plan.config.services[0].ejection.early_resets = 5;
    Outcome outcome = run(plan);
    nothing_is_lost(outcome);
    const auto targets = web(*outcome.snapshot).pool.targets();
    CHECK(targets[0]->stats.good_checks.value() > 10);
    CHECK(targets[0]->stats.bad_checks.value() == 0);
    CHECK(targets[1]->stats.early_resets.value() == outcome.count("TD") + outcome.count("TL"));
    CHECK(targets[1]->stats.early_resets.value() >= 5);
    CHECK(targets[1]->stats.ejections.value() >= 1);
    CHECK(targets[2]->stats.good_checks.value() == 0);
    CHECK(targets[2]->stats.bad_checks.value() > 10);
}
