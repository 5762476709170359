// SPDX-License-Identifier: Apache-2.0
// Store: the answers that a service's targets have given, by request. All workers share it.
//
//     ask -- it is kept -----------------> hit
//      |---- nobody is asking ----------> lead: to ask a target, and to say what came of it
//      |---- somebody is ---------------> wait, for one of these
//      |---- somebody slow is ----------> alone
//      '---- there is no room for it ---> alone
//
// Whoever leads keeps the answer, and all who wait have it; or gives up, and the first of them
// leads; or the answer is one that no store would keep, and all of them go on alone.
//
// An answer comes as fast as the client of whoever leads takes it. Once one of those who wait has
// waited too long, nobody waits for that answer any more.
//
// Everything that has been asked for and not been let go is counted in bytes: what is kept, what
// is being recorded, and what was evicted while it is still being sent. Their sum never exceeds
// max_size.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "stats/cache.h"

namespace proxify::cache {

using Bytes = std::span<const std::byte>;
using Buffer = std::vector<std::byte>;
using Answer = std::shared_ptr<const Buffer>;

struct Limits {
    Duration ttl;
    uint64_t max_answer;  ///< bytes
    uint64_t max_size;    ///< bytes of everything
};

/// Why an answer is not kept.
enum class Loss {
    cut_off,     ///< it did not come to its end
    asked_more,  ///< its client sent more than the request, so it may answer that as well
    closed,      ///< an element or a rule ended its session, and would end the next one's as well
    too_long,
    no_room,
    empty,
};

class Store;
class Waiter;

/// What one request has on its way: who waits for it, first come first.
struct Flight {
    std::list<Waiter*> line;
    bool is_slow = false;  ///< somebody has waited too long; the line is empty then, and stays so
};
using Flights = std::map<std::string, Flight, std::less<>>;

/// The right and the duty to ask a target. One that goes without a word has given up.
class Lead {
  public:
    Lead() = default;
    Lead(Lead&& other) noexcept { *this = std::move(other); }
    Lead& operator=(Lead&& other) noexcept;
    ~Lead() { give_up(Loss::cut_off); }

    explicit operator bool() const { return store_ != nullptr; }

    /// Adds to the answer. False when it will not be kept: it has been given up then.
    bool add(Bytes bytes);
    /// The answer is whole.
    void keep(Time now);
    void give_up(Loss why);

  private:
    friend class Store;
    Lead(std::shared_ptr<Store> store, Flights::iterator flight)
        : store_(std::move(store)), flight_(flight) {}

    std::shared_ptr<Store> store_;  ///< null when there is nothing to be said any more
    Flights::iterator flight_;
    Buffer bytes_;
    uint64_t reserved_ = 0;  ///< bytes of the store that bytes_ may fill
};

struct Reply {
    enum class Kind { hit, lead, wait, alone };
    Kind kind = Kind::wait;
    Answer answer = {};  ///< of hit
    Lead lead = {};      ///< of lead
};

/// Somebody who waits for another's answer. It stays where it is until it has left.
class Waiter {
  public:
    virtual ~Waiter() = default;
    /// leave() has a reply. Called once, by any thread, with the store locked: it passes the word
    /// on and does nothing else.
    virtual void wake() = 0;

  private:
    friend class Store;
    Reply reply_;
    Flight* flight_ = nullptr;  ///< while it waits
    std::list<Waiter*>::iterator place_;
};

class Store : public std::enable_shared_from_this<Store> {
  public:
    Store(Limits limits, std::shared_ptr<stats::Cache> stats);

    /// Of the reply `wait` the waiter is in line, and leaves it by leave().
    Reply ask(std::string_view key, Waiter& waiter, Time now);
    /// What the waiter was told; `wait` when it was nothing yet. Always, before a waiter that was
    /// told to wait goes.
    Reply leave(Waiter& waiter);
    /// The same, of a waiter that has waited as long as it may. If it was told nothing, whoever
    /// leads is slow: all who wait for that go on alone, and so do all who ask until it is over.
    Reply lose_patience(Waiter& waiter);

    uint64_t bytes() const { return used_->load(std::memory_order_relaxed); }
    size_t entries() const;
    size_t waiting() const;
    const std::shared_ptr<stats::Cache>& stats() const { return stats_; }

    /// What each request costs beside its bytes and those of its answer: nodes of two containers.
    static constexpr uint64_t overhead = 256;

  private:
    friend class Lead;
    struct Entry {
        std::string key;
        Answer answer;
        Time until;
    };
    using Entries = std::list<Entry>;

    // With the lock held.
    bool take(uint64_t bytes);
    Entries::iterator drop(Entries::iterator entry);
    void tell(Waiter& waiter, Reply reply);
    void send_away(Flight& flight);
    Reply step_out(Waiter& waiter);

    bool grow(uint64_t bytes);
    void give_back(uint64_t bytes) { used_->fetch_sub(bytes, std::memory_order_relaxed); }
    void keep(Flights::iterator flight, Answer answer, Time now);
    void give_up(Flights::iterator flight, Loss why);
    void count(Loss why);

    const Limits limits_;
    const std::shared_ptr<stats::Cache> stats_;
    /// Grows with the lock held, and shrinks without: an answer lets go of its bytes wherever its
    /// last reader is done with it, which may be after the store.
    const std::shared_ptr<std::atomic<uint64_t>> used_;

    mutable std::mutex lock_;
    Entries kept_;  ///< the last to be asked for first
    // Trees, since a client chooses what is looked up: no choice makes a tree slow.
    std::map<std::string_view, Entries::iterator> index_;
    Flights flights_;
};

}  // namespace proxify::cache
