// SPDX-License-Identifier: Apache-2.0
// Spares: buffers that the kernel does not fill, for bytes that are made of others. Both rings have
// some; their numbers follow those of the shared buffers, so a chunk need not know which it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace proxify::io {

class Spares {
  public:
    static constexpr size_t size = 32 * 1024;

    uint16_t take() {
        if (home_.empty()) {
            home_.push_back(static_cast<uint16_t>(all_.size()));
            all_.push_back(std::make_unique_for_overwrite<std::byte[]>(size));
        }
        const uint16_t id = home_.back();
        home_.pop_back();
        return id;
    }
    std::byte* at(size_t id) { return all_[id].get(); }
    void give(size_t id) { home_.push_back(static_cast<uint16_t>(id)); }

  private:
    std::vector<std::unique_ptr<std::byte[]>> all_;
    std::vector<uint16_t> home_;  ///< the one that was used last is still in the cache
};

}  // namespace proxify::io
