// SPDX-License-Identifier: Apache-2.0
// With -b: where connections land when no configured port is bound. Servers answer with their
// names.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

constexpr auto web_only = R"(
[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:9001"]
)";

std::string bpftool(const Namespace& ns, const std::string& arguments) {
    Finished finished = run_line(ns, "bpftool " + arguments);
    INFO("bpftool " + arguments + "\n" + finished.out + finished.err);
    REQUIRE(finished.exit_code == 0);
    return finished.out;
}

}  // namespace

TEST_CASE("steered ports lead to their service, and no others are touched",
          "[P-10][P-24][P-25][P-30][P-31][P-32]") {
    IN_NAMESPACE(ns);
    ns.add_address("198.51.100.10/32");
    ns.add_address("2001:db8::10/128");
    Server web(ns, "127.0.0.1:9001", answer("web"));
    Server db(ns, "[::1]:9002", answer("db"));
    Server fallback(ns, "127.0.0.1:9003", answer("fallback"));
    auto proxify = Proxify::start(ns, {.config = R"(
[proxify]
default_service = "fallback"

[[service]]
name    = "web"
ports   = [5001, "5100-5109"]
targets = ["127.0.0.1:9001"]

[[service]]
name    = "db"
ports   = [5432]
targets = ["[::1]:9002"]

[[service]]
name    = "fallback"
targets = ["127.0.0.1:9003"]
)",
                                       .flags = {"-b", "-p", "8090"}});
    struct Row {
        const char* what;
        const char* connect_to;
        const char* listen_at;  ///< a local listener of that address, named "local"
        const char* answered_by;
    };
    const Row rows[] = {
        {"a configured port", "127.0.0.1:5001", "", "web"},
        {"by IPv6", "[::1]:5001", "", "web"},
        {"at another address of the host", "198.51.100.10:5001", "", "web"},
        {"at another IPv6 address", "[2001:db8::10]:5001", "", "web"},
        {"just below a range", "127.0.0.1:5099", "", "refused"},
        {"the first of a range", "127.0.0.1:5100", "", "web"},
        {"the last of a range", "127.0.0.1:5109", "", "web"},
        {"just above a range", "127.0.0.1:5110", "", "refused"},
        {"the other service", "127.0.0.1:5432", "", "db"},
        {"the other service by IPv6", "[::1]:5432", "", "db"},
        {"a port of nobody", "127.0.0.1:5555", "", "refused"},
        {"a port of a local listener", "127.0.0.1:5555", "127.0.0.1:5555", "local"},
        {"the same by IPv6", "[::1]:5555", "[::1]:5555", "local"},
        {"a configured port that has a local listener", "127.0.0.1:5001", "127.0.0.1:5001", "web"},
        {"the listener itself", "127.0.0.1:8090", "", "fallback"},
        {"the listener itself by IPv6", "[::1]:8090", "", "fallback"},
        {"the port it would have without -p", "127.0.0.1:8080", "", "refused"},
        {"a target, directly", "127.0.0.1:9001", "", "web"},
    };
    for (const Row& row : rows) {
        INFO(row.what << ": " << row.connect_to);
        std::optional<Server> local;
        if (*row.listen_at) local.emplace(ns, row.listen_at, answer("local"));
        CHECK(answered_by(ns, row.connect_to) == row.answered_by);
    }
}

TEST_CASE("one listener carries every configured port, and no other is bound", "[P-23]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = R"(
[[service]]
name    = "web"
ports   = [5001, 5200, "5300-5399"]
targets = ["127.0.0.1:9001"]
)",
                                       .flags = {"-b"}});
    for (int port : {5001, 5200, 5300, 5350, 5399})
        CHECK(answered_by(ns, "127.0.0.1:" + std::to_string(port)) == "blue");
    CHECK(listening(ns) == std::set<std::string>{"*:8080", "127.0.0.1:9001"});
}

