// SPDX-License-Identifier: Apache-2.0
// Ports: what is counted for each port of a service, where the file asks for it.
#pragma once

#include <array>
#include <atomic>

#include "stats/bytes.h"

namespace proxify::stats {

struct Port {
    Counter sessions;  ///< that began
    Counter failed;    ///< of these, ended without having reached a target
    Timing connects;   ///< those that succeeded
    Bytes bytes;
};

class Ports {
  public:
    Ports() = default;
    Ports(const Ports&) = delete;
    ~Ports();

    /// Memory is taken for 256 neighbours, 12 KiB, when the first of them is asked for. From any
    /// thread; it stays where it is.
    Port& at(uint16_t port);

    /// Calls `visit(port, counts)` for those that had a session, in order.
    template <class Visit>
    void for_each(Visit visit) const {
        for (size_t i = 0; i < blocks_.size(); ++i)
            if (const Block* block = blocks_[i].load(std::memory_order_acquire))
                for (size_t j = 0; j < block->size(); ++j)
                    if ((*block)[j].sessions.value() > 0)
                        visit(static_cast<uint16_t>(i * block->size() + j), (*block)[j]);
    }

  private:
    using Block = std::array<Port, 256>;
    std::array<std::atomic<Block*>, 256> blocks_{};
};

}  // namespace proxify::stats
