// SPDX-License-Identifier: Apache-2.0
// The pure parts of health checks, and when checks come, on a clock that jumps to whatever happens
// next. What checks find out about real servers is in tests/kernel/health_test.cc.
#include "health/health.h"

#include <algorithm>

#include "health/checks.h"
#include "io/sim/world.h"
#include "support/catch.h"

using namespace proxify;
using namespace proxify::health;
using io::sim::Door;
using io::sim::Script;
using io::sim::World;

TEST_CASE("the next check comes sooner in doubt, and later while down") {
    config::HealthSpec spec{.interval = 10s, .rise = 2, .fall = 3};
    spec.fast_interval = 1s;
    spec.down_interval = 60s;
    Verdict verdict(spec.rise, spec.fall);
    auto after = [&](const std::string& checks) {
        for (char check : checks) verdict.judge(check == '+');
        return next_interval(verdict, spec);
    };
    CHECK(after("+") == 10s);
    CHECK(after("-") == 1s);   // up, one against
    CHECK(after("+") == 10s);  // and that one forgotten
    CHECK(after("--") == 1s);
    CHECK(after("-") == 60s);  // down
    CHECK(after("-") == 60s);
    CHECK(after("+") == 1s);  // down, one for
    CHECK(after("+") == 10s);
    verdict.condemn();
    CHECK(next_interval(verdict, spec) == 60s);
}

TEST_CASE("without intervals of their own, doubt and being down have the usual one") {
    config::HealthSpec spec{.interval = 7s};
    Verdict verdict(2, 2);
    for (char check : std::string("+-----+")) {
        verdict.judge(check == '+');
        CHECK(next_interval(verdict, spec) == 7s);
    }
}

TEST_CASE("that a certificate ends is said within its span, once a day") {
    const Time now{};
    auto said_of = [&](Duration ends_in, std::optional<Time> said = {}) {
        return certificate_warning(ends_in, 336h, said, now).value_or("");
    };
    CHECK(said_of(336h + 1s) == "");
    CHECK(said_of(336h) == "ends in 336h");
    CHECK(said_of(90min + 59s) == "ends in 1h30m");
    CHECK(said_of(59s) == "ends in 0s");
    CHECK(said_of(-61s) == "ended 1m ago");
    CHECK(said_of(1h, now - 24h + 1s) == "");
    CHECK(said_of(1h, now - 24h) == "ends in 1h");
}

