// SPDX-License-Identifier: Apache-2.0
// Targets that are down, silent, gone, back again, or somewhere else by now.
#include "support/dns_server.h"
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

/// One service "web" on port 5001 with these targets and more keys.
std::string web(const std::string& targets, const std::string& more = "") {
    return "[[service]]\nname = \"web\"\nports = [5001]\ntargets = " + targets + "\n" + more + "\n";
}

constexpr auto no_checks = "health = false";
constexpr auto quick_checks =
    R"(health = { type = "tcp", interval = "50ms", timeout = "200ms", rise = 2, fall = 2 })";

Setup steered(std::string config) {
    return {.config = std::move(config), .flags = {"-b"}};
}

}  // namespace

TEST_CASE("without any health check, a client that meets dead targets reaches the live one",
          "[P-12]") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    BlackHole hole(ns, "127.0.0.1:9010");
    Server live(ns, "127.0.0.1:9001", answer("live"));
    Setup setup = steered(web(
        R"(["does-not-exist.example:9001", "127.0.0.1:9009", "127.0.0.1:9010", "127.0.0.1:9001"])",
        "health = false\ntries = 4\ntimeouts = { connect = \"1s\" }"));
    setup.command.mounts = {dns.resolv_conf()};
    auto proxify = Proxify::start(ns, std::move(setup));
    for (int i = 0; i < 6; ++i) {
        const Moment start = now();
        CHECK(answered_by(ns, "127.0.0.1:5001") == "live");
        CHECK(now() - start < 4s);
    }
    for (const auto& session : proxify.sessions(6)) {
        INFO(session.line);
        CHECK(session.target == "127.0.0.1:9001");
        CHECK(session.tried >= 1);
        CHECK(session.tried <= 3);  // a name without an address is not tried
    }
}

TEST_CASE("with health checks, dead targets cost a client nothing", "[P-12]") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    BlackHole hole(ns, "127.0.0.1:9010");
    Server live(ns, "127.0.0.1:9001", answer("live"));
    Setup setup = steered(web(
        R"(["does-not-exist.example:9001", "127.0.0.1:9009", "127.0.0.1:9010", "127.0.0.1:9001"])",
        quick_checks));
    setup.command.mounts = {dns.resolv_conf()};
    auto proxify = Proxify::start(ns, std::move(setup));
    REQUIRE(eventually([&] {
        return times_down(proxify.log(), "127.0.0.1:9009") &&
               times_down(proxify.log(), "127.0.0.1:9010");
    }));
    for (int i = 0; i < 8; ++i) REQUIRE(answered_by(ns, "127.0.0.1:5001") == "live");
    for (const auto& session : proxify.sessions(8)) CHECK(session.tried == 1);
}

TEST_CASE("the target that just failed is not the one that is tried next", "[P-12]") {
    IN_NAMESPACE(ns);
    Server live(ns, "127.0.0.1:9001", answer("live"));
    auto proxify = Proxify::start(
        ns, steered(web(R"(["127.0.0.1:9009", "127.0.0.1:9001"])", "health = false\ntries = 2")));
    for (int i = 0; i < 20; ++i) REQUIRE(answered_by(ns, "127.0.0.1:5001") == "live");
}

