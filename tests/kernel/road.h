// SPDX-License-Identifier: Apache-2.0
// Road: a client and a target with a host between them, on which proxify runs. The host forwards;
// each of the others has its default route through it.
#pragma once

#include <unistd.h>

#include <string>

#include "support/kernel_test.h"

namespace proxify::test {

/// Runs a line in a shell, and fails the test when it does not work.
inline std::string must(const Namespace& where, const std::string& line) {
    auto done = run_line(where, line);
    INFO(line << "\n" << done.out << done.err);
    REQUIRE(done.exit_code == 0);
    return done.out;
}

/// What this machine lacks for rules of netfilter; nullopt when nothing.
inline std::optional<std::string> missing_for_netfilter() {
    static const auto missing = []() -> std::optional<std::string> {
        for (const char* program : {"nft", "iptables-legacy", "iptables-nft", "ip", "ss"})
            if (auto absent = missing_program(program)) return absent;
        // What they ask of the kernel, it may lack.
        const auto ns = Namespace::create();
        for (const std::string line :
             {"nft 'add table inet t; add chain inet t c { type nat hook output priority -100; }; "
              "add rule inet t c tcp dport 1 redirect to :2'",
              "nft 'add table inet u; add chain inet u c { type filter hook prerouting priority "
              "-150; }; add rule inet u c tcp dport 1 tproxy to :2'",
              "iptables-legacy -t nat -A OUTPUT -p tcp -m mark ! --mark 1 -j REDIRECT --to-port 2",
              "ip6tables-legacy -t nat -A OUTPUT -p tcp -m mark ! --mark 1 -j REDIRECT --to-port 2",
              "iptables-legacy -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 1",
              "ip6tables-legacy -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 1"})
            if (auto tried = run_line(ns, line); tried.exit_code != 0)
                return "needs `" + line + "`, which says: " + tried.err;
        return std::nullopt;
    }();
    return missing;
}

/// The addresses of the three, without brackets.
struct RoadAddresses {
    std::string name, client, host_near_client, host_near_target, target;

    std::string at(const std::string& ip, int port) const {
        return (ip.contains(':') ? "[" + ip + "]" : ip) + ":" + std::to_string(port);
    }
    std::string loopback() const { return name == "IPv4" ? "127.0.0.1" : "::1"; }
};

struct Road {
    Namespace client = new_namespace(), host = new_namespace(), target = new_namespace();

    inline static const RoadAddresses families[] = {
        {"IPv4", "198.51.100.7", "198.51.100.1", "203.0.113.1", "203.0.113.9"},
        {"IPv6", "2001:db8:1::7", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:2::9"},
    };

    Road() {
        join(client, "client0", 0);
        join(target, "target0", 1);
        must(host,
             "echo 1 >/proc/sys/net/ipv4/ip_forward && "
             "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
        for (const auto& [where, near] : {std::pair(&client, 0), std::pair(&target, 1)})
            for (const auto& of : families)
                must(*where, "ip route add default via " +
                                 (near == 0 ? of.host_near_client : of.host_near_target));
    }

  private:
    void join(const Namespace& other, const std::string& name, int near) {
        must(host, "ip link add " + name + " type veth peer name eth0 netns /proc/" +
                       std::to_string(getpid()) + "/fd/" + std::to_string(other.fd()));
        for (const auto& of : families) {
            const std::string length = of.name == "IPv4" ? "/24" : "/64 nodad";
            must(host, "ip addr add " + (near == 0 ? of.host_near_client : of.host_near_target) +
                           length + " dev " + name);
            must(other,
                 "ip addr add " + (near == 0 ? of.client : of.target) + length + " dev eth0");
        }
        must(host, "ip link set " + name + " up");
        must(other, "ip link set eth0 up");
    }
};

}  // namespace proxify::test

#define NEEDS_NETFILTER() \
    if (auto missing = ::proxify::test::missing_for_netfilter()) SKIP_TEST(*missing)
