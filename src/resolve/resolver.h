// SPDX-License-Identifier: Apache-2.0
// Resolver: turns names into addresses on a thread of its own, again and again, so that nobody
// who serves a client ever waits for DNS. The last good answer of a name is kept when asking again
// fails.
//
// It asks the way every program of the host does (getaddrinfo, so /etc/hosts and nsswitch.conf
// count). That call can hang for many seconds and cannot be interrupted, which is why the thread
// is not joined: it shares its state with the Resolver and ends by itself.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/clock.h"

namespace proxify::resolve {

class Resolver {
  public:
    /// What happened to a name; called on the resolver's thread.
    struct Outcome {
        std::string name;
        std::vector<Ip> addresses;  ///< what lookup() says from now on
        std::string error;          ///< why asking failed this time; empty when it did not
        bool changed = false;       ///< other addresses, or another error, than before
    };
    using OnOutcome = std::function<void(const Outcome&)>;

    explicit Resolver(OnOutcome on_outcome);
    ~Resolver();

    /// The names of interest from now on. New ones are asked for at once.
    void follow(std::vector<std::string> names, Duration interval);
    /// The last good answer, sorted; empty when there was none yet. Never waits.
    std::vector<Ip> lookup(const std::string& name) const;
    /// Waits until every name was asked for once, at most so long.
    void wait_for_first_answers(Duration at_most);

    struct State;  ///< what is shared with the thread

  private:
    std::shared_ptr<State> state_;
};

}  // namespace proxify::resolve
