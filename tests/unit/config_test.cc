// SPDX-License-Identifier: Apache-2.0
#include "config/config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/format.h"
#include "support/catch.h"
#include "support/proxify_process.h"
#include "support/temp_dir.h"

using namespace proxify;
using config::Config;
using config::PortRange;
using config::TargetPort;
using Kind = TargetPort::Kind;

static Result<Config> parse(std::string_view text) {
    return config::parse(text, "targets.toml");
}

/// One service "web" with these keys and whatever else it needs.
static std::string service(std::string_view keys) {
    std::string text = "[[service]]\nname = \"web\"\n";
    if (keys.find("ports") == std::string::npos) text += "ports = [80]\n";
    if (keys.find("targets") == std::string::npos) text += "targets = [\"10.0.0.1:80\"]\n";
    return text + std::string(keys) + "\n";
}

static Config must_parse(std::string_view text) {
    CAPTURE(text);
    auto config = parse(text);
    if (!config) FAIL(config.error().text());
    return *config;
}

static std::string refusal(std::string_view text) {
    CAPTURE(text);
    auto config = parse(text);
    REQUIRE_FALSE(config);
    return config.error().text();
}

static bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

// ---- what is accepted

TEST_CASE("a file with every key is read as it is written") {
    auto config = must_parse(R"(
        [proxify]
        listen = 9090
        default_service = "games"
        drain_timeout = "1m30s"
        resolve_interval = "5s"
        user = "carrier"
        group = "pipes"
        [log]
        format = "json"
        level = "warn"
        [[service]]
        name = "five-thousand"
        ports = [5001, 5200, "5300-5399"]
        targets = ["127.0.0.1:9001", "[::1]:9002", { address = "db.internal:9003" }]
        balance = "round-robin"
        health = { type = "tcp", interval = "3s", timeout = "250ms", rise = 4, fall = 5, port = 81 }
        timeouts = { connect = "1s", idle = "2h", half_close = "3s" }
        tries = 7
        relay = "copy"
        hash_balance_factor = 0
        max_connections = 5000
        queue = { size = 20, timeout = "700ms" }
        slow_start = "40s"
        ejection = { failures = 9, early_resets = 8, time = "2s", max_time = "3s", max_share = 34 }
        panic = 51
        on_down = "reset"
        [[service]]
        name = "games"
        targets = ["203.0.113.5:*", "203.0.113.6:+1000"]
        health = false
    )");

    CHECK(config.listen == 9090);
    CHECK(config.default_service == 1u);
    CHECK(config.drain == 90s);
    CHECK(config.resolve_interval == 5s);
    CHECK(config.user == "carrier");
    CHECK(config.group == "pipes");
    CHECK(config.log == config::Log{config::LogFormat::json, config::LogLevel::warn});
    REQUIRE(config.services.size() == 2);

    const auto& first = config.services[0];
    CHECK(first.name == "five-thousand");
    CHECK(first.ports == std::vector<PortRange>{{5001, 5001}, {5200, 5200}, {5300, 5399}});
    REQUIRE(first.targets.size() == 3);
    CHECK(first.targets[0] ==
          config::TargetSpec{
              "127.0.0.1:9001", "127.0.0.1", Ip::v4(127, 0, 0, 1), {Kind::fixed, 9001}});
    CHECK(first.targets[1] ==
          config::TargetSpec{"[::1]:9002", "::1", Ip::parse("::1"), {Kind::fixed, 9002}});
    CHECK(first.targets[2] ==
          config::TargetSpec{"db.internal:9003", "db.internal", {}, {Kind::fixed, 9003}});
    CHECK(first.health == config::HealthSpec{true, 3s, 250ms, 4, 5, 81});
    CHECK(first.timeouts == config::Timeouts{1s, 2h, 3s});
    CHECK(first.tries == 7);
    CHECK(first.relay == config::RelayMode::copy);
    CHECK(first.max_connections == 5000);
    CHECK(first.queue == config::Queue{20, 700ms});
    CHECK(first.slow_start == 40s);
    CHECK(first.ejection == config::Ejection{true, 9, 8, 2s, 3s, 34});
    CHECK(first.panic == 51);
    CHECK(first.on_down == config::OnDown::reset);

    const auto& second = config.services[1];
    CHECK(second.ports.empty());
    CHECK(second.targets[0].port == TargetPort{Kind::same, 0});
    CHECK(second.targets[1].port == TargetPort{Kind::offset, 1000});
    CHECK_FALSE(second.health.enabled);
    CHECK(second.timeouts == config::Timeouts{});
    CHECK(second.tries == 3);
    CHECK(second.relay == config::RelayMode::automatic);
    CHECK(second.max_connections == 0);
    CHECK(second.queue == config::Queue{1000, 5s});
    CHECK(second.slow_start == Duration::zero());
    CHECK(second.ejection == config::Ejection{true, 5, 0, 10s, 5min, 50});
    CHECK(second.panic == 0);
    CHECK(second.on_down == config::OnDown::keep);
}

TEST_CASE("what is not written has the documented default") {
    auto config = must_parse(service(""));
    CHECK(config.listen == 8080);
    CHECK_FALSE(config.default_service);
    CHECK(config.drain == 10s);
    CHECK(config.resolve_interval == 30s);
    CHECK(config.user.empty());
    CHECK(config.group.empty());
    CHECK(config.log == config::Log{config::LogFormat::text, config::LogLevel::info});
    CHECK(config.services[0].health == config::HealthSpec{true, 2s, 1s, 2, 3, {}});
    CHECK(config.services[0].timeouts == config::Timeouts{5s, 1h, 30s});
}

TEST_CASE("one port and one target need no array") {
    for (auto ports : {"ports = 80", "ports = \"80\"", "ports = [80]", "ports = [\"80-80\"]"})
        CHECK(must_parse(service(ports)).services[0].ports == std::vector<PortRange>{{80, 80}});
    auto single = must_parse(service("targets = \"10.0.0.1:80\"")).services[0].targets;
    CHECK(single == must_parse(service("targets = [\"10.0.0.1:80\"]")).services[0].targets);
}

TEST_CASE("health is on with defaults, whether it is left out, true or an empty table") {
    for (auto health : {"", "health = true", "health = {}", "[service.health]", "health.rise = 2"})
        CHECK(must_parse(service(health)).services[0].health == config::HealthSpec{});
    CHECK_FALSE(must_parse(service("health = false")).services[0].health.enabled);
}

