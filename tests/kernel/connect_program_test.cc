// SPDX-License-Identifier: Apache-2.0
// The connect programs in the kernel, met by processes in a cgroup of the test's own.
#include "kernel/connect_program.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
// After libc's own, else both say what an address is.
#include <linux/netfilter_ipv4.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "kernel/cgroups.h"
#include "kernel/host.h"
#include "kernel/owners.h"
#include "support/cgroup.h"
#include "support/eventually.h"
#include "support/kernel_test.h"
#include "support/process.h"
#include "support/server.h"

using namespace proxify;
using namespace proxify::test;
using kernel::ConnectDestination;
using kernel::ConnectProgram;
using kernel::ConnectSettings;

namespace {

/// A host with servers at addresses of its own, and a cgroup for clients.
struct Scene {
    Namespace inside = new_scene();
    TestCgroup cgroup = TestCgroup::create();

    static Namespace new_scene() {
        auto where = Namespace::create();
        for (const char* address : {"203.0.113.4/32", "203.0.113.7/32", "203.0.113.9/32",
                                    "2001:db8::7/128", "2001:db8::9/128"})
            where.add_address(address);
        return where;
    }

    /// Who answers a client of the cgroup.
    std::string answered(const std::string& address, const std::string& from = {}) const {
        return cgroup.run(
            inside, [&] { return answered_by(inside, address, {.limit = 5s, .from = from}); });
    }
};

ConnectDestination destination(const std::string& text, uint32_t number = 0) {
    if (auto address = Address::parse(text)) {
        const uint8_t bits = address->ip.is_v4 ? 32 : 128;
        return {.prefix = {address->ip, bits}, .port = address->port, .number = number};
    }
    return {.prefix = *Prefix::parse(text), .port = 0, .number = number};
}

struct Wish {
    std::vector<ConnectDestination> destinations = {};
    std::string proxy_v4 = {}, proxy_v6 = {};
    ConnectSettings settings = {};
    Duration original_lasts = {};
};

/// A program that is attached to the scene's cgroup.
ConnectProgram capture(const Scene& scene, const Wish& wish) {
    auto settings = wish.settings;
    settings.proxy_v4 = Address::parse(wish.proxy_v4);
    settings.proxy_v6 = Address::parse(wish.proxy_v6);
    settings.redirects = settings.proxy_v4 || settings.proxy_v6;
    std::optional<ConnectProgram> program;
    scene.inside.run([&] {
        program = value_of(ConnectProgram::load({.redirects = settings.redirects,
                                                 .has_foreign_proxy = settings.has_foreign_proxy,
                                                 .original_lasts = wish.original_lasts}));
    });
    value_of(program->set(settings));
    value_of(program->add_destinations(wish.destinations));
    value_of(program->attach(scene.cgroup.fd()));
    return std::move(*program);
}

using Counted = std::map<std::string_view, uint64_t>;
Counted counted(const ConnectProgram& program) {
    Counted out;
    for (const auto& counter : value_of(program.counters()))
        if (counter.value > 0) out[counter.name] = counter.value;
    return out;
}

/// A client socket of this process, connected or failed, as programs make them.
struct Caller {
    Fd socket;
    int error = 0;
};
Caller call(const std::string& to, int family = 0, uint32_t mark = 0,
            const std::string& from = {}) {
    const auto address = *Address::parse(to);
    if (family == 0) family = address.ip.is_v4 ? AF_INET : AF_INET6;
    Caller caller{.socket = Fd::adopt(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0))};
    if (mark) setsockopt(caller.socket.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark);
    sockaddr_storage at{};
    if (!from.empty()) {
        int on = 1;
        setsockopt(caller.socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        socklen_t size = Address::parse(from)->to_sockaddr(at, family == AF_INET6);
        if (bind(caller.socket.get(), reinterpret_cast<sockaddr*>(&at), size) != 0)
            caller.error = errno;
    }
    socklen_t size = address.to_sockaddr(at, family == AF_INET6);
    if (connect(caller.socket.get(), reinterpret_cast<sockaddr*>(&at), size) != 0)
        caller.error = errno;
    return caller;
}

Address address_of(int socket, int (*ask)(int, sockaddr*, socklen_t*)) {
    sockaddr_storage at{};
    socklen_t size = sizeof at;
    if (ask(socket, reinterpret_cast<sockaddr*>(&at), &size) != 0) return {};
    return Address::from_sockaddr(at);
}

std::string line_from(int socket) {
    char buffer[256];
    const ssize_t size = recv(socket, buffer, sizeof buffer, 0);
    return size > 0 ? std::string(buffer, static_cast<size_t>(size)) : "nothing";
}

/// The next connection that came to a listener.
struct Accepted {
    Fd socket;
    Address client, local;
};
Accepted accept_at(int listener) {
    pollfd ready{.fd = listener, .events = POLLIN, .revents = 0};
    REQUIRE(poll(&ready, 1, 10'000) == 1);
    Accepted accepted{.socket = Fd::adopt(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)),
                      .client = {},
                      .local = {}};
    accepted.client = address_of(accepted.socket.get(), getpeername);
    accepted.local = address_of(accepted.socket.get(), getsockname);
    return accepted;
}

std::string text_of(const std::optional<Address>& address) {
    return address ? address->text() : "none";
}

}  // namespace

TEST_CASE("a connect to a captured destination reaches the proxy, and one elsewhere does not",
          "[B-18]") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    Server other_port(scene.inside, "203.0.113.7:81", greet("other port"));
    Server elsewhere(scene.inside, "203.0.113.4:80", greet("elsewhere"));
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80")}, .proxy_v4 = "203.0.113.9:8888"});
    CHECK(scene.answered("203.0.113.7:80") == "proxy");
    CHECK(scene.answered("203.0.113.7:81") == "other port");
    CHECK(scene.answered("203.0.113.4:80") == "elsewhere");
    CHECK(answered_by(scene.inside, "203.0.113.7:80") == "target");  // not of the cgroup
    CHECK(counted(program) == Counted{{"redirected", 1}, {"passed_other_destination", 2}});
}

