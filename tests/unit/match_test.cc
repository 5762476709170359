// SPDX-License-Identifier: Apache-2.0
// match, in a chain of its own: what comes out for what goes in.
#include <random>

#include "filter/filters.h"
#include "pattern/pattern.h"
#include "support/catch.h"

using namespace proxify;
using config::OnMatch;
using filter::Progress;

namespace {

struct Silent : telemetry::Journal {
    void session(telemetry::SessionRecord&&) override {}
    void write(telemetry::Level, const char*, std::string,
               std::vector<std::pair<const char*, std::string>>) override {}
};

/// What a service has whose only element looks for `pattern`.
std::shared_ptr<const filter::Filters> filters(const std::string& pattern, OnMatch on_match,
                                               std::string delimiter = {},
                                               size_t chunk_size = 4096) {
    auto compiled = scan::Pattern::compile(pattern);
    INFO(pattern << ": " << (compiled ? "" : compiled.error()));
    REQUIRE(compiled);
    config::Service service;
    service.chunk_size = chunk_size;
    service.filters.push_back({.type = config::ElementType::match,
                               .name = "match",
                               .pattern = *compiled,
                               .on_match = on_match,
                               .delimiter = std::move(delimiter)});
    return filter::Filters::build(service, nullptr);
}

/// One of its sessions.
class Session {
  public:
    explicit Session(std::shared_ptr<const filter::Filters> filters)
        : filters_(std::move(filters)),
          chain_(filters_->begin(
              {.session = 1, .service = "web", .client = {}, .original_dst = {}, .log = log_})) {}
    Session(const std::string& pattern, OnMatch on_match, std::string delimiter = {})
        : Session(filters(pattern, on_match, std::move(delimiter))) {}

    /// What comes out for it.
    std::string send(std::string_view bytes, Direction direction = Direction::to_target) {
        filter::Bytes input = filter::bytes_of(bytes);
        return taken(direction, [&](filter::Flow& flow, filter::Output& out) {
            return flow.run(input, now, out);
        });
    }
    std::string finish(Direction direction = Direction::to_target) {
        return taken(direction, [&](filter::Flow& flow, filter::Output& out) {
            return flow.finish(now, out);
        });
    }
    /// What comes out when time passes.
    std::string wait_until(Time time) {
        now = time;
        return taken(Direction::to_target, [&](filter::Flow& flow, filter::Output& out) {
            return flow.release(now, out);
        });
    }
    Time holds_until() { return chain_->flow(Direction::to_target).holds_until(); }

    bool is_closed() const { return progress_.state == Progress::State::closed; }
    std::string reason() const { return progress_.reason; }
    const stats::Element& stats() const { return *filters_->entries()[0].stats; }

    Time now{};

  private:
    template <class Act>
    std::string taken(Direction direction, Act act) {
        filter::Output out;
        std::string text;
        do {
            progress_ = act(chain_->flow(direction), out);
            text += filter::text_of(out.bytes());
            if (!out.empty()) out.consume(out.size());
        } while (progress_.state == Progress::State::full);
        return text;
    }

    Silent log_;
    std::shared_ptr<const filter::Filters> filters_;
    std::unique_ptr<filter::Chain> chain_;
    Progress progress_;
};

/// What comes out in all, and whether an element has ended the session.
struct Outcome {
    std::string bytes;
    bool is_closed;
    bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& to, const Outcome& outcome) {
    return to << '"' << outcome.bytes << '"' << (outcome.is_closed ? ", closed" : "");
}

Outcome outcome(Session&& session, const std::vector<std::string_view>& pieces) {
    std::string out;
    for (auto piece : pieces) {
        out += session.send(piece);
        if (session.is_closed()) return {out, true};
    }
    out += session.finish();
    return {out, session.is_closed()};
}

/// The outcome, which has to be the same wherever the input is cut in three.
Outcome uncut_outcome(const std::string& pattern, OnMatch on_match, const std::string& delimiter,
                      std::string_view input) {
    const auto usual = filters(pattern, on_match, delimiter);
    auto with = [&](const std::vector<std::string_view>& pieces) {
        return outcome(Session(usual), pieces);
    };
    const Outcome whole = with({input});
    for (size_t first = 0; first <= input.size(); ++first)
        for (size_t second = first; second <= input.size(); ++second) {
            CAPTURE(pattern, input, first, second);
            CHECK(with({input.substr(0, first), input.substr(first, second - first),
                        input.substr(second)}) == whole);
        }
    for (size_t chunk_size : {1, 3})
        CHECK(outcome(Session(filters(pattern, on_match, delimiter, chunk_size)), {input}) ==
              whole);
    return whole;
}

std::string any_bytes(size_t size, std::string_view alphabet, unsigned seed) {
    std::mt19937 random(seed);
    std::string bytes;
    while (bytes.size() < size) bytes += alphabet[random() % alphabet.size()];
    return bytes;
}

constexpr const char* many_patterns[] = {
    "secret", "^se",    "t$",   "^s.*t$", R"(\bse)", R"(\Bet\b)", "s+e*c|ret",
    "[^s]e",  "s.*t",   "e{2}", "c\ns",   "(?m)^s$", "(s|e){3}c", "\n",
    "se\n",   "e.{3}r", "c\\s", "t\\z",   "^\n|tt$", "s[^\n]+",   "(?i)SEC|TRE",
};

}  // namespace

