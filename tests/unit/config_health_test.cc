// SPDX-License-Identifier: Apache-2.0
// The `health` table: what each type of check takes, and what is said about the rest.
#include <algorithm>

#include "base/format.h"
#include "config/config.h"
#include "config/words.h"
#include "support/catch.h"
#include "support/log_lines.h"
#include "support/proxify_process.h"
#include "support/temp_dir.h"

using namespace proxify;
using namespace std::chrono_literals;

namespace {

std::string with_health(const std::string& health) {
    return "[[service]]\nname = 'web'\nports = 80\ntargets = '127.0.0.1:9001'\nhealth = " + health;
}

config::HealthSpec health(const std::string& table) {
    auto config = config::parse(with_health(table), "targets.toml");
    if (!config) FAIL(config.error().text());
    return config->services[0].health;
}

template <class T>
T check(const std::string& table) {
    auto spec = health(table);
    REQUIRE(std::holds_alternative<T>(spec.check));
    return std::get<T>(spec.check);
}

std::string refusal(const std::string& table) {
    auto config = config::parse(with_health(table), "targets.toml");
    return config ? "accepted" : config.error().text();
}

}  // namespace

TEST_CASE("the type of a check is a word, and tcp without it") {
    CHECK(health("{}").check.index() == 0);
    CHECK(health("{ type = 'tcp' }") == config::HealthSpec{});
    check<config::HttpCheck>("{ type = 'http' }");
    check<config::SendCheck>("{ type = 'send', expect = '220' }");
    check<config::TlsCheck>("{ type = 'tls' }");
    check<config::ExecCheck>("{ type = 'exec', command = '/bin/true' }");
}

TEST_CASE("intervals, address and initial state") {
    auto spec = health(
        "{ interval = '10s', fast_interval = '1s', down_interval = '1m', initial = 'down', "
        "address = '2001:db8::1', port = 81 }");
    CHECK(spec.interval == 10s);
    CHECK(spec.fast_interval == Duration(1s));
    CHECK(spec.down_interval == Duration(1min));
    CHECK_FALSE(spec.initially_up);
    CHECK(spec.address == Ip::parse("2001:db8::1"));
    CHECK(spec.port == 81);

    auto usual = health("{ initial = 'up' }");
    CHECK_FALSE(usual.fast_interval);
    CHECK_FALSE(usual.down_interval);
    CHECK(usual.initially_up);
    CHECK_FALSE(usual.address);
}

TEST_CASE("an http check: defaults, and every key") {
    auto usual = check<config::HttpCheck>("{ type = 'http' }");
    CHECK(usual.method == "GET");
    CHECK(usual.path == "/");
    CHECK(usual.host.empty());
    CHECK(usual.statuses == std::vector<config::StatusRange>{{200, 399}});
    CHECK_FALSE(usual.body);
    CHECK_FALSE(usual.tls);

    auto full = check<config::HttpCheck>(
        "{ type = 'http', method = 'HEAD', path = '/up?deep=1', host = 'www.example:8080', "
        "status = [200, '300-302', \"418\"], body = 'ok$', tls = true, sni = 'www.example', "
        "verify = true }");
    CHECK(full.method == "HEAD");
    CHECK(full.path == "/up?deep=1");
    CHECK(full.host == "www.example:8080");
    CHECK(full.statuses == std::vector<config::StatusRange>{{200, 200}, {300, 302}, {418, 418}});
    CHECK(full.body->text() == "ok$");
    CHECK(full.tls == config::TlsSpec{"www.example", true});
    CHECK(check<config::HttpCheck>("{ type = 'http', status = 204 }").statuses ==
          std::vector<config::StatusRange>{{204, 204}});
}

TEST_CASE("a send check: text with TOML's escapes, hexadecimal digits, a regular expression") {
    auto text =
        check<config::SendCheck>(R"({ type = "send", send = "PING\r\n", expect = "+PONG" })");
    CHECK(text.send == "PING\r\n");
    CHECK(text.expect == "+PONG");
    auto hex =
        check<config::SendCheck>("{ type = 'send', send_hex = '00 fF 0a', expect_hex = '4a00' }");
    CHECK(hex.send == std::string("\x00\xff\x0a", 3));
    CHECK(hex.expect == std::string("J\0", 2));
    auto regex = check<config::SendCheck>("{ type = 'send', expect_regex = '^220 .*ESMTP' }");
    CHECK(regex.send.empty());
    CHECK(regex.expect_pattern->text() == "^220 .*ESMTP");
}

