// SPDX-License-Identifier: Apache-2.0
// Scripts that teach a shell our commands and flags, made from the tables in options.cc.
#pragma once

#include <iosfwd>
#include <string>

#include "cli/options.h"

namespace proxify::cli {

/// For "bash", "zsh" or "fish".
Result<std::string> completion_for(const std::string& shell);

/// Gives the exit code.
int run_completion(const Options& options, std::ostream& out, std::ostream& err);

}  // namespace proxify::cli
