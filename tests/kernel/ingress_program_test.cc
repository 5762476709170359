// SPDX-License-Identifier: Apache-2.0
// The ingress programs in the kernel, met by real clients that come over a veth pair, and by frames
// made by hand.
#include "kernel/ingress_program.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <map>
#include <set>

#include "kernel/host.h"
#include "kernel/wire.h"
#include "support/log_lines.h"
#include "support/server.h"

using namespace proxify;
using namespace proxify::test;
using kernel::HookKind;
using kernel::IngressProgram;

namespace {

using Counted = std::map<std::string_view, uint64_t>;

Counted counted(const IngressProgram& program) {
    Counted out;
    for (const auto& counter : value_of(program.counters()))
        if (counter.value > 0) out[counter.name] = counter.value;
    return out;
}

kernel::Interface interface_of(const Namespace& where, const std::string& name) {
    std::optional<kernel::Interface> found;
    where.run([&] {
        for (auto& one : value_of(value_of(kernel::Interfaces::open()).list()))
            if (one.name == name) found = one;
    });
    if (!found) throw std::runtime_error("there is no interface " + name);
    return *found;
}

/// A program with its hooks. Both end in the namespace where they are.
struct Door {
    explicit Door(const Namespace& host, uint32_t flows_max = 4096)
        : host(host), program(value_of(IngressProgram::load(flows_max))) {
        host.run([&] { value_of(program.open_door()); });
    }
    ~Door() {
        host.run([&] { hooks.clear(); });
    }
    void hook(const std::string& name, HookKind kind = HookKind::tcx) {
        auto interface = interface_of(host, name);
        host.run([&] { hooks.push_back(value_of(program.hook(interface, kind)).value()); });
    }
    /// What the room does for a mapping.
    void map(uint16_t port, uint16_t to_port) {
        value_of(program.set_port(to_port, {.has_answers = true}));
        value_of(program.set_port(port, {.to_port = to_port, .has_flows = true}));
    }
    void listen(uint16_t port, const Fd& listener) {
        value_of(program.set_listener(0, listener.get()));
        value_of(program.set_port(port, {.listener = 0}));
    }

    const Namespace& host;
    IngressProgram program;
    std::vector<kernel::Hook> hooks;
};

std::string from_client(const Wire& wire, const std::string& to, const std::string& from = {}) {
    return answered_by(wire.client, to, {.limit = 5s, .from = from});
}

/// A client that uses this port of its own for several connections at a time.
Stream dial_from_20000(const Wire& wire, const std::string& to, Millis limit = 5s) {
    Fd fd;
    wire.client.run([&] {
        fd = Fd::adopt(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        const int on = 1;
        setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_storage from{}, there{};
        socklen_t size = Address::parse("198.51.100.7:20000")->to_sockaddr(from);
        REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&from), size) == 0);
        Address::parse(to)->to_sockaddr(there);
        ::connect(fd.get(), reinterpret_cast<sockaddr*>(&there), size);
    });
    pollfd ready{.fd = fd.get(), .events = POLLOUT};
    if (poll(&ready, 1, static_cast<int>(limit.count())) < 1 || ready.revents & POLLERR)
        throw std::runtime_error("no connection to " + to);
    return Stream::adopt(std::move(fd));
}

/// The address that a client of our listener dialled, as the accepted socket knows it; or why not.
std::string arrived_at(const Fd& listener, Millis limit = 5s) {
    pollfd ready{.fd = listener.get(), .events = POLLIN};
    if (poll(&ready, 1, static_cast<int>(limit.count())) < 1) return "nobody came";
    auto accepted = Fd::adopt(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    sockaddr_storage at{};
    socklen_t size = sizeof at;
    getsockname(accepted.get(), reinterpret_cast<sockaddr*>(&at), &size);
    return Address::from_sockaddr(at).text();
}

const HookKind kinds[] = {HookKind::tcx, HookKind::clsact};

}  // namespace

TEST_CASE(
    "[T-06] a remote client of the port reaches the other program, and loopback does not [T-08] "
    "[T-17] [T-19]") {
    NEEDS_KERNEL_ACCESS();
    for (HookKind kind : kinds) {
        Wire wire;
        Both backend(wire.host, 8000, answer("backend"));
        Both proxy(wire.host, 9000, answer("proxy"));
        CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
        Door door(wire.host);
        door.hook("eth0", kind);
        CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
        door.map(8000, 9000);
        CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
        CHECK(from_client(wire, "[2001:db8::1]:8000") == "proxy");
        CHECK(from_client(wire, "198.51.100.1:8001") == "refused");
        CHECK(answered_by(wire.host, "127.0.0.1:8000") == "backend");
        CHECK(answered_by(wire.host, "198.51.100.1:8000") == "backend");
        // Whoever dials the other program itself is left alone.
        CHECK(from_client(wire, "198.51.100.1:9000") == "proxy");
        CHECK(from_client(wire, "[2001:db8::1]:9000") == "proxy");
        auto counts = counted(door.program);
        CHECK(counts["flows"] == 2);
        CHECK(counts["rewritten_in"] >= 6);
        CHECK(counts["rewritten_out"] >= 4);
        CHECK_FALSE(counts.contains("passed_not_written"));
    }
}

TEST_CASE("nobody at the other port is a refusal, which comes from the port that was dialled") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both backend(wire.host, 8000, answer("backend"));
    Door door(wire.host);
    door.hook("eth0");
    door.map(8000, 9000);
    CHECK(from_client(wire, "198.51.100.1:8000") == "refused");
    CHECK(from_client(wire, "[2001:db8::1]:8000") == "refused");
}

