// SPDX-License-Identifier: Apache-2.0
// TLS in the file: what is read, how it is described, and what every mistake is told.
#include <algorithm>
#include <string>

#include "config/config.h"
#include "support/catch.h"
#include "support/kernel_test.h"
#include "tls/authority.h"

using namespace proxify;
using namespace std::string_literals;

namespace {

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// A directory with certificates, and the configs in it.
struct Folder {
    Folder() {
        write("ca", *tls::make_authority({.common_name = "Example authority", .days = 100}));
        leaf("site", {"www.example.org", "198.51.100.7"});
        leaf("mail", {"mail.example.org"});
        test::write_file(dir / "both.pem",
                         test::read_file(dir / "mail.pem") + test::read_file(dir / "mail.key"));
        test::write_file(dir / "text.pem", "no certificate\n");
        std::filesystem::create_directory(dir / "folder.pem");
    }

    void write(const std::string& name, const tls::Issued& made) const {
        test::write_file(dir / (name + ".pem"), made.certificate);
        test::write_file(dir / (name + ".key"), made.key);
    }
    tls::Pem pem(const std::string& name) const { return {name, test::read_file(dir / name)}; }
    void leaf(const std::string& name, std::vector<std::string> names) const {
        write(name, *tls::issue({pem("ca.pem"), pem("ca.key")},
                                {.common_name = "", .names = std::move(names)}));
    }

    Result<config::Config> parse(const std::string& keys) const {
        return config::parse(
            "[[service]]\nname = 'web'\nports = 443\ntargets = '198.51.100.1:80'\n" + keys + "\n",
            dir / "targets.toml");
    }
    config::Service service(const std::string& keys) const {
        CAPTURE(keys);
        auto config = parse(keys);
        if (!config) FAIL(config.error().text());
        return config->services[0];
    }
    std::string refusal(const std::string& keys) const {
        CAPTURE(keys);
        auto config = parse(keys);
        REQUIRE_FALSE(config);
        return config.error().text();
    }
    /// What a person reads of it, with the folder left out.
    std::string described(const std::string& keys) const {
        for (auto [label, text] : config::settings_of(service(keys))) {
            const std::string folder = dir / "";
            for (size_t at; (at = text.find(folder)) != std::string::npos;)
                text.erase(at, folder.size());
            if (label == "tls") return text;
        }
        return "";
    }

    test::TempDir dir;
};

const std::string site = "certificates = 'site.pem', key = 'site.key'";

}  // namespace

TEST_CASE("every key of tls is read, with what is in its files", "[P-47][P-48]") {
    Folder folder;
    CHECK_FALSE(folder.service("").tls);
    const auto plain = *folder.service("tls = { " + site + " }").tls;
    CHECK(plain.settings.min_version == tls::Version::tls_1_2);
    CHECK(plain.settings.alpn.empty());
    CHECK_FALSE(plain.settings.client_ca);
    CHECK_FALSE(plain.settings.require_client_certificate);
    CHECK(plain.handshake_timeout == 10s);
    CHECK(plain.max_handshakes == 0);
    REQUIRE(plain.settings.identities.size() == 1);
    CHECK(plain.settings.identities[0].certificate.name == folder.dir / "site.pem");
    CHECK(plain.settings.identities[0].key.text == test::read_file(folder.dir / "site.key"));

    const std::string digits(64, 'A');
    const auto full =
        *folder
             .service(
                 "tls = { certificates = ['site.pem', 'mail.pem'], key = ['site.key', "
                 "'mail.key'], min_version = '1.3', alpn = ['h2', 'http/1.1'], client_ca = "
                 "'ca.pem', require_client_certificate = true, allowed_names = ['a.example', "
                 "'sha256:" +
                 digits + "'], handshake_timeout = '2s', max_handshakes = 7 }")
             .tls;
    CHECK(full.settings.identities.size() == 2);
    CHECK(full.settings.min_version == tls::Version::tls_1_3);
    CHECK(full.settings.alpn == std::vector<std::string>{"h2", "http/1.1"});
    CHECK(full.settings.client_ca ==
          folder.service("tls = { " + site + ", client_ca = 'ca.pem' }").tls->settings.client_ca);
    CHECK(full.settings.require_client_certificate);
    CHECK(full.settings.allowed_names == std::vector<std::string>{"a.example", "sha256:" + digits});
    CHECK(full.handshake_timeout == 2s);
    CHECK(full.max_handshakes == 7);

    // A key may be in the file of its certificate.
    const auto both = *folder.service("tls = { certificates = 'both.pem' }").tls;
    CHECK(both.settings.identities[0].key.name == folder.dir / "both.pem");
}

