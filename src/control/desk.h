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
    explicit Desk(Server& server) : server_(server) {}

    /// Opens its doors, and closes those that are not wanted any more, as far as that works: a door
    /// that cannot be moved stays where it is. Gives a sentence for each that is not as wanted. The
    /// socket is the `owner`'s.
    std::vector<Error> open(const config::Admin& doors, std::optional<unsigned> owner);
    /// From here on it answers.
    void start();

  private:
    using Door = std::unique_ptr<http::Server>;
    Door make_door();
    Result<> open_socket(const config::Admin& doors, std::optional<unsigned> owner);
    Result<> open_http(const config::Admin& doors);
    void take(const http::Request& request, http::Door door, const http::Answer& answer);

    Server& server_;
    config::Admin have_{.socket = {}};  ///< what is open
    Door socket_, http_;
    bool is_started_ = false;
};

}  // namespace proxify::control
