// SPDX-License-Identifier: Apache-2.0
// The steering program in the kernel, met by real clients in a namespace of its own.
#include "kernel/steering_program.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "kernel/host.h"
#include "support/process.h"

using namespace proxify;
using namespace proxify::test;
using kernel::SteeringProgram;

namespace {

using Ports = std::vector<uint16_t>;

SteeringProgram steer_to(const Host& host, const Ports& ports) {
    auto program = value_of(SteeringProgram::load());
    value_of(program.set_listener(host.listener.get()));
    value_of(program.add_ports(ports));
    host.inside.run([&] { value_of(program.attach()); });
    return program;
}

/// The counters that are not zero.
std::map<std::string_view, uint64_t> counted(const SteeringProgram& program) {
    std::map<std::string_view, uint64_t> out;
    for (const auto& counter : value_of(program.counters()))
        if (counter.value > 0) out[counter.name] = counter.value;
    return out;
}

using Counted = std::map<std::string_view, uint64_t>;

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a port in proxy_ports leads to the listener, at every address and for both families") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    host.inside.add_address("198.51.100.7/32");
    auto program = steer_to(host, {5001});
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(landing(host, "[::1]:5001") == "listener");
    CHECK(landing(host, "198.51.100.7:5001") == "listener");
    CHECK(counted(program) == Counted{{"steered", 3}});
}

TEST_CASE("a port that is not in proxy_ports is left alone") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto local = listen_at(host.inside, "127.0.0.1:5002");
    auto program = steer_to(host, {5001});
    CHECK(landing(host, "127.0.0.1:5002", local) == "local");
    CHECK(landing(host, "127.0.0.1:5003") == "refused");
    CHECK(landing(host, "127.0.0.1:8080") == "listener");
    CHECK(counted(program).empty());
}

TEST_CASE("the ports just below and just above a range are not in it") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = steer_to(host, {5100, 5101, 5102});
    for (const char* port : {"5100", "5101", "5102"})
        CHECK(landing(host, std::string("127.0.0.1:") + port) == "listener");
    CHECK(landing(host, "127.0.0.1:5099") == "refused");
    CHECK(landing(host, "127.0.0.1:5103") == "refused");
}

TEST_CASE("a steered port overrides a local listener, which answers again afterwards") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto local = listen_at(host.inside, "127.0.0.1:5001");
    auto program = steer_to(host, {5001});
    CHECK(landing(host, "127.0.0.1:5001", local) == "listener");
    value_of(program.remove_ports(Ports{5001}));
    CHECK(landing(host, "127.0.0.1:5001", local) == "local");
}

TEST_CASE("ports open and close at once, and connections through them live on") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = steer_to(host, {});
    CHECK(landing(host, "127.0.0.1:5001") == "refused");

    value_of(program.add_ports(Ports{5001}));
    auto client = Stream::dial(host.inside, "127.0.0.1:5001");
    auto server = Stream::adopt(Fd::adopt(accept4(host.listener.get(), nullptr, nullptr, 0)));

    value_of(program.remove_ports(Ports{5001}));
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
    client.send("still here");
    CHECK(server.receive_exactly(10) == "still here");
}

