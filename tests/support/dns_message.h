// SPDX-License-Identifier: Apache-2.0
// DNS messages as they go over the wire (RFC 1035, section 4), written down byte by byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"

namespace proxify::test {

struct DnsRecord {
    std::string owner;
    uint16_t type = 0;
    uint32_t ttl = 0;
    std::string data = {};
    bool operator==(const DnsRecord&) const = default;
};

inline constexpr uint16_t dns_a = 1, dns_cname = 5, dns_aaaa = 28, dns_srv = 33;

DnsRecord address_record(const std::string& owner, const Ip& ip, uint32_t ttl = 1);
DnsRecord alias_record(const std::string& owner, const std::string& name, uint32_t ttl = 1);

struct DnsService {
    uint16_t priority, weight, port;
    std::string host;
};
DnsRecord service_record(const std::string& owner, const DnsService& service, uint32_t ttl = 1);

struct DnsQuestion {
    uint16_t number = 0;
    std::string name;  ///< without a final dot
    uint16_t type = 0;
};

/// A message with one question; throws when that is not what it is.
DnsQuestion read_question(std::string_view message);

/// `outcome` is 0, or 2 for SERVFAIL, 3 for a name that does not exist. An owner that is the name
/// of the question is written as a pointer to it, as real servers do.
std::string write_reply(const DnsQuestion& question, const std::vector<DnsRecord>& answers,
                        int outcome = 0, bool is_truncated = false);

}  // namespace proxify::test
