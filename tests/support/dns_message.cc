// SPDX-License-Identifier: Apache-2.0
#include "support/dns_message.h"

#include <stdexcept>

namespace proxify::test {

static std::string two_bytes(size_t value) {
    return {static_cast<char>(value >> 8), static_cast<char>(value)};
}

static std::string four_bytes(uint32_t value) {
    return two_bytes(value >> 16) + two_bytes(value & 0xFFFF);
}

/// Labels, each after its length, and an empty one.
static std::string on_the_wire(std::string_view name) {
    std::string out;
    while (!name.empty()) {
        const auto label = name.substr(0, name.find('.'));
        out += static_cast<char>(label.size());
        out += label;
        name.remove_prefix(std::min(label.size() + 1, name.size()));
    }
    return out + '\0';
}

DnsRecord address_record(const std::string& owner, const Ip& ip, uint32_t ttl) {
    return {.owner = owner,
            .type = ip.is_v4 ? dns_a : dns_aaaa,
            .ttl = ttl,
            .data = std::string(reinterpret_cast<const char*>(ip.bytes.data()), ip.is_v4 ? 4 : 16)};
}

DnsRecord alias_record(const std::string& owner, const std::string& name, uint32_t ttl) {
    return {.owner = owner, .type = dns_cname, .ttl = ttl, .data = on_the_wire(name)};
}

DnsRecord service_record(const std::string& owner, const DnsService& service, uint32_t ttl) {
    return {.owner = owner,
            .type = dns_srv,
            .ttl = ttl,
            .data = two_bytes(service.priority) + two_bytes(service.weight) +
                    two_bytes(service.port) + on_the_wire(service.host)};
}

DnsQuestion read_question(std::string_view message) {
    auto byte = [&](size_t at) -> size_t {
        if (at >= message.size()) throw std::runtime_error("a DNS question is too short");
        return static_cast<unsigned char>(message[at]);
    };
    auto pair = [&](size_t at) { return static_cast<uint16_t>(byte(at) << 8 | byte(at + 1)); };
    if (pair(4) != 1) throw std::runtime_error("a DNS message has not one question");
    DnsQuestion question{.number = pair(0), .name = {}};
    size_t at = 12;
    for (; byte(at) != 0; at += byte(at) + 1) {
        if (!question.name.empty()) question.name += '.';
        question.name += message.substr(at + 1, byte(at));
    }
    question.type = pair(at + 1);
    return question;
}

std::string write_reply(const DnsQuestion& question, const std::vector<DnsRecord>& answers,
                        int outcome, bool is_truncated) {
    const size_t flags = 0x8580u | static_cast<unsigned>(outcome) | (is_truncated ? 0x0200u : 0u);
    std::string out = two_bytes(question.number) + two_bytes(flags) + two_bytes(1) +
                      two_bytes(answers.size()) + four_bytes(0);
    out += on_the_wire(question.name) + two_bytes(question.type) + two_bytes(1);
    for (const auto& record : answers) {
        constexpr size_t pointer_to_question = 0xC00C;
        out += record.owner == question.name ? two_bytes(pointer_to_question)
                                             : on_the_wire(record.owner);
        out += two_bytes(record.type) + two_bytes(1) + four_bytes(record.ttl) +
               two_bytes(record.data.size()) + record.data;
    }
    return out;
}

}  // namespace proxify::test
