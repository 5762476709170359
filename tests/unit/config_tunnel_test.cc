// SPDX-License-Identifier: Apache-2.0
// [tunnel], and what goes into it and comes out of it: what a file can say, and what is wrong.
#include <catch2/catch.hpp>

#include <algorithm>

#include "config/config.h"
#include "support/certificates.h"
#include "support/temp_dir.h"

using namespace proxify;
using config::CaptureType;
using test::Authority;

namespace {

struct Files {
    Authority ca{"mesh CA"};
    test::TempDir folder;

    Files() {
        const auto leaf = ca.leaf({.cn = "node", .names = {"IP:198.51.100.7"}});
        test::write_file(folder / "ca.pem", ca.certificate());
        test::write_file(folder / "node.pem", leaf.certificate);
        test::write_file(folder / "node.key", leaf.key);
        test::write_file(folder / "both.pem", leaf.both());
    }
    auto parse(const std::string& text) const {
        return config::parse(text, folder / "targets.toml");
    }
    config::Config accept(const std::string& text) const {
        CAPTURE(text);
        auto config = parse(text);
        if (!config) FAIL(config.error().text());
        return *config;
    }
    std::string refusal(const std::string& text) const {
        CAPTURE(text);
        auto config = parse(text);
        REQUIRE_FALSE(config);
        return config.error().text();
    }
};

const std::string files = "certificate = 'node.pem'\nkey = 'node.key'\nca = 'ca.pem'\n";
const std::string least = "[tunnel]\n" + files;
const std::string out = "[[service]]\nname = 'out'\nports = 80\ntargets = ['tunnel']\n";
const std::string door = "[[capture]]\ntype = 'tunnel'\n";

}  // namespace

TEST_CASE("a tunnel is read with what it usually does [M-19]") {
    const Files here;
    const auto config = here.accept(least + out + door);
    REQUIRE(config.tunnel);
    const auto& tunnel = *config.tunnel;
    CHECK(tunnel.identity.key.name == here.folder / "node.key");
    CHECK(tunnel.ca.text == here.ca.certificate());
    CHECK(tunnel.port == 18001);
    CHECK(tunnel.fallback == config::Fallback::refuse);
    CHECK(tunnel.max_hops == 4);
    CHECK(tunnel.may_reach(1));
    CHECK(config.captures[0].listen == std::vector<uint16_t>{18001});
    CHECK(config.services[0].goes_through_tunnel());
    CHECK(config.services[0].goes_to_original());
    CHECK(config.services[0].targets[0].port.value == 18001);
    CHECK(pems_of(config).size() == 3);
    // Nothing older, and nobody without a certificate.
    CHECK(tunnel.server_settings().min_version == tls::Version::tls_1_3);
    CHECK(tunnel.server_settings().require_client_certificate);
    CHECK(tunnel.client_settings().verify);
    CHECK(describe(config).contains("where the client aimed, through its port 18001"));
    CHECK(describe(config).contains("all ports but proxify's own"));
}

TEST_CASE("all of a tunnel can be said otherwise [M-19]") {
    const Files here;
    const auto config = here.accept(
        "[tunnel]\ncertificate = 'both.pem'\nca = 'ca.pem'\nport = 19001\naddress = '203.0.113.9'\n"
        "server_name = 'mesh'\nallowed_names = ['mesh', 'node']\nports = [80, '8000-8010']\n"
        "fallback = 'plain'\nmax_hops = 2\n" +
        out + door + "listen = 19001\naddress = '198.51.100.7'\n" +
        "[[capture]]\ntype = 'connect'\nlisten = 18000\naddress = '127.0.0.1'\n");
    const auto& tunnel = *config.tunnel;
    CHECK(tunnel.identity.key == tunnel.identity.certificate);
    CHECK(tunnel.address == Ip::parse("203.0.113.9"));
    CHECK(tunnel.fallback == config::Fallback::plain);
    CHECK(tunnel.may_reach(80));
    CHECK(tunnel.may_reach(8010));
    CHECK_FALSE(tunnel.may_reach(8011));
    CHECK(config.services[0].targets[0].port.value == 19001);
    CHECK(capture_addresses(config) == std::map<uint16_t, Ip>{{18000, *Ip::parse("127.0.0.1")},
                                                              {19001, *Ip::parse("198.51.100.7")}});
    const auto text = describe(config);
    for (const char* part : {"expects mesh", "ports 80, 8000-8010", "go in the clear",
                             "2 tunnels in a row", "at 198.51.100.7"}) {
        INFO(text);
        const auto is_space = [](char a, char b) { return a == ' ' && b == ' '; };
        std::string narrow = text;
        narrow.erase(std::ranges::unique(narrow, is_space).begin(), narrow.end());
        CHECK(narrow.contains(part));
    }
}

TEST_CASE("what is wrong with a tunnel is said where it is written") {
    const Files here;
    struct {
        std::string text, what;
    } rows[] = {
        {out, "\"tunnel\" needs a [tunnel]"},
        {door + "service = 'out'\n" + out, "a capture of type \"tunnel\" needs a [tunnel]"},
        {"[tunnel]\nca = 'ca.pem'\n" + out, "tunnel.certificate: there is none"},
        {"[tunnel]\ncertificate = 'both.pem'\n" + out, "tunnel.ca: there is none"},
        {"[tunnel]\ncertificate = 'gone.pem'\nca = 'ca.pem'\n" + out, "gone.pem"},
        {"[tunnel]\ncertificate = 'ca.pem'\nca = 'ca.pem'\n" + out, "ca.pem"},
        {least + "port = 0\n" + out, "port"},
        {least + "address = 'here'\n" + out, "expected an IP address"},
        {least + "fallback = 'clear'\n" + out, "expected \"refuse\" or \"plain\""},
        {least + "max_hops = 17\n" + out, "max_hops"},
        {least + "hops = 3\n" + out, "unknown key \"hops\""},
        {least + out + "target_tls = true\n", "the tunnel is encrypted already"},
        {least + out + "send_proxy = 'v2'\n", "begins with the client's own bytes"},
        {least + "[[service]]\nname = 'out'\nports = 80\ntargets = ['tunnel', 'original']\n",
         "lead to the same place"},
        {least + out + door + "cidr = '10.0.0.0/8'\n", "means nothing to a capture"},
        {least + out + "[[capture]]\ntype = 'connect'\naddress = '198.51.100.7'\n",
         "an address of loopback"},
    };
    for (const auto& [text, what] : rows) {
        const auto said = here.refusal(text);
        INFO(said);
        CHECK(said.contains(what));
    }
}
