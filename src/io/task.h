// SPDX-License-Identifier: Apache-2.0
// Task<T>: a function that can wait. It starts when it is awaited, belongs to the one who awaits
// it, and hands its result straight over, without a queue in between.
//
// The rule that keeps frames safe: a frame never goes while the kernel holds an operation of it.
// Parents join their children, and ending early means cancelling operations and then joining,
// never destroying. Parameters are taken by value, or by reference to something that
// outlives the session, and tasks are named functions: the captures of a lambda are not the
// coroutine's.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "base/expect.h"

namespace proxify::io {

namespace detail {

/// Who goes on when a task is done: its awaiter, at once, or when the last of several is done. A
/// task without an awaiter was spawned: it is counted in `running`, and frees itself.
struct PromiseBase {
    std::coroutine_handle<> awaiter;
    size_t* running = nullptr;

    struct Finish {
        bool await_ready() noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) noexcept {
            PromiseBase& promise = done.promise();
            bool is_last = !promise.running || --*promise.running == 0;
            if (promise.awaiter) return is_last ? promise.awaiter : std::noop_coroutine();
            done.destroy();
            return std::noop_coroutine();
        }
        void await_resume() noexcept {}
    };

    std::suspend_always initial_suspend() noexcept { return {}; }
    Finish final_suspend() noexcept { return {}; }
    // Nothing above io/ throws; a library that does is met in the file that includes it.
    void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
struct Promise : PromiseBase {
    std::optional<T> value;
    void return_value(T result) { value.emplace(std::move(result)); }
    T take() { return *std::move(value); }
};

template <>
struct Promise<void> : PromiseBase {
    void return_void() {}
    void take() {}
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
  public:
    struct promise_type : detail::Promise<T> {
        Task get_return_object() { return Task(Frame::from_promise(*this)); }
    };
    using Frame = std::coroutine_handle<promise_type>;

    Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    ~Task() {
        if (frame_) frame_.destroy();
    }

    auto operator co_await() && {
        struct Awaiter {
            Frame frame;
            bool await_ready() { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiter) {
                frame.promise().awaiter = awaiter;
                return frame;
            }
            T await_resume() { return frame.promise().take(); }
        };
        return Awaiter{frame_};
    }

    Frame frame() const { return frame_; }

    /// Starts it without an awaiter; `running` counts it until it has ended.
    void start_alone(size_t& running) && {
        ++running;
        auto frame = std::exchange(frame_, {});
        frame.promise().running = &running;
        frame.resume();
    }

  private:
    explicit Task(Frame frame) : frame_(frame) {}
    Frame frame_;
};

/// Runs two tasks at once and goes on when both are done, never before.
class [[nodiscard]] Both {
  public:
    Both(Task<> first, Task<> second) : first_(std::move(first)), second_(std::move(second)) {}

    bool await_ready() { return false; }
    bool await_suspend(std::coroutine_handle<> awaiter) {
        for (auto frame : {first_.frame(), second_.frame()}) {
            frame.promise().awaiter = awaiter;
            frame.promise().running = &running_;
        }
        first_.frame().resume();
        second_.frame().resume();
        return --running_ > 0;  // the third count is ours, so that nobody resumes us in here
    }
    void await_resume() {}

  private:
    Task<> first_, second_;
    size_t running_ = 3;
};

inline Both both(Task<> first, Task<> second) {
    return {std::move(first), std::move(second)};
}

}  // namespace proxify::io
