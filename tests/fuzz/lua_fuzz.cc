// SPDX-License-Identifier: Apache-2.0
// libFuzzer: no script and no bytes crash the room `lua`, leak, last, or take more than their
// memory; and our patterns match as Lua's own do.
#include <cstddef>
#include <cstdint>
#include <lua.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/expect.h"
#include "lua/library.h"
#include "lua/meter.h"
#include "lua/script.h"

using namespace proxify;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr lua::Limits limits{.memory = 128 << 10, .instructions = 20'000};

struct Lines : lua::Listener {
    void said(std::string_view text) noexcept override {
        expect(text.size() <= 4 * 1024 + 3, "a line is bounded");
        for (char c : text) expect(c >= ' ' && c < 0x7f, "a line is printable");
    }
};

void check(const lua::Outcome& outcome, const lua::State& state) {
    using Kind = lua::Outcome::Kind;
    expect((outcome.kind == Kind::fail) == outcome.error.starts_with("fuzz.lua:"),
           "a failure says why");
    expect(outcome.kind == Kind::change || outcome.text.empty(), "only a change has a text");
    expect(state.memory() <= limits.memory, "memory is bounded");
}

void run_script(const std::string& code, std::string_view bytes) {
    auto script = lua::Script::compile("fuzz.lua", code, limits);
    if (!script) {
        expect(script.error().starts_with("fuzz.lua:"), "a refusal says where");
        return;
    }
    Lines lines;
    lua::State state(*script, {.id = 1, .service = "web", .client = "::1", .original_dst = "::1"},
                     &lines);
    for (bool is_to_target = true; !bytes.empty(); is_to_target = !is_to_target) {
        const auto chunk = bytes.substr(0, 16);
        bytes.remove_prefix(chunk.size());
        check(state.see(is_to_target ? Direction::to_target : Direction::to_client, chunk), state);
    }
    check(state.finish(Direction::to_target), state);
}

constexpr const char* calls = R"(
    local s, p, r = ...
    local out = {}
    local function add(...)
        for i = 1, select("#", ...) do
            local value = select(i, ...)
            out[#out + 1] = type(value) == "string" and value or tostring(value)
        end
        out[#out + 1] = ";"
    end
    local function try(f, ...)
        local results = table.pack(pcall(f, ...))
        if results[1] then add(table.unpack(results, 2, results.n)) else add("error") end
    end
    try(string.find, s, p)
    try(string.find, s, p, -2)
    try(string.match, s, p, 2)
    try(string.gsub, s, p, r)
    try(string.gsub, s, p, function(a, b) return b end)
    try(function() for a, b in s:gmatch(p) do add(a, b) end end)
    return table.concat(out, ",")
)";

/// What the calls give in this state; empty when it was stopped.
std::string results(lua_State* L, const std::vector<std::string_view>& texts) {
    luaL_loadstring(L, calls);
    for (auto text : texts) lua_pushlstring(L, text.data(), text.size());
    if (lua_pcall(L, 3, 1, 0) != LUA_OK) return {};
    size_t size = 0;
    const char* text = lua_tolstring(L, -1, &size);
    return {text, size};
}

void compare_patterns(std::string_view bytes) {
    std::vector<std::string_view> texts;
    for (size_t length_max : {12, 12, 4}) {
        const auto text = bytes.substr(0, std::min(bytes.find('\n'), length_max));
        bytes.remove_prefix(std::min(bytes.size(), text.size() + 1));
        texts.push_back(text);
    }
    lua_State* theirs = luaL_newstate();
    luaL_openlibs(theirs);
    lua::Meter meter(1 << 20, 1'000'000);
    lua_State* ours = meter.open();
    lua_pushcfunction(ours, [](lua_State* L) {
        lua::open_library(L);
        return 0;
    });
    expect(lua_pcall(ours, 0, 0, 0) == LUA_OK, "the library opens");
    meter.refill(ours);
    const std::string got = results(ours, texts);
    expect(meter.is_spent() || got == results(theirs, texts), "patterns match as Lua's own do");
    lua_close(ours);
    lua_close(theirs);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    if (input.starts_with('p')) {
        compare_patterns(input.substr(1));
        return 0;
    }
    const auto code = std::string(input.substr(0, input.find('\0')));
    const auto bytes = input.substr(std::min(input.size(), code.size() + 1));
    run_script(code, bytes);
    run_script("return {to_target = function(chunk, session) " + code + " end}", bytes);
    return 0;
}
