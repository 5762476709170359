// SPDX-License-Identifier: Apache-2.0
// What scripts may do, and what becomes of those that go wrong.
#include <array>
#include <chrono>
#include <ctime>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/format.h"
#include "config/config.h"
#include "filter/filters.h"
#include "lua/script.h"
#include "support/catch.h"
#include "support/eventually.h"
#include "support/proxify_process.h"
#include "support/temp_dir.h"

using namespace proxify;
using namespace proxify::test;
using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;
using lua::Outcome;
using Kind = lua::Outcome::Kind;

namespace {

constexpr auto to_target = Direction::to_target, to_client = Direction::to_client;

struct Lines : lua::Listener {
    void said(std::string_view text) noexcept override { all.emplace_back(text); }
    std::vector<std::string> all;
};

std::string refusal(std::string_view code, lua::Limits limits = {}) {
    auto script = lua::Script::compile("upper.lua", code, limits);
    return script ? "" : script.error();
}

lua::Script must_compile(std::string_view code, lua::Limits limits = {}) {
    auto script = lua::Script::compile("upper.lua", code, limits);
    INFO((script ? "" : script.error()));
    REQUIRE(script);
    return *script;
}

/// A script whose to_target has this body.
std::string with_body(const std::string& body) {
    return "local element = {}\nfunction element.to_target(chunk, session)\n" + body +
           "\nend\nreturn element";
}

/// A session of a script of one's own.
struct Run {
    explicit Run(std::string_view code, lua::Limits limits = {})
        : script(must_compile(code, limits)), state(script, session, &lines) {
        REQUIRE(state.failure() == "");
    }
    static Run of_body(const std::string& body, lua::Limits limits = {}) {
        return Run(with_body(body), limits);
    }
    Run(const Run&) = delete;

    /// What goes on for a chunk; "(drop)", "(close)" or "(fail) ..." when nothing does.
    std::string text(std::string_view chunk, Direction direction = to_target) {
        const Outcome outcome = state.see(direction, chunk);
        switch (outcome.kind) {
            case Kind::pass:
                return std::string(chunk);
            case Kind::change:
                return std::string(outcome.text);
            case Kind::drop:
                return "(drop)";
            case Kind::close:
                return "(close)";
            case Kind::fail:
                break;
        }
        return "(fail) " + outcome.error;
    }

