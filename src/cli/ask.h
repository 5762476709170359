// SPDX-License-Identifier: Apache-2.0
// The commands that ask a running proxify, over its admin socket.
#pragma once

#include <iosfwd>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "cli/options.h"
#include "http/message.h"

namespace proxify::cli {

/// Gives the exit code.
int run_ask(const Options& options, std::ostream& out, std::ostream& err);

/// Where the proxify is that the options mean: with -c the socket is the one that the file names.
Result<std::string> socket_of(const Options& options);
/// The body of its answer; an Error too when it says that it will not.
Result<std::string> answer_to(const std::string& socket, const http::Request& request,
                              Duration limit);

}  // namespace proxify::cli
