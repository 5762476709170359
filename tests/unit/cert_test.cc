// SPDX-License-Identifier: Apache-2.0
// Certificates of one's own, judged by somebody else's program.
#include "cli/cert.h"

#include <sys/stat.h>

#include <filesystem>
#include <sstream>

#include "support/catch.h"
#include "support/kernel_test.h"

using namespace proxify;
using test::Finished;

namespace {

struct Ran {
    int exit_code;
    std::string out, err;
};

Ran cert(const std::vector<std::string>& arguments) {
    std::vector<const char*> argv{"proxify", "cert"};
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    auto options = cli::parse_options(static_cast<int>(argv.size()), argv.data());
    if (!options) return {cli::exit_usage, "", options.error().text()};
    std::ostringstream out, err;
    const int code = cli::run_cert(*options, out, err);
    return {code, out.str(), err.str()};
}

Finished openssl(const std::vector<std::string>& arguments) {
    std::vector<std::string> argv{"openssl"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return test::run({.argv = argv});
}

std::string text_of(const std::string& certificate) {
    return openssl({"x509", "-noout", "-text", "-in", certificate}).out;
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

mode_t mode_of(const std::string& path) {
    struct stat there{};
    return ::stat(path.c_str(), &there) == 0 ? there.st_mode & 07777 : 0;
}

size_t files_in(const test::TempDir& directory) {
    const std::filesystem::directory_iterator files(directory.path());
    return static_cast<size_t>(std::distance(begin(files), end(files)));
}

}  // namespace

TEST_CASE("openssl verifies a leaf by the authority that made it, for each of its names",
          "[M-14]") {
    NEEDS_PROGRAM("openssl");
    test::TempDir dir;
    const std::string ca = dir / "ca", web = dir / "web";
    REQUIRE(cert({"ca", "--out", ca}).exit_code == 0);
    auto made = cert({"leaf", "--ca", ca, "--san", "www.example.org", "--san", "198.51.100.7",
                      "--san=2001:db8::7,*.example.net", "--san", "spiffe://example.org/web",
                      "--out", web});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);

    auto verified = [&](const std::vector<std::string>& more) {
        std::vector<std::string> arguments{"verify", "-x509_strict", "-CAfile", ca + ".pem"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        arguments.push_back(web + ".pem");
        return openssl(arguments).exit_code == 0;
    };
    CHECK(verified({}));
    CHECK(verified({"-verify_ip", "198.51.100.7"}));
    CHECK(verified({"-verify_ip", "2001:db8::7"}));
    CHECK(verified({"-verify_hostname", "www.example.org"}));
    CHECK(verified({"-verify_hostname", "any.example.net"}));
    CHECK(verified({"-purpose", "sslserver"}));
    CHECK(verified({"-purpose", "sslclient"}));
    CHECK_FALSE(verified({"-verify_ip", "198.51.100.8"}));
    CHECK_FALSE(verified({"-verify_hostname", "example.org"}));

    const auto text = text_of(web + ".pem");
    INFO(text);
    CHECK(contains(text, "IP Address:198.51.100.7"));
    CHECK(contains(text, "URI:spiffe://example.org/web"));
    CHECK(contains(text, "CA:FALSE"));
    CHECK(contains(text, "NIST CURVE: P-256"));
    CHECK(contains(text, "Subject: CN = www.example.org"));
}

TEST_CASE("another authority of the same name does not vouch for a leaf", "[M-14]") {
    NEEDS_PROGRAM("openssl");
    test::TempDir dir;
    REQUIRE(cert({"ca", "--out", dir / "ca"}).exit_code == 0);
    REQUIRE(cert({"ca", "--out", dir / "other"}).exit_code == 0);
    REQUIRE(
        cert({"leaf", "--ca", dir / "ca", "--san", "a.example", "--out", dir / "a"}).exit_code ==
        0);
    CHECK(openssl({"verify", "-CAfile", dir / "other.pem", dir / "a.pem"}).exit_code != 0);
    // Nor does a leaf make leaves.
    auto refused = cert({"leaf", "--ca", dir / "a", "--san", "b.example", "--out", dir / "b"});
    CHECK(refused.exit_code == cli::exit_failed);
    CHECK(contains(refused.err, "a.pem: this certificate may not vouch for others"));
    CHECK_FALSE(std::filesystem::exists(dir / "b.pem"));
}

TEST_CASE("an authority may vouch for leaves, and lasts ten years", "[M-14]") {
    NEEDS_PROGRAM("openssl");
    test::TempDir dir;
    REQUIRE(cert({"ca", "--out", dir / "ca", "--cn", "Example authority"}).exit_code == 0);
    const auto text = text_of(dir / "ca.pem");
    INFO(text);
    CHECK(contains(text, "CA:TRUE, pathlen:0"));
    CHECK(contains(text, "Certificate Sign, CRL Sign"));
    CHECK(contains(text, "Subject: CN = Example authority"));
    auto lasts = [&](const char* file, int days) {
        return openssl(
                   {"x509", "-noout", "-in", dir / file, "-checkend", std::to_string(days * 86400)})
                   .exit_code == 0;
    };
    CHECK(lasts("ca.pem", 3649));
    CHECK_FALSE(lasts("ca.pem", 3651));

    // A leaf ends with its authority at the latest.
    REQUIRE(cert({"ca", "--out", dir / "brief", "--days", "2"}).exit_code == 0);
    REQUIRE(cert({"leaf", "--ca", dir / "brief", "--san", "a.example", "--out", dir / "leaf"})
                .exit_code == 0);
    CHECK(lasts("leaf.pem", 1));
    CHECK_FALSE(lasts("leaf.pem", 3));
}

TEST_CASE("a key can be read by its owner alone, and nothing is lost without --force") {
    test::TempDir dir;
    REQUIRE(cert({"ca", "--out", dir / "ca"}).exit_code == 0);
    CHECK(mode_of(dir / "ca.key") == 0600);
    const auto certificate = test::read_file(dir / "ca.pem");
    const auto key = test::read_file(dir / "ca.key");

    auto refused = cert({"ca", "--out", dir / "ca"});
    CHECK(refused.exit_code == cli::exit_failed);
    CHECK(contains(refused.err, "ca.pem is there already"));
    CHECK(contains(refused.err, "--force"));
    // The key alone is worth as much.
    std::filesystem::remove(dir / "ca.pem");
    refused = cert({"ca", "--out", dir / "ca"});
    CHECK(contains(refused.err, "ca.key is there already"));
    CHECK(test::read_file(dir / "ca.key") == key);
    CHECK(files_in(dir) == 1);

    std::filesystem::permissions(dir / "ca.key", std::filesystem::perms(0644));
    REQUIRE(cert({"ca", "--out", dir / "ca", "--force"}).exit_code == 0);
    CHECK(test::read_file(dir / "ca.pem") != certificate);
    CHECK(test::read_file(dir / "ca.key") != key);
    CHECK(mode_of(dir / "ca.key") == 0600);
    CHECK(files_in(dir) == 2);
}

TEST_CASE("what cannot be made is refused in words, and leaves nothing behind") {
    test::TempDir dir;
    REQUIRE(cert({"ca", "--out", dir / "ca"}).exit_code == 0);
    REQUIRE(cert({"ca", "--out", dir / "other"}).exit_code == 0);
    test::write_file(dir / "mixed.pem", test::read_file(dir / "ca.pem"));
    test::write_file(dir / "mixed.key", test::read_file(dir / "other.key"));
    test::write_file(dir / "empty.pem", "");
    test::write_file(dir / "empty.key", "");
    const size_t before = files_in(dir);
    struct {
        std::vector<std::string> arguments;
        int exit_code;
        std::string words;
    } rows[] = {
        {{"tree", "--out", "x"}, 2, "cert takes ca or leaf, found \"tree\""},
        {{"ca"}, 2, "cert ca needs --out"},
        {{"ca", "--out", "x", "--ca", "y"}, 2, "--ca means nothing to cert ca"},
        {{"ca", "--out", "x", "--san", "y"}, 2, "--san means nothing to cert ca"},
        {{"ca", "--out", "x", "--days", "0"}, 2, "--days: expected a number from 1 to 36500"},
        {{"ca", "--out", "x", "--days", "36501"}, 2, "--days: expected a number"},
        {{"ca", "--out", "x", "--days", "1d"}, 2, "found \"1d\""},
        {{"leaf", "--ca", "y", "--san", "z"}, 2, "cert leaf needs --out"},
        {{"leaf", "--out", "x", "--san", "z"}, 2, "cert leaf needs --ca"},
        {{"leaf", "--out", "x", "--ca", "y"}, 2, "cert leaf needs --san"},
        {{"leaf", "--out", "x", "--ca", "x", "--san", "z", "--force"},
         2,
         "--out x would take the place of the authority"},
        {{"leaf", "--out", dir / "x", "--ca", dir / "none", "--san", "z"},
         1,
         "none.pem: No such file or directory"},
        {{"leaf", "--out", dir / "x", "--ca", dir / "empty", "--san", "z"},
         1,
         "empty.pem: no certificate can be read from it"},
        {{"leaf", "--out", dir / "x", "--ca", dir / "mixed", "--san", "z"},
         1,
         "mixed.key: the key is not the one of the certificate in"},
        {{"leaf", "--out", dir / "x", "--ca", dir / "ca", "--san", "two words"},
         1,
         "\"two words\" is no name for a certificate"},
        {{"leaf", "--out", dir / "x", "--ca", dir / "ca", "--san", "a..b"}, 1, "is no name"},
        {{"leaf", "--out", dir / "x", "--ca", dir / "ca", "--san", "*"}, 1, "is no name"},
        {{"leaf", "--out", dir / "x", "--ca", dir / "ca", "--san", "198.51.100.0/24"},
         1,
         "is no name"},
        {{"leaf", "--out", dir / "x", "--ca", dir / "ca", "--san", "z", "--cn",
          std::string(65, 'x')},
         1,
         "the common name has 65 bytes, and may have 64"},
        {{"ca", "--out", dir / "nowhere/x"}, 1, "nowhere/x.key: No such file or directory"},
    };
    for (const auto& [arguments, exit_code, words] : rows) {
        CAPTURE(arguments);
        auto refused = cert(arguments);
        CHECK(refused.exit_code == exit_code);
        INFO(refused.err);
        CHECK(contains(refused.err, words));
        CHECK(refused.out.empty());
    }
    CHECK(files_in(dir) == before);
}

TEST_CASE("a name that is too long for a common name is a name all the same") {
    test::TempDir dir;
    const std::string label(60, 'x');
    const std::string name = label + "." + label + ".example.org";
    REQUIRE(cert({"ca", "--out", dir / "ca"}).exit_code == 0);
    auto made = cert({"leaf", "--ca", dir / "ca", "--san", name, "--out", dir / "x"});
    CHECK(made.exit_code == 0);
    CHECK(contains(made.out, "a certificate for " + name + ", good for 365 days\n"));
    const auto facts = *tls::facts_of({.name = "x.pem", .text = test::read_file(dir / "x.pem")});
    CHECK(facts.names.front() == name);
}
