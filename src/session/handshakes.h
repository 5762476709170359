// SPDX-License-Identifier: Apache-2.0
// TLS handshakes: how many there are at a time, and what came of them.
#pragma once

#include <atomic>
#include <cerrno>

#include "secure/handshake.h"
#include "stats/tls.h"

namespace proxify::session {

/// One of the handshakes that a service, or the door of tunnels, has at a time.
class Turn {
  public:
    explicit Turn(std::atomic<int>& all) : all_(all), number_(all.fetch_add(1) + 1) {}
    ~Turn() { --all_; }
    Turn(const Turn&) = delete;
    int number() const { return number_; }

  private:
    std::atomic<int>& all_;
    int number_;
};

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