TEST_CASE("-p chooses the listener's port, and wins over the file", "[P-24]") {
    IN_NAMESPACE(ns);
    auto proxify =
        Proxify::start(ns, {.config = std::string("[proxify]\nlisten = 8081\n") + web_only,
                            .flags = {"-b", "-p", "8082"}});
    CHECK(listening(ns) == std::set<std::string>{"*:8082"});
}

TEST_CASE("under steering, targets take turns in the order written", "[P-25]") {
    IN_NAMESPACE(ns);
    Server a(ns, "127.0.0.1:9001", answer("A"));
    Server b(ns, "127.0.0.1:9002", answer("B"));
    Server c(ns, "127.0.0.1:9003", answer("C"));
    auto proxify = Proxify::start(ns, {.config = R"(
[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"]
)",
                                       .flags = {"-b"}});
    std::string order;
    for (int i = 0; i < 9; ++i) order += answered_by(ns, i % 2 ? "[::1]:5001" : "127.0.0.1:5001");
    CHECK(order == "ABCABCABC");
}

TEST_CASE("a target may follow the port that was dialled", "[P-07]") {
    IN_NAMESPACE(ns);
    ns.add_address("203.0.113.5/32");
    Server same(ns, "203.0.113.5:5300", answer("same port"));
    Server offset(ns, "127.0.0.1:6401", answer("plus 1000"));
    auto proxify = Proxify::start(ns, {.config = R"(
[[service]]
name    = "same"
ports   = ["5300-5399"]
targets = ["203.0.113.5:*"]

[[service]]
name    = "offset"
ports   = ["5400-5499"]
targets = ["127.0.0.1:+1000"]
)",
                                       .flags = {"-b"}});
    CHECK(answered_by(ns, "127.0.0.1:5300") == "same port");
    CHECK(answered_by(ns, "127.0.0.1:5401") == "plus 1000");
}

TEST_CASE("bpftool shows proxy_ports and proxy_sock in the shape that people type", "[P-26]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    auto proxify = Proxify::start(ns, {.config = web_only, .flags = {"-b"}});
    const auto ids = proxify.ids();
    const auto ports = bpftool(ns, "map show id " + std::to_string(ids.proxy_ports));
    const auto sock = bpftool(ns, "map show id " + std::to_string(ids.proxy_sock));
    INFO(ports + sock);
    CHECK(find_line(ports, {": hash ", "name proxy_ports "}));
    CHECK(find_line(ports, {"key 2B", "value 1B", "max_entries 65536"}));
    CHECK(find_line(sock, {": sockmap ", "name proxy_sock "}));
    CHECK(find_line(sock, {"key 4B", "value 8B", "max_entries 1 "}));
}

TEST_CASE("a dump of proxy_ports lists every configured port, in host byte order", "[P-27]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    auto proxify = Proxify::start(ns, {.config = R"(
[[service]]
name    = "web"
ports   = [5001, "5300-5301"]
targets = ["127.0.0.1:9001"]
)",
                                       .flags = {"-b"}});
    const std::string list =
        bpftool(ns, "map dump id " + std::to_string(proxify.ids().proxy_ports));
    INFO(list);
    for (const char* key : {"key: 89 13 ", "key: b4 14 ", "key: b5 14 "})
        CHECK(count_lines(list, {key}) == 1);
    CHECK(find_line(list, {"Found 3 elements"}));
}

TEST_CASE("bpftool map update opens port 7 at once, and delete closes it", "[P-28][P-30]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(
        ns, {.config = std::string("[proxify]\ndefault_service = \"web\"\n") + web_only,
             .flags = {"-b"}});
    const std::string id = std::to_string(proxify.ids().proxy_ports);
    CHECK(answered_by(ns, "127.0.0.1:7") == "refused");
    bpftool(ns, "map update id " + id + " key 0x07 0x00 value 0x00");
    CHECK(answered_by(ns, "127.0.0.1:7") == "blue");
    CHECK(answered_by(ns, "[::1]:7") == "blue");
    bpftool(ns, "map delete id " + id + " key 0x07 0x00");
    CHECK(answered_by(ns, "127.0.0.1:7") == "refused");
}

