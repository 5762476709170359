// SPDX-License-Identifier: Apache-2.0
// Questions to a daemon that may take its time.
#pragma once

#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "containers/containers.h"
#include "http/message.h"

namespace proxify::containers {

/// Waits for the whole answer, at most so long, and no longer than until `ending` is readable (-1:
/// nobody ends it). An Error when there is none; an answer of any status is one.
Result<http::Response> ask(const std::string& socket_path, const http::Request& request,
                           Duration patience, int ending = -1);

/// Whether there is a socket, or something on the way to it, that is not for this process.
bool is_forbidden(const std::string& socket_path);

/// For poll(): rounded up, so that it does not return a little early again and again; an hour at
/// most, and nothing gets lost by looking.
int milliseconds(Duration left);

}  // namespace proxify::containers
