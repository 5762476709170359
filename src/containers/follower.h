// SPDX-License-Identifier: Apache-2.0
// Follower: knows how some containers are, and hears of every change, on a thread of its own.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "containers/containers.h"

namespace proxify::containers {

class Follower {
  public:
    /// Called on the follower's thread, once about all names at the start, and then only with what
    /// is other than before. It should return soon: a follower cannot be ended while it runs.
    using OnNews = std::function<void(std::vector<News>)>;

    /// `names` are names, or ids of at least 12 digits; `host` as for socket_of(), which is asked
    /// again each time the daemon is looked for.
    Follower(std::vector<std::string> names, std::string host, OnNews on_news);
    /// At once, whatever the daemon does.
    ~Follower();
    Follower(Follower&&) = delete;

  private:
    Fd ending_;  ///< an eventfd: readable once the thread shall end
    std::thread thread_;
};

}  // namespace proxify::containers
