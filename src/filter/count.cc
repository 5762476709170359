// SPDX-License-Identifier: Apache-2.0
// count: how many chunks and bytes have come past here. All workers write the same numbers, so an
// element counts by itself and tells them now and then: of a session that goes on, the chunks of
// the last tenth of a second may be missing.
#include <array>
#include <utility>

#include "filter/makers.h"

namespace proxify::filter {
namespace {

class Count final : public Element {
  public:
    explicit Count(stats::Element& stats) : stats_(stats) {}
    Count(const Count&) = delete;
    ~Count() override {
        tell(Direction::to_target);
        tell(Direction::to_client);
    }

    Answer see(Direction direction, Bytes bytes, Time now, Buffer&) override {
        Untold& untold = of(direction);
        ++untold.chunks;
        untold.bytes += bytes.size();
        if (untold.chunks >= 64 || now >= untold.tell_at) {
            tell(direction);
            untold.tell_at = now + 100ms;
        }
        return {};
    }

    Answer end(Direction direction, Time, Buffer&) override {
        tell(direction);
        return {};
    }

  private:
    struct Untold {
        uint64_t chunks = 0, bytes = 0;
        Time tell_at{};
    };

    Untold& of(Direction direction) { return untold_[static_cast<size_t>(direction)]; }
    void tell(Direction direction) {
        auto& way = stats_.of(direction);
        Untold& untold = of(direction);
        if (untold.chunks == 0) return;
        way.chunks.add(std::exchange(untold.chunks, 0));
        way.bytes.add(std::exchange(untold.bytes, 0));
    }

    stats::Element& stats_;
    std::array<Untold, 2> untold_;
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
