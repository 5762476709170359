// SPDX-License-Identifier: Apache-2.0
#include "proxy_header/header.h"

#include "support/catch.h"

using namespace proxify;
using namespace proxify::proxy_header;
using namespace std::string_literals;
using namespace std::string_view_literals;
using State = Parsed::State;

namespace {

Parsed read(std::string_view text) {
    return parse(std::as_bytes(std::span(text)));
}

Address address(std::string_view text) {
    auto parsed = Address::parse(text);
    REQUIRE(parsed);
    return *parsed;
}

Header between(std::string_view source, std::string_view destination) {
    return {.ends = Ends{address(source), address(destination)}};
}

/// A header of version 2 made by hand from the text of the protocol.
std::string by_hand(char command, char family, std::string_view body) {
    std::string out("\r\n\r\n\0\r\nQUIT\n"sv);
    out += command;
    out += family;
    out += static_cast<char>(body.size() >> 8);
    out += static_cast<char>(body.size() & 0xff);
    return out.append(body);
}

constexpr auto ipv4_ends = "\xcb\x00\x71\x07\xc6\x33\x64\x01\xc9\x42\x01\xbb"sv;

}  // namespace

TEST_CASE("the examples of the protocol's own text are understood", "[proxy_header]") {
    const std::string_view line = "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    const auto parsed = read(std::string(line) + "GET / HTTP/1.1\r\n");
    REQUIRE(parsed.state == State::complete);
    CHECK(parsed.size == line.size());
    CHECK(parsed.header == between("192.168.0.1:56324", "192.168.0.11:443"));

    CHECK(read("PROXY UNKNOWN\r\n").header == Header{});
    const auto longest =
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"sv;
    CHECK(longest.size() == 107);
    CHECK(read(longest).state == State::complete);
    CHECK(read(longest).size == 107);
}

TEST_CASE("version 2 is read as it stands on the wire", "[proxy_header]") {
    const auto parsed = read(by_hand(0x21, 0x11, ipv4_ends) + "hello");
    REQUIRE(parsed.state == State::complete);
    CHECK(parsed.size == 28);
    CHECK(parsed.header == between("203.0.113.7:51522", "198.51.100.1:443"));
    CHECK(version_2(parsed.header) == by_hand(0x21, 0x11, ipv4_ends));
}

TEST_CASE("a beginning of a header is waited for, one byte at a time", "[proxy_header]") {
    Header with_tlvs = between("[2001:db8::1]:1", "[2001:db8::2]:2");
    with_tlvs.tlvs = {{authority, "example.org"}, {0xE0, ""}};
    for (const std::string& whole : {version_1(with_tlvs), version_2(with_tlvs), version_1({}),
                                     version_2({.is_local = true})}) {
        for (size_t size = 0; size < whole.size(); ++size)
            CHECK(read(std::string_view(whole).substr(0, size)).state == State::incomplete);
        CHECK(read(whole).state == State::complete);
        CHECK(read(whole).size == whole.size());
    }
    CHECK(read(version_2(with_tlvs)).header == with_tlvs);
}

TEST_CASE("LOCAL has no client, whatever else it says", "[proxy_header]") {
    for (const auto& body : {std::string(), std::string(ipv4_ends), std::string("\xee\xff\xff")}) {
        for (char family : {'\x00', '\x11', '\x21', '\x7f'}) {
            const auto parsed = read(by_hand(0x20, family, body));
            REQUIRE(parsed.state == State::complete);
            CHECK(parsed.size == 16 + body.size());
            CHECK(parsed.header == Header{.is_local = true});
        }
    }
}

TEST_CASE("families without a TCP address are passed over", "[proxy_header]") {
    CHECK(read(by_hand(0x21, 0x00, "")).header == Header{});
    CHECK(read(by_hand(0x21, 0x12, ipv4_ends)).header == Header{});              // UDP
    CHECK(read(by_hand(0x21, 0x31, std::string(216, 'x'))).header == Header{});  // unix
    const auto with_tlv = read(by_hand(0x21, 0x31, std::string(216, 'x') + "\x05\x00\x02id"s));
    CHECK(with_tlv.header.tlvs == std::vector<Tlv>{{unique_id, "id"}});
}

TEST_CASE("what is no header is told at the first byte that cannot be one", "[proxy_header]") {
    for (const char* text :
         {"G", "PROXx", "\r\n\r\nx", "\r\r", "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n"}) {
        INFO(text);
        CHECK(read(text).state == State::malformed);
        CHECK(*read(text).problem);
    }
}

