// SPDX-License-Identifier: Apache-2.0
// The commands that open one door: intercept, ingress, redirect. Each stands for a file with one
// [[capture]], and is checked as that file.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/options.h"

namespace proxify::cli {

bool makes_config(Command command);

/// The file that the command stands for. Of the environment TARGET_ADDR, LOG_LEVEL and LOG_FORMAT
/// count, for redirect.
Result<std::string> config_text(const Options& options);

}  // namespace proxify::cli