TEST_CASE("UDP on a configured port is untouched") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = steer_to(host, {5001});
    host.inside.run([] {
        auto server = Fd::adopt(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        auto client = Fd::adopt(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_storage at{};
        socklen_t size = Address::parse("127.0.0.1:5001")->to_sockaddr(at);
        REQUIRE(bind(server.get(), reinterpret_cast<sockaddr*>(&at), size) == 0);
        REQUIRE(sendto(client.get(), "hello", 5, 0, reinterpret_cast<sockaddr*>(&at), size) == 5);
        pollfd ready{.fd = server.get(), .events = POLLIN};
        CHECK(poll(&ready, 1, 2000) == 1);
    });
    CHECK(counted(program).empty());
}

TEST_CASE("a guarded dial meets the local listener, and only while it is guarded") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = steer_to(host, {5001});
    struct Row {
        const char *target, *guarded, *other_port, *other_address, *afterwards;
    };
    const Row rows[] = {
        {"127.0.0.1:5001", "127.0.0.1:5901", "127.0.0.1:5902", "127.0.0.2:5901", "127.0.0.1:5903"},
        {"[::1]:5001", "[::1]:5901", "[::1]:5902", "[2001:db8::7]:5901", "[::1]:5903"},
    };
    host.inside.add_address("2001:db8::7/128");
    for (const auto& row : rows) {
        auto local = listen_at(host.inside, row.target);
        REQUIRE(program.guard_dial(*Address::parse(row.guarded)));
        CHECK(landing(host, row.target, local, row.other_port) == "listener");
        CHECK(landing(host, row.target, local, row.other_address) == "listener");
        CHECK(landing(host, row.target, local, row.guarded) == "local");
        program.unguard_dial(*Address::parse(row.guarded));
        CHECK(landing(host, row.target, local, row.afterwards) == "listener");
    }
    CHECK(counted(program)["passed_own_dial"] == 2);
}

TEST_CASE("when the listener is gone, clients are refused or find the local listener") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto local = listen_at(host.inside, "127.0.0.1:5002");
    auto program = steer_to(host, {5001, 5002});
    host.listener.close();
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
    CHECK(landing(host, "127.0.0.1:5002", local) == "local");
    CHECK(counted(program) == Counted{{"passed_no_listener", 2}});
}

TEST_CASE("a listener that was shut down does not swallow clients either") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = steer_to(host, {5001});
    REQUIRE(shutdown(host.listener.get(), SHUT_RDWR) == 0);
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
}

TEST_CASE("after detach nothing is steered, and the maps are still there") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = steer_to(host, {5001});
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    program.detach();
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
    CHECK(program.has_port(5001));
    CHECK(value_of(program.ids()).link == 0);
    host.inside.run([&] { value_of(program.attach()); });
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
}

TEST_CASE("the end of the object ends the steering") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    {
        auto first = steer_to(host, {5001});
        auto moved = std::move(first);
        CHECK(landing(host, "127.0.0.1:5001") == "listener");
    }
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
}

TEST_CASE("another namespace is not steered") {
    NEEDS_KERNEL_ACCESS();
    Host host, neighbour;
    auto program = steer_to(host, {5001});
    CHECK(landing(neighbour, "127.0.0.1:5001") == "refused");
}

TEST_CASE("a socket that does not listen is no listener, and the error says so") {
    NEEDS_KERNEL_ACCESS();
    auto program = value_of(SteeringProgram::load());
    auto socket = Fd::adopt(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto result = program.set_listener(socket.get());
    REQUIRE_FALSE(result);
    INFO(result.error().text());
    CHECK(contains(result.error().text(), "has to be a TCP socket that listens"));
}

TEST_CASE("an IPv4-only listener serves IPv4 and leaves IPv6 clients to be refused") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    host.listener = listen_at(host.inside, "0.0.0.0:8081");
    auto program = steer_to(host, {5001});
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(landing(host, "[::1]:5001") == "refused");
    CHECK(counted(program) == Counted{{"passed_other_family", 1}, {"steered", 1}});
}

TEST_CASE("of two programs the one attached first serves, and the other counts that") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto local = listen_at(host.inside, "127.0.0.1:5002");
    auto first = steer_to(host, {5001});
    auto second = value_of(SteeringProgram::load());
    value_of(second.set_listener(local.get()));
    value_of(second.add_ports(Ports{5001}));
    host.inside.run([&] { value_of(second.attach()); });
    CHECK(landing(host, "127.0.0.1:5001", local) == "listener");
    CHECK(counted(second) == Counted{{"passed_already_selected", 1}});
}