TEST_CASE("a port follows the port that was dialled when the target says so") {
    CHECK(TargetPort{Kind::fixed, 80}.for_dialled(5001) == 80);
    CHECK(TargetPort{Kind::same, 0}.for_dialled(5001) == 5001);
    CHECK(TargetPort{Kind::offset, 1000}.for_dialled(5001) == 6001);
}

TEST_CASE("ports are 1 to 65535, alone or as a rising range") {
    struct {
        std::string ports;
        bool good;
    } rows[] = {{"[0]", false},
                {"[1]", true},
                {"[65535]", true},
                {"[65536]", false},
                {"[-1]", false},
                {"[1.0]", false},
                {"[nan]", false},
                {"[true]", false},
                {"[[80]]", false},
                {"[{}]", false},
                {"{}", false},
                {"[1979-05-27]", false},
                {"[9223372036854775807]", false},
                {"[-9223372036854775808]", false},
                {"[\"0-1\"]", false},
                {"[\"1-65535\"]", true},
                {"[\"1-65536\"]", false},
                {"[\"7-7\"]", true},
                {"[\"8-7\"]", false},
                {"[\"7-8\"]", true},
                {"[\"\"]", false},
                {"[\"-\"]", false},
                {"[\"1-\"]", false},
                {"[\"-1\"]", false},
                {"[\"1-2-3\"]", false},
                {"[\"1 - 2\"]", false},
                {"[\"080\"]", false},
                {"[\"+80\"]", false},
                {"[\"0x50\"]", false},
                {"[\"1e3\"]", false},
                {"[\"http\"]", false},
                {"[0x50]", true},
                {"[4294967376]", false},
                {"[\"4294967376\"]", false}};
    for (const auto& [ports, good] : rows) {
        CAPTURE(ports);
        CHECK(parse(service("ports = " + ports)).has_value() == good);
    }
}

TEST_CASE("a duration has a unit and lies between its bounds") {
    struct {
        std::string text;
        std::optional<Duration> duration;
    } rows[] = {{"0ms", {}},
                {"1ms", 1ms},
                {"2ms", 2ms},
                {"250ms", 250ms},
                {"5s", 5s},
                {"90s", 90s},
                {"1m30s", 90s},
                {"1h", 1h},
                {"1h1m1s1ms", 1h + 1min + 1s + 1ms},
                {"8759h", 24h * 365 - 1h},
                {"8760h", 24h * 365},
                {"8760h1ms", {}},
                {"8761h", {}},
                {"525600m", 24h * 365},
                {"0s", {}},
                {"0h0m0s0ms", {}},
                {"0h1s", 1s},
                {"-5s", {}},
                {"+5s", {}},
                {"5", {}},
                {"s", {}},
                {"", {}},
                {" 5s", {}},
                {"5 s", {}},
                {"5s ", {}},
                {"1.5s", {}},
                {"5sec", {}},
                {"5S", {}},
                {"5us", {}},
                {"1d", {}},
                {"30s1m", {}},
                {"1s1s", {}},
                {"1m30", {}},
                {"99999999999999999999h", {}},
                {"18446744073709551616ms", {}},
                {"9223372036854775807s", {}}};
    for (const auto& [text, duration] : rows) {
        CAPTURE(text);
        auto config = parse(service("timeouts = { idle = \"" + text + "\" }"));
        CHECK(config.has_value() == duration.has_value());
        if (config && duration) CHECK(config->services[0].timeouts.idle == *duration);
    }
    for (auto value : {"5", "0", "-5", "5.0", "true", "[]", "{}", "1979-05-27", "00:00:05"})
        CHECK_FALSE(parse(service(format("timeouts = {{ idle = {} }}", value))));
}

TEST_CASE("each key has its own bounds") {
    struct {
        std::string under, exact, over;
    } rows[] = {
        {"health = { interval = '9ms' }", "health = { interval = '10ms' }",
         "health = { interval = '11ms' }"},
        {"health = { rise = 0 }", "health = { rise = 1 }", "health = { rise = 2 }"},
        {"health = { fall = 101 }", "health = { fall = 100 }", "health = { fall = 99 }"},
        {"health = { port = 65536 }", "health = { port = 65535 }", "health = { port = 65534 }"},
        {"tries = 0", "tries = 1", "tries = 2"},
        {"tries = 17", "tries = 16", "tries = 15"},
        {"tries = 9223372036854775807", "tries = 1", "tries = 2"},
        {"[proxify]\nlisten = 0", "[proxify]\nlisten = 1", "[proxify]\nlisten = 2"},
        {"[proxify]\nlisten = 65536", "[proxify]\nlisten = 65535", "[proxify]\nlisten = 65534"},
        {"[proxify]\nresolve_interval = '99ms'", "[proxify]\nresolve_interval = '100ms'",
         "[proxify]\nresolve_interval = '101ms'"}};
    for (const auto& [beyond, exact, within] : rows) {
        CAPTURE(beyond);
        CHECK_FALSE(parse(service(beyond)));
        CHECK(parse(service(exact)));
        CHECK(parse(service(within)));
    }
}

TEST_CASE("a target has a priority, and room for so many") {
    auto of = [](const std::string& keys) {
        return must_parse(service("targets = { address = '10.0.0.1:80'" + keys + " }"))
            .services[0]
            .targets[0];
    };
    CHECK(of("").priority == 0);
    CHECK(of("").max_connections == 0);
    CHECK(of(", priority = 255").priority == 255);
    CHECK(of(", max_connections = 1000000").max_connections == 1'000'000);
}

