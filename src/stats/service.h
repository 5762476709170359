// SPDX-License-Identifier: Apache-2.0
// Service: what is counted for each service, by all workers at once. It lives as long as the
// service is configured, through reloads.
#pragma once

#include "stats/bytes.h"
#include "stats/endings.h"
#include "stats/histogram.h"
#include "stats/tls.h"

namespace proxify::stats {

struct Service {
    Counter sessions;  ///< that began
    Bytes bytes;
    Histogram connects{connect_bounds};   ///< those that succeeded
    Histogram durations{session_bounds};  ///< of sessions that have ended
    Histogram waits{queue_bounds};        ///< in line for a seat, whatever came of it
    Endings endings;
    Tls client_tls, target_tls;
};

}  // namespace proxify::stats