TEST_CASE("the map gives back its ports sorted, and removing what is gone is no error") {
    NEEDS_KERNEL_ACCESS();
    auto program = value_of(SteeringProgram::load());
    CHECK(value_of(program.ports()).empty());
    value_of(program.add_ports({}));
    value_of(program.add_ports(Ports{65535, 1, 443, 256, 80}));
    value_of(program.add_ports(Ports{443, 8443}));
    CHECK(value_of(program.ports()) == Ports{1, 80, 256, 443, 8443, 65535});

    value_of(program.remove_ports(Ports{2, 1, 3, 4, 443, 5}));
    value_of(program.remove_ports({}));
    CHECK(value_of(program.ports()) == Ports{80, 256, 8443, 65535});
    CHECK(program.has_port(80));
    CHECK_FALSE(program.has_port(443));
    value_of(program.remove_ports(Ports{8443, 65535, 80, 256}));
    CHECK(value_of(program.ports()).empty());
}

TEST_CASE("every port there is fits, and 60 000 are loaded in one call") {
    NEEDS_KERNEL_ACCESS();
    auto program = value_of(SteeringProgram::load());
    Ports ports;
    for (int port = 1; port <= 65535; ++port) ports.push_back(static_cast<uint16_t>(port));

    auto started = now();
    value_of(program.add_ports(std::span(ports).first(60000)));
    auto added = now();
    auto all = value_of(program.ports());
    auto read = now();
    auto millis = [](auto duration) {
        return std::chrono::duration<double, std::milli>(duration).count();
    };
    std::printf("60000 ports: added in %.1f ms, read in %.1f ms\n", millis(added - started),
                millis(read - added));
    CHECK(std::ranges::equal(all, std::span(ports).first(60000)));

    value_of(program.add_ports(ports));
    CHECK(value_of(program.ports()) == ports);
    value_of(program.remove_ports(ports));
    CHECK(value_of(program.ports()).empty());
}

TEST_CASE("bpftool map update opens a port at once, and delete closes it") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = steer_to(host, {5001});
    auto bpftool = [&](const std::string& words) {
        auto id = std::to_string(value_of(program.ids()).proxy_ports);
        auto done = run_line(host.inside,
                             "bpftool map " + words.substr(0, 6) + " id " + id + words.substr(6));
        INFO(words << ": " << done.err);
        CHECK(done.exit_code == 0);
        return done.out;
    };
    bpftool("update key 0x07 0x00 value 0x00");
    CHECK(program.has_port(7));
    CHECK(landing(host, "127.0.0.1:7") == "listener");
    bpftool("delete key 0x89 0x13");  // 5001 is 0x1389
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
    bpftool("delete key 0x07 0x00");
    CHECK(landing(host, "127.0.0.1:7") == "refused");
    CHECK(value_of(program.ports()).empty());
}

TEST_CASE("bpftool shows the link, the program and the maps under the ids and names we tell") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = steer_to(host, {5001});
    auto ids = value_of(program.ids());
    auto shown = [&](const std::string& kind, uint32_t id) {
        return run_line(host.inside, "bpftool -j " + kind + " show id " + std::to_string(id)).out;
    };
    auto link = shown("link", ids.link);
    INFO(link);
    CHECK(contains(link, "\"type\":\"netns\""));
    CHECK(contains(link, "\"prog_id\":" + std::to_string(ids.program) + ","));
    CHECK(contains(link, "\"netns_ino\":" + std::to_string(host.inside.inode()) + ","));
    CHECK(contains(shown("prog", ids.program), "\"name\":\"proxify_steer\""));
    CHECK(contains(shown("map", ids.proxy_sock), "\"name\":\"proxy_sock\""));
    auto ports = shown("map", ids.proxy_ports);
    INFO(ports);
    CHECK(contains(ports, "\"name\":\"proxy_ports\""));
    CHECK(contains(ports, "\"bytes_key\":2,\"bytes_value\":1,\"max_entries\":65536"));
}

