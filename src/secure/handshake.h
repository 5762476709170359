// SPDX-License-Identifier: Apache-2.0
// The TLS handshake over a stream: afterwards the stream is read and written as before, and what
// goes over the wire is encrypted.
#pragma once

#include <memory>
#include <string>

#include "io/stream.h"
#include "io/task.h"
#include "tls/connection.h"

namespace proxify::secure {

struct Outcome {
    /// 0; EBADMSG when hands could not be shaken; ECANCELED when the stream was stopped; another
    /// errno of the stream, ENODATA when it just ended.
    int error = 0;
    /// Of EBADMSG: "no shared cipher", "certificate has expired (CN = alice)". A subject is the
    /// peer's own words.
    std::string why = {};
    bool is_about_certificate = false;

    bool is_done() const { return error == 0; }
};

/// Nobody needs more to shake hands, chains of certificates included.
inline constexpr size_t bytes_max = 128 * 1024;

/// Nobody else reads or writes meanwhile. Whoever limits the time stops the stream.
io::Task<Outcome> shake_hands(io::Stream& stream, std::unique_ptr<tls::Connection> connection);

/// What a stream has agreed on; null when it is not encrypted.
inline const tls::Connection* connection_of(const io::Stream& stream) {
    return static_cast<const tls::Connection*>(stream.codec());
}

}  // namespace proxify::secure
