// SPDX-License-Identifier: Apache-2.0
// Health on a make-believe network, whose clock is the only one it knows.
#include "health/health.h"

#include "base/format.h"
#include "io/sim/world.h"
#include "support/catch.h"

using namespace proxify;
using balance::Target;
using balance::Trouble;
using health::Change;
using health::Penalty;
using io::sim::Door;

namespace {

class Journal : public telemetry::Journal {
  public:
    void session(telemetry::SessionRecord&&) override {}
    void write(telemetry::Level, const char* event, std::string message,
               std::vector<std::pair<const char*, std::string>>) override {
        events.push_back(event);
        messages.push_back(std::move(message));
    }
    std::vector<std::string> events, messages;
};

/// 10.0.0.1:80, 10.0.0.2:80 and so on, in one service called "web".
config::Service web(int targets) {
    config::Service service;
    service.name = "web";
    service.ports = {{5000, 5000}};
    service.ejection.early_resets = 5;
    for (int i = 1; i <= targets; ++i) {
        const Ip ip = Ip::v4(10, 0, 0, static_cast<uint8_t>(i));
        service.targets.push_back({.text = format("{}:80", ip.text()),
                                   .host = ip.text(),
                                   .ip = ip,
                                   .port = {config::TargetPort::Kind::fixed, 80}});
    }
    return service;
}

struct Fixture {
    explicit Fixture(const config::Service& service) {
        for (const auto& target : service.targets) {
            Door door;
            door.script = [](io::sim::Random&) { return io::sim::Script{}; };
            world.put_target(*target.ip, std::move(door));
        }
        follow(service);
    }

    void follow(const config::Service& service) {
        config::Config config;
        config.services = {service};
        snapshot = routing::Snapshot::build(config, {}, snapshot.get(), loop.now());
        health.follow(*snapshot);
    }

    const balance::Pool& pool() const { return snapshot->services()[1]->pool; }
    Target& target(size_t number) { return *pool().targets()[number - 1]; }
    Ip ip(int number) { return Ip::v4(10, 0, 0, static_cast<uint8_t>(number)); }

    /// As sessions report it: so many in a row, one after another.
    void trouble(size_t number, Trouble trouble, uint32_t times) {
        for (uint32_t i = 1; i <= times; ++i) health.suspect("web", &target(number), trouble, i);
    }
    std::string states() {
        std::string out;
        for (const auto& target : pool().targets())
            out += !target->up ? 'd' : target->ejected ? 'e' : target->available ? 'U' : '?';
        return out;
    }

    /// Does something at a moment of the world's.
    void at(Duration when, std::function<void()> act) {
        world.at(start + when, [this, act] { loop.post([act] { act(); }); });
    }
    void run_until(Duration when) {
        at(when, [this] {
            health.stop();
            loop.stop();
        });
        loop.run();
    }

    io::sim::World world{1, {}};
    io::Loop loop{*io::Ring::open({})};
    const Time start = loop.now();
    Journal journal;
    std::vector<std::string> changes, went_down;
    std::shared_ptr<const routing::Snapshot> snapshot;
    health::Health health{
        loop, journal, nullptr,
        [this](const routing::Service& service, const Target& target, Change change) {
            changes.push_back(
                format("{} {} {}", service.name, target.text, service.pool.any_available()));
            if (change == Change::down) went_down.push_back(target.text);
        }};
};

}  // namespace

TEST_CASE("whoever asks is told when a service has lost its last target, and when it has one") {
    Fixture fixture(web(2));
    auto answer = [&](int number, Door::Answer answer) {
        fixture.world.target(fixture.ip(number)).answer = answer;
    };
    fixture.at(10s, [&] { answer(1, Door::Answer::refuses); });
    fixture.at(30s, [&] { answer(2, Door::Answer::refuses); });
    fixture.at(50s, [&] { answer(1, Door::Answer::accepts); });
    fixture.run_until(80s);
    CHECK(fixture.changes == std::vector<std::string>{"web 10.0.0.1:80 true",
                                                      "web 10.0.0.2:80 false",
                                                      "web 10.0.0.1:80 true"});
    CHECK(fixture.journal.events ==
          std::vector<std::string>{"target_down", "target_down", "target_up"});
}

