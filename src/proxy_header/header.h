// SPDX-License-Identifier: Apache-2.0
// Header: what a proxy says at the beginning of a connection about the client it carries, in the
// PROXY protocol (haproxy's doc/proxy-protocol.txt, versions 1 and 2). Values and bytes only; who
// may say it is decided by whoever reads, never by what is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"

namespace proxify::proxy_header {

using Bytes = std::span<const std::byte>;

/// Types of TLVs (section 2.2.1); others are passed on as they are.
enum Type : uint8_t {
    alpn = 0x01,
    authority = 0x02,  ///< the name that the client asked for, as SNI
    crc32c = 0x03,
    noop = 0x04,
    unique_id = 0x05,
    ssl = 0x20,
    netns = 0x30,
    custom_first = 0xE0,
    custom_last = 0xEF,
};

struct Tlv {
    uint8_t type = 0;
    std::string value;
    bool operator==(const Tlv&) const = default;
};

/// Who dialled what.
struct Ends {
    Address source, destination;
    bool operator==(const Ends&) const = default;
};

struct Header {
    /// The connection is the proxy's own, a check for example: there is no client behind it.
    bool is_local = false;
    /// Unset where it says nothing of TCP: LOCAL, UNKNOWN, or a family that we do not have.
    std::optional<Ends> ends = {};
    std::vector<Tlv> tlvs = {};  ///< of version 2, in their order
    bool operator==(const Header&) const = default;
};

/// What the first bytes of a connection are.
struct Parsed {
    enum class State {
        incomplete,  ///< a beginning of a header
        complete,
        malformed,
    };
    State state = State::incomplete;
    size_t size = 0;           ///< of a complete one, in bytes
    Header header = {};        ///< of a complete one
    const char* problem = "";  ///< of a malformed one: a constant of the program
};

/// No header is longer; nobody need read further for one. What version 2 could say in 64 KiB is
/// refused beyond this.
inline constexpr size_t size_max = 4096;

/// Reads a header of either version. Linear in the size of the header.
Parsed parse(Bytes bytes);

/// "PROXY TCP4 203.0.113.7 198.51.100.1 51522 443\r\n"; UNKNOWN where the header has no ends, or
/// ends of two families.
std::string version_1(const Header& header);

/// The bytes of version 2. With ends of two families both are written as IPv6. TLVs that would make
/// it longer than size_max are left out.
std::string version_2(const Header& header);

}  // namespace proxify::proxy_header
