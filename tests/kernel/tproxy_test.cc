// SPDX-License-Identifier: Apache-2.0
// TPROXY: netfilter hands connections to proxify and writes nothing into them. And the way on from
// the client's own address, so that the target sees who it is.
#include <csignal>

#include "road.h"

using namespace proxify::test;

namespace {

std::string door(bool transparent, const std::string& targets = "\"original\"") {
    return "[[service]]\nname = \"outbound\"\nhealth = false\ntargets = [" + targets +
           "]\ntransparent = " + (transparent ? "true" : "false") +
           "\n[[capture]]\ntype = \"tproxy\"\nports = [15003]\nservice = \"outbound\"\n";
}

/// Packets with the mark 1 are for this host, whoever's address they bear.
void route_marked(const Namespace& ns) {
    for (const std::string ip : {"ip", "ip -6"})
        must(ns, ip + " rule add fwmark 1 lookup 100 && " + ip +
                     " route add local default dev lo table 100");
}

/// Who writes the rules; each has them for both families.
struct Tool {
    std::string name;
    void (*rules)(const Namespace& ns);
};
const Tool tools[] = {
    {"nft",
     [](const Namespace& ns) {
         must(ns,
              "nft -f - <<'END'\n"
              "table inet doors {\n"
              "  chain prerouting {\n"
              "    type filter hook prerouting priority mangle; policy accept;\n"
              // Packets of connections that proxify has, or makes from the client's address.
              "    meta l4proto tcp socket transparent 1 meta mark set 1 accept\n"
              "    tcp dport { 8080, 8081 } iifname client0 tproxy to :15003 meta mark set 1 "
              "accept\n"
              "  }\n"
              // Where a target is on this host too, it answers to the client's address, which
              // is elsewhere: of connections that carry our mark, the answers are for us.
              "  chain output {\n"
              "    type route hook output priority mangle; policy accept;\n"
              "    meta mark 0x2035 ct mark set 0x2035\n"
              "    ct mark 0x2035 ct direction reply meta mark set 1\n"
              "  }\n"
              "}\n"
              "END");
     }},
    {"iptables",
     [](const Namespace& ns) {
         for (const std::string iptables : {"iptables-legacy", "ip6tables-legacy"})
             must(ns, iptables +
                          " -t mangle -A PREROUTING -p tcp -m socket --transparent -j MARK "
                          "--set-mark 1 && " +
                          iptables +
                          " -t mangle -A PREROUTING -i client0 -p tcp -m multiport --dports "
                          "8080,8081 -j TPROXY --on-port 15003 --tproxy-mark 1/1 && " +
                          iptables +
                          " -t mangle -A OUTPUT -m mark --mark 0x2035 -j CONNMARK --set-mark "
                          "0x2035 && " +
                          iptables +
                          " -t mangle -A OUTPUT -m connmark --mark 0x2035 -m conntrack --ctdir "
                          "REPLY -j MARK --set-mark 1");
     }},
};

/// Says its name and who it thinks it talks to.
Handler who_are_you(std::string name) {
    return [name = std::move(name)](Stream& client) {
        if (client.receive(1).empty()) return;
        client.send(name + " to " + client.peer().ip.text() + "\n");
        while (!client.receive().empty()) {
        }
    };
}

}  // namespace

TEST_CASE("captured how, aimed at, answered by, original destination seen") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    for (const auto& tool : tools) {
        for (bool transparent : {false, true}) {
            Road road;
            route_marked(road.host);
            tool.rules(road.host);
            auto proxify = Proxify::start(road.host, {.config = door(transparent)});
            size_t sessions = 0;
            for (const auto& of : Road::families) {
                for (int port : {8080, 8081}) {
                    CAPTURE(tool.name, transparent, of.name, port);
                    const auto to = of.at(of.target, port);
                    Server server(road.target, to, who_are_you("target"));
                    CHECK(answered_by(road.client, to, {.limit = 5s}) ==
                          "target to " + (transparent ? of.client : of.host_near_target));
                    const auto session = proxify.sessions(++sessions).back();
                    CHECK(session.original_dst == to);
                    CHECK(session.target == to);
                    CHECK(session.client.contains(of.client));
                    CHECK(session.line.contains("door=tproxy"));
                    CHECK(server.connections() == 1);
                }
                // On the host itself, and what no rule is about.
                Server own(road.host, of.at(of.host_near_client, 8080), who_are_you("host"));
                CHECK(answered_by(road.client, of.at(of.host_near_client, 8080), {.limit = 5s}) ==
                      "host to " + (transparent ? of.client : of.host_near_client));
                ++sessions;
                Server other(road.target, of.at(of.target, 8082), who_are_you("other"));
                CHECK(answered_by(road.client, of.at(of.target, 8082), {.limit = 5s}) ==
                      "other to " + of.client);
                CHECK(other.connections() == 1);
            }
            CHECK(proxify.sessions(sessions).size() == sessions);
            CHECK(proxify.stop() == 0);
        }
    }
}

TEST_CASE("a target of its own sees the client's address as well, and has two clients at once") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    route_marked(road.host);
    tools[0].rules(road.host);
    auto proxify = Proxify::start(road.host, {.config = door(true, "\"203.0.113.9:9001\"")});
    Server server(road.target, "203.0.113.9:9001", who_are_you("target"));
    auto first = Stream::dial(road.client, "203.0.113.77:8080"),
         second = Stream::dial(road.client, "203.0.113.77:8081");
    for (auto* client : {&first, &second}) {
        client->send("?");
        CHECK(client->receive_line() == "target to 198.51.100.7\n");
    }
    // It has no address of the other family to be seen by.
    CHECK(answered_by(road.client, "[2001:db8:2::9]:8080", {.limit = 5s}) == "reset");
    first.finish();
    second.finish();
    CHECK(proxify.sessions(3).size() == 3);
}

