// SPDX-License-Identifier: Apache-2.0
#include "scan/scan.h"

#include <random>
#include <thread>
#include <vector>

#include "pattern/pattern.h"
#include "scan/steps.h"
#include "support/catch.h"
#include "support/eventually.h"

using namespace proxify;
using namespace proxify::test;
using scan::Pattern;
using scan::Stream;

namespace {

Pattern must_compile(const std::string& text) {
    auto compiled = Pattern::compile(text);
    INFO(text << ": " << (compiled ? "" : compiled.error()));
    REQUIRE(compiled);
    return *compiled;
}

/// How many bytes come before the one with which there is a match: as many as there are when only
/// the end completes it, and nothing when there is none.
std::optional<size_t> before_match(const Pattern& pattern, std::vector<std::string_view> pieces) {
    Stream stream(pattern);
    size_t fed = 0;
    for (auto piece : pieces) {
        if (auto before = stream.feed(piece)) return fed + *before;
        fed += piece.size();
    }
    if (!stream.take_last({})) return fed;
    return {};
}

std::vector<std::string_view> in_pieces_of(size_t size, std::string_view bytes) {
    std::vector<std::string_view> pieces;
    for (; !bytes.empty(); bytes.remove_prefix(std::min(size, bytes.size())))
        pieces.push_back(bytes.substr(0, size));
    return pieces;
}

std::string any_bytes(size_t size, std::string_view alphabet, unsigned seed) {
    std::mt19937 random(seed);
    std::string bytes;
    while (bytes.size() < size) bytes += alphabet[random() % alphabet.size()];
    return bytes;
}

}  // namespace

TEST_CASE("a match is known with the byte that completes it, however the bytes are cut") {
    constexpr size_t none = ~size_t{};
    struct Row {
        const char* pattern;
        std::string_view bytes;
        size_t before;
    };
    for (auto [text, bytes, before] : {
             Row{"secret", "a secret!", 7},
             Row{"secret", "secre secret", 11},
             Row{"aab", "aaaab", 4},
             Row{"secret", "secre", none},
             Row{"^secret", "secret", 5},
             Row{"^secret", " secret", none},
             Row{"secret$", "secret", 6},  // the end completes it
             Row{"secret$", "secret\n", 7},
             Row{"secret$", "secret.", none},
             Row{R"(secret\z)", "secret\n", none},
             Row{"^a$", "a", 1},
             Row{"^a$", "aa", none},
             Row{"(?m)^b$", "a\nb\nc", 3},  // the byte behind it shows that the line has ended
             Row{R"(\bcat\b)", "cats cat dog", 8},
             Row{R"(\bcat\b)", "a cat", 5},
             Row{R"(\bcat\b)", "concat cats", none},
             Row{"(?i)SECRET|pass(word|port)", "a PassPort", 9},
             Row{"[0-9]{3}-[0-9]{4}", "12-3456 123-4567.", 15},
             Row{"a.*b", "xaxxx\nxxxb", 9},  // a dot is any byte
             Row{"a[^b]*c", "abac", 3},
             Row{R"(\x00.\xff)", std::string_view("a\0\x80\xff", 4), 3},
             Row{"größe", "die größe", 10},
         }) {
        INFO(text << " in " << bytes);
        const Pattern pattern = must_compile(text);
        auto found = [&](std::vector<std::string_view> pieces) {
            return before_match(pattern, std::move(pieces)).value_or(none);
        };
        CHECK(found({bytes}) == before);
        CHECK(found(in_pieces_of(1, bytes)) == before);
        for (size_t first = 0; first <= bytes.size(); ++first)
            for (size_t second = first; second <= bytes.size(); ++second) {
                CAPTURE(first, second);
                CHECK(found({bytes.substr(0, first), bytes.substr(first, second - first),
                             bytes.substr(second)}) == before);
            }
    }
}

