// SPDX-License-Identifier: Apache-2.0
// Whose the other end of a connection is, also when netfilter has rewritten where it went.
#include "kernel/peer.h"

#include <sys/stat.h>

#include <thread>

#include "host.h"
#include "road.h"

using namespace proxify;
using namespace proxify::test;
using kernel::Peer;
using kernel::Peers;

namespace {

Peers peers_in(const Namespace& ns, size_t threads = 1) {
    std::optional<Peers> peers;
    ns.run([&] { peers.emplace(value_of(Peers::open(threads))); });
    return *std::move(peers);
}

uint64_t cookie_of(int fd) {
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    REQUIRE(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0);
    return cookie;
}

uint64_t inode_of(int fd) {
    struct stat about{};
    REQUIRE(fstat(fd, &about) == 0);
    return about.st_ino;
}

Address original_of(const Stream& accepted, bool is_v4) {
    constexpr int original_dst = 80;  // for both families; linux/netfilter_ipv4.h and libc clash
    sockaddr_storage at{};
    socklen_t size = sizeof at;
    REQUIRE(getsockopt(accepted.fd(), is_v4 ? SOL_IP : SOL_IPV6, original_dst, &at, &size) == 0);
    return Address::from_sockaddr(at);
}

Address address(const std::string& text) {
    return Address::parse(text).value();
}

}  // namespace

TEST_CASE("the client of a redirected connection is found by where it aimed") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    ns.add_address("198.51.100.7/32");
    ns.add_address("2001:db8::7/128");
    // Nobody has these addresses: what is not redirected fails.
    REQUIRE(run_line(ns,
                     "ip route add 203.0.113.0/24 dev lo && "
                     "ip -6 route add 2001:db8:1::/64 dev lo")
                .exit_code == 0);
    auto loaded = run({.argv = {"nft", "-f", "-"},
                       .inside = &ns,
                       .input = "table inet t {\n chain output {\n"
                                "  type nat hook output priority -100;\n"
                                "  tcp dport 8080 redirect to :15002\n }\n}\n"});
    INFO(loaded.err);
    REQUIRE(loaded.exit_code == 0);
    Fd listener = listen_on_both(ns, 15002);
    Peers peers = peers_in(ns);

    struct {
        std::string aimed, from, lands;
    } rows[] = {{"203.0.113.9:8080", "198.51.100.7:0", "127.0.0.1:15002"},
                {"[2001:db8:1::9]:8080", "[2001:db8::7]:0", "[::1]:15002"}};
    for (const auto& row : rows) {
        CAPTURE(row.aimed);
        auto client = Stream::dial(ns, row.aimed, {.from = row.from});
        pollfd ready{.fd = listener.get(), .events = POLLIN};
        REQUIRE(poll(&ready, 1, 5000) == 1);
        auto accepted = Fd::adopt(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        auto server = Stream::adopt(std::move(accepted));
        CHECK(server.local().text() == row.lands);
        const Address aimed = address(row.aimed);
        CHECK(original_of(server, aimed.ip.is_v4) == aimed);

        auto peer = peers.find(server.peer(), aimed);
        REQUIRE(peer);
        CHECK(peer->cookie == cookie_of(client.fd()));
        CHECK(peer->inode == inode_of(client.fd()));
        CHECK(peer->uid == geteuid());
        // By the address that the server sees as its own, nobody is found: the client has no such
        // connection.
        CHECK_FALSE(peers.find(server.peer(), server.local()));
    }
}

TEST_CASE("a socket is found in every state it has towards another, and no listener is") {
    IN_NAMESPACE(ns);
    Peers peers = peers_in(ns);
    Fd listener = listen_at(ns, "127.0.0.1:5001");
    Fd listener6 = listen_at(ns, "[::1]:5001");
    for (const std::string to : {"127.0.0.1:5001", "[::1]:5001"}) {
        CAPTURE(to);
        auto client = Stream::dial(ns, to);
        const Address local = client.local();
        const uint64_t cookie = cookie_of(client.fd());
        CHECK(peers.find(local, address(to)).value_or(Peer()).cookie == cookie);
        // One that is not there, from the address and port of a listener.
        Address stranger = local;
        stranger.port = 5002;
        CHECK_FALSE(peers.find(stranger, address(to)));
        CHECK_FALSE(peers.find(address(to), stranger));
        client.finish();
        CHECK(peers.find(local, address(to)).value_or(Peer()).cookie == cookie);
        client.reset();
        CHECK_FALSE(peers.find(local, address(to)));
    }
    CHECK_FALSE(peers.find(address("127.0.0.1:1"), address("[::1]:2")));
}

