// SPDX-License-Identifier: Apache-2.0
// `proxify mesh` on two hosts with a router between them, on which somebody listens.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "road.h"
#include "support/certificates.h"
#include "support/cgroup.h"
#include "support/kernel_test.h"

using namespace proxify;
using namespace proxify::test;

namespace {

/// A host with a cgroup for its programs and a folder for its certificates.
struct Node {
    const Namespace& where;
    std::string ip, ip6;
    TestCgroup cgroup = TestCgroup::create();
    TempDir folder = {};

    std::string at(int port) const { return ip + ":" + std::to_string(port); }

    void trust(const Authority& ca, const std::vector<std::string>& names) const {
        const Leaf leaf = ca.leaf({.cn = "node", .names = names});
        write_file(folder / "mesh-ca.pem", ca.certificate());
        write_file(folder / "node.pem", leaf.certificate);
        write_file(folder / "node.key", leaf.key);
    }
    void trust(const Authority& ca) const { trust(ca, {"IP:" + ip, "IP:" + ip6, "DNS:mesh"}); }

    /// `proxify mesh` in the cgroup whose programs it captures.
    Child launch(const std::string& flags, const std::string& prefix = "") const {
        return Child::start(
            {.argv = {"sh", "-c",
                      cgroup.shell_prefix() + prefix + proxify_binary() + " mesh --cgroup " +
                          cgroup.path() + " --socket " + (folder / "mesh.sock") + " " + flags},
             .inside = &where,
             .directory = folder.path()});
    }
    Child mesh(const std::string& flags = {}, const std::string& prefix = "") const {
        auto child = launch(flags, prefix);
        REQUIRE(eventually([&] { return child.err().contains("ready: ") || !child.is_running(); },
                           30s));
        INFO(child.err());
        REQUIRE(child.is_running());
        return child;
    }
    /// What a program of this host does.
    std::string does(const std::function<std::string()>& work) const {
        return cgroup.run(where, work);
    }
    std::string answer(const std::string& address) const {
        return does([&] { return answered_by(where, address, {.limit = 8s}); });
    }
};

struct Mesh {
    Road road;
    Authority ca{"mesh CA"};
    Node pod01{road.client, "198.51.100.7", "2001:db8:1::7"};
    Node pod02{road.target, "203.0.113.9", "2001:db8:2::9"};
    Node router{road.host, "198.51.100.1", "2001:db8:1::1"};

    Mesh() {
        for (const Node* node : {&pod01, &pod02, &router}) node->trust(ca);
    }
};

/// Everything that the router sees, until it is asked for.
class Wire {
  public:
    explicit Wire(const Node& router)
        : router_(router),
          tcpdump_(Child::start({.argv = {"tcpdump", "-Z", "root", "-i", "any", "-n", "-U",
                                          "--immediate-mode", "-w", file()},
                                 .inside = &router.where})) {
        REQUIRE(eventually([&] { return tcpdump_.err().contains("listening on"); }));
    }
    /// So many packets match.
    int count(const std::string& filter) const {
        auto shown = run_line(router_.where, "tcpdump -n -r " + file() + " '" + filter + "'");
        return static_cast<int>(std::ranges::count(shown.out, '\n'));
    }
    std::string bytes() const { return read_file(file()); }
    /// Whether a segment has come by since, so that all before it has been written down.
    void settle() const {
        REQUIRE(eventually([&] { return count("tcp port 18001 and tcp[13] & 1 != 0") > 3; }));
    }

