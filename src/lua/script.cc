// SPDX-License-Identifier: Apache-2.0
//
// Whatever may raise an error of Lua runs below lua_pcall, in functions without destructors:
// set_up, call and log. All the others use only what never raises, as Lua's manual marks it.
#include "lua/script.h"

#include <algorithm>
#include <cstring>
#include <lua.hpp>

#include "base/expect.h"
#include "base/format.h"
#include "lua/library.h"
#include "lua/meter.h"

namespace proxify::lua {
namespace {

// Where set_up leaves things in the stack of a state.
constexpr int to_target_at = 1, to_client_at = 2, finish_at = 3, session_at = 4;

// Their addresses are what proxify.drop, close and enough are.
char drop_mark, close_mark, enough_mark;

constexpr size_t log_text_max = 1024;
constexpr size_t error_text_max = 1024;

int stop_on_panic(lua_State*) {
    stop_on_bug("no error of Lua leaves lua_pcall", std::source_location::current());
}

/// Printable ASCII; the other bytes as \x0a.
std::string printable(std::string_view text, size_t bytes_max) {
    std::string out;
    for (unsigned char c : text.substr(0, bytes_max)) {
        if (c >= 0x20 && c < 0x7f)
            out += static_cast<char>(c);
        else
            format_to(std::back_inserter(out), "\\x{:02x}", c);
    }
    if (text.size() > bytes_max) out += "...";
    return out;
}

/// An error of Lua as a sentence that begins with the script's name; most do.
std::string with_name(const std::string& name, std::string_view error) {
    std::string shown = printable(error, error_text_max);
    return shown.starts_with(name) ? shown : format("{}: {}", name, shown);
}

bool is_mark(lua_State* L, int index, const char& mark) {
    return lua_touserdata(L, index) == &mark;
}

/// What a value is, with its article.
const char* kind_of(lua_State* L, int index) {
    switch (lua_type(L, index)) {
        case LUA_TNIL:
            return "nil";
        case LUA_TBOOLEAN:
            return "a boolean";
        case LUA_TNUMBER:
            return "a number";
        case LUA_TSTRING:
            return "a string";
        case LUA_TTABLE:
            return "a table";
        case LUA_TFUNCTION:
            return "a function";
        default:
            break;
    }
    if (is_mark(L, index, drop_mark)) return "proxify.drop";
    if (is_mark(L, index, close_mark)) return "proxify.close";
    if (is_mark(L, index, enough_mark)) return "proxify.enough";
    return "a value of another kind";
}

void set_text(lua_State* L, const char* key, const std::string& text) {
    lua_pushlstring(L, text.data(), text.size());
    lua_setfield(L, -2, key);
}

void set_number(lua_State* L, const char* key, uint64_t number) {
    lua_pushinteger(L, static_cast<lua_Integer>(number));
    lua_setfield(L, -2, key);
}

void set_mark(lua_State* L, const char* key, char& mark) {
    lua_pushlightuserdata(L, &mark);
    lua_setfield(L, -2, key);
}

/// Whether the code names __mode, in a string or as a field; a comment does not count. Lua writes
/// a short constant as its kind, its length and one, marked as the last byte of a number, and text.
bool names_mode(std::string_view bytecode) {
    return bytecode.contains("\x04\x87__mode");
}

const char* word(Direction direction) {
    return direction == Direction::to_target ? "to_target" : "to_client";
}

}  // namespace

/// Either text to compile or bytecode of ours.
struct State::Setup {
    State& state;
    const Session& session;
    std::string_view bytecode;
};

struct State::Call {
    int function_at;
    Direction direction;
    std::string_view chunk;
    bool is_finish = false;
};

std::expected<Script, std::string> Script::compile(std::string name, std::string_view code,
                                                   Limits limits) {
    Script script(std::move(name), limits);
    const auto refused = [&](std::string_view why) {
        return std::unexpected(format("{}: {}", script.name_, why));
    };
    if (code.starts_with('\x1b')) return refused("this is compiled already; write the text here");

    Meter meter(limits.memory, limits.instructions);
    lua_State* L = meter.open();
    if (!L) return refused("there is no memory to compile it");
    lua_atpanic(L, stop_on_panic);
    const std::string chunk_name = "@" + script.name_;
    const int status = luaL_loadbufferx(L, code.data(), code.size(), chunk_name.c_str(), "t");
    auto add = [](lua_State*, const void* bytes, size_t count, void* to) noexcept {
        static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), count);
        return 0;
    };
    std::string why;
    if (status == LUA_OK)
        lua_dump(L, add, &script.bytecode_, /*strip=*/0);
    else if (status == LUA_ERRMEM)
        why = format("{}: its `memory` of {} bytes is not enough to compile it", script.name_,
                     limits.memory);
    else
        why = with_name(script.name_, lua_tostring(L, -1));
    lua_close(L);
    if (!why.empty()) return std::unexpected(why);
    if (names_mode(script.bytecode_)) return refused(no_weak_tables);

    State first(script, {}, nullptr);
    if (!first.failure_.empty()) return std::unexpected(first.failure_);
    script.has_to_target_ = lua_isfunction(first.state_, to_target_at);
    script.has_to_client_ = lua_isfunction(first.state_, to_client_at);
    script.has_finish_ = lua_isfunction(first.state_, finish_at);
    if (!script.has_to_target_ && !script.has_to_client_)
        return refused("its table has neither to_target nor to_client; it needs one of them");
    return script;
}

