// SPDX-License-Identifier: Apache-2.0
// src/steering on a real kernel, without the rest of proxify: who may start it, what it warns of,
// and how it shares the map with people.
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <functional>
#include <map>
#include <thread>

#include "kernel/foreign_program.h"
#include "kernel/host.h"
#include "kernel/links.h"
#include "steering/steering.h"

using namespace proxify;
using namespace proxify::test;
using steering::Steering;

namespace {

using Ports = std::vector<uint16_t>;

/// A config of one service with these ports.
config::Config config_of(const Ports& ports) {
    config::Service service{.name = "web"};
    for (uint16_t port : ports) service.ports.push_back({port, port});
    return {.services = {service}};
}

Result<Steering> try_start(const Host& host, const config::Config& config) {
    Result<Steering> steering = fail(Error::of("not started"));
    host.inside.run([&] { steering = Steering::start(host.listener.get(), config); });
    return steering;
}

Steering start(const Host& host, const Ports& ports) {
    return value_of(try_start(host, config_of(ports)));
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
    value_of(steering.apply(config_of({5002, 5003})));
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

    value_of(steering.apply(config_of({5001, 5002, 5007})));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    value_of(steering.apply(config_of({5001})));
    CHECK(steering.steers(5007));
    CHECK_FALSE(steering.steers(5002));
}

TEST_CASE("a second proxify in the namespace is refused, and told the first one's link id") {
    NEEDS_KERNEL_ACCESS();
    Host host, neighbour;
    auto first = start(host, {5001});
    auto second = try_start(host, config_of({5002}));
    REQUIRE_FALSE(second);
    INFO(second.error().text());
    CHECK(contains(second.error().text(),
                   "(link id " + std::to_string(value_of(first.ids()).link) + ","));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(landing(host, "127.0.0.1:5002") == "refused");

    auto elsewhere = start(neighbour, {5001});
    CHECK(landing(neighbour, "127.0.0.1:5001") == "listener");
    first.end();
    CHECK(try_start(host, config_of({5001})));
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
                    mine = Steering::start(host.listener.get(), config_of({5001}));
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
        CHECK_FALSE(Steering::start(deaf.get(), config_of({5001})));
        CHECK_FALSE(Steering::start(-1, config_of({5001})));
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
            auto steering = Steering::start(host.listener.get(), config_of({5001}));
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
            steering = value_of(Steering::start(host.listener.get(), config_of({5001})));
            value_of(steering->apply(config_of({5001, 5002})));
            CHECK(steering->guard_dial(*Address::parse("127.0.0.1:5900")));
            value_of(steering->counters());
            value_of(steering->ids());
            auto explained = value_of(steering->explain(*Address::parse("127.0.0.1:5901"),
                                                        *Address::parse("127.0.0.1:5001")));
            CHECK(explained.outcome == "steered");
            CHECK(explained.landing == kernel::Landing::listener);
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
        auto steering = value_of(Steering::start(host.listener.get(), config_of({5001})));
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

// ---- who gets in

namespace {

Prefix prefix(const char* text) {
    return *Prefix::parse(text);
}

/// So many networks of 2001:db8::/32, beginning with the one numbered `from`.
std::vector<Prefix> networks(size_t count, size_t from = 0) {
    std::vector<Prefix> out;
    for (size_t i = from; i < from + count; ++i) {
        Prefix one = *Prefix::parse("2001:db8::/64");
        one.ip.bytes[4] = static_cast<uint8_t>(i >> 16);
        one.ip.bytes[5] = static_cast<uint8_t>(i >> 8);
        one.ip.bytes[6] = static_cast<uint8_t>(i);
        out.push_back(one);
    }
    return out;
}

using Counted = std::map<std::string_view, uint64_t>;

/// Those of one service that are not zero.
Counted counted(const Steering& steering, const std::string& service) {
    Counted out;
    for (const auto& counter : value_of(steering.counters(service)))
        if (counter.value > 0) out[counter.name] = counter.value;
    return out;
}

std::chrono::milliseconds time_of(const std::function<void()>& work) {
    auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 start);
}

}  // namespace

TEST_CASE("each answer is counted for its service, and for a port only when that is asked for") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    host.inside.add_address("198.51.100.7/32");
    auto config = config_of({5001, 5002});
    config.services.push_back({.name = "mail", .ports = {{5003, 5003}}, .count_ports = true});
    config.services[0].access.deny = {prefix("198.51.100.0/24")};
    auto steering = value_of(try_start(host, config));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(landing(host, "127.0.0.1:5002", {}, "198.51.100.7:0") == "refused");
    CHECK(landing(host, "127.0.0.1:5003", {}, "198.51.100.7:0") == "listener");
    CHECK(landing(host, "127.0.0.1:5003") == "listener");