TEST_CASE("prefixes capture what they hold, at any port and at one") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.0/29"), destination("198.51.100.1:80", 3)},
                .proxy_v4 = "203.0.113.9:8888"});
    // The destinations need not exist: nothing is sent there.
    CHECK(scene.answered("203.0.113.0:7") == "proxy");
    CHECK(scene.answered("203.0.113.7:65535") == "proxy");
    CHECK(scene.answered("203.0.113.9:7") == "refused");
    CHECK(scene.answered("198.51.100.1:80") == "proxy");
    const auto counts = value_of(program.counts_by_number());
    CHECK(counts[0] == 2);
    CHECK(counts[3] == 1);
}

TEST_CASE("IPv6, and IPv4 by mapped addresses, are captured as IPv4 is") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server proxy4(scene.inside, "203.0.113.9:8888", greet("proxy of IPv4"));
    Server proxy6(scene.inside, "[2001:db8::9]:8888", greet("proxy of IPv6"));
    Server target6(scene.inside, "[2001:db8::7]:81", greet("target"));
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80"), destination("[2001:db8::7]:80")},
                .proxy_v4 = "203.0.113.9:8888",
                .proxy_v6 = "[2001:db8::9]:8888"});
    CHECK(scene.answered("[2001:db8::7]:80") == "proxy of IPv6");
    CHECK(scene.answered("[2001:db8::7]:81") == "target");
    auto by_mapped = scene.cgroup.run(scene.inside, [] {
        auto caller = call("203.0.113.7:80", AF_INET6);
        return caller.error ? std::strerror(caller.error) : line_from(caller.socket.get());
    });
    CHECK(by_mapped == "proxy of IPv4\n");
}

TEST_CASE("without an IPv6 proxy, IPv6 is left alone, even if it is a destination", "[B-17]") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "[2001:db8::7]:80", greet("target"));
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(
        scene, {.destinations = {destination("2001:db8::/32")}, .proxy_v4 = "203.0.113.9:8888"});
    CHECK(scene.answered("[2001:db8::7]:80") == "target");
    CHECK(counted(program) == Counted{{"passed_other_family", 1}});
}

TEST_CASE("everything means every IPv4 destination but loopback") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server loopback(scene.inside, "127.0.0.1:80", greet("loopback"));
    Server v6(scene.inside, "[2001:db8::7]:80", greet("IPv6"));
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(scene, {.proxy_v4 = "203.0.113.9:8888", .settings = {.all_v4 = true}});
    CHECK(scene.answered("203.0.113.7:80") == "proxy");
    CHECK(scene.answered("198.51.100.1:443") == "proxy");
    CHECK(scene.answered("127.0.0.1:80") == "loopback");
    CHECK(scene.answered("[2001:db8::7]:80") == "IPv6");
    CHECK(scene.answered("203.0.113.9:8888") == "proxy");  // as dialled
    CHECK(counted(program)["passed_to_proxy"] == 1);
}

TEST_CASE("UDP is left alone, connected or not", "[B-17]") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:53")}, .proxy_v4 = "203.0.113.9:8888"});
    auto said = scene.cgroup.run(scene.inside, [] {
        sockaddr_storage at{};
        socklen_t size = Address::parse("203.0.113.7:53")->to_sockaddr(at);
        auto server = Fd::adopt(socket(AF_INET, SOCK_DGRAM, 0));
        auto client = Fd::adopt(socket(AF_INET, SOCK_DGRAM, 0));
        if (bind(server.get(), reinterpret_cast<sockaddr*>(&at), size) != 0) return "no server";
        if (connect(client.get(), reinterpret_cast<sockaddr*>(&at), size) != 0) return "no client";
        if (address_of(client.get(), getpeername).text() != "203.0.113.7:53") return "elsewhere";
        if (send(client.get(), "hello", 5, 0) != 5) return "not sent";
        pollfd ready{.fd = server.get(), .events = POLLIN, .revents = 0};
        return poll(&ready, 1, 5000) == 1 ? "arrived" : "lost";
    });
    CHECK(said == "arrived");
    CHECK(counted(program).empty());
}