TEST_CASE("a target that is no longer checked is up, and that is a change as well") {
    auto service = web(1);
    Fixture fixture(service);
    fixture.at(10s, [&] { fixture.world.target(fixture.ip(1)).answer = Door::Answer::refuses; });
    fixture.at(30s, [&] {
        CHECK_FALSE(fixture.target(1).up);
        service.health.enabled = false;
        fixture.follow(service);
        CHECK(fixture.target(1).up);
    });
    fixture.run_until(40s);
    CHECK(fixture.changes ==
          std::vector<std::string>{"web 10.0.0.1:80 false", "web 10.0.0.1:80 true"});
}

TEST_CASE("a target that is to begin as down, and serves already, stays up through good checks") {
    auto service = web(1);
    service.health.enabled = false;
    Fixture fixture(service);
    fixture.at(10s, [&] {
        service.health.enabled = true;
        service.health.initially_up = false;
        fixture.follow(service);
    });
    fixture.at(30s, [&] {
        CHECK(fixture.states() == "U");
        const auto held = fixture.pool().targets()[0];  // as a session does
        auto without = service;
        without.targets.clear();
        fixture.follow(without);
        fixture.follow(service);
        CHECK(fixture.pool().targets()[0] == held);
    });
    fixture.at(50s, [&] {
        CHECK(fixture.journal.events == std::vector<std::string>{});
        fixture.world.target(fixture.ip(1)).answer = Door::Answer::refuses;
    });
    fixture.run_until(80s);
    CHECK(fixture.journal.events == std::vector<std::string>{"target_down"});
    CHECK(fixture.changes == std::vector<std::string>{"web 10.0.0.1:80 false"});
}

TEST_CASE("each ejection is longer than the one before, up to a limit, and time forgives") {
    const config::Ejection spec{.time = 10s, .max_time = 35s};
    Penalty penalty;
    Time now{1h};
    auto next = [&](Duration quiet) {
        now += quiet;
        Duration length = penalty.next(now, spec);
        now += length;  // it returns
        return length;
    };
    CHECK(next(0s) == 10s);
    CHECK(next(1s) == 20s);
    CHECK(next(9s) == 30s);
    CHECK(next(9s) == 35s);
    CHECK(next(9s) == 35s);
    CHECK(next(10s) == 35s);  // one step down, one step up
    CHECK(next(20s) == 30s);
    CHECK(next(20s) == 20s);
    CHECK(next(1h) == 10s);
    CHECK(penalty.times() == 1);
}

TEST_CASE("ejections that may last as long as the first all do") {
    const config::Ejection spec{.time = 10s, .max_time = 10s};
    Penalty penalty;
    CHECK(penalty.next(Time(0s), spec) == 10s);
    CHECK(penalty.next(Time(10s), spec) == 10s);
    CHECK(penalty.times() == 1);
}

TEST_CASE("only a share of the targets may be ejected") {
    struct Row {
        size_t out, all;
        int max_share;
        bool may;
    };
    for (auto [out, all, max_share, may] :
         {Row{0, 1, 50, false}, Row{0, 1, 100, true}, Row{0, 2, 50, true}, Row{1, 2, 50, false},
          Row{0, 3, 50, true}, Row{1, 3, 50, false}, Row{1, 4, 50, true}, Row{2, 4, 50, false},
          Row{0, 10, 9, false}, Row{0, 10, 10, true}, Row{9, 10, 100, true}})
        CHECK(health::may_eject(out, all, max_share) == may);
}

