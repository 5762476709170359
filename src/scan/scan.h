// SPDX-License-Identifier: Apache-2.0
// Scan: a regular expression looked for in bytes that come piece by piece. A stream goes on where
// it stopped and keeps none of the bytes, so a match across pieces is found as one within a piece
// is, in time that is proportional to the bytes (Hyperscan's promise).
//
// Bytes are bytes: a dot stands for any one of them, the end of a line too, and a letter beyond
// ASCII is the bytes of its UTF-8. `^` and `$` are the ends of the stream; `$` is before a last
// newline too.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct hs_stream;

namespace proxify::scan {

/// A value: copies share what was compiled, and it is compared by its text. May be used by all
/// threads.
class Pattern {
  public:
    /// The syntax is Hyperscan's: Perl's without what needs to look back or ahead. What is wrong
    /// is said in words: "missing close parenthesis for group started at character 1". What would
    /// match no bytes at all is wrong too.
    static std::expected<Pattern, std::string> compile(std::string_view text);

    const std::string& text() const;
    bool operator==(const Pattern& other) const { return text() == other.text(); }

    /// Nothing matches before the stream has ended, as in "x$".
    bool matches_only_at_end() const;
    /// That each open stream takes.
    size_t stream_bytes() const;
    /// That each thread takes while it looks.
    size_t scratch_bytes() const;

    /// Characters and classes of the expression, repeated as often as it says. Compiling so many
    /// takes about a second, and more than the square of it with twice as many.
    static constexpr uint64_t steps_max = 4096;

  private:
    friend class Stream;
    struct Compiled;
    explicit Pattern(std::shared_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}
    std::shared_ptr<const Compiled> compiled_;
};

/// How far the search has come in one stream of bytes. Used by one thread at a time; takes memory
/// beyond its own few bytes once the first byte has come.
class Stream {
  public:
    /// The pattern outlives it.
    explicit Stream(const Pattern& pattern) : compiled_(*pattern.compiled_) {}
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    /// Goes on with `bytes`, unless there is a match then: it gives false, and is where it was.
    bool take(std::string_view bytes);

    /// The same for bytes after which the stream ends. Once they are taken another one begins.
    bool take_last(std::string_view bytes);

    /// Goes on up to the byte with which there is a match, and gives how many come before that
    /// one; nothing when all are taken. However the bytes are cut, it is the same byte.
    std::optional<size_t> feed(std::string_view bytes);

  private:
    bool go_on(std::string_view bytes, bool is_last);

    const Pattern::Compiled& compiled_;
    hs_stream* state_ = nullptr;
    bool is_at_start_ = true;  ///< no byte has been taken
};

}  // namespace proxify::scan
