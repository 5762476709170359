// SPDX-License-Identifier: Apache-2.0
// The commands that ask a running proxify, over its admin socket.
#pragma once

#include <iosfwd>

#include "cli/options.h"

namespace proxify::cli {

/// Gives the exit code.
int run_ask(const Options& options, std::ostream& out, std::ostream& err);

}  // namespace proxify::cli
