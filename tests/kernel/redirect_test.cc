// SPDX-License-Identifier: Apache-2.0
// Connections that netfilter redirects to proxify: by iptables, in both of its forms, as people
// write the rules, and by the rules that proxify writes itself.
#include <csignal>
#include <thread>

#include "road.h"

using namespace proxify::test;

namespace {

/// Where clients aimed, and else nowhere.
constexpr auto outbound = R"(
[[service]]
name    = "outbound"
targets = ["original"]
health  = false
[[capture]]
type    = "redirect"
service = "outbound"
)";

/// The same with a target for those of whom nobody knows where they aimed.
constexpr auto with_fallback = R"(
[[service]]
name    = "outbound"
targets = ["original", "127.0.0.1:7000"]
health  = false
[[capture]]
type    = "redirect"
service = "outbound"
)";

/// Who writes the rules.
struct Tool {
    std::string name, v4, v6;  ///< programs of the iptables kind; empty for proxify itself
};
const Tool tools[] = {{"iptables-legacy", "iptables-legacy", "ip6tables-legacy"},
                      {"iptables-nft", "iptables-nft", "ip6tables-nft"},
                      {"proxify", "", ""}};

Finished rules(const Namespace& ns, std::vector<std::string> arguments, Command command = {}) {
    command.argv = {proxify_binary(), "redirect", "rules"};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.inside = &ns;
    return run(command);
}

void add_rules(const Namespace& ns, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "add");
    auto added = rules(ns, std::move(arguments));
    INFO(added.out << added.err);
    REQUIRE(added.exit_code == 0);
}

enum class Hook { prerouting, output };

/// Leads one port to 15002. That of OUTPUT leaves proxify's own connections alone.
void redirect(const Namespace& ns, const Tool& tool, Hook hook, int port) {
    const std::string number = std::to_string(port);
    if (tool.v4.empty())
        return add_rules(ns, {"--ports", number, "--to", "15002", "--only",
                              hook == Hook::output ? "leaving" : "arriving"});
    for (const auto& program : {tool.v4, tool.v6})
        must(ns, program + " -t nat -A " +
                     (hook == Hook::output ? "OUTPUT -m mark ! --mark 0x2035" : "PREROUTING") +
                     " -p tcp --dport " + number + " -j REDIRECT --to-port 15002");
}

/// As the README of those who redirect says it, which knows nothing of a mark.
void redirect_all_that_leaves(const Namespace& ns, const Tool& tool) {
    for (const auto& program : {tool.v4, tool.v6})
        must(ns, program + " -t nat -A OUTPUT -p tcp --dport 8080 -j REDIRECT --to-port 15002");
}

std::string answered(const Namespace& where, const std::string& to) {
    return answered_by(where, to, {.limit = 5s});
}

}  // namespace

TEST_CASE("captured how, aimed at, answered by, original destination seen", "[X-02][X-03][X-05]") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    for (const auto& tool : tools) {
        Road road;
        auto proxify = Proxify::start(road.host, {.config = outbound});
        std::vector<std::unique_ptr<Server>> servers;
        auto serve = [&](const Namespace& where, const std::string& at, const std::string& name) {
            return servers.emplace_back(std::make_unique<Server>(where, at, answer(name))).get();
        };
        for (Hook hook : {Hook::prerouting, Hook::output})
            for (int port : {8080, 8081}) redirect(road.host, tool, hook, port);

        struct Row {
            const Namespace* from;
            std::string aimed;
            Server* server;
            std::string answered_by;
        };
        std::vector<Row> rows;
        for (const auto& of : Road::families) {
            auto row = [&](const Namespace& from, const Namespace& at, const std::string& ip,
                           int port, const std::string& name) {
                const auto aimed = of.at(ip, port);
                rows.push_back({&from, aimed, serve(at, aimed, name), name});
            };
            // What stands on the host itself, for those who come from elsewhere.
            row(road.client, road.host, of.host_near_client, 8080, of.name + " host 8080");
            row(road.client, road.host, of.host_near_client, 8081, of.name + " host 8081");
            // What is beyond it: the rule does not ask whose the address is.
            row(road.client, road.target, of.target, 8080, of.name + " target");
            // From the host: one service elsewhere, and one on itself.
            rows.push_back(
                {&road.host, of.at(of.target, 8080), servers.back().get(), of.name + " target"});
            row(road.host, road.host, of.loopback(), 8081, of.name + " loopback");
        }
        size_t sessions = 0;
        for (const auto& row : rows) {
            CAPTURE(tool.name, row.aimed);
            const int before = row.server->connections();
            CHECK(answered(*row.from, row.aimed) == row.answered_by);
            const auto session = proxify.sessions(++sessions).back();
            CHECK(session.original_dst == row.aimed);
            CHECK(session.target == row.aimed);
            CHECK(session.line.contains("door=redirect"));
            CHECK(row.server->connections() == before + 1);
        }
        CHECK(proxify.sessions(sessions).size() == rows.size());
        CHECK(proxify.stop() == 0);
    }
}

