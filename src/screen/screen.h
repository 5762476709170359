// SPDX-License-Identifier: Apache-2.0
// Screen: the whole terminal, for as long as the object lives. The only room that knows ncurses.
//
// Whatever ends the program in an orderly way gives the terminal back: the destructor does it, and
// signals that would end the program are events here instead.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "screen/line.h"

namespace proxify::screen {

/// What can happen while one waits. More than one may at a time.
struct Event {
    std::vector<Key> keys;
    bool is_over = false;  ///< the terminal is gone, or a signal came
    int signal = 0;        ///< that came: SIGINT, SIGTERM, SIGHUP or SIGQUIT
};

/// Keeps the signals that are events here from every thread that is started from now on.
void hold_signals();

class Screen {
  public:
    /// Takes the terminal of standard input and output, after hold_signals(). An Error when
    /// nothing is known about terminals of this kind.
    static Result<Screen> open();
    /// The terminal is as it was.
    ~Screen();
    Screen(Screen&&) noexcept;
    Screen& operator=(Screen&&) = delete;

    /// At present; a terminal may change its size whenever it likes.
    int columns() const;
    int rows() const;

    /// One Line for each row from the top; what is beyond the last row or column is not shown.
    void draw(const std::vector<Line>& lines);
    /// Until something happens, or `other`, a descriptor, can be read, or so much time has passed.
    Event wait(Duration time, int other);

  private:
    struct Terminal;
    explicit Screen(std::unique_ptr<Terminal> terminal);
    std::unique_ptr<Terminal> terminal_;
};

/// Whether standard input and output are a terminal.
bool is_terminal();

}  // namespace proxify::screen