TEST_CASE("tls and exec checks") {
    auto usual = check<config::TlsCheck>("{ type = 'tls' }");
    CHECK(usual == config::TlsCheck{{"", false}, 336h});
    CHECK(check<config::TlsCheck>(
              "{ type = 'tls', sni = 'db.example', verify = true, expiry_warning = '24h' }") ==
          config::TlsCheck{{"db.example", true}, 24h});
    CHECK(check<config::ExecCheck>("{ type = 'exec', command = ['/bin/sh', '-c', ''] }").command ==
          std::vector<std::string>{"/bin/sh", "-c", ""});
}

TEST_CASE("what is wrong in a health table is said with its place and a way out") {
    struct {
        std::string table, what, hint;
    } rows[] = {
        {"{ type = 'htp' }",
         "5:19: health.type: expected \"tcp\", \"http\", \"send\", \"tls\" or \"exec\", found "
         "\"htp\"",
         "did you mean \"http\"?"},
        {"{ type = 'http', body = '(a' }",
         "5:34: health.body: \"(a\" is not a regular expression: missing ): (a",
         "the syntax is RE2's"},
        {"{ type = 'http', body = '(a{1000}){1000}' }", "5:34: health.body:", "RE2"},
        {"{ type = 'send', expect_regex = '*' }",
         "5:42: health.expect_regex: \"*\" is not a regular expression: no argument for "
         "repetition operator: *",
         "RE2"},
        {"{ path = '/x' }", "5:19: health.path: checks of the type \"tcp\" have no such key",
         "it belongs to type = \"http\""},
        {"{ type = 'http', send = 'x' }",
         "5:34: health.send: checks of the type \"http\" have no such key",
         "it belongs to type = \"send\""},
        {"{ type = 'http', path = 'x' }",
         "5:34: health.path: expected a path like \"/healthz\", without spaces, found \"x\"", ""},
        {"{ type = 'http', path = '/a b' }", "expected a path like", ""},
        {R"({ type = "http", host = "a\r\nX: y" })", "5:34: health.host: expected a host like", ""},
        {"{ type = 'http', method = 'get' }",
         "5:36: health.method: expected a method like \"GET\" or \"HEAD\", found \"get\"", ""},
        {"{ type = 'http', status = 99 }",
         "5:36: health.status: expected a number from 100 to 599 or a range like \"200-399\", "
         "found 99",
         ""},
        {"{ type = 'http', status = ['399-200'] }",
         "health.status: the range \"399-200\" ends before it begins", "write \"200-399\""},
        {"{ type = 'http', status = [] }", "found an empty array", ""},
        {"{ type = 'http', verify = true }", "5:36: health.verify: the check does not use TLS",
         "add tls = true"},
        {"{ type = 'send' }", "5:10: health: the check has nothing to send and nothing to expect",
         "add a key like"},
        {"{ type = 'send', send = 'a', send_hex = '00' }",
         "health.send_hex: \"send\" is written already", "write one of them"},
        {"{ type = 'send', send = '' }", "5:34: health.send: expected 1 to 4096 bytes of text", ""},
        {"{ type = 'send', send_hex = '0' }",
         "5:38: health.send_hex: expected bytes as pairs of hexadecimal digits", ""},
        {"{ type = 'send', send_hex = '0g' }", "pairs of hexadecimal digits", ""},
        {"{ type = 'tls', sni = 'a b' }",
         "5:32: health.sni: expected a name like \"db.example\", found \"a b\"", ""},
        {"{ type = 'tls', expiry_warning = '0s' }",
         "expected a duration from 1s to 8760h (365 days), found \"0s\"", ""},
        {"{ type = 'exec' }", "5:10: health: the check has no command", "add a key like command"},
        {"{ type = 'exec', command = 'true' }",
         "5:37: health.command: expected the full path of a program, and its arguments",
         "write [\"/usr/local/bin/check\""},
        {"{ type = 'exec', command = [] }", "expected the full path of a program", ""},
        {"{ type = 'exec', command = ['/bin/true', 1] }", "5:51: health.command: expected texts",
         ""},
        {R"({ type = "exec", command = ["/bin/true\u0000x"] })", "health.command: expected texts",
         ""},
        {"{ address = '10.0.0.1:80' }",
         "5:22: health.address: expected an address like \"10.0.0.1\" or \"2001:db8::1\", found "
         "\"10.0.0.1:80\"",
         "without a port"},
        {"{ initial = 'maybe' }", "health.initial: expected \"up\" or \"down\", found \"maybe\"",
         ""},
        {"{ fast_interval = '9ms' }", "health.fast_interval: expected a duration from 10ms", ""},
        {"{ down_interval = 1 }", "health.down_interval: expected a duration", "write \"1s\""},
    };
    for (const auto& [table, what, hint] : rows) {
        auto error = refusal(table);
        CAPTURE(table, error);
        CHECK(error.find(what) != std::string::npos);
        CHECK(error.find(hint) != std::string::npos);
    }
}