TEST_CASE("every key of target_tls is read; true is as usual, false is none", "[P-47]") {
    Folder folder;
    CHECK_FALSE(folder.service("target_tls = false").target_tls);
    const auto usual = *folder.service("target_tls = true").target_tls;
    CHECK(usual == config::TargetTls{});
    CHECK(usual.settings.verify);
    const auto full = *folder
                           .service(
                               "target_tls = { ca = 'ca.pem', server_name = 'db.example', "
                               "certificate = 'site.pem', key = 'site.key', min_version = "
                               "'1.3', alpn = 'pg', allowed_names = 'spiffe://example/db' }")
                           .target_tls;
    CHECK(full.settings.ca->text == test::read_file(folder.dir / "ca.pem"));
    CHECK(full.server_name == "db.example");
    CHECK(full.settings.identity->key.text == test::read_file(folder.dir / "site.key"));
    CHECK(full.settings.min_version == tls::Version::tls_1_3);
    CHECK(full.settings.alpn == std::vector<std::string>{"pg"});
    CHECK(full.settings.allowed_names == std::vector<std::string>{"spiffe://example/db"});
    CHECK_FALSE(folder.service("target_tls = { verify = false }").target_tls->settings.verify);
}

TEST_CASE("check says in words what TLS does", "[P-47][P-48]") {
    Folder folder;
    CHECK(folder.described("") == "");
    CHECK(folder.described("tls = { " + site + " }") ==
          "with clients: TLS 1.2 or newer, www.example.org, 198.51.100.7");
    CHECK(folder.described("tls = { certificates = ['both.pem'], min_version = '1.3', client_ca = "
                           "'ca.pem', alpn = ['h2', 'http/1.1'] }") ==
          "with clients: TLS 1.3, mail.example.org; protocols h2, http/1.1; clients may show a "
          "certificate by ca.pem");
    CHECK(folder.described("tls = { certificates = 'both.pem', client_ca = 'ca.pem', "
                           "require_client_certificate = true, allowed_names = ['a', 'b', 'c', "
                           "'d', 'e'], handshake_timeout = '5s', max_handshakes = 1 }") ==
          "with clients: TLS 1.2 or newer, mail.example.org; clients need a certificate by ca.pem "
          "for a, b, c, d and 1 more; hands are shaken within 5s; at most 1 handshake at once");
    CHECK(folder.described("target_tls = true") ==
          "with targets: TLS 1.2 or newer; verified by this host's authorities");
    CHECK(folder.described("tls = { certificates = 'both.pem' }\ntarget_tls = { verify = false, "
                           "server_name = 'db.example', certificate = 'both.pem' }") ==
          "with clients: TLS 1.2 or newer, mail.example.org; with targets: TLS 1.2 or newer, as "
          "db.example; not verified; shown: mail.example.org");
}

