// SPDX-License-Identifier: Apache-2.0
// The elements that are built in, each alone, and random chains of them against a plain model.
#include <limits>
#include <optional>
#include <random>
#include <thread>

#include "filter/filters.h"
#include "filter/rate.h"
#include "support/carrier.h"
#include "support/catch.h"
#include "support/eventually.h"
#include "support/json.h"
#include "support/naive.h"

using namespace proxify;
using namespace proxify::filter;
using namespace proxify::test;
using config::ElementType;

static constexpr auto to_target = Direction::to_target, to_client = Direction::to_client;

namespace {

std::shared_ptr<const Filters> filters_of(std::vector<config::Element> elements,
                                          uint64_t chunk_size = 4096,
                                          const Filters* before = nullptr) {
    return Filters::build(service_with(std::move(elements), chunk_size), before);
}

Carrier begin(const Filters& filters, Kept& log, const char* client = "198.51.100.7:5000") {
    return Carrier(filters.begin({.session = 3,
                                  .service = "web",
                                  .client = *Address::parse(client),
                                  .original_dst = *Address::parse("203.0.113.1:80"),
                                  .log = log}));
}

config::Element replacing(std::string find, std::string with) {
    return {.type = ElementType::replace, .find = std::move(find), .with = std::move(with)};
}

/// What one replace makes of `pieces`; with what it keeps back when `ends`.
std::string replaced(const std::string& find, const std::string& with,
                     const std::vector<std::string>& pieces, bool ends = true) {
    Kept log;
    auto filters = filters_of({replacing(find, with)});
    auto session = begin(*filters, log);
    for (const auto& piece : pieces)
        if (!piece.empty()) session.give(to_target, piece);
    if (ends) session.end(to_target);
    return session.got(to_target);
}

std::string naively(std::string_view text, std::string_view find, std::string_view with) {
    auto [out, kept] = replace_naively(text, find, with);
    return out + kept;
}

}  // namespace

// ---- log, hexdump

TEST_CASE("log tells of each chunk how large it is, and where it went", "[X-10]") {
    Kept log;
    auto filters = filters_of({{.type = ElementType::log, .name = "sizes"}}, 8);
    auto session = begin(*filters, log);
    session.give(to_target, "hello, world");
    session.give(to_client, "hi");
    REQUIRE(log.said.size() == 3);
    CHECK(log.said[0].level == telemetry::Level::info);
    CHECK(log.said[0].message == "session 3 of service web: sizes to_target 8 bytes");
    CHECK(log.said[1].message == "session 3 of service web: sizes to_target 4 bytes");
    CHECK(log.said[2].message == "session 3 of service web: sizes to_client 2 bytes");
    const auto line = parse_json_object(render(telemetry::Format::json, {}, log.said[2]));
    REQUIRE(line);
    CHECK(line->at("event") == "chunk");
    CHECK(line->at("session") == "3");
    CHECK(line->at("service") == "web");
    CHECK(line->at("element") == "sizes");
    CHECK(line->at("direction") == "to_client");
    CHECK(line->at("bytes") == "2");
    CHECK(session.got(to_target) == "hello, world");
    CHECK(session.got(to_client) == "hi");
}

TEST_CASE("what the log does not show is not even formatted", "[X-10]") {
    struct Deaf : Kept {
        bool shows(telemetry::Level at) const override {
            asked.push_back(at);
            return false;
        }
        mutable std::vector<telemetry::Level> asked;
    } log;
    auto filters = filters_of({{.type = ElementType::log, .level = config::LogLevel::debug},
                               {.type = ElementType::hexdump}});
    auto session = begin(*filters, log);
    session.give(to_target, "hello");
    CHECK(log.said.empty());
    CHECK(log.asked == std::vector{telemetry::Level::debug, telemetry::Level::info});
    CHECK(session.got(to_target) == "hello");
}

