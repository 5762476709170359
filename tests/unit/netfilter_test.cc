// SPDX-License-Identifier: Apache-2.0
#include "netfilter/rules.h"

#include "support/catch.h"

using namespace proxify;
using netfilter::Addition;
using netfilter::Rules;

namespace {

/// As nft 1.0.6 prints it.
constexpr auto listing = R"(table inet proxify {
	map arriving {
		type inet_service : inet_service
		elements = { 80 : 15002, 443 : 15002, 5001 : 15006, 6000 : 15006, 6001 : 15006,
			     7000 : 12345, 8080 : 15002 }
	}

	map leaving {
		type inet_service : inet_service
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		meta l4proto tcp redirect to :tcp dport map @arriving
	}

	chain output {
		type nat hook output priority -100; policy accept;
		meta mark & 0x000000ff == 0x00000035 return comment "connections of proxify itself, mark 0x35/0xff"
		meta l4proto tcp redirect to :tcp dport map @leaving
	}
}
)";

Rules plus(Rules have, const Addition& addition) {
    auto rules = netfilter::with(std::move(have), addition);
    REQUIRE(rules);
    return *rules;
}

std::string refusal(const Rules& have, const Addition& addition) {
    auto rules = netfilter::with(have, addition);
    return rules ? "" : rules.error().text();
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("what nft lists is what is there") {
    auto rules = netfilter::read_rules(listing);
    REQUIRE(rules);
    CHECK(rules->arriving == netfilter::Redirects{{80, 15002},
                                                  {443, 15002},
                                                  {5001, 15006},
                                                  {6000, 15006},
                                                  {6001, 15006},
                                                  {7000, 12345},
                                                  {8080, 15002}});
    CHECK(rules->leaving.empty());
    CHECK(rules->mark == netfilter::Mark{0x35, 0xff});
}

TEST_CASE("a table of that name that is not ours is no table of ports") {
    for (const char* map : {"elements = { http : 15002 }", "elements = { 80 : 99999 }",
                            "elements = { 80 }", "elements = { 80 : 15002 "}) {
        CAPTURE(map);
        auto rules = netfilter::read_rules(
            "table inet proxify {\n\tmap leaving {\n\t\ttype inet_service : inet_service\n\t\t" +
            std::string(map) + "\n\t}\n}\n");
        REQUIRE_FALSE(rules);
        CHECK(contains(rules.error().hint, "nft delete table inet proxify"));
    }
    auto other = netfilter::read_rules("table inet proxify {\n\tchain input {\n\t}\n}\n");
    REQUIRE(other);
    CHECK(other->empty());
}

TEST_CASE("the first port makes the table, with the mark before the redirection") {
    const Rules want = plus({}, {.ports = {8080, 8081}, .to = 15002});
    CHECK(netfilter::transaction({}, want) ==
          "add table inet proxify\n"
          "add map inet proxify arriving { type inet_service : inet_service; }\n"
          "add map inet proxify leaving { type inet_service : inet_service; }\n"
          "add chain inet proxify prerouting "
          "{ type nat hook prerouting priority -100; policy accept; }\n"
          "flush chain inet proxify prerouting\n"
          "add chain inet proxify output { type nat hook output priority -100; policy accept; }\n"
          "flush chain inet proxify output\n"
          "add rule inet proxify prerouting ip daddr 127.0.0.0/8 return\n"
          "add rule inet proxify prerouting "
          "meta l4proto tcp redirect to :tcp dport map @arriving\n"
          "add rule inet proxify output meta mark & 0xffffffff == 0x2035 return "
          "comment \"connections of proxify itself, mark 0x2035\"\n"
          "add rule inet proxify output meta l4proto tcp redirect to :tcp dport map @leaving\n"
          "add element inet proxify arriving { 8080 : 15002, 8081 : 15002 }\n"
          "add element inet proxify leaving { 8080 : 15002, 8081 : 15002 }\n");
}

TEST_CASE("of the maps only what differs is written") {
    const Rules have = plus({}, {.ports = {80, 8080}, .to = 15002});
    CHECK(plus(have, {.ports = {80}, .to = 15002}) == have);
    CHECK_FALSE(contains(netfilter::transaction(have, have), "element"));

    const Rules moved = plus(have, {.ports = {80, 443}, .to = 15006, .leaving = false});
    const std::string text = netfilter::transaction(have, moved);
    CHECK(contains(text,
                   "delete element inet proxify arriving { 80 }\n"
                   "add element inet proxify arriving { 80 : 15006, 443 : 15006 }\n"));
    CHECK_FALSE(contains(text, "element inet proxify leaving"));
    CHECK_FALSE(contains(text, "8080"));
}

TEST_CASE("with the last port the table goes") {
    const Rules have = plus({}, {.ports = {80, 8080}, .to = 15002});
    const Rules one = netfilter::without(have, {80, 9999});
    CHECK(contains(netfilter::transaction(have, one),
                   "delete element inet proxify leaving { 80 }\n"));
    CHECK(netfilter::without(have, {80, 8080}).empty());
    CHECK(netfilter::without(have, {}).empty());
    for (const auto& last : {have, one, Rules()})
        CHECK(netfilter::transaction(last, {}) == "delete table inet proxify\n");
    CHECK(netfilter::transaction({}, {}) == "");
}

TEST_CASE("a port that others lead to is not led away") {
    CHECK(contains(refusal({}, {.ports = {15002}, .to = 15002}), "15002 would lead to 15002"));
    const Rules have = plus({}, {.ports = {80}, .to = 15002});
    CHECK(contains(refusal(have, {.ports = {15002}, .to = 15006}), "80 would lead to 15002"));
    CHECK(contains(refusal(have, {.ports = {90}, .to = 80}), "remove --ports 80"));
    // Nor when one is of those that arrive, and the other of those that leave.
    const Rules arriving = plus({}, {.ports = {80}, .to = 15002, .leaving = false});
    CHECK(refusal(arriving, {.ports = {15002}, .to = 15006, .arriving = false}) != "");
}

TEST_CASE("a mark is written as it was given") {
    CHECK(netfilter::Mark{}.text() == "0x2035");
    CHECK(netfilter::Mark{0x35, 0xff}.text() == "0x35/0xff");
    const std::string text =
        netfilter::transaction({}, plus({}, {.ports = {80}, .to = 15002, .mark = {0x1035, 0xff}}));
    CHECK(contains(text, "meta mark & 0xff == 0x35 return"));
}
