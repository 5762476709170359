// SPDX-License-Identifier: Apache-2.0
#include <random>

#include "access/list.h"
#include "access/sources.h"
#include "support/catch.h"

using namespace proxify;
using access::List;
using access::SourceLimits;
using access::Sources;
using Answer = Sources::Answer;

namespace {

using Prefixes = std::vector<Prefix>;

Prefixes prefixes(std::initializer_list<const char*> texts) {
    Prefixes out;
    for (auto* text : texts) out.push_back(*Prefix::parse(text));
    return out;
}

Ip ip(const char* text) {
    return *Ip::parse(text);
}

/// The definition, taken literally.
bool model(const Prefixes& allow, const Prefixes& deny, const Ip& client) {
    int longest = -1;
    bool admits = allow.empty();
    for (const auto* list : {&allow, &deny})
        for (const auto& prefix : *list)
            if (prefix.contains(client) && prefix.length > longest) {
                longest = prefix.length;
                admits = list == &allow;
            }
    return admits;
}

}  // namespace

TEST_CASE("a list of nothing lets everybody in") {
    List list({}, {});
    CHECK(list.admits(ip("198.51.100.7")));
    CHECK(list.admits(ip("2001:db8::7")));
}

TEST_CASE("who is denied stays out, and all others come in") {
    List list({}, prefixes({"198.51.100.0/24", "2001:db8::/32"}));
    CHECK(list.admits(ip("198.51.99.255")));
    CHECK_FALSE(list.admits(ip("198.51.100.0")));
    CHECK_FALSE(list.admits(ip("198.51.100.255")));
    CHECK(list.admits(ip("198.51.101.0")));
    CHECK_FALSE(list.admits(ip("2001:db8::")));
    CHECK_FALSE(list.admits(ip("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")));
    CHECK(list.admits(ip("2001:db9::")));
}

TEST_CASE("who is allowed comes in, and all others stay out, of either family") {
    List list(prefixes({"198.51.100.7"}), {});
    CHECK(list.admits(ip("198.51.100.7")));
    CHECK_FALSE(list.admits(ip("198.51.100.8")));
    CHECK_FALSE(list.admits(ip("::1")));
}

TEST_CASE("the longest prefix decides, whichever list it is in") {
    List list(prefixes({"10.1.0.0/16", "10.1.2.3"}), prefixes({"10.0.0.0/8", "10.1.2.0/24"}));
    CHECK_FALSE(list.admits(ip("10.2.0.1")));
    CHECK(list.admits(ip("10.1.0.1")));
    CHECK_FALSE(list.admits(ip("10.1.2.4")));
    CHECK(list.admits(ip("10.1.2.3")));
    CHECK(list.admits(ip("10.1.3.0")));
}

