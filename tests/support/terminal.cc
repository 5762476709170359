// SPDX-License-Identifier: Apache-2.0
#include "support/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace proxify::test {

Terminal::Terminal(const std::vector<std::string>& argv, int columns, int rows,
                   const std::vector<std::string>& environment)
    : columns_(columns), rows_(rows), last_row_(rows - 1) {
    places_.assign(static_cast<size_t>(rows), std::vector<Place>(static_cast<size_t>(columns)));
    winsize size{};
    size.ws_col = static_cast<unsigned short>(columns);
    size.ws_row = static_cast<unsigned short>(rows);
    int master = -1, slave = -1;
    if (openpty(&master, &slave, nullptr, nullptr, &size) < 0)
        throw std::runtime_error(std::string("openpty: ") + std::strerror(errno));
    master_ = Fd::adopt(master);
    slave_ = Fd::adopt(slave);
    tcgetattr(slave, &before_);
    fcntl(master, F_SETFL, O_NONBLOCK);

    // The parent may have threads: after the fork nothing may allocate.
    std::vector<char*> words, settings;
    for (const auto& word : argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    for (const auto& one : environment) settings.push_back(const_cast<char*>(one.c_str()));
    static char term[] = "TERM=xterm-256color", locale[] = "LC_ALL=C.UTF-8";
    settings.push_back(term);
    settings.push_back(locale);
    for (char** one = environ; *one; ++one) settings.push_back(*one);
    settings.push_back(nullptr);
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (pid_ > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    if (login_tty(slave) < 0) _exit(126);
    close_range(3, ~0u, 0);
    execvpe(words[0], words.data(), settings.data());
    _exit(127);
}

Terminal::~Terminal() {
    if (exit_code_) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
}

void Terminal::type(std::string_view bytes) const {
    if (write(master_.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
        throw std::runtime_error("the terminal does not take what is typed");
}

void Terminal::resize(int columns, int rows) {
    read_along();
    winsize size{};
    size.ws_col = static_cast<unsigned short>(columns_ = columns);
    size.ws_row = static_cast<unsigned short>(rows_ = rows);
    places_.resize(static_cast<size_t>(rows));
    for (auto& row : places_) row.resize(static_cast<size_t>(columns));
    x_ = std::min(x_, columns - 1);
    y_ = std::min(y_, rows - 1);
    first_ = 0;
    last_row_ = rows - 1;
    ioctl(master_.get(), TIOCSWINSZ, &size);
}

void Terminal::signal(int number) const {
    if (!exit_code_) kill(pid_, number);
}

std::optional<int> Terminal::wait(Millis limit) {
    int status = 0;
    eventually(
        [&] {
            read_along();
            if (!exit_code_ && waitpid(pid_, &status, WNOHANG) == pid_)
                exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
            return exit_code_.has_value();
        },
        limit);
    read_along();
    return exit_code_;
}

std::vector<std::string> Terminal::lines() {
    read_along();
    std::vector<std::string> out;
    for (const auto& row : places_) {
        std::string line;
        for (const auto& place : row) line += place.text;
        line.erase(line.find_last_not_of(' ') + 1);
        out.push_back(std::move(line));
    }
    return out;
}

std::string Terminal::text() {
    std::string out;
    for (const auto& line : lines()) out += line + "\n";
    return out;
}

bool Terminal::shows(std::string_view words, Millis limit) {
    return eventually([&] { return text().contains(words); }, limit);
}

bool Terminal::shows_no(std::string_view words, Millis limit) {
    return eventually([&] { return !text().contains(words); }, limit);
}

std::vector<std::string> Terminal::reversed() {
    const auto all = lines();
    std::vector<std::string> out;
    for (size_t i = 0; i < all.size(); ++i)
        if (places_[i][0].is_reverse) out.push_back(all[i]);
    return out;
}

bool Terminal::is_restored() {
    read_along();
    termios now{};
    if (tcgetattr(slave_.get(), &now) < 0) return false;
    return now.c_lflag == before_.c_lflag && now.c_iflag == before_.c_iflag &&
           now.c_oflag == before_.c_oflag && !is_alternate_ && has_cursor_;
}

// ---- what the program says

void Terminal::read_along() {
    char bytes[4096];
    for (ssize_t count; (count = read(master_.get(), bytes, sizeof bytes)) > 0;)
        for (char c : std::string_view(bytes, static_cast<size_t>(count))) understand(c);
}

void Terminal::put(const std::string& letter) {
    last_ = letter;
    if (!is_alternate_) printed_ += letter;
    // A letter in the last column leaves the cursor there until the next one comes.
    if (x_ >= columns_) {
        x_ = 0;
        go_down();
    }
    places_[static_cast<size_t>(y_)][static_cast<size_t>(x_++)] = {letter, is_reverse_};
}

void Terminal::understand(char c) {
    pending_ += c;
    const auto& all = pending_;
    if (all[0] == '\x1b') {
        if (all.size() == 1) return;
        if (all[1] == '[') {
            if (all.size() == 2 || c < '@' || c > '~') return;
            const std::string command = all;
            pending_.clear();
            obey(std::string_view(command).substr(2, command.size() - 3), c);
            return;
        }
        const bool has_more = all[1] == '(' || all[1] == ')';
        if (has_more && all.size() < 3) return;
        if (all[1] == 'M') {
            if (y_ == first_)
                scroll(first_, -1);
            else
                y_ = std::max(0, y_ - 1);
        } else if (!has_more && !std::string_view("=>78").contains(all[1]))
            throw std::runtime_error("the terminal does not know ESC " + all.substr(1));
        pending_.clear();
        return;
    }
    const auto first = static_cast<unsigned char>(all[0]);
    const size_t bytes = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (all.size() < bytes) return;
    const std::string letter = std::exchange(pending_, {});
    if (letter == "\r") {
        x_ = 0;
    } else if (letter == "\n") {
        if (!is_alternate_) printed_ += letter;
        go_down();
    } else if (letter == "\b") {
        x_ = std::max(0, std::min(x_, columns_ - 1) - 1);
    } else if (letter == "\t") {
        x_ = std::min(columns_ - 1, (x_ / 8 + 1) * 8);
    } else if (first >= 0x20) {
        put(letter);
    }
}

void Terminal::clear(int y, int from, int to) {
    for (int x = std::max(from, 0); x < std::min(to, columns_); ++x)
        places_[static_cast<size_t>(y)][static_cast<size_t>(x)] = {};
}

void Terminal::scroll(int from, int rows) {
    const int count = std::min(std::abs(rows), last_row_ - from + 1);
    auto begin = places_.begin() + from, end = places_.begin() + last_row_ + 1;
    if (rows > 0)
        std::rotate(begin, begin + count, end);
    else
        std::rotate(begin, end - count, end);
    for (int i = 0; i < count; ++i) clear(rows > 0 ? last_row_ - i : from + i, 0, columns_);
}

void Terminal::go_down() {
    if (y_ == last_row_)
        scroll(first_, 1);
    else
        y_ = std::min(y_ + 1, rows_ - 1);
}

void Terminal::obey(std::string_view parameters, char command) {
    std::vector<int> numbers;
    const bool is_private = parameters.starts_with('?');
    if (is_private) parameters.remove_prefix(1);
    for (size_t at = 0; at <= parameters.size();) {
        const size_t end = std::min(parameters.find(';', at), parameters.size());
        int number = 0;
        std::from_chars(parameters.data() + at, parameters.data() + end, number);
        numbers.push_back(number);
        at = end + 1;
    }
    auto number = [&](size_t i) { return i < numbers.size() && numbers[i] > 0 ? numbers[i] : 1; };
    const int n = number(0);
    const int x = std::min(x_, columns_ - 1);
    auto& row = places_[static_cast<size_t>(y_)];
    switch (command) {
        case 'H':
            y_ = std::min(n, rows_) - 1;
            x_ = std::min(number(1), columns_) - 1;
            break;
        case 'd':
            y_ = std::min(n, rows_) - 1;
            break;
        case 'G':
            x_ = std::min(n, columns_) - 1;
            break;
        case 'A':
            y_ = std::max(0, y_ - n);
            break;
        case 'B':
            y_ = std::min(rows_ - 1, y_ + n);
            break;
        case 'C':
            x_ = std::min(columns_ - 1, x + n);
            break;
        case 'D':
            x_ = std::max(0, x - n);
            break;
        case 'J':
            if (numbers[0] == 1) throw std::runtime_error("the terminal does not know CSI 1 J");
            for (int y = numbers[0] == 2 ? 0 : y_; y < rows_; ++y)
                clear(y, y == y_ && numbers[0] == 0 ? x : 0, columns_);
            break;
        case 'K':
            if (numbers[0] == 0) clear(y_, x, columns_);
            if (numbers[0] == 1) clear(y_, 0, x + 1);
            if (numbers[0] == 2) clear(y_, 0, columns_);
            break;
        case 'X':
            clear(y_, x, x + n);
            break;
        case 'P':
            row.erase(row.begin() + x, row.begin() + std::min(columns_, x + n));
            row.resize(static_cast<size_t>(columns_));
            break;
        case '@':
            row.insert(row.begin() + x, static_cast<size_t>(n), Place{});
            row.resize(static_cast<size_t>(columns_));
            break;
        case 'b':
            for (int i = 0; i < n; ++i) put(std::string(last_));
            break;
        case 'm':
            for (int one : numbers) {
                if (one == 0 || one == 27) is_reverse_ = false;
                if (one == 7) is_reverse_ = true;
            }
            break;
        case 'h':
        case 'l':
            for (int one : numbers) {
                if (is_private && one == 1049) is_alternate_ = command == 'h';
                if (is_private && one == 25) has_cursor_ = command == 'h';
            }
            break;
        case 'L':
            scroll(y_, -n);
            break;
        case 'M':
            scroll(y_, n);
            break;
        case 'S':
            scroll(first_, n);
            break;
        case 'T':
            scroll(first_, -n);
            break;
        case 'r':
            first_ = n - 1;
            last_row_ = numbers.size() > 1 ? std::min(number(1), rows_) - 1 : rows_ - 1;
            x_ = y_ = 0;
            break;
        case 't':
            break;
        default:
            throw std::runtime_error(std::string("the terminal does not know CSI ") +
                                     std::string(parameters) + command);
    }
}

}  // namespace proxify::test
