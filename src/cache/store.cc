// SPDX-License-Identifier: Apache-2.0
#include "cache/store.h"

#include <algorithm>

namespace proxify::cache {

using Kind = Reply::Kind;

namespace {

/// Bytes that give back their room when nobody has them any more.
struct Held {
    Held(Buffer its_bytes, uint64_t its_size, std::shared_ptr<std::atomic<uint64_t>> its_used)
        : bytes(std::move(its_bytes)), size(its_size), used(std::move(its_used)) {}
    Held(const Held&) = delete;
    ~Held() { used->fetch_sub(size, std::memory_order_relaxed); }

    const Buffer bytes;
    const uint64_t size;
    const std::shared_ptr<std::atomic<uint64_t>> used;
};

}  // namespace

Lead& Lead::operator=(Lead&& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(flight_, other.flight_);
    std::swap(bytes_, other.bytes_);
    std::swap(reserved_, other.reserved_);
    return *this;
}

bool Lead::add(Bytes bytes) {
    if (!store_) return false;
    const uint64_t most = store_->limits_.max_answer;
    if (bytes.size() > most - bytes_.size()) {
        give_up(Loss::too_long);
        return false;
    }
    const uint64_t size = bytes_.size() + bytes.size();
    if (size > reserved_) {
        // Once for what comes in one piece, and then twice as much each time.
        const uint64_t larger = std::max(size, std::min(2 * reserved_, most));
        if (!store_->grow(larger)) {
            give_up(Loss::no_room);
            return false;
        }
        Buffer moved;
        moved.reserve(larger);
        moved.insert(moved.end(), bytes_.begin(), bytes_.end());
        bytes_ = std::move(moved);
        store_->give_back(std::exchange(reserved_, larger));
    }
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return true;
}

void Lead::keep(Time now) {
    if (!store_) return;
    if (bytes_.empty()) return give_up(Loss::empty);
    auto held = std::make_shared<Held>(std::exchange(bytes_, {}), std::exchange(reserved_, 0),
                                       store_->used_);
    std::exchange(store_, nullptr)->keep(flight_, Answer(held, &held->bytes), now);
}

void Lead::give_up(Loss why) {
    if (!store_) return;
    bytes_ = {};
    store_->give_back(std::exchange(reserved_, 0));
    std::exchange(store_, nullptr)->give_up(flight_, why);
}

Store::Store(Limits limits, std::shared_ptr<stats::Cache> stats)
    : limits_(limits),
      stats_(std::move(stats)),
      used_(std::make_shared<std::atomic<uint64_t>>(0)) {}

Reply Store::ask(std::string_view key, Waiter& waiter, Time now) {
    std::lock_guard lock(lock_);
    if (auto found = index_.find(key); found != index_.end()) {
        const auto entry = found->second;
        if (entry->until > now) {
            kept_.splice(kept_.begin(), kept_, entry);
            return {.kind = Kind::hit, .answer = entry->answer};
        }
        drop(entry);
    }
    if (auto found = flights_.find(key); found != flights_.end()) {
        Flight& flight = found->second;
        if (flight.is_slow) return {.kind = Kind::alone};
        waiter.flight_ = &flight;
        waiter.place_ = flight.line.insert(flight.line.end(), &waiter);
        return {.kind = Kind::wait};
    }
    if (!take(key.size() + overhead)) {
        count(Loss::no_room);
        return {.kind = Kind::alone};
    }
    auto flight = flights_.emplace(key, Flight{}).first;
    return {.kind = Kind::lead, .lead = Lead(shared_from_this(), flight)};
}

Reply Store::leave(Waiter& waiter) {
    std::lock_guard lock(lock_);
    return step_out(waiter);
}

Reply Store::lose_patience(Waiter& waiter) {
    std::lock_guard lock(lock_);
    Flight* flight = waiter.flight_;
    Reply reply = step_out(waiter);
    if (flight) {
        flight->is_slow = true;
        send_away(*flight);
    }
    return reply;
}

Reply Store::step_out(Waiter& waiter) {
    if (waiter.flight_) std::exchange(waiter.flight_, nullptr)->line.erase(waiter.place_);
    return std::exchange(waiter.reply_, {});
}

/// The oldest go until there is room. Those that are being sent would leave none yet, so they stay.
bool Store::take(uint64_t bytes) {
    if (bytes > limits_.max_size) return false;
    auto is_full = [&] { return this->bytes() > limits_.max_size - bytes; };
    for (auto entry = kept_.end(); is_full() && entry != kept_.begin();) {
        if ((--entry)->answer.use_count() > 1) continue;
        entry = drop(entry);
        stats_->evictions.add();
    }
    if (is_full()) return false;
    used_->fetch_add(bytes, std::memory_order_relaxed);
    return true;
}

Store::Entries::iterator Store::drop(Entries::iterator entry) {
    give_back(entry->key.size() + overhead);
    index_.erase(entry->key);
    return kept_.erase(entry);
}

bool Store::grow(uint64_t bytes) {
    std::lock_guard lock(lock_);
    return take(bytes);
}

void Store::tell(Waiter& waiter, Reply reply) {
    waiter.flight_ = nullptr;
    waiter.reply_ = std::move(reply);
    waiter.wake();
}

void Store::send_away(Flight& flight) {
    for (Waiter* waiter : std::exchange(flight.line, {})) tell(*waiter, {.kind = Kind::alone});
}

void Store::keep(Flights::iterator flight, Answer answer, Time now) {
    std::lock_guard lock(lock_);
    for (Waiter* waiter : flight->second.line) tell(*waiter, {.kind = Kind::hit, .answer = answer});
    auto node = flights_.extract(flight);
    kept_.push_front({std::move(node.key()), std::move(answer), now + limits_.ttl});
    index_.emplace(kept_.front().key, kept_.begin());
}

void Store::give_up(Flights::iterator flight, Loss why) {
    std::lock_guard lock(lock_);
    count(why);
    auto& line = flight->second.line;
    if (!line.empty() && (why == Loss::cut_off || why == Loss::asked_more)) {
        Waiter& next = *line.front();
        line.pop_front();
        return tell(next, {.kind = Kind::lead, .lead = Lead(shared_from_this(), flight)});
    }
    // What no store would keep is not worth waiting for, one after the other.
    send_away(flight->second);
    give_back(flight->first.size() + overhead);
    flights_.erase(flight);
}

void Store::count(Loss why) {
    switch (why) {
        case Loss::cut_off:
            return stats_->cut_off.add();
        case Loss::asked_more:
            return stats_->asked_more.add();
        case Loss::closed:
            return stats_->closed.add();
        case Loss::too_long:
            return stats_->too_long.add();
        case Loss::no_room:
            return stats_->no_room.add();
        case Loss::empty:
            return stats_->empty.add();
    }
}

size_t Store::entries() const {
    std::lock_guard lock(lock_);
    return kept_.size();
}

size_t Store::waiting() const {
    std::lock_guard lock(lock_);
    size_t count = 0;
    for (const auto& [key, flight] : flights_) count += flight.line.size();
    return count;
}

}  // namespace proxify::cache