State::State(const Script& script, const Session& session, Listener* listener)
    : script_(script),
      listener_(listener),
      meter_(std::make_unique<Meter>(script.limits_.memory, script.limits_.instructions)),
      state_(meter_->open()) {
    if (!state_) {
        failure_ = format("{}: there is no memory for its state", script_.name_);
        return;
    }
    lua_atpanic(state_, stop_on_panic);
    Setup setup{*this, session, script.bytecode_};
    lua_pushcfunction(state_, set_up);
    lua_pushlightuserdata(state_, &setup);
    if (lua_pcall(state_, 1, session_at, 0) != LUA_OK)
        failure_ = error_at_top();
    else if (meter_->is_spent())
        failure_ = format("{}: its first run takes more than {} instructions", script_.name_,
                          script_.limits_.instructions);
}

State::~State() {
    if (state_) lua_close(state_);
}

uint64_t State::spent() const {
    return static_cast<uint64_t>(script_.limits_.instructions) - meter_->left();
}

size_t State::memory() const {
    return meter_->memory();
}

/// Opens the library, runs the script, and gives back what it consists of and the session.
int State::set_up(lua_State* L) {
    const auto& setup = *static_cast<Setup*>(lua_touserdata(L, 1));
    const std::string& name = setup.state.script_.name_;
    lua_settop(L, 0);
    open_library(L);

    lua_createtable(L, 0, 4);
    set_mark(L, "drop", drop_mark);
    set_mark(L, "close", close_mark);
    set_mark(L, "enough", enough_mark);
    lua_pushlightuserdata(L, &setup.state);
    lua_pushcclosure(L, log, 1);
    lua_setfield(L, -2, "log");
    lua_setglobal(L, "proxify");

    if (luaL_loadbufferx(L, setup.bytecode.data(), setup.bytecode.size(), "=script", "b") != LUA_OK)
        return lua_error(L);
    setup.state.meter_->refill(L);
    lua_call(L, 0, 1);
    if (!lua_istable(L, 1))
        return luaL_error(
            L, "%s: it gives back %s; end it with `return element`, a table of functions",
            name.c_str(), kind_of(L, 1));
    for (const char* key : {"to_target", "to_client", "finish"}) {
        lua_getfield(L, 1, key);
        if (!lua_isnil(L, -1) && !lua_isfunction(L, -1))
            return luaL_error(L, "%s: %s is %s; expected a function", name.c_str(), key,
                              kind_of(L, -1));
    }

    lua_createtable(L, 0, 6);
    set_number(L, "id", setup.session.id);
    set_text(L, "service", setup.session.service);
    set_text(L, "client", setup.session.client);
    set_number(L, "client_port", setup.session.client_port);
    set_text(L, "original_dst", setup.session.original_dst);
    set_number(L, "original_port", setup.session.original_port);
    return session_at;
}

/// Arguments: the function, the session, and the Call.
int State::call(lua_State* L) {
    const auto& call = *static_cast<const Call*>(lua_touserdata(L, 3));
    lua_settop(L, 2);
    if (call.is_finish)
        lua_pushstring(L, word(call.direction));
    else
        lua_pushlstring(L, call.chunk.data(), call.chunk.size());
    lua_insert(L, 2);
    lua_call(L, 2, 2);
    return 2;
}