TEST_CASE("the session is closed before the byte that completes a match, wherever chunks end",
          "[X-10]") {
    struct Row {
        const char *pattern, *input;
        Outcome outcome;
    };
    for (const auto& [pattern, input, expected] : {
             Row{"secret", "a secret!", {"a secre", true}},
             Row{"secret", "nothing", {"nothing", false}},
             Row{"s", "s", {"", true}},
             Row{"^secret", "a secret", {"a secret", false}},
             Row{"secret$", "a secret", {"a secret", true}},
             Row{R"(cat\b)", "cats cat dog", {"cats cat", true}},
             Row{"a|b", "xxaxb", {"xx", true}},
             Row{"secret", "", {"", false}},
         }) {
        INFO(pattern << " in " << input);
        CHECK(uncut_outcome(pattern, OnMatch::close, "", input) == expected);
    }
    size_t closed = 0, open = 0;
    for (auto pattern : many_patterns)
        for (unsigned seed = 0; seed < 6; ++seed)
            ++(uncut_outcome(pattern, OnMatch::close, "", any_bytes(10, "secrt\n", seed)).is_closed
                   ? closed
                   : open);
    CHECK(closed > 20);
    CHECK(open > 20);
}

TEST_CASE("what ends a session is said", "[X-10]") {
    Session session("secret", OnMatch::close);
    CHECK(session.send("sec") == "sec");
    CHECK(session.send("ret") == "re");
    CHECK(session.is_closed());
    CHECK(session.reason() == "a match");
    CHECK(session.stats().of(Direction::to_target).closed.value() == 1);
}

TEST_CASE("each direction is looked through by itself", "[X-09]") {
    Session session("secret", OnMatch::close);
    CHECK(session.send("sec", Direction::to_target) == "sec");
    CHECK(session.send("ret", Direction::to_client) == "ret");
    CHECK_FALSE(session.is_closed());
    CHECK(session.send("secret", Direction::to_client) == "secre");
    CHECK(session.is_closed());
}

TEST_CASE("the chunk with which there would be a match is dropped, and the session goes on",
          "[X-11]") {
    Session session("secret", OnMatch::drop);
    CHECK(session.send("a sec") == "a sec");
    CHECK(session.send("ret").empty());
    CHECK(session.send("ret and more").empty());
    CHECK(session.send("onds") == "onds");
    CHECK(session.send("ret") == "ret");
    CHECK(session.send("a secret").empty());
    CHECK(session.finish().empty());
    CHECK_FALSE(session.is_closed());
    CHECK(session.stats().of(Direction::to_target).dropped.value() == 3);
}

TEST_CASE("what is left of chunks holds no match, and is a sequence of whole ones", "[X-11]") {
    size_t dropped = 0;
    // Not those of which only the next byte shows that they were there, nor the end of the stream.
    for (std::string pattern : {"secret", "s+e*c|ret", "[^s]e", "s.*t", "e{2}", "c\ns", "^se",
                                "(s|e){3}c", "e.{3}r", "s[^\n]+t"}) {
        const auto reference = pattern::Pattern::compile("(?s)" + pattern);
        REQUIRE(reference);
        for (unsigned seed = 0; seed < 50; ++seed) {
            std::mt19937 random(seed);
            Session session(pattern, OnMatch::drop);
            std::string all;
            for (int i = 0; i < 20; ++i) {
                const std::string chunk = any_bytes(1 + random() % 5, "secrt\n", random());
                const std::string out = session.send(chunk);
                CHECK((out.empty() || out == chunk));
                // Dropped for a reason, and passed without one.
                CHECK(out.empty() == reference->is_in(all + chunk));
                dropped += out.empty();
                all += out;
            }
            CHECK(session.finish().empty());
        }
    }
    CHECK(dropped > 1000);
}

TEST_CASE("a record that holds a match is dropped whole, and the others pass", "[X-11]") {
    struct Row {
        const char *pattern, *delimiter, *input, *output;
    };
    for (auto [pattern, delimiter, input, output] : {
             Row{"secret", "\n", "one\na secret here\ntwo\n", "one\ntwo\n"},
             Row{"secret", "\n", "secret\nsecret\nsecret", ""},
             Row{"secret", "\n", "sec\nret\n", "sec\nret\n"},
             Row{"secret", "\n", "\n\nsecret\n\n", "\n\n\n"},
             Row{"^b", "\n", "ab\nb\nc", "ab\nc"},      // the beginning of the record
             Row{"b$", "\n", "ab\nba\nb", "ba\n"},      // its end
             Row{R"(a\n)", "\n", "a\nab\na", "ab\na"},  // the delimiter is part of it
             Row{"b", "\r\n", "a\r\nb\r\nc\r\r\nb\n\r\n", "a\r\nc\r\r\n"},
             Row{"b", "aab", "caaabcaab", ""},
             Row{"x", "aab", "aaaabxaabaab", "aaaabaab"},
             Row{"xx", "abab", "ababxxabababab", "abababab"},
             Row{"secret", "--", "a-b--secret-c--d", "a-b--d"},
         }) {
        INFO(pattern << " in " << input);
        CHECK(uncut_outcome(pattern, OnMatch::drop, delimiter, input) == Outcome{output, false});
    }
}

