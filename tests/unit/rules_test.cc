// SPDX-License-Identifier: Apache-2.0
#include "cli/rules.h"

#include "cli/doors.h"
#include "support/catch.h"

using namespace proxify;
using cli::Options;
using Verb = cli::RulesOrder::Verb;

namespace {

Result<Options> parse(const std::vector<std::string>& arguments) {
    std::vector<const char*> argv{"proxify", "redirect"};
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    return cli::parse_options(static_cast<int>(argv.size()), argv.data());
}

cli::RulesOrder order(const std::vector<std::string>& arguments) {
    auto options = parse(arguments);
    REQUIRE(options);
    REQUIRE(cli::is_rules(*options));
    auto order = cli::read_rules_order(*options);
    REQUIRE(order);
    return *order;
}

/// The hint of the refusal; empty when nothing is refused.
std::string way_out(const std::vector<std::string>& arguments) {
    auto hint = [](const auto& result) { return result ? std::string() : result.error().hint; };
    auto options = parse(arguments);
    if (!options) return hint(options);
    return cli::is_rules(*options) ? hint(cli::read_rules_order(*options))
                                   : hint(cli::config_text(*options));
}

}  // namespace

TEST_CASE("an order about rules means what it says") {
    struct {
        std::vector<std::string> arguments;
        cli::RulesOrder order;
    } rows[] = {
        {{"rules", "show"}, {Verb::show, {}}},
        {{"rules", "remove"}, {Verb::remove, {}}},
        {{"rules", "remove", "--ports", "80"}, {Verb::remove, {.ports = {80}}}},
        {{"rules", "add", "--ports", "80,81", "--to", "15002"},
         {Verb::add, {.ports = {80, 81}, .to = 15002}}},
        {{"rules", "add", "--ports=80-82,90", "--ports", "7", "--to=15002"},
         {Verb::add, {.ports = {7, 80, 81, 82, 90}, .to = 15002}}},
        {{"--ports", "65535", "rules", "--to", "1", "add", "--only", "arriving"},
         {Verb::add, {.ports = {65535}, .to = 1, .leaving = false}}},
        {{"rules", "add", "--ports", "80", "--to", "2", "--only", "leaving", "--mark", "0x35/0xff"},
         {Verb::add, {.ports = {80}, .to = 2, .arriving = false, .mark = {0x35, 0xff}}}},
        {{"rules", "add", "--ports", "80", "--to", "2", "--mark", "8245"},
         {Verb::add, {.ports = {80}, .to = 2, .mark = {0x2035, 0xffffffff}}}},
    };
    for (const auto& row : rows) {
        CAPTURE(row.arguments);
        CHECK(order(row.arguments) == row.order);
    }
}

TEST_CASE("flags of rules mean nothing without them, and the reverse") {
    for (const auto& arguments : std::vector<std::vector<std::string>>{
             {"--to", "15002"},
             {"--mark", "1"},
             {"--only", "arriving"},
             {"rules", "show", "--socket", "/s"},
             {"rules", "show", "--mark", "1"},
             {"rules", "remove", "--to", "15002"},
             {"rules"},
             {"rules", "add", "show"},
             {"ruels", "show"},
             {"rules", "add", "--ports", "80,,81", "--to", "1"},
             {"rules", "add", "--ports", "81-80", "--to", "1"},
             {"rules", "add", "--ports", "80", "--to", "1-2"},
             {"rules", "add", "--ports", "80", "--to", "1", "--mark", "0x"},
             {"rules", "add", "--ports", "80", "--to", "1", "--mark", "0x1ffffffff"}}) {
        CAPTURE(arguments);
        CHECK(way_out(arguments) != "");
    }
    CHECK(way_out({"--ports", "15002"}) == "");
    CHECK(way_out({"rules", "show"}) == "");
}

TEST_CASE("rules are shown port by port") {
    CHECK(cli::rules_text({}) == "no port is redirected\n");
    const netfilter::Rules rules{
        .arriving = {{443, 15006}, {80, 15002}}, .leaving = {{80, 15002}}, .mark = {0x35, 0xff}};
    CHECK(cli::rules_text(rules) ==
          "PORT  ARRIVING  LEAVING\n"
          "  80     15002    15002\n"
          " 443     15006        -\n"
          "What carries the mark 0x35/0xff leaves as it is.\n");
    CHECK(cli::rules_json(rules) ==
          R"({"redirects":[{"port":80,"arriving":15002,"leaving":15002},)"
          R"({"port":443,"arriving":15006,"leaving":null}],"mark":"0x35/0xff"})"
          "\n");
}