TEST_CASE("hexdump shows bytes as hexdump -C does, and how far they are from the beginning",
          "[X-10]") {
    Kept log;
    auto filters = filters_of({{.type = ElementType::hexdump, .name = "dump"}});
    auto session = begin(*filters, log);
    session.give(to_target, std::string("GET / HTTP/1.0\r\nA: \"\\\xff", 22));
    session.give(to_target, "x");
    REQUIRE(log.said.size() == 5);
    CHECK(log.said[0].message == "session 3 of service web: dump to_target 22 bytes");
    CHECK(log.said[1].message ==
          "session 3 of service web: dump to_target 00000000  "
          "47 45 54 20 2f 20 48 54  54 50 2f 31 2e 30 0d 0a  |GET / HTTP/1.0..|");
    CHECK(log.said[2].message ==
          "session 3 of service web: dump to_target 00000010  "
          "41 3a 20 22 5c ff                                 |A: \"\\.|");
    CHECK(log.said[4].message.ends_with("00000016  78" + std::string(48, ' ') + "|x|"));
    const auto line = parse_json_object(render(telemetry::Format::json, {}, log.said[2]));
    REQUIRE(line);
    CHECK(line->at("event") == "dump");
    CHECK(line->at("offset") == "00000010");
    CHECK(line->at("hex") == "41 3a 20 22 5c ff");
}

TEST_CASE("hexdump shows the beginning of a large chunk, and says what it leaves out", "[X-10]") {
    Kept log;
    auto filters = filters_of({{.type = ElementType::hexdump, .name = "dump"}});
    auto session = begin(*filters, log);
    session.give(to_client, std::string(4096, 'x'));
    REQUIRE(log.said.size() == 17);
    CHECK(log.said[0].message ==
          "session 3 of service web: dump to_client 4096 bytes, without the last 3840");
    CHECK(session.got(to_client) == std::string(4096, 'x'));
}

TEST_CASE("whatever bytes hexdump shows, its lines are text and JSON", "[X-10]") {
    Kept log;
    auto filters = filters_of({{.type = ElementType::hexdump}});
    auto session = begin(*filters, log);
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    session.give(to_target, all);
    REQUIRE(log.said.size() == 17);
    for (const auto& said : log.said) {
        CHECK(parse_json_object(render(telemetry::Format::json, {}, said)));
        const auto text = render(telemetry::Format::text, {}, said);
        CHECK(std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; }));
    }
}

// ---- count, limit_bytes

TEST_CASE("count has counted all once a direction or a session has ended", "[X-10]") {
    Kept log;
    auto filters = filters_of({{.type = ElementType::count}}, 10);
    const auto& stats = *filters->entries()[0].stats;
    {
        auto session = begin(*filters, log);
        session.give(to_target, "1");
        CHECK(stats.of(to_target).chunks.value() == 1);  // a session that speaks little shows
        session.give(to_target, std::string(995, 'x'));
        session.give(to_client, "12");
        session.give(to_client, "123");
        session.end(to_target);
        CHECK(stats.of(to_target).chunks.value() == 101);
        CHECK(stats.of(to_target).bytes.value() == 996);
    }
    CHECK(stats.of(to_client).chunks.value() == 2);
    CHECK(stats.of(to_client).bytes.value() == 5);
}

TEST_CASE("a session that goes on is counted meanwhile", "[X-10]") {
    Kept log;
    auto filters = filters_of({{.type = ElementType::count}}, 1);
    const auto& way = filters->entries()[0].stats->of(to_target);
    auto session = begin(*filters, log);
    session.give(to_target, std::string(1000, 'x'));
    CHECK(way.chunks.value() > 1000 - 64);
    session.now += 100ms;
    session.give(to_target, "x");
    CHECK(way.chunks.value() == 1001);
    CHECK(way.bytes.value() == 1001);
}

TEST_CASE("a session ends behind the last byte that limit_bytes allows", "[X-10]") {
    Kept log;
    config::Element limit{.type = ElementType::limit_bytes, .name = "limit", .bytes = 5};
    auto filters = filters_of({limit});
    auto session = begin(*filters, log);
    session.give(to_target, "abc");
    session.give(to_client, "12345");
    session.give(to_target, "de");
    CHECK_FALSE(session.is_closed);
    session.end(to_client);
    CHECK_FALSE(session.is_closed);
    session.give(to_target, "f");
    CHECK(session.is_closed);
    CHECK(session.closed_by == "limit");
    CHECK(session.got(to_target) == "abcde");

    auto other = begin(*filters, log);
    other.give(to_target, "abcdefgh");
    CHECK(other.is_closed);
    CHECK(other.got(to_target) == "abcde");
}

// ---- replace

