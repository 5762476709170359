// SPDX-License-Identifier: Apache-2.0
//
// Errors of Lua jump out of these functions without a look at what is alive there, so nothing in
// them has a destructor.
#include "lua/library.h"

#include <lua.hpp>
#include <span>
#include <string_view>

#include "lua/meter.h"

namespace proxify::lua {
namespace {

/// A function that remains, and what takes its place, with it as an upvalue.
struct Kept {
    std::string_view name;
    lua_CFunction guard = nullptr;
};

/// Of functions that look at each byte of their arguments.
int guard_by_length(lua_State* L) {
    size_t bytes = 0;
    for (int i = 1; i <= lua_gettop(L); ++i)
        if (lua_type(L, i) == LUA_TSTRING) bytes += lua_rawlen(L, i);
    charge_turns(L, bytes / 4);
    return call_original(L);
}

bool has_field(lua_State* L, int table, const char* name) {
    lua_pushstring(L, name);
    const bool has = lua_rawget(L, table) != LUA_TNIL;
    lua_pop(L, 1);
    return has;
}

/// Functions of __gc run where no instruction is counted. With __mode, the collector goes through
/// the pairs of a table again for each that it finds alive, all in one go that nothing interrupts.
///
/// What remains: a __mode that comes into the table later is not seen here. Where a script writes
/// the name out, Script::compile refuses it; one that puts the name together while it runs gets
/// its weak table, and may hold its thread for as long as the square of its `memory` allows.
int guard_setmetatable(lua_State* L) {
    if (lua_type(L, 2) == LUA_TTABLE) {
        if (has_field(L, 2, "__gc")) return luaL_error(L, "a script may have no __gc");
        if (has_field(L, 2, "__mode")) return luaL_error(L, "%s", no_weak_tables);
    }
    return call_original(L);
}

/// What was in a table and is gone is gone through.
int guard_next(lua_State* L) {
    charge_turns(L, Meter::of(L).memory() / 4096);
    return call_original(L);
}

int next_of_pairs(lua_State* L) {
    charge_turns(L, Meter::of(L).memory() / 4096);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_next(L, 1)) return 2;
    lua_pushnil(L);
    return 1;
}

/// As Lua's own, which would hand out its own next.
int guard_pairs(lua_State* L) {
    luaL_checkany(L, 1);
    if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 3);
        return 3;
    }
    lua_pushcfunction(L, next_of_pairs);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/// Calls the handler when all is over. Lua's own calls it where the error is raised, and when that
/// is the report that ends a call, nothing in the handler would be counted.
int guard_xpcall(lua_State* L) {
    constexpr int handler = 2, first_result = 3;
    const int arguments = lua_gettop(L) - handler;
    luaL_checktype(L, handler, LUA_TFUNCTION);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, first_result, 2);
    if (lua_pcall(L, arguments, LUA_MULTRET, 0) == LUA_OK) return lua_gettop(L) - handler;
    lua_settop(L, first_result + 1);
    lua_pushboolean(L, 0);
    lua_replace(L, first_result);
    lua_pushvalue(L, handler);
    lua_insert(L, first_result + 1);
    lua_call(L, 1, LUA_MULTRET);
    return lua_gettop(L) - handler;
}

/// string.rep("", 1e18) makes nothing, for ever.
int guard_rep(lua_State* L) {
    const lua_Integer count = luaL_checkinteger(L, 2);
    if (count > 0) charge_turns(L, static_cast<unsigned long long>(count));
    return call_original(L);
}

/// A place as string.sub and its like mean it: from the end when it is below zero.
lua_Integer from_start(lua_Integer place, size_t length) {
    if (place >= 0) return place;
    const auto size = static_cast<lua_Integer>(length);
    return place < -size ? 0 : size + place + 1;
}

