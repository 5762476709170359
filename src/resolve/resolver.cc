// SPDX-License-Identifier: Apache-2.0
#include "resolve/resolver.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "base/expect.h"
#include "base/thread.h"
#include "resolve/dns.h"

namespace proxify::resolve {

static Time now() {
    return std::chrono::steady_clock::now();
}

Resolver::Resolver(OnOutcome on_outcome)
    : on_outcome_(std::move(on_outcome)), wake_(Fd::adopt(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))) {
    expect(static_cast<bool>(wake_), "the resolver gets an eventfd");
    thread_ = start_thread("resolver", [this] { run(); });
}

Resolver::~Resolver() {
    {
        std::lock_guard lock(lock_);
        closing_ = true;
    }
    eventfd_write(wake_.get(), 1);
    thread_.join();
}

void Resolver::follow(const std::vector<Question>& names, Duration longest) {
    {
        std::lock_guard lock(lock_);
        book_.follow(names, longest, now());
    }
    eventfd_write(wake_.get(), 1);
}

std::vector<Endpoint> Resolver::lookup(const std::string& name) const {
    std::lock_guard lock(lock_);
    return book_.lookup(name);
}

void Resolver::wait_for_first_answers(Duration at_most) {
    std::unique_lock lock(lock_);
    learnt_.wait_for(lock, at_most, [this] { return book_.is_complete(); });
}

/// One turn: ask what is due, write down what came, wait for more.
void Resolver::run() {
    std::vector<Answered> answered;
    Dns dns([&](const Question& question, Answer answer) {
        answered.push_back({question, std::move(answer)});
    });
    for (;;) {
        {
            std::lock_guard lock(lock_);
            if (closing_) return;
        }
        if (auto due = take_due(); !due.empty()) {
            dns.heed_settings();
            for (const auto& question : due) dns.ask(question);
        }
        record(std::exchange(answered, {}));
        wait(dns);
    }
}

std::vector<Question> Resolver::take_due() {
    std::lock_guard lock(lock_);
    return book_.take_due(now());
}

void Resolver::record(std::vector<Answered> answered) {
    for (auto& [question, answer] : answered) {
        std::vector<Outcome> outcomes;
        {
            std::lock_guard lock(lock_);
            outcomes = book_.record(question, std::move(answer), now());
        }
        learnt_.notify_all();
        for (const auto& outcome : outcomes) on_outcome_(outcome);
    }
}

void Resolver::wait(Dns& dns) {
    auto sockets = dns.sockets();
    sockets.push_back({wake_.get(), POLLIN, 0});

    std::optional<Duration> limit = dns.patience();
    {
        std::lock_guard lock(lock_);
        if (auto due = book_.next_due()) {
            const Duration left = std::max(*due - now(), Duration{});
            limit = limit ? std::min(*limit, left) : left;
        }
    }
    // Rounded up, for poll() counts milliseconds and would return a little early again and again.
    // An hour is for ever: nothing gets lost by looking.
    const Duration at_most = std::min<Duration>(limit.value_or(1h), 1h);
    poll(sockets.data(), sockets.size(),
         static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(at_most).count()));

    if (sockets.back().revents) {
        eventfd_t ignored;
        eventfd_read(wake_.get(), &ignored);
    }
    sockets.pop_back();
    dns.process(sockets);
}

}  // namespace proxify::resolve
