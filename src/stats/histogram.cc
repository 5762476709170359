// SPDX-License-Identifier: Apache-2.0
#include "stats/histogram.h"

#include "base/expect.h"

namespace proxify::stats {

Histogram::Histogram(std::span<const Duration> bounds) : bounds_(bounds) {
    expect(bounds.size() <= bounds_max && std::ranges::is_sorted(bounds),
           "a histogram has few bounds, in rising order");
}

void Histogram::add(Duration duration) {
    const auto within = std::ranges::lower_bound(bounds_, duration);
    counts_[static_cast<size_t>(within - bounds_.begin())].add();
    sum_.add(duration);
}

std::vector<uint64_t> Histogram::counts() const {
    std::vector<uint64_t> counts;
    for (size_t i = 0; i <= bounds_.size(); ++i) counts.push_back(counts_[i].value());
    return counts;
}

}  // namespace proxify::stats
