// SPDX-License-Identifier: Apache-2.0
// The kinds of checks, a file for each. Pure parts come first, for tests.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "health/probe.h"

namespace proxify::health {

/// Runs the check that the probe's spec asks for. It takes no longer than its timeout, but for
/// what it may have to wait before it begins.
io::Task<Outcome> examine(Probe& probe);

// ---- http

struct HttpHead {
    int status = 0;
    size_t size = 0;  ///< where what follows it begins
};

/// The head of an answer (RFC 9112), those of interim answers before it left aside: nothing yet, or
/// complaint that this is none.
std::expected<std::optional<HttpHead>, std::string> read_http_head(std::string_view bytes);

/// The bytes of the question.
std::string http_question(const config::HttpCheck& check, const Subject& subject);

// ---- exec

/// What a program is told of its target, as environment variables.
std::vector<std::string> environment_of(const Subject& subject);

class Talk;
io::Task<Outcome> check_tcp(Probe& probe, Talk& talk);
io::Task<Outcome> check_http(const config::HttpCheck& check, Probe& probe, Talk& talk);
io::Task<Outcome> check_send(const config::SendCheck& check, Probe& probe, Talk& talk);
io::Task<Outcome> check_tls(const config::TlsCheck& check, Probe& probe, Talk& talk);
io::Task<Outcome> check_exec(const config::ExecCheck& check, Probe& probe);

}  // namespace proxify::health