TEST_CASE("replace puts something else for each one that it finds, also in pieces",
          "[X-10][X-17]") {
    CHECK(replaced("cat", "dog", {"a cat, a c", "a", "t, a cathedral"}) ==
          "a dog, a dog, a doghedral");
    CHECK(replaced("a", "", {"banana"}) == "bnn");
    CHECK(replaced("a", "aa", {"banana"}) == "baanaanaa");
    CHECK(replaced("aa", "b", {"aaaaa"}) == "bba");  // the leftmost ones, none over another
    CHECK(replaced("ab", "a", {"abb"}) == "ab");     // what was put in is not looked at again
    CHECK(replaced("aab", "X", {"a", "a", "a", "b"}) == "aX");
    CHECK(replaced(std::string("\0\xff", 2), "z", {std::string("a\0", 2), "\xff\xff"}) == "az\xff");
}

TEST_CASE("each direction is looked at for itself", "[X-10]") {
    Kept log;
    auto filters = filters_of({replacing("ab", "X")});
    auto session = begin(*filters, log);
    session.give(to_target, "a");
    session.give(to_client, "b");
    session.give(to_target, "b");
    CHECK(session.got(to_target) == "X");
    CHECK(session.got(to_client) == "b");
}

TEST_CASE("replace keeps back what may be the beginning, and not a byte more", "[X-10]") {
    std::mt19937 random(7);
    for (const std::string find : {"abcabd", "aaab", "abab", "a", "aabaaab"}) {
        std::string text;
        for (int i = 0; i < 500; ++i) {
            text += "abcd"[random() % (random() % 8 == 0 ? 4 : 2)];
            std::vector<std::string> bytes;
            for (char c : text) bytes.emplace_back(1, c);
            if (text.size() % 50 != 0 && i > 60) continue;  // each one at first
            INFO("find " << find << " in " << text);
            REQUIRE(replaced(find, "<>", bytes, false) == replace_naively(text, find, "<>").out);
            REQUIRE(replaced(find, "<>", {text}, false) == replace_naively(text, find, "<>").out);
        }
    }
}

TEST_CASE("what replace keeps back waits so long, and then it is too late for the rest", "[X-10]") {
    Kept log;
    config::Element spec = replacing("abc", "X");
    spec.hold = 50ms;
    auto filters = filters_of({spec});
    auto session = begin(*filters, log);
    session.give(to_target, "1ab");
    CHECK(session.got(to_target) == "1");
    session.let_pass(49ms, to_target);
    CHECK(session.got(to_target) == "1");
    session.let_pass(1ms, to_target);
    CHECK(session.got(to_target) == "1ab");
    CHECK(session.flow(to_target).holds_until() == Time::max());
    session.give(to_target, "c");
    CHECK(session.got(to_target) == "1abc");

    // Each byte that fits begins the time anew; one that does not ends it.
    session.give(to_target, "a");
    session.let_pass(40ms, to_target);
    session.give(to_target, "b");
    session.let_pass(40ms, to_target);
    CHECK(session.got(to_target) == "1abc");
    session.give(to_target, "c");
    CHECK(session.got(to_target) == "1abcX");
    session.give(to_target, "ab");
    session.give(to_target, "-");
    CHECK(session.got(to_target) == "1abcXab-");
    CHECK(session.flow(to_target).holds_until() == Time::max());
}

TEST_CASE("where nothing is found and nothing is kept, bytes pass as they are", "[X-10]") {
    Kept log;
    auto filters = filters_of({replacing("needle", "pin")});
    auto session = begin(*filters, log);
    const std::string hay = "a haystack without any";
    Output out;
    Bytes input = bytes_of(hay);
    session.flow(to_target).run(input, Time(), out);
    CHECK(static_cast<const void*>(out.bytes().data()) == hay.data());
    CHECK(out.size() == hay.size());
    CHECK(filters->entries()[0].stats->of(to_target).changed.value() == 0);
}

TEST_CASE("replace grows the stream no faster than it is taken", "[X-17]") {
    Kept log;
    const std::string with(65536, 'w');
    auto filters = filters_of({replacing("a", with)});
    auto session = begin(*filters, log);
    session.give(to_target, std::string(1000, 'a'));
    CHECK(session.got(to_target).size() == 1000 * with.size());
    CHECK(session.out_most <= out_enough + with.size());

    auto twice = filters_of({replacing("a", std::string(3000, 'b')), replacing("b", with)});
    auto other = begin(*twice, log);
    other.give(to_target, "a-");
    CHECK(other.got(to_target).size() == 3000 * with.size() + 1);
    CHECK(other.out_most <= out_enough + with.size());
}

