// SPDX-License-Identifier: Apache-2.0
#include "lua/meter.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <lua.hpp>

namespace proxify::lua {
namespace {

constexpr int interval_max = 1000;
constexpr size_t large_block = 16 * 1024;
/// What one instruction pays for: filling so many bytes takes no longer than it does.
constexpr size_t bytes_per_instruction = 16;

/// An instruction takes about 10 ns with a meter.
constexpr int64_t ns_per_instruction_max = 100;
constexpr int64_t ns_min = 100'000'000;

int64_t thread_time_ns() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

lua_State* Meter::open() {
    left_ = instructions_max_;
    lua_State* state = lua_newstate(allocate, this);
    if (!state) return nullptr;
    *static_cast<Meter**>(lua_getextraspace(state)) = this;
    return state_ = state;
}

Meter& Meter::of(lua_State* state) {
    return **static_cast<Meter**>(lua_getextraspace(state));
}

void Meter::refill(lua_State* state) {
    left_ = instructions_max_;
    turns_ = 0;
    began_ = -1;
    is_spent_ = is_late_ = was_refused_memory_ = false;
    watch(state);
}

void Meter::charge(lua_State* state, uint64_t instructions) {
    if (instructions < left()) {
        left_ -= static_cast<int64_t>(instructions);
        return;
    }
    left_ = 0;
    is_spent_ = true;
    hurry();
    raise(state, 1);
}

void Meter::charge_turns(lua_State* state, uint64_t turns) {
    uint64_t instructions = turns / turns_per_instruction;
    turns_ += turns % turns_per_instruction;
    if (turns_ >= turns_per_instruction) {
        turns_ -= turns_per_instruction;
        ++instructions;
    }
    if (instructions > 0) charge(state, instructions);
}

/// Sets when Lua is to report next.
void Meter::watch(lua_State* state) {
    int64_t interval = interval_max;
    if (large_ > large_block)
        interval = std::max<int64_t>(interval_max * large_block / static_cast<int64_t>(large_), 1);
    interval_ = static_cast<int>(std::clamp<int64_t>(left_, 1, interval));
    lua_sethook(state, on_count, LUA_MASKCOUNT, interval_);
}

/// The next instruction is to report. Allowed at any moment, as it is in a handler of a signal.
void Meter::hurry() {
    if (!state_ || interval_ == 0) return;
    interval_ = 0;
    lua_sethook(state_, on_count, LUA_MASKCOUNT, 1);
}

void Meter::on_count(lua_State* state, lua_Debug*) {
    Meter& meter = of(state);
    meter.left_ -= meter.interval_;
    meter.check_time();
    if (meter.left_ <= 0) meter.is_spent_ = true;
    if (!meter.is_spent_) return meter.watch(state);
    meter.left_ = 0;
    meter.hurry();
    meter.raise(state, 0);
}

void Meter::check_time() {
    const int64_t now = thread_time_ns();
    if (began_ < 0) began_ = now;
    if (now - began_ <= ns_min + ns_per_instruction_max * instructions_max_) return;
    is_spent_ = is_late_ = true;
}

/// `level` is where the script is: 0 for a report, 1 for a C function that it has called.
void Meter::raise(lua_State* state, int level) {
    luaL_where(state, level);
    if (is_late_)
        lua_pushliteral(state, "this takes far longer than its instructions should");
    else
        lua_pushfstring(state,
                        "this takes more than %d instructions; do less in one call, or raise "
                        "`instructions`",
                        instructions_max_);
    lua_concat(state, 2);
    lua_error(state);
    std::abort();  // lua_error() does not come back
}

void* Meter::allocate(void* self, void* block, size_t had, size_t wanted) {
    auto& meter = *static_cast<Meter*>(self);
    if (!block) had = 0;  // then it says what kind of thing is wanted
    if (wanted > had) {
        if (wanted - had > meter.memory_max_ - std::min(meter.memory_, meter.memory_max_)) {
            // Lua looks through all that it has for something to free, and asks once more.
            meter.left_ -= static_cast<int64_t>(meter.memory_ / bytes_per_instruction);
            meter.was_refused_memory_ = true;
            if (meter.left_ <= 0) meter.hurry();
            return nullptr;
        }
        meter.left_ -= static_cast<int64_t>(wanted / bytes_per_instruction);
    }
    void* result = nullptr;
    if (wanted == 0) {
        std::free(block);
    } else if (!(result = std::realloc(block, wanted))) {
        meter.was_refused_memory_ = true;
        return wanted <= had ? block : nullptr;  // Lua relies on it that less can be had always
    }
    meter.memory_ += wanted - had;
    if (had >= large_block) meter.large_ -= had;
    if (wanted >= large_block) meter.large_ += wanted;
    if (meter.left_ <= 0 || (wanted > had && wanted >= large_block)) meter.hurry();
    return result;
}

}  // namespace proxify::lua