  private:
    std::string file() const { return router_.folder / "wire.pcap"; }
    const Node& router_;
    Child tcpdump_;
};

bool has_line(const Child& child, std::vector<std::string> words) {
    if (eventually([&] { return find_line(child.err(), words).has_value(); }, 5s)) return true;
    UNSCOPED_INFO(child.err());
    return false;
}

/// Says the address of its peer.
Handler say_peer() {
    return [](Stream& stream) { stream.send(stream.peer().ip.text() + "\n"); };
}

std::string preface(int port, int hops = 1) {
    std::string out = "\\120\\130\\106\\131\\001\\001\\000";
    auto octal = [](int byte) {
        return "\\" + std::to_string(byte / 64) + std::to_string(byte / 8 % 8) +
               std::to_string(byte % 8);
    };
    // The length is below 256 as long as there are no more than 15 hops.
    out += octal(2 + 16 * hops) + octal(port / 256) + octal(port % 256);
    for (int i = 0; i < 16 * hops; ++i) out += octal(i % 200 + 1);
    return out;
}

/// What a peer with a good certificate hears that says this (for printf); piece by piece if so.
std::string hears(const Node& from, const Node& to, const std::string& said,
                  const std::string& options = "-cert node.pem -key node.key -CAfile mesh-ca.pem") {
    auto talk =
        run({.argv = {"sh", "-c",
                      "( " + said +
                          "; sleep 2 ) | timeout 8 openssl s_client -quiet -no_ign_eof "
                          "-connect " +
                          to.at(18001) + " " + options + " 2>err | od -An -c -w64 | tr -s ' '"},
             .inside = &from.where,
             .directory = from.folder.path().string()},
            20s);
    return talk.out;
}

std::string print(const std::string& text) {
    return "printf '" + text + "'";
}

constexpr auto refused_port = " P X F Y 001 002 \\0 001 002\n";
constexpr auto refused_loop = " P X F Y 001 002 \\0 001 003\n";

#define IN_MESH(name)                                                               \
    if (auto missing = ::proxify::test::missing_for_proxify()) SKIP_TEST(*missing); \
    NEEDS_PROGRAM("openssl");                                                       \
    Mesh name

}  // namespace

TEST_CASE(
    "what a program dials at another host goes there encrypted, and nothing on the port that "
    "it dialled [M-02] [M-03] [M-04] [M-05]") {
    IN_MESH(mesh);
    NEEDS_PROGRAM("tcpdump");
    Server eighty(mesh.pod02.where, mesh.pod02.at(80), greet("marker-of-eighty"));
    Server other(mesh.pod02.where, mesh.pod02.at(81), greet("marker-of-eighty-one"));
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh();
    Wire wire(mesh.router);
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "marker-of-eighty");
    CHECK(mesh.pod01.answer(mesh.pod02.at(81)) == "marker-of-eighty-one");
    wire.settle();

    CHECK(has_line(near, {"original_dst=203.0.113.9:80", "target=203.0.113.9:18001"}));
    CHECK(has_line(near, {"original_dst=203.0.113.9:81", "target=203.0.113.9:18001"}));
    CHECK(has_line(far, {"door=tunnel", "original_dst=203.0.113.9:80", "target=203.0.113.9:80"}));
    CHECK(has_line(far, {"door=tunnel", "original_dst=203.0.113.9:81", "target=203.0.113.9:81"}));
    CHECK(wire.count("tcp port 80 or tcp port 81") == 0);
    CHECK(wire.count("tcp port 18001") > 10);
    CHECK_FALSE(wire.bytes().contains("marker"));
    CHECK(wire.bytes().contains(std::string("\x16\x03\x01", 3)));  // a hello
    CHECK(wire.bytes().contains(std::string("\x17\x03\x03", 3)));  // application data
    CHECK_FALSE(wire.bytes().contains("PXFY"));
}

TEST_CASE(
    "where a socket may be bound to any address, what is elsewhere goes by the tunnel [M-04]") {
    IN_MESH(mesh);
    NEEDS_PROGRAM("tcpdump");
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("marker"));
    must(mesh.pod01.where, "echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind");
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh();
    Wire wire(mesh.router);
    for (int i = 0; i < 2; ++i) CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "marker");
    wire.settle();
    CHECK(wire.count("tcp port 80") == 0);
    CHECK(wire.count("tcp port 18001") > 10);
}

