// SPDX-License-Identifier: Apache-2.0
// Metrics: everything that is counted, as a page for Prometheus. docs/metrics.md explains each one
// for people.
//
// From any thread: it reads atomics and what never changes, and what the Input brings along.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/page.h"
#include "routing/snapshot.h"
#include "stats/worker.h"

namespace proxify::metrics {

using WallTime = std::chrono::system_clock::time_point;

inline constexpr std::string_view content_type = "text/plain; version=0.0.4; charset=utf-8";

/// One way in which the kernel answers, and how often it did.
struct Answer {
    std::string_view name;  ///< "passed_own_dial"
    uint64_t count = 0;
};

/// What the steering program counted.
struct Steering {
    std::vector<Answer> all;  ///< of all services together
    std::map<std::string, std::vector<Answer>> by_service = {};
    std::vector<uint64_t> by_port = {};  ///< connections steered, by port number; may be empty
};

/// What the programs of a capture counted.
struct Capture {
    std::string_view name;  ///< "connect"
    std::vector<Answer> answers;
    std::map<std::string, uint64_t> by_container = {};
};

/// What cannot be read where it is counted.
struct Input {
    std::string version;
    WallTime started_at;
    WallTime reloaded_at;     ///< when the running config was put in force
    bool is_refused = false;  ///< the file is another one by now, and was refused
    uint64_t log_lines_dropped = 0;
    std::shared_ptr<const routing::Snapshot> snapshot;
    std::vector<stats::Worker> workers = {};  ///< labelled by their numbers
    std::optional<Steering> steering = {};    ///< with steering only
    std::vector<Capture> captures = {};       ///< those that have programs
};

std::string render(const Input& input);

/// Everything that render() can say.
struct Family {
    std::string_view name;
    Type type;
    std::string_view help;
};
std::vector<Family> families();

/// The label `service` of what no service was found for. No service can be called so.
inline constexpr std::string_view no_service = "(none)";

}  // namespace proxify::metrics
