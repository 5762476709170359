// SPDX-License-Identifier: Apache-2.0
// match: looks for a pattern in each direction, also across chunks, and ends the session before the
// byte that would complete it, or drops what does: the chunk, or the record, which is what a
// delimiter ends.
//
// Whatever is dropped, the search goes on from what was let go before it, so what comes out holds
// no match, put together from what was left over or not. Only what the end of the stream completes,
// as in "x$", cannot be dropped any more when it has gone by chunks.
#include <algorithm>
#include <array>

#include "filter/makers.h"
#include "scan/scan.h"

namespace proxify::filter {
namespace {

constexpr const char* reason = "a match";

class Closing final : public Element {
  public:
    explicit Closing(const scan::Pattern& pattern)
        : streams_{scan::Stream(pattern), scan::Stream(pattern)} {}

    Answer see(Direction direction, Bytes bytes, Time, Buffer&) override {
        const auto before = streams_[static_cast<size_t>(direction)].feed(text_of(bytes));
        if (!before) return {};
        if (*before == 0) return {.verdict = Verdict::close, .reason = reason};
        return {.taken = *before};  // and at the next byte there is the match
    }

    Answer end(Direction direction, Time, Buffer&) override {
        if (streams_[static_cast<size_t>(direction)].take_last({})) return {};
        return {.verdict = Verdict::close, .reason = reason};
    }

  private:
    std::array<scan::Stream, 2> streams_;
};

class DroppingChunks final : public Element {
  public:
    explicit DroppingChunks(const scan::Pattern& pattern)
        : streams_{scan::Stream(pattern), scan::Stream(pattern)} {}

    Answer see(Direction direction, Bytes bytes, Time, Buffer&) override {
        const bool goes_on = streams_[static_cast<size_t>(direction)].take(text_of(bytes));
        return {.verdict = goes_on ? Verdict::pass : Verdict::drop};
    }

  private:
    std::array<scan::Stream, 2> streams_;
};

/// The bytes that end a record, found also when they come in pieces (Knuth, Morris and Pratt's
/// way).
class Delimiter {
  public:
    explicit Delimiter(std::string text) : text_(std::move(text)), shorter_(text_.size(), 0) {
        for (size_t i = 1; i < text_.size(); ++i) shorter_[i] = after(shorter_[i - 1], text_[i]);
    }

    /// How many of `bytes` there are up to the end of the first delimiter, npos when none ends in
    /// them. `begun` is how much of one the bytes before them end in; it goes on with them.
    size_t end_in(std::string_view bytes, size_t& begun) const {
        for (size_t i = 0; i < bytes.size(); ++i) {
            if (begun == 0) {
                i = bytes.find(text_.front(), i);
                if (i == bytes.npos) break;
            }
            begun = after(begun, bytes[i]);
            if (begun < text_.size()) continue;
            begun = 0;
            return i + 1;
        }
        return std::string_view::npos;
    }

  private:
    size_t after(size_t begun, char byte) const {
        while (begun > 0 && text_[begun] != byte) begun = shorter_[begun - 1];
        return text_[begun] == byte ? begun + 1 : 0;
    }

    std::string text_;
    std::vector<size_t> shorter_;  ///< at i: what is begun, too, where text_[0..i] is
};

/// So much of a record is kept back. A longer one is judged in pieces of that size: each goes on
/// when there is no match so far, and with the first that has one all the rest is dropped.
constexpr size_t piece_max = 64 * 1024;

/// One direction, taken as records.
class Records {
  public:
    Records(const scan::Pattern& pattern, const Delimiter& delimiter, Duration hold)
        : stream_(pattern), delimiter_(delimiter), hold_(hold) {}

    Answer see(Bytes bytes, Time now, Buffer& out) {
        if (skips_) return {.verdict = Verdict::drop, .taken = skip(bytes)};
        // As long as nothing is kept back, what goes on does so where it is.
        size_t good = 0;
        while (good < bytes.size()) {
            const Piece piece = next_piece(bytes.subspan(good));
            const Bytes here = bytes.subspan(good, piece.size);
            if (piece.kind == Piece::Kind::part) {
                if (good > 0) break;
                if (kept_.empty()) due_ = now + hold_;
                append(kept_, here);
                begun_ = piece.begun;
                return {.verdict = Verdict::change};
            }
            const bool had_kept = !kept_.empty();
            if (had_kept) append(kept_, here);
            const bool is_last = piece.kind == Piece::Kind::whole;
            const auto text = text_of(had_kept ? Bytes(kept_) : here);
            if (is_last ? stream_.take_last(text) : stream_.take(text)) {
                begun_ = begun_before_ = piece.begun;
                good += piece.size;
                if (!had_kept) continue;
                append(out, kept_);
                kept_ = {};
                return {.verdict = Verdict::change, .taken = good};
            }
            if (good > 0) break;  // it is asked about once more, alone
            kept_ = {};
            skips_ = !is_last;
            begun_ = is_last ? begun_before_ : piece.begun;
            return {.verdict = Verdict::drop, .taken = piece.size};
        }
        return {.taken = good};
    }

