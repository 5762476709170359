// SPDX-License-Identifier: Apache-2.0
#include "control/changes.h"

#include <random>

#include "support/catch.h"
#include "support/temp_dir.h"
#include "tls/authority.h"

using namespace proxify;
using routing::Snapshot;

namespace {

config::Config parse(const std::string& text) {
    auto config = config::parse(text, "test.toml");
    INFO(text << (config ? "" : config.error().text()));
    REQUIRE(config);
    return *config;
}

std::shared_ptr<const Snapshot> running(const config::Config& config) {
    return Snapshot::build(
        config, [](const std::string&) { return std::vector<Endpoint>(); }, nullptr, Time{});
}

std::string plan_text(const report::Plan& plan) {
    std::string out;
    for (const auto& change : plan.changes)
        out += change.sign + " " + change.what +
               (change.effect.empty() ? "" : " (" + change.effect + ")") + "\n";
    for (const auto& warning : plan.warnings) out += "! " + warning + "\n";
    return out;
}

std::string plan(const std::string& before, const std::string& after) {
    return plan_text(control::plan_change(*running(parse(before)), parse(after)));
}

std::string web(const std::string& keys, const std::string& targets = "'10.0.0.1:80'",
                const std::string& ports = "80") {
    return "[[service]]\nname = 'web'\nports = [" + ports + "]\ntargets = [" + targets + "]\n" +
           keys + "\n";
}
std::string file(const std::string& keys) {
    return "[proxify]\n" + keys + "\n" + web("");
}

}  // namespace

TEST_CASE("each kind of difference is said in a line of its own") {
    struct {
        std::string before, after, plan;
    } rows[] = {
        {web(""), web(""), ""},
        {file("listen = 8080"), file("listen = 9090"), "~ listen: 8080 -> 9090\n"},
        {file(""), file("default_service = 'web'"), "~ default_service: none -> web\n"},
        {file(""), file("workers = 3"), "~ workers: auto -> 3\n"},
        {file(""), file("drain_timeout = '1m'"), "~ drain_timeout: 10s -> 1m\n"},
        {file(""), file("resolve_interval = '1m'"), "~ resolve_interval: 30s -> 1m\n"},
        {file(""), file("deny = ['198.51.100.0/24']"),
         "~ deny of all services: + 198.51.100.0/24 (live sessions stay)\n"},
        {web(""), "[log]\nformat = 'json'\n" + web(""), "~ [log]\n"},
        {web(""), "[admin]\nsocket = false\n" + web(""), "~ [admin]\n"},
        {web("", "'10.0.0.1:80'", "80, '100-102', 104"), web("", "'10.0.0.1:80'", "80, 101, 200"),
         "- ports 100, 102, 104 of service web (open connections stay)\n"
         "+ ports 200 of service web\n"},
        // The same ports, written otherwise.
        {web("", "'10.0.0.1:80'", "'80-81'"), web("", "'10.0.0.1:80'", "80, 81"),
         "~ service web\n"},
        {web(""), web("addresses = '198.51.100.0/24'"),
         "~ addresses of service web: any -> 198.51.100.0/24\n"},
        {web("", "'10.0.0.1:80', '10.0.0.2:80'"), web("", "'10.0.0.2:80', 'db.example:80'"),
         "- target 10.0.0.1:80 of service web\n+ target db.example:80 of service web\n"},
        {web(""),
         web("",
             "{ address = '10.0.0.1:80', weight = 5, priority = 1, backup = false, "
             "max_connections = 7 }"),
         "~ weight of target 10.0.0.1:80 of service web: 1 -> 5\n"
         "~ priority of target 10.0.0.1:80 of service web: 0 -> 1\n"
         "~ max_connections of target 10.0.0.1:80 of service web: 0 -> 7\n"
         "~ room of service web: as usual -> 1000 may wait, for 5s\n"},
        {web("", "'10.0.0.1:80', '10.0.0.2:80'"),
         web("", "'10.0.0.1:80', { address = '10.0.0.2:80', backup = true }"),
         "~ backup of target 10.0.0.2:80 of service web: false -> true\n"},
        {web("", "'10.0.0.1:80', '10.0.0.2:80'"), web("", "'10.0.0.2:80', '10.0.0.1:80'"),
         "~ service web\n"},
        {web("allow = ['10.0.0.0/8', '198.51.100.0/24']"),
         web("allow = ['203.0.113.0/24', '10.0.0.0/8']"),
         "~ allow of service web: + 203.0.113.0/24 - 198.51.100.0/24 (live sessions stay)\n"},
        {web(""), web("balance = 'random'"), "~ balance of service web: as usual -> random\n"},
        {web("when_down = 'drop'"), web(""), "~ if down of service web: drop -> as usual\n"},
        {web("count_ports = true"), web(""),
         "~ counted of service web: for each port -> as usual\n"},
        {web(""), web("filters = [{ type = 'count' }, { type = 'rate', bytes = '1MiB' }]"),
         "~ filters of service web: none -> count; rate 1MiB/s per session, 104857B at once\n"},
        {web("filters = [{ type = 'count' }, { type = 'log' }]"),
         web("filters = [{ type = 'log' }, { type = 'count' }]"),
         "~ filters of service web: count; log -> log; count\n"},
        {web("filters = [{ type = 'count' }]"), web(""),
         "~ filters of service web: count -> none\n"},
        {web("chunk_size = '64KiB'"), web(""),
         "~ chunks of service web: of at most 64KiB -> as usual\n"},
        {web(""), web("cache = {}"),
         "~ cache of service web: none -> answers for 10s, 64MiB in all\n"},
        {web("cache = {}"), web("cache = { request_timeout = '3s' }"),
         "~ cache of service web: answers for 10s, 64MiB in all -> answers for 10s, 64MiB in all; "
         "requests within 3s\n"},
        {web(""), web("") + "[[service]]\nname = 'mail'\nports = 25\ntargets = '10.0.0.3:25'\n",
         "+ service mail, ports 25\n+ target 10.0.0.3:25 of service mail\n"},
        {web("") + "[[service]]\nname = 'mail'\nports = 25\ntargets = '10.0.0.3:25'\n", web(""),
         "- service mail, ports 25\n"},
        {web("") + "[[service]]\nname = 'mail'\nports = 25\ntargets = '10.0.0.3:25'\n",
         "[[service]]\nname = 'mail'\nports = 25\ntargets = '10.0.0.3:25'\n" + web(""),
         "~ order of the services\n"},
    };
    for (const auto& [before, after, wanted] : rows) {
        CAPTURE(before, after);
        CHECK(plan(before, after) == wanted);
    }
}

