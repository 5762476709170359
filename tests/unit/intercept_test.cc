// SPDX-License-Identifier: Apache-2.0
#include <linux/bpf.h>

#include "intercept/plan.h"
#include "intercept/text.h"
#include "kernel/cgroups.h"
#include "support/catch.h"

using namespace proxify;
using namespace proxify::intercept;
using config::Capture;
using kernel::ConnectDestination;

namespace {

Capture with_proxy(const char* proxy) {
    Capture capture{.type = config::CaptureType::connect};
    if (*proxy) capture.proxy = Address::parse(proxy);
    return capture;
}

ConnectDestination to(const char* prefix, uint16_t port = 0, uint32_t number = 0) {
    return {.prefix = *Prefix::parse(prefix), .port = port, .number = number};
}

kernel::FollowedConnection connection_of(const char* comm) {
    return {.original = *Address::parse("203.0.113.7:80"),
            .used = *Address::parse("203.0.113.9:8888"),
            .pid = 812,
            .uid = 1000,
            .is_redirected = true,
            .comm = comm};
}

const std::string id(64, 'a');

}  // namespace

TEST_CASE("a proxy takes its own family, and proxify's listener takes both") {
    auto v4 = settings_of(with_proxy("203.0.113.9:8888"), {});
    CHECK(v4.proxy_v4->text() == "203.0.113.9:8888");
    CHECK_FALSE(v4.proxy_v6);
    CHECK((v4.all_v4 && !v4.all_v6 && v4.redirects && v4.has_foreign_proxy));

    auto v6 = settings_of(with_proxy("[2001:db8::9]:8888"), {});
    CHECK_FALSE(v6.proxy_v4);
    CHECK(v6.proxy_v6->text() == "[2001:db8::9]:8888");
    CHECK((!v6.all_v4 && v6.all_v6));

    auto own = with_proxy("");
    own.listen = {15001};
    auto ours = settings_of(own, {.value = 7, .mask = 15});
    CHECK(ours.proxy_v4->text() == "127.0.0.1:15001");
    CHECK(ours.proxy_v6->text() == "[::1]:15001");
    CHECK((ours.all_v4 && !ours.all_v6 && ours.redirects && !ours.has_foreign_proxy));
    CHECK((ours.mark == 7 && ours.mark_mask == 15));
}

TEST_CASE("nothing named is everything; a container that is not there is not") {
    auto capture = with_proxy("203.0.113.9:8888");
    CHECK(settings_of(capture, {}).all_v4);
    capture.containers = {{.name = "web"}};
    CHECK_FALSE(settings_of(capture, {}).all_v4);
    Numbers numbers;
    CHECK(destinations_of(capture, {}, numbers).empty());
    capture.containers.clear();
    capture.destinations = {{.prefix = *Prefix::parse("203.0.113.0/24")}};
    CHECK_FALSE(settings_of(capture, {}).all_v4);

    Capture watch{.type = config::CaptureType::connect, .only_watch = true};
    auto settings = settings_of(watch, {});
    CHECK((settings.all_v4 && settings.all_v6 && !settings.redirects));
    watch.from_containers = {{.name = "client"}};
    CHECK(settings_of(watch, {}).from_sources);
}