    void end(Buffer& out) {
        if (stream_.take_last(text_of(kept_))) append(out, kept_);
        kept_ = {};
    }

    Time holds_until() const { return kept_.empty() ? Time::max() : due_; }

    void release(Buffer& out) {
        if (stream_.take(text_of(kept_))) {
            append(out, kept_);
            begun_before_ = begun_;
        } else {
            skips_ = true;
        }
        kept_ = {};
    }

  private:
    struct Piece {
        enum class Kind { whole, full, part };  ///< up to a delimiter; piece_max; more is to come
        Kind kind;
        size_t size;
        size_t begun;  ///< of a delimiter, after it
    };

    /// What the front of `bytes` makes of what is kept.
    Piece next_piece(Bytes bytes) const {
        const Bytes room = bytes.first(std::min(bytes.size(), piece_max - kept_.size()));
        size_t begun = begun_;
        const size_t end = delimiter_.end_in(text_of(room), begun);
        if (end != std::string_view::npos) return {Piece::Kind::whole, end, begun};
        const bool is_full = kept_.size() + room.size() == piece_max;
        return {is_full ? Piece::Kind::full : Piece::Kind::part, room.size(), begun};
    }

    /// How many are the rest of a record that is dropped.
    size_t skip(Bytes bytes) {
        const size_t end = delimiter_.end_in(text_of(bytes), begun_);
        if (end == std::string_view::npos) return bytes.size();
        skips_ = false;
        begun_ = begun_before_;
        return end;
    }

    scan::Stream stream_;  ///< has come as far as the bytes that went on
    const Delimiter& delimiter_;
    Duration hold_;
    Buffer kept_;  ///< of a record whose end has not come
    Time due_{};
    size_t begun_ = 0;         ///< of a delimiter, at the end of what came
    size_t begun_before_ = 0;  ///< and at the end of what went on
    bool skips_ = false;       ///< up to the next delimiter
};

class DroppingRecords final : public Element {
  public:
    DroppingRecords(const scan::Pattern& pattern, const Delimiter& delimiter, Duration hold)
        : ways_{Records(pattern, delimiter, hold), Records(pattern, delimiter, hold)} {}

    Answer see(Direction direction, Bytes bytes, Time now, Buffer& out) override {
        return way(direction).see(bytes, now, out);
    }
    Answer end(Direction direction, Time, Buffer& out) override {
        way(direction).end(out);
        return {};
    }
    Time holds_until(Direction direction) const override {
        return ways_[static_cast<size_t>(direction)].holds_until();
    }
    void release(Direction direction, Time, Buffer& out) override { way(direction).release(out); }

  private:
    Records& way(Direction direction) { return ways_[static_cast<size_t>(direction)]; }

    std::array<Records, 2> ways_;
};

class MatchMaker final : public Maker {
  public:
    explicit MatchMaker(const config::Element& spec)
        : pattern_(*spec.pattern), on_match_(spec.on_match), hold_(spec.hold) {
        if (!spec.delimiter.empty()) delimiter_.emplace(spec.delimiter);
    }

    std::unique_ptr<Element> make(const Facts&) const override {
        if (on_match_ == config::OnMatch::close) return std::make_unique<Closing>(pattern_);
        if (!delimiter_) return std::make_unique<DroppingChunks>(pattern_);
        return std::make_unique<DroppingRecords>(pattern_, *delimiter_, hold_);
    }

  private:
    scan::Pattern pattern_;
    config::OnMatch on_match_;
    std::optional<Delimiter> delimiter_;
    Duration hold_;
};

}  // namespace

std::shared_ptr<const Maker> make_match(const config::Element& spec) {
    return std::make_shared<MatchMaker>(spec);
}

}  // namespace proxify::filter
