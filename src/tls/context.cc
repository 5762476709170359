// SPDX-License-Identifier: Apache-2.0
#include "tls/context.h"

#include <openssl/pem.h>

#include <algorithm>
#include <cctype>

#include "base/address.h"
#include "base/format.h"
#include "tls/openssl.h"

namespace proxify::tls {

std::string words_of_error() {
    unsigned long code = ERR_peek_error();
    const char* words = ERR_reason_error_string(code);
    ERR_clear_error();
    return words ? words : "unknown TLS error " + std::to_string(code);
}

bool is_about_certificate() {
    switch (ERR_GET_REASON(ERR_peek_error())) {
        case SSL_R_CERTIFICATE_VERIFY_FAILED:
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        case SSL_R_SSLV3_ALERT_NO_CERTIFICATE:
        case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
        case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
            return true;
        default:
            return false;
    }
}

std::string words_of_failure(const SSL* ssl) {
    const bool is_certificate = ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    const long verified = SSL_get_verify_result(ssl);
    std::string words = words_of_error();
    if (!is_certificate) return words;
    return verified == X509_V_ERR_APPLICATION_VERIFICATION
               ? "none of the certificate's names is allowed"
               : X509_verify_cert_error_string(verified);
}

namespace {

OwnedBio bio_of(const Pem& pem) {
    return OwnedBio(BIO_new_mem_buf(pem.text.data(), static_cast<int>(pem.text.size())));
}

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
}

std::string text_of(const ASN1_STRING* string) {
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
            static_cast<size_t>(ASN1_STRING_length(string))};
}

std::string text_of_ip(const ASN1_OCTET_STRING* octets) {
    const auto* bytes = ASN1_STRING_get0_data(octets);
    const int size = ASN1_STRING_length(octets);
    Ip ip{.is_v4 = size == 4};
    if (size != 4 && size != 16) return {};
    std::copy_n(bytes, size, ip.bytes.begin());
    return ip.text();
}

/// In UTF-8, whatever the certificate has it in; empty when it makes no sense.
std::string utf8_of(const ASN1_STRING* string) {
    unsigned char* text = nullptr;
    const int size = ASN1_STRING_to_UTF8(&text, string);
    if (size < 0) return {};
    std::string out(reinterpret_cast<const char*>(text), static_cast<size_t>(size));
    OPENSSL_free(text);
    return out;
}

void add_alternative_names(X509* certificate, CertificateFacts& facts) {
    using Names = std::unique_ptr<GENERAL_NAMES, Freed<GENERAL_NAMES_free>>;
    Names all(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(all.get(), i);
        std::string text;
        if (name->type == GEN_DNS)
            text = lower(text_of(name->d.dNSName));
        else if (name->type == GEN_URI)
            text = text_of(name->d.uniformResourceIdentifier);
        else if (name->type == GEN_EMAIL)
            text = text_of(name->d.rfc822Name);
        else if (name->type == GEN_IPADD)
            text = text_of_ip(name->d.iPAddress);
        // A name with a zero in it is somebody's attempt to be taken for somebody else.
        if (text.empty() || text.contains('\0')) continue;
        if (name->type == GEN_DNS) facts.dns_names.push_back(text);
        facts.names.push_back(std::move(text));
    }
}

std::chrono::sys_seconds seconds_of(const ASN1_TIME* time) {
    std::tm parts{};
    ASN1_TIME_to_tm(time, &parts);
    return std::chrono::sys_seconds(std::chrono::seconds(timegm(&parts)));
}

OwnedContext new_context(const SSL_METHOD* method, Version min_version) {
    ERR_clear_error();
    OwnedContext context(SSL_CTX_new(method));
    if (!context) return context;
    SSL_CTX* ctx = context.get();
    SSL_CTX_set_min_proto_version(
        ctx, min_version == Version::tls_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    // One record at a time, so that the wire can be full between them. Idle connections keep no
    // buffers.
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
    return context;
}

Error about(const Pem& pem, std::string_view what, std::string hint = {}) {
    return Error::of(format("{}: {}: {}", pem.name, what, words_of_error()), std::move(hint));
}

/// After a read of PEM that gave nothing: whether there simply is no more. Otherwise what is there
/// is damaged, and half of a file must not pass for all of it.
bool is_at_end() {
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) return false;
    ERR_clear_error();
    return true;
}

