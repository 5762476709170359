// SPDX-License-Identifier: Apache-2.0
// What many TLS connections share: certificates and keys, who is trusted, what is spoken. All of it
// is given as text that somebody else has read, so that a file that was accepted cannot change
// under us. Contexts never change; a new certificate is a new context. Copies are the same one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace proxify::tls {

/// The contents of a file in PEM, and what errors call it.
struct Pem {
    std::string name;
    std::string text;
    bool operator==(const Pem&) const = default;
};

/// A certificate with those that lead from it to an authority, and its private key.
struct Identity {
    Pem certificate;
    Pem key;  ///< may be the same file
    bool operator==(const Identity&) const = default;
};

enum class Version { tls_1_2, tls_1_3 };

struct ServerSettings {
    std::vector<Identity> identities;  ///< by the client's SNI; the first is for all others
    Version min_version = Version::tls_1_2;
    std::vector<std::string> alpn = {};  ///< in the order that we prefer; none: not spoken of
    std::optional<Pem> client_ca = {};   ///< who vouches for clients; none: they are not asked
    bool require_client_certificate = false;
    std::optional<Pem> crl = {};  ///< of client_ca; what is revoked
    /// Of clients with a certificate: a SAN (DNS, IP, URI, e-mail), the CN, or "sha256:" and the
    /// fingerprint in hexadecimal digits. None: whoever client_ca vouches for.
    std::vector<std::string> allowed_names = {};
    bool operator==(const ServerSettings&) const = default;
};

struct ClientSettings {
    bool verify = true;          ///< the peer's certificate must be good, and for its name
    std::optional<Pem> ca = {};  ///< who vouches for peers; none: this host's store
    std::optional<Pem> crl = {};
    std::optional<Identity> identity = {};  ///< shown to a peer that asks
    Version min_version = Version::tls_1_2;
    std::vector<std::string> alpn = {};
    std::vector<std::string> allowed_names = {};  ///< beside the name; see ServerSettings
    bool operator==(const ClientSettings&) const = default;
};

/// What is known of a certificate.
struct CertificateFacts {
    std::string subject;                 ///< "CN = www.example.org"
    std::vector<std::string> names;      ///< SANs, without their types; the CN last
    std::vector<std::string> dns_names;  ///< those of them that are DNS names, in lower case
    std::string common_name;             ///< in UTF-8; empty when there is none
    std::string fingerprint;             ///< SHA-256, 64 hexadecimal digits
    std::chrono::sys_seconds not_before{}, not_after{};
    bool operator==(const CertificateFacts&) const = default;
};

/// The first certificate of a text.
Result<CertificateFacts> facts_of(const Pem& certificate);

/// Which of `allowed`, written as in ServerSettings, a certificate is; the first of them.
std::optional<size_t> find_allowed(const CertificateFacts& facts,
                                   const std::vector<std::string>& allowed);

class ServerContext {
  public:
    /// Errors name the file, what is wrong in it, and what to do.
    static Result<ServerContext> open(const ServerSettings& settings);
    /// Of each identity, in their order.
    const std::vector<CertificateFacts>& certificates() const;

    struct Shared;  ///< openssl.h

  private:
    friend class Connection;
    explicit ServerContext(std::shared_ptr<const Shared> shared) : shared_(std::move(shared)) {}
    std::shared_ptr<const Shared> shared_;
};

class ClientContext {
  public:
    static Result<ClientContext> open(const ClientSettings& settings);
    /// With no more than `verify`; reading this host's store takes some milliseconds.
    static Result<ClientContext> open(bool verify) {
        return open(ClientSettings{.verify = verify});
    }
    /// Of the identity; null without one.
    const CertificateFacts* certificate() const;

    struct Shared;  ///< openssl.h

  private:
    friend class Client;
    friend class Connection;
    explicit ClientContext(std::shared_ptr<const Shared> shared) : shared_(std::move(shared)) {}
    std::shared_ptr<const Shared> shared_;
};

}  // namespace proxify::tls
