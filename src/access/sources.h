// SPDX-License-Identifier: Apache-2.0
// Sources: how much each client of a service takes, when the service has a limit for it. A source
// is an IPv4 address, or the first 64 bits of an IPv6 one, since whoever has one of those has all.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/address.h"
#include "base/clock.h"

namespace proxify::access {

struct SourceLimits {
    uint32_t sessions = 0;  ///< at a time; 0 for any number
    uint32_t rate = 0;      ///< new ones in a second; 0 for any number
    bool operator==(const SourceLimits&) const = default;
};

/// Called by all workers.
class Sources : public std::enable_shared_from_this<Sources> {
  public:
    /// A session's place among those of its source; it gives itself back.
    class Place {
      public:
        Place() = default;
        Place(std::shared_ptr<Sources> sources, const Ip& source)
            : sources_(std::move(sources)), source_(source) {}
        Place(Place&& other) noexcept
            : sources_(std::exchange(other.sources_, nullptr)), source_(other.source_) {}
        Place& operator=(Place&& other) noexcept {
            std::swap(sources_, other.sources_);
            std::swap(source_, other.source_);
            return *this;
        }
        ~Place() {
            if (sources_) sources_->leave(source_);
        }

      private:
        std::shared_ptr<Sources> sources_;
        Ip source_;
    };

    enum class Answer { welcome, too_many_sessions, too_fast };

    /// Asks for a place; `place` is filled when the client is welcome.
    Answer enter(const Ip& client, const SourceLimits& limits, Time now, Place& place);

    /// What enter() would say, without a place being taken.
    Answer would_answer(const Ip& client, const SourceLimits& limits, Time now) const;
    /// How many sessions a source has, as far as they are counted.
    uint32_t sessions_of(const Ip& client) const;

    /// Sources that are remembered at present.
    size_t size() const;

    /// Beyond so many, a new source that has no session is not remembered: its rate is then not
    /// limited.
    static constexpr size_t remembered_max = 65536;

  private:
    struct Known {
        uint32_t sessions = 0;
        Time due;  ///< when its next connection would be due; see bpf/steer.bpf.c, is_over_rate()
    };
    struct Hash {
        size_t operator()(const Ip& ip) const { return std::hash<Address>()({ip, 0}); }
    };
    struct Shard {
        mutable std::mutex lock;
        std::unordered_map<Ip, Known, Hash> known;
        /// When those that are no longer worth remembering may be looked for again. No sooner: when
        /// all are, each new source would look through all of them in vain.
        Time next_sweep;
    };
    static constexpr size_t shard_count = 64;
    static constexpr size_t shard_max = remembered_max / shard_count;

    static Answer judge(const Known& known, const SourceLimits& limits, Time now);
    static Time due_after(const Known& known, const SourceLimits& limits, Time now) {
        return std::max(known.due, now) + Duration(1s) / limits.rate;
    }
    Known find(const Ip& source) const;
    void leave(const Ip& source);
    static size_t shard_of(const Ip& source) {
        // Its upper bits, as the shard's own table goes by the lower ones.
        return (Hash()(source) * 0x9E3779B97F4A7C15u) >> 58;
    }

    std::array<Shard, shard_count> shards_;
};

}  // namespace proxify::access