TEST_CASE("rules that leave out the mark end in a sentence, not in a loop", "[X-04]") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    for (const auto& tool : tools) {
        if (tool.v4.empty()) continue;
        Road road;
        auto proxify = Proxify::start(road.host, {.config = outbound});
        redirect_all_that_leaves(road.host, tool);
        const int fds = proxify.process().open_fds();
        size_t sessions = 0;
        for (const auto& of : Road::families) {
            CAPTURE(tool.name, of.name);
            Server server(road.target, of.at(of.target, 8080), answer("target"));
            Server local(road.host, of.at(of.loopback(), 8080), answer("local"));
            for (const auto& ip : {of.target, of.loopback()}) {
                const auto to = of.at(ip, 8080);
                CHECK(answered(road.host, to) != "target");
                CHECK(answered(road.host, to) != "local");
                // Each is two sessions: the client's, and the one that came back.
                sessions += 4;
                REQUIRE(proxify.sessions(sessions).size() == sessions);
            }
            CHECK(server.connections() + local.connections() == 0);
        }
        CHECK(find_line(proxify.log(), {"loop"}));
        CHECK(eventually([&] { return proxify.process().open_fds() <= fds; }));

        // Many at once do not multiply either.
        std::vector<Stream> clients;
        for (int i = 0; i < 200; ++i)
            if (Stream::dial_error(road.host, "203.0.113.9:8080") == 0) ++sessions, ++sessions;
        CHECK(proxify.sessions(sessions, 20s).size() == sessions);
        CHECK(eventually([&] { return proxify.process().open_fds() <= fds; }));
        CHECK(proxify.process().is_running());
    }
}

TEST_CASE("nor do they where the target is a fixed one, or the rule another one", "[X-04]") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    auto proxify = Proxify::start(road.host, {.config = R"(
[[service]]
name    = "fixed"
ports   = [5001]
targets = ["203.0.113.9:8080"]
health  = false
[[service]]
name    = "outbound"
targets = ["original"]
health  = false
[[capture]]
type    = "redirect"
ports   = [15002]
service = "fixed"
[[capture]]
type    = "redirect"
ports   = [15006]
service = "outbound"
)"});
    const int fds = proxify.process().open_fds();
    Server server(road.target, "203.0.113.9:8080", answer("target"));
    const struct {
        std::string rule, dialled;
        size_t sessions;
    } rows[] = {
        // What goes on to the fixed target comes back.
        {"-p tcp --dport 8080 -j REDIRECT --to-port 15002", "203.0.113.9:8080", 2},
        // Also when the client came by a port of ours, which no rule is about.
        {"-p tcp --dport 8080 -j REDIRECT --to-port 15002", "127.0.0.1:5001", 3},
        // To an address of this host that is not loopback's.
        {"-p tcp --dport 8080 -j DNAT --to-destination 198.51.100.1:15006", "203.0.113.9:8080", 2},
    };
    size_t sessions = 0;
    for (const auto& row : rows) {
        CAPTURE(row.rule, row.dialled);
        must(road.host, "iptables-legacy -t nat -A OUTPUT " + row.rule);
        CHECK(answered(road.host, row.dialled) != "target");
        sessions += row.sessions;
        CHECK(proxify.sessions(sessions).size() == sessions);
        must(road.host, "iptables-legacy -t nat -D OUTPUT " + row.rule);
    }
    CHECK(answered(road.host, "127.0.0.1:5001") == "target");
    CHECK(proxify.sessions(sessions + 1).size() == sessions + 1);
    CHECK(count_lines(proxify.log(), {"loop"}) == 3);
    CHECK(eventually([&] { return proxify.process().open_fds() <= fds; }));
}