TEST_CASE("version 1 takes nothing that only looks like an address or a port", "[proxy_header]") {
    for (const char* rest :
         {"TCP4 1.2.3.4 5.6.7.8 1 65536", "TCP4 1.2.3.4 5.6.7.8 -1 2", "TCP4 1.2.3.4 5.6.7.8 01 2",
          "TCP4 1.2.3.4 5.6.7.8 1", "TCP4 1.2.3.4 5.6.7.8 1 2 ", "TCP4 1.2.3 5.6.7.8 1 2",
          "TCP4 ::1 ::1 1 2", "TCP6 1.2.3.4 5.6.7.8 1 2", "TCP4  1.2.3.4 5.6.7.8 1 2",
          "tcp4 1.2.3.4 5.6.7.8 1 2", "TCP4 1.2.3.4 5.6.7.8 1 2\t", ""}) {
        INFO(rest);
        CHECK(read("PROXY " + std::string(rest) + "\r\n").state == State::malformed);
    }
    CHECK(read("PROXY TCP4 " + std::string(200, '1')).state == State::malformed);
    CHECK(read("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n").state == State::incomplete);
}

TEST_CASE("version 2 takes no lengths that lead out of it", "[proxy_header]") {
    CHECK(read(by_hand(0x21, 0x11, "short")).state == State::malformed);
    CHECK(read(by_hand(0x21, 0x11, std::string(ipv4_ends) + "\x05\x00")).state == State::malformed);
    CHECK(read(by_hand(0x21, 0x11, std::string(ipv4_ends) + "\x05\xff\xffid")).state ==
          State::malformed);
    CHECK(read(by_hand(0x11, 0x11, ipv4_ends)).state == State::malformed);  // version 1 of it
    CHECK(read(by_hand(0x22, 0x11, ipv4_ends)).state == State::malformed);  // a third command
    CHECK(read(by_hand(0x21, 0x41, ipv4_ends)).state == State::malformed);  // a fifth family
    CHECK(read(by_hand(0x21, 0x11, std::string(4081, 'x'))).state == State::malformed);
}

TEST_CASE("a checksum has to fit, and is of this header alone", "[proxy_header]") {
    // CRC-32C of the header with four zeros in its place, by a table-driven implementation.
    const std::string zeroed =
        by_hand(0x21, 0x11, std::string(ipv4_ends) + std::string("\x03\x00\x04\0\0\0\0", 7));
    uint32_t crc = ~0u;
    for (unsigned char byte : zeroed) {
        uint32_t entry = (crc ^ byte) & 0xff;
        for (int i = 0; i < 8; ++i) entry = entry & 1 ? entry >> 1 ^ 0x82F63B78u : entry >> 1;
        crc = crc >> 8 ^ entry;
    }
    crc = ~crc;
    std::string whole = zeroed;
    for (int i = 0; i < 4; ++i)
        whole[whole.size() - 4 + static_cast<size_t>(i)] = static_cast<char>(crc >> (24 - 8 * i));
    const auto parsed = read(whole);
    REQUIRE(parsed.state == State::complete);
    CHECK(parsed.header.tlvs.empty());
    CHECK(read(zeroed).state == State::malformed);
}

TEST_CASE("what is written is read again", "[proxy_header]") {
    const Header four = between("203.0.113.7:51522", "198.51.100.1:443");
    const Header six = between("[2001:db8::7]:1", "[2001:db8::1]:65535");
    CHECK(version_1(four) == "PROXY TCP4 203.0.113.7 198.51.100.1 51522 443\r\n");
    CHECK(version_1(six) == "PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n");
    for (const Header& header : {four, six}) {
        CHECK(read(version_1(header)).header == header);
        CHECK(read(version_2(header)).header == header);
    }
    // Two families: version 1 cannot say it, version 2 can.
    const Header mixed = between("203.0.113.7:1", "[2001:db8::1]:2");
    CHECK(version_1(mixed) == "PROXY UNKNOWN\r\n");
    CHECK(read(version_2(mixed)).header == mixed);
}

TEST_CASE("TLVs for which there is no room are left out, and the rest stays whole",
          "[proxy_header]") {
    Header header = between("203.0.113.7:1", "198.51.100.1:2");
    header.tlvs = {{0xE0, std::string(5000, 'x')}, {unique_id, "id"}};
    const auto parsed = read(version_2(header));
    REQUIRE(parsed.state == State::complete);
    CHECK(parsed.header.tlvs == std::vector<Tlv>{{unique_id, "id"}});
}