TEST_CASE("keys that share connections out have bounds") {
    struct Row {
        const char *keys, *message;
    };
    for (auto [keys, message] : {
             Row{"max_connections = 0", "max_connections: expected a number from 1 to 1000000"},
             Row{"max_connections = 1000001", "expected a number from 1 to 1000000"},
             Row{"queue = 5", "queue: expected a table like { timeout = \"5s\" }, found 5"},
             Row{"queue = { size = -1 }", "queue.size: expected a number from 0 to 100000"},
             Row{"queue = { size = 100001 }", "queue.size: expected a number from 0 to 100000"},
             Row{"queue = { timeout = '0s' }", "queue.timeout: expected a duration from 1ms"},
             Row{"queue = { sizes = 3 }", "did you mean \"size\"?"},
             Row{"slow_start = '0s'", "slow_start: expected a duration from 1ms"},
             Row{"ejection = 5", "ejection: expected false or a table like { failures = 5 }"},
             Row{"ejection = { failures = 0 }", "ejection.failures: expected a number from 1 to"},
             Row{"ejection = { early_resets = -1 }",
                 "ejection.early_resets: expected a number from 0 to"},
             Row{"ejection = { max_share = 101 }", "ejection.max_share: expected a number from 1"},
             Row{"ejection = { time = '9s', max_time = '8s' }",
                 "ejection.max_time: 8s is less than ejection.time, 9s"},
             Row{"ejection = { max_time = '9s' }", "9s is less than ejection.time, 10s"},
             Row{"panic = 101", "panic: expected a number from 0 to 100"},
             Row{"on_down = 'close'", "on_down: expected \"keep\" or \"reset\", found \"close\""},
             Row{"balance = 'maglev'\nhash_balance_factor = 100",
                 "hash_balance_factor: expected 0 or a number from 101 to 1000, found 100"},
             Row{"balance = 'maglev'\nhash_balance_factor = 1001", "from 101 to 1000, found 1001"},
             Row{"hash_balance_factor = 150",
                 "hash_balance_factor: only \"source-hash\" and \"maglev\" can be bounded"},
             Row{"targets = { address = '10.0.0.1:80', priority = 256 }",
                 "priority: expected a number from 0 to 255, found 256"},
             Row{"targets = { address = '10.0.0.1:80', max_connections = 0 }",
                 "max_connections: expected a number from 1 to 1000000, found 0"},
         }) {
        auto text = refusal(service(keys));
        INFO(text);
        CHECK(contains(text, message));
    }
    for (auto keys : {"queue = { size = 0 }", "panic = 0", "panic = 100",
                      "balance = 'maglev'\nhash_balance_factor = 101",
                      "balance = 'source-hash'\nhash_balance_factor = 1000", "ejection = true"})
        must_parse(service(keys));
}

TEST_CASE("ejection is on with defaults, and a long first one lengthens the longest") {
    for (auto ejection : {"", "ejection = true", "ejection = {}"})
        CHECK(must_parse(service(ejection)).services[0].ejection == config::Ejection{});
    CHECK_FALSE(must_parse(service("ejection = false")).services[0].ejection.enabled);
    CHECK(must_parse(service("ejection = { time = '10m' }")).services[0].ejection.max_time ==
          10min);
}