TEST_CASE("our listener gets the connection, whose socket has the address that was dialled") {
    NEEDS_KERNEL_ACCESS();
    for (HookKind kind : kinds) {
        Wire wire;
        Both backend(wire.host, 8000, answer("backend"));
        auto listener = listen_on_both(wire.host, 15004);
        Door door(wire.host);
        door.hook("eth0", kind);
        door.listen(8000, listener);
        for (const char* to : {"198.51.100.1:8000", "[2001:db8::1]:8000"}) {
            auto client = Stream::dial(wire.client, to);
            CHECK(client.peer().text() == to);
            CHECK(arrived_at(listener) == to);
        }
        CHECK(answered_by(wire.host, "127.0.0.1:8000") == "backend");
        CHECK(answered_by(wire.host, "198.51.100.1:8000") == "backend");
        CHECK(counted(door.program) == Counted{{"assigned", 2}});
        listener.close();
        CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
        CHECK(counted(door.program) == Counted{{"assigned", 2}, {"passed_no_listener", 1}});
    }
}

TEST_CASE("a client that comes again from the same port finds our listener at once") {
    // Our side closes first, so a socket in TIME_WAIT has the 4-tuple when the next SYN comes.
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both backend(wire.host, 8000, answer("backend"));
    auto listener = listen_on_both(wire.host, 15004);
    Door door(wire.host);
    door.hook("eth0");
    door.listen(8000, listener);
    const std::string there = "198.51.100.1:8000";
    for (int i = 0; i < 5; ++i) {
        auto client = Stream::dial(wire.client, there, {.from = "198.51.100.7:20000"});
        CHECK(arrived_at(listener) == there);
        CHECK(client.receive_all().end == End::clean);
        client.close();
        CHECK(eventually([&] {
            auto left = sh(wire.host, "ss -tanH state time-wait sport = :8000");
            return left.find(":20000") != std::string::npos;
        }));
    }
    // Each SYN is counted, so none had to be sent again.
    CHECK(counted(door.program) == Counted{{"assigned", 1}, {"passed_has_socket", 4}});
}

TEST_CASE("a client that was sent a SYN cookie finds our listener, although the port has another") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    sh(wire.host, "echo 2 > /proc/sys/net/ipv4/tcp_syncookies");
    Both backend(wire.host, 8000, answer("backend"));
    auto listener = listen_on_both(wire.host, 15004);
    Door door(wire.host);
    door.hook("eth0");
    door.listen(8000, listener);
    for (const char* to : {"198.51.100.1:8000", "[2001:db8::1]:8000"}) {
        auto client = Stream::dial(wire.client, to);
        CHECK(arrived_at(listener) == to);
    }
    CHECK(backend.connections() == 0);
}

TEST_CASE("connections from before go on as they were") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both backend(wire.host, 8000, echo());
    Both proxy(wire.host, 9000, answer("proxy"));
    auto before = Stream::dial(wire.client, "198.51.100.1:8000");
    before.send("one");
    CHECK(before.receive_exactly(3) == "one");
    Door door(wire.host);
    door.hook("eth0");
    door.map(8000, 9000);
    before.send("two");
    CHECK(before.receive_exactly(3) == "two");
    CHECK(counted(door.program)["passed_no_flow"] >= 1);
}

TEST_CASE("[T-11] a flow goes on when its port is mapped elsewhere, or no longer") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both backend(wire.host, 8000, answer("backend"));
    Both first(wire.host, 9000, echo());
    Both second(wire.host, 9001, answer("second"));
    Door door(wire.host);
    door.hook("eth0");
    door.map(8000, 9000);
    auto flow = Stream::dial(wire.client, "198.51.100.1:8000");
    flow.send("one");
    CHECK(flow.receive_exactly(3) == "one");

    door.map(8000, 9001);
    CHECK(from_client(wire, "198.51.100.1:8000") == "second");
    flow.send("two");
    CHECK(flow.receive_exactly(3) == "two");

    value_of(door.program.set_port(8000, {.has_flows = true}));
    CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
    flow.send("three");
    CHECK(flow.receive_exactly(5) == "three");
    flow.finish();
    CHECK(flow.receive_all().end == End::clean);
}

TEST_CASE("two connections of a client that would become one are kept apart") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both backend(wire.host, 8000, answer("backend"));
    Both proxy(wire.host, 9000, echo());
    Door door(wire.host);
    door.hook("eth0");
    door.map(8000, 9000);
    const std::string direct = "198.51.100.1:9000", mapped = "198.51.100.1:8000";
    struct Row {
        std::string first, second;
    };
    for (const auto& [first, second] : {Row{mapped, direct}, Row{direct, mapped}}) {
        auto one = dial_from_20000(wire, first);
        one.send("one");
        CHECK(one.receive_exactly(3) == "one");
        CHECK_THROWS(dial_from_20000(wire, second, 700ms));
        one.send("two");
        CHECK(one.receive_exactly(3) == "two");
        // As soon as the first is over the second may begin.
        one.reset();
        auto two = dial_from_20000(wire, second);
        two.send("two");
        CHECK(two.receive_exactly(3) == "two");
        two.reset();
    }
    CHECK(counted(door.program)["dropped_same_client"] >= 2);
}

TEST_CASE("a client that comes again from the same port has a new flow") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both proxy(wire.host, 9000, greet("proxy"));
    Door door(wire.host);
    door.hook("eth0");
    door.map(8000, 9000);
    door.map(8001, 9000);
    for (int i = 0; i < 6; ++i) {
        // Two ports that lead to one: the tuple behind the mapping is the same.
        const char* to = i % 3 == 1 ? "198.51.100.1:8001" : "198.51.100.1:8000";
        auto client = Stream::dial(wire.client, to, {.from = "198.51.100.7:20000"});
        CHECK(client.receive_line() == "proxy\n");
        client.reset();
    }
}

