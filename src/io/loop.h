// SPDX-License-Identifier: Apache-2.0
// Loop: one thread's life. A turn submits and waits, reaps, runs what is ready, fires the timers
// that are due, reads its mail, and begins again. Tasks that nobody awaits (a session, a health
// check) are spawned on a loop, which counts them and ends when they have ended.
#pragma once

#include <atomic>
#include <coroutine>
#include <functional>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/gauge.h"
#include "io/pipes.h"
#include "io/ring.h"
#include "io/task.h"
#include "io/timers.h"

namespace proxify::io {

class Stream;

class Loop {
  public:
    using Message = std::move_only_function<void()>;

    explicit Loop(Ring ring) : ring_(std::move(ring)) {}
    Loop(const Loop&) = delete;
    ~Loop();

    /// Turns until stop() was called and every spawned task has ended.
    void run();
    void stop() { stopping_ = true; }

    /// Runs `message` on this loop's thread, soon. From any thread; kept in order. A loop that has
    /// ended drops it at once, so that whoever counts on its end need not wait.
    void post(Message message);

    /// Starts a task that nobody awaits. The loop outlives it.
    void spawn(Task<> task) { std::move(task).start_alone(spawned_); }
    size_t spawned() const { return spawned_; }

    Time now() const { return ring_.now(); }
    Ring& ring() { return ring_; }
    const Ring& ring() const { return ring_; }
    Timers& timers() { return timers_; }
    Pipes& pipes() { return pipes_; }
    const Pipes& pipes() const { return pipes_; }

    /// Receivers that found no free buffer line up here; see Stream.
    void wait_for_buffer(Stream& stream) { starved_.push_back(&stream); }
    void forget_starved(Stream& stream);
    uint64_t times_starved() const { return times_starved_; }  ///< from any thread

    /// Waits until a moment; co_await loop.sleep(2s).
    auto sleep(Duration duration);

  private:
    void read_mail();
    void end_mail();
    void feed_starved();

    Ring ring_;
    Timers timers_;
    Pipes pipes_{ring_, timers_};
    size_t spawned_ = 0;
    bool stopping_ = false;
    std::vector<Stream*> starved_;
    Gauge times_starved_;

    std::mutex mail_lock_;
    std::vector<Message> mail_;
    bool ended_ = false;  ///< nobody reads the mail any more
    std::atomic<bool> has_mail_ = false;
};

/// A wait for a moment that somebody may cut short.
class [[nodiscard]] Sleep : private Timer {
  public:
    Sleep(Loop& loop, Duration duration)
        : Timer([](Timer& timer) { static_cast<Sleep&>(timer).awaiter_.resume(); }),
          loop_(loop),
          duration_(duration) {}
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<> awaiter) {
        awaiter_ = awaiter;
        loop_.timers().arm(*this, loop_.now() + duration_);
    }
    void await_resume() {}
    /// While it is awaited: whoever waits goes on in a moment, never in here.
    void cut_short() { loop_.timers().arm(*this, loop_.now()); }

  private:
    Loop& loop_;
    Duration duration_;
    std::coroutine_handle<> awaiter_;
};

inline auto Loop::sleep(Duration duration) {
    return Sleep(*this, duration);
}

/// `bool readable = co_await ...;`: waits until a handle may be read from; false after cancel().
class [[nodiscard]] Readable : private Completion {
  public:
    Readable(Loop& loop, Handle handle) : loop_(loop), handle_(handle) {
        on_event = [](Completion& op, Event) {
            auto& readable = static_cast<Readable&>(op);
            readable.waiting_ = false;
            readable.awaiter_.resume();
        };
    }
    void cancel() {
        cancelled_ = true;
        if (waiting_) loop_.ring().cancel(*this);
    }
    bool await_ready() { return cancelled_; }
    void await_suspend(std::coroutine_handle<> awaiter) {
        awaiter_ = awaiter;
        waiting_ = true;
        loop_.ring().wait_readable(handle_, *this);
    }
    bool await_resume() { return !cancelled_; }

  private:
    Loop& loop_;
    Handle handle_;
    std::coroutine_handle<> awaiter_;
    bool waiting_ = false;
    bool cancelled_ = false;
};

/// Something that one task of a loop waits for and another part of it announces. Not lost when it
/// comes first: raise() before wait() lets the wait pass.
class Signal {
  public:
    explicit Signal(Loop& loop) : loop_(loop) {}

    void raise() {
        raised_ = true;
        if (awaiter_) std::exchange(awaiter_, {}).resume();
    }
    bool is_raised() const { return raised_; }

    struct [[nodiscard]] Wait : Timer {
        Wait(Signal& signal, Duration at_most)
            : Timer([](Timer& timer) { static_cast<Wait&>(timer).time_is_up(); }),
              signal_(signal),
              at_most_(at_most) {}
        bool await_ready() { return signal_.raised_; }
        void await_suspend(std::coroutine_handle<> awaiter) {
            expect(!signal_.awaiter_, "one task at a time waits for a signal");
            signal_.awaiter_ = awaiter;
            if (at_most_ != Duration::max())
                signal_.loop_.timers().arm(*this, signal_.loop_.now() + at_most_);
        }
        bool await_resume() {
            signal_.loop_.timers().disarm(*this);
            return std::exchange(signal_.raised_, false);
        }

      private:
        void time_is_up() { std::exchange(signal_.awaiter_, {}).resume(); }
        Signal& signal_;
        Duration at_most_;
    };

    /// Waits for raise(), at most so long; gives whether it came, and clears it.
    Wait wait(Duration at_most = Duration::max()) { return {*this, at_most}; }

  private:
    Loop& loop_;
    bool raised_ = false;
    std::coroutine_handle<> awaiter_;
};

}  // namespace proxify::io
