// SPDX-License-Identifier: Apache-2.0
// Finding: one thing that the doctor has to say about this host.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "doctor/host.h"

namespace proxify::doctor {

/// From good to bad. A note is worth knowing, a warning will hurt somebody, and with an error
/// proxify does not start or should not.
enum class Severity : uint8_t { ok, note, warning, error };
std::string_view to_text(Severity severity);

struct Finding {
    Severity severity = Severity::ok;
    std::string topic;   ///< "kernel", "io_uring"; a word
    std::string what;    ///< a sentence
    std::string remedy;  ///< what to do, commands in backticks; may have several lines, or be empty
    bool operator==(const Finding&) const = default;
};

Severity worst(std::span<const Finding> findings);

/// How proxify is to be started.
struct Start {
    bool steer = false;                      ///< -b
    std::optional<uint16_t> listen;          ///< -p; overrides the file
    std::optional<std::string> config_path;  ///< -c; ./targets.toml otherwise, if it is there
};

/// Judges what was read. Without a config it judges the host alone.
std::vector<Finding> judge(const Host& host, const config::Config* config, const Start& start);

/// Reads the file, examines the host and judges. A file that is wrong is a finding itself.
std::vector<Finding> diagnose(const Start& start);

}  // namespace proxify::doctor
