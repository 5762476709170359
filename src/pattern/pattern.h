// SPDX-License-Identifier: Apache-2.0
// Pattern: a regular expression that somebody else's bytes may be held against. Searching takes
// time in proportion to the bytes, whatever the expression and whatever the bytes (RE2's promise),
// and the expression itself is bounded, so that neither a bomb in the file nor one from the
// network stops a thread.
//
// Bytes are bytes: a dot stands for one of them, and a letter beyond ASCII is the bytes of its
// UTF-8.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <string_view>

namespace re2 {
class RE2;
}

namespace proxify::pattern {

/// A value: copies share what was compiled, and it is compared by its text.
class Pattern {
  public:
    /// The syntax is RE2's. What is wrong is said in words: "missing ): (abc".
    static std::expected<Pattern, std::string> compile(std::string_view text);

    bool is_in(std::string_view bytes) const;
    const std::string& text() const;
    bool operator==(const Pattern& other) const { return text() == other.text(); }

    /// Steps of the compiled expression. Where many states are to be followed at once a search
    /// costs steps times bytes: 64 KiB against so many take less than a second.
    static constexpr int steps_max = 1000;

  private:
    explicit Pattern(std::shared_ptr<const re2::RE2> compiled) : compiled_(std::move(compiled)) {}
    std::shared_ptr<const re2::RE2> compiled_;
};

}  // namespace proxify::pattern