TEST_CASE("no byte of the client's is lost when its first target fails", "[P-12]") {
    IN_NAMESPACE(ns);
    Server live(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(
        ns, steered(web(R"(["127.0.0.1:9009", "127.0.0.1:9001"])", "health = false\ntries = 2")));
    for (int i = 0; i < 4; ++i) {
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        const std::string words(100'000, static_cast<char>('a' + i));
        client.send(words);
        client.finish();
        Got got = client.receive_all();
        CHECK(got.bytes == words);
        CHECK(got.end == End::clean);
    }
}

TEST_CASE("all targets dead: the client is reset at once, and the rest goes on", "[P-13]") {
    IN_NAMESPACE(ns);
    Server live(ns, "127.0.0.1:9001", answer("live"));
    auto proxify =
        Proxify::start(ns, steered(web(R"(["127.0.0.1:9009", "127.0.0.1:9010"])", no_checks) + R"(
[[service]]
name    = "fine"
ports   = [5002]
targets = ["127.0.0.1:9001"]
)"));
    for (int i = 0; i < 50; ++i) {
        const Moment start = now();
        REQUIRE(answered_by(ns, "127.0.0.1:5001") == "reset");
        REQUIRE(now() - start < 1s);
    }
    CHECK(answered_by(ns, "127.0.0.1:5002") == "live");

    // Measured over a while, for nothing else shows that nobody spins.
    const Millis before = proxify.process().cpu_time();
    std::this_thread::sleep_for(500ms);
    CHECK(proxify.process().cpu_time() - before <= 100ms);
    CHECK(proxify.process().is_running());
}

TEST_CASE("as many dead targets are tried as the file may say, and the client is let go",
          "[P-13]") {
    IN_NAMESPACE(ns);
    std::string targets;
    for (int port = 9101; port <= 9120; ++port)
        targets += "\"127.0.0.1:" + std::to_string(port) + "\", ";
    auto proxify =
        Proxify::start(ns, steered(web("[" + targets + "]", "health = false\ntries = 16")));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "reset");
    CHECK(proxify.sessions(1)[0].line.find("tried=16") != std::string::npos);
}

TEST_CASE("all targets down by health check: the client is refused at once", "[P-13]") {
    IN_NAMESPACE(ns);
    auto proxify =
        Proxify::start(ns, steered(web(R"(["127.0.0.1:9009", "127.0.0.1:9010"])", quick_checks)));
    REQUIRE(eventually([&] {
        return times_down(proxify.log(), "127.0.0.1:9009") &&
               times_down(proxify.log(), "127.0.0.1:9010");
    }));
    const Moment start = now();
    for (int i = 0; i < 20; ++i) REQUIRE(answered_by(ns, "127.0.0.1:5001") == "refused");
    CHECK(now() - start < 5s);
}

TEST_CASE("only black holes: the client is let go after the connect timeout", "[P-13]") {
    IN_NAMESPACE(ns);
    BlackHole hole(ns, "127.0.0.1:9010");
    auto proxify =
        Proxify::start(ns, steered(web(R"(["127.0.0.1:9010"])",
                                       "health = false\ntimeouts = { connect = \"500ms\" }")));
    const Moment start = now();
    CHECK(answered_by(ns, "127.0.0.1:5001") == "reset");
    CHECK(now() - start >= 400ms);
    CHECK(now() - start < 5s);
}

TEST_CASE("a target that comes back is used again, within rise x interval", "[P-14]") {
    IN_NAMESPACE(ns);
    Server a(ns, "127.0.0.1:9001", answer("A"));
    std::optional<Server> b(std::in_place, ns, "127.0.0.1:9002", answer("B"));
    auto proxify = Proxify::start(
        ns,
        steered(web(
            R"(["127.0.0.1:9001", "127.0.0.1:9002"])",
            R"(health = { type = "tcp", interval = "200ms", timeout = "200ms", rise = 2, fall = 2 })")));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "A");
    CHECK(answered_by(ns, "127.0.0.1:5001") == "B");

    b.reset();
    REQUIRE(eventually([&] { return times_down(proxify.log(), "127.0.0.1:9002") == 1; }));
    for (int i = 0; i < 4; ++i) CHECK(answered_by(ns, "127.0.0.1:5001") == "A");

    b.emplace(ns, "127.0.0.1:9002", answer("B"));
    const Moment back = now();
    REQUIRE(eventually([&] { return answered_by(ns, "127.0.0.1:5001") == "B"; }));
    // Two checks, each after up to 200 ms and some jitter; the rest is for a busy machine.
    CHECK(now() - back < 2s);
    CHECK(times_up(proxify.log(), "127.0.0.1:9002") >= 1);
}

TEST_CASE("checks find out without any client, and the log says each change once", "[P-45]") {
    IN_NAMESPACE(ns);
    std::optional<Server> a(std::in_place, ns, "127.0.0.1:9001", answer("A"));
    auto proxify = Proxify::start(ns, steered(web(R"(["127.0.0.1:9001"])", quick_checks)));
    REQUIRE(eventually([&] { return a->connections() >= 3; }));
    CHECK(times_down(proxify.log(), "127.0.0.1:9001") == 0);
    for (int round = 1; round <= 3; ++round) {
        a.reset();
        REQUIRE(eventually([&] { return times_down(proxify.log(), "127.0.0.1:9001") == round; }));
        a.emplace(ns, "127.0.0.1:9001", answer("A"));
        REQUIRE(eventually([&] { return times_up(proxify.log(), "127.0.0.1:9001") >= round; }));
        const int seen = a->connections();
        REQUIRE(eventually([&] { return a->connections() >= seen + 5; }));
        CHECK(times_down(proxify.log(), "127.0.0.1:9001") == round);
    }
    CHECK(session_lines(proxify.log()).empty());
}

TEST_CASE("a check of a black hole ends with its timeout", "[P-45]") {
    IN_NAMESPACE(ns);
    BlackHole hole(ns, "127.0.0.1:9010");
    auto proxify = Proxify::start(ns, steered(web(R"(["127.0.0.1:9010"])", quick_checks)));
    CHECK(eventually([&] { return times_down(proxify.log(), "127.0.0.1:9010") == 1; }));
}

TEST_CASE("a check may ask another port than clients use", "[P-45]") {
    IN_NAMESPACE(ns);
    Server data(ns, "127.0.0.1:9001", answer("data"));
    auto proxify = Proxify::start(
        ns,
        steered(web(
            R"(["127.0.0.1:9001"])",
            R"(health = { type = "tcp", interval = "50ms", timeout = "200ms", rise = 1, fall = 1, port = 9101 })")));
    REQUIRE(eventually([&] { return times_down(proxify.log(), "127.0.0.1:9001") == 1; }));
    Server checked(ns, "127.0.0.1:9101", answer("checked"));
    REQUIRE(eventually([&] { return times_up(proxify.log(), "127.0.0.1:9001") == 1; }));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "data");
}