TEST_CASE("what a service does with its connections is described where it is not the default") {
    auto text = config::describe(must_parse(service(R"(
        targets = [{ address = "10.0.0.1:80", priority = 3, max_connections = 1 }]
        balance = "maglev"
        hash_balance_factor = 150
        max_connections = 100
        queue = { timeout = "1s" }
        slow_start = "30s"
        ejection = { failures = 1, early_resets = 7 }
        panic = 50
        on_down = "reset"
    )")));
    INFO(text);
    for (auto line : {"  targets   10.0.0.1:80  (priority 3; at most 1 connection)\n",
                      "  balance   maglev, at most 150 % of the average for each target\n",
                      "  room      at most 100 connections; 1000 may wait, for 1s\n",
                      "  returns   slow start over 30s\n",
                      "  ejected   after 1 failed connect or 7 early resets in a row, for 10s to "
                      "5m, at most 50 "
                      "% of targets\n",
                      "  panic     below 50 % of targets, all are used\n",
                      "  on down   connections are reset\n"})
        CHECK(contains(text, line));
    auto plain = config::describe(must_parse(service("")));
    for (auto label : {"room", "returns", "ejected", "panic", "on down"})
        CHECK_FALSE(contains(plain, label));
    CHECK(contains(config::describe(must_parse(service("ejection = false\nqueue = { size = 0 }"))),
                   "  room      nobody waits\n  ejected   never\n"));
}

TEST_CASE("a service name is 1 to 64 plain characters") {
    auto with_name = [](const std::string& name) {
        return parse("[[service]]\nports = 80\ntargets = '10.0.0.1:80'\nname = \"" + name + "\"")
            .has_value();
    };
    CHECK_FALSE(with_name(""));
    CHECK(with_name("a"));
    CHECK(with_name("AZaz09_.-"));
    CHECK(with_name(std::string(63, 'a')));
    CHECK(with_name(std::string(64, 'a')));
    CHECK_FALSE(with_name(std::string(65, 'a')));
    for (auto name : {"a b", "a/b", "a\\n", "\xC3\xA4", "a:b", "\\u0000"})
        CHECK_FALSE(with_name(name));
}

TEST_CASE("a target is an address or a name, with a port") {
    for (std::string target :
         {"10.0.0.1:1", "10.0.0.1:65535", "[::1]:80", "[2001:DB8::1]:80", "[::ffff:10.0.0.1]:80",
          "localhost:80", "db.internal:9003", "a_b.internal:80", "name.example.:80",
          "1and1.example:80", "x-1:80", "10.0.0.1:*", "[::1]:*", "name:*", "10.0.0.1:+1",
          "[::1]:+1000", "name:+65455"}) {
        CAPTURE(target);
        auto config = parse(service("targets = [\"" + target + "\"]"));
        REQUIRE(config);
        CHECK(config->services[0].targets[0].text == target);
        CHECK(parse(service("targets = [{ address = \"" + target + "\" }]")));
    }
    CHECK(parse(service("targets = '" + std::string(63, 'a') + ":80'")));
    CHECK_FALSE(parse(service("targets = '" + std::string(64, 'a') + ":80'")));

    std::string name_of_253;
    for (int i = 0; i < 126; ++i) name_of_253 += "a.";
    name_of_253 += "a";
    CHECK(parse(service("targets = '" + name_of_253 + ":80'")));
    CHECK_FALSE(parse(service("targets = '" + name_of_253 + "a:80'")));
}

TEST_CASE("a target may be an SRV name, which has no port") {
    for (std::string target : {"_http._tcp.web.example", "_http._tcp.web.example.",
                               "_xmpp-server._tcp.a.b", "_a._tls.example", "_A._TCP.example"}) {
        CAPTURE(target);
        auto config = parse(service("targets = [\"" + target + "\"]"));
        REQUIRE(config);
        config::TargetSpec spec{.text = target, .host = target};
        spec.srv = true;
        CHECK(config->services[0].targets[0] == spec);
        CHECK(parse(service("targets = [{ address = \"" + target + "\", backup = true }]")));
    }
    // One underscore is a host's name.
    CHECK_FALSE(must_parse(service("targets = '_db.internal:80'")).services[0].targets[0].srv);

    struct {
        std::string target, reason, hint;
    } rows[] = {
        {"'_http._tcp.web.example:80'", "is an SRV name with a port; its records say the ports",
         "write \"_http._tcp.web.example\""},
        {"'_http._tcp.web.example:*'", "is an SRV name with a port", ""},
        {"'_http._tcp'", "is no SRV name", "an SRV name is like \"_http._tcp.name.example\""},
        {"'_http._tcp.'", "is no SRV name", ""},
        {"'_http._tcp..'", "is no SRV name", ""},
        {"'_http._tcp.web example'", "is no SRV name", ""},
        {"'_dns._udp.example'", "is an SRV name for UDP, and proxify carries TCP", ""},
        {"'_db.internal'", "has no port", ""},
        {"{ address = '_http._tcp.web.example', weight = 2 }",
         "weight: the weights of \"_http._tcp.web.example\" come from its SRV records",
         "take it out"},
        {"['_http._tcp.web.example', '_http._tcp.WEB.example']", "is in this service twice", ""}};
    for (const auto& [target, reason, hint] : rows) {
        auto text = refusal(service("targets = " + target));
        CAPTURE(target, text);
        CHECK(contains(text, reason));
        CHECK(contains(text, hint));
    }
}

TEST_CASE("what is not a target is refused with the reason") {
    struct {
        std::string target, reason;
    } rows[] = {{"", "has no port"},
                {"10.0.0.1", "has no port"},
                {"name", "has no port"},
                {"[::1]", "has no port"},
                {"::1", "has no port"},
                {":80", "is no name and no address"},
                {"10.0.0.1:", "where its port should be"},
                {"10.0.0.1:0", "where its port should be"},
                {"10.0.0.1:65536", "where its port should be"},
                {"10.0.0.1:http", "where its port should be"},
                {"10.0.0.1:080", "where its port should be"},
                {"10.0.0.1: 80", "where its port should be"},
                {"10.0.0.1:-1", "where its port should be"},
                {"10.0.0.1:+", "where its port should be"},
                {"10.0.0.1:+0", "where its port should be"},
                {"10.0.0.1:**", "where its port should be"},
                {"fe80::1:2:3:4:5:6:+80", "needs brackets"},
                {"2001:db8::1:99999", "where its port should be"},
                {"[10.0.0.1]:80", "not an IPv6 address"},
                {"[name]:80", "not an IPv6 address"},
                {"[]:80", "not an IPv6 address"},
                {"[::1:80", "is no name and no address"},
                {"[fe80::1%eth0]:80", "not supported"},
                {"256.0.0.1:80", "not an IPv4 address"},
                {"10.0.0:80", "not an IPv4 address"},
                {"10.0.0.1.:80", "not an IPv4 address"},
                {"010.0.0.1:80", "not an IPv4 address"},
                {"1234:80", "not an IPv4 address"},
                {"0.0.0.0:80", "nothing can be reached there"},
                {"[::]:80", "nothing can be reached there"},
                {"http://10.0.0.1:80", "is a URL"},
                {"a..b:80", "is no name and no address"},
                {"-a:80", "is no name and no address"},
                {"a-:80", "is no name and no address"},
                {"a b:80", "is no name and no address"},
                {"b\xC3\xBC"
                 "cher.example:80",
                 "is no name and no address"},
                {"Original", "has no port"}};
    for (const auto& [target, reason] : rows) {
        auto text = refusal(service("targets = [\"" + target + "\"]"));
        CAPTURE(target, text);
        CHECK(contains(text, "targets.toml:4:12: targets: target "));
        CHECK(contains(text, reason));
    }
    for (auto value :
         {"[80]", "80", "[[\"10.0.0.1:80\"]]", "[{}]", "[{ address = 80 }]", "[true]", "[]"})
        CHECK_FALSE(parse(service(format("targets = {}", value))));
}

// ---- the file as a whole

TEST_CASE("a port belongs to one service, and both places of a clash are named") {
    struct {
        std::string first, second;
        int clash;
    } rows[] = {{"[80]", "[80]", 80},
                {"['1-79']", "[80]", 0},
                {"['1-80']", "[80]", 80},
                {"[80]", "['1-80']", 80},
                {"[80]", "['80-90']", 80},
                {"[80]", "['81-90']", 0},
                {"['10-20']", "['20-30']", 20},
                {"['10-20']", "['21-30']", 0},
                {"['10-20']", "['9-10']", 10},
                {"['10-20']", "['1-9']", 0},
                {"['1-65535']", "[65535]", 65535}};
    for (const auto& [first, second, clash] : rows) {
        auto text = "[[service]]\nname = 'a'\ntargets = 'x:1'\nports = " + first +
                    "\n[[service]]\nname = 'b'\ntargets = 'x:1'\nports = " + second;
        CAPTURE(text);
        auto config = parse(text);
        CHECK(config.has_value() == (clash == 0));
        if (clash)
            CHECK(config.error().what ==
                  format("targets.toml:8:10: ports: port {} is already in service \"a\", at 4:10",
                         clash));
    }
}

TEST_CASE("a port is in its service once") {
    auto text = refusal(service("ports = [80, 81, '79-82']"));
    CHECK(contains(text,
                   "targets.toml:4:18: ports: port 80 is in this service twice, first at 4:10"));
    CHECK_FALSE(parse(service("ports = [80, 80]")));
    CHECK_FALSE(parse(service("ports = ['1-65535', '1-65535']")));
}

TEST_CASE("a target is in its service once") {
    CHECK(contains(
        refusal(service("targets = ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.1:80']")),
        "targets.toml:4:42: targets: \"10.0.0.1:80\" is in this service twice, first at 4:12"));
    CHECK_FALSE(parse(service("targets = ['name:80', 'NAME:80']")));
    CHECK_FALSE(parse(service("targets = ['[::1]:80', '[0::1]:80']")));
    CHECK(parse(service("targets = ['name:80', 'name:81', 'name:*', 'name:+80']")));
}

TEST_CASE("an added port stays below 65536 for every port of the service") {
    CHECK(parse(service("ports = ['1-60000']\ntargets = 'x:+5534'")));
    CHECK(parse(service("ports = ['1-60000']\ntargets = 'x:+5535'")));
    auto text = refusal(service("ports = [1, '2-60000', 3000]\ntargets = 'x:+5536'"));
    CHECK(contains(text,
                   "targets.toml:4:11: targets: \"x:+5536\" would lead from port 60000 to 65536, "
                   "beyond 65535"));
}

TEST_CASE("the listener's own port is in no service") {
    for (int listen : {79, 80, 81, 82, 83}) {
        auto text = format("[proxify]\nlisten = {}\n", listen) + service("ports = ['80-82']");
        bool taken = listen >= 80 && listen <= 82;
        CHECK(parse(text).has_value() != taken);
        if (taken)
            CHECK(contains(
                refusal(text),
                format("targets.toml:6:10: ports: service \"web\" lists port {}, which is the "
                       "listener's own (listen, at 2:10)",
                       listen)));
    }
    // Unwritten, it only matters to those who steer.
    auto config = must_parse(service("ports = 8080"));
    CHECK_FALSE(config::check_listener_port(config, 8080));
    CHECK(config::check_listener_port(config, 8081));
}

TEST_CASE("only the default service may be without ports") {
    auto text = std::string("[[service]]\nname = 'a'\ntargets = 'x:1'\n");
    auto chosen = std::string("[proxify]\ndefault_service = 'a'\n");
    CHECK(parse(chosen + text));
    CHECK(parse(chosen + text + "ports = []\n"));
    CHECK(contains(refusal(text), "targets.toml:1:1: ports: the service has none"));
    CHECK(
        contains(refusal(text + "ports = []\n"), "targets.toml:4:9: ports: the service has none"));
    // A misread port is one mistake, not two.
    CHECK_FALSE(contains(refusal(text + "ports = [0]\n"), "has none"));
}

TEST_CASE("the default service exists") {
    CHECK(must_parse(service("") + "[proxify]\ndefault_service = 'web'").default_service == 0u);
    auto text = refusal(service("") + "[proxify]\ndefault_service = 'wbe'");
    CHECK(contains(text, "targets.toml:7:19: default_service: no service is named \"wbe\""));
    CHECK(contains(text, "did you mean \"web\"?"));
    for (auto value : {"''", "1", "[]", "true"})
        CHECK_FALSE(parse(service("") + format("[proxify]\ndefault_service = {}", value)));
}

TEST_CASE("a user is a name, and a group without one changes nothing") {
    for (auto value : {"''", "1000", "['a']", "true"}) {
        CHECK_FALSE(parse(service("") + format("[proxify]\nuser = {}", value)));
        CHECK_FALSE(parse(service("") + format("[proxify]\nuser = 'a'\ngroup = {}", value)));
    }
    CHECK(contains(refusal(service("") + "[proxify]\ngroup = 'a'"),
                   "targets.toml:7:9: group: without user it changes nothing"));
    auto described = config::describe(must_parse(service("") + "[proxify]\nuser = 'carrier'"));
    CHECK(contains(described, "user             carrier\n"));
}

TEST_CASE("two services do not share a name") {
    auto text = refusal(service("ports = 80") + service("ports = 81"));
    CHECK(contains(text,
                   "targets.toml:6:8: name: \"web\" is already the name of the service at 2:8"));
}

TEST_CASE("a service has a name and targets") {
    CHECK(contains(refusal("[[service]]\nports = 80\ntargets = 'x:1'"),
                   "targets.toml:1:1: the service has no name"));
    CHECK(contains(refusal("[[service]]\nports = 80\nname = 'a'"),
                   "targets.toml:1:1: the service has no targets"));
    CHECK(
        contains(refusal(service("targets = []")),
                 "targets.toml:4:11: targets: expected at least one target, found an empty array"));
}

// ---- what a mistake reads like

TEST_CASE("an unknown key names the nearest known one, or where it belongs") {
    struct {
        std::string text, what, hint;
    } rows[] = {
        {"[[servise]]", "1:3: unknown key \"servise\" in the file", "did you mean \"service\"?"},
        {"[proxyfy]", "1:2: unknown key \"proxyfy\" in the file", "did you mean \"proxify\"?"},
        {"listen = 80", "1:1: unknown key \"listen\" in the file",
         "\"listen\" belongs in [proxify]"},
        {"[proxify]\nlisten_port = 1", "2:1: unknown key \"listen_port\" in [proxify]",
         "[proxify] can have listen, "},
        {"[log]\nlevle = 'info'", "2:1: unknown key \"levle\" in [log]", "did you mean \"level\"?"},
        {service("prots = 1"), "5:1: unknown key \"prots\" in [[service]]",
         "did you mean \"ports\"?"},
        {service("level = 'x'"), "5:1: unknown key \"level\" in [[service]]",
         "\"level\" belongs in [log]"},
        {service("health = { intervall = '1s' }"), "unknown key \"intervall\" in health",
         "did you mean \"interval\"?"},
        {service("timeouts = { half-close = '1s' }"), "unknown key \"half-close\" in timeouts",
         "\"half_close\"?"},
        {service("targets = [{ adress = 'x:1' }]"), "unknown key \"adress\" in a target",
         "did you mean \"address\"?"},
        {"\"a\\u001b[31m\" = 1", "1:1: unknown key \"a\\x1B[31m\" in the file", ""},
        {"\"\" = 1", "1:1: unknown key \"\" in the file", ""},
    };
    for (const auto& [text, what, hint] : rows) {
        auto error = refusal(text);
        CAPTURE(error);
        CHECK(contains(error, what));
        CHECK(contains(error, hint));
        CHECK(contains(error, "targets.toml:"));
    }
}

TEST_CASE("who may come in is written as prefixes, alone or in an array") {
    auto config = parse(service(R"(
        ports = 80
        addresses = ["198.51.100.10", "2001:db8::/64"]
        allow = "10.0.0.0/8"
        deny = ["10.1.0.0/16", "10.1.2.3"]
        on_deny = "drop"
        when_down = "pass"
        limits = { source_sessions = 5, source_rate = 7 }
        count_ports = true)"));
    if (!config) FAIL(config.error().text());
    const auto& read = config->services[0];
    auto prefix = [](const char* text) { return *Prefix::parse(text); };
    CHECK(read.addresses == std::vector{prefix("198.51.100.10"), prefix("2001:db8::/64")});
    CHECK(read.access == config::Access{.allow = {prefix("10.0.0.0/8")},
                                        .deny = {prefix("10.1.0.0/16"), prefix("10.1.2.3")}});
    CHECK(read.on_deny == config::OnDeny::drop);
    CHECK(read.when_down == config::WhenDown::pass);
    CHECK(read.limits == config::Limits{.source_sessions = 5, .source_rate = 7});
    CHECK(read.count_ports);

    auto text = config::describe(*config);
    for (auto line : {"only at   198.51.100.10, 2001:db8::/64", "allow     10.0.0.0/8",
                      "deny      10.1.0.0/16, 10.1.2.3", "on deny   drop", "if down   pass",
                      "limits    5 sessions for each source at a time, 7 connections for each",
                      "counted   for each port"}) {
        CAPTURE(text, line);
        CHECK(contains(text, line));
    }
    auto common = parse("[proxify]\nallow = '10.0.0.0/8'\ndeny = []\n" + service(""));
    REQUIRE(common);
    CHECK(common->access.allow == std::vector{prefix("10.0.0.0/8")});
}

TEST_CASE("a mistake in what guards a service is met with a way out") {
    struct {
        std::string text, what;
    } rows[] = {
        {service("deny = '10.0.0.1/8'"),
         "deny: \"10.0.0.1/8\" has bits beyond the first 8\n  hint: write \"10.0.0.0/8\", or "
         "\"10.0.0.1\" for this address alone"},
        {service("deny = 10"), "deny: expected a string like \"10.0.0.0/8\", found 10"},
        {service("allow = ['10.0.0.0/33']"), "allow: expected addresses such as"},
        {service("allow = ['example.com']"), "allow: expected addresses such as"},
        {service("allow = '10.0.0.0/8'\ndeny = ['10.2.0.0/16', '10.0.0.0/8']"),
         "deny: \"10.0.0.0/8\" is allowed too, at "},
        {service("on_deny = 'reject'"),
         "on_deny: expected \"refuse\" or \"drop\", found \"reject\""},
        {service("when_down = 'acept'"), "hint: did you mean \"accept\"?"},
        {service("limits = 5"), "limits: expected a table like { source_sessions = 100 }, found 5"},
        {service("limits = { source_rate = -1 }"),
         "limits.source_rate: expected a number from 0 to"},
        {service("limits = { rate = 1 }"), "unknown key \"rate\" in limits"},
        {service("addresses = ['198.51.100.1/24']"), "hint: write \"198.51.100.0/24\""},
    };
    for (const auto& row : rows) {
        auto error = refusal(row.text);
        CAPTURE(error, row.what);
        CHECK(contains(error, row.what));
    }
}

TEST_CASE("services may share a port at different addresses, and only there") {
    auto two = [](const std::string& one, const std::string& other) {
        return "[[service]]\nname = 'one'\nports = '5001-5010'\ntargets = '10.0.0.1:80'\n" + one +
               "\n[[service]]\nname = 'other'\nports = 5005\ntargets = '10.0.0.1:80'\n" + other;
    };
    CHECK(parse(two("addresses = '198.51.100.1'", "addresses = '198.51.100.2'")));
    CHECK(parse(two("addresses = '198.51.100.0/24'", "addresses = '198.51.100.2'")));
    CHECK(parse(two("", "addresses = '198.51.100.2'")));
    CHECK(contains(refusal(two("", "")), "ports: port 5005 is already in service \"one\""));
    CHECK(contains(
        refusal(two("addresses = ['198.51.100.1', '198.51.100.2']", "addresses = '198.51.100.2'")),
        "ports: port 5005 at 198.51.100.2 is already in service \"one\", at 3:9"));
    CHECK(contains(refusal("[proxify]\nlisten = 5005\n" +
                           two("addresses = '198.51.100.1'", "addresses = '198.51.100.2'")),
                   "lists port 5005, which is the listener's own"));
    CHECK(contains(refusal("[[service]]\nname = 'one'\nports = '1-65535'\ntargets = "
                           "'10.0.0.1:80'\naddresses = ['198.51.100.1', '198.51.100.2', "
                           "'198.51.100.3', '198.51.100.4', '198.51.100.5']"),
                   "addresses: ports times addresses are more than 262144"));
}

TEST_CASE("a wrong type or word is met with what was expected and what was found") {
    struct {
        std::string text, what;
    } rows[] = {
        {"service = 1", "1:11: service: expected [[service]] tables, found 1"},
        {"[service]\nname = 'web'", "1:1: service: expected [[service]] tables, found a table"},
        {"service = [1]", "1:12: service: expected [[service]] tables, found 1"},
        {"proxify = 1", "1:11: proxify: expected a table, found 1"},
        {"[[log]]", "1:1: log: expected a table, found an array"},
        {service("ports = [70000]"),
         "4:10: ports: expected a number from 1 to 65535 or a range like \"5300-5399\", found "
         "70000"},
        {service("ports = [\"70000\"]"),
         "4:10: ports: expected a number from 1 to 65535 or a range like \"5300-5399\", found "
         "\"70000\""},
        {service("ports = [\"5399-5300\"]"),
         "4:10: ports: the range \"5399-5300\" ends before it begins"},
        {service("ports = [80.5]"),
         "4:10: ports: expected a number from 1 to 65535 or a range like \"5300-5399\", found "
         "80.5"},
        {service("ports = [nan]"), "found nan"},
        {service("ports = true"),
         "4:9: ports: expected a number from 1 to 65535 or a range like \"5300-5399\", found true"},
        {service("name = 5"), "not valid TOML: key-value pair: cannot redefine"},
        {service("tries = \"3\""), "5:9: tries: expected a number from 1 to 16, found \"3\""},
        {service("relay = \"splice\""), "relay: expected \"auto\" or \"copy\", found \"splice\""},
        {service("health = 1"),
         "5:10: health: expected false or a table like { interval = \"2s\" }, found 1"},
        {service("health = { interval = 2 }"),
         "5:23: health.interval: expected a duration such as \"250ms\", \"5s\", \"1m30s\" or "
         "\"1h\", found 2"},
        {service("timeouts = { idle = '0s' }"),
         "5:21: timeouts.idle: expected a duration from 1ms to 8760h (365 days), found \"0s\""},
        {service("timeouts = []"),
         "5:12: timeouts: expected a table like { connect = \"5s\" }, found an empty array"},
        {service("") + "[log]\nlevel = 'warning'",
         "7:9: log.level: expected \"debug\", \"info\", \"warn\", \"error\" or \"off\", found "
         "\"warning\""},
        {service("") + "[log]\nformat = 1979-05-27",
         "7:10: log.format: expected \"text\" or \"json\", found a date or time"},
        {service("balance = 'leastconn'"),
         "5:11: balance: expected \"round-robin\", \"least-connections\", \"random\", "
         "\"source-hash\", \"maglev\" or \"first\", found \"leastconn\""},
        {"[[service]]\nname = 'a'\nports = 1\n"
         "targets = [{ address = '127.0.0.1:1', weight = 257 }]",
         "4:48: weight: expected a number from 0 to 256, found 257"},
        {"[[service]]\nname = 'a'\nports = 1\n"
         "targets = [{ address = '127.0.0.1:1', backup = 1 }]",
         "4:48: backup: expected true or false, found 1"},
    };
    for (const auto& [text, what] : rows) {
        auto error = refusal(text);
        CAPTURE(text, error);
        CHECK(contains(error, "targets.toml:"));
        CHECK(contains(error, what));
    }
}

TEST_CASE("a duration without a unit is shown with one") {
    CHECK(contains(refusal(service("timeouts = { idle = 5 }")), "hint: write \"5s\" or \"5ms\""));
    CHECK(contains(refusal(service("timeouts = { idle = '5' }")),
                   "hint: add a unit: \"5s\" or \"5ms\""));
}

TEST_CASE("all mistakes are reported at once, in the order of the file") {
    auto error =
        refusal("[proxify]\nlisten = 0\n" + service("ports = [0]\ntries = 0\ntargets = 'x'"));
    CHECK(error ==
          "error: targets.toml has 4 mistakes\n"
          "  targets.toml:2:10: listen: expected a port number from 1 to 65535, found 0\n"
          "  targets.toml:5:10: ports: expected a number from 1 to 65535 or a range like "
          "\"5300-5399\", found 0\n"
          "  targets.toml:6:9: tries: expected a number from 1 to 16, found 0\n"
          "  targets.toml:7:11: targets: target \"x\" has no port\n"
          "    hint: write \"x:80\"");
}

TEST_CASE("of very many mistakes the first are shown and the rest counted") {
    for (int count : {19, 20, 21, 5000}) {
        std::string zeros;
        for (int i = 0; i < count; ++i) zeros += "0,";
        auto error = refusal(service("ports = [" + zeros + "]"));
        CHECK(error.starts_with(format("error: targets.toml has {} mistakes\n", count)));
        CHECK(contains(error, "more") == (count > 20));
        if (count > 20) CHECK(error.ends_with(format("\n  and {} more", count - 20)));
    }
}

TEST_CASE("text in a message is on one line, harmless to a terminal, and short") {
    auto error = refusal(service("ports = \"\\u001b[31m\\n\\u009b\""));
    CHECK(contains(error, "found \"\\x1B[31m\\x0A\\x9B\""));
    CHECK(refusal(service("ports = '" + std::string(100000, 'x') + "'")).size() < 1000);
    CHECK(refusal(std::string(100000, 'x') + " = 1").size() < 1000);
    CHECK(refusal("[proxify]\ndefault_service = '" + std::string(100000, 'x') + "'\n" + service(""))
              .size() < 1000);
}

// ---- what is no TOML

TEST_CASE("what is no TOML is one error with its place") {
    struct {
        std::string text, place;
    } rows[] = {{"[[service", "1:"},
                {"\n\nname = web", "3:"},
                {"ports = [5300-5399]", "1:"},
                {"a = 1\na = 2", "2:"},
                {"a = \"\xff\"", "1:"},
                {"\xff\xfe[\0]", "1:"},
                {std::string("a = 1\0", 6), "1:"},
                {"a = 99999999999999999999", "1:"},
                {"a = " + std::string(1000000, '['), "1:"},
                {"a = " + std::string(1000000, '{'), "1:"},
                {"a = \"" + std::string(1000000, 'x'), "1:"},
                {"\xC3\xA4 \n = ", "1:"}};
    for (const auto& [text, place] : rows) {
        auto error = refusal(text);
        CAPTURE(error);
        CHECK(contains(error, "error: targets.toml:" + place));
        CHECK(contains(error, "not valid TOML: "));
        CHECK(error.size() < 1000);
    }
    CHECK(contains(refusal("ports = [5300-5399]"), "need quotes"));
}

TEST_CASE("a key of very many parts is refused, wherever it stands") {
    std::string key = "a";
    for (int i = 0; i < 100000; ++i) key += ".a";
    for (auto text : {key + " = 1", "[" + key + "]", "[[" + key + "]]", "a = { " + key + " = 1 }",
                      "a = \"'\"\n" + key + " = 1", "a = '\"' # '\n" + key + " = 1",
                      "a = '\\'\n" + key + " = 1", "a = \"\\\"\"\n" + key + " = 1",
                      "# \"\n" + key + " = 1", "\"a\"" + key.substr(1) + " = 1"}) {
        CHECK(contains(refusal(text), "a key with too many dots"));
    }
    CHECK(contains(refusal("# \xC3\xA4\n\"\xC3\xA4\" = '" + key + "'\n" + key + " = 1"),
                   "targets.toml:3:18: "));
    // Dots in text and comments are no keys.
    CHECK(parse(service("# a.b.c.d.e.f.g.h.i.j.k\ntargets = 'a.b.c.d.e.f.g.h.i.j.k:80'")));
}

TEST_CASE("letters beyond ASCII stand in quotes and comments only") {
    CHECK(parse("\xEF\xBB\xBF# \xC2\xA7\n" + service("# \xE2\x80\xA8\r\n")));
    CHECK(contains(refusal(service("balance = '\xC2\xA7'")), "found \"\xC2\xA7\""));
    for (auto text : {"\xC2\xA7", "a = 1 \xC2\xA7", "a\xC2\xA7 = 1", "a = '' \xC2\xA7"})
        CHECK(contains(refusal(text), "not valid TOML: "));
    CHECK(contains(refusal("# \xC3\xA4\n\"\xC3\xA4\" = \xC3\xA4"), "targets.toml:2:7: "));
    CHECK(contains(refusal("a = 9=\"\xC2\xA7\""), "targets.toml:1:6: not valid TOML: "));
}

TEST_CASE("a header without a name is refused") {
    for (auto text : {"[[[service]]]", "[#", " \t[ \n]", "[=]", "\n[[ .a]]", "[", "[[", "[]",
                      "[[]]", "[ ]", "[a", "[[a]"}) {
        auto error = refusal(text);
        CAPTURE(text, error);
        CHECK(contains(error, "not valid TOML: "));
        CHECK(contains(error, "table"));
    }
    CHECK(parse("[ log ]\n[\"proxify\"]\n[[ 'service' ]]\n" + service("").substr(12)));
}

TEST_CASE("multi-line strings are not supported") {
    for (auto text :
         {"a = \"\"\"x\"\"\"", "a = '''x'''", "a = \"\"\"\\\n\xC2\xA7\"\"\"", "a = '''"})
        CHECK(contains(refusal(text), "targets.toml:1:5: multi-line strings are not supported"));
    CHECK(contains(refusal("a = ''"), "unknown key"));
}

TEST_CASE("an empty file says what is missing and shows it") {
    for (auto text : {"", "\n", "# nothing\n", "\xEF\xBB\xBF", "service = []", "[proxify]",
                      "[log]\nlevel = 'off'"}) {
        auto error = refusal(text);
        CHECK(contains(
            error, "error: targets.toml:1:1: there is no [[service]], so there is nothing to do"));
        CHECK(contains(error, "[[service]]\n"));
    }
}

// ---- files

TEST_CASE("a file that cannot be read is named with the reason") {
    test::TempDir dir;
    auto error_of = [](const std::string& path) { return config::load(path).error().text(); };

    auto missing = dir / "missing.toml";
    CHECK(error_of(missing) ==
          "error: cannot read " + missing +
              ": No such file or directory\n"
              "  hint: proxify reads ./targets.toml; another file is named with -c FILE");
    CHECK(error_of(dir.path()) == "error: cannot read " + dir.path().string() + ": Is a directory");
    CHECK(error_of("").starts_with("error: cannot read : No such file"));
    CHECK(contains(error_of("/dev/zero"), "larger than 8 MiB"));
    CHECK(contains(error_of("/dev/null"), "there is no [[service]]"));

    auto secret = dir / "secret.toml";
    test::write_file(secret, service(""));
    REQUIRE(::chmod(secret.c_str(), 0) == 0);
    if (::geteuid() != 0)
        CHECK(error_of(secret) == "error: cannot read " + secret + ": Permission denied");
}

TEST_CASE("a file is read up to 8 MiB and refused beyond") {
    test::TempDir dir;
    auto path = dir / "targets.toml";
    auto text = service("");
    for (long size : {(8l << 20) - 1, 8l << 20, (8l << 20) + 1, 100l << 20}) {
        test::write_file(path, text + std::string(static_cast<size_t>(size) - text.size(), '\n'));
        CAPTURE(size);
        CHECK(config::load(path).has_value() == (size <= 8l << 20));
    }
}

TEST_CASE("60 000 ports in one file are ordinary, however they are written") {
    std::string numbers, ranges, services;
    for (int port = 1; port <= 60000; ++port) {
        numbers += format("{},", port);
        ranges += format("\"{}-{}\",\n", port, port);
        services +=
            format("[[service]]\nname = \"s{}\"\nports = {}\ntargets = \"x:1\"\n", port, port);
    }
    for (const auto& text : {service("ports = \"1-60000\""), service("ports = [" + numbers + "]"),
                             service("ports = [" + ranges + "]"), services}) {
        auto before = std::chrono::steady_clock::now();
        auto config = must_parse(text);
        auto took = std::chrono::steady_clock::now() - before;
        CHECK(contains(config::describe(config), "60000 ports"));
        // Measured at -O2: 0.6, 12, 18 and 190 ms. This bound only tells linear from quadratic, on
        // a slow machine, without optimisation and under sanitizers too.
        CHECK(took < 15s);
    }
}

// ---- describe

TEST_CASE("a config is described for people") {
    auto config = must_parse(R"(
        [proxify]
        default_service = "b"
        resolve_interval = "5s"
        [[service]]
        name = "a"
        ports = [5003, 5001, 5002, 7, "5300-5399", 5400]
        targets = ["127.0.0.1:9001", "[::1]:*", "db.internal:+5", "_http._tcp.db.internal"]
        health = { port = 81 }
        timeouts = { idle = "2h", half_close = "1s" }
        tries = 1
        relay = "copy"
        [[service]]
        name = "b"
        targets = "127.0.0.1:9001"
        health = false
    )");
    CHECK(config::describe(config) ==
          R"(listener         port 8080, with -b
default service  b
drain timeout    10s
admin            /run/proxify/admin.sock
log              text, info

service a
  ports     7, 5001-5003, 5300-5400
  targets   127.0.0.1:9001
            [::1]:*  (the port that was dialled)
            db.internal:+5  (the port that was dialled, plus 5; looked up again within 5s)
            _http._tcp.db.internal  (ports and weights from its SRV records; looked up again within 5s)
  health    tcp on port 81 every 2s, timeout 1s; up after 2, down after 3
  timeouts  idle 2h, half-close 1s
  tries     1
  relay     copy

service b
  ports     none of its own
  targets   127.0.0.1:9001
  health    not checked; only real connections tell

2 services, 5 targets, 105 ports
)");
}

TEST_CASE("a description stays short for ports that do not join") {
    std::string odd;
    for (int port = 1; port < 60000; port += 2) odd += format("{},", port);
    auto text = config::describe(must_parse(service("ports = [" + odd + "]")));
    CHECK(contains(text, "more\n"));
    CHECK(contains(text, "1 service, 1 target, 30000 ports"));
    CHECK(text.size() < 2000);
}

TEST_CASE("the shipped targets.toml is good") {
    auto config = config::load(test::source_root() + "/targets.toml");
    if (!config) FAIL(config.error().text());
    CHECK(config->services[*config->default_service].name == "five-thousand");
}
