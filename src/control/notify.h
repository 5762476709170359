// SPDX-License-Identifier: Apache-2.0
// What a service manager such as systemd is told: the protocol of sd_notify(3), a datagram for each
// thing, over the socket that it names in the environment.
#pragma once

#include <sys/un.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "io/loop.h"

namespace proxify::control {

class Notifier {
  public:
    /// As NOTIFY_SOCKET and WATCHDOG_USEC say, which are taken out of the environment: programs
    /// that we start do not speak for us. Call it before another thread is made.
    static Result<Notifier> from_environment();

    /// Whether somebody wants to know. If not, all of the following do nothing.
    bool is_heard() const { return bool{socket_}; }
    /// The manager wants to hear alive() at least so often, or else takes proxify for hung.
    std::optional<Duration> watchdog() const { return watchdog_; }

    // Changes of state are worth a wait, if the manager is busy, of a second at most.

    void ready(std::string_view status);
    void reloading();
    void stopping(std::string_view status);

    // The others come again, and are dropped instead.

    /// One line about how things are; false when it was dropped.
    bool status(std::string_view text);
    void alive();

  private:
    bool send(const std::string& message, int flags);

    Fd socket_;
    sockaddr_un to_{};
    socklen_t to_size_ = 0;
    std::optional<Duration> watchdog_;
};

/// Finds out whether all loops still turn, without waiting for any.
class RollCall {
  public:
    /// How a message gets to a loop.
    using Post = std::function<void(io::Loop::Message)>;

    /// True when everybody who was asked last has answered since, or has ended; then all of these
    /// are asked. While somebody owes an answer, nobody is asked again.
    bool all_answered(const std::vector<Post>& everybody);

  private:
    std::weak_ptr<bool> question_;  ///< each unread message holds it
};

}  // namespace proxify::control