    lua::Session session{.id = 7,
                         .service = "web",
                         .client = "198.51.100.7",
                         .client_port = 50000,
                         .original_dst = "203.0.113.1",
                         .original_port = 80};
    Lines lines;
    lua::Script script;
    lua::State state;
};

/// What an expression gives in a script, as text.
std::string value_of(const std::string& expression) {
    return Run::of_body("return tostring(" + expression + ")").text("x");
}

/// Of this thread alone, so that what else runs here does not count.
std::chrono::nanoseconds thread_time() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

TEST_CASE("what a script gives back says what becomes of a chunk", "[X-10]") {
    Run run(R"(
        local element = {}
        local answers = {pass = nil, empty = "", drop = proxify.drop, close = proxify.close}
        function element.to_target(chunk)
            if answers[chunk] then return answers[chunk] end
            if chunk == "enough" then return nil, proxify.enough end
            if chunk == "drop, enough" then return proxify.drop, proxify.enough end
            if chunk == "pass" then return end
            return chunk:upper()
        end
        function element.to_client(chunk) return chunk .. chunk end
        return element
    )");
    CHECK(run.text("hello") == "HELLO");
    CHECK(run.text("hello", to_client) == "hellohello");
    CHECK(run.state.see(to_target, "pass").kind == Kind::pass);
    CHECK(run.state.see(to_target, "ALREADY").kind == Kind::pass);  // given back as it was
    CHECK(run.state.see(to_target, "empty").kind == Kind::change);
    CHECK(run.text("empty").empty());
    CHECK(run.text("drop") == "(drop)");
    CHECK(run.text("close") == "(close)");
    CHECK_FALSE(run.state.see(to_target, "pass").has_enough);
    CHECK(run.state.see(to_target, "enough").has_enough);
    CHECK(run.state.see(to_target, "enough").kind == Kind::pass);
    CHECK(run.state.see(to_target, "drop, enough").has_enough);
    CHECK(run.state.see(to_target, "drop, enough").kind == Kind::drop);
    // Bytes are bytes.
    CHECK(run.text(std::string("\0\xff\n", 3), to_client) == std::string("\0\xff\n\0\xff\n", 6));
}

TEST_CASE("a script that gives back something else has failed, in a sentence", "[X-14]") {
    for (auto [value, kind] : {std::pair{"{}", "a table"},
                               {"7", "a number"},
                               {"true", "a boolean"},
                               {"false", "a boolean"},
                               {"print or pairs", "a function"},
                               {"proxify.enough", "proxify.enough"}}) {
        INFO(value);
        auto run = std::make_unique<Run>(with_body("return " + std::string(value)));
        CHECK(run->text("x") == "(fail) upper.lua: to_target gave back " + std::string(kind) +
                                    "; expected a string, proxify.drop, proxify.close or nothing");
    }
    Run second(with_body("return 'x', 'y'"));
    CHECK(second.text("x") ==
          "(fail) upper.lua: to_target gave back a string as its second result; expected "
          "proxify.enough or nothing");
}

TEST_CASE("a script knows its session, and keeps what it likes between chunks") {
    Run run(R"(
        local element, seen = {}, 0
        function element.to_target(chunk, session)
            seen = seen + 1
            total = (total or 0) + #chunk
            return ("%d %s %s:%d %s:%d, %d, %d"):format(session.id, session.service, session.client,
                session.client_port, session.original_dst, session.original_port, seen, total)
        end
        return element
    )");
    CHECK(run.text("abc") == "7 web 198.51.100.7:50000 203.0.113.1:80, 1, 3");
    CHECK(run.text("de") == "7 web 198.51.100.7:50000 203.0.113.1:80, 2, 5");
    // Another session begins anew.
    lua::State other(run.script, run.session, nullptr);
    CHECK(other.see(to_target, "x").text == "7 web 198.51.100.7:50000 203.0.113.1:80, 1, 1");
}

TEST_CASE("what finish gives back comes after the last bytes") {
    Run run(R"(return {
        to_target = function() end,
        finish = function(direction, session) return "bye " .. direction .. session.id end,
    })");
    CHECK(run.state.finish(to_target).text == "bye to_target7");
    CHECK(run.state.finish(to_client).text == "bye to_client7");
    Run without("return { to_target = function() end }");
    CHECK(without.state.finish(to_target).kind == Kind::pass);
    Run wrong("return { to_target = function() end, finish = function() return 7 end }");
    CHECK_THAT(wrong.state.finish(to_target).error,
               StartsWith("upper.lua: finish gave back a number"));
}

TEST_CASE("a script that is no element is refused, and where is said") {
    CHECK_THAT(refusal("local a = 1\nlocal b = = 2"),
               StartsWith("upper.lua:2: unexpected symbol near '='"));
    CHECK_THAT(refusal("\nerror('no')"), StartsWith("upper.lua:2: no"));
    CHECK_THAT(refusal("local a\nreturn a.b"),
               StartsWith("upper.lua:2: attempt to index a nil value"));
    CHECK(refusal("") ==
          "upper.lua: it gives back nil; end it with `return element`, a table of functions");
    CHECK_THAT(refusal("return 7"), Contains("it gives back a number"));
    CHECK(refusal("return {}") ==
          "upper.lua: its table has neither to_target nor to_client; it needs one of them");
    CHECK(refusal("return {to_target = 'x'}") ==
          "upper.lua: to_target is a string; expected a function");
    CHECK(refusal("while true do end") ==
          "upper.lua:1: this takes more than 1000000 instructions; do less in one call, or raise "
          "`instructions`");
    CHECK_THAT(refusal(std::string(1000, '(')), StartsWith("upper.lua: C stack overflow"));
    CHECK(refusal("error({})") == "upper.lua: an error that is a table");
    CHECK_THAT(refusal("local t = {} for i = 1, 1e9 do t[i] = {} end"),
               Contains("more memory than"));
    std::string long_code;
    for (int i = 0; i < 3000; ++i)
        long_code += "x = function() return 'a" + std::to_string(i) + "' end\n";
    CHECK(refusal(long_code, {.memory = 64 << 10}) ==
          "upper.lua: its `memory` of 65536 bytes is not enough to compile it");
}

TEST_CASE("bytecode is refused: it could be made to do anything") {
    CHECK(refusal("\x1bLua") == "upper.lua: this is compiled already; write the text here");
}