TEST_CASE("the service sees a connection from its own host's address [M-06]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), say_peer());
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh();
    CHECK(mesh.pod01.does([&] {
        return Stream::dial(mesh.pod01.where, mesh.pod02.at(80)).receive_line();
    }) == "203.0.113.9\n");
}

TEST_CASE(
    "bytes go both ways through a tunnel, large, in rounds, half-closed and server first "
    "[M-07]") {
    IN_MESH(mesh);
    Server echoes(mesh.pod02.where, mesh.pod02.at(80), echo());
    Server late(mesh.pod02.where, mesh.pod02.at(81), [](Stream& stream) {
        const auto all = stream.receive_all();
        stream.send("got " + std::to_string(all.bytes.size()) + "\n");
    });
    Server first(mesh.pod02.where, mesh.pod02.at(82), greet("first"));
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh();
    const auto& from = mesh.pod01;
    const auto& to = mesh.pod02;
    CHECK(from.answer(to.at(82)) == "first");
    CHECK(from.does([&]() -> std::string {
        auto client = Stream::dial(from.where, to.at(80));
        for (int i = 0; i < 500; ++i) {
            const std::string word = "round " + std::to_string(i);
            client.send(word);
            if (client.receive_exactly(word.size()) != word) return "another word";
        }
        return "all rounds";
    }) == "all rounds");
    CHECK(from.does([&]() -> std::string {
        std::string bulk(256 << 20, '\0');
        for (size_t i = 0; i < bulk.size(); ++i) bulk[i] = static_cast<char>(i * 2654435761u >> 24);
        auto client = Stream::dial(from.where, to.at(80));
        std::thread sender([&] {
            client.send(bulk);
            client.finish();
        });
        const auto back = client.receive_all(60s);
        sender.join();
        return back.bytes == bulk && back.end == End::clean ? "the same" : "something else";
    }) == "the same");
    CHECK(from.does([&]() -> std::string {
        auto client = Stream::dial(from.where, to.at(81));
        client.send(std::string(100'000, 'x'));
        client.finish();
        return client.receive_line();
    }) == "got 100000\n");
}

TEST_CASE("500 connections at once to three ports of two hosts each reach their own [M-08]") {
    IN_MESH(mesh);
    std::vector<std::unique_ptr<Server>> servers;
    std::vector<std::string> places;
    for (const Node* node : {&mesh.pod02, &mesh.router})
        for (int port : {80, 81, 8443}) {
            places.push_back(node->at(port));
            const std::string place = places.back();
            servers.push_back(std::make_unique<Server>(node->where, place, [place](Stream& stream) {
                stream.send(place + " " + stream.receive_line());
                stream.receive_all();
            }));
        }
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh(), third = mesh.router.mesh();
    CHECK(mesh.pod01.does([&]() -> std::string {
        constexpr size_t count = 500;
        std::vector<Stream> clients;
        for (size_t i = 0; i < count; ++i) {
            clients.push_back(
                Stream::dial(mesh.pod01.where, places[i % places.size()], {.limit = 30s}));
            clients.back().send("nonce " + std::to_string(i) + "\n");
        }
        for (size_t i = 0; i < count; ++i) {
            const auto want = places[i % places.size()] + " nonce " + std::to_string(i) + "\n";
            if (const auto got = clients[i].receive_line(); got != want) return got;
        }
        return "each its own";
    }) == "each its own");
}

TEST_CASE("26 000 connections one after the other leave nothing that fills up [M-09]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("here"));
    auto near = mesh.pod01.mesh();
    const auto& from = mesh.pod01;
    auto dial_often = [&](int count) {
        return from.does([&]() -> std::string {
            for (int i = 0; i < count; ++i)
                if (const int error = Stream::dial_error(from.where, mesh.pod02.at(80)))
                    return std::to_string(i) + ": " + std::strerror(error);
            return "all";
        });
    };
    // Most of them meet nobody at the other end, which is captured all the same, and quick.
    const int fds = near.open_fds();
    CHECK(dial_often(25'000) == "all");
    auto far = mesh.pod02.mesh();
    CHECK(dial_often(1'000) == "all");
    CHECK(from.answer(mesh.pod02.at(80)) == "here");
    CHECK(eventually([&] { return near.open_fds() <= fds + 8; }, 20s));
    CHECK(count_lines(near.err(), {"original_dst=203.0.113.9:80"}) >= 26'000);
    CHECK(near.err().find("no original destination") == std::string::npos);
}

TEST_CASE("nothing goes round in circles: not the mesh's own ports, not one's own address [M-10]") {
    IN_MESH(mesh);
    Server own(mesh.pod01.where, mesh.pod01.at(80), greet("own"));
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh();
    const int near_fds = near.open_fds(), far_fds = far.open_fds();
    CHECK(mesh.pod01.answer(mesh.pod01.at(80)) == "own");
    for (const Node* node : {&mesh.pod01, &mesh.pod02})
        for (int port : {18000, 18001}) CHECK(mesh.pod01.answer(node->at(port)) != "nobody");
    CHECK(has_line(near, {"original_dst=203.0.113.9:18001", "does not allow this port"}));
    CHECK(has_line(far, {"original_dst=203.0.113.9:18000", "a listener of proxify itself"}));
    CHECK(eventually([&] { return near.open_fds() <= near_fds + 2; }));
    CHECK(eventually([&] { return far.open_fds() <= far_fds + 2; }));
    CHECK(count_lines(near.err(), {"original_dst="}) <= 5);
}

TEST_CASE("a tunnel that comes back to where it began is refused as a loop [M-10]") {
    IN_MESH(mesh);
    NEEDS_NETFILTER();
    must(mesh.road.host,
         "nft 'add table ip t; add chain ip t pre { type nat hook prerouting priority -100; }; "
         "add rule ip t pre ip daddr 203.0.113.9 tcp dport 18001 dnat to 198.51.100.7; "
         "add chain ip t post { type nat hook postrouting priority 100; }; "
         "add rule ip t post tcp dport 18001 masquerade'");
    auto near = mesh.pod01.mesh("--server-name mesh");
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "reset");
    CHECK(has_line(near, {"original_dst=203.0.113.9:80", "a loop of tunnels"}));
    CHECK(has_line(near, {"door=tunnel", "it came through this proxify before"}));
}

TEST_CASE("two hosts reach each other at once, and a host without a mesh notices nothing [M-11]") {
    IN_MESH(mesh);
    Server one(mesh.pod01.where, mesh.pod01.at(80), say_peer());
    Server two(mesh.pod02.where, mesh.pod02.at(80), say_peer());
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh();
    auto peer_seen = [](const Node& from, const Node& to) {
        return from.does([&] { return Stream::dial(from.where, to.at(80)).receive_line(); });
    };
    for (int i = 0; i < 20; ++i) {
        CHECK(peer_seen(mesh.pod01, mesh.pod02) == mesh.pod02.ip + "\n");
        CHECK(peer_seen(mesh.pod02, mesh.pod01) == mesh.pod01.ip + "\n");
    }
    CHECK(peer_seen(mesh.router, mesh.pod01) == mesh.router.ip + "\n");
    // Nor does a program of the same cgroup, in another network namespace.
    CHECK(mesh.pod01.cgroup.run(mesh.router.where, [&] {
        return Stream::dial(mesh.router.where, mesh.pod01.at(80)).receive_line();
    }) == mesh.router.ip + "\n");
}

TEST_CASE(
    "what is not TCP, of loopback, of other addresses or of IPv6 goes as it always did, unless "
    "IPv6 is named [M-12]") {
    IN_MESH(mesh);
    const auto& from = mesh.pod01;
    Server near_one(from.where, "127.0.0.1:80", greet("loopback"));
    Server v4(mesh.pod02.where, mesh.pod02.at(80), say_peer());
    Server v6(mesh.pod02.where, "[2001:db8:2::9]:80", say_peer());
    Server out(mesh.router.where, "203.0.113.1:80", say_peer());
    auto far = mesh.pod02.mesh("--cidr 2001:db8::/32");
    auto seen = [&](const std::string& address) {
        return from.does([&] { return Stream::dial(from.where, address).receive_line(); });
    };
    {
        auto near = from.mesh("--cidr 203.0.113.9/32");
        CHECK(from.answer("127.0.0.1:80") == "loopback");
        CHECK(seen("203.0.113.1:80") == from.ip + "\n");
        CHECK(seen("[2001:db8:2::9]:80") == from.ip6 + "\n");
        CHECK(seen(mesh.pod02.at(80)) == mesh.pod02.ip + "\n");
        auto udp = run({.argv = {"sh", "-c",
                                 from.cgroup.shell_prefix() + "sh -c 'echo datagram | timeout 2 nc "
                                                              "-u -w1 203.0.113.9 5353'"},
                        .inside = &from.where});
        CHECK(count_lines(near.err(), {"original_dst="}) == 1);
    }
    auto near = from.mesh("--cidr 2001:db8:2::/64");
    CHECK(seen("[2001:db8:2::9]:80") == mesh.pod02.ip6 + "\n");
    CHECK(seen(mesh.pod02.at(80)) == from.ip + "\n");
}

TEST_CASE("the kernel's own log says what is redirected, with --show-events [M-13]") {
    IN_MESH(mesh);
    auto near = mesh.pod01.mesh("--show-events");
    auto trace = Child::start({.argv = {"unshare", "-m", "sh", "-c",
                                        "mount -t tracefs none /sys/kernel/tracing && "
                                        "echo begun && exec cat /sys/kernel/tracing/trace_pipe"}});
    if (!eventually([&] { return trace.out().contains("begun") || !trace.is_running(); }) ||
        !trace.out().contains("begun"))
        SKIP_TEST("needs tracefs: " + trace.err());
    mesh.pod01.answer(mesh.pod02.at(80));
    CHECK(eventually(
        [&] { return trace.out().contains("proxify: redirect 203.0.113.9:80 to port 18000"); }));
    CHECK(has_line(near, {"203.0.113.9:80"}));
}

TEST_CASE(
    "peers of another authority, without a certificate or for another name are refused, "
    "whoever dials [M-15]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("service"));
    const Authority foreign("another CA");
    auto refused = [&](const std::string& words_of_near, const std::string& words_of_far) {
        auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh();
        CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "reset");
        INFO(near.err() << far.err());
        CHECK(has_line(near, {"original_dst=203.0.113.9:80", words_of_near}));
        CHECK(has_line(far, {"door=tunnel", words_of_far}));
    };
    SECTION("the far end is of another authority") {
        mesh.pod02.trust(foreign);
        refused("TLS handshake", "TLS handshake");
    }
    SECTION("the near end is of another authority, and trusts ours") {
        mesh.pod01.trust(foreign);
        write_file(mesh.pod01.folder / "mesh-ca.pem", mesh.ca.certificate());
        refused("TLS handshake", "TLS handshake");
    }
    SECTION("the far end is another host") {
        mesh.pod02.trust(mesh.ca, {"IP:203.0.113.10"});
        refused("TLS handshake", "TLS handshake");
    }
    SECTION("there is no certificate") {
        auto far = mesh.pod02.mesh();
        CHECK(hears(mesh.pod01, mesh.pod02, print(preface(80)), "-CAfile mesh-ca.pem") == "");
        CHECK(has_line(far, {"door=tunnel", "TLS handshake failed"}));
    }
    CHECK(service.connections() == 0);
}

TEST_CASE("only certificates with an allowed name take part [M-15]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("service"));
    mesh.pod01.trust(mesh.ca, {"IP:198.51.100.7", "DNS:other"});
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh("--allowed-name mesh");
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "reset");
    CHECK(has_line(far, {"door=tunnel", "TLS handshake failed"}));
}

TEST_CASE(
    "a client whose service, mesh or host is not there hears so soon, and the log says where "
    "it aimed [M-16]") {
    IN_MESH(mesh);
    NEEDS_NETFILTER();
    auto near = mesh.pod01.mesh();
    auto took = [&](const std::string& address) {
        const Moment begin = now();
        const auto answer = mesh.pod01.answer(address);
        CHECK((answer == "reset" || answer == "refused" || answer == "closed"));
        return now() - begin;
    };
    CHECK(took(mesh.pod02.at(80)) < 3s);
    CHECK(has_line(near, {"original_dst=203.0.113.9:80", "refused"}));
    must(mesh.road.host,
         "nft 'add table ip t; add chain ip t f { type filter hook forward priority "
         "0; }; add rule ip t f ip daddr 203.0.113.77 drop'");
    must(mesh.road.host, "ip neigh add 203.0.113.77 lladdr 02:00:00:00:00:77 dev target0");
    CHECK(took("203.0.113.77:80") < 5s);
    CHECK(has_line(near, {"original_dst=203.0.113.77:80", "no answer"}));
    auto far = mesh.pod02.mesh();
    CHECK(took(mesh.pod02.at(80)) < 3s);
    CHECK(has_line(near, {"original_dst=203.0.113.9:80", "refused at the other end"}));
    CHECK(has_line(far, {"original_dst=203.0.113.9:80", "refused"}));
}

TEST_CASE(
    "without a mesh at the other end clients go in the clear only where that is asked for "
    "[M-16]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("service"));
    {
        auto near = mesh.pod01.mesh();
        CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "reset");
        CHECK(service.connections() == 0);
    }
    auto near = mesh.pod01.mesh("--fallback plain");
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "service");
    CHECK(has_line(near, {"target=203.0.113.9:80"}));
    // A mesh that refuses is one that is there.
    auto far = mesh.pod02.mesh("--ports 443");
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "reset");
}

TEST_CASE("a tunnel leads to the ports that are allowed, and to no other host [M-17]") {
    IN_MESH(mesh);
    Server eighty(mesh.pod02.where, mesh.pod02.at(80), greet("eighty"));
    Server other(mesh.pod02.where, mesh.pod02.at(81), greet("other"));
    auto near = mesh.pod01.mesh(), far = mesh.pod02.mesh("--ports 80,18000-18010");
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "eighty");
    CHECK(mesh.pod01.answer(mesh.pod02.at(81)) == "reset");
    CHECK(other.connections() == 0);
    for (int port : {81, 22, 18000, 18001})
        CHECK(hears(mesh.pod01, mesh.pod02, print(preface(port))) == refused_port);
    CHECK(hears(mesh.pod01, mesh.pod02, print(preface(80, 5))) == refused_loop);
    // There is no way to write an address: what is longer is no preface.
    CHECK(hears(mesh.pod01, mesh.pod02,
                print("PXFY\\001\\001\\000\\006\\000\\120\\306\\063\\144\\007")) == "");
    CHECK(has_line(far, {"what it said opens no tunnel"}));
}

