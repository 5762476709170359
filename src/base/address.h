// SPDX-License-Identifier: Apache-2.0
// Ip and Address: values, compared and hashed by content, printed as people write them.
#pragma once

#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace proxify {

/// An IP address in network byte order. IPv4 is itself here, never a v4-mapped IPv6 address:
/// ::ffff:10.0.0.7 becomes 10.0.0.7 on the way in.
struct Ip {
    std::array<uint8_t, 16> bytes{};  ///< IPv4 uses the first four
    bool is_v4 = true;

    static Ip v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) { return {{a, b, c, d}, true}; }
    /// "127.0.0.1", "::1" (no brackets); nullopt when it is neither.
    static std::optional<Ip> parse(std::string_view text);

    bool is_loopback() const;
    std::string text() const;
    auto operator<=>(const Ip&) const = default;
};

/// Where a socket is or wants to go. The port is in host byte order.
struct Address {
    Ip ip;
    uint16_t port = 0;

    /// "127.0.0.1:80", "[::1]:80"; nullopt when it is neither.
    static std::optional<Address> parse(std::string_view text);
    static Address from_sockaddr(const sockaddr_storage& from);

    /// Fills `out` and gives its length. `as_v6` writes IPv4 as v4-mapped, for an AF_INET6 socket.
    socklen_t to_sockaddr(sockaddr_storage& out, bool as_v6 = false) const;

    std::string text() const;
    auto operator<=>(const Address&) const = default;
};

/// The addresses of one family whose first `length` bits are those of `ip`.
struct Prefix {
    Ip ip;
    uint8_t length = 32;

    /// "10.0.0.0/8", "2001:db8::/32", or an address alone, which is all of its bits; nullopt when
    /// it is none of these.
    static std::optional<Prefix> parse(std::string_view text);

    /// With every bit beyond the length set to 0, as a prefix is written.
    Prefix network() const;
    /// The last address that it holds.
    Ip last() const;
    bool contains(const Ip& other) const;
    std::string text() const;
    auto operator<=>(const Prefix&) const = default;
};

}  // namespace proxify

template <>
struct std::hash<proxify::Address> {
    size_t operator()(const proxify::Address& address) const {
        uint64_t high, low;
        std::memcpy(&high, address.ip.bytes.data(), 8);
        std::memcpy(&low, address.ip.bytes.data() + 8, 8);
        return (high * 0x9E3779B97F4A7C15u) ^ (low * 0xC2B2AE3D27D4EB4Fu) ^ address.port;
    }
};