TEST_CASE("a script reaches nothing but its bytes") {
    for (auto name :
         {"io", "os", "package", "require", "debug", "load", "loadstring", "loadfile", "dofile",
          "collectgarbage", "print", "warn", "coroutine", "string.dump", "_G.load", "_ENV.io"}) {
        INFO(name);
        CHECK(value_of(name) == "nil");
    }
    // All that there is; something new would have to be thought about.
    CHECK(Run::of_body(R"(
        local names = {}
        for library, content in pairs(_G) do
            if type(content) == "table" and library ~= "_G" then
                for name in pairs(content) do names[#names + 1] = library .. "." .. name end
            else
                names[#names + 1] = library
            end
        end
        table.sort(names)
        return table.concat(names, " ")
    )")
              .text("x") ==
          "_G _VERSION assert error getmetatable ipairs math.abs math.acos math.asin math.atan "
          "math.ceil math.cos math.deg math.exp math.floor math.fmod math.huge math.log math.max "
          "math.maxinteger math.min math.mininteger math.modf math.pi math.rad math.random "
          "math.randomseed math.sin math.sqrt math.tan math.tointeger math.type math.ult next "
          "pairs pcall proxify.close proxify.drop proxify.enough proxify.log rawequal rawget "
          "rawlen rawset select setmetatable string.byte string.char string.find string.format "
          "string.gmatch string.gsub string.len string.lower string.match string.pack "
          "string.packsize string.rep string.reverse string.sub string.unpack string.upper "
          "table.concat table.insert table.move table.pack table.remove table.sort table.unpack "
          "tonumber tostring type utf8.char utf8.charpattern utf8.codepoint utf8.codes utf8.len "
          "utf8.offset xpcall");
    CHECK(value_of("getmetatable('').__index == string") == "true");
    CHECK(value_of("getmetatable('').__index.dump") == "nil");
}

TEST_CASE("the libraries that remain work as in Lua") {
    CHECK(value_of("('x'):rep(3, ',')") == "x,x,x");
    CHECK(value_of("('hello'):byte(2, 3)") == "101");
    CHECK(value_of("select('#', ('hello'):byte(-3, -1))") == "3");
    CHECK(value_of("table.concat({1, 2, 3}, '-', 2)") == "2-3");
    CHECK(value_of("table.concat({'a', 'b'})") == "ab");
    CHECK(value_of("select('#', table.unpack({1, 2, 3}, 2))") == "2");
    CHECK(value_of("#table.move({1, 2, 3}, 1, 3, 3)") == "5");
    CHECK(value_of("utf8.len('größe')") == "5");
    CHECK(value_of("utf8.codepoint('ö')") == "246");
    CHECK(value_of("tonumber('ff', 16)") == "255");
    CHECK(value_of("('<I2'):pack(513)") == std::string("\x01\x02", 2));
    CHECK(value_of("pcall(error, 'x')") == "false");
    CHECK(value_of("select(2, xpcall(error, function(e) return 'seen ' .. e end, 'x', 0))") ==
          "seen x");
    CHECK(value_of("select(3, xpcall(function(a, b) return a, b end, error, 1, 2))") == "2");
    auto list = [](const std::string& body) {
        return Run::of_body("local t = {5, 2, 8, 1, 9, 3} " + body + " return table.concat(t, ' ')")
            .text("x");
    };
    CHECK(list("table.sort(t)") == "1 2 3 5 8 9");
    CHECK(list("table.sort(t, function(a, b) return a > b end)") == "9 8 5 3 2 1");
    CHECK(list("table.insert(t, 7)") == "5 2 8 1 9 3 7");
    CHECK(list("table.insert(t, 1, 7)") == "7 5 2 8 1 9 3");
    CHECK(list("table.remove(t)") == "5 2 8 1 9");
    CHECK(list("table.remove(t, 2)") == "5 8 1 9 3");
    CHECK(list("t = {'b', 'a', 'ab'} table.sort(t)") == "a ab b");
    CHECK(list("for i = 1, 500 do t[i] = (i * 7919) % 501 end table.sort(t) "
               "for i = 2, 500 do assert(t[i - 1] <= t[i]) end t = {}")
              .empty());
    CHECK_THAT(list("t[3] = 'x' table.sort(t)"), Contains("attempt to compare"));
}

TEST_CASE("whatever a script tries, its call ends soon, as a failure", "[X-14]") {
    const std::string body = GENERATE(
        // Loops.
        "while true do end", "repeat until false", "for i = 1, math.maxinteger do end",
        "::a:: goto a",
        // Loops that catch what stops them.
        "while true do pcall(function() while true do end end) end",
        "local function f() return pcall(f) end while true do f() end",
        "local function f() pcall(f) f() end f()",
        "while true do xpcall(function() while true do end end, function() while true do end end) "
        "end",
        "return pcall(function() while true do end end)",
        "local t = setmetatable({}, {__close = function() while true do end end}) "
        "while true do pcall(function() local x <close> = t error('x') end) end",
        // Recursion, in Lua, in C, and in the handling of errors.
        "local function f() return 1 + f() end return f()",
        "local function f() return f() end return f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end "
        "return t.x",
        "local function f(s) return (s:gsub('.', f)) end return f('x')",
        "local function h(e) error(e) end xpcall(error, h) local function g() xpcall(g, g) end g() "
        "while true do end",
        "local t = {} setmetatable(t, {__tostring = function() return tostring(t) end}) return "
        "tostring(t)",
        "local t = {} for i = 1, 1e9 do t = {t} end",
        // Memory.
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) end",
        "local s = 'x' while true do s = s .. s end", "return ('x'):rep(1e9)",
        "return ('x'):rep(math.maxinteger)", "while true do pcall(string.rep, 'x', 1 << 30) end",
        "local t = {} while true do pcall(function() while true do t[#t + 1] = {} end end) end",
        "return ('%99999d'):format(1)", "return ('x'):rep(1e5):gsub('.', ('y'):rep(1e5))",
        "return string.pack('!16' .. ('x'):rep(1e5) .. 'c999999999', '')",
        "return table.concat({}, ',', 1, 2)",
        // Loops in C functions.
        "return (''):rep(1e15)", "return (''):rep(math.maxinteger, '')",
        "while true do ('x'):rep(1e5) end",
        "return table.concat(setmetatable({}, {__index = function() return '' end}), '', 1, "
        "math.maxinteger)",
        "return table.concat({}, '', math.mininteger, math.maxinteger)",
        "return table.unpack({}, 1, 1e9)",
        "return table.unpack({}, math.mininteger, math.maxinteger)",
        "table.move({}, 1, math.maxinteger - 1, 2)", "table.move({}, -1e15, 0, 5)",
        "table.insert(setmetatable({}, {__len = function() return 1 << 60 end}), 1, 'x')",
        "table.remove(setmetatable({}, {__len = function() return 1 << 60 end}), 1)",
        "table.sort(setmetatable({}, {__len = function() return 1 << 30 end}))",
        "local t = {} for i = 1, 2000 do t[i] = i end while true do table.sort(t, function() "
        "return true end) end",
        "local a, b = ('x'):rep(1e5), ('x'):rep(1e5) local t = {} for i = 1, 2000 do t[i] = i % 2 "
        "== 0 and a or b end "
        "while true do table.sort(t) end",
        "local a, b = ('x'):rep(3e5), ('x'):rep(3e5) while true do local _ = a < b end",
        "local a, b = ('x'):rep(3e5), ('x'):rep(3e5) while true do local _ = a == b end",
        "local a = (' '):rep(3e5) while true do tonumber(a) end",
        "local a = (' '):rep(3e5) while true do pcall(math.abs, a) end",
        "local a = ('\\xbf'):rep(3e5) while true do utf8.len(a) end",
        "local a = ('\\xbf'):rep(3e5) local f = utf8.codes('x') while true do pcall(f, a, 1) end",
        "local t = {} for i = 1, 5000 do t[i .. 'x'] = 1 end for k in pairs(t) do t[k] = nil end "
        "while true do next(t) end",
        "local t = {} for i = 1, 1900 do t = setmetatable({}, {__index = t}) end while true do "
        "local _ = t.x end",
        "local t = {} t = setmetatable(t, t) t.__index = t while true do pcall(rawget, "
        "pcall(function() return t.x end)) end",
        // Patterns.
        "return (('a'):rep(4000)):find('a*a*a*a*a*b')",
        "return (('a'):rep(4000)):gsub('.-.-.-.-b', '')",
        // Errors of all kinds.
        "error()", "error(nil)", "error({})",
        "error(setmetatable({}, {__tostring = function() while true do end end}))", "error(1)",
        "error(true)", "error(proxify)", "local x <close> = {}", "nothing()", "return 1 < {}",
        // What is not there.
        "coroutine.yield()", "coroutine.wrap(function() end)()", "io.open('/etc/passwd')",
        "os.exit()", "load('return 1')()", "require('x')", "collectgarbage()",
        "setmetatable({}, {__gc = function() while true do end end})", "return #debug.traceback()");
    INFO(body);
    Run run(with_body("if chunk == 'good' then return 'fine' end " + body));
    const Moment start = now();
    const std::string text = run.text("x");
    CHECK_THAT(text, StartsWith("(fail) upper.lua:"));
    CHECK(now() - start < (sanitized ? 20s : 3s));
    CHECK(text.size() < 1500);

    // The session goes on, and another one has felt nothing.
    CHECK(run.text("good") == "fine");
    lua::State other(run.script, run.session, nullptr);
    CHECK(other.see(to_target, "good").text == "fine");
}

TEST_CASE("searches of a few steps at each place are stopped by their instructions, not by time",
          "[X-14]") {
    const std::string body =
        GENERATE("s:find('x.')", "s:match('x.')", "s:gmatch('x')()", "s:gsub('x', '')",
                 "s:gsub('a', 'b')", "s:gsub('', '')", "s:find('xy', 1, true)",
                 // The pattern is gone through as well, by what takes no byte of the text, too.
                 "s:find(('()'):rep(31) .. 'x')", "s:find('(b-)' .. ('%1'):rep(3000) .. 'x')",
                 "s:find(p, #s)");
    INFO(body);
    // Time of its own ends a call of so many instructions after 110 ms; this takes about 3 ms.
    Run run(with_body("local s, p = ('a'):rep(4000), ('a'):rep(10000) .. '.' for i = 1, 20000 do " +
                      body + " end"),
            {.instructions = 100'000});
    const auto start = thread_time();
    CHECK_THAT(run.text("x"), Contains("this takes more than 100000 instructions"));
    CHECK(thread_time() - start < 100ms);
}

TEST_CASE("a step costs a quarter of an instruction, wherever it is taken") {
    // 4001 places, 2 steps at each but the last: 2000 instructions and a few for the call itself.
    const auto body = [](const char* call) {
        return with_body("local s = ('a'):rep(4000) for i = 1, tonumber(chunk) do " +
                         std::string(call) + " end");
    };
    for (const char* call : {"s:find('x.')", "s:match('x.')", "s:gsub('x', '')"}) {
        INFO(call);
        Run run(body(call), {.instructions = 100'000});
        CHECK(run.text("45") == "45");
        CHECK_THAT(run.text("51"), Contains("this takes more than 100000 instructions"));
    }
    // A plain search goes through 16 bytes in the time of one: 250.
    Run plain(body("s:find('xy', 1, true)"), {.instructions = 100'000});
    CHECK(plain.text("350") == "350");
    CHECK_THAT(plain.text("401"), Contains("this takes more than 100000 instructions"));
}

TEST_CASE("a script has no weak tables, whenever it asks for one") {
    constexpr auto sentence =
        "upper.lua: a script may have no weak tables (__mode); set a field to nil to let go of it";
    CHECK(refusal(with_body("setmetatable({}, {__mode = 'k'})")) == sentence);
    CHECK(refusal(with_body("local m = {} setmetatable({}, m) m.__mode = 'k'")) == sentence);
    CHECK(refusal(with_body("local m = {} setmetatable({}, m) m['\\95_mode'] = 'k'")) == sentence);
    CHECK(refusal(with_body("local m = {} setmetatable({}, m) rawset(m, '__mode', 'v')")) ==
          sentence);
    // A name that is put together is seen where it is used.
    CHECK_THAT(Run::of_body("setmetatable({}, {['__' .. 'mode'] = 'k'})").text("x"),
               StartsWith("(fail) upper.lua:3: a script may have no weak tables (__mode)"));
    // What only looks like it is nothing of the kind.
    CHECK(refusal(with_body("-- no __mode here\nlocal __mode, my__mode = 1, '__model'")) == "");
    CHECK(value_of("getmetatable(setmetatable({}, {mode = 'k'})).mode") == "k");
}

TEST_CASE("failures are told with the place, and why") {
    CHECK_THAT(Run::of_body("\n\nerror('too much')").text("x"),
               StartsWith("(fail) upper.lua:5: too much"));
    CHECK_THAT(Run::of_body("local a\nreturn a.b").text("x"),
               StartsWith("(fail) upper.lua:4: attempt to index a nil value (local 'a')"));
    CHECK_THAT(Run::of_body("while true do end").text("x"),
               StartsWith("(fail) upper.lua:3: this takes more than 1000000 instructions"));
    CHECK_THAT(Run::of_body("return (''):rep(1e15)").text("x"),
               StartsWith("(fail) upper.lua:3: this takes more than 1000000 instructions"));
    CHECK(Run::of_body("return ('x'):rep(1 << 21)", {.instructions = 100'000'000}).text("x") ==
          "(fail) upper.lua: it needs more memory than the 1048576 bytes that a session may have");
    CHECK(Run::of_body("error({})").text("x") == "(fail) upper.lua: an error that is a table");
    CHECK(Run::of_body("error('a\\nb\\0\\255', 0)").text("x") ==
          "(fail) upper.lua: a\\x0ab\\x00\\xff");
    CHECK_THAT(Run::of_body("setmetatable({}, {__gc = 1})").text("x"),
               StartsWith("(fail) upper.lua:3: a script may have no __gc"));
}

TEST_CASE("a script that has eaten its memory has it again when it lets go") {
    Run run(with_body(R"(
        if chunk == "eat" then kept = {} while true do kept[#kept + 1] = ("x"):rep(1000) .. #kept end end
        if chunk == "let go" then kept = nil end
        return ("y"):rep(#chunk)
    )"));
    CHECK_THAT(run.text("eat"), Contains("more memory than"));
    CHECK(run.state.memory() <= 1 << 20);
    CHECK_THAT(run.text(std::string(20000, 'x')), StartsWith("(fail)") || StartsWith("yyy"));
    run.text("let go");
    CHECK(run.text(std::string(20000, 'x')) == std::string(20000, 'y'));
}

TEST_CASE("limits are felt to the instruction, and to the byte") {
    // Each call has them anew.
    Run run(with_body("for i = 1, tonumber(chunk) do end"), {.instructions = 10'000});
    for (int i = 0; i < 100; ++i) CHECK(run.text("9000") == "9000");
    CHECK_THAT(run.text("11000"), Contains("more than 10000 instructions"));
    CHECK(run.text("9000") == "9000");

    Run small(with_body("return ('x'):rep(tonumber(chunk))"), {.memory = 128 << 10});
    CHECK(small.text("10000").size() == 10000);
    CHECK_THAT(small.text("131072"), Contains("more memory than the 131072 bytes"));
    CHECK_THAT(refusal("return {to_target = function() end}", {.memory = 1000}),
               StartsWith("upper.lua: "));
}

TEST_CASE("a script says lines to the log, of any bytes, and not without end") {
    Run run(with_body("proxify.log(chunk)"));
    run.text(std::string("a\n\0\x1b[31m\xff", 9));
    REQUIRE(run.lines.all.size() == 1);
    CHECK(run.lines.all[0] == "a\\x0a\\x00\\x1b[31m\\xff");
    run.text(std::string(3000, 'x'));
    CHECK(run.lines.all[1] == std::string(1024, 'x') + "...");
    for (int i = 0; i < 1000; ++i) run.text("x");
    CHECK(run.lines.all.size() == lua::State::log_lines_max + 1);
    CHECK(run.lines.all.back() == "has said enough; the rest is left out");
    CHECK_THAT(Run::of_body("proxify.log({})").text("x"),
               StartsWith("(fail) upper.lua:3: bad argument"));
}

namespace {

struct Journal : telemetry::Journal {
    void session(telemetry::SessionRecord&&) override {}
    void write(telemetry::Level, const char* event, std::string message,
               std::vector<std::pair<const char*, std::string>>) override {
        lines.push_back(std::string(event) + ": " + message);
    }
    std::vector<std::string> lines;
};

config::Element element_of(const std::string& code) {
    config::Element element;
    element.type = config::ElementType::lua;
    element.name = "mine";
    element.script = "mine.lua";
    element.code = code;
    return element;
}

/// One session of a service with these elements.
struct ChainRun {
    explicit ChainRun(std::vector<config::Element> elements, size_t chunk_size = 4096) {
        config::Service service{.name = "web", .filters = std::move(elements)};
        service.chunk_size = chunk_size;
        filters = filter::Filters::build(service, nullptr);
        chain = filters->begin({.session = 7,
                                .service = "web",
                                .client = *Address::parse("198.51.100.7:50000"),
                                .original_dst = *Address::parse("[2001:db8::1]:80"),
                                .log = journal});
    }

    /// What comes out for bytes, and at the end.
    std::string through(std::string_view bytes, Direction direction = to_target) {
        filter::Bytes input = filter::bytes_of(bytes);
        state = {.state = filter::Progress::State::full};
        std::string all;
        while (state.state == filter::Progress::State::full ||
               state.state == filter::Progress::State::wait) {
            pauses += state.state == filter::Progress::State::wait;
            state = chain->flow(direction).run(input, Time{}, out);
            all += take();
        }
        return all;
    }
    std::string at_end(Direction direction = to_target) {
        state = chain->flow(direction).finish(Time{}, out);
        return take();
    }
    std::string take() {
        std::string text(filter::text_of(out.bytes()));
        if (!text.empty()) out.consume(text.size());
        return text;
    }

    Journal journal;
    std::shared_ptr<const filter::Filters> filters;
    std::unique_ptr<filter::Chain> chain;
    filter::Output out;
    filter::Progress state;
    int pauses = 0;  ///< in which others have their turn
};

}  // namespace

TEST_CASE("a script is an element of a chain like any other", "[X-10] [X-13] [X-17]") {
    ChainRun run({element_of(R"(
        local element = {}
        function element.to_target(chunk) return chunk .. "A" end
        function element.to_client(chunk) return chunk .. "A" end
        function element.finish() return "." end
        return element)"),
                  element_of(R"(
        return {to_target = function(chunk) return chunk .. "B" end,
                to_client = function(chunk) return chunk .. "B" end})")});
    CHECK(run.through("x") == "xAB");
    CHECK(run.through("x", to_client) == "xBA");
    CHECK(run.at_end() == ".B");
    CHECK(run.state.state == filter::Progress::State::hungry);
}

TEST_CASE("what a script drops reaches no later element, and what it closes ends the session",
          "[X-11] [X-15]") {
    ChainRun run({element_of(R"(return {to_target = function(chunk)
            if chunk == "drop" then return proxify.drop end
            if chunk == "close" then return proxify.close end
        end})"),
                  element_of("return {to_target = function(c) proxify.log(c) end}")});
    CHECK(run.through("drop").empty());
    CHECK(run.through("pass") == "pass");
    CHECK(run.journal.lines ==
          std::vector<std::string>{"element_said: session 7 of service web: element mine: pass"});
    CHECK(run.through("close").empty());
    CHECK(run.state.state == filter::Progress::State::closed);
    CHECK(std::string(run.state.reason) == "a script said so");
    CHECK(run.state.element == "mine");
}

TEST_CASE("a script sees only the directions that it has functions for, until it has enough") {
    ChainRun run({element_of(R"(return {
        to_client = function(chunk) return "first: " .. chunk, proxify.enough end})")});
    CHECK(run.chain->flow(to_target).is_sated());
    CHECK_FALSE(run.chain->flow(to_client).is_sated());
    CHECK(run.through("a", to_client) == "first: a");
    CHECK(run.chain->flow(to_client).is_sated());
}

TEST_CASE("a script that fails lets the chunk pass, or closes, as the file says", "[X-14]") {
    auto spec = element_of("return {to_target = function(chunk) return chunk.nothing.at_all end}");
    ChainRun passes({spec});
    CHECK(passes.through("one") == "one");
    CHECK(passes.through("two") == "two");
    CHECK(passes.filters->entries()[0].stats->of(to_target).failed.value() == 2);
    REQUIRE(passes.journal.lines.size() == 1);  // the first failure of a session tells
    CHECK_THAT(passes.journal.lines[0],
               StartsWith("element_failed: session 7 of service web: element mine failed: "
                          "mine.lua:1: attempt to index a nil value"));
    spec.on_error = config::OnError::close;
    ChainRun closes({spec});
    CHECK(closes.through("one").empty());
    CHECK(closes.state.state == filter::Progress::State::closed);
    CHECK(std::string(closes.state.reason) == "an element failed");
}

TEST_CASE("a file with a script that does not work is refused, with both places") {
    TempDir folder;
    auto parse = [&](const std::string& code) {
        write_file(folder / "mine.lua", code);
        return config::parse(
            "[[service]]\nname = \"web\"\nports = [5000]\n"
            "targets = [\"127.0.0.1:9000\"]\n"
            "filters = [{ type = \"lua\", script = \"mine.lua\" }]\n",
            folder / "targets.toml");
    };
    auto good = parse("return {to_target = function() end}");
    REQUIRE(good);
    CHECK(good->services[0].filters[0].code == "return {to_target = function() end}");
    auto wrong = parse("local a\nlocal b = = 2");
    REQUIRE_FALSE(wrong);
    CHECK_THAT(wrong.error().text(), Contains("targets.toml:5:12") &&
                                         Contains("filters.script: " + (folder / "mine.lua") +
                                                  ":2: unexpected symbol near '='"));
    auto fails = parse("\n\nerror('not today')");
    REQUIRE_FALSE(fails);
    CHECK_THAT(fails.error().text(), Contains("mine.lua:3: not today"));
    CHECK_FALSE(parse("return 7"));
}

TEST_CASE("sessions keep the script they began with, and a changed file is another script") {
    config::Service service{
        .name = "web", .filters = {element_of("return {to_target = function() return 'old' end}")}};
    auto before = filter::Filters::build(service, nullptr);
    auto same = filter::Filters::build(service, before.get());
    CHECK(same->entries()[0].maker == before->entries()[0].maker);
    service.filters[0].code = "return {to_target = function() return 'new' end}";
    auto after = filter::Filters::build(service, before.get());
    Journal journal;
    const filter::Facts facts{
        .session = 1, .service = "web", .client = {}, .original_dst = {}, .log = journal};
    for (auto& [filters, text] : {std::pair{before, "old"}, {after, "new"}, {before, "old"}}) {
        auto chain = filters->begin(facts);
        filter::Output out;
        filter::Bytes input = filter::bytes_of("x");
        chain->flow(to_target).run(input, Time{}, out);
        CHECK(filter::text_of(out.bytes()) == text);
    }
}

TEST_CASE("a script that works long lets others have their turn between two chunks") {
    auto working = [](int times) {
        return element_of(
            format("return {{to_target = function() for i = 1, {} do end end}}", times));
    };
    ChainRun quick({working(1)}, 10);
    CHECK(quick.through(std::string(100, 'x')).size() == 100);
    CHECK(quick.pauses == 0);
    ChainRun slow({working(200'000)}, 10);
    CHECK(slow.through(std::string(100, 'x')).size() == 100);
    CHECK(slow.pauses == 10);
    // Many small pieces are much work as well.
    ChainRun small({working(1)}, 1);
    CHECK(small.through(std::string(32 * 1024, 'x')).size() == 32 * 1024);
    CHECK(small.pauses > 100);
}

TEST_CASE("the examples of the documentation do what their headers say") {
    auto example = [](const std::string& name) {
        return element_of(read_file(source_root() + "/docs/elements/" + name));
    };
    ChainRun upper({example("upper.lua")});
    CHECK(upper.through("hello there") == "HELLO THERE");
    CHECK(upper.through("general kenobi", to_client) == "GENERAL KENOBI");

    // However the bytes are cut.
    for (size_t size : {1, 2, 5, 4096}) {
        INFO("chunks of " << size);
        ChainRun first_line({example("first_line.lua")}, size);
        CHECK(first_line.through("SELECT name\nSHUTDOWN\n") == "SELECT name\nSHUTDOWN\n");
        CHECK(first_line.chain->flow(to_target).is_sated());
        ChainRun forbidden({example("first_line.lua")}, size);
        CHECK(forbidden.through("shutdown now\n").empty());
        CHECK(forbidden.state.state == filter::Progress::State::closed);
        ChainRun endless({example("first_line.lua")}, size);
        endless.through(std::string(5000, 'x'));
        CHECK(endless.state.state == filter::Progress::State::closed);

        ChainRun redact({example("redact.lua")}, size);
        std::string text = redact.through("card 4000 1234 5678 9010 ok\nid 4000-1234", to_client);
        text += redact.through("-5678-9010.\n12345\nlast 4000123456789010", to_client);
        text += redact.at_end(to_client);
        CHECK(text ==
              "card **** **** **** 9010 ok\nid ****-****-****-9010.\n12345\nlast ************9010");
    }
}

TEST_CASE("a fresh session takes little memory and little time") {
    const auto script = must_compile(with_body("return chunk:upper()"));
    const Moment start = now();
    size_t memory = 0;
    for (int i = 0; i < 1000; ++i) {
        lua::State state(script, {}, nullptr);
        memory = state.memory();
    }
    CHECK(memory < 32 << 10);
    CHECK(now() - start < (sanitized ? 20s : 2s));
}

TEST_CASE("many threads may run one script") {
    const auto script = must_compile(with_body("n = (n or 0) + 1 return tostring(n)"));
    std::array<bool, 4> is_good{};
    std::vector<std::thread> threads;
    for (bool& good : is_good)
        threads.emplace_back([&good, &script] {
            good = true;
            for (int i = 0; i < 100; ++i) {
                lua::State state(script, {}, nullptr);
                for (int n = 1; n <= 10; ++n)
                    good = good && state.see(to_target, "x").text == std::to_string(n);
            }
        });
    for (auto& thread : threads) thread.join();
    for (bool good : is_good) CHECK(good);
}