TEST_CASE("destinations are the file's and the containers', each once, counted by the container") {
    auto capture = with_proxy("203.0.113.9:8888");
    capture.destinations = {{.prefix = *Prefix::parse("203.0.113.77/24")},
                            {.prefix = *Prefix::parse("198.51.100.2/32"), .port = 80}};
    capture.containers = {{.name = "web", .port = 80}, {.name = "db"}};
    const Addresses addresses{{"web", {*Ip::parse("198.51.100.2"), *Ip::parse("2001:db8::2")}},
                              {"db", {*Ip::parse("198.51.100.3")}},
                              {"other", {*Ip::parse("198.51.100.4")}}};
    Numbers numbers;
    auto found = destinations_of(capture, addresses, numbers);
    std::ranges::sort(found);
    auto expected = std::vector{to("203.0.113.0/24"), to("198.51.100.2", 80, 1),
                                to("2001:db8::2", 80, 1), to("198.51.100.3", 0, 2)};
    std::ranges::sort(expected);
    CHECK(found == expected);
    // In another order each keeps its number, and so what was counted.
    std::ranges::reverse(capture.containers);
    capture.containers.insert(capture.containers.begin(), {.name = "other"});
    found = destinations_of(capture, addresses, numbers);
    expected.push_back(to("198.51.100.4/32", 0, 3));
    std::ranges::sort(found);
    std::ranges::sort(expected);
    CHECK(found == expected);
    CHECK(numbers.name(1) == "web");
    CHECK(numbers.name(2) == "db");
    CHECK(numbers.name(3) == "other");
    CHECK(numbers.name(4).empty());
    CHECK(numbers.name(0).empty());
}

TEST_CASE("there are fewer numbers than names, and the last ones share one") {
    Numbers numbers;
    for (uint32_t i = 1; i <= 2000; ++i)
        CHECK(numbers.of(std::to_string(i)) == std::min(i, kernel::connect_numbers - 1));
    CHECK(numbers.of("7") == 7);
    CHECK(numbers.name(1022) == "1022");
    CHECK(numbers.name(1023) == "other containers");
    CHECK(numbers.last() == 1023);
}

TEST_CASE("a change adds what is new or counted otherwise, and removes only what nobody wants") {
    const std::vector have{to("198.51.100.1", 80, 1), to("198.51.100.2", 80, 1)};
    const std::vector want{to("198.51.100.2", 80, 2), to("198.51.100.3", 80, 2)};
    auto [add, remove] = changes(have, want);
    CHECK(add == want);
    CHECK(remove == std::vector{to("198.51.100.1", 80, 1)});
    CHECK(changes(want, want).add.empty());
    CHECK(changes(want, want).remove.empty());
}

TEST_CASE("containers that are named twice are followed once") {
    Capture capture;
    capture.containers = {{.name = "web", .port = 80}, {.name = "web", .port = 81}};
    capture.from_containers = {{.name = "client"}, {.name = "web"}};
    CHECK(containers_of(capture) == std::vector<std::string>{"web", "client"});
}

TEST_CASE("a process is the host's, a container's, or a cgroup's") {
    constexpr uint32_t own = 100, other = 200;
    const std::map<Home, std::string> known{{{.cgroup = 5, .pid_namespace = 0}, "web"},
                                            {{.cgroup = 0, .pid_namespace = 300}, "client"}};
    struct Row {
        Home home;
        std::string cgroup, whose;
    };
    for (const auto& [home, cgroup, expected] :
         {Row{{1, own}, "/", "host"}, Row{{2, own}, "/system.slice/proxify.service", "host"},
          Row{{3, own}, "/user.slice", "/user.slice"},
          Row{{4, own}, "/system.slice/docker-" + id + ".scope", "container aaaaaaaaaaaa"},
          Row{{4, other}, "/docker/" + id, "container aaaaaaaaaaaa"},
          Row{{5, other}, "/docker/" + id, "web"}, Row{{1, 300}, "/", "client"},
          Row{{1, other}, "/", "another PID namespace"}, Row{{6, own}, "", "a cgroup that is gone"},
          Row{{7, own}, "/x/" + id + "a", "/x/" + id + "a"}})
        CHECK(whose(home, cgroup, "/system.slice/proxify.service", own, known) == expected);
}