TEST_CASE("edges of what a health table takes") {
    struct {
        std::string under, exact, over;
    } rows[] = {
        {"{ type = 'http', status = 100 }", "{ type = 'http', status = '100-599' }",
         "{ type = 'http', status = 600 }"},
        {format("{{ type = 'send', send = '{}' }}", std::string(4095, 'x')),
         format("{{ type = 'send', send = '{}' }}", std::string(4096, 'x')),
         format("{{ type = 'send', send = '{}' }}", std::string(4097, 'x'))},
        {format("{{ type = 'http', body = '{}' }}", std::string(900, 'x')),
         format("{{ type = 'http', body = '{}' }}", std::string(950, 'x')),
         format("{{ type = 'http', body = '{}' }}", std::string(1001, 'x'))},
    };
    for (const auto& [under, exact, over] : rows) {
        CHECK(refusal(under) == "accepted");
        CHECK(refusal(exact) == "accepted");
        CHECK(refusal(over) != "accepted");
    }
}

TEST_CASE("every health check in the pages for people is a good one") {
    int examples = 0;
    for (auto page : {"/docs/targets.md", "/docs/balancing.md"})
        for (const auto& line : test::lines_of(test::read_file(test::source_root() + page))) {
            constexpr std::string_view key = "health = { ";
            auto begin = line.find_first_not_of(' ');
            if (begin == std::string::npos || !line.substr(begin).starts_with(key)) continue;
            CHECK(refusal(line.substr(begin + key.size() - 2)) == "accepted");
            ++examples;
        }
    CHECK(examples >= 10);
}

TEST_CASE("proxify check shows what a check does") {
    struct {
        std::string table, text;
    } rows[] = {
        {"{ address = '10.0.0.9', fast_interval = '500ms', down_interval = '1m', initial = 'down' "
         "}",
         "  health    tcp at 10.0.0.9 every 2s, 500ms in doubt, 1m while down, timeout 1s; "
         "down at first; up after 2, down after 3\n"},
        {"{ type = 'http', path = '/up', status = [200, '300-301'], body = 'ok' }",
         "  health    http every 2s, timeout 1s; up after 2, down after 3\n"
         "            GET /up; status 200, 300-301; body with \"ok\"\n"},
        {"{ type = 'http', host = 'h', tls = true, verify = true }",
         "            GET /; host h; over TLS; certificate verified; status 200-399\n"},
        {R"({ type = "send", send = "PING\r\n", expect = "+PONG" })",
         "            sends \"PING\\x0D\\x0A\"; expects \"+PONG\"\n"},
        {"{ type = 'send', expect_regex = '^2' }", "            expects a match of \"^2\"\n"},
        {"{ type = 'tls', sni = 'x.example' }",
         "            name x.example; warns when its certificate ends within 336h\n"},
        {"{ type = 'exec', command = ['/bin/check', 'it'] }", "            /bin/check it\n"},
    };
    for (const auto& [table, text] : rows) {
        auto config = config::parse(with_health(table), "targets.toml");
        REQUIRE(config);
        const auto described = config::describe(*config);
        CAPTURE(described);
        CHECK(described.find(text) != std::string::npos);
    }
}
