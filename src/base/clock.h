// SPDX-License-Identifier: Apache-2.0
// Words for time. Nobody asks the machine for the time but io/ (the data plane's clock, which a
// simulation replaces), telemetry/ (the wall clock in a log line), the threads of
// resolve/ and containers/, and kernel/ for the age of what its programs wrote down.
#pragma once

#include <chrono>
#include <string>

namespace proxify {

using Duration = std::chrono::nanoseconds;
/// A moment on the monotonic clock of the loop that tells it.
using Time = std::chrono::time_point<std::chrono::steady_clock, Duration>;

using namespace std::chrono_literals;

/// "250ms", "5s", "1m30s", "1h": the form targets.toml reads and people write.
std::string to_text(Duration duration);

}  // namespace proxify
