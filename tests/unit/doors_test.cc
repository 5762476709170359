// SPDX-License-Identifier: Apache-2.0
// The commands that stand for a file with one capture.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "cli/doors.h"
#include "config/config.h"
#include "support/certificates.h"
#include "support/temp_dir.h"

using namespace proxify;

namespace {

cli::Options read(std::vector<const char*> words) {
    words.insert(words.begin(), "proxify");
    auto options = cli::parse_options(static_cast<int>(words.size()), words.data());
    if (!options) FAIL(options.error().text());
    return *options;
}

config::Config made(const std::vector<const char*>& words) {
    auto text = cli::config_text(read(words));
    if (!text) FAIL(text.error().text());
    auto config = config::parse(*text, "the command line");
    REQUIRE(config);
    return *config;
}

std::string refused(const std::vector<const char*>& words) {
    auto text = cli::config_text(read(words));
    REQUIRE_FALSE(text);
    return text.error().text();
}

/// Set for as long as this lives.
struct Environment {
    Environment(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
    ~Environment() { ::unsetenv(name_); }
    const char* name_;
};

}  // namespace

TEST_CASE("redirect listens on 15002 and 15006 and sends everybody where they aimed") {
    auto config = made({"redirect"});
    REQUIRE(config.captures.size() == 1);
    CHECK(config.captures[0].type == config::CaptureType::redirect);
    CHECK(config.captures[0].listen == std::vector<uint16_t>{15002, 15006});
    REQUIRE(config.services.size() == 1);
    CHECK(config.services[0].goes_to_original());
    CHECK(config.services[0].targets.size() == 1);
    CHECK(config.admin.socket == "/run/proxify/redirect.sock");
    CHECK(made({"redirect", "--ports", "7001,7002"}).captures[0].listen ==
          std::vector<uint16_t>{7001, 7002});
}

TEST_CASE("redirect heeds TARGET_ADDR, LOG_LEVEL and LOG_FORMAT") {
    {
        Environment target("TARGET_ADDR", "localhost:8080"), level("LOG_LEVEL", "warn"),
            form("LOG_FORMAT", "json");
        auto config = made({"redirect"});
        REQUIRE(config.services[0].targets.size() == 2);
        CHECK(config.services[0].targets[1].text == "localhost:8080");
        CHECK(config.log.level == config::LogLevel::warn);
        CHECK(config.log.format == config::LogFormat::json);
        CHECK(made({"ingress", "--map", "80:90"}).log.level == config::LogLevel::info);
    }
    Environment level("LOG_LEVEL", "loud"), form("LOG_FORMAT", "console");
    CHECK(made({"redirect"}).log == config::Log{});
    Environment target("TARGET_ADDR", "nonsense");
    CHECK(refused({"redirect"}).contains("TARGET_ADDR"));
}

TEST_CASE("intercept says who gets what") {
    auto watching = made({"intercept"}).captures[0];
    CHECK(watching.only_watch);
    CHECK_FALSE(watching.events);
    auto one = made({"intercept", "--container", "web:80", "--container", "db", "--proxy",
                     "203.0.113.9:8888", "--show-events", "--report-every", "5s", "--cidr",
                     "203.0.113.0/24,2001:db8::/32"})
                   .captures[0];
    CHECK(one.containers == std::vector<config::ContainerSpec>{{"web", 80}, {"db", 0}});
    CHECK(one.proxy == Address::parse("203.0.113.9:8888"));
    CHECK(one.events);
    CHECK(one.report_every == 5s);
    CHECK(one.destinations.size() == 2);
    auto ours = made({"intercept", "--listen", "15001", "--cgroup", "/a\"b"});
    CHECK(ours.captures[0].listen == std::vector<uint16_t>{15001});
    CHECK(ours.captures[0].cgroup == "/a\"b");
    CHECK(ours.services[0].goes_to_original());
}

TEST_CASE("ingress leads ports to ports") {
    auto config =
        made({"ingress", "--map", "8000:9000", "--map", "8443:9443", "--interface", "eth0"});
    REQUIRE(config.captures.size() == 2);
    CHECK(config.captures[1].ports == std::vector<config::PortRange>{{8443, 8443}});
    CHECK(config.captures[1].to_port == 9443);
    CHECK(config.captures[1].interfaces == std::vector<std::string>{"eth0"});
}

TEST_CASE("what is wrong with a door's flags is told apart") {
    struct {
        std::vector<const char*> words;
        std::string what;
    } rows[] = {
        {{"intercept", "--proxy", "abc"}, "--proxy: expected an address and a port"},
        {{"intercept", "--proxy", "1.2.3:80"}, "\"1.2.3\" for an address, which is none"},
        {{"intercept", "--proxy", "1.2.3.4:99999"}, "\"99999\" where its port should be"},
        {{"intercept", "--proxy", "1.2.3.4:80", "--listen", "80"}, "two things"},
        {{"intercept", "--runtime", "containerd"}, "containerd is not supported yet"},
        {{"intercept", "--container", "a b"}, "--container"},
        {{"intercept", "--cidr", "10.0.0.1/8"}, "--cidr"},
        {{"intercept", "--cgroup", "here"}, "cgroup"},
        {{"ingress"}, "which port leads where"},
        {{"ingress", "--map", "8000"}, "expected two ports"},
        {{"ingress", "--map", "8000:99999"}, "expected two ports"},
        {{"ingress", "--map", "8000:9000", "--map", "8000:9001"}, "captured already"},
        {{"ingress", "--map", "8000:9000", "--hook", "xdp"}, "hook"},
        {{"redirect", "--ports", "x"}, "--ports"},
    };
    for (const auto& [words, what] : rows) {
        CAPTURE(words);
        auto error = refused(words);
        CAPTURE(error);
        CHECK(error.contains(what));
    }
}

TEST_CASE("mesh makes a tunnel, both its doors and a service for each [M-19]") {
    const test::TempDir folder;
    const test::Authority ca("mesh CA");
    const auto leaf = ca.leaf();
    const std::string name = folder / "host1", authority = folder / "ours";
    test::write_file(authority + ".pem", ca.certificate());
    test::write_file(name + ".pem", leaf.certificate);
    test::write_file(name + ".key", leaf.key);
    auto mesh = [&](std::vector<const char*> more) {
        std::vector<const char*> words{"mesh", "--ca", authority.c_str(), "--cert", name.c_str()};
        words.insert(words.end(), more.begin(), more.end());
        return words;
    };
    auto config = made(mesh({}));
    REQUIRE(config.tunnel);
    CHECK(config.tunnel->identity.key.name == name + ".key");
    REQUIRE(config.captures.size() == 2);
    CHECK(config.captures[0].type == config::CaptureType::connect);
    CHECK(config.captures[0].listen == std::vector<uint16_t>{18000});
    CHECK(config.captures[0].address == Ip::parse("127.0.0.1"));
    CHECK(config.captures[0].service == "mesh-out");
    CHECK(config.captures[1].type == config::CaptureType::tunnel);
    CHECK(config.captures[1].listen == std::vector<uint16_t>{18001});
    CHECK(config.captures[1].service == "mesh-in");
    REQUIRE(config.services.size() == 2);
    CHECK(config.services[0].goes_through_tunnel());
    CHECK(config.services[0].timeouts.connect == 3s);
    CHECK_FALSE(config.services[1].goes_through_tunnel());
    CHECK(config.admin.socket == "/run/proxify/mesh.sock");

    config = made(mesh({"--cidr",         "2001:db8::/32",
                        "--cidr",         "203.0.113.0/24",
                        "--listen",       "19000",
                        "--tunnel-port",  "19001",
                        "--address",      "198.51.100.7",
                        "--dial-address", "203.0.113.9",
                        "--server-name",  "mesh",
                        "--allowed-name", "mesh",
                        "--ports",        "80,8000-8010",
                        "--fallback",     "plain",
                        "--max-hops",     "2",
                        "--cgroup",       "/sys/fs/cgroup/a",
                        "--show-events"}));
    CHECK(config.captures[0].listen == std::vector<uint16_t>{19000});
    CHECK_FALSE(config.captures[0].address);
    CHECK(config.captures[0].destinations.size() == 2);
    CHECK(config.captures[0].cgroup == "/sys/fs/cgroup/a");
    CHECK(config.captures[0].events);
    CHECK(config.captures[1].listen == std::vector<uint16_t>{19001});
    CHECK(config.captures[1].address == Ip::parse("198.51.100.7"));
    CHECK(config.tunnel->port == 19001);
    CHECK(config.tunnel->address == Ip::parse("203.0.113.9"));
    CHECK(config.tunnel->server_name == "mesh");
    CHECK(config.tunnel->allowed_names == std::vector<std::string>{"mesh"});
    CHECK(config.tunnel->ports == std::vector<config::PortRange>{{80, 80}, {8000, 8010}});
    CHECK(config.tunnel->fallback == config::Fallback::plain);
    CHECK(config.tunnel->max_hops == 2);

    CHECK(refused(mesh({"--fallback", "clear"})).contains("expected refuse or plain"));
    CHECK(refused(mesh({"--max-hops", "many"})).contains("a number from 1 to 16"));
    CHECK(refused(mesh({"--tunnel-port", "0"})).contains("--tunnel-port"));
    CHECK(refused({"mesh", "--cert", "/nowhere/node"}).contains("proxify cert leaf"));
}