TEST_CASE("an address is here from when it is added until it is taken away") {
    IN_NAMESPACE(ns);
    Peers peers = peers_in(ns);
    CHECK(peers.is_here(address("127.0.0.9:1").ip));
    must(ns, "ip link add one type veth peer name two");
    for (const std::string ip : {"198.51.100.7", "2001:db8::7"}) {
        CAPTURE(ip);
        const bool is_v4 = !ip.contains(':');
        const Ip here = Ip::parse(ip).value();
        auto change = [&](const std::string& verb, const std::string& interface) {
            must(ns, "ip addr " + verb + " " + ip + (is_v4 ? "/24" : "/64") + " dev " + interface);
        };
        CHECK_FALSE(peers.is_here(here));
        change("add", "one");
        CHECK(peers.is_here(here));
        // Also to who was not there when it came.
        CHECK(peers_in(ns).is_here(here));
        change("add", "two");
        change("del", "one");
        CHECK(peers.is_here(here));
        change("del", "two");
        CHECK_FALSE(peers.is_here(here));
    }
    // The other end of a line is not here.
    must(ns, "ip addr add 198.51.100.1 peer 198.51.100.2 dev one");
    CHECK(peers.is_here(address("198.51.100.1:1").ip));
    CHECK_FALSE(peers.is_here(address("198.51.100.2:1").ip));
}

TEST_CASE("addresses are known also when more came at a time than is told at a time") {
    IN_NAMESPACE(ns);
    Peers peers = peers_in(ns);
    auto here = [&] {
        int count = 0;
        for (const std::string net : {"198.51.100.", "203.0.113."})
            for (int i = 1; i <= 254; ++i)
                count += peers.is_here(Ip::parse(net + std::to_string(i)).value());
        return count;
    };
    CHECK(here() == 0);
    must(ns,
         "for net in 198.51.100 203.0.113; do for i in $(seq 1 254); do "
         "echo addr add $net.$i/32 dev lo; done; done | ip -batch -");
    CHECK(here() == 508);
    must(ns, "ip -4 addr flush dev lo");
    CHECK(here() == 0);
}

TEST_CASE("threads that ask at the same time each get their own answer, in microseconds") {
    IN_NAMESPACE(ns);
    Peers peers = peers_in(ns, GENERATE(1, 2));
    Fd listener = listen_at(ns, "127.0.0.1:5001");
    // Everything that asserts happens here: the runner's assertions are for one thread only.
    struct Client {
        Stream stream;
        Address local;
        uint64_t inode;
    };
    std::vector<Client> clients;
    for (int i = 0; i < 8; ++i) {
        Stream stream = Stream::dial(ns, "127.0.0.1:5001");
        const Address local = stream.local();
        const uint64_t inode = inode_of(stream.fd());
        clients.push_back({std::move(stream), local, inode});
    }
    const Address server = address("127.0.0.1:5001");

    constexpr int questions = 2000;
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    const Moment start = now();
    for (size_t first : {0, 4})
        threads.emplace_back([&, first] {
            for (int i = 0; i < questions; ++i) {
                const auto& client = clients[first + static_cast<size_t>(i) % 4];
                auto peer = peers.find(client.local, server);
                wrong += !peer || peer->inode != client.inode;
            }
        });
    for (auto& thread : threads) thread.join();
    const auto each =
        std::chrono::duration<double, std::micro>(now() - start).count() / (2.0 * questions);
    CHECK(wrong == 0);
    INFO("microseconds for each question: " << each);
    CHECK(each < 500);
}