TEST_CASE("without a default_service a port added by hand is closed at once, and logged",
          "[P-30]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web_only, .flags = {"-b"}});
    bpftool(ns, "map update id " + std::to_string(proxify.ids().proxy_ports) +
                    " key 0x07 0x00 value 0x00");
    for (const char* address : {"127.0.0.1:7", "127.0.0.1:8080"}) {
        CHECK(answered_by(ns, address) == "reset");
        CHECK(eventually(
            [&] { return find_line(proxify.log(), {std::string("original_dst=") + address}); }));
    }
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
}

TEST_CASE("bpftool shows the link into this namespace, at the start and after load", "[P-29]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web_only, .flags = {"-b"}});
    const auto ids = proxify.ids();
    for (int i = 0; i < 2; ++i) {
        const auto link = bpftool(ns, "link show id " + std::to_string(ids.link));
        INFO(link);
        CHECK(find_line(link, {"netns", "prog " + std::to_string(ids.program)}));
        CHECK(find_line(link, {"netns_ino " + std::to_string(ns.inode()), "sk_lookup"}));
        for (int load = 0; load < 200; ++load) REQUIRE(answered_by(ns, "127.0.0.1:5001") == "blue");
    }
    const auto program = bpftool(ns, "prog show id " + std::to_string(ids.program));
    CHECK(find_line(program, {"sk_lookup", "name proxify_steer"}));
}

TEST_CASE(
    "a local listener on a configured port is named at the start, and answers again afterwards",
    "[P-31]") {
    IN_NAMESPACE(ns);
    Server local(ns, "127.0.0.1:5001", answer("local"));
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "local");
    {
        auto proxify = Proxify::start(ns, {.config = web_only, .flags = {"-b"}});
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
        // The listener is one of this process.
        CHECK(find_line(proxify.log(),
                        {"warn", "127.0.0.1:5001", "pid " + std::to_string(getpid())}));
        CHECK(proxify.stop() == 0);
    }
    CHECK(answered_by(ns, "127.0.0.1:5001") == "local");
}

TEST_CASE("a target that listens on a steered port of this host is met, without a loop", "[P-31]") {
    IN_NAMESPACE(ns);
    for (const char* address : {"127.0.0.1:5001", "[::1]:5001"}) {
        Server local(ns, address, answer("local"));
        auto proxify = Proxify::start(ns, {.config = "[[service]]\nname = \"web\"\nports = [5001]\n"
                                                     "health = false\ntargets = [\"" +
                                                     std::string(address) + "\"]\n",
                                           .flags = {"-b"}});
        for (int i = 0; i < 50; ++i) REQUIRE(answered_by(ns, address) == "local");
        proxify.sessions(50);
        CHECK(proxify.stop() == 0);
        CHECK(session_lines(proxify.log()).size() == 50);
        CHECK(local.connections() == 50);
    }
}

TEST_CASE("such a target is checked in the same manner", "[P-45]") {
    IN_NAMESPACE(ns);
    Server local(ns, "127.0.0.1:5001", answer("local"));
    auto proxify = Proxify::start(ns, {.config = R"(
[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:5001"]
health  = { type = "tcp", interval = "20ms", timeout = "1s", rise = 1, fall = 1 }
)",
                                       .flags = {"-b"}});
    CHECK(eventually([&] { return local.connections() >= 10; }));
    CHECK(times_down(proxify.log(), "127.0.0.1:5001") == 0);
    CHECK(session_lines(proxify.log()).empty());
}