int no_passphrase(char*, int, int, void*) {
    return 0;
}

Result<CertificateFacts> use(SSL_CTX* ctx, const Identity& identity) {
    ERR_clear_error();
    auto bio = bio_of(identity.certificate);
    OwnedCertificate leaf(PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr));
    if (!leaf)
        return fail(about(identity.certificate, "no certificate can be read from it",
                          "it should be in PEM: -----BEGIN CERTIFICATE-----"));
    if (SSL_CTX_use_certificate(ctx, leaf.get()) != 1)
        return fail(about(identity.certificate, "this certificate cannot be used"));
    while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr))
        if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
            X509_free(next);
            return fail(about(identity.certificate, "a certificate of the chain cannot be used"));
        }
    if (!is_at_end())
        return fail(about(identity.certificate, "a certificate of the chain cannot be read"));
    auto key_bio = bio_of(identity.key);
    OwnedKey key(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, no_passphrase, nullptr));
    if (!key)
        return fail(about(identity.key, "no private key can be read from it",
                          "it should be in PEM without a passphrase: -----BEGIN PRIVATE KEY-----"));
    if (X509_check_private_key(leaf.get(), key.get()) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, key.get()) != 1) {
        ERR_clear_error();
        return fail(Error::of(format("{}: the key is not the one of the certificate in {}",
                                     identity.key.name, identity.certificate.name)));
    }
    return facts_of(leaf.get());
}

Result<> trust(SSL_CTX* ctx, const Pem& ca, bool tell_clients) {
    ERR_clear_error();
    auto bio = bio_of(ca);
    X509_STORE* store = SSL_CTX_get_cert_store(ctx);
    int count = 0;
    for (;; ++count) {
        OwnedCertificate one(PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr));
        if (!one) break;
        X509_STORE_add_cert(store, one.get());
        if (tell_clients) SSL_CTX_add_client_CA(ctx, one.get());
    }
    if (count == 0)
        return fail(about(ca, "no certificate of an authority can be read from it",
                          "it should be in PEM: -----BEGIN CERTIFICATE-----"));
    if (!is_at_end()) return fail(about(ca, "a certificate of an authority cannot be read"));
    return {};
}

Result<> revoke(SSL_CTX* ctx, const Pem& crl) {
    ERR_clear_error();
    auto bio = bio_of(crl);
    X509_STORE* store = SSL_CTX_get_cert_store(ctx);
    int count = 0;
    for (;; ++count) {
        std::unique_ptr<X509_CRL, Freed<X509_CRL_free>> one(
            PEM_read_bio_X509_CRL(bio.get(), nullptr, no_passphrase, nullptr));
        if (!one) break;
        X509_STORE_add_crl(store, one.get());
    }
    if (count == 0)
        return fail(about(crl, "no list of revoked certificates can be read from it",
                          "it should be in PEM: -----BEGIN X509 CRL-----"));
    if (!is_at_end()) return fail(about(crl, "a list of revoked certificates cannot be read"));
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return {};
}

/// As TLS writes it: each behind its length.
std::vector<unsigned char> wire_of(const std::vector<std::string>& protocols) {
    std::vector<unsigned char> out;
    for (const auto& one : protocols) {
        out.push_back(static_cast<unsigned char>(one.size()));
        out.insert(out.end(), one.begin(), one.end());
    }
    return out;
}

/// Asked for each certificate of a chain; the peer's own is at depth 0, and comes last.
template <class Shared>
int check_name(int is_good, X509_STORE_CTX* chain) {
    auto* ssl =
        static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto refuse = [&] {
        auto* note =
            static_cast<std::optional<CertificateFacts>*>(SSL_get_ex_data(ssl, refused_index()));
        if (note) *note = facts_of(X509_STORE_CTX_get_current_cert(chain));
        return 0;
    };
    if (!is_good) return X509_STORE_CTX_get_current_cert(chain) ? refuse() : 0;
    if (X509_STORE_CTX_get_error_depth(chain) != 0) return 1;
    const auto* shared = static_cast<const Shared*>(SSL_get_app_data(ssl));
    if (shared->allowed_names.empty() ||
        find_allowed(facts_of(X509_STORE_CTX_get_current_cert(chain)), shared->allowed_names))
        return 1;
    X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
    return refuse();
}

