// SPDX-License-Identifier: Apache-2.0
// Pages that take a newcomer from nothing to something that works, done as written.
#include "support/kernel_test.h"
#include "support/page.h"

using namespace proxify::test;

TEST_CASE("docs/tls.md goes from nothing to a service that knows its clients by their certificates",
          "[P-47][P-48][M-14]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("openssl");
    NEEDS_PROGRAM("curl");
    follow_page({ns, ECHO_SERVER}, "docs/tls.md", "From nothing");
}

TEST_CASE("five minutes of docs/elements.md end with an element of one's own", "[X-10][X-11]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("nc");
    NEEDS_PROGRAM("curl");
    follow_page({ns, ECHO_SERVER}, "docs/elements.md", "Five minutes");
}

TEST_CASE(
    "five minutes of docs/mesh.md end with two hosts whose traffic is encrypted [M-01][M-14]") {
    IN_NAMESPACE(ns);
    for (const char* program : {"nc", "unshare", "nsenter", "ip"}) NEEDS_PROGRAM(program);
    follow_page({ns, ECHO_SERVER}, "docs/mesh.md", "Two hosts in five minutes");
}
