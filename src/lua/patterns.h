// SPDX-License-Identifier: Apache-2.0
// Patterns: the patterns of Lua (section 6.4.1 of its manual), matched by ourselves. Lua's own
// matcher goes back and forth inside one call, where no limit on instructions is felt: "a*a*a*a*b"
// and a few thousand bytes of a stranger would hold a worker for hours. This one counts its steps.
//
// Nothing here knows of Lua's state. All of it is plain data, so that an error of Lua may jump over
// a Matcher.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace proxify::lua {

class Matcher {
  public:
    static constexpr int captures_max = 32;
    /// Each choice that may have to be taken back goes one deeper into the stack.
    static constexpr int depth_max = 200;

    struct Capture {
        const char* start = nullptr;
        ptrdiff_t length = 0;  ///< or one of these:
        static constexpr ptrdiff_t position = -1, open = -2;
    };

    /// Both texts outlive it.
    Matcher(std::string_view subject, std::string_view pattern)
        : begin_(subject.data()),
          end_(begin_ + subject.size()),
          pattern_(pattern.data()),
          pattern_end_(pattern_ + pattern.size()) {}

    /// The end of a match that begins at `start`, a place of the subject or its end. Null when
    /// there is none, when the pattern is wrong, and when more than `steps` would be needed;
    /// error() and is_exhausted() tell.
    const char* match(const char* start, uint64_t steps);

    const char* error() const { return error_; }  ///< a constant, or null
    bool is_exhausted() const { return is_exhausted_; }
    uint64_t steps_left() const { return steps_; }

    // Of the last match.

    int capture_count() const { return count_; }
    const Capture& capture(int index) const { return captures_[index]; }

  private:
    const char* go(const char* at, const char* item);
    const char* choose(const char* at, const char* item);
    const char* open(const char* at, const char* rest, ptrdiff_t kind);
    const char* close(const char* at, const char* rest);
    const char* most(const char* at, const char* item, const char* mark);
    const char* least(const char* at, const char* item, const char* mark);
    const char* balanced(const char* at, const char* pair);
    const char* again(const char* at, char digit);
    bool is_frontier(const char* at, const char* set, const char* set_end);
    const char* end_of(const char* item);
    bool fits(const char* at, const char* item, const char* item_end);
    bool is_in_set(unsigned char byte, const char* set, const char* set_end);

    bool take(uint64_t steps);
    const char* fail(const char* why);
    bool has_stopped() const { return error_ || is_exhausted_; }

    const char *begin_, *end_;
    const char *pattern_, *pattern_end_;
    uint64_t steps_ = 0;
    const char* error_ = nullptr;
    bool is_exhausted_ = false;
    int depth_ = 0;
    int count_ = 0;
    Capture captures_[captures_max];
};

/// No byte of it means anything but itself.
bool is_plain(std::string_view pattern);

}  // namespace proxify::lua