int choose_alpn(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                const unsigned char* in, unsigned in_size, void*) {
    const auto* shared = static_cast<const ServerContext::Shared*>(SSL_get_app_data(ssl));
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_size, shared->alpn.data(),
                              static_cast<unsigned>(shared->alpn.size()), in,
                              in_size) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;  // RFC 7301, section 3.2
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

int choose_certificate(SSL* ssl, int*, void*) {
    const char* sent = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!sent) return SSL_TLSEXT_ERR_OK;
    const auto& by_name = static_cast<const ServerContext::Shared*>(SSL_get_app_data(ssl))->by_name;
    const std::string name = lower(sent);
    auto found = by_name.find(name);
    if (found == by_name.end() && name.contains('.'))
        found = by_name.find("*" + name.substr(name.find('.')));
    if (found != by_name.end()) SSL_set_SSL_CTX(ssl, found->second);
    return SSL_TLSEXT_ERR_OK;
}

/// For the connections after this one; the session is ours when we give 1.
int keep_session(SSL* ssl, SSL_SESSION* session) {
    const auto* key = static_cast<const std::string*>(SSL_get_ex_data(ssl, resume_index()));
    const auto* shared = static_cast<const ClientContext::Shared*>(SSL_get_app_data(ssl));
    if (!key || key->empty()) return 0;
    std::lock_guard guard(shared->lock);
    if (shared->sessions.size() >= ClientContext::Shared::sessions_max) shared->sessions.clear();
    shared->sessions[*key].reset(session);
    return 1;
}

/// Whom a ticket stands for is not verified again, and one ticket leads to the next: so not longer
/// than the certificate is good.
SSL_TICKET_RETURN use_ticket(SSL*, SSL_SESSION* session, const unsigned char*, size_t,
                             SSL_TICKET_STATUS status, void*) {
    if (status == SSL_TICKET_EMPTY || status == SSL_TICKET_NO_DECRYPT)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_ABORT;
    if (has_expired(session)) return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

}  // namespace

bool has_expired(SSL_SESSION* session) {
    const X509* peer = session ? SSL_SESSION_get0_peer(session) : nullptr;
    return peer && X509_cmp_current_time(X509_get0_notAfter(peer)) <= 0;
}

int refused_index() {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return index;
}

int resume_index() {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return index;
}

CertificateFacts facts_of(X509* certificate) {
    CertificateFacts facts;
    const X509_NAME* subject = X509_get_subject_name(certificate);
    OwnedBio out(BIO_new(BIO_s_mem()));
    X509_NAME_print_ex(out.get(), subject, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB);
    char* text = nullptr;
    const long size = BIO_get_mem_data(out.get(), &text);
    facts.subject.assign(text, static_cast<size_t>(size));
    add_alternative_names(certificate, facts);
    const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at >= 0) {
        std::string cn = utf8_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        if (!cn.empty() && !cn.contains('\0')) {
            facts.common_name = cn;
            facts.names.push_back(std::move(cn));
        }
    }
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_size = 0;
    X509_digest(certificate, EVP_sha256(), digest, &digest_size);
    for (unsigned i = 0; i < digest_size; ++i) facts.fingerprint += format("{:02x}", digest[i]);
    facts.not_before = seconds_of(X509_get0_notBefore(certificate));
    facts.not_after = seconds_of(X509_get0_notAfter(certificate));
    return facts;
}

Result<CertificateFacts> facts_of(const Pem& certificate) {
    ERR_clear_error();
    auto bio = bio_of(certificate);
    OwnedCertificate leaf(PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr));
    if (!leaf) return fail(about(certificate, "no certificate can be read from it"));
    return facts_of(leaf.get());
}

std::optional<size_t> find_allowed(const CertificateFacts& facts,
                                   const std::vector<std::string>& allowed) {
    auto found = std::ranges::find_if(allowed, [&](const std::string& one) {
        if (one.starts_with("sha256:")) return lower(one.substr(7)) == facts.fingerprint;
        return std::ranges::find(facts.names, one) != facts.names.end() ||
               std::ranges::find(facts.dns_names, lower(one)) != facts.dns_names.end();
    });
    if (found == allowed.end()) return std::nullopt;
    return static_cast<size_t>(found - allowed.begin());
}

