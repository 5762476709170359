// SPDX-License-Identifier: Apache-2.0
// Wire: a host and a client that is remote, with a veth pair between them.
#pragma once

#include <unistd.h>

#include <string>

#include "support/catch.h"
#include "support/namespace.h"
#include "support/process.h"
#include "support/server.h"

namespace proxify::test {

/// Runs a line in a shell, and fails the test when it does not work.
inline std::string sh(const Namespace& where, const std::string& line) {
    auto done = run_line(where, line);
    INFO(line << "\n" << done.out << done.err);
    REQUIRE(done.exit_code == 0);
    return done.out;
}

/// As `ip ... netns PATH` takes it.
inline std::string path_of(const Namespace& where) {
    return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(where.fd());
}

/// A veth pair, of which each end has an address of each family. The kernel computes checksums and
/// cuts segments by itself, as it does for a network card that cannot.
inline void connect(const Namespace& a, const std::string& a_name, const std::string& a_v4,
                    const std::string& a_v6, const Namespace& b, const std::string& b_name,
                    const std::string& b_v4, const std::string& b_v6) {
    for (const auto* one : {&a, &b})
        sh(*one, "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    sh(a, "ip link add " + a_name + " type veth peer name " + b_name + " netns " + path_of(b));
    auto set_up = [](const Namespace& where, const std::string& name) {
        sh(where, "ethtool -K " + name +
                      " tx off rx off tso off gso off gro off >/dev/null && ip link set " + name +
                      " up");
    };
    set_up(a, a_name);
    set_up(b, b_name);
    // Once the link is there at both ends: earlier, IPv6 would lose its first question and wait for
    // a second before it asks again.
    auto add = [](const Namespace& where, const std::string& name, const std::string& v4,
                  const std::string& v6) {
        sh(where, "ip addr add " + v4 + " dev " + name + " && ip addr add " + v6 + " dev " + name +
                      " nodad");
    };
    add(a, a_name, a_v4, a_v6);
    add(b, b_name, b_v4, b_v6);
}

struct Wire {
    Namespace client = Namespace::create(), host = Namespace::create();

    Wire() {
        connect(client, "eth0", "198.51.100.7/24", "2001:db8::7/64", host, "eth0",
                "198.51.100.1/24", "2001:db8::1/64");
    }
};

/// A server for both families.
struct Both {
    Both(const Namespace& where, int port, const Handler& handler)
        : v4(where, "0.0.0.0:" + std::to_string(port), handler),
          v6(where, "[::]:" + std::to_string(port), handler) {}
    int connections() const { return v4.connections() + v6.connections(); }
    Server v4, v6;
};

}  // namespace proxify::test