TEST_CASE("a line says who called whom, and where it went") {
    auto line = line_of(connection_of("curl"), "host", "/", "web");
    CHECK(line.message ==
          "connect pid=812 comm=curl uid=1000 from=host original_dst=203.0.113.7:80 "
          "sent_to=203.0.113.9:8888 container=web");
    const std::vector<std::pair<const char*, std::string>> fields{
        {"pid", "812"},
        {"comm", "curl"},
        {"uid", "1000"},
        {"from", "host"},
        {"cgroup", "/"},
        {"original_dst", "203.0.113.7:80"},
        {"sent_to", "203.0.113.9:8888"},
        {"container", "web"}};
    REQUIRE(line.fields.size() == fields.size());
    for (size_t i = 0; i < fields.size(); ++i) {
        CHECK(std::string(line.fields[i].first) == fields[i].first);
        CHECK(line.fields[i].second == fields[i].second);
    }
    auto seen = connection_of("a b\n\xff");
    seen.is_redirected = false;
    CHECK(line_of(seen, "container aaaaaaaaaaaa", "/", "").message ==
          "connect pid=812 comm=a?b?? uid=1000 from=\"container aaaaaaaaaaaa\" "
          "original_dst=203.0.113.7:80 seen");
}

TEST_CASE("a report counts by state, source, cgroup, namespace and container") {
    Report report{.redirected = 7,
                  .left_alone = 2,
                  .open = 3,
                  .by_state = {{"established", 2}, {"dialling", 1}},
                  .by_cgroup = {{"/", 3}},
                  .by_netns = {{"proxify's", 1}, {"4711", 2}},
                  .by_source = {{"host", 3}},
                  .by_container = {{"web", 7}},
                  .counters = {{"redirected", "sent to the proxy", 7},
                               {"passed_own", "proxify's own", 2},
                               {"passed_to_proxy", "aimed at the proxy itself", 0},
                               {"lost_events", "events that nobody read in time", 1}}};
    auto lines = lines_of(report);
    REQUIRE(lines.size() == 7);
    CHECK(lines[0].message ==
          "connect: 3 connections open (dialling 1, established 2), 7 redirected, "
          "0 seen, 2 left alone so far");
    CHECK(lines[1].message == "connect: open by source: host 3");
    CHECK(lines[2].message == "connect: open by cgroup: / 3");
    CHECK(lines[3].message == "connect: open by network namespace: 4711 2, proxify's 1");
    CHECK(lines[4].message == "connect: captured so far by container: web 7");
    CHECK(lines[5].message == "connect: left alone so far: 2 proxify's own");
    CHECK(lines[6].message == "connect: lost so far: 1 events that nobody read in time");
    CHECK(lines_of({}).size() == 1);
    CHECK(state_text(BPF_TCP_ESTABLISHED) == "established");
    CHECK(state_text(BPF_TCP_SYN_SENT) == "dialling");
    CHECK(state_text(BPF_TCP_CLOSE_WAIT) == "close_wait");
    CHECK(state_text(99) == "state 99");
}

TEST_CASE("the cgroup2 tree is found wherever it is mounted") {
    using kernel::find_cgroup2;
    CHECK(find_cgroup2("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n") ==
          "/sys/fs/cgroup");
    CHECK(find_cgroup2("24 23 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
                       "25 24 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                       "34 24 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n") ==
          "/sys/fs/cgroup/unified");
    CHECK(find_cgroup2("34 24 0:31 / /mnt/a\\040b\\134c rw a:1 b:2 - cgroup2 none rw") ==
          "/mnt/a b\\c");
    CHECK_FALSE(find_cgroup2("25 24 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"));
    CHECK_FALSE(find_cgroup2("25 24 0:22 / /cgroup2 rw - tmpfs cgroup2 rw\n"));
    CHECK_FALSE(find_cgroup2(""));
    CHECK_FALSE(find_cgroup2("- cgroup2 \n - cgroup2 \n"));

    CHECK(kernel::cgroup_in("9:name=systemd:/\n0::/user.slice\n") == "/user.slice");
    CHECK(kernel::cgroup_in("0::/\n") == "/");
    CHECK_FALSE(kernel::cgroup_in("4:memory:/x\n"));
}