    value_of(steering.set_down("web", true));
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
    value_of(steering.set_down("web", false));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(counted(steering, "web") == Counted{{"steered", 2}, {"denied", 1}, {"refused_down", 1}});
    CHECK(counted(steering, "mail") == Counted{{"steered", 2}});

    auto of_port = value_of(steering.port_counts());
    CHECK(of_port[5003] == 2);
    CHECK(of_port[5001] == 0);
}

TEST_CASE("counters begin at zero for a new service, even under the number of one that went") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto steering = start(host, {5001});
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    auto other = config_of({5001});
    other.services[0].name = "other";
    value_of(steering.apply(other));
    value_of(steering.apply(config_of({5001})));
    CHECK(counted(steering, "web").empty());
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(counted(steering, "web") == Counted{{"steered", 1}});
}

TEST_CASE("more services than have counters are served all the same, and counted together") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    config::Config config;
    for (int i = 0; i < 9000; ++i) config.services.push_back({.name = "s" + std::to_string(i)});
    config.services[8999].ports = {{5001, 5001}};
    auto steering = value_of(try_start(host, config));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
    CHECK(counted(steering, "s8999").empty());
    uint64_t steered = 0;
    for (const auto& counter : value_of(steering.counters()))
        if (counter.name == "steered") steered = counter.value;
    CHECK(steered == 1);
}

TEST_CASE("100 000 prefixes are in force in less than a second", "[P-46]") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    host.inside.add_address("2001:db8:1:869f::7/128");
    auto config = config_of({5001});
    auto steering = value_of(try_start(host, config));
    config.services[0].access.deny = networks(100'000);
    // The same address, in the words of the list: network 99 999 is 0x01869f.
    config.services[0].access.deny.back() = prefix("2001:db8:1:869f::/64");
    auto took = time_of([&] { value_of(steering.apply(config)); });
    CHECK(took < (sanitized ? 5s : 1s));
    CHECK(landing(host, "[::1]:5001", {}, "[2001:db8:1:869f::7]:0") == "refused");
    CHECK(landing(host, "[::1]:5001") == "listener");
    // One that has not changed is not written again.
    CHECK(time_of([&] { value_of(steering.apply(config)); }) < took);
}

TEST_CASE("while lists are replaced, nobody slips in who is in both", "[P-46]") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    host.inside.add_address("198.51.100.7/32");
    auto one = config_of({5001}), other = config_of({5001});
    one.services[0].access.deny = networks(20'000);
    other.services[0].access.deny = networks(20'000, /*from=*/10'000);
    for (auto* config : {&one, &other})
        config->services[0].access.deny.push_back(prefix("198.51.100.7"));
    auto steering = value_of(try_start(host, one));

    std::atomic<bool> stop = false;
    std::atomic<int> refused = 0, other_answers = 0;
    std::thread denied([&] {
        while (!stop) {
            int error =
                Stream::dial_error(host.inside, "127.0.0.1:5001", {.from = "198.51.100.7:0"});
            ++(error == ECONNREFUSED ? refused : other_answers);
        }
    });
    for (int i = 0; i < 20; ++i) value_of(steering.apply(i % 2 ? one : other));
    stop = true;
    denied.join();
    CHECK(refused > 50);
    CHECK(other_answers == 0);
}

TEST_CASE("a list that went leaves nothing behind, for the next service with its number either") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto guarded = config_of({5001});
    guarded.services[0].access.allow = {prefix("203.0.113.0/24")};
    guarded.services[0].name = "guarded";
    auto steering = value_of(try_start(host, guarded));
    CHECK(landing(host, "127.0.0.1:5001") == "refused");
    value_of(steering.apply(config_of({})));
    value_of(steering.apply(config_of({5001})));
    CHECK(landing(host, "127.0.0.1:5001") == "listener");
}

