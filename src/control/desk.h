// SPDX-License-Identifier: Apache-2.0
// Desk: where operators' questions come in, over HTTP, and where each goes. What is asked is
// answered on the control thread, sessions are counted on by the workers; what was found becomes
// text on the desk's own thread, so that nobody who carries connections or checks targets waits
// for an operator.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "http/server.h"

namespace proxify::control {

class Server;

class Desk {
  public:
    explicit Desk(Server& server)
        : server_(server),
          http_([this](const http::Request& request, http::Door door, const http::Answer& answer) {
              take(request, door, answer);
          }) {}

    /// Opens its doors as far as that works; gives a sentence for each one that stays closed.
    /// The socket is the `owner`'s.
    std::vector<Error> open(const config::Admin& doors, std::optional<unsigned> owner);
    /// From here on it answers.
    void start() { http_.start(); }

  private:
    void take(const http::Request& request, http::Door door, const http::Answer& answer);

    Server& server_;
    http::Server http_;
};

}  // namespace proxify::control
