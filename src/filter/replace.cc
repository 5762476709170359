// SPDX-License-Identifier: Apache-2.0
// replace: puts `with` where `find` was, also where it came in pieces. The leftmost one first; what
// was put in is not looked at again.
//
// Bytes at the end of what came that may be the beginning of `find` are kept back, and no others:
// they are the first so many bytes of `find`, so only their number is remembered. The failure
// function of Knuth, Morris and Pratt says how many of them still may be when the next byte does
// not fit, so each byte is looked at once or twice, whatever it is.
#include <algorithm>
#include <array>
#include <cstring>

#include "filter/makers.h"

namespace proxify::filter {
namespace {

/// What all sessions share.
struct Spec {
    Buffer find, with;
    std::vector<uint32_t> shorter;  ///< by length: of a beginning of `find`, the longest shorter
                                    ///< beginning that it ends with
    Duration hold;

    explicit Spec(const config::Element& spec) : shorter(spec.find.size() + 1), hold(spec.hold) {
        append(find, bytes_of(spec.find));
        append(with, bytes_of(spec.with));
        for (uint32_t length = 1; length < find.size(); ++length)
            shorter[length + 1] = next(shorter[length], find[length]);
    }

    /// How much of `find` there is after `byte`, when there were `matched` bytes of it before.
    uint32_t next(uint32_t matched, std::byte byte) const {
        while (matched > 0 && find[matched] != byte) matched = shorter[matched];
        return find[matched] == byte ? matched + 1 : 0;
    }
};

/// So many places are looked at at once; after a false beginning, so many bytes one by one, as
/// others may be near.
constexpr size_t stride = 64, careful = 16;

/// Where, from `at` on, `find` may begin; bytes.size() when nowhere.
size_t may_begin(Bytes find, Bytes bytes, size_t at) {
    // Three bytes that are right are rare enough in most streams. Written so that the compiler
    // looks at many places at once.
    const size_t far = std::min<size_t>(find.size(), 16) - 1, near = std::min<size_t>(far, 1);
    const std::byte first = find[0], second = find[near], third = find[far];
    for (; at + stride + far <= bytes.size(); at += stride) {
        const std::byte* here = bytes.data() + at;
        auto is_hit = [&](size_t i) {
            return (here[i] == first) & (here[i + near] == second) & (here[i + far] == third);
        };
        unsigned char hit = 0;
        for (size_t i = 0; i < stride; ++i) hit |= static_cast<unsigned char>(is_hit(i));
        if (hit == 0) continue;
        for (size_t i = 0;; ++i)
            if (is_hit(i)) return at + i;
    }
    if (at == bytes.size()) return at;
    const void* found =
        std::memchr(bytes.data() + at, std::to_integer<int>(first), bytes.size() - at);
    return found ? static_cast<size_t>(static_cast<const std::byte*>(found) - bytes.data())
                 : bytes.size();
}

class Replace final : public Element {
  public:
    explicit Replace(std::shared_ptr<const Spec> spec) : spec_(std::move(spec)) {}

    Answer see(Direction direction, Bytes bytes, Time now, Buffer& out) override {
        const Spec& spec = *spec_;
        Held& held = held_[static_cast<size_t>(direction)];
        uint32_t matched = held.size;
        size_t old = held.size;  // of what is held: what is not yet in `out`
        size_t copied = 0;       // of `bytes`: those that have been dealt with
        bool is_changed = false;
        // Copies what comes before the last `keep` bytes up to `end`.
        auto copy_to = [&](size_t end, size_t keep) {
            const size_t count = old + (end - copied) - keep;
            const size_t of_old = std::min(old, count);
            if (of_old > 0) append(out, Bytes(spec.find).first(of_old));
            if (count > of_old) append(out, bytes.subspan(copied, count - of_old));
            old -= of_old;
            copied += count - of_old;
        };

        size_t at = 0, careful_to = 0;
        while (at < bytes.size()) {
            if (matched == 0 && at >= careful_to) {
                at = may_begin(spec.find, bytes, at);
                careful_to = at + careful;
                if (at == bytes.size()) break;
            }
            matched = spec.next(matched, bytes[at++]);
            if (matched < spec.find.size()) continue;
            copy_to(at, matched);
            append(out, spec.with);
            is_changed = true;
            old = matched = 0;
            copied = at;
            if (out.size() >= out_enough) break;
        }
        const bool was_held = held.size > 0;
        held = {matched, now + spec.hold};
        if (!is_changed && !was_held && matched == 0) return {};
        copy_to(at, matched);
        return {.verdict = Verdict::change, .taken = at};
    }

    Answer end(Direction direction, Time now, Buffer& out) override {
        release(direction, now, out);
        return {};
    }

    Time holds_until(Direction direction) const override {
        const Held& held = held_[static_cast<size_t>(direction)];
        return held.size > 0 ? held.until : Time::max();
    }
    void release(Direction direction, Time, Buffer& out) override {
        Held& held = held_[static_cast<size_t>(direction)];
        append(out, Bytes(spec_->find).first(held.size));
        held = {};
    }

  private:
    struct Held {
        uint32_t size = 0;  ///< bytes, which are those that `find` begins with
        Time until{};
    };

    std::shared_ptr<const Spec> spec_;
    std::array<Held, 2> held_;
};

class ReplaceMaker final : public Maker {
  public:
    explicit ReplaceMaker(const config::Element& spec) : spec_(std::make_shared<Spec>(spec)) {}
    std::unique_ptr<Element> make(const Facts&) const override {
        return std::make_unique<Replace>(spec_);
    }

  private:
    std::shared_ptr<const Spec> spec_;
};

}  // namespace

std::shared_ptr<const Maker> make_replace(const config::Element& spec) {
    return std::make_shared<ReplaceMaker>(spec);
}

}  // namespace proxify::filter