TEST_CASE("an application sees the peer that it called, and the proxy sees the application",
          "[B-13]") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto listener = listen_on_both(scene.inside, 8888);
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80"), destination("[2001:db8::7]:80")},
                .proxy_v4 = "203.0.113.9:8888",
                .proxy_v6 = "[2001:db8::9]:8888"});
    struct Row {
        const char* called;
        int family;
        const char* local;
    };
    for (auto [called, family, local] : {Row{"203.0.113.7:80", AF_INET, "203.0.113.9:8888"},
                                         Row{"203.0.113.7:80", AF_INET6, "203.0.113.9:8888"},
                                         Row{"[2001:db8::7]:80", AF_INET6, "[2001:db8::9]:8888"}}) {
        auto said = scene.cgroup.run(scene.inside, [&] {
            auto caller = call(called, family);
            return address_of(caller.socket.get(), getpeername).text() + " from " +
                   address_of(caller.socket.get(), getsockname).text();
        });
        auto accepted = accept_at(listener.get());
        CHECK(said == std::string(called) + " from " + accepted.client.text());
        CHECK(accepted.local.text() == local);
        // Also when the client has gone by then, and only once.
        CHECK(text_of(program.take_original_dst(accepted.client, accepted.local)) == called);
        CHECK(text_of(program.take_original_dst(accepted.client, accepted.local)) == "none");
    }
}

TEST_CASE("a proxy at loopback is for clients of its own network namespace") {
    NEEDS_KERNEL_ACCESS();
    Scene scene, other;
    auto listener = listen_on_both(scene.inside, 15001);
    Server local(other.inside, "203.0.113.7:80", greet("local"));
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.0/24"), destination("2001:db8::/32")},
                .proxy_v4 = "127.0.0.1:15001",
                .proxy_v6 = "[::1]:15001"});
    for (const char* called : {"203.0.113.7:80", "[2001:db8::7]:80"}) {
        auto said =
            scene.cgroup.run(scene.inside, [&] { return std::to_string(call(called).error); });
        CHECK(said == "0");
        auto accepted = accept_at(listener.get());
        CHECK(accepted.client.ip == accepted.local.ip);
        CHECK(text_of(program.take_original_dst(accepted.client, accepted.local)) == called);
    }
    // A client that has chosen its own address keeps it.
    CHECK(scene.cgroup.run(scene.inside, [&] {
        return std::to_string(call("203.0.113.7:80", AF_INET, 0, "203.0.113.4:0").error);
    }) == "0");
    auto bound = accept_at(listener.get());
    CHECK(bound.client.ip.text() == "203.0.113.4");
    CHECK(text_of(program.take_original_dst(bound.client, bound.local)) == "203.0.113.7:80");
    auto said =
        scene.cgroup.run(other.inside, [&] { return answered_by(other.inside, "203.0.113.7:80"); });
    CHECK(said == "local");
    CHECK(counted(program) == Counted{{"redirected", 3}, {"passed_other_namespace", 1}});
}

TEST_CASE("sockets with proxify's mark are left alone, whatever the other bits are") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                   .proxy_v4 = "203.0.113.9:8888",
                                   .settings = {.mark = 0x2000, .mark_mask = 0xff00}});
    auto with_mark = [&](uint32_t mark) {
        return scene.cgroup.run(scene.inside, [&] {
            auto caller = call("203.0.113.7:80", AF_INET, mark);
            return line_from(caller.socket.get());
        });
    };
    CHECK(with_mark(0) == "proxy\n");
    CHECK(with_mark(0x2000) == "target\n");
    CHECK(with_mark(0x2035) == "target\n");
    CHECK(with_mark(0x2100) == "proxy\n");
    CHECK(counted(program)["passed_own"] == 2);
    // Bits of the mark that the mask leaves out say nothing.
    value_of(program.set({.proxy_v4 = Address::parse("203.0.113.9:8888"),
                          .redirects = true,
                          .mark = 0x2035,
                          .mark_mask = 0xff}));
    CHECK(with_mark(0x2035) == "target\n");
    CHECK(with_mark(0x35) == "target\n");
    CHECK(with_mark(0x2000) == "proxy\n");
}

TEST_CASE("exempt cgroups are left alone at any depth, and only captured sources are captured") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto child = TestCgroup::create(&scene.cgroup);
    auto grandchild = TestCgroup::create(&child);
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80")}, .proxy_v4 = "203.0.113.9:8888"});
    auto answered = [&](const TestCgroup& cgroup) {
        return cgroup.run(scene.inside,
                          [&] { return answered_by(scene.inside, "203.0.113.7:80"); });
    };
    const std::vector<uint64_t> ids{child.id()};
    value_of(program.set_exempt_cgroups(ids));
    CHECK(answered(scene.cgroup) == "proxy");
    CHECK(answered(child) == "target");
    CHECK(answered(grandchild) == "target");
    value_of(program.set_exempt_cgroups({}));
    CHECK(answered(grandchild) == "proxy");

    const std::vector<kernel::ConnectSource> sources{
        {.kind = kernel::ConnectSource::Kind::cgroup, .id = child.id()}};
    value_of(program.add_sources(sources));
    value_of(program.set(
        {.proxy_v4 = Address::parse("203.0.113.9:8888"), .redirects = true, .from_sources = true}));
    CHECK(answered(scene.cgroup) == "target");
    CHECK(answered(child) == "proxy");
    CHECK(answered(grandchild) == "proxy");
    value_of(program.remove_sources(sources));
    CHECK(answered(child) == "target");
}

