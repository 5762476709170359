// SPDX-License-Identifier: Apache-2.0
// string.find, match, gmatch and gsub, as section 6.4 of Lua's manual describes them, over a
// Matcher that stops when the instructions of the call are used up.
//
// Errors of Lua jump out of these functions, so nothing in them has a destructor.
#include <cctype>
#include <cstring>
#include <lua.hpp>
#include <string_view>

#include "lua/library.h"
#include "lua/meter.h"
#include "lua/patterns.h"

namespace proxify::lua {
namespace {

std::string_view check_text(lua_State* L, int index) {
    size_t length = 0;
    const char* bytes = luaL_checklstring(L, index, &length);
    return {bytes, length};
}

/// Matches at one place, and pays a turn for each step. Raises when the pattern is wrong.
const char* match_at(lua_State* L, Matcher& matcher, const char* at) {
    Meter& meter = Meter::of(L);
    const uint64_t steps = meter.left() * Meter::turns_per_instruction;
    const char* end = matcher.match(at, steps);
    if (matcher.error()) luaL_error(L, "%s", matcher.error());
    meter.charge_turns(L, steps - matcher.steps_left());
    if (matcher.is_exhausted()) meter.charge(L, meter.left());
    return end;
}

/// The capture of that index, or the whole match when the pattern has none; a position is a number.
void push_capture(lua_State* L, const Matcher& matcher, int index, const char* at,
                  const char* end) {
    if (index >= matcher.capture_count()) {
        if (index > 0) luaL_error(L, "the pattern has no capture %%%d", index + 1);
        lua_pushlstring(L, at, static_cast<size_t>(end - at));
        return;
    }
    const auto [start, length] = matcher.capture(index);
    if (length == Matcher::Capture::open) luaL_error(L, "the pattern has a ( without its )");
    if (length == Matcher::Capture::position)
        lua_pushinteger(L, start - lua_tostring(L, 1) + 1);
    else
        lua_pushlstring(L, start, static_cast<size_t>(length));
}

int push_captures(lua_State* L, const Matcher& matcher, const char* at, const char* end,
                  bool or_whole) {
    const int count = matcher.capture_count() == 0 && or_whole ? 1 : matcher.capture_count();
    luaL_checkstack(L, count, "too many captures");
    for (int i = 0; i < count; ++i) push_capture(L, matcher, i, at, end);
    return count;
}

/// Where to begin, from the optional argument at `index`: an offset, which may be beyond the end.
size_t begin_at(lua_State* L, int index, size_t length) {
    const lua_Integer place = luaL_optinteger(L, index, 1);
    if (place > 0) return static_cast<size_t>(place) - 1;
    if (place == 0 || place < -static_cast<lua_Integer>(length)) return 0;
    return length - static_cast<size_t>(-place);
}

int find_plain(lua_State* L, std::string_view subject, std::string_view what, size_t begin) {
    charge_turns(L, (subject.size() - begin) / 4);
    const void* found = what.empty() ? subject.data() + begin
                                     : memmem(subject.data() + begin, subject.size() - begin,
                                              what.data(), what.size());
    if (!found) {
        lua_pushnil(L);
        return 1;
    }
    const auto place = static_cast<const char*>(found) - subject.data();
    lua_pushinteger(L, place + 1);
    lua_pushinteger(L, place + static_cast<lua_Integer>(what.size()));
    return 2;
}

int search(lua_State* L, bool is_find) {
    const std::string_view subject = check_text(L, 1);
    std::string_view pattern = check_text(L, 2);
    const size_t begin = begin_at(L, 3, subject.size());
    if (begin > subject.size()) {
        lua_pushnil(L);
        return 1;
    }
    charge_turns(L, pattern.size());  // each byte of it may be looked at before the first step
    if (is_find && (lua_toboolean(L, 4) || is_plain(pattern)))
        return find_plain(L, subject, pattern, begin);

    const bool is_anchored = pattern.starts_with('^');
    if (is_anchored) pattern.remove_prefix(1);
    Matcher matcher(subject, pattern);
    const char* const last = subject.data() + subject.size();
    for (const char* at = subject.data() + begin; at <= last; ++at) {
        if (const char* end = match_at(L, matcher, at)) {
            if (!is_find) return push_captures(L, matcher, at, end, /*or_whole=*/true);
            lua_pushinteger(L, at - subject.data() + 1);
            lua_pushinteger(L, end - subject.data());
            return push_captures(L, matcher, at, end, /*or_whole=*/false) + 2;
        }
        if (is_anchored) break;
    }
    lua_pushnil(L);
    return 1;
}

}  // namespace

int find_string(lua_State* L) {
    return search(L, /*is_find=*/true);
}

int match_string(lua_State* L) {
    return search(L, /*is_find=*/false);
}

namespace {

/// Upvalues: subject, pattern, where to go on, where the last match ended (-1 before the first).
int next_match(lua_State* L) {
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    const std::string_view subject = check_text(L, 1);
    const std::string_view pattern = check_text(L, lua_upvalueindex(2));
    const lua_Integer begin = lua_tointeger(L, lua_upvalueindex(3));
    const lua_Integer last_end = lua_tointeger(L, lua_upvalueindex(4));
    Matcher matcher(subject, pattern);
    for (lua_Integer at = begin; at <= static_cast<lua_Integer>(subject.size()); ++at) {
        const char* end = match_at(L, matcher, subject.data() + at);
        // Nothing, right behind a match, is none.
        if (!end || end - subject.data() == last_end) continue;
        lua_pushinteger(L, end - subject.data());
        lua_pushvalue(L, -1);
        lua_replace(L, lua_upvalueindex(3));
        lua_replace(L, lua_upvalueindex(4));
        return push_captures(L, matcher, subject.data() + at, end, /*or_whole=*/true);
    }
    // Whoever asks once more does not search it all again.
    lua_pushinteger(L, static_cast<lua_Integer>(subject.size()) + 1);
    lua_replace(L, lua_upvalueindex(3));
    return 0;
}

}  // namespace

int gmatch_string(lua_State* L) {
    const size_t length = check_text(L, 1).size();
    check_text(L, 2);
    const size_t begin = begin_at(L, 3, length);
    lua_settop(L, 2);
    lua_pushinteger(L, static_cast<lua_Integer>(begin > length ? length + 1 : begin));
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, next_match, 4);
    return 1;
}

