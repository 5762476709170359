// SPDX-License-Identifier: Apache-2.0
// Admission: how many sessions a service has, and who waits until there is room for one more. There
// is one for each service; like its targets it is kept through reloads and shared by all workers.
//
//     take a seat -- there is one --------------------> session, which gives it back
//          |                                              |
//          +-- all are taken --> [ c | b | a ] -----------+--> a has it
//                                  the line
//
// First come, first served: while anybody waits, whoever comes now lines up as well, and a seat
// that becomes free is taken on behalf of the first in line, whose worker gets word of it. Seats
// are counted without a lock; the lock is for the line alone.
//
// No wake-up is lost: who lines up says so (waiting_) before looking at the counts once more, who
// gives a seat back changes the counts before looking at waiting_. All four in one order (seq_cst),
// so at least one of the two sees the other.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

#include "balance/target.h"

namespace proxify::balance {

class Admission;
class Pool;
struct Asking;

/// A seat at a target and at its service: a session holds one while it is joined to the target, and
/// it returns itself. Both outlive it.
class Seat {
  public:
    Seat() = default;
    /// The two were counted by whoever makes it.
    Seat(Admission& admission, Target& target) : admission_(&admission), target_(&target) {}
    Seat(Seat&& other) noexcept
        : admission_(other.admission_), target_(std::exchange(other.target_, nullptr)) {}
    Seat& operator=(Seat&& other) noexcept {
        std::swap(admission_, other.admission_);
        std::swap(target_, other.target_);
        return *this;
    }
    ~Seat() {
        if (target_) give_back();
    }

    explicit operator bool() const { return target_ != nullptr; }
    Target& target() const { return *target_; }

  private:
    inline void give_back();

    Admission* admission_ = nullptr;
    Target* target_ = nullptr;
};

/// What came of asking for a seat: one, or why there is none.
struct Choice {
    Seat seat = {};
    /// There are targets for this client, and none has room, or the service has not: it may wait.
    /// Otherwise there are none.
    bool is_full = false;
};

/// Somebody in line. It stays where it is until it has stepped out.
class Waiter {
  public:
    virtual ~Waiter() = default;
    /// Its turn has come: step_out() has the seat, or says that no target is left. Called once, by
    /// any thread, with the line locked: it passes the word on and does nothing else.
    virtual void wake() = 0;

  private:
    friend class Admission;
    const Pool* pool_ = nullptr;
    const Asking* asking_ = nullptr;
    Choice choice_{.is_full = true};
    Waiter* next_ = nullptr;
    Waiter* previous_ = nullptr;
    bool is_in_line_ = false;
};

class Admission {
  public:
    /// By the newest file; 0 for no limit. look_again() afterwards.
    void set_sessions_max(uint32_t max) { sessions_max_.store(max, std::memory_order_relaxed); }

    uint32_t sessions_max() const { return sessions_max_.load(std::memory_order_relaxed); }
    uint32_t sessions() const { return sessions_.load(std::memory_order_relaxed); }
    size_t waiting() const { return waiting_.load(std::memory_order_relaxed); }

    /// Too few targets are available, so all are used as if they were. Only health/ sets it.
    bool is_panic() const { return is_panic_.load(std::memory_order_relaxed); }
    void set_panic(bool is_panic) { is_panic_.store(is_panic, std::memory_order_relaxed); }

    /// Whether enter() would be true.
    bool has_room() const { return balance::has_room(sessions_, sessions_max_); }
    /// For Pool: counts a session, unless there is no room.
    bool enter() { return take_one(sessions_, sessions_max_); }
    /// For Seat: its target has one session less already.
    void leave() {
        sessions_.fetch_sub(1, std::memory_order_seq_cst);
        notice_room();
    }
    bool anybody_waits() const { return waiting_.load(std::memory_order_relaxed) != 0; }
    /// Room may have been made: cheap while nobody waits.
    void notice_room() {
        if (waiting_.load(std::memory_order_seq_cst) != 0) [[unlikely]]
            look_again();
    }

    /// At the end of the line, or false when `size` wait already. `pool` and `asking` stay until
    /// step_out().
    bool line_up(Waiter& waiter, const Pool& pool, const Asking& asking, size_t size);
    /// Out of the line, wherever it stands, with what it was given: is_full when it was nothing
    /// yet. Always, before a waiter goes.
    Choice step_out(Waiter& waiter);
    /// A target came or went, or a limit changed: gives those in line what there is for them.
    void look_again();

  private:
    void serve();
    void remove(Waiter& waiter);

    std::atomic<uint32_t> sessions_ = 0;
    std::atomic<uint32_t> sessions_max_ = 0;
    std::atomic<size_t> waiting_ = 0;
    std::atomic<bool> is_panic_ = false;

    std::mutex line_lock_;
    Waiter* first_ = nullptr;
    Waiter* last_ = nullptr;
    bool pools_differ_ = false;  ///< some in line came before a reload, and some after it
};

inline void Seat::give_back() {
    target_->sessions.fetch_sub(1, std::memory_order_seq_cst);
    admission_->leave();
}

}  // namespace proxify::balance
