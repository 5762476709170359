// SPDX-License-Identifier: Apache-2.0
#include "proxy_header/header.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "base/format.h"

namespace proxify::proxy_header {
namespace {

using State = Parsed::State;
using namespace std::string_view_literals;

constexpr auto signature = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr auto version_1_begins = "PROXY "sv;
/// The longest line of version 1, with its end (section 2.1).
constexpr size_t line_max = 107;

std::string_view text_of(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Parsed malformed(const char* problem) {
    return {.state = State::malformed, .problem = problem};
}

bool may_become(std::string_view text, std::string_view beginning) {
    const size_t length = std::min(text.size(), beginning.size());
    return text.substr(0, length) == beginning.substr(0, length);
}

// ---- version 1

/// The next word of a line, which one space divides from what follows.
std::string_view take_word(std::string_view& rest) {
    const size_t end = std::min(rest.find(' '), rest.size());
    const auto word = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return word;
}

/// Decimal, without a sign or leading zeros.
std::optional<uint16_t> read_port(std::string_view word) {
    uint16_t port = 0;
    auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), port);
    const bool is_whole = error == std::errc() && end == word.data() + word.size();
    if (!is_whole || (word.size() > 1 && word.front() == '0')) return std::nullopt;
    return port;
}

/// Each address as the family of the line says, though one that is v4-mapped is IPv4 to us.
std::optional<Ip> read_ip(std::string_view word, bool is_v4) {
    if (word.contains(':') == is_v4) return std::nullopt;
    return Ip::parse(word);
}

Parsed parse_version_1(std::string_view text) {
    const size_t end = text.substr(0, line_max).find("\r\n");
    if (end == std::string_view::npos) {
        if (text.size() >= line_max) return malformed("a line of version 1 that does not end");
        return {};
    }
    Parsed parsed{.state = State::complete, .size = end + 2};
    auto rest = text.substr(version_1_begins.size(), end - version_1_begins.size());
    const auto family = take_word(rest);
    if (family == "UNKNOWN") return parsed;  // whatever else the line says (section 2.1)
    if (family != "TCP4" && family != "TCP6") return malformed("a family that is not TCP4 or TCP6");
    const bool is_v4 = family == "TCP4";
    const auto source = read_ip(take_word(rest), is_v4);
    const auto destination = read_ip(take_word(rest), is_v4);
    const auto source_port = read_port(take_word(rest));
    const auto destination_port = read_port(rest);
    if (!source || !destination) return malformed("an address that is none");
    if (!source_port || !destination_port) return malformed("a port that is none");
    parsed.header.ends = Ends{{*source, *source_port}, {*destination, *destination_port}};
    return parsed;
}

// ---- version 2

constexpr size_t fixed_size = 16;

uint16_t read_16(std::string_view at) {
    return static_cast<uint16_t>(static_cast<uint8_t>(at[0]) << 8 | static_cast<uint8_t>(at[1]));
}

void write_16(std::string& out, size_t value) {
    out += static_cast<char>(value >> 8 & 0xff);
    out += static_cast<char>(value & 0xff);
}

Ip read_ip_bytes(std::string_view bytes) {
    constexpr auto mapped = "\0\0\0\0\0\0\0\0\0\0\xff\xff"sv;
    Ip ip{.bytes = {}, .is_v4 = bytes.size() == 4 || bytes.starts_with(mapped)};
    if (bytes.size() == 16 && ip.is_v4) bytes.remove_prefix(mapped.size());
    std::memcpy(ip.bytes.data(), bytes.data(), bytes.size());
    return ip;
}

Ends read_ends(std::string_view bytes, size_t ip_size) {
    const auto ports = bytes.substr(2 * ip_size);
    return {{read_ip_bytes(bytes.substr(0, ip_size)), read_16(ports)},
            {read_ip_bytes(bytes.substr(ip_size, ip_size)), read_16(ports.substr(2))}};
}

/// CRC-32C (RFC 3720, appendix B.4): reflected, polynomial 0x1EDC6F41.
uint32_t crc_32c(std::string_view bytes) {
    uint32_t crc = ~0u;
    for (unsigned char byte : bytes) {
        crc ^= byte;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

/// Whether the header, with its checksum as 0, has the checksum that stands at `at` in it.
bool is_sound(std::string_view whole, size_t at) {
    uint32_t written = 0;
    std::string zeroed(whole);
    for (size_t i = at; i < at + 4; ++i) {
        written = written << 8 | static_cast<uint8_t>(whole[i]);
        zeroed[i] = 0;
    }
    return crc_32c(zeroed) == written;
}

Parsed parse_version_2(std::string_view text) {
    if (text.size() < fixed_size) return {};
    const auto command = static_cast<uint8_t>(text[12]), family = static_cast<uint8_t>(text[13]);
    const size_t size = fixed_size + read_16(text.substr(14));
    if (command >> 4 != 2) return malformed("a version that is neither 1 nor 2");
    if ((command & 15) > 1) return malformed("a command that is neither LOCAL nor PROXY");
    if (size > size_max) return malformed("a header of more than 4096 bytes");
    if (text.size() < size) return {};

    const auto whole = text.substr(0, size);
    Parsed parsed{.state = State::complete, .size = size};
    parsed.header.is_local = (command & 15) == 0;
    if (parsed.header.is_local) return parsed;              // whatever else it says (section 2.2)
    constexpr std::array<size_t, 4> sizes{0, 12, 36, 216};  // unspecified, IPv4, IPv6, unix
    const size_t kind = family >> 4;
    if (kind >= sizes.size()) return malformed("a family that the protocol does not have");
    auto rest = whole.substr(fixed_size);
    if (rest.size() < sizes[kind]) return malformed("less than its addresses take");
    const bool is_tcp = (kind == 1 || kind == 2) && (family & 15) == 1;
    if (is_tcp) parsed.header.ends = read_ends(rest, kind == 1 ? 4 : 16);
    rest.remove_prefix(sizes[kind]);

    while (!rest.empty()) {
        if (rest.size() < 3 || rest.size() - 3 < read_16(rest.substr(1)))
            return malformed("a TLV that is longer than the header");
        Tlv tlv{static_cast<uint8_t>(rest[0]),
                std::string(rest.substr(3, read_16(rest.substr(1))))};
        const auto value_at = static_cast<size_t>(rest.data() + 3 - whole.data());
        rest.remove_prefix(3 + tlv.value.size());
        if (tlv.type == crc32c && (tlv.value.size() != 4 || !is_sound(whole, value_at)))
            return malformed("a checksum that does not fit");
        // Both are about the bytes of this very header.
        if (tlv.type != crc32c && tlv.type != noop) parsed.header.tlvs.push_back(std::move(tlv));
    }
    return parsed;
}

}  // namespace

Parsed parse(Bytes bytes) {
    const auto text = text_of(bytes);
    if (may_become(text, signature))
        return text.size() < signature.size() ? Parsed{} : parse_version_2(text);
    if (may_become(text, version_1_begins))
        return text.size() < version_1_begins.size() ? Parsed{} : parse_version_1(text);
    return malformed("something else came");
}

std::string version_1(const Header& header) {
    const bool is_known = !header.is_local && header.ends &&
                          header.ends->source.ip.is_v4 == header.ends->destination.ip.is_v4;
    if (!is_known) return "PROXY UNKNOWN\r\n";
    const auto& [source, destination] = *header.ends;
    return format("PROXY {} {} {} {} {}\r\n", source.ip.is_v4 ? "TCP4" : "TCP6", source.ip.text(),
                  destination.ip.text(), source.port, destination.port);
}

std::string version_2(const Header& header) {
    std::string body;
    uint8_t family = 0;
    if (header.ends && !header.is_local) {
        const auto& [source, destination] = *header.ends;
        const bool is_v4 = source.ip.is_v4 && destination.ip.is_v4;
        family = is_v4 ? 0x11 : 0x21;
        for (const Ip& ip : {source.ip, destination.ip}) {
            if (ip.is_v4 && !is_v4) body += "\0\0\0\0\0\0\0\0\0\0\xff\xff"sv;
            body.append(reinterpret_cast<const char*>(ip.bytes.data()), ip.is_v4 ? 4 : 16);
        }
        write_16(body, source.port);
        write_16(body, destination.port);
    }
    for (const auto& tlv : header.tlvs) {
        if (fixed_size + body.size() + 3 + tlv.value.size() > size_max) continue;
        body += static_cast<char>(tlv.type);
        write_16(body, tlv.value.size());
        body += tlv.value;
    }
    std::string out(signature);
    out += static_cast<char>(header.is_local ? 0x20 : 0x21);
    out += static_cast<char>(family);
    write_16(out, body.size());
    return out + body;
}

}  // namespace proxify::proxy_header
