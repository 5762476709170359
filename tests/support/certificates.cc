// SPDX-License-Identifier: Apache-2.0
#include "support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <stdexcept>

namespace proxify::test {

namespace {

template <auto free>
struct Freed {
    template <class T>
    void operator()(T* one) const {
        free(one);
    }
};
using OwnedCertificate = std::unique_ptr<X509, Freed<X509_free>>;
using OwnedKey = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using OwnedBio = std::unique_ptr<BIO, Freed<BIO_free>>;

void must(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string("OpenSSL could not ") + what);
}

OwnedKey new_key(KeyKind kind) {
    OwnedKey key(kind == KeyKind::ec ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048));
    must(key != nullptr, "make a key");
    return key;
}

template <class Write>
std::string pem_of(Write write) {
    OwnedBio out(BIO_new(BIO_s_mem()));
    must(write(out.get()) == 1, "write PEM");
    char* text = nullptr;
    const long size = BIO_get_mem_data(out.get(), &text);
    return {text, static_cast<size_t>(size)};
}

std::string pem_of(X509* certificate) {
    return pem_of([&](BIO* out) { return PEM_write_bio_X509(out, certificate); });
}

void extend(X509* certificate, X509* issuer, int what, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
    must(extension != nullptr, "understand an extension");
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

/// Without extensions and a signature.
OwnedCertificate begin(const std::string& cn, EVP_PKEY* key, std::chrono::seconds begins,
                       std::chrono::seconds ends) {
    OwnedCertificate certificate(X509_new());
    X509_set_version(certificate.get(), X509_VERSION_3);
    uint64_t serial = 0;
    RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial >> 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), begins.count());
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), ends.count());
    if (!cn.empty())
        X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(cn.data()),
                                   static_cast<int>(cn.size()), -1, 0);
    X509_set_pubkey(certificate.get(), key);
    return certificate;
}

}  // namespace

struct Authority::Pair {
    OwnedKey key;
    OwnedCertificate certificate;

    static std::unique_ptr<Pair> make(const std::string& cn, KeyKind kind, const Pair* above) {
        auto pair = std::make_unique<Pair>();
        pair->key = new_key(kind);
        pair->certificate =
            begin(cn, pair->key.get(), -std::chrono::hours(48), std::chrono::hours(480));
        const Pair& issuer = above ? *above : *pair;
        X509* one = pair->certificate.get();
        X509_set_issuer_name(one, X509_get_subject_name(issuer.certificate.get()));
        extend(one, issuer.certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
        extend(one, issuer.certificate.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
        extend(one, issuer.certificate.get(), NID_subject_key_identifier, "hash");
        must(X509_sign(one, issuer.key.get(), EVP_sha256()) > 0, "sign an authority");
        return pair;
    }
};

Authority::Authority(std::unique_ptr<Pair> pair)
    : pair_(std::move(pair)), pem_(pem_of(pair_->certificate.get())) {}

Authority::Authority(const std::string& cn, KeyKind key)
    : Authority(Pair::make(cn, key, nullptr)) {}

Authority::~Authority() = default;
Authority::Authority(Authority&&) noexcept = default;

Authority Authority::intermediate(const std::string& cn) const {
    return Authority(Pair::make(cn, KeyKind::ec, pair_.get()));
}

Leaf Authority::leaf(const LeafOptions& options) const {
    auto key = new_key(options.key);
    auto certificate = begin(options.cn, key.get(), options.begins, options.ends);
    X509* one = certificate.get();
    X509_set_issuer_name(one, X509_get_subject_name(pair_->certificate.get()));
    std::string names;
    for (const auto& name : options.names) names += (names.empty() ? "" : ",") + name;
    if (!names.empty()) extend(one, pair_->certificate.get(), NID_subject_alt_name, names);
    extend(one, pair_->certificate.get(), NID_basic_constraints, "CA:FALSE");
    must(X509_sign(one, pair_->key.get(), EVP_sha256()) > 0, "sign a certificate");

    Leaf leaf;
    leaf.certificate = pem_of(one);
    leaf.key = pem_of([&](BIO* out) {
        return PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    X509_digest(one, EVP_sha256(), digest, &size);
    for (unsigned i = 0; i < size; ++i) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", digest[i]);
        leaf.fingerprint += two;
    }
    return leaf;
}

std::string Authority::revoke(const std::vector<const Leaf*>& leaves) const {
    std::unique_ptr<X509_CRL, Freed<X509_CRL_free>> list(X509_CRL_new());
    X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(pair_->certificate.get()));
    std::unique_ptr<ASN1_TIME, Freed<ASN1_TIME_free>> at(X509_gmtime_adj(nullptr, -3600));
    X509_CRL_set1_lastUpdate(list.get(), at.get());
    X509_gmtime_adj(at.get(), 24 * 3600);
    X509_CRL_set1_nextUpdate(list.get(), at.get());
    X509_gmtime_adj(at.get(), -60);
    for (const Leaf* leaf : leaves) {
        OwnedBio in(
            BIO_new_mem_buf(leaf->certificate.data(), static_cast<int>(leaf->certificate.size())));
        OwnedCertificate one(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
        X509_REVOKED* entry = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(one.get()));
        X509_REVOKED_set_revocationDate(entry, at.get());
        X509_CRL_add0_revoked(list.get(), entry);
    }
    X509_CRL_sort(list.get());
    must(X509_CRL_sign(list.get(), pair_->key.get(), EVP_sha256()) > 0, "sign a list");
    return pem_of([&](BIO* out) { return PEM_write_bio_X509_CRL(out, list.get()); });
}

}  // namespace proxify::test