TEST_CASE("no bytes make replace slow", "[X-10]") {
    const Moment start = now();
    const size_t size = sanitized ? 1 << 20 : 16 << 20;
    // Long beginnings that come to nothing, over and over.
    struct Row {
        std::string find, unit;
    };
    for (const auto& [find, unit] :
         {Row{std::string(4095, 'a') + 'b', "a"}, Row{'b' + std::string(4095, 'a'), "a"},
          Row{std::string(2047, 'a') + 'b' + std::string(2048, 'a'), std::string(2047, 'a') + 'b'},
          Row{"ab" + std::string(4000, 'c'), "ab"}, Row{"abX", "ab-"}}) {
        std::string text;
        while (text.size() < size) text += unit;
        CHECK(replaced(find, "", {text}).size() <= text.size());
    }
    CHECK(now() - start < 20s);
}

TEST_CASE("replace finds the same wherever the bytes are cut", "[X-10][X-17]") {
    std::mt19937 random(11);
    auto word = [&](size_t least, size_t most, int letters) {
        std::string text(least + random() % (most - least + 1), ' ');
        for (char& c : text) c = static_cast<char>('a' + random() % static_cast<unsigned>(letters));
        return text;
    };
    for (int round = 0; round < 60; ++round) {
        const std::string find = word(1, 6, 2), with = word(0, 7, 3), text = word(1, 60, 2);
        const std::string expected = naively(text, find, with);
        INFO("find " << find << " with " << with << " in " << text);
        REQUIRE(replaced(find, with, {text}) == expected);
        for (size_t cut = 1; cut < text.size(); ++cut)
            REQUIRE(replaced(find, with, {text.substr(0, cut), text.substr(cut)}) == expected);
        std::vector<std::string> bytes;
        for (char c : text) bytes.emplace_back(1, c);
        REQUIRE(replaced(find, with, bytes) == expected);
    }
    // Long ones, which are looked for many bytes at a time.
    for (int round = 0; round < 40; ++round) {
        const std::string find = word(2, 40, 2);
        std::string text;
        while (text.size() < 9000) {
            text += word(0, 300, round % 2 == 0 ? 20 : 2);
            text += find.substr(0, random() % (find.size() + 1));
        }
        const std::string expected = naively(text, find, "<!>");
        REQUIRE(replaced(find, "<!>", {text}) == expected);
        const size_t cut = random() % text.size();
        REQUIRE(replaced(find, "<!>", {text.substr(0, cut), text.substr(cut)}) == expected);
    }
}

// ---- random chains

namespace {

/// What elements make of one direction, as a whole.
struct Model {
    std::string out;
    bool is_closed = false;
};
Model model_of(std::vector<config::Element> elements, Direction direction, std::string text) {
    if (direction == to_client) std::ranges::reverse(elements);
    Model model{std::move(text)};
    for (const auto& element : elements) {
        const bool sees = !element.direction || *element.direction == direction;
        if (sees && element.type == ElementType::replace)
            model.out = naively(model.out, element.find, element.with);
        if (sees && element.type == ElementType::limit_bytes && model.out.size() > element.bytes) {
            model.out.resize(element.bytes);
            model.is_closed = true;
        }
    }
    return model;
}

struct RandomChain {
    explicit RandomChain(unsigned seed) : random(seed) {
        const size_t count = 1 + random() % 5;
        for (size_t i = 0; i < count; ++i) elements.push_back(element());
        chunk_size = random() % 3 == 0 ? 4096 : 1 + random() % 9;
    }

    config::Element element() {
        config::Element element;
        switch (random() % 8) {
            case 0:
                element.type = ElementType::log;
                element.head = random() % 3 == 0 ? 1 + random() % 20 : 0;
                break;
            case 1:
                element.type = ElementType::count;
                break;
            case 2:
                element.type = ElementType::limit_bytes;
                element.bytes = 1 + random() % 60;
                break;
            case 3:
                element.type = ElementType::rate;
                element.bytes = 100 + random() % 1000;
                element.burst = 1 + random() % 20;
                break;
            case 4:
                element.type = ElementType::hexdump;
                element.head = random() % 2 == 0 ? 1 + random() % 20 : 0;
                break;
            default:
                element = replacing(text(1, 4), text(0, 6));
        }
        if (random() % 6 == 0) element.direction = random() % 2 == 0 ? to_target : to_client;
        return element;
    }
    std::string text(size_t least, size_t most) {
        std::string made(least + random() % (most - least + 1), ' ');
        for (char& c : made) c = "abc"[random() % (random() % 4 == 0 ? 3 : 2)];
        return made;
    }

