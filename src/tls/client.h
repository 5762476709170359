// SPDX-License-Identifier: Apache-2.0
// Client: our side of a TLS connection, as bytes in and bytes out. It knows no socket and waits
// for nothing: what came from the peer is fed to it, what it has to say is taken from it, and
// whoever moves the bytes decides how long that may last.
//
//     peer --bytes--> feed()            take_plain() --> us
//     peer <--bytes-- take_to_peer()         write() <-- us
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "tls/context.h"

struct ssl_st;

namespace proxify::tls {

class Client {
  public:
    enum class State {
        shaking_hands,
        open,
        ended,   ///< the peer said that nothing more comes
        failed,  ///< error() says why
    };

    /// `name` is the peer's: sent along (SNI) unless it is an address, and what a verified
    /// certificate must be for. May be empty; then no name is verified.
    Client(const ClientContext& context, const std::string& name);

    State state() const { return state_; }
    /// "wrong version number", "self-signed certificate". Ours or OpenSSL's words, none of the
    /// peer's.
    const std::string& error() const { return error_; }

    /// Bytes that came from the peer.
    void feed(std::string_view bytes);
    /// Bytes to be sent to the peer now; may be empty.
    std::string take_to_peer();

    /// Only while open.
    void write(std::string_view plain);
    /// What the peer said, as far as it has come.
    std::string take_plain();

    /// How long the peer's certificate is still good; below zero when it is not any more. Nothing
    /// when it showed none yet.
    std::optional<Duration> certificate_ends_in() const;

  private:
    void go_on();
    void note_failure();

    struct Free {
        void operator()(ssl_st* ssl) const;
    };
    std::shared_ptr<const void> context_;  ///< whose memory OpenSSL's callbacks use
    std::unique_ptr<ssl_st, Free> ssl_;
    State state_ = State::shaking_hands;
    std::string error_;
    std::string plain_;
};

}  // namespace proxify::tls