/// Of functions that give back something for each byte from one place to another.
int guard_range(lua_State* L) {
    size_t length = 0;
    luaL_checklstring(L, 1, &length);
    const lua_Integer asked_first = luaL_optinteger(L, 2, 1);
    lua_Integer first = from_start(asked_first, length);
    lua_Integer last = from_start(luaL_optinteger(L, 3, asked_first), length);
    if (first < 1) first = 1;
    if (last > static_cast<lua_Integer>(length)) last = static_cast<lua_Integer>(length);
    if (first <= last) charge_turns(L, static_cast<unsigned long long>(last - first));
    return call_original(L);
}

constexpr Kept of_base[] = {
    {"assert"},
    {"error"},
    {"getmetatable"},
    {"ipairs"},
    {"next", guard_next},
    {"pcall"},
    {"rawequal"},
    {"rawget"},
    {"rawlen"},
    {"rawset"},
    {"select"},
    {"tostring"},
    {"type"},
    {"xpcall", guard_xpcall},
    {"setmetatable", guard_setmetatable},
    {"_G"},
    {"_VERSION"},
    {"pairs", guard_pairs},
    {"tonumber", guard_by_length},
};
constexpr Kept of_string[] = {
    {"byte", guard_range},
    {"char"},
    {"find", find_string},
    {"format", guard_by_length},
    {"gmatch", gmatch_string},
    {"gsub", gsub_string},
    {"len"},
    {"lower"},
    {"match", match_string},
    {"pack", guard_by_length},
    {"packsize", guard_by_length},
    {"rep", guard_rep},
    {"reverse"},
    {"sub"},
    {"unpack", guard_by_length},
    {"upper"},
};
constexpr Kept of_table[] = {
    {"concat", concat_table},      {"insert", insert_into_table},
    {"move", move_table},          {"pack"},
    {"remove", remove_from_table}, {"sort", sort_table},
    {"unpack", unpack_table},
};
constexpr Kept of_math[] = {
    {"abs"}, {"acos"},  {"asin"},       {"atan"},      {"ceil"}, {"cos"},    {"deg"},
    {"exp"}, {"floor"}, {"fmod"},       {"huge"},      {"log"},  {"max"},    {"maxinteger"},
    {"min"}, {"modf"},  {"mininteger"}, {"pi"},        {"rad"},  {"random"}, {"randomseed"},
    {"sin"}, {"sqrt"},  {"tan"},        {"tointeger"}, {"type"}, {"ult"},
};
constexpr Kept of_utf8[] = {
    {"char"},  {"charpattern"},          {"codepoint", guard_range},
    {"codes"}, {"len", guard_by_length}, {"offset", guard_by_length},
};

const Kept* find(std::span<const Kept> kept, std::string_view name) {
    for (const auto& one : kept)
        if (one.name == name) return &one;
    return nullptr;
}

/// Takes all but what is kept out of the table at the top.
void prune(lua_State* L, std::span<const Kept> kept) {
    const int library = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, library)) {
        // A field that is there may be set, or taken away, on the way through.
        const Kept* one =
            lua_type(L, -2) == LUA_TSTRING ? find(kept, lua_tostring(L, -2)) : nullptr;
        if (!one) {
            lua_pop(L, 1);
            lua_pushnil(L);
        } else if (one->guard) {
            lua_pushcclosure(L, one->guard, 1);
        }
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, library);
    }
}

void open(lua_State* L, lua_CFunction opener, std::span<const Kept> kept) {
    lua_pushcfunction(L, opener);
    lua_call(L, 0, 1);
    prune(L, kept);
}

}  // namespace

int call_original(lua_State* L) {
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

void charge_turns(lua_State* L, unsigned long long count) {
    Meter::of(L).charge_turns(L, count);
}

void open_library(lua_State* L) {
    open(L, luaopen_base, of_base);
    open(L, luaopen_string, of_string);  // which makes it the __index of strings, too
    lua_setfield(L, -2, "string");
    open(L, luaopen_table, of_table);
    lua_setfield(L, -2, "table");
    open(L, luaopen_math, of_math);
    lua_setfield(L, -2, "math");
    open(L, luaopen_utf8, of_utf8);
    lua_setfield(L, -2, "utf8");
    lua_pop(L, 1);
}

}  // namespace proxify::lua