TEST_CASE("what real clients meet counts too, between checks that are far apart", "[P-45]") {
    IN_NAMESPACE(ns);
    Server a(ns, "127.0.0.1:9001", answer("A"));
    std::optional<Server> b(std::in_place, ns, "127.0.0.1:9002", answer("B"));
    auto proxify = Proxify::start(
        ns,
        steered(web(
            R"(["127.0.0.1:9001", "127.0.0.1:9002"])",
            R"(health = { type = "tcp", interval = "10m", timeout = "200ms", rise = 2, fall = 2 })")));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "A");
    CHECK(answered_by(ns, "127.0.0.1:5001") == "B");
    b.reset();
    CHECK(eventually([&] {
        CHECK(answered_by(ns, "127.0.0.1:5001") == "A");
        return times_down(proxify.log(), "127.0.0.1:9002") == 1;
    }));
}

TEST_CASE("all addresses of a name are targets", "[P-12]") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    ns.add_address("198.51.100.1/32");
    ns.add_address("198.51.100.2/32");
    ns.add_address("2001:db8::3/128");
    Server a(ns, "198.51.100.1:9001", answer("A"));
    Server b(ns, "198.51.100.2:9001", answer("B"));
    Server c(ns, "[2001:db8::3]:9001", answer("C"));
    dns.set("pool.example", {"198.51.100.1", "198.51.100.2", "2001:db8::3"});
    Setup setup = steered(web(R"(["pool.example:9001"])"));
    setup.command.mounts = {dns.resolv_conf()};
    auto proxify = Proxify::start(ns, std::move(setup));
    std::map<std::string, int> answers;
    REQUIRE(eventually(
        [&] { return ++answers[answered_by(ns, "127.0.0.1:5001")], answers.size() >= 3; }));
    answers.clear();
    for (int i = 0; i < 9; ++i) ++answers[answered_by(ns, "127.0.0.1:5001")];
    CHECK(answers == std::map<std::string, int>{{"A", 3}, {"B", 3}, {"C", 3}});
}

TEST_CASE("a name that moves is followed, and one that appears is found, without a restart",
          "[P-14]") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    ns.add_address("198.51.100.1/32");
    ns.add_address("198.51.100.2/32");
    Server a(ns, "198.51.100.1:9001", answer("A"));
    Server b(ns, "198.51.100.2:9001", answer("B"));
    Setup setup =
        steered("[proxify]\nresolve_interval = \"100ms\"\n" + web(R"(["moving.example:9001"])"));
    setup.command.mounts = {dns.resolv_conf()};
    auto proxify = Proxify::start(ns, std::move(setup));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");

    dns.set("moving.example", {"198.51.100.1"});
    CHECK(eventually([&] { return answered_by(ns, "127.0.0.1:5001") == "A"; }));
    dns.set("moving.example", {"198.51.100.2"});
    CHECK(eventually([&] { return answered_by(ns, "127.0.0.1:5001") == "B"; }));
    for (int i = 0; i < 5; ++i) CHECK(answered_by(ns, "127.0.0.1:5001") == "B");
}

TEST_CASE("accepting never waits for DNS", "[P-12]") {
    IN_NAMESPACE(ns);
    // Nobody answers at the resolver's address: each question lasts until its timeout.
    TempDir directory;
    write_file(directory / "resolv.conf", "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n");
    proxify::Fd mute;
    ns.run([&] { mute = proxify::Fd::adopt(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); });
    sockaddr_storage at{};
    socklen_t size = proxify::Address::parse("127.0.0.1:53")->to_sockaddr(at);
    REQUIRE(bind(mute.get(), reinterpret_cast<sockaddr*>(&at), size) == 0);

    Server live(ns, "127.0.0.1:9001", answer("live"));
    Setup setup = steered("[proxify]\nresolve_interval = \"100ms\"\n" +
                          web(R"(["mute.example:9001", "127.0.0.1:9001"])"));
    setup.command.mounts = {{directory / "resolv.conf", "/etc/resolv.conf"}};
    auto proxify = Proxify::start(ns, std::move(setup));
    for (int i = 0; i < 20; ++i) {
        const Moment start = now();
        REQUIRE(answered_by(ns, "127.0.0.1:5001") == "live");
        REQUIRE(now() - start < 1s);
    }
}
