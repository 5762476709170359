// SPDX-License-Identifier: Apache-2.0
// limit_bytes: a session in which more than so many bytes would go one way ends after the last one
// that is allowed.
#include <algorithm>
#include <array>

#include "filter/makers.h"

namespace proxify::filter {
namespace {

class LimitBytes final : public Element {
  public:
    explicit LimitBytes(uint64_t limit) : left_{limit, limit} {}

    Answer see(Direction direction, Bytes bytes, Time, Buffer&) override {
        uint64_t& left = left_[static_cast<size_t>(direction)];
        if (left == 0) return {.verdict = Verdict::close, .reason = "more bytes than allowed"};
        const auto taken = std::min<uint64_t>(left, bytes.size());
        left -= taken;
        return {.taken = taken};
    }

  private:
    std::array<uint64_t, 2> left_;
};

class LimitBytesMaker final : public Maker {
  public:
    explicit LimitBytesMaker(uint64_t limit) : limit_(limit) {}
    std::unique_ptr<Element> make(const Facts&) const override {
        return std::make_unique<LimitBytes>(limit_);
    }

  private:
    uint64_t limit_;
};

}  // namespace

std::shared_ptr<const Maker> make_limit_bytes(const config::Element& spec) {
    return std::make_shared<LimitBytesMaker>(spec.bytes);
}

}  // namespace proxify::filter