TEST_CASE("one lookup at a time, through BPF_PROG_RUN") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto program = value_of(SteeringProgram::load());
    value_of(program.set_listener(host.listener.get()));
    value_of(program.add_ports(Ports{5001}));
    REQUIRE(program.guard_dial(*Address::parse("10.0.0.7:40000")));
    REQUIRE(program.guard_dial(*Address::parse("[2001:db8::7]:40000")));

    struct Row {
        const char* claim;
        uint32_t protocol;
        const char* source;
        uint32_t port;
        bool selected;
    };
    const Row rows[] = {
        {"TCP to a steered port", IPPROTO_TCP, "10.0.0.7:39999", 5001, true},
        {"the same over IPv6", IPPROTO_TCP, "[2001:db8::7]:39999", 5001, true},
        {"UDP to a steered port", IPPROTO_UDP, "10.0.0.7:39999", 5001, false},
        {"one port below", IPPROTO_TCP, "10.0.0.7:39999", 5000, false},
        {"one port above", IPPROTO_TCP, "10.0.0.7:39999", 5002, false},
        {"the port with its bytes swapped", IPPROTO_TCP, "10.0.0.7:39999", 0x8913, false},
        {"an own dial", IPPROTO_TCP, "10.0.0.7:40000", 5001, false},
        {"an own dial over IPv6", IPPROTO_TCP, "[2001:db8::7]:40000", 5001, false},
        {"an own dial's port at another address", IPPROTO_TCP, "10.0.0.8:40000", 5001, true},
    };
    for (const auto& row : rows) {
        INFO(row.claim);
        auto source = *Address::parse(row.source);
        bpf_sk_lookup lookup{};
        lookup.family = source.ip.is_v4 ? AF_INET : AF_INET6;
        lookup.protocol = row.protocol;
        lookup.remote_port = htons(source.port);
        lookup.local_port = row.port;
        if (source.ip.is_v4)
            std::memcpy(&lookup.remote_ip4, source.ip.bytes.data(), 4);
        else
            std::memcpy(lookup.remote_ip6, source.ip.bytes.data(), 16);
        LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &lookup, .ctx_out = &lookup,
                    .ctx_size_in = sizeof lookup, .ctx_size_out = sizeof lookup);
        REQUIRE(bpf_prog_test_run_opts(program.program_fd(), &run) == 0);
        CHECK(run.retval == SK_PASS);
        CHECK((lookup.cookie != 0) == row.selected);
    }
}

