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

Peers peers_in(const Namespace& ns) {
    std::optional<Peers> peers;
    ns.run([&] { peers.emplace(value_of(Peers::open())); });
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

TEST_CASE("threads that ask at the same time each get their own answer, in microseconds") {
    IN_NAMESPACE(ns);
    Peers peers = peers_in(ns);
    Fd listener = listen_at(ns, "127.0.0.1:5001");
    std::vector<Stream> clients;
    for (int i = 0; i < 8; ++i) clients.push_back(Stream::dial(ns, "127.0.0.1:5001"));

    constexpr int questions = 2000;
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    const Moment start = now();
    for (size_t first : {0, 4})
        threads.emplace_back([&, first] {
            for (int i = 0; i < questions; ++i) {
                const auto& client = clients[first + static_cast<size_t>(i) % 4];
                auto peer = peers.find(client.local(), address("127.0.0.1:5001"));
                wrong += !peer || peer->inode != inode_of(client.fd());
            }
        });
    for (auto& thread : threads) thread.join();
    const auto each =
        std::chrono::duration<double, std::micro>(now() - start).count() / (2.0 * questions);
    CHECK(wrong == 0);
    INFO("microseconds for each question: " << each);
    CHECK(each < 500);
}
