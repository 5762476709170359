// SPDX-License-Identifier: Apache-2.0
// Filters: what the `filters` of one service make of each of its sessions. Immutable once built;
// all workers ask it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "filter/chain.h"

namespace proxify::filter {

class Filters {
  public:
    /// Elements that `before` has as well, written alike, go on with what their sessions share;
    /// what was counted under a name goes on in any case. Null when the service has none.
    static std::shared_ptr<const Filters> build(const config::Service& service,
                                                const Filters* before);

    /// The elements of a session that begins. Filters outlive its chain.
    std::unique_ptr<Chain> begin(const Facts& facts) const;

    struct Entry {
        config::Element spec;
        std::shared_ptr<const Maker> maker;
        std::shared_ptr<stats::Element> stats;

        /// How many bytes of a direction its elements are to see.
        uint64_t sees(Direction direction) const;
    };
    /// In the order of the file.
    const std::vector<Entry>& entries() const { return entries_; }

  private:
    size_t chunk_size_ = 0;
    std::vector<Entry> entries_;
};

}  // namespace proxify::filter
