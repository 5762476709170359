// SPDX-License-Identifier: Apache-2.0
// Which target a client gets, by policy, weight and order; the choice itself is proved in
// tests/unit/pool_test.cc.
#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

struct Targets {
    explicit Targets(const Namespace& ns)
        : a(ns, "127.0.0.1:9001", answer("a")),
          b(ns, "127.0.0.1:9002", answer("b")),
          c(ns, "127.0.0.1:9003", answer("c")) {}
    Server a, b, c;
};

Setup balanced(const std::string& policy, const std::string& targets,
               const std::string& keys = "") {
    return {.config =
                "[proxify]\nworkers = 2\n[[service]]\nname = \"web\"\nports = [5001]\n"
                "health = false\nbalance = \"" +
                policy + "\"\ntargets = [" + targets + "]\n" + keys + "\n",
            .flags = {"-b"}};
}

/// Two targets with room for so many each.
Setup limited(int room, const std::string& keys = "") {
    auto target = [&](const std::string& port) {
        return "{ address = \"127.0.0.1:" + port + "\", max_connections = " + std::to_string(room) +
               " }";
    };
    return balanced("round-robin", target("9001") + ", " + target("9002"), keys);
}

/// A client that is served, or waits to be.
Stream ask(const Namespace& ns) {
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.send("?");
    return client;
}

std::map<std::string, int> answers(const Namespace& ns, int clients) {
    std::map<std::string, int> answers;
    for (int i = 0; i < clients; ++i) ++answers[answered_by(ns, "127.0.0.1:5001")];
    return answers;
}

}  // namespace

TEST_CASE("weights share clients out, over all workers together", "[P-11]") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify =
        Proxify::start(ns, balanced("round-robin",
                                    R"({ address = "127.0.0.1:9001", weight = 5 }, "127.0.0.1:9002",
                        "127.0.0.1:9003")"));
    std::string order;
    for (int i = 0; i < 14; ++i) order += answered_by(ns, "127.0.0.1:5001");
    CHECK(order == "aabacaaaabacaa");
}

TEST_CASE("a target with many live connections is spared by least-connections", "[P-11]") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(ns, balanced("least-connections",
                                               R"("127.0.0.1:9001", "127.0.0.1:9002",
                        { address = "127.0.0.1:9003", weight = 2 })"));
    std::vector<Stream> live;
    std::map<std::string, int> held;
    for (int i = 0; i < 40; ++i) {
        live.push_back(Stream::dial(ns, "127.0.0.1:5001"));
        live.back().send("?");
        ++held[live.back().receive_line()];
    }
    CHECK(held == std::map<std::string, int>{{"a\n", 10}, {"b\n", 10}, {"c\n", 20}});

    // Who has become free is next.
    std::erase_if(live, [&, left = 5](const Stream&) mutable { return left-- > 0; });
    REQUIRE(
        eventually([&] { return targets.a.open() + targets.b.open() + targets.c.open() == 35; }));
    CHECK(proxify.sessions(5).size() == 5);
    for (int i = 0; i < 5; ++i) {
        live.push_back(Stream::dial(ns, "127.0.0.1:5001"));
        live.back().send("?");
        live.back().receive_line();
    }
    CHECK(targets.a.open() == 10);
    CHECK(targets.b.open() == 10);
    CHECK(targets.c.open() == 20);
}

TEST_CASE("a backup serves only while no other target is up", "[P-12]") {
    IN_NAMESPACE(ns);
    std::optional<Server> a(std::in_place, ns, "127.0.0.1:9001", answer("a"));
    Server b(ns, "127.0.0.1:9002", answer("b"));
    auto proxify = Proxify::start(
        ns, balanced("round-robin",
                     R"({ address = "127.0.0.1:9002", backup = true }, "127.0.0.1:9001")",
                     "ejection = false"));
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"a", 6}});
    a.reset();
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"b", 6}});
    a.emplace(ns, "127.0.0.1:9001", answer("a"));
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"a", 6}});
}

TEST_CASE("a client's address decides with source-hash and maglev, also after a restart",
          "[P-11]") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    const std::string all = R"("127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003")";
    for (const char* policy : {"source-hash", "maglev"}) {
        INFO(policy);
        auto ask_all = [&] {
            auto proxify = Proxify::start(ns, balanced(policy, all));
            std::vector<std::string> answers;
            for (int i = 1; i <= 30; ++i) {
                DialOptions from{.from = "127.0.1." + std::to_string(i) + ":0"};
                answers.push_back(answered_by(ns, "127.0.0.1:5001", from));
                CHECK(answered_by(ns, "127.0.0.1:5001", from) == answers.back());
            }
            return answers;
        };
        const auto first = ask_all();
        CHECK(std::set(first.begin(), first.end()) == std::set<std::string>{"a", "b", "c"});
        CHECK(ask_all() == first);
    }
}