TEST_CASE(
    "a preface in pieces of one byte is understood, and garbage is turned away at once "
    "[M-18]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("hello"));
    auto far = mesh.pod02.mesh();
    const std::string whole = preface(80);
    std::string pieces = "true";
    for (size_t at = 0; at < whole.size(); at += 4)
        pieces += "; printf '" + whole.substr(at, 4) + "'; sleep 0.02";
    CHECK(hears(mesh.pod01, mesh.pod02, pieces) == " P X F Y 001 002 \\0 001 \\0 h e l l o \\n\n");

    const Moment begin = now();
    auto raw = Stream::dial(mesh.pod01.where, mesh.pod02.at(18001));
    raw.send("GET / HTTP/1.1\r\nHost: mesh\r\n\r\n");
    raw.receive_all(5s);
    CHECK(now() - begin < 2s);
    CHECK(has_line(far, {"TLS handshake failed"}));
    CHECK(hears(mesh.pod01, mesh.pod02, print("GET / HTTP/1.1\\r\\n")) == "");
    CHECK(has_line(far, {"what it said opens no tunnel"}));
}

TEST_CASE("proxify mesh needs no arguments where its certificates are, and listens twice [M-01]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("service"));
    auto far = mesh.pod02.mesh();
    auto near = Child::start({.argv = {"sh", "-c",
                                       mesh.pod01.cgroup.shell_prefix() +
                                           "unshare -m sh -c 'mount "
                                           "-t tmpfs none /run && exec " +
                                           proxify_binary() + " mesh'"},
                              .inside = &mesh.pod01.where,
                              .directory = mesh.pod01.folder.path()});
    REQUIRE(eventually([&] { return near.err().contains("ready: ") || !near.is_running(); }, 30s));
    INFO(near.err());
    CHECK(listening(mesh.pod01.where) == std::set<std::string>{"127.0.0.1:18000", "*:18001"});
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "service");

    TempDir empty;
    auto none = run({.argv = {proxify_binary(), "mesh"},
                     .inside = &mesh.pod01.where,
                     .directory = empty.path()});
    CHECK(none.exit_code == 2);
    CHECK(none.err.contains("proxify cert leaf --ca mesh-ca"));
}

