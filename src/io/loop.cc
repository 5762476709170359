// SPDX-License-Identifier: Apache-2.0
#include "io/loop.h"

#include <algorithm>

#include "io/stream.h"

namespace proxify::io {

Loop::~Loop() {
    expect(spawned_ == 0, "a loop outlives the tasks it spawned");
}

void Loop::run() {
    while (!stopping_ || spawned_ > 0) {
        ring_.wait(timers_.next());
        Completion* completion;
        Event event;
        while (ring_.next(completion, event)) completion->on_event(*completion, event);
        feed_starved();
        timers_.fire_due(now());
        if (has_mail_.load(std::memory_order_acquire)) read_mail();
    }
    end_mail();
}

void Loop::post(Message message) {
    bool first;
    {
        std::lock_guard lock(mail_lock_);
        if (ended_) return;
        first = mail_.empty();
        mail_.push_back(std::move(message));
        has_mail_.store(true, std::memory_order_release);
    }
    if (first) ring_.wake();
}

void Loop::read_mail() {
    std::vector<Message> mail;
    {
        std::lock_guard lock(mail_lock_);
        mail.swap(mail_);
        has_mail_.store(false, std::memory_order_relaxed);
    }
    for (auto& message : mail) message();
}

void Loop::end_mail() {
    std::vector<Message> unread;
    std::lock_guard lock(mail_lock_);
    ended_ = true;
    unread.swap(mail_);
    has_mail_.store(false, std::memory_order_relaxed);
}

/// Events of this turn have been dealt with, so the buffers they lent are home again: whoever
/// found none asks again, first come first served, no more of them than there are buffers.
void Loop::feed_starved() {
    if (starved_.empty()) return;
    times_starved_ += starved_.size();
    std::vector<Stream*> hungry;
    hungry.swap(starved_);
    for (Stream* stream : hungry) stream->receive_again();
}

void Loop::forget_starved(Stream& stream) {
    std::erase(starved_, &stream);
}

}  // namespace proxify::io
