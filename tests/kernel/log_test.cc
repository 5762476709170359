// SPDX-License-Identifier: Apache-2.0
// The log: one line for each session, whatever happens to it, as text or as JSON.
#include <algorithm>
#include <csignal>
#include <functional>
#include <set>

#include "support/json.h"
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

std::string config(const std::string& format, const std::string& level = "info") {
    return "[log]\nformat = \"" + format + "\"\nlevel = \"" + level + R"("

[[service]]
name     = "web"
ports    = [5001]
targets  = ["127.0.0.1:9001"]
health   = false
timeouts = { idle = "300ms", half_close = "300ms" }

[[service]]
name    = "dead"
ports   = [5002]
targets = ["127.0.0.1:9009"]
health  = false

[[service]]
name    = "rude"
ports   = [5003]
targets = ["127.0.0.1:9003"]
health  = false
)";
}

/// Resets its client at the first byte.
Handler rude() {
    return [](Stream& client) {
        client.receive_exactly(1);
        client.reset();
    };
}

}  // namespace

TEST_CASE("every session writes one line with who ended it and where", "[P-44]") {
    IN_NAMESPACE(ns);
    Server web(ns, "127.0.0.1:9001", answer("web"));
    Server dies(ns, "127.0.0.1:9003", rude());
    struct Row {
        const char* what;
        const char* address;
        std::function<void(Stream&)> client;
        const char* service;
        const char* target;
        const char* ending;  ///< what it begins with
        uint64_t to_target, to_client;
    };
    const Row rows[] = {
        {"question, answer, end", "127.0.0.1:5001",
         [](Stream& client) {
             client.send("?");
             client.receive_line();
             client.finish();
             client.receive_all();
         },
         "web", "127.0.0.1:9001", "-- ", 1, 4},
        {"the client resets", "127.0.0.1:5001",
         [](Stream& client) {
             client.send("?");
             client.receive_line();
             client.reset();
         },
         "web", "127.0.0.1:9001", "C", 1, 4},
        {"the target resets", "127.0.0.1:5003",
         [](Stream& client) {
             client.send("?");
             client.receive_all();
         },
         "rude", "127.0.0.1:9003", "T", 1, 0},
        {"nobody says anything", "127.0.0.1:5001", [](Stream& client) { client.receive_all(); },
         "web", "127.0.0.1:9001", "cD", 0, 0},
        {"no target will have it", "127.0.0.1:5002", [](Stream& client) { client.receive_all(); },
         "dead", "127.0.0.1:9009", "TC", 0, 0},
        {"no service", "127.0.0.1:8080", [](Stream& client) { client.receive_all(); }, "-", "-",
         "PN", 0, 0},
    };
    for (const char* format : {"text", "json"}) {
        auto proxify = Proxify::start(ns, {.config = config(format), .flags = {"-b"}});
        size_t count = 0;
        for (const Row& row : rows) {
            INFO(format << ": " << row.what);
            Stream client = Stream::dial(ns, row.address);
            const std::string from = client.local().text();
            row.client(client);
            const SessionLine session = proxify.sessions(++count).back();
            INFO(session.line);
            CHECK(session.client == from);
            CHECK(session.original_dst == row.address);
            CHECK(session.service == row.service);
            CHECK(session.target == row.target);
            CHECK(session.ending.starts_with(row.ending));
            CHECK(session.to_target == row.to_target);
            CHECK(session.to_client == row.to_client);
            CHECK(session.tried == (std::string(row.target) == "-" ? 0 : 1));
        }
        CHECK(proxify.stop() == 0);
        CHECK(session_lines(proxify.log()).size() == count);
    }
}

TEST_CASE("no two sessions have the same number, whichever worker carried them", "[P-44]") {
    IN_NAMESPACE(ns);
    Server web(ns, "127.0.0.1:9001", answer("web"));
    auto proxify = Proxify::start(ns, {.config = R"([proxify]
workers = 4

[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:9001"]
)",
                                       .flags = {"-b"}});
    for (int i = 0; i < 40; ++i) REQUIRE(answered_by(ns, "127.0.0.1:5001") == "web");
    std::set<std::string> numbers;
    for (const auto& session : proxify.sessions(40)) {
        const auto from = session.line.find("session ");
        numbers.insert(session.line.substr(from, session.line.find(" service=") - from));
    }
    CHECK(numbers.size() == 40);
}