TEST_CASE("whoever dials the listener itself has the fallback, or is told so", "[X-06][X-07]") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    Server fallback(ns, "127.0.0.1:7000", answer("fallback"));
    // Connections are tracked now, so the kernel has an answer for those that nobody redirected.
    add_rules(ns, {"--ports", "8080", "--to", "15002"});
    for (const std::string door : {"127.0.0.1:15002", "127.0.0.1:15006", "[::1]:15002"}) {
        CAPTURE(door);
        {
            auto proxify = Proxify::start(ns, {.config = with_fallback});
            CHECK(answered(ns, door) == "fallback");
            CHECK(proxify.sessions(1).front().original_dst == door);
        }
        auto proxify = Proxify::start(ns, {.config = outbound});
        const Moment start = now();
        CHECK(answered(ns, door) == "reset");
        CHECK(now() - start < 2s);
        CHECK_FALSE(proxify.sessions(1).front().ending.starts_with("--"));
        CHECK(proxify.sessions(1).size() == 1);
    }
}

TEST_CASE("where a client aimed wins over the fallback", "[X-08]") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    ns.add_address("203.0.113.9/32");
    ns.add_address("2001:db8::9/128");
    Server fallback(ns, "127.0.0.1:7000", answer("fallback"));
    Server v4(ns, "203.0.113.9:8080", answer("aimed")),
        v6(ns, "[2001:db8::9]:8080", answer("aimed"));
    auto proxify = Proxify::start(ns, {.config = with_fallback});
    add_rules(ns, {"--ports", "8080", "--to", "15002"});
    CHECK(answered(ns, "203.0.113.9:8080") == "aimed");
    CHECK(answered(ns, "[2001:db8::9]:8080") == "aimed");
    CHECK(fallback.connections() == 0);
    // And where nobody is any more, the fallback does not stand in: the client wanted somebody
    // else.
    v4.stop();
    CHECK(answered(ns, "203.0.113.9:8080") == "reset");
    CHECK(fallback.connections() == 0);
}

TEST_CASE("a client that aimed at a listener of proxify is not dialled on") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    auto proxify = Proxify::start(road.host, {.config = outbound});
    const int fds = proxify.process().open_fds();
    // A rule that leads one door to the other.
    must(road.host,
         "iptables-legacy -t nat -A PREROUTING -p tcp --dport 15006 -j REDIRECT "
         "--to-port 15002 && iptables-legacy -t nat -A OUTPUT -m mark ! --mark "
         "0x2035 -p tcp --dport 15006 -j REDIRECT --to-port 15002");
    CHECK(answered(road.client, "198.51.100.1:15006") == "reset");
    CHECK(answered(road.host, "127.0.0.1:15006") == "reset");
    for (const auto& session : proxify.sessions(2)) {
        CHECK(session.original_dst.ends_with(":15006"));
        CHECK(session.ending.contains("proxify itself"));
    }
    // The same port of another host is somebody else's.
    Server other(road.target, "203.0.113.9:15006", answer("other"));
    CHECK(answered(road.client, "203.0.113.9:15006") == "other");
    CHECK(eventually([&] { return proxify.process().open_fds() <= fds; }));
}

