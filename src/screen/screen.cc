// SPDX-License-Identifier: Apache-2.0
#include "screen/screen.h"

#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <string>

#define NCURSES_NOMACROS  // which would rename half of the world: move, clear, timeout
#include <curses.h>

#include "base/fd.h"
#include "base/format.h"

namespace proxify::screen {

namespace {

constexpr int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

sigset_t held_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (int one : ending_signals) sigaddset(&set, one);
    sigaddset(&set, SIGWINCH);
    return set;
}

/// ncurses' numbers of colour pairs; ours are those of the roles.
short pair_of(Role role) {
    return static_cast<short>(role);
}

attr_t attributes_of(const Span& span, const Line& line, bool has_colours) {
    attr_t out = A_NORMAL;
    if (span.is_bold) out |= A_BOLD;
    if (line.is_reverse) out |= A_REVERSE;
    if (span.role == Role::faint) return line.is_reverse ? out : out | A_DIM;
    if (span.role == Role::plain) return out;
    if (!has_colours) return span.role == Role::good ? out : out | A_BOLD;
    return out | static_cast<attr_t>(COLOR_PAIR(pair_of(span.role)));
}

std::optional<Key> key_of(int status, wint_t code) {
    using Kind = Key::Kind;
    if (status == KEY_CODE_YES) {
        switch (code) {
            case KEY_UP:
                return Key{Kind::up, {}};
            case KEY_DOWN:
                return Key{Kind::down, {}};
            case KEY_PPAGE:
                return Key{Kind::page_up, {}};
            case KEY_NPAGE:
                return Key{Kind::page_down, {}};
            case KEY_HOME:
                return Key{Kind::home, {}};
            case KEY_END:
                return Key{Kind::end, {}};
            case KEY_ENTER:
                return Key{Kind::enter, {}};
            case KEY_BACKSPACE:
                return Key{Kind::backspace, {}};
            default:
                return {};
        }
    }
    switch (code) {
        case L'\r':
        case L'\n':
            return Key{Kind::enter, {}};
        case L'\t':
            return Key{Kind::tab, {}};
        case 27:
            return Key{Kind::escape, {}};
        case 8:
        case 127:
            return Key{Kind::backspace, {}};
        default:
            break;
    }
    if (code < 32) return {};
    char bytes[MB_LEN_MAX];
    mbstate_t state{};
    const size_t count = wcrtomb(bytes, static_cast<wchar_t>(code), &state);
    if (count == static_cast<size_t>(-1)) return {};
    return Key{Kind::character, std::string(bytes, count)};
}

}  // namespace

struct Screen::Terminal {
    SCREEN* screen = nullptr;
    Fd signals;
    bool has_colours = false;
    bool has_utf8 = false;

    ~Terminal() {
        if (!screen) return;
        endwin();
        delscreen(screen);
    }
};

bool is_terminal() {
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

void hold_signals() {
    const sigset_t held = held_signals();
    sigprocmask(SIG_BLOCK, &held, nullptr);
}

Screen::Screen(std::unique_ptr<Terminal> terminal) : terminal_(std::move(terminal)) {}
Screen::Screen(Screen&&) noexcept = default;
Screen::~Screen() = default;

Result<Screen> Screen::open() {
    auto terminal = std::make_unique<Terminal>();
    const sigset_t held = held_signals();
    terminal->signals = Fd::adopt(signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!terminal->signals) return fail(Error::from_errno(errno, "cannot wait for signals"));

    std::setlocale(LC_CTYPE, "");
    terminal->has_utf8 = std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    // Not initscr(), which ends the whole program where newterm() says no.
    terminal->screen = newterm(nullptr, stdout, stdin);
    if (!terminal->screen) {
        const char* name = std::getenv("TERM");
        return fail(Error::of(
            format("nothing is known about terminals of the kind \"{}\"", name ? name : ""),
            "set TERM to one that is known, such as xterm"));
    }
    cbreak();
    noecho();
    nonl();
    curs_set(0);
    keypad(stdscr, true);
    nodelay(stdscr, true);
    set_escdelay(50);  // how long the rest of an arrow key may take
    if (has_colors() && !std::getenv("NO_COLOR")) {
        start_color();
        use_default_colors();
        init_pair(pair_of(Role::good), COLOR_GREEN, -1);
        init_pair(pair_of(Role::caution), COLOR_YELLOW, -1);
        init_pair(pair_of(Role::bad), COLOR_RED, -1);
        terminal->has_colours = true;
    }
    return Screen(std::move(terminal));
}

int Screen::columns() const {
    return getmaxx(stdscr);
}

int Screen::rows() const {
    return getmaxy(stdscr);
}

void Screen::draw(const std::vector<Line>& lines) {
    werase(stdscr);
    const int height = std::min(rows(), static_cast<int>(lines.size()));
    for (int y = 0; y < height; ++y) {
        const Line& line = lines[static_cast<size_t>(y)];
        wmove(stdscr, y, 0);
        int left = columns();
        for (const auto& span : line.spans) {
            std::string text = cut(shown(span.text), static_cast<size_t>(std::max(left, 0)));
            left -= static_cast<int>(width_of(text));
            if (!terminal_->has_utf8)
                for (char& c : text)
                    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
            wattrset(stdscr, static_cast<int>(attributes_of(span, line, terminal_->has_colours)));
            waddstr(stdscr, text.c_str());
        }
        if (line.is_reverse && left > 0) {
            wattrset(stdscr, A_REVERSE);
            waddstr(stdscr, std::string(static_cast<size_t>(left), ' ').c_str());
        }
    }
    wattrset(stdscr, A_NORMAL);
    wrefresh(stdscr);
}

Event Screen::wait(Duration time, int other) {
    pollfd polled[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                       {.fd = terminal_->signals.get(), .events = POLLIN, .revents = 0},
                       {.fd = other, .events = POLLIN, .revents = 0}};
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(time).count();
    poll(polled, std::size(polled),
         static_cast<int>(std::clamp<decltype(milliseconds)>(milliseconds, 0, 60'000)));

    Event event;
    signalfd_siginfo about;
    while (read(terminal_->signals.get(), &about, sizeof about) == sizeof about) {
        if (about.ssi_signo == SIGWINCH) {
            winsize size{};
            if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col)
                resizeterm(size.ws_row, size.ws_col);
            clearok(curscr, true);  // whatever the terminal has made of what was there
        } else {
            event.is_over = true;
            event.signal = static_cast<int>(about.ssi_signo);
        }
    }
    wint_t code = 0;
    for (int status; (status = wget_wch(stdscr, &code)) != ERR;)
        if (auto key = key_of(status, code)) event.keys.push_back(*std::move(key));
    const bool has_hung_up = polled[0].revents & (POLLHUP | POLLERR | POLLNVAL);
    if (has_hung_up && event.keys.empty()) event.is_over = true;
    return event;
}

}  // namespace proxify::screen
