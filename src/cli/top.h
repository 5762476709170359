// SPDX-License-Identifier: Apache-2.0
// `proxify top`: a running proxify on one screen, live.
#pragma once

#include <iosfwd>

#include "cli/options.h"

namespace proxify::cli {

/// Until the operator ends it. Gives the exit code; ends by the signal when one ended it.
int run_top(const Options& options, std::ostream& err);

}  // namespace proxify::cli