TEST_CASE("what stands on loopback only is not for those who come from outside") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    for (const auto& tool : tools) {
        CAPTURE(tool.name);
        Road road;
        auto proxify = Proxify::start(road.host, {.config = outbound});
        Server secret(road.host, "127.0.0.1:8080", answer("secret"));
        Server open(road.host, "198.51.100.1:8080", answer("open"));
        must(road.host, "echo 0 >/proc/sys/net/ipv4/ip_forward");
        redirect(road.host, tool, Hook::prerouting, 8080);
        // A neighbour who sends to 127.0.0.1 by the wire, and takes what comes back from there.
        must(road.client,
             "ip addr del 127.0.0.1/8 dev lo && "
             "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet && "
             "ip route add 127.0.0.1/32 via 198.51.100.1 src 198.51.100.7");
        CHECK(answered(road.client, "198.51.100.1:8080") == "open");
        const auto answer = answered_by(road.client, "127.0.0.1:8080", {.limit = 1s});
        // Our own rule lets the kernel throw it away; one that does not is undone at the door.
        CHECK(answer == (tool.v4.empty() ? "nobody" : "reset"));
        CHECK(secret.connections() == 0);
        // Who is on the host gets there, by whatever rule.
        redirect(road.host, tool, Hook::output, 8080);
        CHECK(answered(road.host, "127.0.0.1:8080") == "secret");
        CHECK(proxify.stop() == 0);
    }
}

TEST_CASE("a client that comes without a rule, by IPv6, is treated as by IPv4", "[X-23]") {
    IN_NAMESPACE(ns);
    Server fallback(ns, "127.0.0.1:7000", answer("fallback"));
    auto proxify = Proxify::start(ns, {.config = with_fallback});
    CHECK(answered(ns, "[::1]:15002") == "fallback");
    CHECK(answered(ns, "127.0.0.1:15002") == "fallback");
}

TEST_CASE("where a client aimed and nobody is, only that client notices", "[X-20]") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    ns.add_address("203.0.113.9/32");
    auto config = std::string(outbound);
    config.insert(config.find("health"), "timeouts = { connect = \"300ms\" }\n");
    Server up(ns, "203.0.113.9:8080", answer("up"));
    BlackHole hole(ns, "203.0.113.9:8082");  // dials itself, so before there are rules
    auto proxify = Proxify::start(ns, {.config = config});
    add_rules(ns, {"--ports", "8080-8082", "--to", "15002"});
    auto waiting = Stream::dial(ns, "203.0.113.9:8082");
    for (int i = 0; i < 5; ++i) {
        CHECK(answered(ns, "203.0.113.9:8081") == "reset");
        CHECK(answered(ns, "203.0.113.9:8080") == "up");
    }
    CHECK(waiting.receive_all(5s).end == End::reset);
    const auto sessions = proxify.sessions(11);
    CHECK(std::ranges::any_of(sessions, [](const auto& one) {
        return one.ending.contains("no answer") && one.target == "203.0.113.9:8082";
    }));
    CHECK(std::ranges::any_of(sessions, [](const auto& one) {
        return one.ending.contains("refused") && one.target == "203.0.113.9:8081";
    }));
}

TEST_CASE("killed in the middle, it starts again under the same rules") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    ns.add_address("203.0.113.9/32");
    Server server(ns, "203.0.113.9:8080", echo());
    add_rules(ns, {"--ports", "8080", "--to", "15002"});
    for (int i = 0; i < 3; ++i) {
        auto proxify = Proxify::start(ns, {.config = outbound});
        auto client = Stream::dial(ns, "203.0.113.9:8080");
        client.send("here");
        CHECK(client.receive_exactly(4) == "here");
        proxify.process().signal(SIGKILL);
        CHECK(proxify.process().wait(10s) == 137);
        CHECK(client.receive_all(10s).end != End::none_yet);
        // The rules are the host's: while nobody listens they lead to a refusal. Its listener the
        // kernel closes a moment later, with its ring.
        CHECK(eventually([&] { return answered(ns, "203.0.113.9:8080") == "refused"; }));
    }
}

TEST_CASE("as another user it still passes its own rules") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    ns.add_address("203.0.113.9/32");
    Server server(ns, "203.0.113.9:8080", answer("up"));
    add_rules(ns, {"--ports", "8080", "--to", "15002"});
    auto proxify =
        Proxify::start(ns, {.config = outbound + std::string("[proxify]\nuser = \"nobody\"\n")});
    CHECK(answered(ns, "203.0.113.9:8080") == "up");
    CHECK(proxify.sessions(1).front().target == "203.0.113.9:8080");
}

