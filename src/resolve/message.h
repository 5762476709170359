// SPDX-License-Identifier: Apache-2.0
// What a DNS message (RFC 1035, section 4) says to the question in it. c-ares 1.18 has readers of
// its own, but the one for SRV leaves out the time to live.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "resolve/book.h"

namespace proxify::resolve {

/// Types of records, as they are numbered on the wire.
enum RecordType : uint16_t { type_a = 1, type_cname = 5, type_aaaa = 28, type_srv = 33 };

struct Reply {
    std::vector<Ip> addresses = {};           ///< to a question for A or AAAA
    std::vector<ServiceRecord> records = {};  ///< to one for SRV, but for those that lead nowhere
    Duration ttl{};  ///< the smallest of all records that count, aliases too
    bool is_empty() const { return addresses.empty() && records.empty(); }
};

/// Nothing when the message is malformed. Records that do not belong to the question, directly or
/// through aliases, do not count.
std::optional<Reply> read_reply(std::span<const uint8_t> message);

}  // namespace proxify::resolve
