// SPDX-License-Identifier: Apache-2.0
// What an element of type rate takes its bytes from.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "base/address.h"
#include "base/clock.h"

namespace proxify::filter {

/// How fast bytes may pass.
struct Pace {
    Pace(uint64_t bytes_per_second, uint64_t burst);

    /// Rounded up, so that never more passes than is allowed.
    Duration time_for(uint64_t bytes) const;

    double ticks_per_byte;  ///< of a Duration
    uint64_t burst;         ///< bytes
    /// Who has more to send is given so much at least, ten milliseconds' worth, and waits for it:
    /// many small pieces would cost more than they are worth.
    uint64_t least;
};

/// A bucket of tokens, one for each byte, that fills by itself. It is one number, the moment at
/// which it is full again (bpf/steer.bpf.c counts in the same way), so no lock is needed.
class Bucket {
  public:
    struct Place {
        uint64_t bytes = 0;  ///< at least one
        Time from{};         ///< the moment at which they may pass
    };
    /// So many of `wanted` as may pass now; when that is too little, a place in line.
    Place take(uint64_t wanted, Time now, const Pace& pace);
    /// Bytes that were taken and did not pass.
    void give_back(uint64_t bytes, const Pace& pace);
    bool is_full(Time now) const;

  private:
    std::atomic<Duration::rep> full_ = 0;
};

/// By direction.
using BothWays = std::array<Bucket, 2>;

/// The buckets of each source that has sessions: of an IPv4 address, or of the first 64 bits of an
/// IPv6 one. Those of a source that comes back are as empty as it has left them.
class Buckets {
  public:
    /// They stay where they are until as many have left as have entered.
    BothWays& enter(const Ip& client);
    void leave(const Ip& client, Time now);

    /// Sources that are known at present.
    size_t size() const;

    /// So many sources without a session are remembered while their buckets fill. Of more than
    /// that, the next ones begin with full buckets when they come back.
    static constexpr size_t remembered_max = 65536;

  private:
    struct Known {
        BothWays ways;
        uint32_t sessions = 0;
    };
    struct Hash {
        size_t operator()(const Ip& ip) const { return std::hash<Address>()({ip, 0}); }
    };
    struct Shard {
        mutable std::mutex lock;
        std::unordered_map<Ip, Known, Hash> known;
        size_t idle = 0;  ///< of `known`: sources without a session
        /// When those that need not be remembered may be looked for again; no sooner, as looking in
        /// vain is work.
        Time next_sweep{};
    };
    static constexpr size_t shard_count = 64;
    static constexpr size_t shard_max = remembered_max / shard_count;

    Shard& shard_of(const Ip& source);

    std::array<Shard, shard_count> shards_;
};

}  // namespace proxify::filter
