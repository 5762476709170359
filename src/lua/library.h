// SPDX-License-Identifier: Apache-2.0
// Library: what a script finds. Of Lua's own libraries only what is named here remains, and of that
// each C function whose loop could be long charges for it first (lua/meter.h). Missing on purpose:
//
//  - io, os, package, require, debug, load, loadfile, dofile, print, warn: a script touches nothing
//    but the bytes it is shown;
//  - coroutine: the instructions in a coroutine would not be counted;
//  - collectgarbage, string.dump, and __gc, whose functions run where nothing is counted;
//  - weak tables (__mode), which Lua may take quadratic time to collect, uncounted.
//
// string.find, match, gmatch and gsub are our own (lua/strings.cc), and table.sort (lua/tables.cc).
#pragma once

struct lua_State;

namespace proxify::lua {

constexpr char no_weak_tables[] =
    "a script may have no weak tables (__mode); set a field to nil to let go of it";

/// Opens it in a state of a Meter. Raises errors of Lua.
void open_library(lua_State* state);

// What takes the place of a function of Lua's; the original is its first upvalue.

int find_string(lua_State* state);
int match_string(lua_State* state);
int gmatch_string(lua_State* state);
int gsub_string(lua_State* state);
int concat_table(lua_State* state);
int insert_into_table(lua_State* state);
int move_table(lua_State* state);
int remove_from_table(lua_State* state);
int sort_table(lua_State* state);
int unpack_table(lua_State* state);
int call_original(lua_State* state);

/// Charges for `count` turns of a loop that each take about a quarter of an instruction.
void charge_turns(lua_State* state, unsigned long long count);

}  // namespace proxify::lua
