// SPDX-License-Identifier: Apache-2.0
// [[capture]]: what a file can say of doors, and what is wrong with one.
#include <catch2/catch.hpp>

#include "config/config.h"

using namespace proxify;
using config::CaptureType;

namespace {

const std::string outbound = "[[service]]\nname = 'out'\ntargets = ['original']\n";

config::Config accept(const std::string& text) {
    CAPTURE(text);
    auto config = config::parse(text, "targets.toml");
    if (!config) FAIL(config.error().text());
    return *config;
}

std::string refusal(const std::string& text) {
    CAPTURE(text);
    auto config = config::parse(text, "targets.toml");
    REQUIRE_FALSE(config);
    return config.error().text();
}

}  // namespace

TEST_CASE("each type of capture is read with what it usually does") {
    auto config = accept(outbound +
                         "[[capture]]\ntype = 'redirect'\nservice = 'out'\n"
                         "[[capture]]\ntype = 'connect'\nservice = 'out'\n"
                         "[[capture]]\ntype = 'ingress'\nports = [8000, '8443-8445']\n"
                         "[[capture]]\ntype = 'tproxy'\nports = 15012\n");
    REQUIRE(config.captures.size() == 4);
    CHECK(config.captures[0].listen == std::vector<uint16_t>{15002, 15006});
    CHECK(config.captures[0].service == "out");
    CHECK(config.captures[1].listen == std::vector<uint16_t>{15001});
    CHECK(config.captures[2].listen == std::vector<uint16_t>{15004});
    CHECK(config.captures[2].ports == std::vector<config::PortRange>{{8000, 8000}, {8443, 8445}});
    CHECK(config.captures[3].listen == std::vector<uint16_t>{15012});
    CHECK(capture_listeners(config) ==
          std::map<uint16_t, CaptureType>{{15001, CaptureType::connect},
                                          {15002, CaptureType::redirect},
                                          {15004, CaptureType::ingress},
                                          {15006, CaptureType::redirect},
                                          {15012, CaptureType::tproxy}});
}

TEST_CASE("a capture that somebody else's proxy serves needs no service and no listener") {
    auto config = accept(
        "[[capture]]\ntype = 'connect'\nproxy = '203.0.113.9:8888'\n"
        "cidr = ['203.0.113.0/24', '203.0.113.7:80', '[2001:db8::/32]:443', '2001:db8::1']\n"
        "containers = ['web:80', 'db']\nfrom_containers = ['client']\nevents = true\n"
        "[[capture]]\ntype = 'ingress'\nports = [8000]\nto_port = 9000\nhook = 'clsact'\n");
    REQUIRE(config.captures.size() == 2);
    CHECK(capture_listeners(config).empty());
    const auto& connect = config.captures[0];
    CHECK(connect.proxy == Address::parse("203.0.113.9:8888"));
    CHECK(connect.destinations ==
          std::vector<config::Destination>{{*Prefix::parse("203.0.113.0/24"), 0},
                                           {*Prefix::parse("203.0.113.7"), 80},
                                           {*Prefix::parse("2001:db8::/32"), 443},
                                           {*Prefix::parse("2001:db8::1"), 0}});
    CHECK(connect.containers == std::vector<config::ContainerSpec>{{"web", 80}, {"db", 0}});
    CHECK(connect.events);
    CHECK(config.captures[1].to_port == 9000);
    CHECK(config.captures[1].hook == config::TcHook::clsact);
    CHECK(accept("[[capture]]\ntype = 'connect'\nonly_watch = true\n").captures[0].only_watch);
}

