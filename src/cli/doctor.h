// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>

#include "cli/options.h"

namespace proxify::cli {

/// `proxify doctor`: says whether proxify can run on this host as it is asked for, and what to do
/// about what is in the way. Changes nothing and leaves nothing behind. Gives the process's exit
/// code: exit_done, exit_warnings or exit_failed.
int run_doctor(const Options& options, std::ostream& out);

}  // namespace proxify::cli