TEST_CASE("lists of a thousand services are written together") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto steering = start(host, {5001});
    config::Config config;
    for (int i = 0; i < 1000; ++i) {
        auto port = static_cast<uint16_t>(10000 + i);
        config.services.push_back({.name = "s" + std::to_string(i), .ports = {{port, port}}});
        config.services.back().access.deny = {prefix(i == 777 ? "127.0.0.1" : "203.0.113.7")};
    }
    CHECK(time_of([&] { value_of(steering.apply(config)); }) < (sanitized ? 5s : 1s));
    CHECK(landing(host, "127.0.0.1:10777") == "refused");
    CHECK(landing(host, "127.0.0.1:10778") == "listener");
    CHECK(time_of([&] { value_of(steering.apply(config_of({10777}))); }) < (sanitized ? 5s : 1s));
    CHECK(landing(host, "127.0.0.1:10777") == "listener");
}

TEST_CASE("a change of what a service is reaches its packets, whatever changes beside it") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    host.inside.add_address("198.51.100.1/32");
    host.inside.add_address("198.51.100.2/32");
    auto local = listen_at(host.inside, "198.51.100.2:5001");
    auto one = config_of({5001}), other = config_of({5001, 5002});
    one.services[0].addresses = {prefix("198.51.100.1")};
    other.services[0].name = "other";
    other.services[0].addresses = {prefix("198.51.100.2")};
    auto steering = value_of(try_start(host, one));
    value_of(steering.set_down("web", true));
    CHECK(landing(host, "198.51.100.1:5001") == "refused");
    CHECK(landing(host, "198.51.100.2:5001", local) == "local");
    for (int i = 0; i < 3; ++i) {
        value_of(steering.apply(other));
        CHECK(landing(host, "198.51.100.1:5001") == "refused");  // nobody's now
        CHECK(landing(host, "198.51.100.2:5001", local) == "listener");
        value_of(steering.apply(one));
        CHECK(landing(host, "198.51.100.1:5001") == "listener");
        CHECK(landing(host, "198.51.100.2:5001", local) == "local");
    }
}

TEST_CASE("after a change that failed half-way nothing is misled, and the next one mends it") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto steering = start(host, {5001});
    auto more = config_of({5001});
    for (uint16_t port = 5002; port < 5010; ++port)
        more.services.push_back({.name = "s" + std::to_string(port), .ports = {{port, port}}});
    more.services.back().on_deny = config::OnDeny::drop;  // which takes a socket

    rlimit usual{};
    REQUIRE(getrlimit(RLIMIT_NOFILE, &usual) == 0);
    const rlimit none{.rlim_cur = 0, .rlim_max = usual.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    auto applied = steering.apply(more);
    auto told = steering.set_down("s5009", true);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &usual) == 0);
    CHECK_FALSE(applied);
    CHECK(told);
    CHECK(landing(host, "127.0.0.1:5001") == "listener");

    value_of(steering.apply(more));
    CHECK(landing(host, "127.0.0.1:5008") == "listener");
    CHECK(landing(host, "127.0.0.1:5009") == "refused");
    value_of(steering.set_down("s5009", false));
    CHECK(landing(host, "127.0.0.1:5009") == "listener");
}

TEST_CASE(
    "an explanation names the service and other programs, and knows when steering has ended") {
    NEEDS_KERNEL_ACCESS();
    Host host;
    auto ask = [&](const Steering& steering) {
        steering::Explained explained;
        host.inside.run([&] {
            explained = value_of(steering.explain(*Address::parse("127.0.0.1:4000"),
                                                  *Address::parse("127.0.0.1:5001")));
        });
        return explained;
    };
    auto steering = start(host, {5001});
    auto alone = ask(steering);
    CHECK(alone.outcome == "steered");
    CHECK(alone.service == "web");
    CHECK(alone.others.empty());

    ForeignProgram other(host.inside);
    auto beside = ask(steering);
    REQUIRE(beside.others.size() == 1);
    CHECK(contains(beside.others[0], "somebody_elses"));

    value_of(steering.set_down("web", true));
    CHECK(ask(steering).outcome == "refused_down");
    CHECK(ask(steering).landing == kernel::Landing::nowhere);
    steering.end();
    CHECK(ask(steering).outcome == "ended");
    CHECK(ask(steering).landing == kernel::Landing::host);
}