TEST_CASE("lists that are long are counted, not listed") {
    std::string many, ports;
    for (int i = 0; i < 10; ++i) {
        many += "'10.0." + std::to_string(i) + ".0/24', ";
        ports += std::to_string(1000 + 2 * i) + ", ";
    }
    CHECK(plan(web(""), web("deny = [" + many + "]")) ==
          "~ deny of service web: + 10 prefixes (live sessions stay)\n");
    CHECK(plan(web(""), web("", "'10.0.0.1:80'", "80, " + ports)) ==
          "+ ports 1000, 1002, 1004, 1006, 1008, 1010, 1012, 1014 and 2 more ranges of service "
          "web\n");
}

TEST_CASE("what becomes of live sessions is said, and who would be left without a target") {
    auto before = parse(web("", "'10.0.0.1:80', '10.0.0.2:80'"));
    auto snapshot = running(before);
    const auto& targets = snapshot->services()[1]->pool.targets();
    balance::Tried tried;
    std::vector<balance::Seat> seats;
    for (int i = 0; i < 3; ++i)
        seats.push_back(
            snapshot->services()[1]
                ->pool
                .take({.client = Ip::v4(10, 0, 0, 9), .random = 1, .tried = tried, .now = Time{}})
                .seat);
    REQUIRE(targets[0]->sessions == 2);
    auto text = [&](const std::string& after) {
        return plan_text(control::plan_change(*snapshot, parse(after)));
    };
    CHECK(text(web("", "'10.0.0.2:80'")) ==
          "- target 10.0.0.1:80 of service web (it keeps 2 sessions)\n");
    CHECK(text("[[service]]\nname = 'other'\nports = 80\ntargets = '10.0.0.1:80'\n") ==
          "- service web, ports 80 (its 3 sessions go on)\n"
          "+ service other, ports 80\n+ target 10.0.0.1:80 of service other\n");

    targets[1]->set_up(false, Time{});
    const std::string warning =
        "! service web would have no target that is up: its clients would be told so by "
        "when_down = \"refuse\"\n";
    CHECK(text(web("", "'10.0.0.2:80'")).ends_with(warning));
    CHECK_FALSE(text(web("", "'10.0.0.2:80', '10.0.0.3:80'")).ends_with(warning));
    CHECK(text(web("health = { initial = 'down' }", "'10.0.0.3:80'")).ends_with(warning));
    CHECK(text(web("", "{ address = '10.0.0.1:80', weight = 0 }")).ends_with(warning));
}

