// SPDX-License-Identifier: Apache-2.0
// Vitals: what proxify takes from the machine, looked at from outside, and whether it grows.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "support/eventually.h"
#include "support/process.h"

namespace proxify::test::soak {

struct Vitals {
    size_t resident = 0, anonymous = 0;  ///< bytes of memory
    int sockets = 0, pipes = 0, other_fds = 0;

    static Vitals of(const Child& process);
};

/// Memory over time. Its beginning does not count: everything is used for the first time then.
class Series {
  public:
    void add(size_t bytes) { values_.push_back(bytes); }
    /// The middle value of a third, 0 to 2, of what came after the warm-up.
    size_t median_of_third(size_t which) const;
    bool is_long_enough() const { return values_.size() >= 40; }
    /// Some of the values, evenly chosen, in MiB.
    std::string text() const;

  private:
    std::vector<size_t> values_;
};

}  // namespace proxify::test::soak
