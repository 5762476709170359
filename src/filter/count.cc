// SPDX-License-Identifier: Apache-2.0
// count: how many chunks and bytes have come past here.
#include "filter/makers.h"

namespace proxify::filter {
namespace {

class Count final : public Element {
  public:
    explicit Count(stats::Element& stats) : stats_(stats) {}

    Answer see(Direction direction, Bytes bytes, Time, Buffer&) override {
        auto& way = stats_.of(direction);
        way.chunks.add();
        way.bytes.add(bytes.size());
        return {};
    }

  private:
    stats::Element& stats_;
};

class CountMaker final : public Maker {
  public:
    explicit CountMaker(std::shared_ptr<stats::Element> stats) : stats_(std::move(stats)) {}
    std::unique_ptr<Element> make(const Facts&) const override {
        return std::make_unique<Count>(*stats_);
    }

  private:
    std::shared_ptr<stats::Element> stats_;
};

}  // namespace

std::shared_ptr<const Maker> make_count(std::shared_ptr<stats::Element> stats) {
    return std::make_shared<CountMaker>(std::move(stats));
}

}  // namespace proxify::filter