TEST_CASE("the head of an HTTP answer") {
    struct Row {
        std::string bytes;
        int status;
        size_t size;
    };
    const std::string ok = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    for (const auto& [bytes, status, size] : {
             Row{ok + "body", 200, ok.size()},
             Row{"HTTP/1.0 503 Service Unavailable\r\n\r\n", 503, 36},
             Row{"HTTP/1.1 204\r\n\r\n", 204, 16},  // no reason, not even the space
             Row{"HTTP/1.1 200 OK\nA: b\n\n", 200, 22},
             Row{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok, 200, 38 - 1 + ok.size()},
             Row{"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, 36},
         }) {
        INFO(bytes);
        auto head = read_http_head(bytes);
        REQUIRE(head);
        REQUIRE(*head);
        CHECK((*head)->status == status);
        CHECK((*head)->size == size);
        // Whatever is missing of it, it is not there yet, and never something else.
        for (size_t part = 0; part < size; ++part) {
            auto begun = read_http_head(bytes.substr(0, part));
            REQUIRE(begun);
            REQUIRE_FALSE(*begun);
        }
    }
}

TEST_CASE("what is no HTTP answer is known by its first bytes") {
    for (auto bytes : {"SSH-2.0-OpenSSH", "H2", "HTTP/2 200", "\x16\x03", "http/1.1 200 OK\r\n",
                       " HTTP/1.1 200 OK\r\n"})
        CHECK(read_http_head(bytes).error() == "the answer is not HTTP/1");
    for (auto line : {"HTTP/1.1 20", "HTTP/1.1 2000 OK", "HTTP/1.1  200 OK", "HTTP/1.1 abc",
                      "HTTP/1.x 200 OK", "HTTP/1.1 099 OK", "HTTP/1.1", "HTTP/1.1 -20 OK"})
        CHECK(read_http_head(std::string(line) + "\r\n\r\n").error() == "the answer has no status");
}

TEST_CASE("the question of an http check names the target as the file does") {
    config::HttpCheck check{.path = "/up"};
    Subject subject{"web", "10.0.0.1:8080", "db.internal", *Address::parse("10.0.0.1:8080")};
    CHECK(http_question(check, subject) ==
          "GET /up HTTP/1.1\r\nHost: db.internal:8080\r\nUser-Agent: proxify\r\nAccept: */*\r\n"
          "Connection: close\r\n\r\n");
    auto host = [&] {
        const auto question = http_question(check, subject);
        auto begin = question.find("Host: ") + 6;
        return question.substr(begin, question.find("\r\n", begin) - begin);
    };
    subject.address.port = 80;
    CHECK(host() == "db.internal");
    subject.host = "2001:db8::1";
    CHECK(host() == "[2001:db8::1]");
    check.tls.emplace();
    CHECK(host() == "[2001:db8::1]:80");
    subject.address.port = 443;
    CHECK(host() == "[2001:db8::1]");
    check.host = "www.example:1";
    CHECK(host() == "www.example:1");
    check.method = "POST";
    CHECK(http_question(check, subject).find("\r\nContent-Length: 0\r\n") != std::string::npos);
}

TEST_CASE("a program is told of its target") {
    Subject subject{"web", "x", "y", *Address::parse("[2001:db8::1]:81")};
    CHECK(environment_of(subject) ==
          std::vector<std::string>{"PROXIFY_SERVICE=web", "PROXIFY_TARGET=[2001:db8::1]:81",
                                   "PROXIFY_ADDRESS=2001:db8::1", "PROXIFY_PORT=81"});
}

// ---- the line before programs

namespace {

struct Visitors {
    int inside = 0, most_inside = 0, served = 0;
};

io::Task<> come(io::Loop& loop, Turnstile& turnstile, Duration stay, Visitors& visitors) {
    Turnstile::Visit visit(turnstile);
    co_await visit.enter();
    visitors.most_inside = std::max(visitors.most_inside, ++visitors.inside);
    if (stay > 0s) co_await loop.sleep(stay);
    --visitors.inside;
    ++visitors.served;
}

}  // namespace

TEST_CASE("a turnstile lets in as many as it has places, and everyone in the end") {
    World world(1, {});
    io::Loop loop(*io::Ring::open({}));
    Turnstile turnstile(loop, 3);
    Visitors visitors;
    for (int i = 0; i < 20; ++i) loop.spawn(come(loop, turnstile, 1s, visitors));
    CHECK(visitors.inside == 3);
    loop.stop();
    loop.run();
    CHECK(visitors.served == 20);
    CHECK(visitors.most_inside == 3);
}

TEST_CASE("those who leave at once do not stand on each other's stacks") {
    World world(1, {});
    io::Loop loop(*io::Ring::open({}));
    Turnstile turnstile(loop, 1);
    Visitors visitors;
    constexpr int crowd = 100'000;
    loop.spawn(come(loop, turnstile, 1s, visitors));
    for (int i = 0; i < crowd; ++i) loop.spawn(come(loop, turnstile, 0s, visitors));
    loop.stop();
    loop.run();
    CHECK(visitors.served == crowd + 1);
}

TEST_CASE("who gives up leaves the line to the others") {
    World world(1, {});
    io::Loop loop(*io::Ring::open({}));
    Turnstile turnstile(loop, 1);
    Visitors visitors;
    loop.spawn(come(loop, turnstile, 1s, visitors));
    bool came = true;
    Turnstile::Visit impatient(turnstile);
    auto wait = [](Turnstile::Visit& visit, bool& result) -> io::Task<> {
        result = co_await visit.enter();
    };
    loop.spawn(wait(impatient, came));
    loop.spawn(come(loop, turnstile, 1s, visitors));
    impatient.give_up();
    CHECK_FALSE(came);
    loop.stop();
    loop.run();
    CHECK(visitors.served == 2);
}

// ---- on a clock of their own

namespace {

struct Kept : telemetry::Journal {
    void session(telemetry::SessionRecord&&) override {}
    void write(telemetry::Level, const char* event, std::string,
               std::vector<std::pair<const char*, std::string>>) override {
        events.emplace_back(event);
    }
    std::vector<std::string> events;
};

/// Is asked before each dial to a local address, and remembers when.
struct Watching : dial::Guard {
    Way way_to(uint16_t) const override {
        dials.push_back(loop->now());
        return Way::open;
    }
    bool let_through(const Address&) override { return true; }
    void forget(const Address&) override {}
    io::Loop* loop = nullptr;
    mutable std::vector<Time> dials;
};

const Ip target_ip = Ip::v4(127, 0, 0, 1);

/// One target, checked on a make-believe network.
struct Checked {
    explicit Checked(config::HealthSpec spec, Door::Answer answer) : loop(*io::Ring::open({})) {
        watching.loop = &loop;
        world.put_target(target_ip, {.answer = answer, .script = [](auto&) { return Script{}; }});
        config::Service service;
        service.name = "web";
        service.ports = {{80, 80}};
        service.targets = {{.text = "127.0.0.1:9000",
                            .host = "127.0.0.1",
                            .ip = target_ip,
                            .port = {config::TargetPort::Kind::fixed, 9000}}};
        service.health = std::move(spec);
        config::Config config;
        config.services = {service};
        snapshot = routing::Snapshot::build(
            std::move(config), [](auto&) { return std::vector<Endpoint>(); }, nullptr, loop.now());
        begin = loop.now();
    }

    balance::Target& target() const { return *snapshot->services()[1]->pool.targets()[0]; }
    void answer_at(Duration when, Door::Answer answer) {
        world.at(begin + when, [this, answer] { world.target(target_ip).answer = answer; });
    }
    void run_for(Duration time) {
        health.follow(*snapshot);
        world.at(begin + time, [this] {
            loop.post([this] {
                health.stop();
                loop.stop();
            });
        });
        loop.run();
    }
    /// Between one dial and the next, in seconds, rounded.
    std::vector<int> gaps() const {
        std::vector<int> out;
        for (size_t i = 1; i < watching.dials.size(); ++i)
            out.push_back(static_cast<int>(
                std::chrono::round<std::chrono::seconds>(watching.dials[i] - watching.dials[i - 1])
                    .count()));
        return out;
    }

    World world{/*seed=*/7, {}};
    io::Loop loop;
    Kept log;
    Watching watching;
    Health health{loop, log, &watching};
    std::shared_ptr<const routing::Snapshot> snapshot;
    Time begin;
};

bool are_about(const std::vector<int>& gaps, const std::vector<int>& expected) {
    if (gaps.size() < expected.size()) return false;
    return std::ranges::equal(expected, std::span(gaps).first(expected.size()),
                              [](int want, int got) { return std::abs(want - got) <= want / 10; });
}

std::string text(const std::vector<int>& gaps) {
    std::string out;
    for (int gap : gaps) out += std::to_string(gap) + " ";
    return out;
}

}  // namespace

TEST_CASE("checks come at the interval of the state: up, in doubt, down, and back") {
    config::HealthSpec spec{.interval = 100s, .timeout = 1s, .rise = 2, .fall = 3};
    spec.fast_interval = 10s;
    spec.down_interval = 1000s;
    Checked checked(spec, Door::Answer::accepts);
    checked.answer_at(250s, Door::Answer::refuses);
    checked.answer_at(2000s, Door::Answer::accepts);
    checked.run_for(1h);
    INFO(text(checked.gaps()));
    // Good at 0, 100 and 200; bad at 300, 310 and 320; down until 2320, doubted at 2330.
    CHECK(are_about(checked.gaps(), {100, 100, 100, 10, 10, 1000, 1000, 10, 100, 100}));
    CHECK(checked.log.events == std::vector<std::string>{"target_down", "target_up"});
    CHECK(checked.target().up);
}

TEST_CASE("a check that is never answered takes its timeout, and then the interval") {
    config::HealthSpec spec{.interval = 100s, .timeout = 20s, .rise = 2, .fall = 3};
    Checked checked(spec, Door::Answer::silent);
    checked.run_for(1000s);
    INFO(text(checked.gaps()));
    CHECK(are_about(checked.gaps(), {120, 120, 120, 120}));
    CHECK_FALSE(checked.target().up);
}

TEST_CASE("a target counts as up before its first check") {
    Checked checked({.timeout = 1s}, Door::Answer::silent);
    CHECK(checked.target().up);
    checked.run_for(500ms);
    CHECK(checked.target().up);
}

TEST_CASE("a target that begins as down stays out until `rise` checks were good") {
    config::HealthSpec spec{.interval = 10s, .rise = 3, .fall = 3};
    spec.initially_up = false;
    SECTION("two of three") {
        Checked checked(spec, Door::Answer::accepts);
        CHECK_FALSE(checked.target().up);
        CHECK_FALSE(checked.target().available);
        checked.run_for(15s);
        CHECK(checked.watching.dials.size() == 2);
        CHECK_FALSE(checked.target().up);
        CHECK(checked.log.events.empty());
    }
    SECTION("three") {
        Checked checked(spec, Door::Answer::accepts);
        checked.run_for(25s);
        CHECK(checked.target().up);
        CHECK(checked.log.events == std::vector<std::string>{"target_up"});
    }
}

TEST_CASE("a reload that changes the measure keeps what was found out") {
    Checked checked({.interval = 10s, .rise = 2, .fall = 5}, Door::Answer::refuses);
    checked.world.at(checked.begin + 5s, [&] {
        checked.loop.post([&] {
            CHECK_FALSE(checked.target().up);  // the first check alone decides
            auto config = checked.snapshot->config();
            config.services[0].health.rise = 1;
            checked.world.target(target_ip).answer = Door::Answer::accepts;
            checked.snapshot = routing::Snapshot::build(
                config, [](auto&) { return std::vector<Endpoint>(); }, checked.snapshot.get(),
                checked.loop.now());
            checked.health.follow(*checked.snapshot);
            CHECK_FALSE(checked.target().up);
        });
    });
    checked.run_for(8s);
    CHECK(checked.target().up);  // by one good check: the new `rise`
}
