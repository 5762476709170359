// SPDX-License-Identifier: Apache-2.0
// Meter: what the script of one session may use. Memory is counted where Lua asks for it;
// instructions are counted by Lua, which reports every so many of them (lua_sethook); and C
// functions, whose loops Lua does not see, charge for their work before they do it.
//
// Three things are done so that no trick makes a call last:
//  - When the budget is gone the very next instruction fails, and each one after it: pcall can
//    catch the failure, but not go on.
//  - Memory that is asked for costs instructions as well, since it is filled and collected.
//  - A few instructions may be made slow, such as comparing two long strings. For those there is
//    a limit in time of the thread's own, many times of what the instructions would usually take,
//    and the more of its memory a script holds in large blocks the more often it is looked at.
#pragma once

#include <cstddef>
#include <cstdint>

struct lua_State;
struct lua_Debug;

namespace proxify::lua {

class Meter {
  public:
    Meter(size_t memory_max, int instructions_max)
        : memory_max_(memory_max), instructions_max_(instructions_max) {}
    Meter(const Meter&) = delete;
    Meter& operator=(const Meter&) = delete;

    /// A new state that this meter watches; null when there is no memory. The meter outlives it.
    lua_State* open();
    static Meter& of(lua_State* state);

    /// A call begins, with a full budget.
    void refill(lua_State* state);
    /// Work of so many instructions. Raises an error of Lua when there are not so many left.
    void charge(lua_State* state, uint64_t instructions);
    /// Turns of a loop, of which so many take about as long as an instruction. Those that are too
    /// few to make one are kept until there are more: a loop may come here at each of its turns.
    void charge_turns(lua_State* state, uint64_t turns);
    static constexpr uint64_t turns_per_instruction = 4;

    uint64_t left() const { return left_ > 0 ? static_cast<uint64_t>(left_) : 0; }
    bool is_spent() const { return is_spent_; }
    size_t memory() const { return memory_; }
    size_t memory_max() const { return memory_max_; }
    bool was_refused_memory() const { return was_refused_memory_; }

  private:
    static void* allocate(void* meter, void* block, size_t had, size_t wanted);
    static void on_count(lua_State* state, lua_Debug* where);

    void watch(lua_State* state);
    void hurry();
    void check_time();
    [[noreturn]] void raise(lua_State* state, int level);

    size_t memory_max_;
    int instructions_max_;
    lua_State* state_ = nullptr;
    size_t memory_ = 0;
    size_t large_ = 0;    ///< bytes of it in large blocks
    int64_t left_ = 0;    ///< instructions
    uint64_t turns_ = 0;  ///< not charged yet: less than an instruction
    int interval_ = 0;    ///< of the reports; 0 when the next instruction is to report
    int64_t began_ = -1;  ///< the thread's time at the first report; -1 before it
    bool is_spent_ = false;
    bool is_late_ = false;
    bool was_refused_memory_ = false;
};

}  // namespace proxify::lua
