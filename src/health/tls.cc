// SPDX-License-Identifier: Apache-2.0
// A handshake, and no more. It proves that somebody answers who has a key and a certificate; with
// `verify`, that these are the right ones.
#include "health/checks.h"
#include "health/talk.h"

namespace proxify::health {

using namespace io;

Task<Outcome> check_tls(const config::TlsCheck& check, Probe& probe, Talk& talk) {
    if (int error = co_await talk.connect()) co_return failed_with(error, probe);
    int error = co_await talk.secure(check.tls);
    Outcome outcome = error ? talk.handshake_failed(error) : Outcome::good();
    if (talk.tls()) outcome.certificate_ends_in = talk.tls()->certificate_ends_in();
    co_return outcome;
}

}  // namespace proxify::health