TEST_CASE("what is wrong with a capture is said where it is written") {
    struct {
        std::string capture, what;
    } rows[] = {
        {"", "the capture has no type"},
        {"type = 'redirct'", "did you mean \"redirect\"?"},
        {"type = 'redirect'\ncidr = '10.0.0.0/8'",
         "means nothing to a capture of type \"redirect\""},
        {"type = 'redirect'\nports = [0]", "a port number from 1 to 65535"},
        {"type = 'redirect'\nports = []", "at least one port"},
        {"type = 'redirect'\nservice = 'none'", "no service is named \"none\""},
        {"type = 'redirect'\nports = [1, 1]", "a capture listens on port 1 already"},
        {"type = 'ingress'", "ports: the capture has none"},
        {"type = 'ingress'\nports = [8000, 8000]", "8000 is captured already"},
        {"type = 'ingress'\nports = ['8000-8010']\nto_port = 8005", "it is itself captured"},
        {"type = 'ingress'\nports = [15004]", "it is itself captured"},
        {"type = 'ingress'\nports = [70000]", "a number from 1 to 65535"},
        {"type = 'ingress'\nports = [80]\nto_port = 90\nservice = 'out'",
         "with to_port proxify itself gets no connections"},
        {"type = 'ingress'\nports = [80]\nlisten = [90, 91]", "one port"},
        {"type = 'connect'\nproxy = 'abc'", "expected an address and a port, found \"abc\""},
        {"type = 'connect'\nproxy = '1.2.3:80'", "\"1.2.3\" for an address, which is none"},
        {"type = 'connect'\nproxy = '1.2.3.4:99999'", "\"99999\" where its port should be"},
        {"type = 'connect'\nproxy = '1.2.3.4:80'\nlisten = 15001", "take out listen or proxy"},
        {"type = 'connect'\nproxy = '1.2.3.4:80'\nonly_watch = true",
         "take out proxy or only_watch"},
        {"type = 'connect'\ncidr = '10.0.0.1/8'", "bits beyond the first 8"},
        {"type = 'connect'\ncidr = '10.0.0.1:0'", "where its port should be"},
        {"type = 'connect'\ncontainers = 'a b'", "no name of a container"},
        {"type = 'connect'\nfrom_containers = 'a:80'", "has a port"},
        {"type = 'connect'\ncgroup = 'a'", "the full path of a cgroup"},
        {"type = 'connect'\nruntime = 'containerd'", "containerd is not supported yet"},
        {"type = 'connect'\n[[capture]]\ntype = 'connect'\nlisten = 15011", "one is enough"},
    };
    for (const auto& [capture, what] : rows) {
        auto error = refusal(outbound + "ports = 80\n[[capture]]\n" + capture);
        CAPTURE(error);
        CHECK(error.contains(what));
    }
    CHECK(refusal("[[service]]\nname = 'web'\nports = 15002\ntargets = '10.0.0.1:80'\n"
                  "[[capture]]\ntype = 'redirect'\n")
              .contains("lists port 15002, on which the [[capture]] at 5:"));
    CHECK(refusal("[proxify]\nmark = 0x10\nmark_mask = 0x01\n" + outbound + "ports = 80")
              .contains("no bit of mark_mask"));
}

TEST_CASE("the target \"original\" is no choice among others") {
    auto config = accept(
        "[[service]]\nname = 'out'\nports = 80\ntransparent = true\n"
        "targets = ['original', 'localhost:8080']\n");
    CHECK(config.services[0].goes_to_original());
    CHECK(config.services[0].transparent);
    CHECK(refusal("[[service]]\nname = 'out'\nports = 80\n"
                  "targets = [{ address = 'original', weight = 2 }]\n")
              .contains("every client goes where it aimed"));
    CHECK(refusal("[[service]]\nname = 'out'\nports = 80\ntargets = ['original', 'original']\n")
              .contains("is in this service twice"));
}

TEST_CASE("a hundred ports lead elsewhere each by a capture of its own") {
    std::string text;
    for (int i = 0; i < 120; ++i)
        text += "[[capture]]\ntype = 'ingress'\nports = " + std::to_string(8000 + i) +
                "\nto_port = " + std::to_string(9000 + i) + "\n";
    CHECK(accept(text).captures.size() == 120);
}
