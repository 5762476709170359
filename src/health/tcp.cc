// SPDX-License-Identifier: Apache-2.0
#include "health/checks.h"
#include "health/talk.h"

namespace proxify::health {

io::Task<Outcome> check_tcp(Probe& probe, Talk& talk) {
    co_return failed_with(co_await talk.connect(), probe);
}

}  // namespace proxify::health
