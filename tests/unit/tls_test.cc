// SPDX-License-Identifier: Apache-2.0
// The client without anybody behind it; the health tests let it meet real servers.
#include "support/catch.h"
#include "tls/client.h"

using namespace proxify;
using tls::Client;

static tls::ClientContext context() {
    return *tls::ClientContext::open(/*verify=*/false);
}

TEST_CASE("a TLS client speaks first, and names the one it speaks to") {
    Client client(context(), "db.example");
    CHECK(client.state() == Client::State::shaking_hands);
    const std::string hello = client.take_to_peer();
    REQUIRE(hello.size() > 5);
    CHECK(hello[0] == 22);  // a handshake record (RFC 8446, section 5.1)
    CHECK(hello.find("db.example") != std::string::npos);
    CHECK(client.take_to_peer().empty());
    CHECK_FALSE(client.certificate_ends_in());
}

TEST_CASE("an address is no server name, and is not sent as one") {
    for (auto address : {"198.51.100.7", "2001:db8::7"}) {
        Client client(context(), address);
        CHECK(client.take_to_peer().find(address) == std::string::npos);
    }
}

TEST_CASE("a peer that does not speak TLS is a failure in words, and stays one") {
    Client client(context(), "");
    client.feed("HTTP/1.1 400 Bad Request\r\n\r\n");
    CHECK(client.state() == Client::State::failed);
    CHECK(client.error() == "wrong version number");
    client.feed("more");
    CHECK(client.state() == Client::State::failed);
}

TEST_CASE("half a record is not a failure yet") {
    Client client(context(), "");
    client.feed(std::string("\x16\x03\x03\x40\x00", 5));
    CHECK(client.state() == Client::State::shaking_hands);
}