TEST_CASE("what is found is what RE2 finds, at the byte where it first does") {
    for (std::string text :
         {"abc", "a+b", "(a|b)c(a|c)", "a{3}", "(ab){1,3}c", "a[^a]b", "a.{2}c", "c(a|b)*c", "^ab",
          "^(a|bc)+aa", "b.*cc", "(?i)A(B|Ca)C", "aab|bba|cbc", "[ab]{4}c", "a?b?c{3}"}) {
        INFO(text);
        const Pattern pattern = must_compile(text);
        const auto reference = proxify::pattern::Pattern::compile("(?s)" + text);
        REQUIRE(reference);
        size_t found = 0;
        for (unsigned seed = 0; seed < 200; ++seed) {
            const std::string bytes = any_bytes(1 + seed % 23, "abc", seed);
            INFO(bytes);
            std::optional<size_t> expected;
            for (size_t size = 1; size <= bytes.size() && !expected; ++size)
                if (reference->is_in(std::string_view(bytes).substr(0, size))) expected = size - 1;
            found += expected.has_value();
            CHECK(before_match(pattern, {bytes}) == expected);
            CHECK(before_match(pattern, in_pieces_of(1, bytes)) == expected);
            CHECK(before_match(pattern, in_pieces_of(3, bytes)) == expected);
        }
        CHECK(found > 0);
    }
    // At the end, and at the ends of words, the byte is not RE2's to tell.
    for (std::string text : {"ab$", "(a|b)c$", "^[ab]+$", R"(\bab)", R"(b\b)", R"(a\Bb\b)"}) {
        INFO(text);
        const Pattern pattern = must_compile(text);
        const auto reference = proxify::pattern::Pattern::compile("(?s)" + text);
        REQUIRE(reference);
        size_t found = 0;
        for (unsigned seed = 0; seed < 100; ++seed) {
            const std::string bytes = any_bytes(1 + seed % 9, "ab c", seed);
            INFO(bytes);
            const bool expected = reference->is_in(bytes);
            found += expected;
            CHECK(before_match(pattern, {bytes}).has_value() == expected);
            CHECK(before_match(pattern, {bytes}) == before_match(pattern, in_pieces_of(1, bytes)));
        }
        CHECK(found > 0);
    }
}

TEST_CASE("bytes that complete a match are not taken, and the stream goes on without them") {
    const Pattern pattern = must_compile("^a*secret|x$");
    Stream stream(pattern);
    CHECK_FALSE(stream.take("secret"));
    CHECK(stream.take("aaa"));
    CHECK(stream.take("sec"));
    CHECK_FALSE(stream.take("ret"));
    CHECK_FALSE(stream.take("ret!"));
    CHECK(stream.take("re"));
    CHECK_FALSE(stream.take_last("t"));
    CHECK_FALSE(stream.take_last("x"));
    CHECK(stream.take_last("y"));
    // That was the end of one, and here another begins.
    CHECK(stream.take("y"));
    CHECK(stream.take("secret"));
    CHECK(stream.take_last({}));
    CHECK(stream.take_last({}));
    CHECK_FALSE(stream.take_last("secret"));
}

TEST_CASE("a pattern that is none, or finds nothing or everything, is refused in words") {
    struct Row {
        const char *pattern, *words;
    };
    for (auto [pattern, words] : {
             Row{"(abc", "missing close parenthesis for group started at character 1"},
             Row{"größe(", "missing close parenthesis for group started at character 6"},
             Row{"ab*+c)*", "unmatched parentheses at character 6"},
             Row{"*", "invalid repeat at character 1"},
             Row{R"((a)\1)", "back-references are unsupported"},
             Row{"(?=a)b", "zero-width assertions are not supported"},
             Row{"a*", "it matches no bytes at all, and so everywhere"},
             Row{"", "it matches no bytes at all, and so everywhere"},
             Row{"x|^", "it matches no bytes at all, and so everywhere"},
             Row{"^$", "it matches no bytes at all, and so everywhere"},
             Row{R"(\b)", "it matches no bytes at all, and so everywhere"},
         }) {
        INFO(pattern);
        auto compiled = Pattern::compile(pattern);
        REQUIRE_FALSE(compiled);
        CHECK(compiled.error() == words);
    }
    CHECK(Pattern::compile(std::string_view("a\0b", 3)).error() ==
          R"(it has a byte 0; write \x00 for one that is to be found)");
    CHECK_FALSE(Pattern::compile("ab^c"));
}

TEST_CASE("patterns are the same when their texts are, and say when they look at the end") {
    CHECK(must_compile("a+") == must_compile("a+"));
    CHECK_FALSE(must_compile("a+") == must_compile("(a)+"));
    CHECK(must_compile("a$").matches_only_at_end());
    CHECK_FALSE(must_compile("a$|b").matches_only_at_end());
    CHECK_FALSE(must_compile(R"(a\b)").matches_only_at_end());
}