TEST_CASE("as an ordinary user it serves what arrives, and says what it cannot do") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    auto proxify = Proxify::start(road.host, {.config = outbound, .command = {.user = nobody}});
    CHECK(find_line(proxify.log(), {"warn", "0x2035", "uid 65534"}));
    Server server(road.target, "203.0.113.9:8080", answer("target"));
    redirect(road.host, tools[0], Hook::prerouting, 8080);
    CHECK(answered(road.client, "203.0.113.9:8080") == "target");
    // By the rule that it asks for, and by one that does not know that it has no mark.
    must(road.host,
         "iptables-legacy -t nat -A OUTPUT -m owner ! --uid-owner 65534 -p tcp --dport "
         "8080 -j REDIRECT --to-port 15002");
    CHECK(answered(road.host, "203.0.113.9:8080") == "target");
    CHECK(proxify.sessions(2).size() == 2);
    must(road.host, "iptables-legacy -t nat -F OUTPUT");
    redirect(road.host, tools[0], Hook::output, 8080);
    CHECK(answered(road.host, "203.0.113.9:8080") != "target");
    CHECK(proxify.sessions(4).size() == 4);
    CHECK(find_line(proxify.log(), {"loop"}));
}

TEST_CASE("25 000 connections later everything still works") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    for (int i = 1; i <= 4; ++i) ns.add_address("203.0.113." + std::to_string(i) + "/32");
    auto proxify = Proxify::start(ns, {.config = outbound});
    add_rules(ns, {"--ports", "8080", "--to", "15002"});
    std::vector<std::unique_ptr<Server>> servers;
    for (int i = 1; i <= 4; ++i)
        servers.push_back(std::make_unique<Server>(ns, "203.0.113." + std::to_string(i) + ":8080",
                                                   [](Stream& client) {
                                                       client.send("up\n");
                                                       client.receive();
                                                   }));
    const int fds = proxify.process().open_fds();
    std::atomic<int> good = 0;
    std::vector<std::thread> clients;
    for (int i = 1; i <= 4; ++i)
        clients.emplace_back([&, to = "203.0.113." + std::to_string(i) + ":8080"] {
            for (int n = 0; n < 25'000 / 4; ++n) {
                auto client = Stream::dial(ns, to);
                good += client.receive_line() == "up\n";
                // So that the ports do not run out.
                client.reset();
            }
        });
    for (auto& client : clients) client.join();
    CHECK(good == 25'000);
    CHECK(eventually([&] { return proxify.process().open_fds() <= fds + 4; }));
    CHECK(answered(ns, "203.0.113.1:8080") == "up");
}

TEST_CASE("with few descriptors it serves as many as it can, and the others once those leave",
          "[X-25]") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    ns.add_address("203.0.113.9/32");
    Server server(ns, "203.0.113.9:8080", greet("up"));
    auto proxify = Proxify::start(ns, {.config = outbound + std::string("[proxify]\nworkers = 1\n"),
                                       .command = {.open_files = 64}});
    add_rules(ns, {"--ports", "8080", "--to", "15002"});
    {
        std::vector<Stream> clients;
        clients.push_back(Stream::dial(ns, "203.0.113.9:8080"));
        CHECK(clients.front().receive_line() == "up\n");
        for (int i = 0; i < 100; ++i) clients.push_back(Stream::dial(ns, "203.0.113.9:8080"));
        CHECK(eventually([&] { return proxify.process().open_fds() > 50; }));
    }
    CHECK(eventually([&] { return answered(ns, "203.0.113.9:8080") == "up"; }, 20s));
    CHECK(proxify.process().is_running());
}

// ---- the command

namespace {

/// `proxify redirect`, with an admin socket of the test's own.
Setup command(std::vector<std::string> environment = {},
              std::vector<std::string> flags = {"--ports", "15002,15006", "redirect"}) {
    return {.flags = std::move(flags), .command = {.environment = std::move(environment)}};
}

}  // namespace

