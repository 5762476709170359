// SPDX-License-Identifier: Apache-2.0
// src/steering on a real kernel, without the rest of proxify: who may start it, what it warns of,
// and how it shares the map with people.
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <barrier>
#include <thread>

#include "kernel/host.h"
#include "kernel/links.h"
#include "steering/steering.h"

using namespace proxify;
using namespace proxify::test;
using steering::PortSet;
using steering::Steering;

namespace {

using Ports = std::vector<uint16_t>;

PortSet set_of(const Ports& ports) {
    return steering::to_set(ports);
}

Result<Steering> try_start(const Host& host, const Ports& ports) {
    Result<Steering> steering = fail(Error::of("not started"));
    host.inside.run([&] { steering = Steering::start(host.listener.get(), set_of(ports)); });
    return steering;
}

Steering start(const Host& host, const Ports& ports) {
    return value_of(try_start(host, ports));
}

/// What a person at a shell does, with the map's id and no help from our object.
Fd proxy_ports_of(const Steering& steering) {
    auto fd = Fd::adopt(bpf_map_get_fd_by_id(value_of(steering.ids()).proxy_ports));
    REQUIRE(fd);
    return fd;
}
void add_by_hand(const Steering& steering, uint16_t port) {
    uint8_t value = 0;
    REQUIRE(bpf_map_update_elem(proxy_ports_of(steering).get(), &port, &value, BPF_ANY) == 0);
}
void delete_by_hand(const Steering& steering, uint16_t port) {
    REQUIRE(bpf_map_delete_elem(proxy_ports_of(steering).get(), &port) == 0);
}

/// Somebody else's sk_lookup program, which passes everything.
struct ForeignProgram {
    Fd program, link;

    explicit ForeignProgram(const Namespace& inside) {
        const bpf_insn pass[] = {
            {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = SK_PASS},
            {.code = BPF_JMP | BPF_EXIT}};
        LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_SK_LOOKUP);
        program = Fd::adopt(bpf_prog_load(BPF_PROG_TYPE_SK_LOOKUP, "somebody_elses", "GPL", pass,
                                          std::size(pass), &options));
        REQUIRE(program);
        link = Fd::adopt(bpf_link_create(program.get(), inside.fd(), BPF_SK_LOOKUP, nullptr));
        REQUIRE(link);
    }
};

/// Keeps only these capabilities, in the calling thread only.
void keep_capabilities(const std::vector<int>& kept) {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2] = {};
    for (int one : kept) {
        data[CAP_TO_INDEX(one)].effective |= CAP_TO_MASK(one);
        data[CAP_TO_INDEX(one)].permitted |= CAP_TO_MASK(one);
    }
    REQUIRE(syscall(SYS_capset, &header, data) == 0);
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("steering begins with start and stops with end") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto steering = start(host, {5001, 5002});
    CHECK(steering.warnings().empty());
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(landing(host, "[::1]:5002") == "listener");
    CHECK(steering.steers(5001));
    CHECK_FALSE(steering.steers(5003));
    steering.end();
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
}

TEST_CASE("a new config adds its ports, removes what left, and keeps the rest") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto steering = start(host, {5001, 5002});
    value_of(steering.apply(set_of({5002, 5003})));
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
    CHECK(landing(host, "127.0.0.1:5002") == "listener");
    CHECK(landing(host, "127.0.0.1:5003") == "listener");
}

TEST_CASE("a port put there by hand stays through reloads, one deleted by hand returns") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto steering = start(host, {5001, 5002});
    add_by_hand(steering, 5007);
    delete_by_hand(steering, 5001);
    CHECK(landing(host, "127.0.0.1:5007") == "listener");
    CHECK(landing(host, "127.0.0.1:5001") == "refused");

    value_of(steering.apply(set_of({5001, 5002, 5007})));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    value_of(steering.apply(set_of({5001})));
    CHECK(steering.steers(5007));
    CHECK_FALSE(steering.steers(5002));
}

TEST_CASE("a second proxify in the namespace is refused, and told the first one's link id") {
    NEEDS_KERNEL_ACCESS();
    Host host, neighbour;
    auto first = start(host, {5001});
    auto second = try_start(host, {5002});
    REQUIRE_FALSE(second);
    INFO(second.error().text());
    CHECK(contains(second.error().text(),
                   "(link id " + std::to_string(value_of(first.ids()).link) + ","));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(landing(host, "127.0.0.1:5002") == "refused");

    auto elsewhere = start(neighbour, {5001});
    CHECK(landing(neighbour, "127.0.0.1:5001") == "listener");
    first.end();
    CHECK(try_start(host, {5001}));
}

TEST_CASE("of proxifies that start together exactly one stays") {
    NEEDS_KERNEL_ACCESS();
    for (int round = 0; round < 10; ++round) {
        Host host;
        constexpr int rivals = 4;
        std::barrier together(rivals);
        std::vector<Result<Steering>> started;
        for (int i = 0; i < rivals; ++i) started.push_back(fail(Error::of("not started")));
        std::vector<std::thread> threads;
        for (auto& mine : started)
            threads.emplace_back([&] {
                host.inside.run([&] {
                    together.arrive_and_wait();
                    mine = Steering::start(host.listener.get(), set_of({5001}));
                });
            });
        for (auto& thread : threads) thread.join();
        CHECK(std::ranges::count_if(started, [](auto& one) { return one.has_value(); }) == 1);
        CHECK(landing(host, "127.0.0.1:5001") == "listener");
    }
}

