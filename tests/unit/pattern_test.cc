// SPDX-License-Identifier: Apache-2.0
#include "pattern/pattern.h"

#include <string>

#include "support/catch.h"
#include "support/eventually.h"

using namespace proxify;
using namespace proxify::test;
using pattern::Pattern;

static Pattern must_compile(const std::string& text) {
    auto compiled = Pattern::compile(text);
    INFO((compiled ? "" : compiled.error()));
    REQUIRE(compiled);
    return *compiled;
}

TEST_CASE("a pattern is found anywhere in bytes, unless it says where") {
    struct Row {
        const char *pattern, *bytes;
        bool found;
    };
    for (auto [pattern, bytes, found] : {
             Row{"ok", "it is ok.", true},
             Row{"^ok", "it is ok.", false},
             Row{"(?i)OK|ready", "is ReAdY", true},
             Row{R"x("status":\s*"(up|ok)")x", R"({"status": "up"})", true},
             Row{"größe", "die größe", true},
             Row{"", "", true},
         }) {
        INFO(pattern << " in " << bytes);
        CHECK(must_compile(pattern).is_in(bytes) == found);
    }
    // Any bytes, zeros and broken UTF-8 among them; a dot is one of them.
    CHECK(must_compile(R"(\x00.\xff$)").is_in(std::string_view("a\0\x80\xff", 4)));
}

TEST_CASE("a pattern that is none is refused in words") {
    CHECK(Pattern::compile("(abc").error() == "missing ): (abc");
    CHECK(Pattern::compile("*").error() == "no argument for repetition operator: *");
    CHECK_FALSE(Pattern::compile(R"((a)\1)"));  // no backreferences: they are what blows up
}

TEST_CASE("patterns are the same when their texts are") {
    CHECK(must_compile("a+") == must_compile("a+"));
    CHECK_FALSE(must_compile("a+") == must_compile("(a)+"));
}

TEST_CASE("a bomb in a pattern is refused, at once") {
    const Moment start = now();
    CHECK_FALSE(Pattern::compile("((((a{0,100}){0,100}){0,100}){0,100}){0,100}"));
    CHECK_FALSE(Pattern::compile("(a{1000}){1000}"));
    CHECK_FALSE(Pattern::compile(std::string(2000, 'a')));
    // This one comes to nothing, and does not take the stack with it.
    CHECK(must_compile(std::string(100'000, '(') + std::string(100'000, ')')).is_in(""));
    CHECK(now() - start < 2s);
}

TEST_CASE("a bomb that compiles costs no more than its bytes are worth") {
    // What takes others a time that doubles with each byte, and what has 2^300 states.
    const std::string bytes(64 * 1024, 'a');
    std::string mixed;
    for (unsigned x = 1; mixed.size() < bytes.size(); x = x * 1664525u + 1013904223u)
        mixed += (x >> 16) & 1 ? 'a' : 'b';
    for (auto text : {"(a+a+)+y", "(a|a|a)*y", "(.*)*.*y", "a.{300}y", "(a|b)*a(a|b){300}y",
                      "(.*a.{100}|.*b.{100}|.*a.{101})y"}) {
        const Pattern bomb = must_compile(text);
        const Moment start = now();
        CHECK_FALSE(bomb.is_in(bytes));
        CHECK_FALSE(bomb.is_in(mixed));
        INFO(text);
        CHECK(now() - start < (sanitized ? 20s : 4s));
    }
}