TEST_CASE("a prefix of all addresses holds those of its own family only") {
    List none_of_v4({}, prefixes({"0.0.0.0/0"}));
    CHECK_FALSE(none_of_v4.admits(ip("0.0.0.0")));
    CHECK_FALSE(none_of_v4.admits(ip("255.255.255.255")));
    CHECK(none_of_v4.admits(ip("::1")));
    List none_of_v6({}, prefixes({"::/0"}));
    CHECK(none_of_v6.admits(ip("198.51.100.7")));
    CHECK_FALSE(none_of_v6.admits(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
}

TEST_CASE("random lists answer as the definition does, for every address") {
    std::mt19937 random(4);
    for (int round = 0; round < 200; ++round) {
        Prefixes allow, deny;
        // Addresses of 8 bits at the very end of each family, so that all of them can be asked.
        auto address = [](bool v4, uint8_t last) {
            return v4 ? Ip{.bytes = {255, 255, 255, last}, .is_v4 = true}
                      : Ip{.bytes = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                     255, 255, 255, last},
                           .is_v4 = false};
        };
        for (auto count = random() % 12; count > 0; --count) {
            bool v4 = random() % 2;
            auto length = static_cast<uint8_t>((v4 ? 24 : 120) + random() % 9);
            auto prefix = Prefix{address(v4, static_cast<uint8_t>(random())), length}.network();
            auto& list = random() % 2 ? allow : deny;
            auto& other = &list == &allow ? deny : allow;
            if (std::ranges::find(other, prefix) == other.end()) list.push_back(prefix);
        }
        List list(allow, deny);
        for (bool v4 : {true, false})
            for (int last = 0; last < 256; ++last) {
                Ip client = address(v4, static_cast<uint8_t>(last));
                if (list.admits(client) != model(allow, deny, client))
                    FAIL("round " << round << ", " << client.text());
            }
    }
}

TEST_CASE("a source has as many sessions at a time as its limit says, and others have their own") {
    auto sources = std::make_shared<Sources>();
    const SourceLimits limits{.sessions = 2};
    std::vector<Sources::Place> places(4);
    CHECK(sources->enter(ip("198.51.100.7"), limits, Time(), places[0]) == Answer::welcome);
    CHECK(sources->enter(ip("198.51.100.7"), limits, Time(), places[1]) == Answer::welcome);
    CHECK(sources->enter(ip("198.51.100.7"), limits, Time(), places[2]) ==
          Answer::too_many_sessions);
    CHECK(sources->enter(ip("198.51.100.8"), limits, Time(), places[3]) == Answer::welcome);
    places[0] = {};
    CHECK(sources->enter(ip("198.51.100.7"), limits, Time(), places[2]) == Answer::welcome);
    places.clear();
    CHECK(sources->size() == 0);
}

TEST_CASE("an IPv6 source is its first 64 bits") {
    auto sources = std::make_shared<Sources>();
    const SourceLimits limits{.sessions = 1};
    Sources::Place one, other, far;
    CHECK(sources->enter(ip("2001:db8:0:1::7"), limits, Time(), one) == Answer::welcome);
    CHECK(sources->enter(ip("2001:db8:0:1:ffff::8"), limits, Time(), other) ==
          Answer::too_many_sessions);
    CHECK(sources->enter(ip("2001:db8:0:2::7"), limits, Time(), far) == Answer::welcome);
}

TEST_CASE("a rate allows a second's worth at once, and then one at a time") {
    auto sources = std::make_shared<Sources>();
    const SourceLimits limits{.rate = 4};
    const Time start = Time(1h);
    auto dial = [&](Time now) {
        Sources::Place place;
        return sources->enter(ip("198.51.100.7"), limits, now, place) == Answer::welcome;
    };
    for (int i = 0; i < 4; ++i) CHECK(dial(start));
    CHECK_FALSE(dial(start));
    CHECK_FALSE(dial(start + 249ms));
    CHECK(dial(start + 250ms));
    CHECK_FALSE(dial(start + 250ms));
    // What was refused does not count.
    for (int i = 0; i < 100; ++i) CHECK_FALSE(dial(start + 251ms));
    CHECK(dial(start + 500ms));
    for (int i = 0; i < 4; ++i) CHECK(dial(start + 10s));
    CHECK_FALSE(dial(start + 10s));
}

TEST_CASE("a million sources that come once are not remembered for ever") {
    auto sources = std::make_shared<Sources>();
    const SourceLimits limits{.rate = 1000};
    for (uint32_t i = 0; i < 1'000'000; ++i) {
        Sources::Place place;
        Ip client = Ip::v4(203, static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8),
                           static_cast<uint8_t>(i));
        if (sources->enter(client, limits, Time(1h) + i * 1us, place) != Answer::welcome) FAIL(i);
        if (i % 100'000 == 0 && sources->size() > Sources::remembered_max) FAIL(sources->size());
    }
    CHECK(sources->size() <= Sources::remembered_max);
}

namespace {

/// Each comes once, with its session over at once.
void visit(Sources& sources, const SourceLimits& limits, Time now, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; ++i) {
        Sources::Place place;
        Ip client = Ip::v4(203, static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8),
                           static_cast<uint8_t>(i));
        if (sources.enter(client, limits, now, place) != Answer::welcome) FAIL(i);
    }
}

}  // namespace

TEST_CASE("those who need not be remembered are looked for once a second, and not for each") {
    auto sources = std::make_shared<Sources>();
    const SourceLimits limits{.rate = 10};
    const uint32_t many = 4 * Sources::remembered_max;
    visit(*sources, limits, Time(1h), 0, many);  // so all shards are full, and were looked through
    CHECK(sources->size() == Sources::remembered_max);
    visit(*sources, limits, Time(1h) + 999ms, many, 10'000);
    CHECK(sources->size() == Sources::remembered_max);
    visit(*sources, limits, Time(1h) + 1s, 2 * many, 10'000);
    CHECK(sources->size() == 10'000);
}

TEST_CASE("sources that come and go within a second are not all remembered for it") {
    auto sources = std::make_shared<Sources>();
    visit(*sources, {.sessions = 1, .rate = 10}, Time(1h), 0, 4 * Sources::remembered_max);
    CHECK(sources->size() <= Sources::remembered_max);
}

TEST_CASE("what a source would be told is what it is told, and asking changes nothing") {
    std::mt19937 random(7);
    auto sources = std::make_shared<Sources>();
    std::vector<Sources::Place> places(5);
    Time now = Time() + 1h;
    int turned_away = 0;
    for (int i = 0; i < 5000; ++i) {
        const Ip client = Ip::v4(198, 51, 100, static_cast<uint8_t>(random() % 4));
        const SourceLimits limits{.sessions = static_cast<uint32_t>(random() % 3),
                                  .rate = static_cast<uint32_t>(random() % 4)};
        now += std::chrono::milliseconds(random() % 200);
        const auto size = sources->size();
        const auto sessions = sources->sessions_of(client);
        const Answer foretold = sources->would_answer(client, limits, now);
        CHECK(sources->would_answer(client, limits, now) == foretold);
        CHECK(sources->size() == size);
        CHECK(sources->sessions_of(client) == sessions);

        Sources::Place place;
        CHECK(sources->enter(client, limits, now, place) == foretold);
        turned_away += foretold != Answer::welcome;
        places[random() % places.size()] = std::move(place);
    }
    CHECK(turned_away > 500);
    CHECK(turned_away < 4500);
}
