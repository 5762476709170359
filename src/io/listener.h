// SPDX-License-Identifier: Apache-2.0
// Listener: one listening socket and one task that takes what it accepts.
#pragma once

#include <coroutine>
#include <vector>

#include "io/loop.h"
#include "io/ring.h"

namespace proxify::io {

class Listener {
  public:
    /// Takes ownership of a listening socket that Ring::listen() made.
    Listener(Loop& loop, Handle handle);
    Listener(const Listener&) = delete;
    ~Listener();

    /// `int accepted = co_await listener.accept();` gives a connected Handle, or -EMFILE and its
    /// kind (accepting has stopped until it is asked for again), or -ECANCELED after finish().
    struct Accept {
        Listener& listener;
        bool await_ready() { return listener.has_news(); }
        void await_suspend(std::coroutine_handle<> awaiter) {
            listener.awaiter_ = awaiter;
            listener.keep_accepting();
        }
        int await_resume() { return listener.take(); }
    };
    Accept accept() { return {*this}; }

    /// Leaves new connections in the kernel's queue until accept() is awaited again.
    void pause();
    /// Accepts no more by itself: accept() gives what is in the queue, and then -ECANCELED.
    void finish();
    /// Accepts no more: accept() gives what was taken already, and then -ECANCELED. The socket and
    /// its queue are left to whoever listens next.
    void release();

    Handle handle() const { return handle_; }
    Address address() const { return address_; }

  private:
    struct AcceptOp : Completion {
        Listener* listener;
    };
    bool has_news() const {
        return given_ < accepted_.size() || error_ != 0 || (finishing_ && !accepting_);
    }
    void keep_accepting();
    void on_accepted(Event event);
    int take();

    Loop& loop_;
    Handle handle_;
    Address address_;
    AcceptOp op_;
    std::coroutine_handle<> awaiter_;
    std::vector<int> accepted_;  ///< taken from the kernel, not yet given; oldest first
    size_t given_ = 0;           ///< how many of these were given
    int error_ = 0;
    bool accepting_ = false;
    bool cancelling_ = false;
    bool finishing_ = false;
    bool released_ = false;
};

}  // namespace proxify::io