TEST_CASE("every mistake about TLS is told where it is, and what to do", "[P-47][P-48]") {
    Folder folder;
    const std::string long_word(256, 'x');
    struct {
        std::string keys, words, hint;
    } rows[] = {
        {"tls = true", "5:7: tls: expected a table like { certificates = \"site.pem\" }", ""},
        {"tls = {}", "5:7: tls.certificates: there is none", "certificates = \"site.pem\""},
        {"tls = { certificates = [] }", "tls.certificates: there is none", ""},
        {"tls = { certificates = 5 }", "tls.certificates: expected the path of a file, found 5",
         ""},
        {"tls = { certificates = '' }", "tls.certificates: expected the path of a file", ""},
        {"tls = { certificate = 'site.pem' }", "unknown key \"certificate\" in tls",
         "did you mean \"certificates\"?"},
        {"tls = { certificates = 'none.pem' }", "/none.pem: No such file or directory",
         "a relative path begins in the folder of the file that names it"},
        {"tls = { certificates = 'folder.pem' }", "/folder.pem: it is a directory", ""},
        {"tls = { certificates = 'text.pem' }", "/text.pem: no certificate can be read from it",
         ""},
        {"tls = { certificates = 'site.pem' }", "/site.pem: no private key can be read from it",
         "in PEM without a passphrase"},
        {"tls = { certificates = 'site.pem', key = 'mail.key' }",
         "/mail.key: the key is not the one of the certificate in", ""},
        {"tls = { certificates = ['site.pem', 'mail.pem'], key = 'site.key' }",
         "tls.key: there are 1 for 2 certificates", "name one for each, in the same order"},
        {"tls = { " + site + ", min_version = '1.1' }", "tls.min_version", "\"1.2\""},
        {"tls = { " + site + ", min_version = 1.2 }", "tls.min_version", "\"1.2\""},
        {"tls = { " + site + ", alpn = '' }", "tls.alpn", "like \"h2\""},
        {"tls = { " + site + ", alpn = ['" + long_word + "'] }", "tls.alpn", "like \"h2\""},
        {"tls = { " + site + ", client_ca = 'text.pem' }",
         "/text.pem: no certificate of an authority can be read from it",
         "-----BEGIN CERTIFICATE-----"},
        {"tls = { " + site + ", client_ca = ['ca.pem', 'ca.pem'] }",
         "tls.client_ca: expected the path of one file", ""},
        {"tls = { " + site + ", require_client_certificate = true }",
         "tls.require_client_certificate: nobody vouches for clients", "client_ca = \"ca.pem\""},
        {"tls = { " + site + ", client_ca = 'ca.pem', allowed_names = ['a', 'b', 'a'] }",
         "tls.allowed_names: \"a\" is there twice", ""},
        {"tls = { " + site + ", allowed_names = 'a' }",
         "tls.allowed_names: nobody vouches for clients", "client_ca"},
        {"tls = { " + site + ", crl = 'ca.pem' }", "tls.crl: nobody vouches for clients",
         "client_ca"},
        {"tls = { " + site + ", client_ca = 'ca.pem', crl = 'ca.pem' }",
         "/ca.pem: no list of revoked certificates can be read from it",
         "-----BEGIN X509 CRL-----"},
        {"tls = { " + site + ", client_ca = 'ca.pem', allowed_names = 'sha256:00' }",
         "tls.allowed_names: \"sha256:00\" is not a fingerprint of 64 hexadecimal digits",
         "openssl x509 -noout -fingerprint -sha256"},
        {"tls = { " + site + ", handshake_timeout = '0s' }", "tls.handshake_timeout", ""},
        {"tls = { " + site + ", max_handshakes = 0 }", "tls.max_handshakes", ""},
        {"target_tls = 1", "target_tls: expected true, or a table like { ca = \"ca.pem\" }", ""},
        {"target_tls = { ca = 'none.pem' }", "target_tls.ca: cannot read", "a relative path"},
        {"target_tls = { ca = 'text.pem' }", "/text.pem: no certificate of an authority", ""},
        {"target_tls = { verify = false, ca = 'ca.pem' }",
         "target_tls.ca: verify = false, so nothing is", "take out one of the two"},
        {"target_tls = { certificate = ['both.pem', 'both.pem'] }",
         "target_tls.certificate: expected the path of one file", ""},
        {"target_tls = { key = 'site.key' }", "target_tls.key: there are 1 for 0 certificates", ""},
        {"target_tls = { certificate = 'site.pem', key = 'mail.key' }",
         "/mail.key: the key is not the one of the certificate in", ""},
        {"target_tls = { server_name = '' }", "target_tls.server_name", ""},
        {"target_tls = { sni = 'a' }", "unknown key \"sni\" in target_tls", ""},
    };
    for (const auto& [keys, words, hint] : rows) {
        const auto told = folder.refusal(keys);
        INFO(told);
        CHECK(contains(told, words));
        CHECK(contains(told, hint));
        CHECK_FALSE(contains(told, "with the code"));
    }
}

TEST_CASE("a key with a passphrase is refused, and nobody is asked for it", "[P-47]") {
    NEEDS_PROGRAM("openssl");
    Folder folder;
    REQUIRE(test::run({.argv = {"openssl", "ec", "-in", folder.dir / "site.key", "-aes256",
                                "-passout", "pass:secret", "-out", folder.dir / "locked.key"}})
                .exit_code == 0);
    CHECK(contains(folder.refusal("tls = { certificates = 'site.pem', key = 'locked.key' }"),
                   "in PEM without a passphrase"));
}
