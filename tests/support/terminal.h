// SPDX-License-Identifier: Apache-2.0
// Terminal: a program in a terminal of its own, and what a person would see there. It understands
// what ncurses says to an xterm, and throws at anything else rather than show it wrong.
#pragma once

#include <sys/types.h>
#include <termios.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "support/eventually.h"

namespace proxify::test {

class Terminal {
  public:
    Terminal(const std::vector<std::string>& argv, int columns, int rows,
             const std::vector<std::string>& environment = {});
    ~Terminal();
    Terminal(const Terminal&) = delete;

    void type(std::string_view bytes) const;
    /// As a window that is pulled larger or smaller: the program gets SIGWINCH.
    void resize(int columns, int rows);
    void signal(int number) const;
    /// Its exit code, 128 and the signal's number when one ended it; nullopt when it still runs.
    std::optional<int> wait(Millis limit);

    /// The rows at present, each with its spaces at the end cut off.
    std::vector<std::string> lines();
    std::string text();
    bool shows(std::string_view words, Millis limit = 10s);
    bool shows_no(std::string_view words, Millis limit = 10s);
    /// The rows that are in reverse video where they begin.
    std::vector<std::string> reversed();

    /// Whether the terminal is as a shell leaves it to a program: what is typed is shown, and comes
    /// line by line; the cursor is there; the screen is not the alternate one.
    bool is_restored();
    /// What was printed outside the alternate screen.
    const std::string& printed() const { return printed_; }

  private:
    struct Place {
        std::string text = " ";
        bool is_reverse = false;
    };
    void read_along();
    void put(const std::string& letter);
    void understand(char c);
    void obey(std::string_view parameters, char command);
    void clear(int y, int from, int to);
    /// Moves the rows from `from` to the end of what scrolls up, or down for less than 0.
    void scroll(int from, int rows);
    void go_down();

    Fd master_, slave_;
    pid_t pid_ = -1;
    std::optional<int> exit_code_;
    int columns_, rows_, x_ = 0, y_ = 0;
    int first_ = 0, last_row_;  ///< of the rows that scroll
    bool is_reverse_ = false, is_alternate_ = false, has_cursor_ = true;
    std::vector<std::vector<Place>> places_;
    std::string pending_;  ///< the beginning of something longer
    std::string last_ = " ";
    std::string printed_;
    termios before_{};
};

}  // namespace proxify::test
