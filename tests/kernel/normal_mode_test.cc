// SPDX-License-Identifier: Apache-2.0
// Without -b: ordinary listeners, no root, no BPF.
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

constexpr auto three_services = R"(
[[service]]
name    = "web"
ports   = [5001, 5200, "5300-5302"]
targets = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"]

[[service]]
name    = "db"
ports   = [5432]
targets = ["[::1]:9004"]
)";

}  // namespace

TEST_CASE("as nobody, it listens on every configured port, for both families", "[P-08]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Server green(ns, "[::1]:9004", answer("green"));
    auto proxify = Proxify::start(ns, {.config = three_services, .command = {.user = nobody}});

    for (int port : {5001, 5200, 5300, 5301, 5302, 5432}) {
        INFO("port " << port);
        const char* expected = port == 5432 ? "green" : "blue";
        CHECK(answered_by(ns, "127.0.0.1:" + std::to_string(port)) == expected);
        CHECK(answered_by(ns, "[::1]:" + std::to_string(port)) == expected);
    }
    CHECK(answered_by(ns, "127.0.0.1:5303") == "refused");
    CHECK(answered_by(ns, "127.0.0.1:8080") == "refused");
    CHECK(listening(ns) == std::set<std::string>{"*:5001", "*:5200", "*:5300", "*:5301", "*:5302",
                                                 "*:5432", "127.0.0.1:9001", "[::1]:9004"});
}

TEST_CASE("no BPF program is attached without -b", "[P-08]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    auto proxify = Proxify::start(ns, {.config = three_services});
    Finished links = run_line(ns, "bpftool link");
    REQUIRE(links.exit_code == 0);
    CHECK_FALSE(links.out.contains("netns_ino " + std::to_string(ns.inode())));
}

TEST_CASE("more ports than descriptors is said before anything is bound", "[P-08]") {
    IN_NAMESPACE(ns);
    // If it began to bind, it would complain about this port instead.
    Server busy(ns, "127.0.0.1:5100", answer("busy"));
    Finished refused = Proxify::refuse(ns, {.config = R"(
[[service]]
name    = "web"
ports   = ["5100-5399"]
targets = ["127.0.0.1:9001"]
)",
                                            .command = {.open_files = 64}});
    INFO(refused.err);
    CHECK(refused.exit_code == 1);
    CHECK(refused.err.contains("300"));
    CHECK(refused.err.contains("64"));
    CHECK(find_line(refused.err, {"-b"}));
    CHECK_FALSE(refused.err.contains("in use"));
}

TEST_CASE("nc gets its line back, one hundred times in a row", "[P-09]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("nc");
    Server blue(ns, "127.0.0.1:9001", echo());
    for (bool steer : {false, true}) {
        auto proxify = Proxify::start(
            ns, {.config = R"(
[[service]]
name    = "five-thousand"
ports   = [5001]
targets = ["127.0.0.1:9001"]
)",
                 .flags = steer ? std::vector<std::string>{"-b"} : std::vector<std::string>{}});
        int slow = 0;
        for (int i = 0; i < 100; ++i) {
            const Moment start = now();
            Finished nc = run({.argv = {"nc", "-N", "-4", "localhost", "5001"},
                               .inside = &ns,
                               .input = "hello there general kenobi\n"});
            REQUIRE(nc.out == "hello there general kenobi\n");
            REQUIRE(nc.exit_code == 0);
            slow += now() - start >= 1s;
        }
        // Other tests run at the same time, and may take a processor away from one of a hundred.
        CHECK(slow <= 1);
        CHECK(proxify.stop() == 0);
    }
}

TEST_CASE("a port reaches only its own service's targets", "[P-10]") {
    IN_NAMESPACE(ns);
    Server a(ns, "127.0.0.1:9001", answer("A"));
    Server b(ns, "127.0.0.1:9002", answer("B"));
    Server c(ns, "127.0.0.1:9003", answer("C"));
    Server d(ns, "[::1]:9004", answer("D"));
    auto proxify = Proxify::start(ns, {.config = three_services});
    for (int i = 0; i < 6; ++i) {
        CHECK(answered_by(ns, "127.0.0.1:5432") == "D");
        CHECK(answered_by(ns, "[::1]:5001") != "D");
        CHECK(answered_by(ns, "127.0.0.1:5301") != "D");
    }
}

TEST_CASE("targets take turns in the order written", "[P-11]") {
    IN_NAMESPACE(ns);
    Server a(ns, "127.0.0.1:9001", answer("A"));
    Server b(ns, "127.0.0.1:9002", answer("B"));
    Server c(ns, "127.0.0.1:9003", answer("C"));
    auto proxify = Proxify::start(ns, {.config = three_services});
    std::string order;
    for (int i = 0; i < 9; ++i) order += answered_by(ns, "127.0.0.1:5001");
    CHECK(order == "ABCABCABC");
}
