// SPDX-License-Identifier: Apache-2.0
// Script: an element of a chain that a user writes in Lua 5.4, and State, what it is for one
// session.
//
//     local element = {}
//     function element.to_target(chunk, session) return chunk:upper() end
//     return element
//
// Each state has memory and instructions of its own, and nothing that happens in one is felt in
// another. lua/library.h says what a script may use, lua/meter.h how it is held to its limits.
// No header of Lua is needed to use this room.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>

#include "base/direction.h"

struct lua_State;

namespace proxify::lua {

class Meter;

struct Limits {
    size_t memory = 1 << 20;       ///< bytes of each state, its libraries included
    int instructions = 1'000'000;  ///< of each call, the first run included
};

/// Compiled, run once, and found to be an element. A value that threads may share.
class Script {
  public:
    /// `name` is the file's, for errors: "upper.lua:3: unexpected symbol near '='".
    static std::expected<Script, std::string> compile(std::string name, std::string_view code,
                                                      Limits limits);

    const std::string& name() const { return name_; }
    const Limits& limits() const { return limits_; }
    bool has_function(Direction direction) const {
        return direction == Direction::to_target ? has_to_target_ : has_to_client_;
    }
    bool has_finish() const { return has_finish_; }

  private:
    friend class State;
    Script(std::string name, Limits limits) : name_(std::move(name)), limits_(limits) {}

    std::string name_;
    std::string bytecode_;  ///< made by us: what others made would not be safe to run
    Limits limits_;
    bool has_to_target_ = false, has_to_client_ = false, has_finish_ = false;
};

/// What a script is told of its session.
struct Session {
    uint64_t id = 0;
    std::string service;
    std::string client;  ///< an address without its port
    uint16_t client_port = 0;
    std::string original_dst;
    uint16_t original_port = 0;
};

/// Gets what a script says with proxify.log: at most 1 KiB, in which bytes that are no printable
/// ASCII stand as \x0a.
class Listener {
  public:
    virtual ~Listener() = default;
    virtual void said(std::string_view text) noexcept = 0;
};

struct Outcome {
    enum class Kind { pass, change, drop, close, fail };
    Kind kind = Kind::pass;
    bool has_enough = false;
    std::string_view text = {};  ///< of change: what goes on instead; until the next call
    std::string error = {};      ///< of fail
};

class State {
  public:
    /// Runs the script. What goes wrong then is what each call will say. `listener` may be null,
    /// and outlives the state as the script does.
    State(const Script& script, const Session& session, Listener* listener);
    ~State();
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    /// Calls to_target or to_client with the chunk.
    Outcome see(Direction direction, std::string_view chunk);
    /// Calls finish(direction), if the script has it; does not say drop.
    Outcome finish(Direction direction);

    size_t memory() const;   ///< bytes
    uint64_t spent() const;  ///< instructions of the last call, to the nearest thousands
    /// Why it could not begin; empty when it could.
    const std::string& failure() const { return failure_; }

    static constexpr int log_lines_max = 100;

  private:
    friend class Script;
    struct Setup;
    struct Call;

    static int set_up(lua_State* state);
    static int call(lua_State* state);
    static int log(lua_State* state);
    Outcome run(const char* function, const Call& call);
    Outcome judge(const char* function);
    Outcome failed(std::string why) const;
    std::string error_at_top() const;

    const Script& script_;
    Listener* listener_;
    int log_lines_left_ = log_lines_max;
    std::unique_ptr<Meter> meter_;
    lua_State* state_ = nullptr;
    std::string failure_;
};

}  // namespace proxify::lua
