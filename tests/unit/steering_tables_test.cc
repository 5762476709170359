// SPDX-License-Identifier: Apache-2.0
#include "steering/tables.h"

#include "support/catch.h"

using namespace proxify;
using kernel::Verdict;
using steering::Numbers;

namespace {

using Names = std::vector<std::string>;

config::Config parse(const std::string& text) {
    auto config = config::parse(text, "test.toml");
    if (!config) FAIL(config.error().text());
    return *config;
}

Numbers numbers_for(const config::Config& config) {
    Numbers numbers;
    Names names;
    for (const auto& service : config.services) names.push_back(service.name);
    numbers.assign(names);
    return numbers;
}

}  // namespace

TEST_CASE("a service keeps its number, and a number goes to another only after it was released") {
    Numbers numbers;
    CHECK(numbers.assign(Names{"a", "b"}) == std::vector<uint16_t>{1, 2});
    CHECK(numbers.assign(Names{"b", "c"}) == std::vector<uint16_t>{3});
    CHECK(numbers.of("b") == 2);
    CHECK(numbers.release_others(Names{"b", "c"}) == std::vector<uint16_t>{1});
    CHECK(numbers.of("a") == 0);
    CHECK(numbers.assign(Names{"b", "c", "d"}) == std::vector<uint16_t>{1});
    CHECK(numbers.of("d") == 1);
}

TEST_CASE("there are numbers for 65 535 services, and none beyond") {
    Numbers numbers;
    Names names;
    for (int i = 0; i < 65536; ++i) names.push_back("s" + std::to_string(i));
    CHECK(numbers.assign(names).size() == 65535);
    CHECK(numbers.of("s65534") == 65535);
    CHECK(numbers.of("s65535") == 0);
}

TEST_CASE("what a service says while it is down is what the kernel is told, while it is down") {
    auto config = parse(R"(
[proxify]
default_service = "drops"
[[service]]
name = "refuses"
ports = 5001
targets = "10.0.0.1:80"
[[service]]
name = "drops"
ports = 5002
targets = "10.0.0.1:80"
when_down = "drop"
on_deny = "drop"
limits = { source_rate = 7 }
[[service]]
name = "passes"
ports = 5003
targets = "10.0.0.1:80"
when_down = "pass"
[[service]]
name = "accepts"
ports = 5004
targets = "10.0.0.1:80"
when_down = "accept"
)");
    auto numbers = numbers_for(config);
    auto up = make_tables(config, numbers, {});
    for (const auto& entry : up.of_service) CHECK(entry.present == Verdict::accept);

    auto down = make_tables(config, numbers, {"refuses", "drops", "passes", "accepts"});
    CHECK(down.of_service[1].present == Verdict::refuse);
    CHECK(down.of_service[2].present == Verdict::drop);
    CHECK(down.of_service[3].present == Verdict::pass);
    CHECK(down.of_service[4].present == Verdict::accept);
    CHECK(down.of_service[2] ==
          kernel::ServiceEntry{
              .number = 2, .present = Verdict::drop, .on_deny = Verdict::drop, .rate = 7});
    // A port that was added by hand fares as the default service does.
    CHECK(down.of_service[0] == down.of_service[2]);
}

TEST_CASE("a port knows its service, and whether addresses matter") {
    auto config = parse(R"(
[[service]]
name = "near"
ports = "5001-5002"
addresses = ["198.51.100.0/24", "2001:db8::1"]
targets = "10.0.0.1:80"
[[service]]
name = "far"
ports = [5002, 5003]
targets = "10.0.0.1:80"
count_ports = true
)");
    auto tables = make_tables(config, numbers_for(config), {});
    CHECK(tables.of_port[5001] == kernel::PortEntry{.service = 0, .by_address = true});
    CHECK(tables.of_port[5002] ==
          kernel::PortEntry{.service = 2, .by_address = true, .counted = true});
    CHECK(tables.of_port[5003] == kernel::PortEntry{.service = 2, .counted = true});
    CHECK(tables.of_port[5004] == kernel::PortEntry{});
    CHECK(tables.addresses.size() == 4);
    CHECK(tables.ports.count() == 3);
}

TEST_CASE("a port that services share by name lets in everybody, for the kernel sees no names",
          "[P-47]") {
    const std::string text = R"(
[[service]]
name = "a"
ports = [443, 444]
sni = "a.example"
when_down = "drop"
limits = { source_rate = 7 }
targets = "10.0.0.1:80"
[[service]]
name = "b"
ports = 443
sni = "b.example"
addresses = ["198.51.100.7"]
targets = "10.0.0.1:80"
[[service]]
name = "c"
ports = 443
addresses = ["198.51.100.7"]
targets = "10.0.0.1:80"
[[service]]
name = "d"
ports = [443, 445]
limits = { source_rate = 9 }
targets = "10.0.0.1:80"
)";
    const auto config = parse(text);
    Numbers numbers;
    numbers.assign(steering::numbered_names(config));
    const uint16_t shared = numbers.of(steering::by_name);
    REQUIRE(shared != 0);
    const auto tables = make_tables(config, numbers, {"a", "b", "c", "d"});
    CHECK(tables.of_port[443] == kernel::PortEntry{.service = shared, .by_address = true});
    CHECK(tables.addresses ==
          std::vector{kernel::AddressEntry{443, {Ip::v4(198, 51, 100, 7), 32}, shared}});
    CHECK(tables.of_service[shared] == kernel::ServiceEntry{.number = shared});

    // One that has a port to itself is judged there, but for its rate: only some of those who
    // come are its clients.
    CHECK(tables.of_port[444].service == numbers.of("a"));
    CHECK(tables.of_service[numbers.of("a")].present == Verdict::drop);
    CHECK(tables.of_service[numbers.of("a")].rate == 0);
    CHECK(tables.of_port[445].service == numbers.of("d"));
    CHECK(tables.of_service[numbers.of("d")].rate == 9);
}

TEST_CASE("without names no number is taken for ports that are shared by them", "[P-47]") {
    const auto config = parse("[[service]]\nname = 'a'\nports = 80\ntargets = '10.0.0.1:80'\n");
    CHECK(steering::numbered_names(config) == Names{"a"});
}

TEST_CASE("where headers name clients, the kernel counts nobody") {
    auto config = parse(R"(
[[service]]
name = "web"
ports = 5001
targets = "10.0.0.1:80"
accept_proxy = "198.51.100.7"
limits = { source_rate = 7 }
)");
    const auto numbers = numbers_for(config);
    CHECK(make_tables(config, numbers, {}).of_service[numbers.of("web")].rate == 0);
    config.services[0].accept_proxy.clear();
    CHECK(make_tables(config, numbers, {}).of_service[numbers.of("web")].rate == 7);
}
