// SPDX-License-Identifier: Apache-2.0
// Who gets in, and what a client sees who does not, or who comes while no target is up: by real
// clients of the real program.
#include <fstream>

#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

struct Family {
    std::string name, door, denied, local;  ///< where it dials, from where, where others listen
};
const Family families[] = {
    {"IPv4", "127.0.0.1:5001", "198.51.100.7:0", "127.0.0.1:5001"},
    {"IPv6", "[::1]:5001", "[2001:db8::7]:0", "[::1]:5001"},
};

/// In which 198.51.100.7 and 2001:db8::7 are addresses of clients.
void add_clients(const Namespace& ns) {
    ns.add_address("198.51.100.7/32");
    ns.add_address("198.51.100.8/32");
    ns.add_address("2001:db8::7/128");
    ns.add_address("2001:db8::8/128");
}

Setup web(const std::string& more, std::vector<std::string> flags = {"-b"},
          const std::string& before = "") {
    return {.config = before +
                      "[[service]]\nname = \"web\"\nports = [5001]\ntargets = "
                      "[\"127.0.0.1:9001\"]\nhealth = { interval = \"50ms\", timeout = \"200ms\", "
                      "fall = 1, rise = 1 }\n" +
                      more + "\n",
            .flags = std::move(flags)};
}

std::string deny_both(const std::string& more = "") {
    return "deny = [\"198.51.100.0/24\", \"2001:db8::/32\"]\n" + more;
}

std::string seen_from(const Namespace& ns, const std::string& door, const std::string& from) {
    return answered_by(ns, door, {.limit = 400ms, .from = from});
}

bool goes_down(const Proxify& proxify) {
    return eventually([&] { return times_down(proxify.log(), "127.0.0.1:9001") > 0; });
}

void set_sysctl(const Namespace& ns, const std::string& path, const std::string& value) {
    ns.run([&] {
        std::ofstream file("/proc/sys/" + path);
        file << value << std::flush;
        REQUIRE(file);
    });
}

}  // namespace

TEST_CASE("while no target is up a client sees what when_down says, at once") {
    IN_NAMESPACE(ns);
    struct Row {
        std::string word;
        bool is_listened;
        std::string seen;
    };
    const Row rows[] = {
        {"refuse", false, "refused"}, {"refuse", true, "refused"}, {"drop", false, "nobody"},
        {"drop", true, "nobody"},     {"pass", false, "refused"},  {"pass", true, "local"},
        {"accept", false, "reset"},   {"accept", true, "reset"},
    };
    for (const auto& row : rows) {
        auto proxify = Proxify::start(ns, web("when_down = \"" + row.word + "\""));
        REQUIRE(goes_down(proxify));
        for (const auto& family : families) {
            CAPTURE(row.word, row.is_listened, family.name);
            std::optional<Server> local;
            if (row.is_listened) local.emplace(ns, family.local, answer("local"));
            for (int i = 0; i < 3; ++i) CHECK(seen_from(ns, family.door, {}) == row.seen);
            if (local && row.word != "pass") CHECK(local->connections() == 0);
        }
    }
}

TEST_CASE("a target that comes back opens the service again, without a restart") {
    IN_NAMESPACE(ns);
    auto proxify = Proxify::start(ns, web("when_down = \"drop\""));
    REQUIRE(eventually([&] { return seen_from(ns, "127.0.0.1:5001", {}) == "nobody"; }));
    for (int i = 0; i < 3; ++i) {
        Server target(ns, "127.0.0.1:9001", answer("a"));
        REQUIRE(eventually([&] { return seen_from(ns, "127.0.0.1:5001", {}) == "a"; }));
        target.stop();
        REQUIRE(eventually([&] { return seen_from(ns, "127.0.0.1:5001", {}) == "nobody"; }));
    }
}

