// SPDX-License-Identifier: Apache-2.0
// The command line: what was asked for, or wrong usage.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace proxify::cli {

/// What a process ends with.
enum ExitCode : int { exit_done = 0, exit_failed = 1, exit_usage = 2, exit_warnings = 3 };

struct Options {
    enum class Command { run, check, doctor, help, version };
    Command command = Command::run;
    bool steer = false;                        ///< -b
    std::optional<uint16_t> port;              ///< -p: wins over `listen` in the file
    std::string config_path = "targets.toml";  ///< -c
    bool operator==(const Options&) const = default;
};

/// Every failure is wrong usage: exit_usage.
Result<Options> parse_options(int argc, const char* const* argv);

/// What --help and --version print, each with its final newline.
std::string help_text();
std::string version_text();

}  // namespace proxify::cli