TEST_CASE("the command listens on 15002 and 15006, and needs no file", "[X-01][X-22]") {
    IN_NAMESPACE(ns);
    for (int signal : {SIGINT, SIGTERM}) {
        TempDir directory;
        auto proxify =
            Proxify::start(ns, command({}, {"--socket", directory / "admin.sock", "redirect"}));
        CHECK(listening(ns) == std::set<std::string>{"*:15002", "*:15006"});
        proxify.process().signal(signal);
        CHECK(proxify.process().wait(10s) == 0);
        CHECK(listening(ns).empty());
    }
}

TEST_CASE("nc to the listener reaches TARGET_ADDR, and each session has a number of its own",
          "[X-06][X-18]") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    NEEDS_PROGRAM("nc");
    Server server(ns, "127.0.0.1:8080", echo());
    auto proxify = Proxify::start(ns, command({"TARGET_ADDR=localhost:8080"}));
    for (bool tracked : {false, true}) {
        if (tracked) add_rules(ns, {"--ports", "8080", "--to", "15002"});
        for (const std::string family : {"-4", "-6"}) {
            CAPTURE(tracked, family);
            // Not every host calls ::1 localhost.
            auto nc =
                run({.argv = {"nc", "-N", family, family == "-4" ? "localhost" : "::1", "15002"},
                     .inside = &ns,
                     .input = "hello\n"});
            CHECK(nc.out == "hello\n");
            CHECK(nc.exit_code == 0);
        }
    }
    const auto sessions = proxify.sessions(4);
    std::set<std::string> ids;
    for (const auto& session : sessions) {
        CHECK(session.target == "127.0.0.1:8080");
        const auto at = session.line.find("session ");
        ids.insert(session.line.substr(at, session.line.find(' ', at + 8) - at));
    }
    CHECK(ids == std::set<std::string>{"session 1", "session 2", "session 3", "session 4"});
}

TEST_CASE("the environment says how much is logged, and in which form", "[X-19]") {
    IN_NAMESPACE(ns);
    Server server(ns, "127.0.0.1:8080", answer("target"));
    struct {
        std::vector<std::string> environment;
        bool has_sessions, is_json;
    } rows[] = {
        {{}, true, false},
        {{"LOG_LEVEL=debug"}, true, false},
        {{"LOG_LEVEL=info", "LOG_FORMAT=console"}, true, false},
        {{"LOG_LEVEL=loud"}, true, false},
        {{"LOG_FORMAT=json"}, true, true},
    };
    for (auto& row : rows) {
        CAPTURE(row.environment);
        row.environment.push_back("TARGET_ADDR=127.0.0.1:8080");
        auto proxify = Proxify::start(ns, command(row.environment));
        CHECK(answered(ns, "127.0.0.1:15002") == "target");
        if (row.has_sessions) CHECK(proxify.sessions(1).size() == 1);
        CHECK(proxify.stop() == 0);
        for (const auto& line : lines_of(proxify.log()))
            CHECK(line.starts_with('{') == row.is_json);
    }
    // With these it does not say that it is ready either.
    for (const std::string level : {"warn", "error"}) {
        TempDir directory;
        auto quiet = Child::start(
            {.argv = {proxify_binary(), "redirect", "--socket", directory / "admin.sock"},
             .inside = &ns,
             .environment = {"LOG_LEVEL=" + level, "TARGET_ADDR=127.0.0.1:8080"}});
        REQUIRE(eventually([&] { return answered(ns, "127.0.0.1:15002") == "target"; }));
        quiet.signal(SIGTERM);
        CHECK(quiet.wait(15s) == 0);
        CHECK(session_lines(quiet.err()).empty());
        CHECK_FALSE(quiet.err().contains(" info "));
    }
}

TEST_CASE("a port that is taken is named", "[X-21]") {
    IN_NAMESPACE(ns);
    Server busy(ns, "0.0.0.0:15006", answer("busy"));
    auto refused = Proxify::refuse(ns, command());
    INFO(refused.err);
    CHECK(refused.exit_code == 1);
    CHECK(refused.err.contains("15006"));
    CHECK(listening(ns) == std::set<std::string>{"0.0.0.0:15006"});
}
