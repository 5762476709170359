// SPDX-License-Identifier: Apache-2.0
// Our matcher of Lua's patterns, held against Lua's own.
#include <lua.hpp>
#include <random>
#include <string>

#include "lua/library.h"
#include "lua/meter.h"
#include "lua/patterns.h"
#include "support/catch.h"
#include "support/eventually.h"

using namespace proxify;
using namespace proxify::test;

namespace {

/// A state with the library that Lua comes with, or with ours.
class Lua {
  public:
    static Lua theirs() {
        Lua lua;
        lua.state_ = luaL_newstate();
        luaL_openlibs(lua.state_);
        return lua;
    }
    static Lua ours(int instructions = 1'000'000) {
        Lua lua;
        lua.meter_ = std::make_unique<lua::Meter>(size_t{16} << 20, instructions);
        lua.state_ = lua.meter_->open();
        lua_pushcfunction(lua.state_, [](lua_State* state) {
            lua::open_library(state);
            return 0;
        });
        REQUIRE(lua_pcall(lua.state_, 0, 0, 0) == LUA_OK);
        return lua;
    }
    Lua(Lua&& other) : meter_(std::move(other.meter_)), state_(std::exchange(other.state_, {})) {}
    ~Lua() {
        if (state_) lua_close(state_);
    }

    /// All that an expression gives, in which s, p and r are the strings given; or "error: ...".
    std::string run(const std::string& code, std::string_view s, std::string_view p,
                    std::string_view r) {
        if (meter_) meter_->refill(state_);
        lua_settop(state_, 0);
        const std::string whole = "local s, p, r = ... return " + code;
        REQUIRE(luaL_loadstring(state_, whole.c_str()) == LUA_OK);
        for (auto text : {s, p, r}) lua_pushlstring(state_, text.data(), text.size());
        const bool is_good = lua_pcall(state_, 3, LUA_MULTRET, 0) == LUA_OK;
        std::string all = is_good ? "" : "error: ";
        for (int i = 1; i <= lua_gettop(state_); ++i) {
            size_t size = 0;
            const char* text = luaL_tolstring(state_, i, &size);
            all += std::string(luaL_typename(state_, i)) + " " + std::string(text, size) + "; ";
            lua_pop(state_, 1);
        }
        return all;
    }

  private:
    Lua() = default;
    std::unique_ptr<lua::Meter> meter_;
    lua_State* state_ = nullptr;
};

constexpr const char* expressions[] = {
    "s:find(p)",
    "s:find(p, 2)",
    "s:find(p, -3)",
    "s:find(p, 1, true)",
    "s:match(p)",
    "s:match(p, 3)",
    "s:match(p, -100)",
    "s:match(p, 100)",
    "s:gsub(p, r)",
    "s:gsub(p, r, 2)",
    "s:gsub(p, function(a, b) return b and b .. a end)",
    "s:gsub(p, function(a, b) if type(a) == 'string' and #a > 1 then return a:upper() end end)",
    "s:gsub(p, {a = 'x', b = false, ab = 7, [1] = 'one'})",
    "(function() local t = {} for a, b in s:gmatch(p) do t[#t + 1] = tostring(a) .. ',' .. "
    "tostring(b) end return table.concat(t, ';') end)()",
    "(function() local t = {} for a in s:gmatch(p, 3) do t[#t + 1] = tostring(a) end "
    "return table.concat(t, ';') end)()",
};

/// What both say; errors need not have the same words.
void compare(Lua& theirs, Lua& ours, const std::string& s, const std::string& p,
             const std::string& r) {
    for (const char* code : expressions) {
        const std::string expected = theirs.run(code, s, p, r);
        const std::string got = ours.run(code, s, p, r);
        const bool both_failed = expected.starts_with("error: ") && got.starts_with("error: ");
        if (both_failed || expected == got) continue;
        INFO(code << " with s = \"" << s << "\", p = \"" << p << "\", r = \"" << r << '"');
        CHECK(got == expected);
    }
}

std::string pick(std::mt19937& random, std::initializer_list<std::string_view> parts, size_t most) {
    std::string text;
    for (size_t count = random() % (most + 1); count > 0; --count)
        text += parts.begin()[random() % parts.size()];
    return text;
}

}  // namespace

TEST_CASE("patterns do what the manual says of them") {
    auto theirs = Lua::theirs(), ours = Lua::ours();
    struct Row {
        const char *code, *s, *p, *r, *gives;
    };
    for (auto [code, s, p, r, gives] : {
             Row{"s:find(p)", "hello world", "o w", "", "number 5; number 7; "},
             Row{"s:find(p)", "hello", "l+", "", "number 3; number 4; "},
             Row{"s:find(p)", "hello", "()ll()", "", "number 3; number 4; number 3; number 5; "},
             Row{"s:match(p)", "key = value", "^(%w+)%s*=%s*(%w+)$", "",
                 "string key; string value; "},
             Row{"s:match(p)", "f(a(b)c)d", "%b()", "", "string (a(b)c); "},
             Row{"s:gsub(p, r)", "THE (quick) fox", "%f[%a]%a+%f[%A]", "<%0>",
                 "string <THE> (<quick>) <fox>; number 3; "},
             Row{"s:gsub(p, r)", "hello", "", "-", "string -h-e-l-l-o-; number 6; "},
             Row{"s:gsub(p, r)", "hello world", "(%w+) (%w+)", "%2 %1%%",
                 "string world hello%; number 1; "},
             Row{"s:match(p)", "[[x]]", "[]]+", "", "string ]]; "},
             Row{"s:match(p)", "a-b", "[a-]+", "", "string a-; "},
             Row{"s:match(p)", "abcabc", "(abc)%1", "", "string abc; "},
             Row{"s:match(p)", "x^y", "[x^]+", "", "string x^; "},
             Row{"s:match(p)", "aaa", "a-$", "", "string aaa; "},
         }) {
        INFO(code << " with s = \"" << s << "\", p = \"" << p << '"');
        CHECK(ours.run(code, s, p, r) == gives);
        CHECK(theirs.run(code, s, p, r) == gives);
    }
}

