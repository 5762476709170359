// SPDX-License-Identifier: Apache-2.0
// Element: one step of the chain that a service puts on its byte streams. It is shown bytes and
// says what becomes of them; it owns no stream, and never waits.
//
// An element belongs to one session, is shown both directions of it, and is never called by two
// threads. What its sessions share (a compiled expression, a bucket of tokens) is its Maker's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/direction.h"
#include "telemetry/log.h"

namespace proxify::filter {

using Bytes = std::span<const std::byte>;
using Buffer = std::vector<std::byte>;

inline void append(Buffer& to, Bytes bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}
inline std::string_view text_of(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

enum class Verdict {
    pass,    ///< they go on as they are
    drop,    ///< they go nowhere, and no later element sees them
    change,  ///< what was put into `out` goes on instead: more, less, or nothing
    wait,    ///< ask again at Answer::until; nothing was taken
    close,   ///< the session ends; what went on before is still delivered
    fail,    ///< the element has failed, as Answer::error says; the service says what then
};

/// What an element says of the bytes it was shown.
struct Answer {
    static constexpr size_t all = std::numeric_limits<size_t>::max();

    Verdict verdict = Verdict::pass;
    /// Of pass, drop and change: the verdict is about so many of them, at least one. The others are
    /// shown again.
    size_t taken = all;
    Time until{};             ///< of wait; a second away at most, so that an end is noticed
    const char* reason = "";  ///< of close: a constant of the program, for the session's log line
    std::string error = {};   ///< of fail: for the log
    bool has_enough = false;  ///< it wants to see no more of this direction
    bool took_long = false;   ///< others are to have their turn before the next bytes
};

/// How much of a direction an element is to see: the hungriest one of a chain decides how its bytes
/// move.
inline constexpr uint64_t nothing = 0;
inline constexpr uint64_t everything = std::numeric_limits<uint64_t>::max();

class Element {
  public:
    virtual ~Element() = default;

    /// `bytes` are as many as came, at least one and at most a chunk. What is put into `out` counts
    /// with the verdict change only; an element that has much to put there takes less.
    virtual Answer see(Direction direction, Bytes bytes, Time now, Buffer& out) = 0;

    /// The direction has ended, or all that the element was to see of it has passed. What goes into
    /// `out` goes on. Says pass, drop (what it kept back), close or fail.
    virtual Answer end(Direction, Time, Buffer&) { return {}; }

    // For elements that keep bytes back which may be the beginning of something.

    /// When what is kept back is to go on even if nothing more has come.
    virtual Time holds_until(Direction) const { return Time::max(); }
    /// That moment has come; what is put into `out` goes on.
    virtual void release(Direction, Time, Buffer&) {}
};

/// So much in `out` is enough for one answer.
inline constexpr size_t out_enough = 32 * 1024;

/// What an element may know of its session.
struct Facts {
    uint64_t session = 0;      ///< its number in the log
    std::string_view service;  ///< outlives the session
    Address client;
    Address original_dst;
    telemetry::Journal& log;  ///< outlives the session
};

/// Makes the elements of one entry of `filters`. Called by all workers.
class Maker {
  public:
    virtual ~Maker() = default;
    virtual std::unique_ptr<Element> make(const Facts& facts) const = 0;
    /// How many bytes of a direction its elements want to see; `head` and `direction` in the file
    /// may make it less.
    virtual uint64_t appetite(Direction) const { return everything; }
};

}  // namespace proxify::filter