/// proxify.log(text)
int State::log(lua_State* L) {
    auto& state = *static_cast<State*>(lua_touserdata(L, lua_upvalueindex(1)));
    size_t size = 0;
    const char* text = luaL_checklstring(L, 1, &size);
    Meter::of(L).charge(L, 100);
    if (!state.listener_ || state.log_lines_left_ < 0) return 0;
    if (state.log_lines_left_-- > 0)
        state.listener_->said(printable({text, size}, log_text_max));
    else
        state.listener_->said("has said enough; the rest is left out");
    return 0;
}

Outcome State::see(Direction direction, std::string_view chunk) {
    const bool is_to_target = direction == Direction::to_target;
    return run(word(direction), {.function_at = is_to_target ? to_target_at : to_client_at,
                                 .direction = direction,
                                 .chunk = chunk});
}

Outcome State::finish(Direction direction) {
    if (!script_.has_finish_) return {};
    Outcome outcome =
        run("finish",
            {.function_at = finish_at, .direction = direction, .chunk = {}, .is_finish = true});
    if (outcome.kind == Outcome::Kind::drop) outcome.kind = Outcome::Kind::pass;
    return outcome;
}

Outcome State::run(const char* function, const Call& call) {
    if (!failure_.empty()) return failed(failure_);
    lua_settop(state_, session_at);
    if (!lua_isfunction(state_, call.function_at)) return {};
    meter_->refill(state_);
    lua_pushcfunction(state_, State::call);
    lua_pushvalue(state_, call.function_at);
    lua_pushvalue(state_, session_at);
    lua_pushlightuserdata(state_, const_cast<Call*>(&call));
    if (lua_pcall(state_, 3, 2, 0) != LUA_OK) return failed(error_at_top());
    if (meter_->is_spent())
        return failed(format("{}: {} takes more than {} instructions", script_.name_, function,
                             script_.limits_.instructions));
    Outcome outcome = judge(function);
    if (outcome.kind == Outcome::Kind::change && outcome.text == call.chunk)
        return {.has_enough = outcome.has_enough};  // as it was, or nothing at the end
    return outcome;
}

/// What the two results at the top mean.
Outcome State::judge(const char* function) {
    Outcome outcome;
    if (is_mark(state_, -1, enough_mark))
        outcome.has_enough = true;
    else if (!lua_isnil(state_, -1))
        return failed(
            format("{}: {} gave back {} as its second result; expected proxify.enough or nothing",
                   script_.name_, function, kind_of(state_, -1)));

    if (lua_isnil(state_, -2)) {
        outcome.kind = Outcome::Kind::pass;
    } else if (lua_type(state_, -2) == LUA_TSTRING) {
        size_t size = 0;
        const char* text = lua_tolstring(state_, -2, &size);
        outcome.kind = Outcome::Kind::change;
        outcome.text = {text, size};
    } else if (is_mark(state_, -2, drop_mark)) {
        outcome.kind = Outcome::Kind::drop;
    } else if (is_mark(state_, -2, close_mark)) {
        outcome.kind = Outcome::Kind::close;
    } else {
        return failed(
            format("{}: {} gave back {}; expected a string, proxify.drop, proxify.close or nothing",
                   script_.name_, function, kind_of(state_, -2)));
    }
    return outcome;
}

Outcome State::failed(std::string why) const {
    return {.kind = Outcome::Kind::fail, .error = std::move(why)};
}

/// The error that lua_pcall has left, as a sentence that begins with the script's name.
std::string State::error_at_top() const {
    // Lua's own words for it tell neither where nor how much, and come without a place.
    constexpr std::string_view no_memory = "not enough memory";
    std::string_view text;
    if (lua_type(state_, -1) == LUA_TSTRING) {
        size_t size = 0;
        const char* bytes = lua_tolstring(state_, -1, &size);
        text = {bytes, size};
    }
    if (text == no_memory && meter_->was_refused_memory())
        return format("{}: it needs more memory than the {} bytes that a session may have",
                      script_.name_, meter_->memory_max());
    if (lua_type(state_, -1) != LUA_TSTRING)
        return format("{}: an error that is {}", script_.name_, kind_of(state_, -1));
    return with_name(script_.name_, text);
}

}  // namespace proxify::lua
