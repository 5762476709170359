// SPDX-License-Identifier: Apache-2.0
// Resolver: turns names into endpoints on a thread of its own, again and again, so that nobody who
// serves a client ever waits for DNS. What is asked when is decided in book.h; how, in dns.h.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/endpoint.h"
#include "base/fd.h"
#include "resolve/book.h"

namespace proxify::resolve {

class Resolver {
  public:
    /// Called on the resolver's thread.
    using OnOutcome = std::function<void(const Outcome&)>;

    explicit Resolver(OnOutcome on_outcome);
    /// Soon: the thread waits for nothing but poll().
    ~Resolver();
    Resolver(Resolver&&) = delete;

    /// The names of interest from now on, each asked again when its time to live is over, and after
    /// `longest` at the latest. New ones are asked for at once.
    void follow(const std::vector<Question>& names, Duration longest);
    /// The last good answer, sorted; empty when there was none yet. Never waits.
    std::vector<Endpoint> lookup(const std::string& name) const;
    /// Waits until every name was asked for once, at most so long.
    void wait_for_first_answers(Duration at_most);

  private:
    struct Answered {
        Question question;
        Answer answer;
    };
    void run();
    std::vector<Question> take_due();
    void record(std::vector<Answered> answered);
    void wait(class Dns& dns);

    OnOutcome on_outcome_;
    Fd wake_;  ///< an eventfd: the book or closing_ is another
    mutable std::mutex lock_;
    std::condition_variable learnt_;
    Book book_;
    bool closing_ = false;
    std::thread thread_;
};

}  // namespace proxify::resolve