TEST_CASE("whoever dials the listener itself has aimed at nothing") {
    IN_NAMESPACE(ns);
    auto proxify = Proxify::start(ns, {.config = door(false)});
    for (const std::string to : {"127.0.0.1:15003", "[::1]:15003"})
        CHECK(answered_by(ns, to, {.limit = 5s}) == "reset");
    CHECK(proxify.sessions(2).size() == 2);
}

TEST_CASE("what this host dials is caught by the usual detour, and a loop of it is seen") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    for (bool with_mark : {true, false}) {
        CAPTURE(with_mark);
        Road road;
        route_marked(road.host);
        auto proxify = Proxify::start(road.host, {.config = door(false)});
        const int fds = proxify.process().open_fds();
        // Packets that leave are turned round to loopback, where they arrive and TPROXY sees them.
        must(road.host,
             std::string("nft -f - <<'END'\n"
                         "table inet doors {\n"
                         "  chain output {\n"
                         "    type route hook output priority mangle; policy accept;\n") +
                 (with_mark ? "    meta mark 0x2035 return\n" : "") +
                 "    tcp dport 8080 meta mark set 1\n"
                 "  }\n"
                 "  chain prerouting {\n"
                 "    type filter hook prerouting priority mangle; policy accept;\n"
                 "    meta mark 1 tcp dport 8080 tproxy to :15003 accept\n"
                 "  }\n"
                 "}\n"
                 "END");
        for (const auto& of : Road::families) {
            const auto to = of.at(of.target, 8080);
            CAPTURE(to);
            Server server(road.target, to, answer("target"));
            CHECK((answered_by(road.host, to, {.limit = 5s}) == "target") == with_mark);
            CHECK(server.connections() == (with_mark ? 1 : 0));
        }
        const size_t sessions = with_mark ? 2 : 4;
        CHECK(proxify.sessions(sessions).size() == sessions);
        CHECK(count_lines(proxify.log(), {"loop"}) == (with_mark ? 0 : 2));
        CHECK(eventually([&] { return proxify.process().open_fds() <= fds; }));
    }
}

TEST_CASE("a loop is seen as well when the address is the client's") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    route_marked(road.host);
    auto proxify = Proxify::start(road.host, {.config = door(true)});
    const int fds = proxify.process().open_fds();
    must(road.host,
         "nft -f - <<'END'\n"
         "table inet doors {\n"
         "  chain prerouting {\n"
         "    type filter hook prerouting priority mangle; policy accept;\n"
         "    meta l4proto tcp socket transparent 1 meta mark set 1 accept\n"
         "    tcp dport 8080 tproxy to :15003 meta mark set 1 accept\n"
         "  }\n"
         // All that leaves is turned round, proxify's own too, and so are the answers to that.
         "  chain output {\n"
         "    type route hook output priority mangle; policy accept;\n"
         "    meta mark 0x2035 ct mark set 0x2035\n"
         "    ct mark 0x2035 ct direction reply meta mark set 1\n"
         "    tcp dport 8080 meta mark set 1\n"
         "  }\n"
         "}\n"
         "END");
    size_t sessions = 0;
    for (const auto& of : Road::families) {
        CAPTURE(of.name);
        Server server(road.target, of.at(of.target, 8080), answer("target"));
        CHECK(answered_by(road.client, of.at(of.target, 8080), {.limit = 5s}) != "target");
        CHECK(proxify.sessions(sessions += 2).size() == sessions);
        CHECK(server.connections() == 0);
    }
    CHECK(count_lines(proxify.log(), {"loop"}) == 2);
    CHECK(eventually([&] { return proxify.process().open_fds() <= fds; }));
}

TEST_CASE("killed in the middle, it starts again and takes what comes") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    route_marked(road.host);
    tools[0].rules(road.host);
    Server server(road.target, "203.0.113.9:8080", echo());
    for (int i = 0; i < 2; ++i) {
        auto proxify = Proxify::start(road.host, {.config = door(true)});
        auto client = Stream::dial(road.client, "203.0.113.9:8080");
        client.send("here");
        CHECK(client.receive_exactly(4) == "here");
        proxify.process().signal(SIGKILL);
        CHECK(proxify.process().wait(10s) == 137);
        // The kernel ends what it had: no connection of either side stays behind.
        CHECK(client.receive_all(10s).end != End::none_yet);
        CHECK(eventually([&] { return server.open() == 0; }));
        CHECK(eventually([&] { return listening(road.host).empty(); }));
    }
    auto proxify = Proxify::start(road.host, {.config = door(true)});
    auto client = Stream::dial(road.client, "203.0.113.9:8080");
    client.send("again");
    CHECK(client.receive_exactly(5) == "again");
}

TEST_CASE("as another user it may still use the client's address") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    route_marked(road.host);
    tools[0].rules(road.host);
    Server server(road.target, "203.0.113.9:8080", who_are_you("target"));
    auto proxify =
        Proxify::start(road.host, {.config = door(true) + "[proxify]\nuser = \"nobody\"\n"});
    CHECK(answered_by(road.client, "203.0.113.9:8080", {.limit = 5s}) == "target to 198.51.100.7");
}

TEST_CASE("without CAP_NET_ADMIN it says what a TPROXY door takes") {
    IN_NAMESPACE(ns);
    for (bool transparent : {false, true}) {
        auto refused =
            Proxify::refuse(ns, {.config = door(transparent), .command = {.user = nobody}});
        INFO(refused.err);
        CHECK(refused.exit_code == 1);
        CHECK(refused.err.contains("CAP_NET_ADMIN"));
    }
}
