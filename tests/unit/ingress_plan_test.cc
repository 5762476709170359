// SPDX-License-Identifier: Apache-2.0
#include "ingress/plan.h"

#include <string>

#include "config/config.h"
#include "support/catch.h"

using namespace proxify;
using namespace proxify::ingress;
using kernel::IngressPort;

namespace {

config::Config config_of(const std::string& text) {
    auto config = config::parse(text, "test.toml");
    if (!config) FAIL(config.error().text());
    return *config;
}

std::string capture(const std::string& rest) {
    return "[[capture]]\ntype = \"ingress\"\n" + rest + "\n";
}

/// Entries for ports that lead to ports.
Entries entries(const Entries& have, const std::map<uint16_t, uint16_t>& leads) {
    Leads wanted;
    for (auto [port, to] : leads) wanted[port] = {.to_port = to};
    return make_entries(have, wanted, {0, 255}, {1, 255});
}

/// Ports in the order in which they are written.
std::vector<uint16_t> order(const Entries& have, const Entries& want) {
    std::vector<uint16_t> ports;
    for (const auto& [port, entry] : make_plan(have, want)) ports.push_back(port);
    return ports;
}

using Ports = std::vector<uint16_t>;

}  // namespace

TEST_CASE("captures become leads, one for each port of a range") {
    auto config =
        config_of(capture("ports = [8000]\nto_port = 9000") +
                  capture("ports = [8443, \"8450-8452\"]\nlisten = 15004\nservice = \"web\"\n"
                          "interfaces = [\"eth1\", \"eth0\"]") +
                  "[[service]]\nname = \"web\"\ntargets = [\"127.0.0.1:9001\"]\n");
    auto leads = leads_of(config);
    const Lead listener{.listen = 15004, .scope = {"eth0", "eth1"}};
    CHECK(leads == Leads{{8000, {.to_port = 9000}},
                         {8443, listener},
                         {8450, listener},
                         {8451, listener},
                         {8452, listener}});
    CHECK(describe(8000, &leads.at(8000)) == "port 8000 leads to port 9000");
    CHECK(describe(8443, &leads.at(8443)) ==
          "port 8443 leads to the listener on port 15004 at eth0, eth1");
    CHECK(describe(8000, nullptr) == "port 8000 is not captured any more");
}

TEST_CASE("an interface is covered when a capture names it, or one names none") {
    Leads leads{{1, {.to_port = 10, .scope = {"eth0", "eth1"}}},
                {2, {.to_port = 20, .scope = {"wg0"}}}};
    auto scopes = scopes_of(leads);
    CHECK(covers(scopes, "eth0"));
    CHECK(covers(scopes, "wg0"));
    CHECK_FALSE(covers(scopes, "eth2"));
    leads[3] = {.to_port = 30};
    CHECK(covers(scopes_of(leads), "eth2"));
    CHECK_FALSE(covers({}, "eth0"));
}

TEST_CASE("ports that flows lead to are written before those that lead there") {
    auto want = entries({}, {{8000, 9000}, {8443, 443}});
    CHECK(want == Entries{{443, {.has_answers = true}},
                          {8000, {.to_port = 9000, .has_flows = true}},
                          {8443, {.to_port = 443, .has_flows = true}},
                          {9000, {.has_answers = true}}});
    CHECK(order({}, want) == Ports{443, 9000, 8000, 8443});
    CHECK(order(want, want).empty());
}

TEST_CASE("what is captured no more goes first, and keeps what its flows need") {
    auto before = entries({}, {{8000, 9000}, {8001, 9000}});
    auto after = entries(before, {{8001, 9001}});
    CHECK(after == Entries{{8000, {.has_flows = true}},
                           {8001, {.to_port = 9001, .has_flows = true}},
                           {9000, {.has_answers = true}},
                           {9001, {.has_answers = true}}});
    CHECK(order(before, after) == Ports{8000, 9001, 8001});
    // Nor is any of that forgotten later.
    CHECK(entries(after, {}) == Entries{{8000, {.has_flows = true}},
                                        {8001, {.has_flows = true}},
                                        {9000, {.has_answers = true}},
                                        {9001, {.has_answers = true}}});
}

TEST_CASE("a port that only led to a listener leaves nothing behind") {
    Numbers<uint16_t> listeners(0, 255);
    REQUIRE(listeners.assign({15004}));
    auto have = make_entries({}, {{8000, {.listen = 15004}}}, listeners, {1, 255});
    CHECK(have == Entries{{8000, {.listener = 0}}});
    auto want = make_entries(have, {}, listeners, {1, 255});
    CHECK(want.empty());
    auto plan = make_plan(have, want);
    REQUIRE(plan.size() == 1);
    CHECK(plan.front() == std::pair<uint16_t, IngressPort>(8000, {}));
}

TEST_CASE(
    "a hundred and more mappings are one plan; whatever came before, applying it gives them") {
    std::map<uint16_t, uint16_t> leads;
    for (uint16_t i = 0; i < 300; ++i)
        leads[static_cast<uint16_t>(8000 + i)] = static_cast<uint16_t>(20000 + i);
    Entries have;
    for (int round = 0; round < 4; ++round) {
        auto want = entries(have, leads);
        for (const auto& [port, entry] : make_plan(have, want)) have[port] = entry;
        CHECK(have == want);
        for (auto [port, to] : leads) CHECK(have.at(port).to_port == to);
        for (auto& [port, to] : leads) to = static_cast<uint16_t>(to + 7);
    }
}

TEST_CASE("a number is not given to another while something may still refer to it") {
    Numbers<uint16_t> numbers(0, 2);
    REQUIRE(numbers.assign({100, 200}));
    CHECK(numbers.of(100) == 0);
    CHECK(numbers.of(200) == 1);
    REQUIRE(numbers.assign({200, 300}));
    CHECK(numbers.of(200) == 1);
    CHECK(numbers.of(300) == 2);  // not 0, which was taken until now
    REQUIRE(numbers.assign({200, 300, 400}));
    CHECK(numbers.of(400) == 0);
    CHECK_FALSE(numbers.assign({200, 300, 400, 500}));
    CHECK(numbers.of(400) == 0);
}