Result<ServerContext> ServerContext::open(const ServerSettings& settings) {
    auto shared = std::make_shared<Shared>();
    shared->alpn = wire_of(settings.alpn);
    shared->allowed_names = settings.allowed_names;
    std::unordered_map<std::string, SSL_CTX*> by_names;
    for (const auto& identity : settings.identities) {
        auto facts = facts_of(identity.certificate);
        if (!facts) return fail(std::move(facts.error()));
        // Certificates for the same names, of RSA and of ECDSA, are one context's.
        std::string all_names;
        for (const auto& name : facts->names) all_names += name + " ";
        SSL_CTX*& ctx = by_names[all_names];
        if (!ctx) {
            shared->contexts.push_back(new_context(TLS_server_method(), settings.min_version));
            ctx = shared->contexts.back().get();
            if (!ctx) return fail(Error::of("cannot set up TLS: " + words_of_error()));
        }
        if (auto used = use(ctx, identity); !used) return fail(std::move(used.error()));
        for (const auto& name : facts->names) shared->by_name.emplace(lower(name), ctx);
        shared->certificates.push_back(*std::move(facts));
    }
    for (const auto& context : shared->contexts) {
        SSL_CTX* ctx = context.get();
        SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
        // Of TLS 1.2 what RFC 9325, section 4.2, recommends: a key that is stolen later opens
        // nothing that was recorded before. All of TLS 1.3 is so.
        SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
        SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
        if (!shared->alpn.empty()) SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, nullptr);
        // Clients keep what is needed to resume, in tickets; one is enough for each.
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(ctx, 1);
        SSL_CTX_set_session_id_context(ctx, reinterpret_cast<const unsigned char*>("proxify"), 7);
        if (!settings.client_ca) continue;
        if (auto done = trust(ctx, *settings.client_ca, /*tell_clients=*/true); !done)
            return fail(std::move(done.error()));
        if (settings.crl)
            if (auto done = revoke(ctx, *settings.crl); !done) return fail(std::move(done.error()));
        SSL_CTX_set_verify(
            ctx,
            SSL_VERIFY_PEER |
                (settings.require_client_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
            check_name<Shared>);
        SSL_CTX_set_session_ticket_cb(ctx, nullptr, use_ticket, nullptr);
    }
    return ServerContext(std::move(shared));
}

const std::vector<CertificateFacts>& ServerContext::certificates() const {
    return shared_->certificates;
}

Result<ClientContext> ClientContext::open(const ClientSettings& settings) {
    auto shared = std::make_shared<Shared>();
    shared->allowed_names = settings.allowed_names;
    shared->verifies = settings.verify;
    shared->context = new_context(TLS_client_method(), settings.min_version);
    SSL_CTX* ctx = shared->context.get();
    if (!ctx) return fail(Error::of("cannot set up TLS: " + words_of_error()));
    if (settings.verify) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, check_name<Shared>);
        if (settings.ca) {
            if (auto done = trust(ctx, *settings.ca, /*tell_clients=*/false); !done)
                return fail(std::move(done.error()));
        } else if (SSL_CTX_set_default_verify_paths(ctx) != 1) {
            return fail(
                Error::of("cannot read this host's certificate authorities: " + words_of_error(),
                          "install the package ca-certificates, or name yours with `ca`"));
        }
        if (settings.crl)
            if (auto done = revoke(ctx, *settings.crl); !done) return fail(std::move(done.error()));
    }
    if (settings.identity) {
        auto facts = use(ctx, *settings.identity);
        if (!facts) return fail(std::move(facts.error()));
        shared->certificate = *std::move(facts);
    }
    if (auto alpn = wire_of(settings.alpn); !alpn.empty())
        SSL_CTX_set_alpn_protos(ctx, alpn.data(), static_cast<unsigned>(alpn.size()));
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    return ClientContext(std::move(shared));
}

const CertificateFacts* ClientContext::certificate() const {
    return shared_->certificate ? &*shared_->certificate : nullptr;
}

}  // namespace proxify::tls