TEST_CASE("with format = json every line is one JSON object", "[P-44]") {
    IN_NAMESPACE(ns);
    std::optional<Server> web(std::in_place, ns, "127.0.0.1:9001", answer("web"));
    // Everything that has something to say: steering, shadowing, health, sessions, reload,
    // draining.
    Server shadowed(ns, "127.0.0.1:5001", answer("shadowed"));
    const std::string quick = R"([log]
format = "json"
level  = "debug"

[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:9001", "no-such-name.invalid:80"]
health  = { type = "tcp", interval = "50ms", timeout = "200ms", rise = 1, fall = 1 }
)";
    auto proxify = Proxify::start(ns, {.config = quick, .flags = {"-b"}});
    CHECK(answered_by(ns, "127.0.0.1:5001") == "web");
    proxify.sessions(1);
    web.reset();
    CHECK(eventually([&] { return times_down(proxify.log(), "127.0.0.1:9001") == 1; }));
    write_file(proxify.config_path(), "broken \"\t\x01 file");
    CHECK(eventually([&] { return reloads_refused(proxify.log()) == 1; }));
    proxify.reload(quick + "[proxify]\ndrain_timeout = \"1s\"\n");
    CHECK(proxify.stop() == 0);

    std::vector<std::string> events;
    for (const auto& line : lines_of(proxify.log())) {
        INFO(line);
        auto members = parse_json_object(line);
        REQUIRE(members);
        for (const char* key : {"time", "level", "event"}) REQUIRE(members->contains(key));
        const std::string time = (*members)["time"];  // 2025-11-21T06:00:00.123Z
        CHECK(time.size() == 24);
        CHECK(time.ends_with('Z'));
        const bool is_session = (*members)["event"] == "session";
        if (is_session)
            for (const char* key :
                 {"service", "client", "original_dst", "target", "to_target", "to_client",
                  "duration_ms", "queued_ms", "tried", "ending", "reason"})
                CHECK(members->contains(key));
        else
            CHECK(members->contains("message"));
        events.push_back((*members)["event"]);
    }
    for (const char* event :
         {"steering", "ready", "session", "target_down", "reload_refused", "reload_applied"})
        CHECK(std::ranges::find(events, event) != events.end());
}

TEST_CASE("level decides what is written", "[P-44]") {
    IN_NAMESPACE(ns);
    Server web(ns, "127.0.0.1:9001", answer("web"));
    // At warn there is no line that says "ready", so it starts at info and is told later.
    auto proxify = Proxify::start(ns, {.config = config("text"), .flags = {"-b"}});
    write_file(proxify.config_path(), config("text", "warn"));
    REQUIRE(eventually([&] {
        const auto before = session_lines(proxify.log()).size();
        answered_by(ns, "127.0.0.1:5001");
        const auto more = [&] { return session_lines(proxify.log()).size() > before; };
        return !eventually(more, 300ms);
    }));
    write_file(proxify.config_path(), "broken");
    CHECK(eventually([&] { return reloads_refused(proxify.log()) == 1; }));
}

TEST_CASE("what clients and targets say is never in the log", "[P-44]") {
    IN_NAMESPACE(ns);
    Server web(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, {.config = config("text"), .flags = {"-b"}});
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.send("a very private sentence");
    client.receive_exactly(23);
    client.finish();
    client.receive_all();
    proxify.sessions(1);
    CHECK(proxify.stop() == 0);
    CHECK_FALSE(proxify.log().contains("private"));
}

TEST_CASE("sessions that are still open when it leaves write their line too", "[P-44]") {
    IN_NAMESPACE(ns);
    Server web(ns, "127.0.0.1:9001", greet("web"));
    auto proxify =
        Proxify::start(ns, {.config = "[proxify]\ndrain_timeout = \"200ms\"\n[[service]]\nname = "
                                      "\"web\"\nports = [5001]\ntargets = [\"127.0.0.1:9001\"]\n",
                            .flags = {"-b"}});
    std::vector<Stream> clients;
    for (int i = 0; i < 20; ++i) {
        clients.push_back(Stream::dial(ns, "127.0.0.1:5001"));
        clients.back().receive_line();
    }
    CHECK(proxify.stop() == 0);
    CHECK(session_lines(proxify.log()).size() == 20);
}
