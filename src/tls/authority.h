// SPDX-License-Identifier: Apache-2.0
// An authority of one's own, and the certificates it vouches for: enough to try TLS with, and for
// hosts that trust nobody but each other. ECDSA over P-256, signed with SHA-256 (RFC 5280).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "tls/context.h"

namespace proxify::tls {

/// What is to stand in a certificate.
struct Wanted {
    /// Of the subject: 64 bytes at most. Empty: the first of `names`.
    std::string common_name;
    /// Subject alternative names: "www.example.org", "*.example.org", "198.51.100.7",
    /// "spiffe://example.org/web". Each is taken for what it looks like.
    std::vector<std::string> names = {};
    int days = 365;  ///< from now; one issued by an authority ends with it at the latest
};

/// The key is new each time, and known to nobody but the caller.
struct Issued {
    std::string certificate, key;  ///< PEM
    CertificateFacts facts;
};

/// One that vouches for itself, and may vouch for others, but not make authorities of them.
Result<Issued> make_authority(const Wanted& wanted);
/// One for a server, a client, or both in one. Errors name the file of the authority.
Result<Issued> issue(const Identity& authority, const Wanted& wanted);

}  // namespace proxify::tls