TEST_CASE("[T-16] what the host forwards is untouched") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    auto far = Namespace::create();
    connect(wire.host, "eth1", "203.0.113.1/24", "2001:db8:1::1/64", far, "eth0", "203.0.113.9/24",
            "2001:db8:1::9/64");
    sh(wire.host,
       "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    sh(wire.client,
       "ip route add 203.0.113.0/24 via 198.51.100.1 && ip route add 2001:db8:1::/64 via "
       "2001:db8::1");
    sh(far,
       "ip route add 198.51.100.0/24 via 203.0.113.1 && ip route add 2001:db8::/64 via "
       "2001:db8:1::1");
    Both beyond(far, 8000, answer("beyond"));
    Both beyond_too(far, 9000, answer("beyond at 9000"));
    Both proxy(wire.host, 9000, answer("proxy"));
    auto listener = listen_on_both(wire.host, 15004);
    Door door(wire.host);
    door.hook("eth0");
    door.hook("eth1");
    door.map(8000, 9000);
    door.listen(8002, listener);
    Both third(far, 8002, answer("third"));
    for (const char* host : {"203.0.113.9", "[2001:db8:1::9]"}) {
        CHECK(from_client(wire, std::string(host) + ":8000") == "beyond");
        CHECK(from_client(wire, std::string(host) + ":9000") == "beyond at 9000");
        CHECK(from_client(wire, std::string(host) + ":8002") == "third");
    }
    auto counts = counted(door.program);
    CHECK(counts["passed_forwarded"] == 4);
    for (const char* never : {"flows", "assigned", "rewritten_in", "rewritten_out"})
        CHECK_FALSE(counts.contains(never));
    // The host's own addresses, also the one at its other side, are captured.
    for (const char* host : {"198.51.100.1", "203.0.113.1", "[2001:db8::1]", "[2001:db8:1::1]"})
        CHECK(from_client(wire, std::string(host) + ":8000") == "proxy");
}

TEST_CASE("a flow hears of a smaller MTU on its path") {
    NEEDS_KERNEL_ACCESS();
    auto client = Namespace::create(), router = Namespace::create(), host = Namespace::create();
    connect(host, "eth0", "198.51.100.1/24", "2001:db8::1/64", router, "eth0", "198.51.100.254/24",
            "2001:db8::fe/64");
    connect(router, "eth1", "203.0.113.254/24", "2001:db8:1::fe/64", client, "eth0",
            "203.0.113.7/24", "2001:db8:1::7/64");
    // Only the router knows of it, so it is no part of what the two ends agree on.
    sh(router,
       "ip link set eth1 mtu 1280; echo 1 > /proc/sys/net/ipv4/ip_forward; "
       "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    sh(host, "ip route add default via 198.51.100.254 && ip route add default via 2001:db8::fe");
    sh(client, "ip route add default via 203.0.113.254 && ip route add default via 2001:db8:1::fe");
    const std::string much(300'000, 'x');
    Both proxy(host, 9000, [&](Stream& stream) {
        stream.send(much);
        stream.finish();
        stream.receive_all();
    });
    Door door(host);
    door.hook("eth0");
    door.map(8000, 9000);
    for (const char* to : {"198.51.100.1:8000", "[2001:db8::1]:8000"}) {
        INFO(to);
        // Not by chance, nor because the kernel remembers what an earlier connection has found out.
        auto errors = counted(door.program)["rewritten_error"];
        auto stream = Stream::dial(client, to);
        CHECK(stream.receive_exactly(much.size(), 10s) == much);
        CHECK(counted(door.program)["rewritten_error"] > errors);
    }
}

TEST_CASE(
    "[T-07] [T-14] on the wire every answer comes from the dialled port with a right checksum") {
    NEEDS_KERNEL_ACCESS();
    if (run({.argv = {"sh", "-c", "command -v tcpdump"}}).exit_code != 0)
        SKIP_TEST("needs the program tcpdump");
    Wire wire;
    Both proxy(wire.host, 9000, echo());
    Door door(wire.host);
    door.hook("eth0");
    door.map(8000, 9000);
    auto witness = Child::start(
        {.argv = {"tcpdump", "-l", "-n", "-vv", "-i", "eth0", "tcp"}, .inside = &wire.client});
    REQUIRE(eventually([&] { return witness.err().find("listening on") != std::string::npos; }));
    for (const char* to : {"198.51.100.1:8000", "[2001:db8::1]:8000"}) {
        auto client = Stream::dial(wire.client, to);
        std::string text(20000, 'x');
        client.send(text);
        CHECK(client.receive_exactly(text.size()) == text);
        client.finish();
        client.receive_all();
    }
    auto times = [&](const char* what) {
        size_t found = 0;
        auto said = witness.out();
        for (size_t at = 0; (at = said.find(what, at)) != std::string::npos; ++at) ++found;
        return found;
    };
    CHECK(eventually([&] { return times("Flags [F") + times("Flags [FP") >= 4; }));
    witness.signal(SIGINT);
    CHECK(witness.wait(5s) == 0);
    INFO(witness.out());
    CHECK(times(".8000 >") > 8);
    CHECK(times("cksum") > 16);
    CHECK(times("(correct)") == times("cksum"));
    // As a port; a time stamp or a sequence number may have these digits.
    CHECK(times(".9000 >") + times(".9000:") == 0);
}

namespace {

/// How many of `count` clients of 198.51.100.1:8000 were told "proxy". Each ends its connection by
/// a reset, so that no port of its own stays taken.
int serve_clients(const Wire& wire, int count) {
    std::atomic<int> served = 0;
    std::vector<std::thread> streams;
    for (int i = 0; i < 4; ++i)
        streams.emplace_back([&] {
            wire.client.run([&] {
                sockaddr_storage to{};
                socklen_t size = Address::parse("198.51.100.1:8000")->to_sockaddr(to);
                for (int n = 0; n < count / 4; ++n) {
                    auto fd = Fd::adopt(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
                    timeval limit{.tv_sec = 20, .tv_usec = 0};
                    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
                    setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
                    const linger reset{.l_onoff = 1, .l_linger = 0};
                    setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
                    char said[16] = {};
                    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), size) == 0 &&
                        recv(fd.get(), said, 6, MSG_WAITALL) == 6 && std::string(said) == "proxy\n")
                        ++served;
                }
            });
        });
    for (auto& stream : streams) stream.join();
    return served;
}

}  // namespace

