// SPDX-License-Identifier: Apache-2.0
// The command line: what was asked for, or wrong usage.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace proxify::cli {

/// What a process ends with.
enum ExitCode : int { exit_done = 0, exit_failed = 1, exit_usage = 2, exit_warnings = 3 };

enum class Command {
    run,
    check,
    doctor,
    status,
    services,
    targets,
    sessions,
    ports,
    steering,
    explain,
    top,
    reload,
    drain,
    undrain,
    set_weight,
    kill,
    intercept,
    ingress,
    redirect,
    mesh,
    cert,
    completion,
    help,
    version,
};

struct Options {
    using Command = cli::Command;
    Command command = Command::run;
    std::vector<std::string> arguments = {};  ///< as many as the command takes
    bool steer = false;                       ///< -b
    std::optional<uint16_t> port;             ///< -p: wins over `listen` in the file
    std::optional<std::string> config_path;   ///< -c
    std::optional<std::string> socket;        ///< wins over [admin] in the file
    bool json = false;
    std::optional<Duration> watch;               ///< again and again, with such a pause
    std::map<std::string, std::string> filters;  ///< "service", "target", "limit", "proxy"
    /// Flags that may be given several times, or with commas: "container", "cidr", "map".
    std::map<std::string, std::vector<std::string>> lists = {};
    bool show_events = false;
    std::optional<Duration> report_every;
    bool dry_run = false;
    bool force = false;
    std::optional<Duration> rollback_if_down;
    bool operator==(const Options&) const = default;

    std::string config() const { return config_path.value_or("targets.toml"); }
};

/// One word that may stand behind `proxify`, for the help, the shells and the parser.
struct CommandInfo {
    Command command;
    std::string_view word;
    std::string_view arguments;               ///< as the help shows them: "[SERVICE/]TARGET"
    size_t count;                             ///< of arguments
    std::span<const std::string_view> flags;  ///< long names that mean something to it
    std::string_view help;
};
std::span<const CommandInfo> all_commands();

/// A flag, for the same three.
struct FlagInfo {
    std::string_view name;   ///< long: "rollback-if-down"
    char letter;             ///< or 0
    std::string_view value;  ///< what follows it: "PORT"; empty for nothing
    std::string_view help;
    bool repeats = false;  ///< may be given several times
};
std::span<const FlagInfo> all_flags();

/// Every failure is wrong usage: exit_usage.
Result<Options> parse_options(int argc, const char* const* argv);

/// What --help and --version print, each with its final newline.
std::string help_text();
std::string version_text();
/// The version alone.
std::string_view version();

}  // namespace proxify::cli