TEST_CASE("patterns that are wrong are refused in words") {
    auto ours = Lua::ours();
    for (auto [pattern, why] : {
             std::pair{"a%", "the pattern ends with a %"},
             std::pair{"[a", "the pattern has a [ without its ]"},
             std::pair{"[%", "the pattern has a [ without its ]"},
             std::pair{"(a", "the pattern has a ( without its )"},
             std::pair{"a)", "the pattern has a ) without its ("},
             std::pair{"%1", "the pattern asks for a capture that is not there, or not closed"},
             std::pair{"(%1)", "the pattern asks for a capture that is not there, or not closed"},
             std::pair{"%ba", "%b has no two bytes behind it"},
             std::pair{"%fa", "%f has no set behind it"},
         }) {
        INFO(pattern);
        CHECK_THAT(ours.run("s:match(p)", "aaa", pattern, ""), Catch::Matchers::Contains(why));
    }
    CHECK_THAT(ours.run("s:gsub(p, r)", "aaa", "a", "%x"),
               Catch::Matchers::Contains("followed by a digit"));
    CHECK_THAT(ours.run("s:gsub(p, r)", "aaa", "(a)", "%2"),
               Catch::Matchers::Contains("no capture %2"));
    CHECK_THAT(ours.run("s:match(('()'):rep(33))", "aaa", "", ""),
               Catch::Matchers::Contains("more than 32 captures"));
    CHECK_THAT(ours.run("s:match(('a?'):rep(300))", std::string(300, 'a'), "", ""),
               Catch::Matchers::Contains("too many parts that may vary"));
}

TEST_CASE("patterns at random match as Lua's own do, byte for byte") {
    auto theirs = Lua::theirs(), ours = Lua::ours();
    const auto seed = GENERATE(1u, 2u, 3u, 4u);
    INFO("seed " << seed);
    std::mt19937 random(seed);
    using namespace std::string_view_literals;
    for (int i = 0; i < 4000; ++i) {
        const std::string subject = pick(
            random,
            {"a", "b", "ab", "A", "1", " ", "(", ")", "%", "-", "]", "^", "\n", "\xe4", "\0"sv},
            12);
        const std::string pattern = pick(
            random, {"a",    "b",    "A",     ".",      "%a",          "%d",     "%S",     "%W",
                     "%%",   "%x",   "%g",    "[ab]",   "[^a]",        "[a-c]",  "[%d%s]", "[]a]",
                     "[^]]", "[a-]", "[^%w]", "*",      "+",           "-",      "?",      "*",
                     "-",    "(",    ")",     "()",     "(a)",         "(.-)",   "(%w+)",  "%1",
                     "%2",   "%b()", "%bab",  "%f[%w]", "%f[^a]",      "^",      "$",      "[",
                     "]",    "%",    "%z",    "\0"sv,   "[\0-\x7f]"sv, "[%a-z]", "[a-%%]"},
            7);
        const std::string replacement =
            pick(random, {"x", "%0", "%1", "%2", "%%", "yy", "%", "\0"sv}, 3);
        compare(theirs, ours, subject, pattern, replacement);
    }
}

TEST_CASE("a pattern that goes back and forth stops when its instructions are used up") {
    auto ours = Lua::ours(100'000);
    const std::string as(4000, 'a');
    for (auto pattern :
         {"a*a*a*a*a*b", ".-.-.-.-.-b", "(.-)(.-)(.-)%1%2%3b", "a-a-a-a-b", "(a*)*(a*)(a*)(a*)b"}) {
        INFO(pattern);
        for (const char* code : {"s:find(p)", "s:match(p)", "s:gsub(p, '')", "s:gmatch(p)()"}) {
            const Moment start = now();
            CHECK_THAT(ours.run(code, as, pattern, ""),
                       Catch::Matchers::Contains("more than 100000 instructions"));
            CHECK(now() - start < 2s);
        }
    }
    // Long sets and long searches cost what they take.
    const std::string set = "[" + std::string(4000, 'b') + "]";
    CHECK_THAT(ours.run("s:find(p)", as, set, ""), Catch::Matchers::Contains("instructions"));
    CHECK_THAT(ours.run("s:gsub(p, '')", std::string(4000, '('), "%b()", ""),
               Catch::Matchers::Contains("instructions"));
}

TEST_CASE("a matcher says how many steps it took, and takes no more than it may") {
    const std::string_view subject = "aaaaaaaaaaaaaaaaaaaaaaaa";
    lua::Matcher bounded(subject, "a*a*a*a*b");
    CHECK(bounded.match(subject.data(), 1000) == nullptr);
    CHECK(bounded.is_exhausted());
    CHECK(bounded.steps_left() == 0);
    lua::Matcher plain(subject, "aaa");
    CHECK(plain.match(subject.data(), 1000) == subject.data() + 3);
    CHECK(plain.steps_left() == 1000 - 4);  // one to begin, one for each byte
    // What takes no byte takes a step: ( and ), the x that is not there, and each %1.
    lua::Matcher empty(subject, "(x?)%1%1%1");
    CHECK(empty.match(subject.data(), 1000) == subject.data());
    CHECK(empty.steps_left() == 1000 - 7);
}
