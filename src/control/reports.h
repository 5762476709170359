// SPDX-License-Identifier: Apache-2.0
// What runs, as the values that operators get to see. All on the control thread, but for sessions.
#pragma once

#include <chrono>

#include "explain/explanation.h"
#include "health/health.h"
#include "report/report.h"
#include "routing/snapshot.h"
#include "session/session.h"
#include "steering/steering.h"

namespace proxify::control {

/// Seconds since 1970, of a moment on the loops' clock.
double wall_clock(Time at, Time now);
inline double seconds(Duration duration) {
    return std::chrono::duration<double>(duration).count();
}

report::Services report_services(const routing::Snapshot& snapshot);
report::Targets report_targets(const routing::Snapshot& snapshot, const routing::Orders& orders,
                               const health::Health& health, Time now);
/// `steering` is null without it.
report::Ports report_ports(const routing::Snapshot& snapshot, const steering::Steering* steering,
                           std::optional<uint16_t> listener_port);
Result<report::Steering> report_steering(const routing::Snapshot& snapshot,
                                         const steering::Steering& steering,
                                         uint16_t listener_port);
report::Explanation report_explanation(const explain::Explanation& explanation);
report::Session report_session(const session::Session::View& view, uint64_t worker);

}  // namespace proxify::control
