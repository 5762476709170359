// SPDX-License-Identifier: Apache-2.0
// One request to a socket of the file system.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "http/message.h"

namespace proxify::http {

/// An Error when there is no answer; an answer of any status is one.
Result<Response> ask(const std::string& socket_path, const Request& request, Duration patience);

}  // namespace proxify::http