TEST_CASE("the proxy's processes and their descendants are left alone") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                   .proxy_v4 = "203.0.113.9:8888",
                                   .settings = {.has_foreign_proxy = true}});
    // A process that tells its number, waits, and dials by a grandchild.
    auto said = scene.cgroup.run(scene.inside, [&] {
        const std::vector<int> pids{getpid()};
        value_of(program.set_exempt_processes(pids));
        return scene.cgroup.run(scene.inside, [&] {
            return scene.cgroup.run(scene.inside,
                                    [&] { return answered_by(scene.inside, "203.0.113.7:80"); });
        });
    });
    CHECK(said == "target");
    CHECK(scene.answered("203.0.113.7:80") == "proxy");
}

TEST_CASE("who begins to listen at the proxy's address is exempt at once") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    auto program = capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                   .proxy_v4 = "203.0.113.9:8888",
                                   .settings = {.has_foreign_proxy = true}});
    for (const char* at : {"203.0.113.9:8888", "0.0.0.0:8888", "[::]:8888"}) {
        auto said = scene.cgroup.run(scene.inside, [&] {
            auto listener = listen_at(scene.inside, at);
            return answered_by(scene.inside, "203.0.113.7:80");
        });
        CHECK(said == "target");
    }
    for (const char* at : {"203.0.113.4:8888", "203.0.113.9:8889"}) {
        auto said = scene.cgroup.run(scene.inside, [&] {
            auto listener = listen_at(scene.inside, at);
            return answered_by(scene.inside, "203.0.113.7:80");
        });
        CHECK(said == "refused");
    }
    int listened = 0;
    program.drain([&](const kernel::ConnectEvent& event) {
        listened += event.kind == kernel::ConnectEvent::Kind::listened;
    });
    CHECK(listened == 3);
}

TEST_CASE("listening at the proxy's port exempts nobody but who may be the proxy") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto elsewhere = Namespace::create();
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    auto program = capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                   .proxy_v4 = "203.0.113.9:8888",
                                   .settings = {.has_foreign_proxy = true}});
    auto said = [&](const Namespace& where, uid_t user) {
        return scene.cgroup.run(scene.inside, [&] {
            // Sockets of any namespace are made while this may still go there.
            auto listener = Fd();
            where.run(
                [&] { listener = Fd::adopt(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); });
            if (setresuid(user, user, user) != 0) return std::string("still root");
            sockaddr_storage at{};
            const socklen_t size = Address::parse("0.0.0.0:8888")->to_sockaddr(at);
            if (bind(listener.get(), reinterpret_cast<sockaddr*>(&at), size) != 0 ||
                listen(listener.get(), 1) != 0)
                return std::string("no listener");
            if (&where != &scene.inside) return answered_by(scene.inside, "203.0.113.7:80");
            // This one would be sent to itself.
            auto caller = call("203.0.113.7:80");
            listener.close();
            return line_from(caller.socket.get()) == "target\n" ? std::string("target")
                                                                : "captured";
        });
    };
    CHECK(said(scene.inside, 0) == "target");
    CHECK(said(elsewhere, 0) == "refused");
    CHECK(said(scene.inside, nobody) == "captured");
    value_of(program.set({.proxy_v4 = Address::parse("203.0.113.9:8888"),
                          .redirects = true,
                          .has_foreign_proxy = true,
                          .proxy_uid = nobody}));
    CHECK(said(scene.inside, nobody) == "target");
    CHECK(said(scene.inside, nobody - 1) == "captured");
    // They are heard of all the same, but not as somebody to rely on.
    std::vector<bool> relied_on;
    program.drain(
        [&](const kernel::ConnectEvent& event) { relied_on.push_back(event.connection.pid != 0); });
    CHECK(relied_on == std::vector{true, false, true, false});
}

TEST_CASE("a proxy that is down means ECONNREFUSED, and the next client finds the one that is up") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80")}, .proxy_v4 = "203.0.113.9:8888"});
    CHECK(scene.answered("203.0.113.7:80") == "refused");
    CHECK(value_of(program.connections()).empty());
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    CHECK(scene.answered("203.0.113.7:80") == "proxy");
}

TEST_CASE("connections are followed from connect to close") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(scene, {.destinations = {destination("203.0.113.7:80", 5)},
                                   .proxy_v4 = "203.0.113.9:8888"});
    int go[2];
    REQUIRE(pipe2(go, O_CLOEXEC) == 0);
    auto begin = Fd::adopt(go[0]), end = Fd::adopt(go[1]);
    const pid_t client = scene.cgroup.start(scene.inside, [&] {
        end.close();
        auto first = call("203.0.113.7:80"), second = call("203.0.113.7:80");
        line_from(first.socket.get());
        char byte;
        (void)!read(begin.get(), &byte, 1);
    });
    CHECK(eventually([&] {
        auto open = value_of(program.connections());
        return open.size() == 2 && std::ranges::all_of(open, [](const auto& one) {
                   return one.state == BPF_TCP_ESTABLISHED;
               });
    }));
    for (const auto& one : value_of(program.connections())) {
        CHECK(one.original.text() == "203.0.113.7:80");
        CHECK(one.used.text() == "203.0.113.9:8888");
        CHECK(one.pid == client);
        CHECK(one.uid == 0);
        CHECK(one.number == 5);
        CHECK(one.cgroup == scene.cgroup.id());
        CHECK(one.netns == program.netns());
        CHECK(one.is_redirected);
        CHECK_FALSE(one.comm.empty());
    }
    end.close();
    waitpid(client, nullptr, 0);
    proxy.stop();
    CHECK(eventually([&] { return value_of(program.connections()).empty(); }));
}

