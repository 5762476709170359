// SPDX-License-Identifier: Apache-2.0
// rate: so many bytes a second may pass, and `burst` at once after a pause; of each direction, for
// a session, for all sessions of a source, or for those of a service.
//
// Whoever must wait takes a place in line at once, by moving the moment on from which the next one
// is served. So those who share a rate take turns, and each is woken once for what it gets.
#include "filter/rate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/source.h"
#include "filter/makers.h"

namespace proxify::filter {
namespace {

using Ticks = Duration::rep;

/// An element asks again after so long at most, so that the end of its session is noticed.
constexpr Duration wait_max = 1s;
/// No moment is further away than some 70 years, so that sums of them stay in range.
constexpr double ticks_max = 0x1p61;

class Rate final : public Element {
  public:
    /// `shared` is the service's; without it the session has buckets of its own.
    Rate(const Pace& pace, std::shared_ptr<BothWays> shared)
        : pace_(pace), shared_(std::move(shared)) {}
    Rate(const Pace& pace, std::shared_ptr<Buckets> sources, const Ip& client)
        : pace_(pace), sources_(std::move(sources)), client_(client) {}
    Rate(const Rate&) = delete;
    ~Rate() override {
        for (size_t way = 0; way < 2; ++way)
            if (places_[way].bytes > 0) buckets()[way].give_back(places_[way].bytes, pace_);
        if (of_source_) sources_->leave(client_, last_seen_);
    }

    Answer see(Direction direction, Bytes bytes, Time now, Buffer&) override {
        last_seen_ = now;
        if (sources_ && !of_source_) of_source_ = &sources_->enter(client_);
        const auto way = static_cast<size_t>(direction);
        Bucket::Place& place = places_[way];
        if (place.bytes == 0) place = buckets()[way].take(bytes.size(), now, pace_);
        if (place.from > now)
            return {.verdict = Verdict::wait, .until = std::min(place.from, now + wait_max)};
        return {.taken = std::exchange(place.bytes, 0)};
    }

  private:
    BothWays& buckets() { return of_source_ ? *of_source_ : shared_ ? *shared_ : own_; }

    Pace pace_;
    std::shared_ptr<BothWays> shared_;
    std::shared_ptr<Buckets> sources_;
    Ip client_;
    BothWays* of_source_ = nullptr;  ///< one of sources_, once bytes have come
    Time last_seen_{};
    BothWays own_;
    std::array<Bucket::Place, 2> places_{};
};

class RateMaker final : public Maker {
  public:
    explicit RateMaker(const config::Element& spec) : pace_(spec.bytes, spec.burst) {
        if (spec.per == config::RatePer::service) service_ = std::make_shared<BothWays>();
        if (spec.per == config::RatePer::source) sources_ = std::make_shared<Buckets>();
    }
    std::unique_ptr<Element> make(const Facts& facts) const override {
        if (sources_) return std::make_unique<Rate>(pace_, sources_, facts.client.ip);
        return std::make_unique<Rate>(pace_, service_);
    }

  private:
    Pace pace_;
    std::shared_ptr<BothWays> service_;
    std::shared_ptr<Buckets> sources_;
};

}  // namespace

Pace::Pace(uint64_t bytes, uint64_t at_once)
    : ticks_per_byte(1e9 / static_cast<double>(bytes)),
      burst(std::max<uint64_t>(at_once, 1)),
      least(std::clamp<uint64_t>(bytes / 100, 1, burst)) {}

Duration Pace::time_for(uint64_t bytes) const {
    return Duration(static_cast<Ticks>(
        std::min(std::ceil(static_cast<double>(bytes) * ticks_per_byte), ticks_max)));
}

Bucket::Place Bucket::take(uint64_t wanted, Time now, const Pace& pace) {
    const Ticks at = now.time_since_epoch().count();
    const Ticks burst = pace.time_for(pace.burst).count();
    Ticks full = full_.load(std::memory_order_relaxed);
    for (;;) {
        const Ticks begin = std::max(full, at);
        const Ticks there = burst - (begin - at);  // what may be taken now, in the time it took
        uint64_t bytes = std::min(wanted, pace.burst);
        if (pace.time_for(bytes).count() > there) {
            const uint64_t least = std::min(bytes, pace.least);
            const auto whole = static_cast<uint64_t>(
                static_cast<double>(std::max<Ticks>(there, 0)) / pace.ticks_per_byte);
            bytes = std::clamp(whole, least, bytes);
        }
        const Ticks end = begin + pace.time_for(bytes).count();
        if (full_.compare_exchange_weak(full, end, std::memory_order_relaxed))
            return {.bytes = bytes, .from = Time(Duration(end - burst))};
    }
}

void Bucket::give_back(uint64_t bytes, const Pace& pace) {
    full_.fetch_sub(pace.time_for(bytes).count(), std::memory_order_relaxed);
}

bool Bucket::is_full(Time now) const {
    return full_.load(std::memory_order_relaxed) <= now.time_since_epoch().count();
}

Buckets::Shard& Buckets::shard_of(const Ip& source) {
    // By the upper bits, as the shard's own table goes by the lower ones.
    return shards_[(Hash()(source) * 0x9E3779B97F4A7C15u) >> 58];
}

BothWays& Buckets::enter(const Ip& client) {
    const Ip source = source_of(client);
    Shard& shard = shard_of(source);
    std::lock_guard lock(shard.lock);
    auto [known, is_new] = shard.known.try_emplace(source);
    if (!is_new && known->second.sessions == 0) --shard.idle;
    ++known->second.sessions;
    return known->second.ways;
}

void Buckets::leave(const Ip& client, Time now) {
    const Ip source = source_of(client);
    Shard& shard = shard_of(source);
    std::lock_guard lock(shard.lock);
    auto known = shard.known.find(source);
    if (--known->second.sessions > 0) return;
    auto is_forgettable = [&](const Known& one) {
        return one.sessions == 0 && one.ways[0].is_full(now) && one.ways[1].is_full(now);
    };
    if (!is_forgettable(known->second) && shard.idle >= shard_max && now >= shard.next_sweep) {
        shard.next_sweep = now + 1s;
        // This one stays: it is not forgettable.
        shard.idle -=
            std::erase_if(shard.known, [&](const auto& one) { return is_forgettable(one.second); });
    }
    if (is_forgettable(known->second) || shard.idle >= shard_max)
        shard.known.erase(known);
    else
        ++shard.idle;
}

size_t Buckets::size() const {
    size_t size = 0;
    for (const Shard& shard : shards_) {
        std::lock_guard lock(shard.lock);
        size += shard.known.size();
    }
    return size;
}

std::shared_ptr<const Maker> make_rate(const config::Element& spec) {
    return std::make_shared<RateMaker>(spec);
}

}  // namespace proxify::filter
