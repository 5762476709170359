// SPDX-License-Identifier: Apache-2.0
// The table library. Its loops go where they are told to, from 1 to 2^63 if need be, so each is
// paid for first. __index, __newindex and __len would make such a loop run what is not counted:
// tables that have one of them are for a script's own loops.
//
// Errors of Lua jump out of these functions, so nothing in them has a destructor.
#include <algorithm>
#include <lua.hpp>

#include "lua/library.h"
#include "lua/meter.h"

namespace proxify::lua {
namespace {

using Unsigned = unsigned long long;

void check_plain(lua_State* L, int index) {
    luaL_checktype(L, index, LUA_TTABLE);
    for (const char* name : {"__index", "__newindex", "__len"}) {
        if (luaL_getmetafield(L, index, name) == LUA_TNIL) continue;
        luaL_error(L, "the table library takes no table with %s", name);
    }
}

lua_Integer length_of(lua_State* L, int index) {
    return static_cast<lua_Integer>(lua_rawlen(L, index));
}

/// Turns from `first` to `last`, both included; any two numbers.
void charge_range(lua_State* L, lua_Integer first, lua_Integer last) {
    if (first <= last) charge_turns(L, static_cast<Unsigned>(last) - static_cast<Unsigned>(first));
}

}  // namespace

int concat_table(lua_State* L) {
    check_plain(L, 1);
    charge_range(L, luaL_optinteger(L, 3, 1), luaL_optinteger(L, 4, length_of(L, 1)));
    return call_original(L);
}

int insert_into_table(lua_State* L) {
    check_plain(L, 1);
    if (lua_gettop(L) == 3) charge_range(L, luaL_checkinteger(L, 2), length_of(L, 1));
    return call_original(L);
}

int remove_from_table(lua_State* L) {
    check_plain(L, 1);
    const lua_Integer size = length_of(L, 1);
    charge_range(L, luaL_optinteger(L, 2, size), size);
    return call_original(L);
}

int move_table(lua_State* L) {
    check_plain(L, 1);
    if (!lua_isnoneornil(L, 5)) check_plain(L, 5);
    charge_range(L, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return call_original(L);
}

int unpack_table(lua_State* L) {
    check_plain(L, 1);
    charge_range(L, luaL_optinteger(L, 2, 1), luaL_optinteger(L, 3, length_of(L, 1)));
    return call_original(L);
}

namespace {

// A sort of our own: each comparison is paid for, and no order of elements and no comparator makes
// it take more than n log n of them.

/// Whether the value at the index `a` of the stack comes before the one at `b`.
bool is_before(lua_State* L, int a, int b) {
    if (!lua_isnil(L, 2)) {
        lua_pushvalue(L, 2);
        lua_pushvalue(L, a);
        lua_pushvalue(L, b);
        lua_call(L, 2, 1);
        const bool answer = lua_toboolean(L, -1);
        lua_pop(L, 1);
        charge_turns(L, 8);
        return answer;
    }
    Unsigned turns = 8;
    if (lua_type(L, a) == LUA_TSTRING && lua_type(L, b) == LUA_TSTRING)
        turns += std::min(lua_rawlen(L, a), lua_rawlen(L, b)) / 2;
    charge_turns(L, turns);
    return lua_compare(L, a, b, LUA_OPLT);
}

/// Lets the value at the top of the stack sink from `place` of the heap 1..size; takes it off.
void sink(lua_State* L, lua_Integer place, lua_Integer size) {
    const int value = lua_gettop(L);
    while (place * 2 <= size) {
        lua_Integer child = place * 2;
        lua_rawgeti(L, 1, child);
        if (child < size) {
            lua_rawgeti(L, 1, child + 1);
            if (is_before(L, value + 1, value + 2)) {
                lua_replace(L, value + 1);
                ++child;
            } else {
                lua_pop(L, 1);
            }
        }
        if (!is_before(L, value, value + 1)) {
            lua_pop(L, 1);
            break;
        }
        lua_rawseti(L, 1, place);
        place = child;
    }
    lua_rawseti(L, 1, place);
}

}  // namespace

/// table.sort(list [, comparator])
int sort_table(lua_State* L) {
    check_plain(L, 1);
    if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    const lua_Integer size = length_of(L, 1);
    for (lua_Integer place = size / 2; place >= 1; --place) {
        lua_rawgeti(L, 1, place);
        sink(L, place, size);
    }
    for (lua_Integer last = size; last > 1; --last) {
        lua_rawgeti(L, 1, last);
        lua_rawgeti(L, 1, 1);
        lua_rawseti(L, 1, last);
        sink(L, 1, last - 1);
    }
    return 0;
}

}  // namespace proxify::lua