TEST_CASE("without -b every when_down is a reset, and the process lives on") {
    IN_NAMESPACE(ns);
    for (auto word : {"refuse", "drop", "pass", "accept"}) {
        auto proxify =
            Proxify::start(ns, web(std::string("when_down = \"") + word + "\"", /*flags=*/{}));
        REQUIRE(goes_down(proxify));
        for (const auto& family : families) CHECK(seen_from(ns, family.door, {}) == "reset");
    }
}

TEST_CASE("a port that was added by hand fares as the default service does") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    auto proxify = Proxify::start(
        ns, web("when_down = \"drop\"", {"-b"}, "[proxify]\ndefault_service = \"web\"\n"));
    REQUIRE(goes_down(proxify));
    auto added = run_line(ns, "bpftool map update id " + std::to_string(proxify.ids().proxy_ports) +
                                  " key 0x8b 0x13 value 0x00");
    REQUIRE(added.exit_code == 0);
    CHECK(seen_from(ns, "127.0.0.1:5003", {}) == "nobody");
}

TEST_CASE("a denied client sees what on_deny says, and meets nobody", "[P-46]") {
    IN_NAMESPACE(ns);
    add_clients(ns);
    Server target(ns, "127.0.0.1:9001", answer("a"));
    struct Row {
        std::string word;
        bool is_listened;
        std::string seen;
    };
    const Row rows[] = {{"refuse", false, "refused"},
                        {"refuse", true, "refused"},
                        {"drop", false, "nobody"},
                        {"drop", true, "nobody"}};
    for (const auto& row : rows) {
        for (const auto& family : families) {
            CAPTURE(row.word, row.is_listened, family.name);
            std::optional<Server> local;
            if (row.is_listened) local.emplace(ns, family.local, answer("local"));
            auto proxify = Proxify::start(ns, web(deny_both("on_deny = \"" + row.word + "\"")));
            for (int i = 0; i < 3; ++i) {
                CHECK(seen_from(ns, family.door, family.denied) == row.seen);
                CHECK(seen_from(ns, family.door, {}) == "a");
            }
            if (local) CHECK(local->connections() == 0);
            CHECK(proxify.sessions(3).size() == 3);  // of the others the process knows nothing
        }
    }
}

TEST_CASE("without -b a denied client is reset before any target is dialled", "[P-46]") {
    IN_NAMESPACE(ns);
    add_clients(ns);
    Server target(ns, "127.0.0.1:9001", answer("a"));
    auto proxify =
        Proxify::start(ns, {.config = "[[service]]\nname = \"web\"\nports = [5001]\n"
                                      "health = false\ntargets = [\"127.0.0.1:9001\"]\n" +
                                      deny_both()});
    for (const auto& family : families)
        for (int i = 0; i < 5; ++i) CHECK(seen_from(ns, family.door, family.denied) == "reset");
    for (const auto& session : proxify.sessions(10)) CHECK(session.ending == "PA denied");
    CHECK(target.connections() == 0);
    CHECK(seen_from(ns, "127.0.0.1:5001", {}) == "a");
}

TEST_CASE("an allow list keeps everybody else out, and the list of all services counts too",
          "[P-46]") {
    IN_NAMESPACE(ns);
    add_clients(ns);
    Server target(ns, "127.0.0.1:9001", answer("a"));
    for (std::vector<std::string> flags : {std::vector<std::string>{"-b"}, {}}) {
        const std::string out = flags.empty() ? "reset" : "refused";
        auto proxify = Proxify::start(ns, web("allow = [\"198.51.100.0/24\", \"2001:db8::7\"]",
                                              flags, "[proxify]\ndeny = [\"198.51.100.8\"]\n"));
        CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.7:0") == "a");
        CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.8:0") == out);
        CHECK(seen_from(ns, "127.0.0.1:5001", "127.0.0.1:0") == out);
        CHECK(seen_from(ns, "[::1]:5001", "[2001:db8::7]:0") == "a");
        CHECK(seen_from(ns, "[::1]:5001", "[2001:db8::8]:0") == out);
    }
}