TEST_CASE("UDP on a configured port is untouched", "[P-31]") {
    IN_NAMESPACE(ns);
    auto proxify = Proxify::start(ns, {.config = web_only, .flags = {"-b"}});
    ns.run([] {
        auto server = proxify::Fd::adopt(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        auto client = proxify::Fd::adopt(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        timeval limit{.tv_sec = 10, .tv_usec = 0};
        setsockopt(server.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        sockaddr_storage at{};
        socklen_t size = proxify::Address::parse("127.0.0.1:5001")->to_sockaddr(at);
        REQUIRE(bind(server.get(), reinterpret_cast<sockaddr*>(&at), size) == 0);
        REQUIRE(connect(client.get(), reinterpret_cast<sockaddr*>(&at), size) == 0);
        REQUIRE(send(client.get(), "datagram", 8, 0) == 8);
        char got[16];
        CHECK(recv(server.get(), got, sizeof got, 0) == 8);
    });
}

TEST_CASE("IPv6 clients are served, by nc too", "[P-32]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("nc");
    Server blue(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, {.config = web_only, .flags = {"-b"}});
    Finished nc = run({.argv = {"nc", "-N", "-6", "::1", "5001"}, .inside = &ns, .input = "six\n"});
    CHECK(nc.out == "six\n");
    CHECK(nc.exit_code == 0);
}

TEST_CASE("the address that the client dialled is kept and logged", "[P-33]") {
    IN_NAMESPACE(ns);
    ns.add_address("198.51.100.10/32");
    ns.add_address("2001:db8::10/128");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web_only, .flags = {"-b"}});
    const std::vector<std::string> addresses = {"198.51.100.10:5001", "127.0.0.1:5001",
                                                "[2001:db8::10]:5001"};
    for (const auto& address : addresses) CHECK(answered_by(ns, address) == "blue");
    std::vector<std::string> logged;
    for (const auto& session : proxify.sessions(3)) logged.push_back(session.original_dst);
    std::ranges::sort(logged);
    CHECK(logged ==
          std::vector<std::string>{"127.0.0.1:5001", "198.51.100.10:5001", "[2001:db8::10]:5001"});
}

TEST_CASE("sixty thousand ports are an ordinary file", "[P-23]") {
    IN_NAMESPACE(ns);
    ns.reserve_ports(1, 60001);
    Server blue(ns, "127.0.0.1:61001", answer("blue"));
    const Moment start = now();
    auto proxify = Proxify::start(ns, {.config = R"(
[[service]]
name    = "nearly-all"
ports   = ["1-8079", "8081-60001"]
targets = ["127.0.0.1:61001"]
)",
                                       .flags = {"-b"}});
    const auto took = std::chrono::duration_cast<Millis>(now() - start);
    INFO("ready after " << took.count() << " ms");
    CHECK(took < (sanitized ? 10s : 1s));
    for (int port : {1, 22, 8079, 8081, 30000, 60001})
        CHECK(answered_by(ns, "127.0.0.1:" + std::to_string(port)) == "blue");
    CHECK(answered_by(ns, "127.0.0.1:61000") == "refused");
}

TEST_CASE("a client is served while others send nothing, half a byte at a time, or never read",
          "[P-20]") {
    IN_NAMESPACE(ns);
    std::atomic<uint64_t> sent = 0;
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Server source(ns, "127.0.0.1:9002", pour(sent));
    auto proxify = Proxify::start(ns, {.config = std::string(web_only) + R"(
[[service]]
name    = "source"
ports   = [5002]
targets = ["127.0.0.1:9002"]
)",
                                       .flags = {"-b"}});
    std::vector<Stream> silent, stalled;
    for (int i = 0; i < 200; ++i) silent.push_back(Stream::dial(ns, "127.0.0.1:5001"));
    for (int i = 0; i < 50; ++i) stalled.push_back(Stream::dial(ns, "127.0.0.1:5002"));
    for (int i = 0; i < 50; ++i) {
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        if (i % 2) client.send("x");
        client.reset();
    }
    for (int i = 0; i < 50; ++i) REQUIRE(answered_by(ns, "127.0.0.1:5001") == "blue");
}
