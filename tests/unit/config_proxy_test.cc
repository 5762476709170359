// SPDX-License-Identifier: Apache-2.0
// accept_proxy and send_proxy: what they take, what is said of the rest, and which checks begin
// with a header.
#include "base/format.h"
#include "config/config.h"
#include "support/catch.h"

using namespace proxify;
using Tlv = config::SendProxy::Tlv;

namespace {

std::string with(const std::string& keys) {
    return "[[service]]\nname = 'web'\nports = 80\ntargets = '127.0.0.1:9001'\n" + keys;
}

config::Service service(const std::string& keys) {
    auto config = config::parse(with(keys), "targets.toml");
    if (!config) FAIL(config.error().text());
    return config->services[0];
}

std::string refusal(const std::string& keys) {
    auto config = config::parse(with(keys), "targets.toml");
    return config ? "accepted" : config.error().text();
}

}  // namespace

TEST_CASE("headers are taken from the prefixes that are written, and else from nobody") {
    CHECK(service("").accept_proxy.empty());
    CHECK(service("accept_proxy = '198.51.100.7'").accept_proxy ==
          std::vector{*Prefix::parse("198.51.100.7")});
    CHECK(service("accept_proxy = ['198.51.100.0/24', '2001:db8::/32']").accept_proxy.size() == 2);
    CHECK(refusal("accept_proxy = true").contains("accept_proxy: expected"));
    CHECK(refusal("accept_proxy = ['balancer.example']").contains("accept_proxy: "));
}

TEST_CASE("what is sent is a version, or a table") {
    CHECK(!service("").send_proxy);
    CHECK(service("send_proxy = 'v1'").send_proxy->version == 1);
    CHECK(service("send_proxy = 'v2'").send_proxy == config::SendProxy{});
    CHECK(service("send_proxy = {}").send_proxy->version == 2);
    const auto all = service(
        "send_proxy = { version = 'v2', unique_id = true, tlvs = { 0xE0 = 'blue', 0xef = '' } }");
    CHECK(all.send_proxy->unique_id);
    CHECK(all.send_proxy->tlvs == std::vector<Tlv>{{0xE0, "blue"}, {0xEF, ""}});

    CHECK(refusal("send_proxy = 'v3'").contains(R"(expected "v1" or "v2", found "v3")"));
    CHECK(refusal("send_proxy = '2'").contains(R"(did you mean "v2"?)"));
    CHECK(refusal("send_proxy = 2").contains(R"(expected "v1", "v2" or a table)"));
    CHECK(refusal("send_proxy = { uniqe_id = true }").contains(R"(did you mean "unique_id"?)"));
    for (const char* key : {"unique_id = true", "tls = true", "tlvs = { 0xE0 = 'x' }"})
        CHECK(refusal(format("send_proxy = {{ version = 'v1', {} }}", key))
                  .contains("version 1 cannot say it"));
    CHECK(refusal("send_proxy = { tls = true }").contains("no TLS with its clients"));
    CHECK(refusal("send_proxy = 'v2'\ncache = {}").contains("may answer each client otherwise"));
}

TEST_CASE("TLVs have a type of everybody's own, a text, and room") {
    auto tlvs = [](const std::string& table) {
        return refusal("send_proxy = { tlvs = " + table + " }");
    };
    for (const char* type : {"0xDF", "0xF0", "0x05", "224", "E0", "0xE"})
        CHECK(tlvs(format("{{ {} = 'x' }}", type)).contains(format("\"{}\" is no type", type)));
    CHECK(tlvs("{ 0xE0 = 1 }").contains("expected a string"));
    CHECK(tlvs("{ 0xE0 = 'a', 0xe0 = 'b' }").contains("\"0xe0\" is there twice"));
    CHECK(tlvs("['x']").contains("expected a table"));
    CHECK(tlvs(format("{{ 0xE0 = '{}' }}", std::string(2048, 'x'))) == "accepted");
    CHECK(tlvs(format("{{ 0xE0 = '{}', 0xE1 = 'x' }}", std::string(2048, 'x')))
              .contains("2049 bytes are more than 2048"));
}

TEST_CASE("checks begin as clients' connections do, unless they go elsewhere or the file says so") {
    auto version = [](const std::string& keys) { return service(keys).health.send_proxy; };
    CHECK(version("") == 0);
    CHECK(version("send_proxy = 'v1'") == 1);
    CHECK(version("send_proxy = 'v2'\nhealth = { type = 'http' }") == 2);
    CHECK(version("send_proxy = 'v2'\nhealth = { send_proxy = false }") == 0);
    CHECK(version("send_proxy = 'v2'\nhealth = { port = 81 }") == 0);
    CHECK(version("send_proxy = 'v2'\nhealth = { address = '127.0.0.2' }") == 0);
    CHECK(version("send_proxy = 'v2'\nhealth = { port = 81, send_proxy = true }") == 2);
    CHECK(version("send_proxy = 'v2'\nhealth = { type = 'exec', command = '/bin/true' }") == 0);
    CHECK(refusal("health = { send_proxy = true }").contains("the service has no send_proxy"));
    CHECK(refusal("send_proxy = 'v2'\nhealth = { send_proxy = 'v2' }")
              .contains("health.send_proxy: expected true or false"));
    CHECK(refusal("send_proxy = 'v2'\n"
                  "health = { type = 'exec', command = '/bin/true', send_proxy = true }")
              .contains("a program makes its own connections"));
}

TEST_CASE("the settings of a service say whom it believes and what it tells") {
    const auto settings =
        config::settings_of(service("accept_proxy = ['198.51.100.0/24']\n"
                                    "send_proxy = { unique_id = true, tlvs = { 0xE0 = 'blue' } }"));
    auto of = [&](std::string_view label) {
        for (const auto& [name, value] : settings)
            if (name == label) return value;
        return std::string();
    };
    CHECK(of("header") == "of PROXY, from 198.51.100.0/24");
    CHECK(of("told") == R"(a PROXY header, version 2, with unique id, 0xE0 "blue")");
    CHECK(of("health").contains("with a PROXY header"));
}