TEST_CASE("25 000 connections are rewritten by a table of 1024") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both proxy(wire.host, 9000, greet("proxy"));
    Door door(wire.host, 1024);
    door.hook("eth0");
    door.map(8000, 9000);
    CHECK(serve_clients(wire, 25000) == 25000);
    auto counts = counted(door.program);
    CHECK(counts["flows"] >= 20000);  // the others came again to a flow that is remembered
    CHECK_FALSE(counts.contains("passed_no_room"));
}

TEST_CASE("12 000 connections reach our listener past a table of 1024") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    auto listener = listen_on_both(wire.host, 15004);
    Door door(wire.host, 1024);
    door.hook("eth0");
    door.listen(8000, listener);
    std::atomic<bool> is_over = false;
    std::thread server([&] {
        pollfd ready{.fd = listener.get(), .events = POLLIN};
        while (!is_over)
            if (poll(&ready, 1, 50) == 1)
                if (auto one = Fd::adopt(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)))
                    (void)!send(one.get(), "proxy\n", 6, MSG_NOSIGNAL);
    });
    CHECK(serve_clients(wire, 12000) == 12000);
    is_over = true;
    server.join();
    CHECK(counted(door.program)["assigned"] >= 10000);  // the others came again to TIME_WAIT
}

// ---- how it is attached

namespace {

/// Filters of a direction, as `tc` shows them: "proxify_ingress", "somebody_elses".
std::vector<std::string> filters(const Namespace& where, const std::string& direction) {
    std::vector<std::string> names;
    for (const auto& line : lines_of(run_line(where, "tc filter show dev eth0 " + direction).out)) {
        auto at = line.find("handle ");
        if (at == std::string::npos) continue;
        auto words = line.substr(at);
        words = words.substr(words.find(' ', 7) + 1);
        names.push_back(words.substr(0, words.find(' ')));
    }
    return names;
}

bool has_clsact(const Namespace& where) {
    return sh(where, "tc qdisc show dev eth0").find("clsact") != std::string::npos;
}

/// Hooks eth0 in another process, which then dies without a word.
void hook_and_die(const Namespace& host, HookKind kind) {
    auto interface = interface_of(host, "eth0");
    pid_t child = fork();
    if (child == 0) {
        if (!host.enter_in_child()) _exit(1);
        auto program = IngressProgram::load(1024);
        if (!program || !program->open_door()) _exit(2);
        auto hook = program->hook(interface, kind);
        if (!hook || !*hook) _exit(3);
        (void)program->set_port(8000, {.to_port = 9000, .has_flows = true});
        raise(SIGKILL);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
}

}  // namespace

TEST_CASE("[T-12] the end takes filters and clsact away, and leaves those of others") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both backend(wire.host, 8000, answer("backend"));
    Both proxy(wire.host, 9000, answer("proxy"));
    using Names = std::vector<std::string>;
    auto capture_once = [&] {
        Door door(wire.host);
        door.hook("eth0", HookKind::clsact);
        door.map(8000, 9000);
        wire.host.run([&] { CHECK(door.hooks.front().is_there()); });
        CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
    };
    capture_once();
    CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
    CHECK_FALSE(has_clsact(wire.host));

    sh(wire.host,
       "tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress pref 7 protocol ip u32 "
       "match ip protocol 1 0xff flowid 1:1");
    auto before = sh(wire.host, "tc filter show dev eth0 ingress");
    REQUIRE(before.find("pref 7") != std::string::npos);
    capture_once();
    CHECK(has_clsact(wire.host));
    CHECK(sh(wire.host, "tc filter show dev eth0 ingress") == before);
    CHECK(filters(wire.host, "egress") == Names{});
    // Also when the other filter comes later, below a clsact that was made for us.
    sh(wire.host, "tc qdisc del dev eth0 clsact");
    {
        Door door(wire.host);
        door.hook("eth0", HookKind::clsact);
        sh(wire.host,
           "tc filter add dev eth0 egress pref 7 protocol ip u32 match ip protocol 1 0xff flowid "
           "1:1");
    }
    CHECK(has_clsact(wire.host));
    CHECK(sh(wire.host, "tc filter show dev eth0 egress").find("pref 7") != std::string::npos);
}

