// SPDX-License-Identifier: Apache-2.0
#include "io/listener.h"

#include <cerrno>
#include <utility>

namespace proxify::io {

Listener::Listener(Loop& loop, Handle handle)
    : loop_(loop), handle_(handle), address_(loop.ring().local_address(handle)) {
    op_.listener = this;
    op_.on_event = [](Completion& op, Event event) {
        static_cast<AcceptOp&>(op).listener->on_accepted(event);
    };
}

Listener::~Listener() {
    expect(!accepting_ && accepted_.empty(), "a listener goes once it was finished");
    if (!released_) loop_.ring().close(handle_);
}

void Listener::keep_accepting() {
    if (accepting_) return;
    accepting_ = true;
    loop_.ring().accept(handle_, op_);
}

void Listener::on_accepted(Event event) {
    if (!event.more) accepting_ = cancelling_ = false;
    if (event.result >= 0)
        accepted_.push_back(event.result);
    else if (event.result != -ECANCELED)
        error_ = event.result;

    if (!awaiter_) return;
    if (has_news())
        std::exchange(awaiter_, {}).resume();
    else
        keep_accepting();
}

int Listener::take() {
    if (given_ < accepted_.size()) {
        int accepted = accepted_[given_++];
        if (given_ == accepted_.size()) {
            accepted_.clear();
            given_ = 0;
        }
        return accepted;
    }
    if (error_ != 0) return std::exchange(error_, 0);
    if (released_) return -ECANCELED;
    // Finishing: no accept of ours is in the kernel, so its queue is emptied by hand.
    int accepted = loop_.ring().accept_now(handle_);
    return accepted == -EAGAIN ? -ECANCELED : accepted;
}

void Listener::pause() {
    if (accepting_ && !std::exchange(cancelling_, true)) loop_.ring().cancel(op_);
}

void Listener::finish() {
    if (std::exchange(finishing_, true)) return;
    pause();
    if (awaiter_ && !accepting_) std::exchange(awaiter_, {}).resume();
}

void Listener::release() {
    released_ = true;
    finish();
}

}  // namespace proxify::io