TEST_CASE("a script that says something else is a change, though the file is the same") {
    test::TempDir dir;
    const auto text = web("filters = [{ type = 'lua', script = 'a.lua' }]");
    auto load = [&](const std::string& code) {
        test::write_file(dir / "a.lua", code);
        auto config = config::parse(text, dir / "targets.toml");
        REQUIRE(config);
        return *config;
    };
    const std::string one = "return { to_target = function() end }\n";
    const auto old = load(one), same = load(one), next = load(one + "-- two\n");
    CHECK(old == same);
    CHECK(plan_text(control::plan_change(*running(old), same)) == "");
    CHECK(plan_text(control::plan_change(*running(old), next)) ==
          "~ script " + (dir / "a.lua") +
              " of element lua of service web (live sessions keep the old one)\n");
}

TEST_CASE("a certificate that was renewed is a change, though the file is the same", "[P-47]") {
    test::TempDir dir;
    auto write = [&](const std::string& name, const tls::Issued& made) {
        test::write_file(dir / (name + ".pem"), made.certificate);
        test::write_file(dir / (name + ".key"), made.key);
    };
    const auto ca = *tls::make_authority({.common_name = "Example authority"});
    const auto issue = [&](const std::string& name) {
        return *tls::issue({{"ca.pem", ca.certificate}, {"ca.key", ca.key}},
                           {.common_name = "", .names = {name}});
    };
    auto load = [&](const std::string& keys) {
        auto config = config::parse(web(keys), dir / "targets.toml");
        INFO((config ? "" : config.error().text()));
        REQUIRE(config);
        return *config;
    };
    const std::string tls = "tls = { certificates = 'a.pem', key = 'a.key', client_ca = 'ca.pem' }";
    write("ca", ca);
    write("a", issue("a.example"));
    const auto old = load(tls), same = load(tls), none = load("");
    CHECK(plan_text(control::plan_change(*running(old), same)) == "");
    CHECK(plan_text(control::plan_change(*running(none), old)) ==
          "~ tls of service web: none -> with clients: TLS 1.2 or newer, a.example; clients may "
          "show a certificate by " +
              (dir / "ca.pem") + "\n");

    write("a", issue("a.example"));
    write("ca", *tls::make_authority({.common_name = "Example authority"}));
    CHECK(plan_text(control::plan_change(*running(old), load(tls))) ==
          "~ certificate " + (dir / "a.pem") + " of service web (live sessions stay)\n~ key " +
              (dir / "a.key") + " of service web (live sessions stay)\n~ authority of clients " +
              (dir / "ca.pem") + " of service web (live sessions stay)\n");
}