TEST_CASE("[T-13] after kill -9 the next one finds and takes away what was left") {
    NEEDS_KERNEL_ACCESS();
    using Names = std::vector<std::string>;
    for (HookKind kind : kinds) {
        Wire wire;
        Both backend(wire.host, 8000, answer("backend"));
        Both proxy(wire.host, 9000, answer("proxy"));
        hook_and_die(wire.host, kind);
        // The kernel takes a dead process's programs away a moment later.
        bool stays = kind == HookKind::clsact;
        CHECK(filters(wire.host, "ingress").size() == (stays ? 1 : 0));
        {
            Door door(wire.host);
            door.hook("eth0", kind);
            door.map(8000, 9000);
            CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
            CHECK(filters(wire.host, "ingress").size() == (stays ? 1 : 0));
            CHECK(filters(wire.host, "egress").size() == (stays ? 1 : 0));
        }
        CHECK(filters(wire.host, "ingress") == Names{});
        CHECK_FALSE(has_clsact(wire.host));
        CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
    }
}

/// A filter of somebody else's at eth0, whose program gives `verdict`.
static Fd add_foreign_filter(const Namespace& where, uint32_t place_number, int verdict) {
    const bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict},
        {.code = BPF_JMP | BPF_EXIT}};
    auto foreign = Fd::adopt(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "somebody_elses", "GPL",
                                           program, std::size(program), nullptr));
    auto interface = interface_of(where, "eth0");
    where.run([&] {
        LIBBPF_OPTS(bpf_tc_hook, place, .ifindex = static_cast<int>(interface.index),
                    .attach_point = BPF_TC_INGRESS);
        LIBBPF_OPTS(bpf_tc_opts, filter, .prog_fd = foreign.get(), .handle = place_number,
                    .priority = place_number);
        bpf_tc_hook_create(&place);
        REQUIRE(bpf_tc_attach(&place, &filter) == 0);
    });
    return foreign;
}

TEST_CASE("[T-13] what was left as a filter goes also when the next one has links") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Both other(wire.host, 9001, answer("other"));
    hook_and_die(wire.host, HookKind::clsact);
    REQUIRE(filters(wire.host, "egress").size() == 1);
    Door door(wire.host);
    door.hook("eth0", HookKind::tcx);
    door.map(8000, 9001);
    CHECK(from_client(wire, "198.51.100.1:8000") == "other");
    CHECK_FALSE(has_clsact(wire.host));
}

TEST_CASE("word of interfaces that is lost is told to be lost, and the list is whole") {
    NEEDS_KERNEL_ACCESS();
    auto host = Namespace::create();
    std::optional<kernel::Interfaces> interfaces;
    host.run([&] { interfaces = value_of(kernel::Interfaces::open()); });
    CHECK(value_of(interfaces->list()).empty());
    CHECK_FALSE(interfaces->read_news().is_any);
    // More than a socket keeps that nobody reads.
    sh(host,
       "for i in $(seq 80); do ip link add a$i type veth peer name b$i; ip link del a$i; done");
    sh(host, "ip link add stays type veth peer name stays2");
    auto news = interfaces->read_news();
    CHECK(news.is_any);
    CHECK(news.is_cut);
    CHECK_FALSE(news.gone.empty());
    CHECK_FALSE(interfaces->read_news().is_any);
    std::set<std::string> names;
    for (const auto& one : value_of(interfaces->list())) names.insert(one.name);
    CHECK(names == std::set<std::string>{"stays", "stays2"});
    sh(host, "ip link del stays");
    CHECK(interfaces->read_news().gone.size() == 2);
}

TEST_CASE("what stands in our place and is not ours is left there, and said") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    auto foreign = add_foreign_filter(wire.host, 0x2035, TC_ACT_UNSPEC);
    auto interface = interface_of(wire.host, "eth0");
    wire.host.run([&] {
        auto program = value_of(IngressProgram::load(1024));
        auto hook = program.hook(interface, HookKind::clsact);
        REQUIRE_FALSE(hook);
        CHECK(hook.error().text().find("\"somebody_elses\"") != std::string::npos);
    });
    CHECK(filters(wire.host, "ingress").size() == 1);
    CHECK(filters(wire.host, "egress").empty());
}

TEST_CASE("a second proxify finds the door held") {
    NEEDS_KERNEL_ACCESS();
    Wire wire;
    Door door(wire.host);
    wire.host.run([] {
        auto second = value_of(IngressProgram::load(1024)).open_door();
        REQUIRE_FALSE(second);
        CHECK(second.error().text().find("captures incoming connections") != std::string::npos);
    });
    wire.client.run([] { value_of(value_of(IngressProgram::load(1024)).open_door()); });
}

TEST_CASE("an interface that vanishes while it is hooked is no error") {
    NEEDS_KERNEL_ACCESS();
    for (HookKind kind : kinds) {
        Wire wire;
        Door door(wire.host);
        auto interface = interface_of(wire.host, "eth0");
        door.hook("eth0", kind);
        sh(wire.host, "ip link del eth0");
        wire.host.run([&] { CHECK_FALSE(door.hooks.front().is_there()); });
        wire.host.run([&] { CHECK_FALSE(value_of(door.program.hook(interface, kind))); });
    }
}

TEST_CASE("the filters of others have the packet next") {
    NEEDS_KERNEL_ACCESS();
    for (HookKind kind : kinds) {
        Wire wire;
        Both proxy(wire.host, 9000, answer("proxy"));
        Door door(wire.host);
        door.hook("eth0", kind);
        door.map(8000, 9000);
        CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
        // Theirs stands behind ours and drops everything.
        auto foreign = add_foreign_filter(wire.host, 60000, TC_ACT_SHOT);
        CHECK(answered_by(wire.client, "198.51.100.1:8000", {.limit = 700ms}) != "proxy");
    }
}

// ---- frames

