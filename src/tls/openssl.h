// SPDX-License-Identifier: Apache-2.0
// What the files of this room share of OpenSSL: owners, and its errors as words.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "tls/context.h"

namespace proxify::tls {

template <auto free>
struct Freed {
    template <class T>
    void operator()(T* one) const {
        free(one);
    }
};
using OwnedContext = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using OwnedCertificate = std::unique_ptr<X509, Freed<X509_free>>;
using OwnedKey = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using OwnedBio = std::unique_ptr<BIO, Freed<BIO_free>>;
using OwnedSession = std::unique_ptr<SSL_SESSION, Freed<SSL_SESSION_free>>;

/// The words of the oldest error in this thread's queue, which is emptied.
std::string words_of_error();
/// Whether the oldest error is about a certificate: one of the peer's that is no good or missing,
/// or ours in the peer's opinion.
bool is_about_certificate();
/// Why a handshake failed: of a certificate that is no good, what is wrong with it.
std::string words_of_failure(const SSL* ssl);

CertificateFacts facts_of(X509* certificate);

/// Whether the peer that a session stands for would not be believed any more.
bool has_expired(SSL_SESSION* session);

/// Where an SSL has the key of what it may resume, a std::string; its app data is a Shared.
int resume_index();
/// Where it notes which certificate was no good, a std::optional<CertificateFacts>; may be null.
int refused_index();

// The callbacks of OpenSSL have to name these, so they are open to this room.

struct ServerContext::Shared {
    std::vector<OwnedContext> contexts;  ///< the first is for names that no other has
    std::unordered_map<std::string, SSL_CTX*> by_name;  ///< "www.example.org", "*.example.org"
    std::vector<CertificateFacts> certificates;
    std::vector<unsigned char> alpn;  ///< as TLS writes it: each behind its length
    std::vector<std::string> allowed_names;
};

struct ClientContext::Shared {
    OwnedContext context;
    std::optional<CertificateFacts> certificate;
    std::vector<std::string> allowed_names;
    bool verifies = false;

    // What was agreed on with whom, for the next time.
    mutable std::mutex lock;
    mutable std::unordered_map<std::string, OwnedSession> sessions;
    static constexpr size_t sessions_max = 4096;
};

}  // namespace proxify::tls