TEST_CASE("records are the same wherever chunks end", "[X-11]") {
    for (auto pattern : many_patterns)
        for (std::string delimiter : {"\n", "ee", "tct"})
            for (unsigned seed = 0; seed < 2; ++seed) {
                const std::string input = any_bytes(14, "secrt\n", seed);
                const Outcome result = uncut_outcome(pattern, OnMatch::drop, delimiter, input);
                // What is dropped in one go would not be in two.
                CHECK(uncut_outcome(pattern, OnMatch::drop, delimiter, result.bytes) == result);
            }
}

TEST_CASE("dropped records are counted one by one", "[X-11]") {
    Session session("secret", OnMatch::drop, "\n");
    CHECK(session.send("a\nsecret\nsecret\nb\nsec") == "a\nb\n");
    CHECK(session.send("ret\nc") == "");
    CHECK(session.send("\n") == "c\n");
    CHECK(session.stats().of(Direction::to_target).dropped.value() == 3);
}

TEST_CASE("a record is kept back for so long, and then goes on without its end", "[X-11]") {
    Session session("secret", OnMatch::drop, "\n");
    session.now = Time(10s);
    CHECK(session.holds_until() == Time::max());
    CHECK(session.send("x\na sec") == "x\n");
    CHECK(session.holds_until() == Time(10s + 100ms));
    session.now = Time(10s + 50ms);
    CHECK(session.send("on").empty());
    CHECK(session.holds_until() == Time(10s + 100ms));  // since its first byte
    CHECK(session.wait_until(Time(10s + 100ms)) == "a secon");
    CHECK(session.holds_until() == Time::max());
    CHECK(session.send("d\n") == "d\n");

    SECTION("what comes later is judged together with what went on") {
        CHECK(session.send("sec").empty());
        CHECK(session.wait_until(Time(11s)) == "sec");
        CHECK(session.send("ret and").empty());
        CHECK(session.send(" all the rest\n").empty());
        // The other side still waits for the end of that record.
        CHECK(session.send("ret\n").empty());
        CHECK(session.send("ond\n") == "ond\n");
        CHECK(session.send("ret\n") == "ret\n");
    }
    SECTION("what is to go on and holds a match does not") {
        CHECK(session.send("a secret").empty());
        CHECK(session.wait_until(Time(11s)).empty());
        CHECK(session.send("and its end").empty());
        CHECK(session.send("\nmore\n") == "more\n");
    }
    SECTION("a delimiter that was begun goes on with what went on") {
        Session crlf("x", OnMatch::drop, "\r\n");
        CHECK(crlf.send("a\r").empty());
        CHECK(crlf.wait_until(Time(1s)) == "a\r");
        CHECK(crlf.send("x\r\n").empty());
        CHECK(crlf.send("\nb\r\n") == "\nb\r\n");
    }
    SECTION("the end lets go what is kept") {
        CHECK(session.send("sec").empty());
        CHECK(session.finish() == "sec");
    }
}

TEST_CASE("a record longer than 64 KiB is judged in pieces of that size", "[X-11]") {
    const size_t piece = 64 * 1024;
    auto with = [](std::string_view input, size_t step, size_t chunk_size = 4096) {
        std::vector<std::string_view> pieces;
        for (size_t at = 0; at < input.size(); at += step) pieces.push_back(input.substr(at, step));
        return outcome(Session(filters("secret", OnMatch::drop, "\n", chunk_size)), pieces).bytes;
    };
    auto filled = [](std::string text, size_t size) { return text + std::string(size, '.'); };
    // One that is just as long is whole.
    const std::string just = filled("secret", piece - 7) + "\n";
    // The second piece is dropped, and the third with it, up to the end.
    const std::string longer = filled("", 2 * piece - 10) + "secret" + filled("", piece) + "\n";
    // Across two pieces: the first has gone.
    const std::string across = filled("", piece - 3) + "secret\n";
    for (size_t step : {size_t{1000}, size_t{4096}, size_t{65536}, size_t{1'000'000}})
        for (size_t chunk_size : {size_t{4096}, size_t{200'000}}) {
            CAPTURE(step, chunk_size);
            CHECK(with("a\n" + just + "b\n", step, chunk_size) == "a\nb\n");
            CHECK(with("a\n" + longer + "b\n", step, chunk_size) ==
                  "a\n" + filled("", piece) + "b\n");
            CHECK(with("a\n" + across + "ret\nb\n", step, chunk_size) ==
                  "a\n" + filled("", piece - 3) + "sec" + "b\n");
            CHECK(with(filled("", 3 * piece + 5) + "\n", step, chunk_size) ==
                  filled("", 3 * piece + 5) + "\n");
        }
}
