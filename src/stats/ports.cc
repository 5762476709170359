// SPDX-License-Identifier: Apache-2.0
#include "stats/ports.h"

#include <memory>

namespace proxify::stats {

Ports::~Ports() {
    for (auto& block : blocks_) delete block.load();
}

Port& Ports::at(uint16_t port) {
    auto& place = blocks_[port / 256];
    Block* block = place.load(std::memory_order_acquire);
    if (!block) {
        auto made = std::make_unique<Block>();
        // Another worker may have been quicker: then `block` is its one.
        if (place.compare_exchange_strong(block, made.get(), std::memory_order_acq_rel))
            block = made.release();
    }
    return (*block)[port % 256];
}

}  // namespace proxify::stats