TEST_CASE("who only watches changes nothing, and hears of each connect") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    auto program =
        capture(scene, {.settings = {.all_v4 = true, .all_v6 = true, .wants_events = true}});
    CHECK(scene.answered("203.0.113.7:80") == "target");
    pollfd ready{.fd = program.events_fd(), .events = POLLIN, .revents = 0};
    CHECK(poll(&ready, 1, 1000) == 1);
    std::vector<kernel::FollowedConnection> heard;
    program.drain([&](const kernel::ConnectEvent& event) { heard.push_back(event.connection); });
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].original.text() == "203.0.113.7:80");
    CHECK(heard[0].used.text() == "203.0.113.7:80");
    CHECK(heard[0].cgroup == scene.cgroup.id());
    CHECK_FALSE(heard[0].is_redirected);
    const auto age = std::chrono::steady_clock::now() - heard[0].started;
    CHECK(age > 0s);
    CHECK(age < 60s);
    CHECK(counted(program) == Counted{{"seen", 1}});
}

TEST_CASE("without a reader of events none are written") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80")}, .proxy_v4 = "203.0.113.9:8888"});
    CHECK(scene.answered("203.0.113.7:80") == "proxy");
    int heard = 0;
    program.drain([&](const kernel::ConnectEvent&) { ++heard; });
    CHECK(heard == 0);
}

TEST_CASE("destinations come and go while it runs") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto program = capture(scene, {.proxy_v4 = "203.0.113.9:8888"});
    CHECK(scene.answered("203.0.113.7:80") == "target");  // nothing named is nothing captured
    const std::vector one{destination("203.0.113.7:80")};
    value_of(program.add_destinations(one));
    CHECK(scene.answered("203.0.113.7:80") == "proxy");
    value_of(program.remove_destinations(one));
    value_of(program.remove_destinations(one));
    CHECK(scene.answered("203.0.113.7:80") == "target");
}

TEST_CASE("connections that are there already live on when it starts and when it stops", "[B-21]") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", echo());
    Server proxy(scene.inside, "203.0.113.9:8888", echo());
    auto before = Stream::dial(scene.inside, "203.0.113.7:80");
    std::optional<ConnectProgram> program = capture(
        scene, {.destinations = {destination("203.0.113.7:80")}, .proxy_v4 = "203.0.113.9:8888"});
    before.send("one");
    CHECK(before.receive_exactly(3) == "one");

    int go[2], done[2];
    REQUIRE(pipe2(go, O_CLOEXEC) == 0);
    REQUIRE(pipe2(done, O_CLOEXEC) == 0);
    auto go_out = Fd::adopt(go[0]), go_in = Fd::adopt(go[1]);
    auto done_out = Fd::adopt(done[0]), done_in = Fd::adopt(done[1]);
    const pid_t client = scene.cgroup.start(scene.inside, [&] {
        auto caller = call("203.0.113.7:80");
        char byte = 'c';
        (void)!write(done_in.get(), &byte, 1);
        (void)!read(go_out.get(), &byte, 1);
        (void)!send(caller.socket.get(), "x", 1, 0);
        if (line_from(caller.socket.get()) == "x") (void)!write(done_in.get(), &byte, 1);
    });
    char byte;
    REQUIRE(read(done_out.get(), &byte, 1) == 1);
    program.reset();
    REQUIRE(write(go_in.get(), "g", 1) == 1);
    done_in.close();
    CHECK(read(done_out.get(), &byte, 1) == 1);
    waitpid(client, nullptr, 0);
    CHECK(proxy.connections() == 1);
    before.send("two");
    CHECK(before.receive_exactly(3) == "two");
}

TEST_CASE("the hooks end with the process, however it ends") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server target(scene.inside, "203.0.113.7:80", greet("target"));
    Server proxy(scene.inside, "203.0.113.9:8888", greet("proxy"));
    auto elsewhere = TestCgroup::create();
    const pid_t owner = elsewhere.start(scene.inside, [&] {
        auto program = capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                       .proxy_v4 = "203.0.113.9:8888"});
        pause();
    });
    CHECK(eventually([&] { return scene.answered("203.0.113.7:80") == "proxy"; }));
    kill(owner, SIGKILL);
    waitpid(owner, nullptr, 0);
    CHECK(eventually([&] { return scene.answered("203.0.113.7:80") == "target"; }));
}