    std::mt19937 random;
    std::vector<config::Element> elements;
    uint64_t chunk_size;
};

}  // namespace

TEST_CASE("a chain makes the same of a stream wherever it is cut", "[X-09][X-10][X-17]") {
    Kept log;
    log.level = telemetry::Level::off;
    for (unsigned seed = 1; seed <= (sanitized ? 60u : 300u); ++seed) {
        INFO("seed " << seed);
        RandomChain chain(seed);
        auto filters = filters_of(chain.elements, chain.chunk_size);
        const Direction way = seed % 2 == 0 ? to_target : to_client;
        const std::string text = chain.text(1, 80);
        const Model expected = model_of(chain.elements, way, text);

        auto carry = [&](const std::vector<std::string>& pieces) {
            auto session = begin(*filters, log);
            for (const auto& piece : pieces)
                if (!piece.empty()) session.give(way, piece);
            session.end(way);
            REQUIRE(session.got(way) == expected.out);
            REQUIRE(session.is_closed == expected.is_closed);
            REQUIRE(session.got(way == to_target ? to_client : to_target).empty());
        };
        carry({text});
        for (size_t cut = 1; cut < text.size(); ++cut)
            carry({text.substr(0, cut), text.substr(cut)});
        std::vector<std::string> bytes, pieces;
        for (char c : text) bytes.emplace_back(1, c);
        carry(bytes);
        for (size_t at = 0; at < text.size();) {
            pieces.push_back(text.substr(at, 1 + chain.random() % 7));
            at += pieces.back().size();
        }
        carry(pieces);
    }
}

// ---- rate

namespace {

config::Element rating(uint64_t bytes, uint64_t burst,
                       config::RatePer per = config::RatePer::session) {
    return {.type = ElementType::rate, .name = "rate", .bytes = bytes, .burst = burst, .per = per};
}

/// How long it takes until `bytes` have passed.
Duration time_for(Carrier& session, size_t bytes, Direction direction = to_target) {
    const Time start = session.now;
    session.give(direction, std::string(bytes, 'x'));
    return session.now - start;
}

bool is_about(Duration time, Duration expected) {
    return time > expected * 99 / 100 && time < expected * 101 / 100;
}

}  // namespace

