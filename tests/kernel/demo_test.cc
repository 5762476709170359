// SPDX-License-Identifier: Apache-2.0
// `./dev demo NAME`, which people are shown: each runs to its end as it stands, and leaves nothing.
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

std::string namespaces() {
    return run({.argv = {"ip", "netns", "list"}}).out;
}

void show(const std::string& door) {
    IN_NAMESPACE(ns);  // for its privileges
    NEEDS_PROGRAM("nft");
    NEEDS_PROGRAM("socat");
    NEEDS_PROGRAM("curl");
    NEEDS_PROGRAM("nginx");
    NEEDS_PROGRAM("nc");
    auto shown = run({.argv = {"bash", source_root() + "/tests/demo/" + door + ".sh"},
                      .directory = source_root(),
                      .environment = {"PROXIFY=" + proxify_binary(), "ECHO_SERVER=" ECHO_SERVER}},
                     60s);
    INFO(shown.out);
    INFO(shown.err);
    CHECK(shown.exit_code == 0);
    CHECK(shown.out.contains("hello") == (door != "ingress"));
    CHECK_FALSE(namespaces().contains("proxify-demo"));
}

}  // namespace

TEST_CASE("the demonstration of redirect runs and cleans up") {
    show("redirect");
}

TEST_CASE("the demonstration of ingress runs and cleans up") {
    show("ingress");
}

TEST_CASE("the demonstration of tproxy runs and cleans up") {
    show("tproxy");
}

TEST_CASE("the demonstration of connect runs and cleans up", "[B-25]") {
    show("connect");
}