namespace {

/// A file with any of the settings there are, by chance.
std::string random_file(std::mt19937& random) {
    auto one_of = [&](std::initializer_list<const char*> some) {
        return std::string(some.begin()[random() % some.size()]) + "\n";
    };
    std::string out = "[proxify]\n";
    out += one_of({"", "listen = 8080", "listen = 9090"});
    out += one_of({"", "", "drain_timeout = '1m'"});
    out += one_of({"", "", "resolve_interval = '1m'"});
    out += one_of({"", "", "workers = 2", "workers = 3"});
    out += one_of({"", "", "deny = '10.9.0.0/16'", "deny = '10.8.0.0/16'"});
    out += one_of({"", "", "[log]\nformat = 'json'", "[log]\nlevel = 'warn'"});
    out += one_of({"", "", "[admin]\nsocket = false", "[admin]\nhttp = '127.0.0.1:9'"});
    for (std::string name : {"a", "b"}) {
        if (name == "b" && random() % 3 == 0) continue;
        out += "[[service]]\nname = '" + name + "'\n";
        out += name == "a" ? one_of({"ports = 80", "ports = [80, 81]", "ports = '80-81'"})
                           : one_of({"ports = 90", "ports = 91"});
        out += one_of({"targets = '10.0.0.1:80'", "targets = ['10.0.0.1:80', '10.0.0.2:80']",
                       "targets = ['10.0.0.2:80', '10.0.0.1:80']",
                       "targets = { address = '10.0.0.1:80', weight = 2 }",
                       "targets = ['10.0.0.2:80', { address = '10.0.0.1:80', backup = true }]"});
        if (random() % 2 == 0) continue;
        out += one_of({"", "balance = 'random'", "balance = 'maglev'",
                       "balance = 'maglev'\nhash_balance_factor = 125"});
        out += one_of({"", "tries = 2", "tries = 3"});
        out += one_of({"", "max_connections = 5", "max_connections = 6"});
        out += one_of({"", "when_down = 'drop'", "on_deny = 'drop'", "on_down = 'reset'"});
        out += one_of({"", "allow = '10.0.0.0/8'", "allow = ['10.0.0.0/8', '10.1.0.0/16']",
                       "allow = ['10.1.0.0/16', '10.0.0.0/8']", "deny = '10.0.0.0/8'"});
        out += one_of({"", "count_ports = true", "relay = 'copy'", "slow_start = '5s'",
                       "panic = 50", "ejection = false", "addresses = '10.1.0.0/16'"});
        out += one_of({"", "health = false", "health = { interval = '5s' }",
                       "health = { type = 'http', path = '/x' }", "health = { type = 'tls' }",
                       "health = { port = 5 }", "health = { down_interval = '9s' }"});
        out += one_of({"", "", "filters = [{ type = 'count' }]",
                       "filters = [{ type = 'limit_bytes', bytes = 5, name = 'count' }]",
                       "filters = [{ type = 'count', direction = 'to_client' }]"});
        out += one_of({"", "", "target_tls = { verify = false }",
                       "target_tls = { verify = false, server_name = 'a.example' }",
                       "target_tls = { verify = false, min_version = '1.3' }"});
        out += one_of({"", "", "chunk_size = 5", "cache = {}", "cache = { ttl = '5s' }"});
        out += one_of({"", "timeouts = { idle = '5m' }", "timeouts = { connect = '1s' }",
                       "queue = { size = 5 }", "queue = { timeout = '1s' }",
                       "limits = { source_rate = 5 }", "limits = { source_sessions = 5 }"});
    }
    return out;
}

}  // namespace

TEST_CASE("a plan is empty exactly when nothing differs, over thousands of pairs") {
    std::mt19937 random(7);
    int same = 0, checked = 0;
    std::vector<std::pair<std::string, config::Config>> files;
    while (files.size() < 150) {
        auto text = random_file(random);
        auto config = config::parse(text, "test.toml");
        INFO(text << (config ? "" : config.error().text()));
        REQUIRE(config);
        files.emplace_back(text, *config);
    }
    // Twice the same now and then.
    files.insert(files.end(), files.begin(), files.begin() + 10);
    for (const auto& [before_text, before] : files) {
        const auto snapshot = running(before);
        for (const auto& [after_text, after] : files) {
            const auto plan = control::plan_change(*snapshot, after);
            ++checked;
            same += before == after;
            if (plan.changes.empty() == (before == after)) continue;
            CAPTURE(before_text, after_text, plan_text(plan));
            CHECK(plan.changes.empty() == (before == after));
        }
    }
    CHECK(checked == 160 * 160);
    CHECK(same >= 160);
}