TEST_CASE("addresses, ports and destinations of a mesh can be set [M-19]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("service"));
    auto far = mesh.pod02.mesh("--tunnel-port 19001 --address 203.0.113.9 --listen 19000");
    CHECK(listening(mesh.pod02.where) ==
          std::set<std::string>{"127.0.0.1:19000", "203.0.113.9:19001", "203.0.113.9:80"});
    auto near = mesh.pod01.mesh("--tunnel-port 19001 --listen 19000 --cidr 203.0.113.0/24");
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "service");
    near.signal(SIGTERM);
    CHECK(near.wait(15s) == 0);

    // All clients to one host, whatever they dial.
    auto all = mesh.pod01.mesh(
        "--tunnel-port 19001 --dial-address 203.0.113.9 --server-name mesh --cidr 203.0.113.200");
    CHECK(mesh.pod01.answer("203.0.113.200:80") == "service");
}

TEST_CASE("when a mesh ends, however it does, programs dial as they did before [M-20]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), say_peer());
    auto far = mesh.pod02.mesh();
    const auto& from = mesh.pod01;
    auto seen = [&] {
        return from.does(
            [&] { return Stream::dial(from.where, mesh.pod02.at(80)).receive_line(); });
    };
    CHECK(seen() == from.ip + "\n");
    for (int signal : {SIGINT, SIGTERM, SIGKILL}) {
        auto near = from.mesh();
        CHECK(seen() == mesh.pod02.ip + "\n");
        near.signal(signal);
        CHECK(near.wait(15s).has_value());
        CHECK(seen() == from.ip + "\n");
    }
}

TEST_CASE("a mesh works in a pid namespace of its own [M-21]") {
    IN_MESH(mesh);
    Server service(mesh.pod02.where, mesh.pod02.at(80), greet("service"));
    auto far = mesh.pod02.mesh();
    auto near = mesh.pod01.mesh("", "unshare -p -f --kill-child --mount-proc ");
    CHECK(mesh.pod01.answer(mesh.pod02.at(80)) == "service");
    CHECK(has_line(near, {"original_dst=203.0.113.9:80", "-- done"}));
}