TEST_CASE("a target that resets connections without a word is ejected, for longer each time") {
    auto service = web(4);
    service.health.enabled = false;
    Fixture fixture(service);
    auto at = [&](Duration when, const std::string& states) {
        fixture.at(when, [&fixture, states] { CHECK(fixture.states() == states); });
    };
    fixture.at(1s, [&] {
        fixture.trouble(2, Trouble::early_reset, 4);
        CHECK(fixture.states() == "UUUU");
        fixture.trouble(2, Trouble::early_reset, 5);
        CHECK(fixture.states() == "UeUU");
        CHECK(fixture.target(2).up);
        fixture.target(2).early_resets = 5;
        fixture.trouble(2, Trouble::early_reset, 5);  // it is out already
    });
    at(10s + 999ms, "UeUU");
    at(11s + 1ms, "UUUU");
    fixture.at(12s, [&] {
        CHECK(fixture.target(2).early_resets == 0);
        fixture.trouble(2, Trouble::early_reset, 5);
    });
    at(31s + 999ms, "UeUU");
    at(32s + 1ms, "UUUU");
    fixture.run_until(40s);
    CHECK(
        fixture.journal.messages ==
        std::vector<std::string>{
            "target 10.0.0.2:80 of service web is ejected for 10s: it reset 5 connections in a row "
            "without a word",
            "target 10.0.0.2:80 of service web has returned: its time is over",
            "target 10.0.0.2:80 of service web is ejected for 20s: it reset 5 connections in a row "
            "without a word",
            "target 10.0.0.2:80 of service web has returned: its time is over"});
    CHECK(fixture.changes.size() == 4);
}

TEST_CASE("clients that cannot connect eject a target that is not checked, and not all of them") {
    auto service = web(3);
    service.health.enabled = false;
    Fixture fixture(service);
    fixture.at(1s, [&] {
        for (size_t number : {1, 2, 3}) fixture.trouble(number, Trouble::failed_connect, 5);
        CHECK(fixture.states() == "eUU");  // two of three are more than half
    });
    fixture.at(12s, [&] {
        fixture.trouble(2, Trouble::failed_connect, 10);  // the tenth in a row counts as the fifth
        CHECK(fixture.states() == "UeU");
    });
    fixture.run_until(13s);
}

TEST_CASE("clients that cannot connect bring a checked target down, until checks bring it back") {
    auto service = web(2);
    Fixture fixture(service);
    fixture.at(1s, [&] {
        fixture.trouble(1, Trouble::failed_connect, 3);
        CHECK(fixture.states() == "dU");
        CHECK_FALSE(fixture.target(1).ejected);
    });
    fixture.at(10s, [&] { CHECK(fixture.states() == "UU"); });
    fixture.run_until(11s);
    CHECK(fixture.journal.events == std::vector<std::string>{"target_down", "target_up"});
}

TEST_CASE("a checked target is ejected for its early resets, and checks do not bring it back") {
    auto service = web(2);
    Fixture fixture(service);
    fixture.at(1s, [&] { fixture.trouble(1, Trouble::early_reset, 5); });
    fixture.at(10s, [&] { CHECK(fixture.states() == "eU"); });
    fixture.at(12s, [&] { CHECK(fixture.states() == "UU"); });
    fixture.run_until(13s);
}

TEST_CASE("an ejection of a target that is down, and its end, are not told as going down") {
    auto service = web(1);
    service.ejection.max_share = 100;
    service.panic = 100;  // sessions get to it all the same
    Fixture fixture(service);
    fixture.at(1s, [&] { fixture.world.target(fixture.ip(1)).answer = Door::Answer::refuses; });
    fixture.at(20s, [&] {
        CHECK(fixture.states() == "d");
        CHECK(fixture.changes.size() == 1);
        fixture.trouble(1, Trouble::early_reset, 5);
        CHECK(fixture.changes.size() == 2);
    });
    fixture.run_until(40s);
    CHECK(fixture.changes.size() == 3);
    CHECK(fixture.journal.events.back() == std::string("target_returned"));
    CHECK(fixture.went_down == std::vector<std::string>{"10.0.0.1:80"});
}

TEST_CASE("early resets eject nobody unless the file says so") {
    auto service = web(2);
    service.ejection = {};
    Fixture fixture(service);
    fixture.at(1s, [&] {
        for (uint32_t i = 1; i <= 100; ++i) fixture.trouble(1, Trouble::early_reset, i);
        CHECK(fixture.states() == "UU");
    });
    fixture.run_until(2s);
}