TEST_CASE("a foreign proxy that asks for SO_ORIGINAL_DST hears where the client was aimed") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80"), destination("[2001:db8::7]:443")},
                .proxy_v4 = "203.0.113.9:8888",
                .proxy_v6 = "[2001:db8::9]:8888",
                .settings = {.has_foreign_proxy = true}});
    auto proxies = TestCgroup::create();
    value_of(program.answer_in(proxies.fd()));

    // What a proxy at `at` hears when a client calls `to`.
    auto heard = [&](const std::string& at, const std::string& to, int family) {
        pid_t client = 0;
        auto said = proxies.run(scene.inside, [&]() -> std::string {
            auto listener =
                at.empty() ? listen_on_both(scene.inside, 8888) : listen_at(scene.inside, at);
            client = scene.cgroup.start(scene.inside, [&] { call(to, family); });
            auto accepted = accept_at(listener.get()).socket;
            sockaddr_storage original{};
            socklen_t size = sizeof original;
            const bool is_v4 = Address::parse(to)->ip.is_v4;
            if (getsockopt(accepted.get(), is_v4 ? SOL_IP : SOL_IPV6, SO_ORIGINAL_DST, &original,
                           &size) != 0)
                return std::strerror(errno);
            return Address::from_sockaddr(original).text() + " " + std::to_string(size);
        });
        return said;
    };
    CHECK(heard("203.0.113.9:8888", "203.0.113.7:80", AF_INET) == "203.0.113.7:80 16");
    CHECK(heard("203.0.113.9:8888", "203.0.113.7:80", AF_INET6) == "203.0.113.7:80 16");
    CHECK(heard("", "203.0.113.7:80", AF_INET) == "203.0.113.7:80 16");
    CHECK(heard("[2001:db8::9]:8888", "[2001:db8::7]:443", AF_INET6) == "[2001:db8::7]:443 28");
    // Who calls the proxy itself was aimed nowhere else.
    CHECK(heard("203.0.113.9:8888", "203.0.113.9:8888", AF_INET).find(' ') != std::string::npos);
    CHECK(heard("203.0.113.9:8888", "203.0.113.9:8888", AF_INET) != "203.0.113.7:80 16");
}

TEST_CASE("a proxy in another network namespace is found, and hears where the client was aimed") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto proxies = TestCgroup::create();
    auto there = Namespace::create();
    // An end of the cable goes to where a process is.
    const Process anchor(proxies.start(there, [] { pause(); }));
    REQUIRE(eventually([&] {
        struct stat about{};
        return stat(("/proc/" + std::to_string(anchor.pid) + "/ns/net").c_str(), &about) == 0 &&
               about.st_ino == there.inode();
    }));
    auto ip = [](const Namespace& where, const std::string& words) {
        auto done = run_line(where, "ip " + words);
        INFO(done.err);
        REQUIRE(done.exit_code == 0);
    };
    ip(scene.inside, "link add here type veth peer name there netns " + std::to_string(anchor.pid));
    ip(scene.inside, "addr add 198.51.100.1/30 dev here");
    ip(scene.inside, "link set here up");
    ip(there, "addr add 198.51.100.2/30 dev there");
    ip(there, "link set there up");

    auto program = capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                   .proxy_v4 = "198.51.100.2:18888",
                                   .settings = {.has_foreign_proxy = true}});
    value_of(program.answer_in(proxies.fd()));
    auto said = proxies.run(there, [&]() -> std::string {
        auto listener = listen_at(there, "0.0.0.0:18888");
        auto owners = kernel::find_owners(*Address::parse("198.51.100.2:18888"));
        if (owners.found.size() != 1 || owners.found[0].pids != std::set{getpid()})
            return "another owner";
        scene.cgroup.start(scene.inside, [] { call("203.0.113.7:80"); });
        auto accepted = accept_at(listener.get());
        sockaddr_storage original{};
        socklen_t size = sizeof original;
        if (getsockopt(accepted.socket.get(), SOL_IP, SO_ORIGINAL_DST, &original, &size) != 0)
            return std::strerror(errno);
        return accepted.client.ip.text() + " to " + Address::from_sockaddr(original).text();
    });
    CHECK(said == "198.51.100.1 to 203.0.113.7:80");
}

TEST_CASE("a direct call from a port that was redirected before has no original destination") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto listener = listen_on_both(scene.inside, 15001);
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80")}, .proxy_v4 = "127.0.0.1:15001"});
    auto call_from = [&](const char* to, bool is_first) {
        return scene.cgroup.run(scene.inside, [&] {
            auto caller = call(to, AF_INET, 0, "127.0.0.1:23456");
            // With a reset, so that the port need not rest.
            linger now{.l_onoff = is_first, .l_linger = 0};
            setsockopt(caller.socket.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
            return std::to_string(caller.error);
        });
    };
    CHECK(call_from("203.0.113.7:80", true) == "0");
    accept_at(listener.get());  // and nobody asks
    CHECK(call_from("127.0.0.1:15001", false) == "0");
    auto direct = accept_at(listener.get());
    CHECK(direct.client.text() == "127.0.0.1:23456");
    CHECK(text_of(program.take_original_dst(direct.client, direct.local)) == "none");
}

TEST_CASE("a socket that is used again is not taken for what it was before") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    Server other(scene.inside, "203.0.113.4:80", greet("other"));
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.7:80")}, .proxy_v4 = "203.0.113.9:8888"});
    auto said = scene.cgroup.run(scene.inside, [] {
        auto caller = call("203.0.113.7:80");  // refused: there is no proxy
        sockaddr_storage at{};
        socklen_t size = Address::parse("203.0.113.4:80")->to_sockaddr(at);
        if (connect(caller.socket.get(), reinterpret_cast<sockaddr*>(&at), size) != 0)
            return std::string(std::strerror(errno));
        return address_of(caller.socket.get(), getpeername).text();
    });
    CHECK(said == "203.0.113.4:80");
}

