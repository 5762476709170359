// SPDX-License-Identifier: Apache-2.0
#include "tls/authority.h"

#include <algorithm>
#include <cctype>
#include <span>

#include "base/address.h"
#include "base/format.h"
#include "tls/openssl.h"

namespace proxify::tls {

namespace {

using OwnedExtension = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;
using OwnedNumber = std::unique_ptr<BIGNUM, Freed<BN_free>>;

constexpr size_t common_name_max = 64;  // RFC 5280, ub-common-name

Error broken(std::string_view what) {
    return Error::of(format("cannot {}: {}", what, words_of_error()));
}

bool is_dns_name(std::string_view name) {
    if (name.starts_with("*.")) name.remove_prefix(2);
    if (name.empty() || name.size() > 253) return false;
    for (size_t begin = 0; begin <= name.size();) {
        const size_t end = std::min(name.find('.', begin), name.size());
        const auto label = name.substr(begin, end - begin);
        const bool is_good = std::ranges::all_of(label, [](unsigned char c) {
            return c < 0x80 && (std::isalnum(c) || c == '-' || c == '_');
        });
        if (label.empty() || label.size() > 63 || !is_good) return false;
        begin = end + 1;
    }
    return true;
}

bool is_uri(std::string_view name) {
    const size_t colon = name.find("://");
    if (colon == 0 || colon == name.npos || name.size() > 2048) return false;
    return std::ranges::all_of(name, [](unsigned char c) { return c > ' ' && c < 0x7f; });
}

/// As GENERAL_NAME takes it: what it is, and its text.
Result<std::pair<int, std::string>> kind_of(const std::string& name) {
    if (Ip::parse(name)) return std::pair(GEN_IPADD, name);
    if (is_uri(name)) return std::pair(GEN_URI, name);
    if (is_dns_name(name)) return std::pair(GEN_DNS, name);
    return fail(Error::of(format("\"{}\" is no name for a certificate", name),
                          "write www.example.org, *.example.org, 198.51.100.7, 2001:db8::7 "
                          "or spiffe://example.org/web"));
}

Result<> add_names(X509* certificate, const std::vector<std::string>& names) {
    using Names = std::unique_ptr<GENERAL_NAMES, Freed<GENERAL_NAMES_free>>;
    if (names.empty()) return {};
    Names all(GENERAL_NAMES_new());
    for (const auto& name : names) {
        TRY_TO(kind, kind_of(name));
        GENERAL_NAME* one =
            a2i_GENERAL_NAME(nullptr, nullptr, nullptr, kind.first, kind.second.c_str(), 0);
        if (!one || sk_GENERAL_NAME_push(all.get(), one) == 0) {
            GENERAL_NAME_free(one);
            return fail(broken(format("write the name \"{}\"", name)));
        }
    }
    if (X509_add1_ext_i2d(certificate, NID_subject_alt_name, all.get(), 0, X509V3_ADD_DEFAULT) != 1)
        return fail(broken("write the names"));
    return {};
}

Result<> add_extension(X509* certificate, X509* issuer, int nid, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    OwnedExtension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
    if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1)
        return fail(broken(format("write the extension {}", OBJ_nid2sn(nid))));
    return {};
}

/// Random, so that two certificates of one authority are told apart (RFC 5280, section 4.1.2.2).
bool set_serial(X509* certificate) {
    OwnedNumber number(BN_new());
    return number && BN_rand(number.get(), 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
           BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate));
}

std::string text_in(BIO* bio) {
    const char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    return {data, static_cast<size_t>(size)};
}

