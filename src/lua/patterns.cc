// SPDX-License-Identifier: Apache-2.0
#include "lua/patterns.h"

#include <cctype>
#include <cstring>

namespace proxify::lua {
namespace {

/// Whether the byte is of the class %letter; a letter that names none stands for itself.
bool is_of_class(unsigned char byte, unsigned char letter) {
    bool is_in = false;
    switch (std::tolower(letter)) {
        case 'a':
            is_in = std::isalpha(byte);
            break;
        case 'c':
            is_in = std::iscntrl(byte);
            break;
        case 'd':
            is_in = std::isdigit(byte);
            break;
        case 'g':
            is_in = std::isgraph(byte);
            break;
        case 'l':
            is_in = std::islower(byte);
            break;
        case 'p':
            is_in = std::ispunct(byte);
            break;
        case 's':
            is_in = std::isspace(byte);
            break;
        case 'u':
            is_in = std::isupper(byte);
            break;
        case 'w':
            is_in = std::isalnum(byte);
            break;
        case 'x':
            is_in = std::isxdigit(byte);
            break;
        case 'z':  // the manual has forgotten it, and Lua has not
            is_in = byte == 0;
            break;
        default:
            return byte == letter;
    }
    return std::isupper(letter) ? !is_in : is_in;
}

constexpr unsigned char as_byte(char c) {
    return static_cast<unsigned char>(c);
}

}  // namespace

const char* Matcher::match(const char* start, uint64_t steps) {
    steps_ = steps;
    depth_ = 0;
    count_ = 0;
    return take(1) ? go(start, pattern_) : nullptr;
}

/// Matches the pattern from `item` on.
const char* Matcher::go(const char* at, const char* item) {
    if (depth_ == depth_max) return fail("the pattern has too many parts that may vary");
    ++depth_;
    const char* result = choose(at, item);
    --depth_;
    return result;
}

const char* Matcher::choose(const char* at, const char* item) {
    while (item != pattern_end_) {
        const bool has_next = item + 1 != pattern_end_;
        switch (*item) {
            case '(':
                return has_next && item[1] == ')' ? open(at, item + 2, Capture::position)
                                                  : open(at, item + 1, Capture::open);
            case ')':
                return close(at, item + 1);
            case '$':
                if (!has_next) return at == end_ ? at : nullptr;
                break;
            case '%':
                if (!has_next) break;
                if (item[1] == 'b') {
                    if (!(at = balanced(at, item + 2))) return nullptr;
                    item += 4;
                    continue;
                }
                if (item[1] == 'f') {
                    const char* set = item + 2;
                    if (set == pattern_end_ || *set != '[') return fail("%f has no set behind it");
                    const char* set_end = end_of(set);
                    if (!set_end || !is_frontier(at, set, set_end)) return nullptr;
                    item = set_end;
                    continue;
                }
                if (std::isdigit(as_byte(item[1]))) {
                    if (!(at = again(at, item[1]))) return nullptr;
                    item += 2;
                    continue;
                }
                break;
            default:
                break;
        }

        const char* mark = end_of(item);
        if (!mark) return nullptr;
        switch (mark == pattern_end_ ? '\0' : *mark) {
            case '*':
                return most(at, item, mark);
            case '+':
                return fits(at, item, mark) ? most(at + 1, item, mark) : nullptr;
            case '-':
                return least(at, item, mark);
            case '?':
                if (fits(at, item, mark)) {
                    if (const char* end = go(at + 1, mark + 1)) return end;
                }
                item = mark + 1;
                break;
            default:
                if (!fits(at, item, mark)) return nullptr;
                ++at;
                item = mark;
        }
        if (has_stopped()) return nullptr;
    }
    return at;
}

const char* Matcher::open(const char* at, const char* rest, ptrdiff_t kind) {
    if (!take(1)) return nullptr;
    if (count_ == captures_max) return fail("the pattern has more than 32 captures");
    captures_[count_++] = {at, kind};
    const char* end = go(at, rest);
    if (!end) --count_;
    return end;
}

const char* Matcher::close(const char* at, const char* rest) {
    if (!take(1)) return nullptr;
    int index = count_ - 1;
    while (index >= 0 && captures_[index].length != Capture::open) --index;
    if (index < 0) return fail("the pattern has a ) without its (");
    captures_[index].length = at - captures_[index].start;
    const char* end = go(at, rest);
    if (!end) captures_[index].length = Capture::open;
    return end;
}

/// As many as there are, and then fewer and fewer, until the rest matches.
const char* Matcher::most(const char* at, const char* item, const char* mark) {
    const char* furthest = at;
    while (fits(furthest, item, mark)) ++furthest;
    for (const char* from = furthest; !has_stopped(); --from) {
        if (const char* end = go(from, mark + 1)) return end;
        if (from == at || !take(1)) break;
    }
    return nullptr;
}

const char* Matcher::least(const char* at, const char* item, const char* mark) {
    for (; !has_stopped(); ++at) {
        if (const char* end = go(at, mark + 1)) return end;
        if (!fits(at, item, mark)) break;
    }
    return nullptr;
}

/// %bxy: from an x to the y that it belongs to.
const char* Matcher::balanced(const char* at, const char* pair) {
    if (pattern_end_ - pair < 2) return fail("%b has no two bytes behind it");
    if (at == end_ || *at != pair[0]) return nullptr;
    size_t depth = 1;
    while (++at < end_ && take(1)) {
        if (*at == pair[1]) {
            if (--depth == 0) return at + 1;
        } else if (*at == pair[0]) {
            ++depth;
        }
    }
    return nullptr;
}

/// %1: what the first capture has caught, once more.
const char* Matcher::again(const char* at, char digit) {
    const int index = digit - '1';
    if (index < 0 || index >= count_ || captures_[index].length == Capture::open)
        return fail("the pattern asks for a capture that is not there, or not closed");
    const auto [start, length] = captures_[index];
    if (length == Capture::position || end_ - at < length) return nullptr;
    // One more than its bytes: there may be none, and a pattern may ask for it without end.
    if (!take(static_cast<uint64_t>(length) + 1)) return nullptr;
    return std::memcmp(at, start, static_cast<size_t>(length)) == 0 ? at + length : nullptr;
}

/// Before the first byte and after the last one there is a zero.
bool Matcher::is_frontier(const char* at, const char* set, const char* set_end) {
    const unsigned char before = at == begin_ ? 0 : as_byte(at[-1]);
    const unsigned char after = at == end_ ? 0 : as_byte(*at);
    return !is_in_set(before, set, set_end) && is_in_set(after, set, set_end);
}

/// Behind what stands for one byte: x, %a or [set].
const char* Matcher::end_of(const char* item) {
    const char first = *item++;
    if (first == '%') return item == pattern_end_ ? fail("the pattern ends with a %") : item + 1;
    if (first != '[') return item;
    if (item != pattern_end_ && *item == '^') ++item;
    // A ] that comes first is a byte of the set.
    for (bool is_first = true;; is_first = false) {
        if (item == pattern_end_ || !take(1)) return fail("the pattern has a [ without its ]");
        if (*item == ']' && !is_first) return item + 1;
        if (*item++ == '%' && item != pattern_end_) ++item;
    }
}

bool Matcher::fits(const char* at, const char* item, const char* item_end) {
    if (!take(1) || at == end_) return false;
    switch (*item) {
        case '.':
            return true;
        case '%':
            return is_of_class(as_byte(*at), as_byte(item[1]));
        case '[':
            return is_in_set(as_byte(*at), item, item_end);
        default:
            return *at == *item;
    }
}

/// `set` begins at the [, and set_end is behind the ].
bool Matcher::is_in_set(unsigned char byte, const char* set, const char* set_end) {
    const char* last = set_end - 1;
    const char* part = set + 1;
    const bool when_found = *part != '^';
    if (!when_found) ++part;
    while (part < last) {
        if (!take(1)) return false;
        if (*part == '%') {
            if (is_of_class(byte, as_byte(part[1]))) return when_found;
            part += 2;
        } else if (part + 2 < last && part[1] == '-') {
            if (as_byte(part[0]) <= byte && byte <= as_byte(part[2])) return when_found;
            part += 3;
        } else {
            if (as_byte(*part) == byte) return when_found;
            ++part;
        }
    }
    return !when_found;
}

bool Matcher::take(uint64_t steps) {
    if (steps_ < steps) {
        steps_ = 0;
        is_exhausted_ = true;
        return false;
    }
    steps_ -= steps;
    return !is_exhausted_;
}

const char* Matcher::fail(const char* why) {
    if (!has_stopped()) error_ = why;
    return nullptr;
}

bool is_plain(std::string_view pattern) {
    return pattern.find_first_of("^$*+?.([%-") == std::string_view::npos;
}

}  // namespace proxify::lua