TEST_CASE("counted repeats are written out to see how large a pattern is") {
    struct Row {
        const char* pattern;
        uint64_t steps;
    };
    for (auto [pattern, steps] : {
             Row{"", 0},
             Row{"abc", 3},
             Row{"a{3}b", 4},
             Row{"(ab){1,3}", 6},
             Row{"(ab){2,}c", 5},
             Row{"((a{10}){10}){10}", 1000},
             Row{"a{0}", 1},
             Row{"a{3}{4}", 12},
             Row{"(a|b*c+d?){2}", 8},
             Row{"[a-z(){}]{5}", 5},
             Row{"[]a]{5}[^]a]{5}", 10},
             Row{"[[:alpha:]]{5}", 5},
             Row{R"([\]]{5})", 5},
             Row{R"(\({5}\{3})", 5 + 3},
             Row{R"(\Q(a{9}\E)", 5},
             Row{"(?#(((){9}a", 1},
             Row{"a{x}", 4},
             Row{"a{", 2},
             Row{"[a", 1},
             Row{"(a){99999999999999999999999}", uint64_t{1} << 31},
         }) {
        INFO(pattern);
        CHECK(scan::steps_of(pattern) == steps);
    }
}

TEST_CASE("a bomb in a pattern is refused or compiled, in little time") {
    auto compiles = [](const std::string& text) {
        const Moment start = now();
        const bool compiled = Pattern::compile(text).has_value();
        INFO(text);
        CHECK(now() - start < 10s);
        return compiled;
    };
    CHECK_FALSE(compiles("((a{1,1000}){1,1000})"));
    CHECK_FALSE(compiles("((((a{0,100}){0,100}){0,100}){0,100}){0,100}x"));
    CHECK_FALSE(compiles("(((a.*){100}){10}){10}"));
    CHECK_FALSE(compiles("a.{30000}b"));
    CHECK_FALSE(compiles(std::string(4000, '(')));
    CHECK(compiles("((a.*){10}){200}"));
    CHECK(compiles("(?:ab|cd){500}e"));
    CHECK(compiles("a.{4000}b"));
    CHECK(compiles("a.{0,1000}b.{0,1000}c.{0,1000}d"));
    CHECK(compiles(std::string(4000, 'a')));
    CHECK(compiles(std::string(2000, '(') + "a" + std::string(2000, ')')));
}

TEST_CASE("looking takes time in proportion to the bytes, whatever the pattern and the bytes") {
    const size_t size = 1 << 20;
    const std::string same(size, 'a');
    const std::string mixed = any_bytes(size, "ab", 1);
    for (auto text : {"(a+a+)+y", "(a|a|a)*y", "(.*)*.*y", "a.{300}y", "(a|b)*a(a|b){300}y",
                      "(.*a.{100}|.*b.{100}|.*a.{101})y", "(a?){30}a{30}y", R"((\ba|b\B)+y)",
                      "a.{0,1000}b.{0,1000}c.{0,1000}d", "[ab]{1,500}c[ab]{1,500}d"}) {
        const Pattern pattern = must_compile(text);
        for (const std::string* bytes : {&same, &mixed})
            for (size_t piece : {size_t{1}, size_t{4096}}) {
                INFO(text << ", in pieces of " << piece);
                Stream stream(pattern);
                const Moment start = now();
                bool all = true;
                for (size_t at = 0; at < size; at += piece)
                    all &= stream.take(std::string_view(*bytes).substr(at, piece));
                CHECK(all);
                CHECK(now() - start < 20s);
            }
    }
}

TEST_CASE("one pattern serves the streams of many threads at the same time") {
    const Pattern pattern = must_compile(R"(se[a-z]+ret\d{3})");
    std::vector<size_t> found(8, 0);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < found.size(); ++i)
        threads.emplace_back([&pattern, &count = found[i], i] {
            const std::string filler(i * 7, 's');
            for (int round = 0; round < 2000; ++round) {
                Stream stream(pattern);
                count += stream.take(filler) && stream.take("sec") && stream.take("ret12") &&
                         stream.feed("_secret345") == std::optional<size_t>(9);
            }
        });
    for (auto& thread : threads) thread.join();
    CHECK(found == std::vector<size_t>(8, 2000));
}

TEST_CASE("a stream is small") {
    for (auto text : {"secret", "(?i)password|passwd", R"(union\s+select.{0,200}from)"}) {
        INFO(text);
        CHECK(must_compile(text).stream_bytes() < 256);
        CHECK(must_compile(text).scratch_bytes() < 16 * 1024);
    }
    CHECK(sizeof(Stream) <= 24);
}