TEST_CASE("a change of the lists is in force as soon as the reload is, and sessions go on",
          "[P-46]") {
    IN_NAMESPACE(ns);
    add_clients(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, web(""));
    auto client = Stream::dial(ns, "127.0.0.1:5001", {.from = "198.51.100.7:0"});
    client.send("here");
    CHECK(client.receive_exactly(4) == "here");
    proxify.reload(web(deny_both()).config);
    CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.7:0") == "refused");
    client.send("still");
    CHECK(client.receive_exactly(5) == "still");
    proxify.reload(web("").config);
    CHECK(Stream::dial_error(ns, "127.0.0.1:5001", {.from = "198.51.100.7:0"}) == 0);
}

TEST_CASE(
    "a file with 100 000 prefixes is in force within a second, and one with a million is refused",
    "[P-46]") {
    IN_NAMESPACE(ns);
    add_clients(ns);
    Server target(ns, "127.0.0.1:9001", answer("a"));
    auto denying = [](int networks) {
        std::string list = "deny = [\"198.51.100.7\"";
        for (int i = 0; i < networks; ++i)
            list += ", \"" + std::to_string(11 + (i >> 16)) + "." + std::to_string(i >> 8 & 255) +
                    "." + std::to_string(i & 255) + ".0/24\"";
        return web(list + "]").config;
    };
    auto proxify = Proxify::start(ns, web(""));
    CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.7:0") == "a");
    const std::string many = denying(100'000);
    const Moment start = now();
    proxify.reload(many);
    CHECK(now() - start < (sanitized ? 5s : 1s));
    CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.7:0") == "refused");
    CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.8:0") == "a");

    write_file(proxify.config_path(), denying(1'000'000));
    CHECK(eventually([&] { return find_line(proxify.log(), {"reload: refused", "8 MiB"}); }));
    CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.7:0") == "refused");
}

TEST_CASE("a source opens so many connections in a second, and others are not touched") {
    IN_NAMESPACE(ns);
    add_clients(ns);
    Server target(ns, "127.0.0.1:9001", answer("a"));
    for (std::vector<std::string> flags : {std::vector<std::string>{"-b"}, {}}) {
        for (bool cookies : {false, true}) {
            CAPTURE(flags.size(), cookies);
            // With cookies the kernel asks twice for each connection.
            set_sysctl(ns, "net/ipv4/tcp_syncookies", cookies ? "2" : "1");
            auto proxify = Proxify::start(ns, web("limits = { source_rate = 5 }", flags));
            std::map<std::string, int> seen;
            const Moment start = now();
            for (int i = 0; i < 20; ++i) ++seen[seen_from(ns, "127.0.0.1:5001", "198.51.100.7:0")];
            const auto seconds = std::chrono::duration<double>(now() - start).count();
            CHECK(seen["a"] >= 5);
            CHECK(seen["a"] <= 5 + seconds * 5 + 1);
            CHECK(seen[flags.empty() ? "reset" : "refused"] == 20 - seen["a"]);
            CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.8:0") == "a");
        }
    }
}

TEST_CASE("whoever dials the listener's own port is counted as well") {
    IN_NAMESPACE(ns);
    add_clients(ns);
    Server target(ns, "127.0.0.1:9001", answer("a"));
    auto proxify = Proxify::start(
        ns, web("limits = { source_rate = 2 }", {"-b"}, "[proxify]\ndefault_service = \"web\"\n"));
    std::map<std::string, int> seen;
    for (int i = 0; i < 20; ++i) ++seen[seen_from(ns, "127.0.0.1:8080", "198.51.100.7:0")];
    CHECK(seen["a"] >= 2);
    CHECK(seen["reset"] >= 10);
}

TEST_CASE("a source has so many sessions at a time, over all workers together") {
    IN_NAMESPACE(ns);
    add_clients(ns);
    Server target(ns, "127.0.0.1:9001", greet("a"));
    auto proxify = Proxify::start(
        ns, web("limits = { source_sessions = 3 }", {"-b"}, "[proxify]\nworkers = 3\n"));
    std::vector<Stream> held;
    for (int i = 0; i < 3; ++i) {
        held.push_back(Stream::dial(ns, "127.0.0.1:5001", {.from = "198.51.100.7:0"}));
        CHECK(held.back().receive_line() == "a\n");
    }
    for (int i = 0; i < 5; ++i) CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.7:0") == "reset");
    CHECK(seen_from(ns, "127.0.0.1:5001", "198.51.100.8:0") == "a");
    held.pop_back();
    CHECK(eventually([&] { return seen_from(ns, "127.0.0.1:5001", "198.51.100.7:0") == "a"; }));
}

TEST_CASE("two services share a port at different addresses, and the longest prefix wins") {
    IN_NAMESPACE(ns);
    for (auto address : {"198.51.100.1/32", "198.51.100.2/32", "203.0.113.1/32", "2001:db8::1/128",
                         "2001:db8::2/128"})
        ns.add_address(address);
    Server a(ns, "127.0.0.1:9001", answer("a")), b(ns, "127.0.0.1:9002", answer("b")),
        c(ns, "127.0.0.1:9003", answer("c"));
    const std::string two = R"(
[[service]]
name = "a"
ports = [5001]
addresses = ["198.51.100.0/24", "2001:db8::1"]
targets = ["127.0.0.1:9001"]
[[service]]
name = "b"
ports = ["5001-5002"]
addresses = ["198.51.100.2", "2001:db8::/32"]
targets = ["127.0.0.1:9002"]
)";
    const std::string elsewhere =
        "[[service]]\nname = \"c\"\nports = [5001]\ntargets = [\"127.0.0.1:9003\"]\n";
    for (std::vector<std::string> flags : {std::vector<std::string>{"-b"}, {}}) {
        CAPTURE(flags.size());
        const std::string turned_away = flags.empty() ? "reset" : "refused";
        auto proxify = Proxify::start(ns, {.config = two, .flags = flags});
        CHECK(answered_by(ns, "198.51.100.1:5001") == "a");
        CHECK(answered_by(ns, "198.51.100.2:5001") == "b");
        CHECK(answered_by(ns, "[2001:db8::1]:5001") == "a");
        CHECK(answered_by(ns, "[2001:db8::2]:5001") == "b");
        CHECK(answered_by(ns, "198.51.100.2:5002") == "b");
        CHECK(answered_by(ns, "198.51.100.1:5002") == turned_away);
        CHECK(answered_by(ns, "203.0.113.1:5001") == turned_away);
        CHECK(answered_by(ns, "127.0.0.1:5001") == turned_away);

        // Added and taken away while it runs.
        proxify.reload(two + elsewhere);
        CHECK(answered_by(ns, "203.0.113.1:5001") == "c");
        CHECK(answered_by(ns, "198.51.100.1:5001") == "a");
        CHECK(answered_by(ns, "[2001:db8::2]:5001") == "b");
        proxify.reload(elsewhere);
        for (auto address : {"198.51.100.1", "203.0.113.1", "[2001:db8::2]"})
            CHECK(answered_by(ns, std::string(address) + ":5001") == "c");
    }
}

TEST_CASE("a local listener keeps the addresses that no service has") {
    IN_NAMESPACE(ns);
    ns.add_address("198.51.100.1/32");
    ns.add_address("203.0.113.1/32");
    Server a(ns, "127.0.0.1:9001", answer("a")), other(ns, "203.0.113.1:5001", answer("local"));
    auto proxify = Proxify::start(ns, web("addresses = [\"198.51.100.0/24\"]"));
    CHECK(answered_by(ns, "198.51.100.1:5001") == "a");
    CHECK(answered_by(ns, "203.0.113.1:5001") == "local");
}
