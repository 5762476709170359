// SPDX-License-Identifier: Apache-2.0
#include "balance/pool.h"

namespace proxify::balance {

Target* Pool::pick(const Tried& tried) const {
    size_t first = next_.load(std::memory_order_relaxed);
    for (;;) {
        Target* found = nullptr;
        size_t after = 0;
        for (size_t i = 0; i < targets_.size() && !found; ++i) {
            size_t at = (first + i) % targets_.size();
            Target& target = *targets_[at];
            if (!target.up.load(std::memory_order_relaxed) || tried.contains(target)) continue;
            found = &target;
            after = (at + 1) % targets_.size();
        }
        // Another worker may have picked meanwhile: then look again from where it stopped.
        if (!found || next_.compare_exchange_weak(first, after, std::memory_order_relaxed))
            return found;
    }
}

}  // namespace proxify::balance
