// SPDX-License-Identifier: Apache-2.0
#include "base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <charconv>

namespace proxify {

static constexpr std::array<uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static Ip from_v6_bytes(const uint8_t* bytes) {
    Ip ip;
    if (std::memcmp(bytes, mapped_prefix.data(), mapped_prefix.size()) == 0) {
        std::memcpy(ip.bytes.data(), bytes + mapped_prefix.size(), 4);
        return ip;
    }
    ip.is_v4 = false;
    std::memcpy(ip.bytes.data(), bytes, 16);
    return ip;
}

std::optional<Ip> Ip::parse(std::string_view text) {
    std::string terminated(text);  // inet_pton wants a zero at the end
    if (terminated.size() != std::strlen(terminated.c_str())) return std::nullopt;
    Ip ip;
    if (inet_pton(AF_INET, terminated.c_str(), ip.bytes.data()) == 1) return ip;
    uint8_t bytes[16];
    if (inet_pton(AF_INET6, terminated.c_str(), bytes) == 1) return from_v6_bytes(bytes);
    return std::nullopt;
}

bool Ip::is_loopback() const {
    if (is_v4) return bytes[0] == 127;
    static constexpr std::array<uint8_t, 16> one{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    return bytes == one;
}

std::string Ip::text() const {
    char out[INET6_ADDRSTRLEN];
    return inet_ntop(is_v4 ? AF_INET : AF_INET6, bytes.data(), out, sizeof out);
}

std::optional<Address> Address::parse(std::string_view text) {
    auto colon = text.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    auto host = text.substr(0, colon), port = text.substr(colon + 1);
    bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);

    Address address;
    auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (error != std::errc() || end != port.data() + port.size()) return std::nullopt;
    auto ip = Ip::parse(host);
    bool written_as_v6 = host.find(':') != std::string_view::npos;
    if (!ip || written_as_v6 != bracketed) return std::nullopt;
    address.ip = *ip;
    return address;
}

Address Address::from_sockaddr(const sockaddr_storage& from) {
    Address address;
    if (from.ss_family == AF_INET) {
        const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
        std::memcpy(address.ip.bytes.data(), &v4.sin_addr, 4);
        address.port = ntohs(v4.sin_port);
    } else {
        const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);
        address.ip = from_v6_bytes(v6.sin6_addr.s6_addr);
        address.port = ntohs(v6.sin6_port);
    }
    return address;
}

socklen_t Address::to_sockaddr(sockaddr_storage& out, bool as_v6) const {
    std::memset(&out, 0, sizeof(sockaddr_in6));
    if (ip.is_v4 && !as_v6) {
        auto& v4 = reinterpret_cast<sockaddr_in&>(out);
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        std::memcpy(&v4.sin_addr, ip.bytes.data(), 4);
        return sizeof v4;
    }
    auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    if (ip.is_v4) {
        std::memcpy(v6.sin6_addr.s6_addr, mapped_prefix.data(), mapped_prefix.size());
        std::memcpy(v6.sin6_addr.s6_addr + mapped_prefix.size(), ip.bytes.data(), 4);
    } else {
        std::memcpy(v6.sin6_addr.s6_addr, ip.bytes.data(), 16);
    }
    return sizeof v6;
}

std::string Address::text() const {
    return ip.is_v4 ? ip.text() + ":" + std::to_string(port)
                    : "[" + ip.text() + "]:" + std::to_string(port);
}

// ---- prefixes

static uint8_t bits_of(const Ip& ip) {
    return ip.is_v4 ? 32 : 128;
}

/// The bits of byte `index` that lie within the first `length` bits of an address.
static uint8_t mask_of_byte(size_t index, uint8_t length) {
    if (length >= index * 8 + 8) return 0xff;
    if (length <= index * 8) return 0;
    return static_cast<uint8_t>(0xff << (index * 8 + 8 - length));
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
    auto slash = text.find('/');
    auto ip = Ip::parse(text.substr(0, slash));
    if (!ip) return std::nullopt;
    Prefix prefix{*ip, bits_of(*ip)};
    if (slash == std::string_view::npos) return prefix;
    auto length = text.substr(slash + 1);
    auto [end, error] =
        std::from_chars(length.data(), length.data() + length.size(), prefix.length);
    if (error != std::errc() || end != length.data() + length.size()) return std::nullopt;
    bool has_leading_zero = length.size() > 1 && length.front() == '0';
    if (prefix.length > bits_of(*ip) || has_leading_zero) return std::nullopt;
    return prefix;
}

Prefix Prefix::network() const {
    Prefix out = *this;
    for (size_t i = 0; i < ip.bytes.size(); ++i) out.ip.bytes[i] &= mask_of_byte(i, length);
    return out;
}

Ip Prefix::last() const {
    Ip out = ip;
    for (size_t i = 0; i < bits_of(ip) / 8u; ++i)
        out.bytes[i] |= static_cast<uint8_t>(~mask_of_byte(i, length));
    return out;
}

bool Prefix::contains(const Ip& other) const {
    return Prefix{other, length}.network().ip == network().ip;
}

std::string Prefix::text() const {
    return length == bits_of(ip) ? ip.text() : ip.text() + "/" + std::to_string(length);
}

}  // namespace proxify