namespace {

using Bytes = std::vector<uint8_t>;

void append(Bytes& to, const Bytes& more) {
    to.insert(to.end(), more.begin(), more.end());
}

void append16(Bytes& to, uint16_t value) {
    to.push_back(static_cast<uint8_t>(value >> 8));
    to.push_back(static_cast<uint8_t>(value));
}

uint16_t read16(const Bytes& from, size_t at) {
    return static_cast<uint16_t>(from[at] << 8 | from[at + 1]);
}

uint32_t sum16(const Bytes& bytes, size_t first, size_t count) {
    uint32_t sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += static_cast<uint32_t>(bytes[first + i]) << (i % 2 == 0 ? 8 : 0);
    return sum;
}

/// What a frame has beside a TCP header to a port.
struct Frame {
    const char* name;
    bool is_v6 = false;
    std::vector<uint16_t> tags = {};       ///< 0x8100 or 0x88a8, outer first
    int option_words = 0;                  ///< of the IPv4 header
    std::vector<uint8_t> extensions = {};  ///< numbers of IPv6 extension headers
    uint16_t fragment = 0;
    uint8_t protocol = IPPROTO_TCP;
    bool is_taken = true;

    uint8_t flags = 2;  ///< SYN
    uint16_t from_port = 5000, to_port = 8000;
    bool is_answer = false;  ///< it goes from the host to the client
};

struct Made {
    Bytes bytes;
    size_t addresses, addresses_size, tcp;
    bool has_right_checksum() const {
        uint32_t length = static_cast<uint32_t>(bytes.size() - tcp);
        uint32_t sum = sum16(bytes, addresses, addresses_size) + length + IPPROTO_TCP +
                       sum16(bytes, tcp, length);
        while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
        return sum == 0xffff;
    }
};

Made make(const Frame& frame) {
    Made made;
    auto& bytes = made.bytes;
    bytes.assign(12, 0);  // loopback, which BPF_PROG_RUN uses, has only zeros in its address
    for (uint16_t tag : frame.tags) {
        append16(bytes, tag);
        append16(bytes, 100);
    }
    append16(bytes, frame.is_v6 ? 0x86dd : 0x0800);
    const Bytes payload = {'o', 'd', 'd'};
    auto text = [&](const char* address) {
        Bytes out(frame.is_v6 ? 16 : 4);
        REQUIRE(inet_pton(frame.is_v6 ? AF_INET6 : AF_INET, address, out.data()) == 1);
        return out;
    };
    auto client = text(frame.is_v6 ? "2001:db8::7" : "198.51.100.7");
    auto host = text(frame.is_v6 ? "2001:db8::1" : "198.51.100.1");
    if (frame.is_answer) std::swap(client, host);
    if (frame.is_v6) {
        auto next = [&](size_t i) {
            return i < frame.extensions.size() ? frame.extensions[i] : frame.protocol;
        };
        append(bytes, {0x60, 0, 0, 0});
        append16(bytes, static_cast<uint16_t>(8 * frame.extensions.size() + 20 + payload.size()));
        append(bytes, {next(0), 64});
        made.addresses = bytes.size();
        append(bytes, client);
        append(bytes, host);
        for (size_t i = 0; i < frame.extensions.size(); ++i)
            append(bytes, {next(i + 1), 0, 1, 4, 0, 0, 0, 0});
    } else {
        auto words = static_cast<uint8_t>(5 + frame.option_words);
        append(bytes, {static_cast<uint8_t>(0x40 | words), 0});
        append16(bytes, static_cast<uint16_t>(words * 4 + 20 + payload.size()));
        append(bytes, {0, 1});
        append16(bytes, frame.fragment);
        append(bytes, {64, frame.protocol, 0, 0});
        made.addresses = bytes.size();
        append(bytes, client);
        append(bytes, host);
        for (int i = 0; i < frame.option_words; ++i) append(bytes, {1, 1, 1, 0});
    }
    made.addresses_size = frame.is_v6 ? 32 : 8;
    made.tcp = bytes.size();
    append16(bytes, frame.from_port);
    append16(bytes, frame.to_port);
    append(bytes, {0, 0, 0, 7, 0, 0, 0, 0, 0x50, frame.flags, 0x10, 0, 0, 0, 0, 0});
    append(bytes, payload);
    // The checksum is what makes the sum of all come out right.
    uint32_t length = static_cast<uint32_t>(bytes.size() - made.tcp);
    uint32_t sum = sum16(bytes, made.addresses, made.addresses_size) + length + IPPROTO_TCP +
                   sum16(bytes, made.tcp, length);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    bytes[made.tcp + 16] = static_cast<uint8_t>(~sum >> 8);
    bytes[made.tcp + 17] = static_cast<uint8_t>(~sum);
    return made;
}

/// What the program makes of a frame, and its verdict.
std::pair<Bytes, int> run_program(int program, const Bytes& frame) {
    Bytes out(frame.size() + 64);
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(), .data_out = out.data(),
                .data_size_in = static_cast<uint32_t>(frame.size()),
                .data_size_out = static_cast<uint32_t>(out.size()));
    REQUIRE(bpf_prog_test_run_opts(program, &run) == 0);
    out.resize(run.data_size_out);
    return {out, static_cast<int>(run.retval)};
}

}  // namespace

