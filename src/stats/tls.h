// SPDX-License-Identifier: Apache-2.0
// Tls: what came of the TLS handshakes with one side of a service, clients or targets, counted by
// all workers at once. It lives as long as the service is configured, through reloads.
#pragma once

#include <string_view>

#include "stats/counter.h"

namespace proxify::stats {

struct Tls {
    // Handshakes, each in one of them.
    Counter full;
    Counter resumed;
    Counter timed_out;
    Counter bad_certificate;  ///< ours or theirs: whoever was shown it did not like it, or saw none
    Counter bad_protocol;     ///< anything else that was said: no TLS, no common version or cipher
    Counter gone;             ///< the other side left

    // Connections that were agreed on, by version.
    Counter version_1_2;
    Counter version_1_3;

    /// `version` as OpenSSL calls it, "TLSv1.3".
    void count_done(std::string_view version, bool is_resumed) {
        (is_resumed ? resumed : full).add();
        (version == "TLSv1.3" ? version_1_3 : version_1_2).add();
    }
};

}  // namespace proxify::stats