TEST_CASE("a weight that changes applies to the next client, and 0 lets live ones go on",
          "[P-37]") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto file = [](int weight) {
        return balanced("round-robin", R"({ address = "127.0.0.1:9001", weight = )" +
                                           std::to_string(weight) + R"( }, "127.0.0.1:9002")")
            .config;
    };
    auto proxify = Proxify::start(ns, {.config = file(1), .flags = {"-b"}});
    Stream live = Stream::dial(ns, "127.0.0.1:5001");
    live.send("?");
    CHECK(live.receive_line() == "a\n");
    proxify.reload(file(0));
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"b", 6}});
    CHECK(targets.a.open() == 1);
    proxify.reload(file(2));
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"a", 4}, {"b", 2}});
}

TEST_CASE("targets have as many connections as they stand, and the others wait in line") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(ns, limited(3, "queue = { timeout = \"60s\" }"));
    std::vector<Stream> served, waiting;
    for (int i = 0; i < 6; ++i) {
        served.push_back(ask(ns));
        served.back().receive_line();
    }
    for (int i = 0; i < 4; ++i) waiting.push_back(ask(ns));
    CHECK(waiting.front().receive_all(200ms).end == End::none_yet);
    CHECK(targets.a.open() == 3);
    CHECK(targets.b.open() == 3);

    // As many go as wait; which of them is served first is up to the workers that accepted them.
    for (size_t i = 0; i < waiting.size(); ++i) served[i].close();
    for (auto& client : waiting) client.receive_line();
    CHECK(eventually([&] { return targets.a.open() == 3 && targets.b.open() == 3; }));
    CHECK(targets.a.connections() + targets.b.connections() == 10);
}

TEST_CASE("a thousand clients of two workers pass through three seats, one after another") {
    IN_NAMESPACE(ns);
    std::atomic<int> here = 0, most = 0;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        int now = ++here, before = most;
        while (now > before && !most.compare_exchange_weak(before, now)) {
        }
        client.receive();
        client.send("done\n");
        --here;
    });
    auto proxify = Proxify::start(
        ns, balanced("least-connections", "{ address = \"127.0.0.1:9001\", max_connections = 3 }",
                     "queue = { timeout = \"60s\" }"));
    std::vector<std::thread> crowd;
    std::atomic<int> served = 0;
    for (int i = 0; i < 20; ++i)
        crowd.emplace_back([&] {
            for (int round = 0; round < 50; ++round) {
                Stream client = Stream::dial(ns, "127.0.0.1:5001", {.limit = 60s});
                client.send("?");
                served += client.receive_line(60s) == "done\n";
            }
        });
    for (auto& each : crowd) each.join();
    CHECK(served == 1000);
    CHECK(most <= 3);
}

TEST_CASE("a full queue refuses at once, a slow one after its timeout, and the log says which") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(ns, limited(1, "queue = { size = 1, timeout = \"300ms\" }"));
    Stream first = ask(ns), second = ask(ns);
    first.receive_line();
    second.receive_line();
    Stream waits = ask(ns);
    CHECK(waits.receive_all(50ms).end == End::none_yet);
    CHECK(answered_by(ns, "127.0.0.1:5001") == "reset");
    CHECK(waits.receive_all().end == End::reset);
    auto sessions = proxify.sessions(2);
    CHECK(sessions[0].ending == "RQ the queue is full");
    CHECK(sessions[1].ending == "tQ waited too long in the queue");
    CHECK(sessions[1].line.find(" queued=3") != std::string::npos);  // hundred and some ms
    CHECK(sessions[0].line.find("queued=") == std::string::npos);
}

TEST_CASE("a client that resets its connection leaves the queue, and the next one is served") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(ns, limited(1, "queue = { timeout = \"60s\" }"));
    Stream first = ask(ns);
    CHECK(first.receive_line() == "a\n");
    Stream second = ask(ns);
    CHECK(second.receive_line() == "b\n");
    Stream goes = ask(ns);
    CHECK(goes.receive_all(50ms).end == End::none_yet);
    Stream stays = ask(ns);
    goes.reset();
    CHECK(proxify.sessions(1)[0].ending == "CQ gone while it waited");
    first.close();
    CHECK(stays.receive_line() == "a\n");
}