TEST_CASE("[T-15] IP options, VLAN tags and extension headers are read; fragments and UDP pass") {
    NEEDS_KERNEL_ACCESS();
    const Frame frames[] = {
        {.name = "plain"},
        {.name = "one word of IP options", .option_words = 1},
        {.name = "all IP options there can be", .option_words = 10},
        {.name = "a VLAN tag", .tags = {0x8100}},
        {.name = "two VLAN tags, with IP options", .tags = {0x88a8, 0x8100}, .option_words = 3},
        {.name = "three VLAN tags", .tags = {0x88a8, 0x8100, 0x8100}, .is_taken = false},
        {.name = "IPv6", .is_v6 = true},
        {.name = "IPv6 in a VLAN", .is_v6 = true, .tags = {0x8100}},
        {.name = "IPv6 with extension headers",
         .is_v6 = true,
         .extensions = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING}},
        {.name = "more extension headers than are read",
         .is_v6 = true,
         .extensions = Bytes(6, IPPROTO_DSTOPTS),
         .is_taken = false},
        {.name = "an IPv6 fragment",
         .is_v6 = true,
         .extensions = {IPPROTO_FRAGMENT},
         .is_taken = false},
        {.name = "the first fragment", .fragment = 0x2000, .is_taken = false},
        {.name = "a later fragment", .fragment = 0x0010, .is_taken = false},
        {.name = "must not be fragmented", .fragment = 0x4000},
        {.name = "UDP", .protocol = IPPROTO_UDP, .is_taken = false},
    };
    auto here = Namespace::create();
    for (const Frame& frame : frames) {
        INFO(frame.name);
        here.run([&] {
            auto program = value_of(IngressProgram::load(64));
            value_of(program.set_port(9000, {.has_answers = true}));
            value_of(program.set_port(8000, {.to_port = 9000, .has_flows = true}));
            auto syn = make(frame);
            REQUIRE(syn.has_right_checksum());
            auto [came, verdict] = run_program(program.ingress_fd(), syn.bytes);
            CHECK(verdict == TC_ACT_UNSPEC);
            Frame answer = frame;
            answer.is_answer = true;
            answer.flags = 0x12;
            std::tie(answer.from_port, answer.to_port) = std::pair(9000, 5000);
            auto back = make(answer);
            auto [went, verdict_out] = run_program(program.egress_fd(), back.bytes);
            CHECK(verdict_out == TC_ACT_UNSPEC);
            if (!frame.is_taken) {
                CHECK(came == syn.bytes);
                CHECK(went == back.bytes);
                return;
            }
            // Nothing but the port and the checksum has changed.
            Frame expected = frame;
            expected.to_port = 9000;
            CHECK(came == make(expected).bytes);
            Frame expected_back = answer;
            expected_back.from_port = 8000;
            CHECK(went == make(expected_back).bytes);
        });
    }
}

namespace {

/// An ICMP error that comes in, about what the host has sent. No more is quoted than eight bytes of
/// the TCP header, which is the least there may be.
Made make_error(Frame outer, uint8_t type, Frame quoted) {
    quoted.is_v6 = outer.is_v6;
    quoted.is_answer = true;
    outer.protocol = static_cast<uint8_t>(outer.is_v6 ? 58 : 1);  // ICMPv6, ICMP
    auto made = make(outer);
    auto& bytes = made.bytes;
    bytes.resize(made.tcp);
    append(bytes, {type, 4, 0, 0, 0, 0, 5, 0});
    auto about = make(quoted);
    bytes.insert(bytes.end(), about.bytes.begin() + 14,
                 about.bytes.begin() + static_cast<long>(about.tcp) + 8);
    uint32_t length = static_cast<uint32_t>(bytes.size() - made.tcp);
    uint32_t sum = sum16(bytes, made.tcp, length);
    if (outer.is_v6)
        sum += sum16(bytes, made.addresses, made.addresses_size) + length + IPPROTO_ICMPV6;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    bytes[made.tcp + 2] = static_cast<uint8_t>(~sum >> 8);
    bytes[made.tcp + 3] = static_cast<uint8_t>(~sum);
    return made;
}

}  // namespace

TEST_CASE("an ICMP error about an answer of a flow quotes the other port afterwards") {
    NEEDS_KERNEL_ACCESS();
    const Frame of_flow{.name = "", .from_port = 8000, .to_port = 5000};
    const Frame with_options{.name = "", .option_words = 2, .from_port = 8000, .to_port = 5000};
    const Frame with_extensions{.name = "",
                                .extensions = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS},
                                .from_port = 8000,
                                .to_port = 5000};
    const Frame of_direct{.name = "", .from_port = 9000, .to_port = 5000};
    const Frame of_other{.name = "", .from_port = 8000, .to_port = 5001};
    const Frame of_udp{.name = "", .protocol = IPPROTO_UDP, .from_port = 8000, .to_port = 5000};
    const struct {
        const char* name;
        Frame outer;
        uint8_t type;
        Frame quoted;
        bool is_taken = true;
    } rows[] = {
        {"unreachable", {.name = ""}, 3, of_flow},
        {"behind IP options and VLAN tags",
         {.name = "", .tags = {0x88a8, 0x8100}, .option_words = 10},
         3,
         with_options},
        {"a redirect", {.name = ""}, 5, of_flow},
        {"time exceeded", {.name = ""}, 11, of_flow},
        {"an answer to ping", {.name = ""}, 0, of_flow, false},
        {"ICMPv6's number of a type that ICMP has not", {.name = ""}, 2, of_flow, false},
        {"a direct connection", {.name = ""}, 3, of_direct, false},
        {"a connection that is no flow", {.name = ""}, 3, of_other, false},
        {"UDP", {.name = ""}, 3, of_udp, false},
        {"a fragment", {.name = "", .fragment = 0x2000}, 3, of_flow, false},
        {"IPv6, unreachable", {.name = "", .is_v6 = true}, 1, of_flow},
        {"IPv6, too big", {.name = "", .is_v6 = true}, 2, of_flow},
        {"IPv6, time exceeded, with extension headers",
         {.name = "", .is_v6 = true, .extensions = {IPPROTO_DSTOPTS}},
         3,
         with_extensions},
        {"IPv6, a neighbour", {.name = "", .is_v6 = true}, 136, of_flow, false},
        {"IPv6, a connection that is no flow", {.name = "", .is_v6 = true}, 2, of_other, false},
    };
    auto here = Namespace::create();
    for (const auto& row : rows) {
        INFO(row.name);
        here.run([&] {
            auto program = value_of(IngressProgram::load(64));
            value_of(program.set_port(9000, {.has_answers = true}));
            value_of(program.set_port(8000, {.to_port = 9000, .has_flows = true}));
            run_program(program.ingress_fd(), make({.name = "", .is_v6 = row.outer.is_v6}).bytes);
            REQUIRE(counted(program)["flows"] == 1);
            auto error = make_error(row.outer, row.type, row.quoted);
            auto [came, verdict] = run_program(program.ingress_fd(), error.bytes);
            CHECK(verdict == TC_ACT_UNSPEC);
            Frame expected = row.quoted;
            if (row.is_taken) expected.from_port = 9000;
            auto wanted = make_error(row.outer, row.type, expected).bytes;
            CHECK(came == wanted);
            CHECK(counted(program)["rewritten_error"] == (row.is_taken ? 1 : 0));
            // One that is cut short is left as it is.
            for (size_t size = error.tcp; size < error.bytes.size() - 4; ++size) {
                Bytes cut(error.bytes.begin(), error.bytes.begin() + static_cast<long>(size));
                auto [left, cut_verdict] = run_program(program.ingress_fd(), cut);
                if (left != cut || cut_verdict != TC_ACT_UNSPEC) FAIL("cut to " << size);
                (void)left;
            }
            // What this host sends itself is none of this.
            CHECK(run_program(program.egress_fd(), error.bytes).first == error.bytes);
        });
    }
}

