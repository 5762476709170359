// SPDX-License-Identifier: Apache-2.0
// What a screen shows and what is typed at it, as values: whoever decides about these needs no
// terminal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace proxify::screen {

/// What a text is, not how it looks: a terminal without colours tells fewer of them apart.
enum class Role : uint8_t { plain, good, caution, bad, faint };

struct Span {
    std::string text;  ///< printable, in UTF-8
    Role role = Role::plain;
    bool is_bold = false;
    bool operator==(const Span&) const = default;
};

struct Line {
    std::vector<Span> spans;
    bool is_reverse = false;  ///< from edge to edge
    bool operator==(const Line&) const = default;

    std::string text() const {
        std::string out;
        for (const auto& span : spans) out += span.text;
        return out;
    }
};

struct Key {
    enum class Kind : uint8_t {
        character,
        up,
        down,
        page_up,
        page_down,
        home,
        end,
        enter,
        escape,
        backspace,
        tab,
    };
    Kind kind = Kind::character;
    std::string text;  ///< of a character, in UTF-8
    bool operator==(const Key&) const = default;
};

/// How many columns a terminal takes for it.
size_t width_of(std::string_view text);
/// How many bytes of its beginning take at most so many columns.
size_t fitting(std::string_view text, size_t width);

/// The same text with everything replaced that a terminal would not show as one or two columns of
/// ink: control characters, marks that join others, and what is no UTF-8.
std::string shown(std::string_view text);

/// At most `width` columns of what is shown already; when it is longer, with "~" for what went:
/// from the end, or from the middle.
std::string cut(const std::string& text, size_t width);
std::string cut_middle(const std::string& text, size_t width);

}  // namespace proxify::screen