TEST_CASE("another's sk_lookup program is a warning that names it, and no error") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    ForeignProgram foreign(host.inside);
    auto steering = start(host, {5001});
    REQUIRE(steering.warnings().size() == 1);
    INFO(steering.warnings()[0]);
    CHECK(contains(steering.warnings()[0], "\"somebody_elses\""));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");

    host.inside.run([&] {
        auto links = value_of(kernel::steering_links_here());
        REQUIRE(links.size() == 2);
        CHECK(links[0].program_name == "somebody_elses");
        CHECK_FALSE(links[0].is_proxify);
        CHECK(links[1].is_proxify);
        CHECK(links[1].link_id == value_of(steering.ids()).link);
        CHECK(links[1].program_id == value_of(steering.ids()).program);
    });
}

TEST_CASE("a listener on a steered port is named with its process, our own never") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto v4 = listen_at(host.inside, "127.0.0.1:5001");
    auto v6 = listen_at(host.inside, "[::1]:5002");
    auto elsewhere = listen_at(host.inside, "127.0.0.1:5003");
    auto steering = start(host, {5001, 5002, 8080});
    auto me = "(pid " + std::to_string(getpid()) + "), which listens on ";
    REQUIRE(steering.warnings().size() == 2);
    INFO(steering.warnings()[0] << "\n" << steering.warnings()[1]);
    CHECK(contains(steering.warnings()[0], "port 5001 is steered away from "));
    CHECK(contains(steering.warnings()[0], me + "127.0.0.1:5001"));
    CHECK(contains(steering.warnings()[1], me + "[::1]:5002"));
}

TEST_CASE("a failed start leaves nothing in the kernel") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto deaf = Fd::adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    host.inside.run([&] {
        CHECK_FALSE(Steering::start(deaf.get(), set_of({5001})));
        CHECK_FALSE(Steering::start(-1, set_of({5001})));
        CHECK(value_of(kernel::steering_links_here()).empty());
    });
}

TEST_CASE("what privilege is missing is said by name") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    struct Row {
        std::vector<int> kept;
        const char* said;
    };
    const Row rows[] = {{{}, "CAP_BPF and CAP_NET_ADMIN are missing"},
                        {{CAP_NET_ADMIN}, "CAP_BPF is missing"},
                        {{CAP_BPF}, "CAP_NET_ADMIN is missing"}};
    for (const auto& row : rows)
        host.inside.run([&] {
            keep_capabilities(row.kept);
            auto steering = Steering::start(host.listener.get(), set_of({5001}));
            REQUIRE_FALSE(steering);
            INFO(steering.error().text());
            CHECK(contains(steering.error().text(), row.said));
            CHECK(contains(steering.error().text(), "hint: run as root"));
        });
}

TEST_CASE("CAP_BPF and CAP_NET_ADMIN are enough, and so is CAP_SYS_ADMIN, with no locked memory") {
    NEEDS_KERNEL_ACCESS();
    rlimit before{};
    getrlimit(RLIMIT_MEMLOCK, &before);
    rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_MEMLOCK, &none);

    for (const auto& kept : {std::vector{CAP_BPF, CAP_NET_ADMIN}, {CAP_SYS_ADMIN}}) {
        Host host;
        std::optional<Steering> steering;
        host.inside.run([&] {
            keep_capabilities(kept);
            steering = value_of(Steering::start(host.listener.get(), set_of({5001})));
            value_of(steering->apply(set_of({5001, 5002})));
            CHECK(steering->guard_dial(*Address::parse("127.0.0.1:5900")));
            value_of(steering->counters());
            value_of(steering->ids());
        });
        CHECK(landing(host, "127.0.0.1:5002") == "listener");
    }
    setrlimit(RLIMIT_MEMLOCK, &before);
}

TEST_CASE("without CAP_SYS_ADMIN a program of unknown name is warned of") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    ForeignProgram foreign(host.inside);
    host.inside.run([&] {
        keep_capabilities({CAP_BPF, CAP_NET_ADMIN});
        auto steering = value_of(Steering::start(host.listener.get(), set_of({5001})));
        REQUIRE(steering.warnings().size() == 1);
        INFO(steering.warnings()[0]);
        CHECK(contains(steering.warnings()[0], "CAP_SYS_ADMIN"));
    });
}

TEST_CASE("the kernel's own refusal says what may be behind it") {
    NEEDS_KERNEL_ACCESS();
    Namespace::create().run([] {
        keep_capabilities({});
        auto program = kernel::SteeringProgram::load();
        REQUIRE_FALSE(program);
        INFO(program.error().text());
        CHECK(contains(program.error().text(), "cannot load the steering program"));
        CHECK(contains(program.error().text(), "grant CAP_BPF and CAP_NET_ADMIN"));
    });
}