TEST_CASE("frames that are cut short anywhere are passed on as they are") {
    NEEDS_KERNEL_ACCESS();
    auto here = Namespace::create();
    here.run([&] {
        auto program = value_of(IngressProgram::load(64));
        value_of(program.set_port(9000, {.has_answers = true}));
        value_of(program.set_port(8000, {.to_port = 9000, .has_flows = true}));
        for (bool is_v6 : {false, true}) {
            auto whole = make({.name = "", .is_v6 = is_v6, .tags = {0x8100}});
            for (size_t size = 14; size < whole.tcp + 14; ++size) {
                Bytes cut(whole.bytes.begin(), whole.bytes.begin() + static_cast<long>(size));
                LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = cut.data(),
                            .data_size_in = static_cast<uint32_t>(cut.size()));
                // The kernel itself does not run some that are very short.
                if (bpf_prog_test_run_opts(program.ingress_fd(), &run) == 0)
                    CHECK(static_cast<int>(run.retval) == TC_ACT_UNSPEC);
            }
        }
        CHECK(counted(program).empty());
    });
}

TEST_CASE("a frame for somebody else on the same wire is not taken") {
    NEEDS_KERNEL_ACCESS();
    auto here = Namespace::create();
    here.run([&] {
        auto program = value_of(IngressProgram::load(64));
        value_of(program.set_port(8000, {.to_port = 9000, .has_flows = true}));
        auto syn = make({.name = ""});
        syn.bytes[5] = 7;  // of the Ethernet address
        CHECK(run_program(program.ingress_fd(), syn.bytes).first == syn.bytes);
        CHECK(counted(program).empty());
    });
}

TEST_CASE("an interface without Ethernet headers is captured as well") {
    NEEDS_KERNEL_ACCESS();
    auto host = Namespace::create();
    Fd tun;
    host.run([&] {
        tun = Fd::adopt(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
        ifreq request{};
        std::strcpy(request.ifr_name, "eth0");
        request.ifr_flags = IFF_TUN | IFF_NO_PI;
        if (tun) REQUIRE(ioctl(tun.get(), TUNSETIFF, &request) == 0);
    });
    if (!tun) SKIP_TEST("needs /dev/net/tun");
    sh(host,
       "ip addr add 198.51.100.1/24 dev eth0 && ip addr add 2001:db8::1/64 dev eth0 nodad && "
       "ip link set eth0 up");
    Both proxy(host, 9000, answer("proxy"));
    uint16_t client_port = 5000;  // another one each time: what was left half-open goes on talking
    for (HookKind kind : kinds) {
        Door door(host);
        CHECK_FALSE(interface_of(host, "eth0").has_ethernet);
        door.hook("eth0", kind);
        door.map(8000, 9000);
        for (bool is_v6 : {false, true}) {
            auto syn = make({.name = "", .is_v6 = is_v6, .from_port = ++client_port});
            // The kernel looks at the checksum of the IPv4 header.
            if (!is_v6) {
                uint32_t sum = sum16(syn.bytes, 14, 20);
                while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
                syn.bytes[24] = static_cast<uint8_t>(~sum >> 8);
                syn.bytes[25] = static_cast<uint8_t>(~sum);
            }
            REQUIRE(write(tun.get(), syn.bytes.data() + 14, syn.bytes.size() - 14) > 0);
            uint16_t answered_from = 0;
            CHECK(eventually([&] {
                Bytes packet(2000);
                ssize_t size = read(tun.get(), packet.data(), packet.size());
                size_t tcp = is_v6 ? 40 : 20;
                if (size < static_cast<ssize_t>(tcp + 20)) return false;
                if (packet[is_v6 ? 6 : 9] != IPPROTO_TCP) return false;
                if (read16(packet, tcp + 2) != client_port) return false;
                answered_from = read16(packet, tcp);
                return true;
            }));
            CHECK(answered_from == 8000);
        }
    }
}