TEST_CASE(
    "the cap of a service holds over its targets, and a reload that raises it lets in who waits") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto file = [](int cap) {
        return balanced(
            "round-robin", R"("127.0.0.1:9001", "127.0.0.1:9002")",
            "max_connections = " + std::to_string(cap) + "\nqueue = { timeout = \"60s\" }");
    };
    auto proxify = Proxify::start(ns, file(2));
    std::vector<Stream> clients;
    for (const char* served_by : {"a\n", "b\n"}) {
        clients.push_back(ask(ns));
        CHECK(clients.back().receive_line() == served_by);
    }
    for (int i = 0; i < 2; ++i) clients.push_back(ask(ns));
    CHECK(clients[2].receive_all(100ms).end == End::none_yet);
    proxify.reload(file(4).config);
    CHECK(std::set{clients[2].receive_line(), clients[3].receive_line()} ==
          std::set<std::string>{"a\n", "b\n"});
}

TEST_CASE("a drain does not wait for those in line beyond its deadline") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    Setup setup = limited(1, "queue = { timeout = \"60s\" }");
    setup.config.replace(setup.config.find("workers"), 0, "drain_timeout = \"200ms\"\n");
    auto proxify = Proxify::start(ns, setup);
    Stream first = ask(ns), second = ask(ns);
    first.receive_line();
    second.receive_line();
    Stream waits = ask(ns);
    CHECK(waits.receive_all(50ms).end == End::none_yet);
    CHECK(proxify.stop() == 0);
    CHECK(waits.receive_all().end == End::reset);
    CHECK(count_lines(proxify.log(), {"OQ the drain deadline passed"}) == 1);
}

TEST_CASE("a later priority serves when no target of an earlier one can be reached") {
    IN_NAMESPACE(ns);
    std::optional<Server> a(std::in_place, ns, "127.0.0.1:9001", answer("a"));
    Server b(ns, "127.0.0.1:9002", answer("b")), c(ns, "127.0.0.1:9003", answer("c"));
    auto proxify = Proxify::start(ns, balanced("round-robin",
                                               R"({ address = "127.0.0.1:9003", backup = true },
                        { address = "127.0.0.1:9002", priority = 7 }, "127.0.0.1:9001")",
                                               "ejection = false"));
    CHECK(answers(ns, 4) == std::map<std::string, int>{{"a", 4}});
    a.reset();
    CHECK(answers(ns, 4) == std::map<std::string, int>{{"b", 4}});
}

TEST_CASE("a target that resets connections without a word is ejected, and returns") {
    IN_NAMESPACE(ns);
    std::atomic<bool> is_ill = true;
    Server ill(ns, "127.0.0.1:9001", [&](Stream& client) {
        if (client.receive().empty()) return;
        if (is_ill) return client.reset();
        client.send("a\n");
        client.receive_all();
    });
    Server b(ns, "127.0.0.1:9002", answer("b"));
    auto proxify =
        Proxify::start(ns, balanced("round-robin", R"("127.0.0.1:9001", "127.0.0.1:9002")",
                                    "ejection = { early_resets = 3, time = \"500ms\" }"));
    auto first = answers(ns, 6);
    CHECK(first == std::map<std::string, int>{{"reset", 3}, {"b", 3}});
    CHECK(eventually([&] { return find_line(proxify.log(), {"is ejected for 500ms"}); }));
    is_ill = false;
    CHECK(answers(ns, 4) == std::map<std::string, int>{{"b", 4}});
    REQUIRE(
        eventually([&] { return find_line(proxify.log(), {"127.0.0.1:9001", "has returned"}); }));
    CHECK(answers(ns, 4) == std::map<std::string, int>{{"a", 2}, {"b", 2}});
}

TEST_CASE("sessions of a target that goes down are kept, or reset where the service says so") {
    IN_NAMESPACE(ns);
    Server a(ns, "127.0.0.1:9001", answer("a"));
    for (bool resets : {false, true}) {
        INFO(resets);
        std::optional<Server> checked(std::in_place, ns, "127.0.0.1:9100", swallow());
        auto proxify = Proxify::start(
            ns,
            {.config = std::string("[proxify]\nworkers = 2\n[[service]]\nname = \"web\"\n"
                                   "ports = [5001]\ntargets = [\"127.0.0.1:9001\"]\n"
                                   "health = { interval = \"20ms\", port = 9100, rise = 1 }\n") +
                       (resets ? "on_down = \"reset\"\n" : ""),
             .flags = {"-b"}});
        std::vector<Stream> live;
        for (int i = 0; i < 8; ++i) {
            live.push_back(ask(ns));
            CHECK(live.back().receive_line() == "a\n");
        }
        checked.reset();
        REQUIRE(eventually([&] { return times_down(proxify.log(), "127.0.0.1:9001") == 1; }));
        for (auto& client : live)
            CHECK(client.receive_all(resets ? 10s : 50ms).end ==
                  (resets ? End::reset : End::none_yet));
        CHECK(eventually([&] { return a.open() == (resets ? 0 : 8); }));
        if (resets)
            for (const auto& session : proxify.sessions(8))
                CHECK(session.ending == "TD the target is down");
    }
}