TEST_CASE("25 000 connects later everything still works") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto listener = listen_on_both(scene.inside, 15001);
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.0/24")}, .proxy_v4 = "127.0.0.1:15001"});
    constexpr int count = 25'000;
    const pid_t client = scene.cgroup.start(scene.inside, [] {
        linger now{.l_onoff = 1, .l_linger = 0};
        for (int i = 0; i < count; ++i) {
            auto caller = call("203.0.113.7:" + std::to_string(1 + i % 60'000));
            // The proxy may be so quick that its reset is there before connect() comes back.
            if (caller.error && caller.error != ECONNRESET) _exit(1);
            char byte;
            // The proxy closes first, so that no port of the client's has to rest.
            while (recv(caller.socket.get(), &byte, 1, 0) > 0) {
            }
            setsockopt(caller.socket.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
    });
    int right = 0;
    for (int i = 0; i < count; ++i) {
        auto accepted = accept_at(listener.get());
        auto original = program.take_original_dst(accepted.client, accepted.local);
        right += original && original->port == 1 + i % 60'000;
        linger now{.l_onoff = 1, .l_linger = 0};
        setsockopt(accepted.socket.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    int status = -1;
    waitpid(client, &status, 0);
    CHECK(status == 0);
    CHECK(right == count);
    CHECK(eventually([&] { return value_of(program.connections()).empty(); }));
    CHECK(counted(program) == Counted{{"redirected", count}});
}

TEST_CASE("12 000 connections at once are all redirected, and at most 10 000 of them followed",
          "[B-19]") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    scene.inside.run([] { std::ofstream("/proc/sys/net/core/somaxconn") << "16384"; });
    auto listener = listen_at(scene.inside, "127.0.0.1:15001", 16384);
    auto program = capture(
        scene, {.destinations = {destination("203.0.113.0/24")}, .proxy_v4 = "127.0.0.1:15001"});
    constexpr int count = 12'000;
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < count + 100) SKIP_TEST("needs a hard limit of 12 100 open files");
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    auto out = Fd::adopt(ends[0]), in = Fd::adopt(ends[1]);
    const pid_t client = scene.cgroup.start(scene.inside, [&] {
        files.rlim_cur = count + 100;
        setrlimit(RLIMIT_NOFILE, &files);
        std::vector<Caller> callers;
        for (int i = 0; i < count; ++i)
            callers.push_back(call("203.0.113.7:" + std::to_string(1 + i)));
        const bool all = std::ranges::all_of(callers, [](const Caller& one) { return !one.error; });
        (void)!write(in.get(), all ? "y" : "n", 1);
        pause();
    });
    char answer = 0;
    REQUIRE(read(out.get(), &answer, 1) == 1);
    CHECK(answer == 'y');
    const auto followed = value_of(program.connections()).size();
    CHECK(followed <= 10'000);
    CHECK(followed > 5'000);
    int right = 0;
    for (int i = 0; i < count; ++i) {
        auto accepted = accept_at(listener.get());
        auto original = program.take_original_dst(accepted.client, accepted.local);
        right += original && original->port == 1 + i;
    }
    CHECK(right == count);
    kill(client, SIGKILL);
    waitpid(client, nullptr, 0);
}

TEST_CASE("what is needed of the host is said when it is missing") {
    NEEDS_KERNEL_ACCESS();
    auto folder = kernel::open_cgroup("/proc");
    REQUIRE_FALSE(folder);
    CHECK(folder.error().text().find("/proc is no folder of a cgroup2 tree") != std::string::npos);
    CHECK_FALSE(kernel::open_cgroup("/nowhere"));
    auto cgroup = TestCgroup::create();
    auto opened = value_of(kernel::open_cgroup(cgroup.path()));
    CHECK(opened.id == cgroup.id());
    auto root = value_of(kernel::open_cgroup(value_of(kernel::cgroup2_root())));
    CHECK(kernel::cgroup_path(cgroup.id(), root.folder.get()) == cgroup.path());
    CHECK(kernel::cgroup_path(1ull << 60, root.folder.get()) == "");
    // Without privileges each folder is looked at.
    CHECK(cgroup.run(Namespace::create(), [&]() -> std::string {
        if (setresuid(nobody, nobody, nobody) != 0) return "still root";
        if (kernel::cgroup_path(cgroup.id(), root.folder.get())) return "was told";
        return kernel::all_cgroups(root.path)[cgroup.id()];
    }) == cgroup.path());
    CHECK(cgroup.run(Namespace::create(), [&] {
        return kernel::cgroup_of(getpid(), root.path).value_or("none");
    }) == cgroup.path());
}

TEST_CASE("the owners of a listener are found, also in another network namespace") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto parent = TestCgroup::create();
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    auto out = Fd::adopt(ends[0]), in = Fd::adopt(ends[1]);
    const Process owner(parent.start(scene.inside, [&] {
        auto listener = listen_at(scene.inside, "0.0.0.0:18887");
        (void)!write(in.get(), "x", 1);
        pause();
    }));
    char byte;
    REQUIRE(read(out.get(), &byte, 1) == 1);
    auto owners = kernel::find_owners(*Address::parse("203.0.113.9:18887"));
    CHECK(owners.is_complete);
    REQUIRE(owners.found.size() == 1);
    CHECK(owners.found[0].pids == std::set<int>{owner.pid});
    CHECK(owners.found[0].netns == scene.inside.inode());
    CHECK(owners.found[0].uid == 0);
    auto found = [](const char* at) {
        return kernel::find_owners(*Address::parse(at)).found.size();
    };
    CHECK(found("203.0.113.9:18886") == 0);
    CHECK(found("127.0.0.1:18887") == 0);  // not here
    scene.inside.run([&] {
        CHECK(found("127.0.0.1:18887") == 1);
        CHECK(value_of(kernel::netns_cookie_here()) == owners.found[0].netns_cookie);
    });
    // Who may not look does not say that there is nobody.
    auto said = parent.run(scene.inside, [&]() -> std::string {
        if (setresuid(nobody, nobody, nobody) != 0) return "still root";
        auto seen = kernel::find_owners(*Address::parse("203.0.113.9:18887"));
        if (seen.found.size() != 1 || !seen.found[0].pids.empty()) return "another owner";
        if (kernel::start_of_process(owner.pid) == 0) return "no start";
        return seen.is_complete ? "complete" : "incomplete";
    });
    CHECK(said == "incomplete");
    std::stop_source stop;
    stop.request_stop();
    auto stopped = kernel::find_owners(*Address::parse("203.0.113.9:18887"), stop.get_token());
    CHECK((stopped.found.empty() && !stopped.is_complete));
}

TEST_CASE("an original destination that nobody asked for in time is none") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto listener = listen_on_both(scene.inside, 15001);
    auto program = capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                   .proxy_v4 = "127.0.0.1:15001",
                                   .original_lasts = 300ms});
    auto entries = [&] {
        auto ids = value_of(program.ids());
        auto map = Fd::adopt(bpf_map_get_fd_by_id(ids.original_dsts));
        int count = 0;
        char key[48], next[48];
        for (const char* after = nullptr; bpf_map_get_next_key(map.get(), after, next) == 0;
             after = key, ++count)
            std::memcpy(key, next, sizeof key);
        return count;
    };
    auto call_for = [&](Duration open) {
        return scene.cgroup.run(scene.inside, [&] {
            auto caller = call("203.0.113.7:80");
            std::this_thread::sleep_for(open);
            return std::to_string(caller.error);
        });
    };
    CHECK(call_for(0ms) == "0");
    auto soon = accept_at(listener.get());
    CHECK(text_of(program.take_original_dst(soon.client, soon.local)) == "203.0.113.7:80");
    // Its client closed while it was young, for somebody may accept yet.
    CHECK(call_for(0ms) == "0");
    auto late = accept_at(listener.get());
    CHECK(entries() == 1);
    std::this_thread::sleep_for(400ms);
    CHECK(text_of(program.take_original_dst(late.client, late.local)) == "none");
    CHECK(entries() == 0);
    // That of one who closes later goes with it.
    CHECK(call_for(400ms) == "0");
    auto never = accept_at(listener.get());
    never.socket.close();
    CHECK(eventually([&] { return entries() == 0; }));
    // And that of a connection that was refused at once.
    listener.close();
    CHECK(call_for(0ms) != "0");
    CHECK(entries() == 0);
}

TEST_CASE("a foreign proxy hears of what was captured also after the capture has ended") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto program = std::optional(capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                                 .proxy_v4 = "203.0.113.9:8888",
                                                 .settings = {.has_foreign_proxy = true},
                                                 .original_lasts = 5s}));
    // The proxy, which is the one to end the capture as well.
    auto said = scene.cgroup.run(scene.inside, [&] {
        auto listener = listen_at(scene.inside, "203.0.113.9:8888");
        const Process client(scene.cgroup.start(scene.inside, [&] {
            program->set_exempt_processes({});  // though it is a child of the proxy's
            auto caller = call("203.0.113.7:80");
            pause();
        }));
        auto accepted = accept_at(listener.get()).socket;
        auto asked = [&]() -> std::string {
            sockaddr_storage original{};
            socklen_t size = sizeof original;
            if (getsockopt(accepted.get(), SOL_IP, SO_ORIGINAL_DST, &original, &size) != 0)
                return "none";
            return Address::from_sockaddr(original).text();
        };
        auto first = asked();
        program->detach();
        auto second = asked();
        program.reset();
        return first + ", " + second + ", " + asked();
    });
    CHECK(said == "203.0.113.7:80, 203.0.113.7:80, none");
}

TEST_CASE("options with long values are answered as ever, where original destinations are") {
    NEEDS_KERNEL_ACCESS();
    Scene scene;
    auto program = capture(scene, {.destinations = {destination("203.0.113.7:80")},
                                   .proxy_v4 = "203.0.113.9:8888",
                                   .settings = {.has_foreign_proxy = true}});
    auto said = scene.cgroup.run(scene.inside, [] {
        auto one = Fd::adopt(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        std::vector<char> room(100'000);
        auto size = static_cast<socklen_t>(room.size());
        if (getsockopt(one.get(), IPPROTO_TCP, TCP_INFO, room.data(), &size) != 0)
            return std::string(std::strerror(errno));
        return size > 100 && size < 4096 ? std::string("answered") : std::to_string(size);
    });
    CHECK(said == "answered");
}
