// SPDX-License-Identifier: Apache-2.0
// Talk: a connection that a check has to its target. It sends a few bytes and reads an answer, at
// the pace of the check and never more than answer_max of it, so that a target that answers without
// end costs no more than another. It leaves nothing behind, here or there: its end is a reset.
//
// What it is told to send and to read may go through TLS; the check does not notice.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "health/probe.h"
#include "io/stream.h"

namespace proxify::health {

class Talk {
  public:
    explicit Talk(Probe& probe) : probe_(probe) {}
    Talk(const Talk&) = delete;

    // These give 0 or an errno: ETIMEDOUT when the probe's time was up first. One at a time.

    /// With the PROXY header that the target wants to have first, if it does.
    io::Task<int> connect();
    /// Everything from here on goes through TLS. EPROTO when the two did not come to terms.
    io::Task<int> secure(const config::TlsSpec& spec);
    /// What it means that secure() gave this error.
    Outcome handshake_failed(int error) const;
    io::Task<int> send(std::string_view bytes);
    /// Reads on until `is_enough` says so of answer(). ENODATA when the answer ended before, EFBIG
    /// when it was longer than answer_max.
    io::Task<int> receive_until(const std::function<bool(std::string_view)>& is_enough);

    const std::string& answer() const { return answer_; }
    const std::optional<tls::Client>& tls() const { return tls_; }

    /// Must be awaited before it goes.
    io::Task<> end();

    static constexpr size_t answer_max = 64 * 1024;

  private:
    std::string header() const;
    io::Task<int> send_plainly(std::string_view bytes);
    io::Task<int> receive_some(std::string& into);
    io::Task<int> receive_more();

    Probe& probe_;
    dial::Attempt attempt_;
    std::optional<io::Stream> stream_;
    std::optional<tls::Client> tls_;
    std::string answer_;
};

}  // namespace proxify::health
