// SPDX-License-Identifier: Apache-2.0
// Histogram of durations: counts in buckets whose width grows with the value, so that every
// answer is right within 0.8 % from a nanosecond to minutes. The idea is that of HdrHistogram.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace proxify::bench {

class Histogram {
  public:
    void add(uint64_t nanoseconds) {
        ++counts_[bucket_of(nanoseconds)];
        ++total_;
        max_ = std::max(max_, nanoseconds);
    }

    uint64_t count() const { return total_; }
    uint64_t max() const { return max_; }

    /// The value that `share` (0 to 1) of all values do not exceed.
    uint64_t quantile(double share) const {
        auto wanted = static_cast<uint64_t>(share * static_cast<double>(total_));
        uint64_t seen = 0;
        for (size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen > wanted) return std::min(middle_of(i), max_);
        }
        return max_;
    }

  private:
    // Values below 128 have a bucket each; above, each power of two is cut into 64.
    static constexpr int cut_bits = 6;
    static constexpr uint64_t exact_below = uint64_t{2} << cut_bits;

    static size_t bucket_of(uint64_t value) {
        if (value < exact_below) return value;
        int shift = std::bit_width(value) - 1 - cut_bits;
        return (static_cast<size_t>(shift) << cut_bits) + (value >> shift);
    }

    static uint64_t middle_of(size_t bucket) {
        if (bucket < exact_below) return bucket;
        int shift = static_cast<int>(bucket >> cut_bits) - 1;
        uint64_t low = (bucket - (static_cast<size_t>(shift) << cut_bits)) << shift;
        return low + (uint64_t{1} << shift) / 2;
    }

    std::vector<uint64_t> counts_ = std::vector<uint64_t>(64 << cut_bits);
    uint64_t total_ = 0;
    uint64_t max_ = 0;
};

}  // namespace proxify::bench
