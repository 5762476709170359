// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>

#include "cli/options.h"

namespace proxify::cli {

/// `proxify check`: reads the file as a run would and prints what would run, or what is wrong.
/// Gives the process's exit code.
int run_check(const Options& options, std::ostream& out, std::ostream& err);

}  // namespace proxify::cli
