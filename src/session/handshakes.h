// SPDX-License-Identifier: Apache-2.0
// What came of a TLS handshake, counted.
#pragma once

#include <cerrno>

#include "secure/handshake.h"
#include "stats/tls.h"

namespace proxify::session {

inline void count_handshake(stats::Tls& stats, const secure::Outcome& outcome, bool has_timed_out,
                            const io::Stream& stream) {
    if (outcome.is_done()) {
        const tls::Connection& agreed = *secure::connection_of(stream);
        stats.count_done(agreed.version(), agreed.is_resumed());
    } else if (has_timed_out) {
        stats.timed_out.add();
    } else if (outcome.is_about_certificate) {
        stats.bad_certificate.add();
    } else if (outcome.error == EBADMSG) {
        stats.bad_protocol.add();
    } else {
        stats.gone.add();
    }
}

}  // namespace proxify::session