namespace {

/// The replacement with what its %0 to %9 stand for.
void add_expanded(lua_State* L, luaL_Buffer& out, const Matcher& matcher, const char* at,
                  const char* end) {
    std::string_view rest = check_text(L, 3);
    charge_turns(L, rest.size());
    for (;;) {
        const size_t sign = rest.find('%');
        luaL_addlstring(&out, rest.data(), sign == rest.npos ? rest.size() : sign);
        if (sign == rest.npos) return;
        const char what = sign + 1 < rest.size() ? rest[sign + 1] : '\0';
        if (what == '%') {
            luaL_addchar(&out, '%');
        } else if (what == '0') {
            luaL_addlstring(&out, at, static_cast<size_t>(end - at));
        } else if (std::isdigit(static_cast<unsigned char>(what))) {
            push_capture(L, matcher, what - '1', at, end);
            luaL_addvalue(&out);
        } else {
            luaL_error(L, "in a replacement a %% is followed by a digit or another %%");
        }
        rest.remove_prefix(sign + 2);
    }
}

/// Adds what takes the place of a match; gives whether that is something else.
bool add_replacement(lua_State* L, luaL_Buffer& out, const Matcher& matcher, const char* at,
                     const char* end) {
    switch (lua_type(L, 3)) {
        case LUA_TFUNCTION:
            lua_pushvalue(L, 3);
            lua_call(L, push_captures(L, matcher, at, end, /*or_whole=*/true), 1);
            break;
        case LUA_TTABLE:
            push_capture(L, matcher, 0, at, end);
            lua_gettable(L, 3);
            break;
        default:
            add_expanded(L, out, matcher, at, end);
            return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(&out, at, static_cast<size_t>(end - at));
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "a replacement is a string or a number, not a %s", luaL_typename(L, -1));
    luaL_addvalue(&out);
    return true;
}

}  // namespace

int gsub_string(lua_State* L) {
    const std::string_view subject = check_text(L, 1);
    std::string_view pattern = check_text(L, 2);
    const int kind = lua_type(L, 3);
    luaL_argexpected(
        L,
        kind == LUA_TSTRING || kind == LUA_TNUMBER || kind == LUA_TTABLE || kind == LUA_TFUNCTION,
        3, "string/function/table");
    const lua_Integer most = luaL_optinteger(L, 4, static_cast<lua_Integer>(subject.size()) + 1);
    const bool is_anchored = pattern.starts_with('^');
    if (is_anchored) pattern.remove_prefix(1);

    Matcher matcher(subject, pattern);
    const char* at = subject.data();
    const char* const last = at + subject.size();
    const char* last_end = nullptr;
    const char* copied = at;  // what is before it is in `out`
    lua_Integer count = 0;
    bool has_changed = false;
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    while (count < most) {
        const char* end = match_at(L, matcher, at);
        if (end && end != last_end) {
            ++count;
            luaL_addlstring(&out, copied, static_cast<size_t>(at - copied));
            if (add_replacement(L, out, matcher, at, end)) has_changed = true;
            at = last_end = copied = end;
        } else if (at < last) {
            ++at;
        } else {
            break;
        }
        if (is_anchored) break;
    }
    if (!has_changed) {
        lua_pushvalue(L, 1);
    } else {
        luaL_addlstring(&out, copied, static_cast<size_t>(last - copied));
        luaL_pushresult(&out);
    }
    lua_pushinteger(L, count);
    return 2;
}

}  // namespace proxify::lua