TEST_CASE("nobody is ejected where the service does not want it, and a reload gives back at once") {
    auto service = web(2);
    service.health.enabled = false;
    Fixture fixture(service);
    fixture.at(1s, [&] {
        fixture.trouble(1, Trouble::early_reset, 5);
        CHECK(fixture.states() == "eU");
        service.max_connections = 7;
        fixture.follow(service);
        CHECK(fixture.states() == "eU");  // another change is no reason
        service.ejection.enabled = false;
        fixture.follow(service);
        CHECK(fixture.states() == "UU");
        fixture.trouble(1, Trouble::early_reset, 5);
        CHECK(fixture.states() == "UU");
    });
    fixture.run_until(30s);
    CHECK(fixture.journal.events == std::vector<std::string>{"target_ejected", "target_returned"});
}

TEST_CASE("a target that leaves the file while it is ejected is forgotten") {
    auto service = web(2);
    service.health.enabled = false;
    Fixture fixture(service);
    fixture.at(1s, [&] {
        fixture.trouble(2, Trouble::early_reset, 5);
        const Target* gone = &fixture.target(2);
        service.targets.pop_back();
        fixture.follow(service);
        fixture.health.suspect("web", gone, Trouble::early_reset, 5);
        fixture.health.suspect("mail", gone, Trouble::early_reset, 5);
    });
    fixture.run_until(30s);
    CHECK(fixture.journal.events == std::vector<std::string>{"target_ejected"});
}

TEST_CASE("a target that leaves while it is ejected takes part when it returns") {
    auto service = web(2);
    service.health.enabled = false;
    Fixture fixture(service);
    fixture.at(1s, [&] {
        const auto held = fixture.pool().targets()[1];  // as a session does
        held->early_resets = 5;
        held->failed_connects = 3;
        fixture.trouble(2, Trouble::early_reset, 5);
        CHECK(fixture.states() == "Ue");
        auto without = service;
        without.targets.pop_back();
        fixture.follow(without);
        fixture.follow(service);
        CHECK(fixture.pool().targets()[1] == held);
        CHECK(fixture.states() == "UU");
        CHECK(held->early_resets == 0);
        CHECK(held->failed_connects == 0);
        fixture.trouble(2, Trouble::early_reset, 5);
        CHECK(fixture.states() == "Ue");
    });
    fixture.at(12s, [&] { CHECK(fixture.states() == "UU"); });
    fixture.run_until(13s);
    CHECK(fixture.journal.events ==
          std::vector<std::string>{"target_ejected", "target_ejected", "target_returned"});
}

TEST_CASE("when too few targets are left, all are used") {
    auto service = web(4);
    service.panic = 50;
    Fixture fixture(service);
    auto panics = [&] { return fixture.pool().admission().is_panic(); };
    auto answer = [&](Door::Answer answer, std::vector<int> numbers) {
        for (int number : numbers) fixture.world.target(fixture.ip(number)).answer = answer;
    };
    fixture.at(10s, [&] { answer(Door::Answer::refuses, {1, 2}); });
    fixture.at(30s, [&] {
        CHECK(fixture.states() == "ddUU");
        CHECK_FALSE(panics());
        answer(Door::Answer::refuses, {3});
    });
    fixture.at(50s, [&] {
        CHECK(fixture.states() == "dddU");
        CHECK(panics());
        answer(Door::Answer::refuses, {4});
    });
    fixture.at(70s, [&] {
        CHECK(fixture.pool().any_available());
        answer(Door::Answer::accepts, {1, 3});
    });
    fixture.at(90s, [&] { CHECK_FALSE(panics()); });
    fixture.run_until(100s);
    int begins = 0, ends = 0;
    for (const auto& event : fixture.journal.events) {
        begins += event == "panic_begins";
        ends += event == "panic_ends";
    }
    CHECK(begins == 1);
    CHECK(ends == 1);
}

TEST_CASE("a panic follows the file") {
    auto service = web(2);
    Fixture fixture(service);
    fixture.at(10s, [&] { fixture.world.target(fixture.ip(1)).answer = Door::Answer::refuses; });
    fixture.at(30s, [&] {
        CHECK_FALSE(fixture.pool().admission().is_panic());
        service.panic = 60;
        fixture.follow(service);
        CHECK(fixture.pool().admission().is_panic());
        service.panic = 50;
        fixture.follow(service);
        CHECK_FALSE(fixture.pool().admission().is_panic());
    });
    fixture.run_until(31s);
}
