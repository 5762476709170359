// SPDX-License-Identifier: Apache-2.0
// Which target a client gets, by policy, weight and order; the choice itself is proved in
// tests/unit/pool_test.cc.
#include <map>
#include <optional>
#include <set>

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

Setup balanced(const std::string& policy, const std::string& targets) {
    return {.config =
                "[proxify]\nworkers = 2\n[[service]]\nname = \"web\"\nports = [5001]\n"
                "health = false\nbalance = \"" +
                policy + "\"\ntargets = [" + targets + "]\n",
            .flags = {"-b"}};
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
                     R"({ address = "127.0.0.1:9002", backup = true }, "127.0.0.1:9001")"));
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