/// `issuer` and `issuer_key` are null for one that vouches for itself.
Result<Issued> make(const Wanted& wanted, X509* issuer, EVP_PKEY* issuer_key) {
    ERR_clear_error();
    OwnedKey key(EVP_EC_gen("P-256"));
    OwnedCertificate made(X509_new());
    if (!key || !made) return fail(broken("make a key"));
    X509* certificate = made.get();
    // Somebody's clock is always a little behind.
    constexpr long earlier = -300;
    if (X509_set_version(certificate, X509_VERSION_3) != 1 || !set_serial(certificate) ||
        X509_set_pubkey(certificate, key.get()) != 1 ||
        !X509_gmtime_adj(X509_getm_notBefore(certificate), earlier) ||
        !X509_time_adj_ex(X509_getm_notAfter(certificate), wanted.days, 0, nullptr))
        return fail(broken("make a certificate"));
    if (issuer &&
        ASN1_TIME_compare(X509_get0_notAfter(issuer), X509_get0_notAfter(certificate)) < 0)
        X509_set1_notAfter(certificate, X509_get0_notAfter(issuer));

    X509_NAME* subject = X509_get_subject_name(certificate);
    const auto* name = reinterpret_cast<const unsigned char*>(wanted.common_name.data());
    if (X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, name,
                                   static_cast<int>(wanted.common_name.size()), -1, 0) != 1 ||
        X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : subject) != 1)
        return fail(broken(format("write the subject \"{}\"", wanted.common_name)));

    struct Extension {
        int nid;
        const char* value;
    };
    static constexpr Extension of_authority[] = {
        {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
        {NID_key_usage, "critical,keyCertSign,cRLSign"},
    };
    static constexpr Extension of_leaf[] = {
        {NID_basic_constraints, "critical,CA:FALSE"},
        {NID_key_usage, "critical,digitalSignature"},
        {NID_ext_key_usage, "serverAuth,clientAuth"},
    };
    const std::span<const Extension> extensions =
        issuer ? std::span<const Extension>(of_leaf) : std::span<const Extension>(of_authority);
    for (const auto& [nid, value] : extensions) TRY(add_extension(certificate, issuer, nid, value));
    TRY(add_extension(certificate, issuer, NID_subject_key_identifier, "hash"));
    // Without it two authorities of one name cannot be told apart.
    TRY(add_extension(certificate, issuer ? issuer : certificate, NID_authority_key_identifier,
                      "keyid:always"));
    TRY(add_names(certificate, wanted.names));
    if (X509_sign(certificate, issuer_key ? issuer_key : key.get(), EVP_sha256()) == 0)
        return fail(broken("sign the certificate"));

    OwnedBio certificate_text(BIO_new(BIO_s_mem())), key_text(BIO_new(BIO_s_secmem()));
    if (!certificate_text || !key_text ||
        PEM_write_bio_X509(certificate_text.get(), certificate) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                      nullptr) != 1)
        return fail(broken("write the certificate"));
    return Issued{.certificate = text_in(certificate_text.get()),
                  .key = text_in(key_text.get()),
                  .facts = facts_of(certificate)};
}

Result<> check(const Wanted& wanted) {
    if (wanted.common_name.size() > common_name_max)
        return fail(Error::of(format("the common name has {} bytes, and may have {}",
                                     wanted.common_name.size(), common_name_max)));
    return {};
}

int no_passphrase(char*, int, int, void*) {
    return 0;
}

}  // namespace

Result<Issued> make_authority(const Wanted& wanted) {
    TRY(check(wanted));
    return make(wanted, nullptr, nullptr);
}

Result<Issued> issue(const Identity& authority, const Wanted& wanted) {
    Wanted filled = wanted;
    // A longer name is a name all the same: it stands among the others, which is where peers look.
    if (filled.common_name.empty() && !filled.names.empty())
        filled.common_name =
            filled.names.front().size() <= common_name_max ? filled.names.front() : "leaf";
    TRY(check(filled));
    ERR_clear_error();
    OwnedBio certificate_text(BIO_new_mem_buf(authority.certificate.text.data(),
                                              static_cast<int>(authority.certificate.text.size())));
    OwnedBio key_text(
        BIO_new_mem_buf(authority.key.text.data(), static_cast<int>(authority.key.text.size())));
    OwnedCertificate issuer(
        PEM_read_bio_X509(certificate_text.get(), nullptr, no_passphrase, nullptr));
    if (!issuer)
        return fail(Error::of(format("{}: no certificate can be read from it: {}",
                                     authority.certificate.name, words_of_error()),
                              "it should be in PEM: -----BEGIN CERTIFICATE-----"));
    if (X509_check_ca(issuer.get()) != 1)
        return fail(Error::of(
            format("{}: this certificate may not vouch for others", authority.certificate.name),
            "make an authority with: proxify cert ca --out NAME"));
    OwnedKey key(PEM_read_bio_PrivateKey(key_text.get(), nullptr, no_passphrase, nullptr));
    if (!key)
        return fail(
            Error::of(format("{}: no private key can be read from it: {}", authority.key.name,
                             words_of_error()),
                      "it should be in PEM without a passphrase: -----BEGIN PRIVATE KEY-----"));
    if (X509_check_private_key(issuer.get(), key.get()) != 1) {
        ERR_clear_error();
        return fail(Error::of(format("{}: the key is not the one of the certificate in {}",
                                     authority.key.name, authority.certificate.name)));
    }
    if (X509_cmp_current_time(X509_get0_notAfter(issuer.get())) < 0)
        return fail(Error::of(format("{}: the authority has expired", authority.certificate.name),
                              "make another with: proxify cert ca --out NAME --force"));
    return make(filled, issuer.get(), key.get());
}

}  // namespace proxify::tls