TEST_CASE("an explanation says what each SYN would meet, and leaves no trace") {
    NEEDS_KERNEL_ACCESS();
    using kernel::Landing;
    using kernel::Verdict;
    Host host;
    host.inside.add_address("203.0.113.9/32");
    auto program = steer_to(host, {5001, 5002, 5003, 5004, 5005, 5006, 5007});
    const std::vector<kernel::ServiceEntry> services{
        {.number = 0},
        {.number = 1},
        {.number = 2, .present = Verdict::refuse},
        {.number = 3, .present = Verdict::drop},
        {.number = 4, .present = Verdict::pass},
        {.number = 5, .on_deny = Verdict::drop},
        {.number = 6, .rate = 2},
    };
    value_of(program.set_services(0, services));
    std::vector<kernel::PortEntry> ports;
    for (uint16_t service = 1; service <= 6; ++service)
        ports.push_back({.service = service, .counted = true});
    ports.push_back({.by_address = true});
    value_of(program.set_ports(5001, ports));
    const auto here = *Prefix::parse("203.0.113.9");
    value_of(program.add_addresses(
        std::vector<kernel::AddressEntry>{{.port = 5007, .prefix = here, .service = 1}}));
    value_of(program.set_lists(std::vector<kernel::AccessList>{
        {.service = 0, .prefixes = {{*Prefix::parse("198.51.100.66"), true}}},
        {.service = 5, .prefixes = {{*Prefix::parse("198.51.100.0/24"), true}}}}));
    host.inside.run([&] { value_of(program.open_sink(8999)); });
    for (uint16_t service = 0; service <= 6; ++service)
        value_of(program.count_service(service, true));
    REQUIRE(program.guard_dial(*Address::parse("127.0.0.1:5901")));

    // The source that has used up its rate.
    for (int i = 0; i < 2; ++i)
        CHECK(landing(host, "127.0.0.1:5006", Fd(), "127.0.0.3:" + std::to_string(5910 + i)) ==
              "listener");
    const auto before = counted(program);
    const auto counts_before = value_of(program.port_counts());

    struct Row {
        const char *client, *destination, *outcome;
        int service;
        Landing landing;
    };
    const Row rows[] = {
        {"127.0.0.1:5900", "127.0.0.1:5001", "steered", 1, Landing::listener},
        {"[::1]:5900", "[::1]:5001", "steered", 1, Landing::listener},
        {"127.0.0.1:5900", "127.0.0.1:5000", "not_ours", 0, Landing::host},
        {"127.0.0.1:5901", "127.0.0.1:5001", "passed_own_dial", 1, Landing::host},
        {"198.51.100.66:5900", "127.0.0.1:5001", "denied", 1, Landing::nowhere},
        {"198.51.100.67:5900", "127.0.0.1:5001", "steered", 1, Landing::listener},
        {"198.51.100.67:5900", "127.0.0.1:5005", "denied", 5, Landing::sink},
        {"127.0.0.1:5900", "127.0.0.1:5002", "refused_down", 2, Landing::nowhere},
        {"127.0.0.1:5900", "127.0.0.1:5003", "dropped_down", 3, Landing::sink},
        {"127.0.0.1:5900", "127.0.0.1:5004", "passed_down", 4, Landing::host},
        {"127.0.0.3:5900", "127.0.0.1:5006", "limited", 6, Landing::nowhere},
        {"127.0.0.4:5900", "127.0.0.1:5006", "steered", 6, Landing::listener},
        // It was let in a moment ago, and this may be the ACK that answers a SYN cookie.
        {"127.0.0.3:5911", "127.0.0.1:5006", "steered", 6, Landing::listener},
        {"127.0.0.1:5900", "203.0.113.9:5007", "steered", 1, Landing::listener},
        {"127.0.0.1:5900", "127.0.0.1:5007", "passed_other_address", 0, Landing::host},
    };
    for (int turn = 0; turn < 3; ++turn)
        for (const auto& row : rows) {
            INFO(row.client << " to " << row.destination);
            auto explained = value_of(
                program.explain(*Address::parse(row.client), *Address::parse(row.destination)));
            CHECK(explained.outcome == row.outcome);
            CHECK(explained.service == row.service);
            CHECK(explained.landing == row.landing);
        }
    CHECK(counted(program) == before);
    CHECK(value_of(program.port_counts()) == counts_before);
    // It has its whole rate still.
    for (int i = 0; i < 2; ++i) {
        const auto from = "127.0.0.4:" + std::to_string(5920 + i);
        CHECK(landing(host, "127.0.0.1:5006", Fd(), from) == "listener");
    }
    CHECK(landing(host, "127.0.0.1:5006", Fd(), "127.0.0.4:5922") == "refused");

    CHECK_FALSE(program.explain(*Address::parse("127.0.0.1:1"), *Address::parse("[::1]:5001")));
    host.listener.close();
    auto gone = value_of(
        program.explain(*Address::parse("127.0.0.1:5900"), *Address::parse("127.0.0.1:5001")));
    CHECK(gone.outcome == "passed_no_listener");
    CHECK(gone.landing == Landing::host);
}

TEST_CASE("a listener that stands for a group is explained as well") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    host.inside.run([&] {
        host.listener = Fd::adopt(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        const int on = 1;
        setsockopt(host.listener.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        sockaddr_in6 at{.sin6_family = AF_INET6, .sin6_port = htons(8081)};
        REQUIRE(bind(host.listener.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
        REQUIRE(listen(host.listener.get(), 16) == 0);
    });
    auto program = steer_to(host, {5001});
    auto explained = value_of(
        program.explain(*Address::parse("127.0.0.1:5900"), *Address::parse("127.0.0.1:5001")));
    CHECK(explained.outcome == "steered");
    CHECK(explained.landing == kernel::Landing::listener);
}
