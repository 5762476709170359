// SPDX-License-Identifier: Apache-2.0
#include "screen/line.h"

#include <algorithm>
#include <iterator>

namespace proxify::screen {

namespace {

struct Letter {
    size_t bytes = 1;
    size_t columns = 0;  ///< 0 for what is not to be shown
};

struct Range {
    char32_t first, last;
};

/// Of the East Asian scripts and of pictures; what is left out is shown too narrow, never too wide.
constexpr Range wide[] = {{0x2E80, 0x303E},   {0x3041, 0xA4CF},  {0xA960, 0xA97F}, {0xAC00, 0xD7A3},
                          {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},  {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6},
                          {0x1F300, 0x1FAFF}, {0x20000, 0x3FFFD}};

/// No columns of their own, or a meaning to the terminal: controls, directions, private letters,
/// and scripts whose letters join.
constexpr Range unshown[] = {
    {0x00, 0x1F},       {0x7F, 0x9F},       {0xAD, 0xAD},     {0x0300, 0x036F}, {0x0483, 0x0489},
    {0x0591, 0x05C7},   {0x0610, 0x061C},   {0x064B, 0x065F}, {0x0900, 0x1DFF}, {0x200B, 0x200F},
    {0x2028, 0x202F},   {0x2060, 0x206F},   {0x20D0, 0x20FF}, {0x302A, 0x302F}, {0x3099, 0x309A},
    {0xD800, 0xF8FF},   {0xFE00, 0xFE2F},   {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFC}, {0xFFFE, 0xFFFF},
    {0x10000, 0x1F2FF}, {0x3FFFE, 0x10FFFF}};

bool is_in(const auto& ranges, char32_t letter) {
    auto after = std::ranges::upper_bound(ranges, letter, {}, &Range::first);
    return after != std::begin(ranges) && letter <= std::prev(after)->last;
}

Letter letter_at(std::string_view text, size_t at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x80) return {.columns = byte >= 0x20 && byte != 0x7F};
    const size_t bytes = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
    if (byte < 0xC2 || byte > 0xF4 || at + bytes > text.size()) return {};
    char32_t letter = byte & (0xFFu >> (bytes + 1));
    for (size_t i = 1; i < bytes; ++i) {
        const auto next = static_cast<unsigned char>(text[at + i]);
        if ((next & 0xC0) != 0x80) return {};
        letter = letter << 6 | (next & 0x3F);
    }
    constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (letter < smallest[bytes] || letter > 0x10FFFF) return {};
    if (is_in(unshown, letter)) return {bytes, 0};
    return {bytes, is_in(wide, letter) ? 2u : 1u};
}

}  // namespace

size_t fitting(std::string_view text, size_t width) {
    size_t at = 0;
    for (size_t columns = 0; at < text.size();) {
        const auto letter = letter_at(text, at);
        columns += letter.columns;
        if (columns > width) break;
        at += letter.bytes;
    }
    return at;
}

size_t width_of(std::string_view text) {
    size_t columns = 0;
    for (size_t at = 0; at < text.size();) {
        const auto letter = letter_at(text, at);
        columns += letter.columns;
        at += letter.bytes;
    }
    return columns;
}

std::string shown(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const auto letter = letter_at(text, at);
        if (letter.columns == 0)
            out += '?';
        else
            out += text.substr(at, letter.bytes);
        at += letter.bytes;
    }
    return out;
}

std::string cut(const std::string& text, size_t width) {
    if (width_of(text) <= width) return text;
    if (width == 0) return {};
    return text.substr(0, fitting(text, width - 1)) + "~";
}

std::string cut_middle(const std::string& text, size_t width) {
    const size_t all = width_of(text);
    if (all <= width) return text;
    if (width < 4) return cut(text, width);
    const size_t tail = (width - 1) / 2;
    const auto head = text.substr(0, fitting(text, width - 1 - tail));
    size_t from = fitting(text, all - tail);
    // A wide letter may straddle the place; it goes.
    while (width_of(std::string_view(text).substr(from)) > tail)
        from += letter_at(text, from).bytes;
    return head + "~" + text.substr(from);
}

}  // namespace proxify::screen