TEST_CASE("a burst passes at once, and then so many bytes a second", "[X-10]") {
    Kept log;
    auto filters = filters_of({rating(100'000, 20'000)});
    auto session = begin(*filters, log);
    CHECK(time_for(session, 20'000) == 0s);
    CHECK(is_about(time_for(session, 100'000), 1s));
    CHECK(session.waits <= 110);  // ten milliseconds' worth at least
    CHECK(is_about(time_for(session, 1'000'000), 10s));
    CHECK(session.got(to_target).size() == 1'120'000);
    CHECK(time_for(session, 20'000, to_client) == 0s);  // each direction has its own

    session.now += 100ms;
    CHECK(is_about(time_for(session, 20'000), 100ms));
    session.now += 1h;  // no more than the burst is saved up
    CHECK(is_about(time_for(session, 120'000), 1s));
}

TEST_CASE("whatever the rate, no wait is longer than a second, and bytes get through", "[X-10]") {
    Kept log;
    constexpr uint64_t tebibyte = uint64_t{1} << 40;
    for (uint64_t bytes : {uint64_t{1}, uint64_t{2}, uint64_t{3}, uint64_t{99}, uint64_t{12'345},
                           uint64_t{1'000'000'007}, tebibyte})
        for (uint64_t burst : {uint64_t{1}, uint64_t{2}, uint64_t{4096}, tebibyte}) {
            INFO(bytes << " in a second, " << burst << " at once");
            auto filters = filters_of({rating(bytes, burst)});
            auto session = begin(*filters, log);
            session.now = Time() + 24h * 365 * 10;
            const size_t sent = std::min<uint64_t>(bytes * 20, 10'000);
            const Duration took = time_for(session, sent);
            REQUIRE(session.got(to_target).size() == sent);
            const double needed =
                sent <= burst ? 0 : static_cast<double>(sent - burst) / static_cast<double>(bytes);
            CHECK(std::chrono::duration<double>(took).count() >= needed * 0.999);
            if (bytes < 1'000'000)
                CHECK(std::chrono::duration<double>(took).count() <= needed * 1.01 + 0.01);
            if (session.waits > 0) CHECK(session.waited / session.waits <= 1s);
        }
}

TEST_CASE("an element says when it is to be asked again, within a second", "[X-10]") {
    Kept log;
    auto filters = filters_of({rating(1, 1)});
    auto session = begin(*filters, log);
    Output out;
    const std::string text = "abc";
    Bytes input = bytes_of(text);
    auto& flow = session.flow(to_target);
    auto progress = flow.run(input, Time(), out);
    CHECK(progress.state == Progress::State::wait);
    CHECK(progress.until == Time() + 1s);
    CHECK(text_of(out.bytes()) == "a");
    // Whoever asks too early is told the same once more.
    progress = flow.run(input, Time() + 400ms, out);
    CHECK(progress.until == Time() + 1s);
    progress = flow.run(input, Time() + 1s, out);
    CHECK(progress.until == Time() + 2s);
    CHECK(text_of(out.bytes()) == "ab");
}

TEST_CASE("sessions of a service share its rate, and take turns", "[X-10]") {
    Kept log;
    auto filters = filters_of({rating(100'000, 1000, config::RatePer::service)});
    auto one = begin(*filters, log), two = begin(*filters, log, "203.0.113.9:1");
    std::array<Carrier*, 2> sessions{&one, &two};
    std::array<Bytes, 2> inputs;
    std::array<Time, 2> due{};
    std::array<size_t, 2> passed{};
    const std::string text(1'000'000, 'x');
    inputs.fill(bytes_of(text));
    const Time end = Time() + 10s;
    for (;;) {
        const size_t next = due[0] <= due[1] ? 0 : 1;
        if (due[next] > end) break;
        Output out;
        auto progress = sessions[next]->flow(to_target).run(inputs[next], due[next], out);
        passed[next] += out.size();
        REQUIRE(progress.state == Progress::State::wait);
        REQUIRE(progress.until > due[next]);
        due[next] = progress.until;
    }
    CHECK(passed[0] + passed[1] <= 1'001'000);
    CHECK(passed[0] + passed[1] >= 995'000);
    CHECK(passed[0] > 490'000);
    CHECK(passed[1] > 490'000);
}

TEST_CASE("a session that ends while it waits leaves its place to the others", "[X-10]") {
    Kept log;
    auto filters = filters_of({rating(1000, 100, config::RatePer::service)});
    auto other = begin(*filters, log);
    other.give(to_target, std::string(100, 'x'));
    for (int i = 0; i < 100; ++i) {
        auto gone = begin(*filters, log);
        Output out;
        const std::string text(100, 'x');
        Bytes input = bytes_of(text);
        CHECK(gone.flow(to_target).run(input, Time(), out).state == Progress::State::wait);
    }
    CHECK(is_about(time_for(other, 1000), 1s));
}

TEST_CASE("sessions of one source share its rate, those of others have their own", "[X-10]") {
    Kept log;
    auto filters = filters_of({rating(1000, 500, config::RatePer::source)});
    auto one = begin(*filters, log, "198.51.100.7:1"),
         same = begin(*filters, log, "198.51.100.7:2"),
         other = begin(*filters, log, "198.51.100.8:1");
    CHECK(time_for(one, 500) == 0s);
    CHECK(time_for(other, 500) == 0s);
    CHECK(is_about(time_for(same, 500), 500ms));

    auto v6 = begin(*filters, log, "[2001:db8::1]:1"),
         neighbour = begin(*filters, log, "[2001:db8::ffff:1]:1"),
         elsewhere = begin(*filters, log, "[2001:db8:0:1::1]:1");
    CHECK(time_for(v6, 500) == 0s);
    CHECK(is_about(time_for(neighbour, 500), 500ms));
    CHECK(time_for(elsewhere, 500) == 0s);
}

TEST_CASE("a source that comes back at once has no new burst", "[X-10]") {
    Kept log;
    auto filters = filters_of({rating(1000, 500, config::RatePer::source)});
    Time clock{};
    for (int i = 0; i < 5; ++i) {
        auto session = begin(*filters, log);
        session.now = clock;
        const Duration took = time_for(session, 500);
        if (i == 0)
            CHECK(took == 0s);
        else
            CHECK(is_about(took, 500ms));
        clock = session.now;
    }
    auto late = begin(*filters, log);
    late.now = clock + 500ms;
    CHECK(time_for(late, 500) == 0s);
}

TEST_CASE("buckets of sources are kept while they fill, and not for ever", "[X-10]") {
    Buckets buckets;
    const Pace pace(1000, 1000);
    auto source = [](uint32_t number) {
        return Ip::v4(198, static_cast<uint8_t>(number >> 16), static_cast<uint8_t>(number >> 8),
                      static_cast<uint8_t>(number));
    };
    const uint32_t many = Buckets::remembered_max + 20'000;
    // Full ones are forgotten with their last session.
    for (uint32_t i = 0; i < 100; ++i) {
        buckets.enter(source(i));
        buckets.enter(source(i));
        buckets.leave(source(i), Time() + 1s);
        CHECK(buckets.size() == 1);
        buckets.leave(source(i), Time() + 1s);
    }
    CHECK(buckets.size() == 0);
    for (uint32_t i = 0; i < many; ++i) {
        buckets.enter(source(i))[0].take(1000, Time() + 1s, pace);
        buckets.leave(source(i), Time() + 1s);
    }
    CHECK(buckets.size() <= Buckets::remembered_max);
    CHECK(buckets.size() > Buckets::remembered_max / 2);
    // A second later all are full again, and go when there is need for room.
    for (uint32_t i = 0; i < many; ++i) {
        buckets.enter(source(i))[1].take(1, Time() + 3s, pace);
        buckets.leave(source(i), Time() + 3s);
    }
    CHECK(buckets.size() <= Buckets::remembered_max);
    // Those who have sessions are always known.
    Buckets busy;
    for (uint32_t i = 0; i < many; ++i) busy.enter(source(i))[0].take(1000, Time() + 1s, pace);
    CHECK(busy.size() == many);
    for (uint32_t i = 0; i < many; ++i) busy.leave(source(i), Time() + 2s);
    CHECK(busy.size() == 0);
}

TEST_CASE("workers that take at once take no more than there is", "[X-10]") {
    Bucket bucket;
    const Pace pace(1'000'000, 100'000);
    const Time moment = Time() + 1h;
    std::array<uint64_t, 4> at_once{}, in_all{};
    {
        std::vector<std::jthread> workers;
        for (size_t i = 0; i < 4; ++i)
            workers.emplace_back([&, i] {
                for (int turn = 0; turn < 1000; ++turn) {
                    const auto [bytes, from] = bucket.take(137, moment, pace);
                    in_all[i] += bytes;
                    if (from <= moment) at_once[i] += bytes;
                }
            });
    }
    CHECK(at_once[0] + at_once[1] + at_once[2] + at_once[3] <= 100'000);
    CHECK(at_once[0] + at_once[1] + at_once[2] + at_once[3] > 100'000 - 137);
    const uint64_t taken = in_all[0] + in_all[1] + in_all[2] + in_all[3];
    CHECK_FALSE(bucket.is_full(moment + pace.time_for(taken) - 1ms));
    CHECK(bucket.is_full(moment + pace.time_for(taken) + 1ms));
}

TEST_CASE("a rate goes on over a reload that leaves it as it was", "[X-10]") {
    Kept log;
    const auto spec = rating(1000, 500, config::RatePer::service);
    auto filters = filters_of({spec});
    auto session = begin(*filters, log);
    session.give(to_target, std::string(500, 'x'));

    auto same =
        filters_of({{.type = ElementType::count, .name = "new"}, spec}, 4096, filters.get());
    auto after = begin(*same, log);
    CHECK(is_about(time_for(after, 500), 500ms));

    auto faster = rating(2000, 500, config::RatePer::service);
    auto other = filters_of({faster}, 4096, filters.get());
    auto fresh = begin(*other, log);
    CHECK(time_for(fresh, 500) == 0s);
}
