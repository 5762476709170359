// SPDX-License-Identifier: Apache-2.0
#include "resolve/message.h"

#include <ares.h>

#include <algorithm>
#include <string>

namespace proxify::resolve {

namespace {

/// Walks over a message. What goes beyond the end is 0 or empty, and is_bad() from then on.
class Reader {
  public:
    explicit Reader(std::span<const uint8_t> message) : message_(message) {}

    bool is_bad() const { return is_bad_; }
    size_t at() const { return at_; }
    void go_to(size_t at) { at_ = at; }
    void require(bool holds) { is_bad_ = is_bad_ || !holds; }

    std::span<const uint8_t> bytes(size_t count) {
        if (is_bad_ || count > message_.size() - at_) {
            is_bad_ = true;
            return {};
        }
        at_ += count;
        return message_.subspan(at_ - count, count);
    }
    uint16_t u16() {
        auto two = bytes(2);
        return two.empty() ? 0 : static_cast<uint16_t>(two[0] << 8 | two[1]);
    }
    uint32_t u32() {
        const uint32_t high = u16();
        return high << 16 | u16();
    }
    /// In lower case, as text, without a final dot. Names may be shortened by pointing at others
    /// before them; c-ares follows those, and knows about circles.
    std::string name() {
        char* text = nullptr;
        long length = 0;
        if (is_bad_ || at_ >= message_.size() ||
            ares_expand_name(message_.data() + at_, message_.data(),
                             static_cast<int>(message_.size()), &text, &length) != ARES_SUCCESS) {
            is_bad_ = true;
            return {};
        }
        std::string name = text;
        ares_free_string(text);
        bytes(static_cast<size_t>(length));
        for (char& c : name)
            if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
        return name;
    }

  private:
    std::span<const uint8_t> message_;
    size_t at_ = 0;
    bool is_bad_ = false;
};

struct Record {
    std::string owner;
    uint16_t type = 0;
    Duration ttl{};
    size_t at = 0, size = 0;  ///< of what it says
};

constexpr uint16_t class_in = 1;

Record read_record(Reader& reader) {
    Record record;
    record.owner = reader.name();
    record.type = reader.u16();
    if (reader.u16() != class_in) record.type = 0;  // no type of ours
    const uint32_t ttl = reader.u32();
    record.ttl = std::chrono::seconds(ttl >> 31 ? 0 : ttl);  // RFC 2181, section 8
    record.size = reader.u16();
    record.at = reader.at();
    reader.bytes(record.size);
    return record;
}

void add(Reply& reply, const Record& record, Reader& reader) {
    reader.go_to(record.at);
    if (record.type == type_srv) {
        ServiceRecord service;
        service.priority = reader.u16();
        service.weight = reader.u16();
        service.port = reader.u16();
        service.host = reader.name() + '.';
        reader.require(reader.at() == record.at + record.size);
        // A lone dot says that the service does not exist here; nothing listens at port 0.
        if (service.host != "." && service.port != 0) reply.records.push_back(std::move(service));
        return;
    }
    Ip ip{.bytes = {}, .is_v4 = record.type == type_a};
    auto bytes = reader.bytes(ip.is_v4 ? 4 : 16);
    reader.require(bytes.size() == record.size);
    std::ranges::copy(bytes, ip.bytes.begin());
    reply.addresses.push_back(ip);
}

}  // namespace

std::optional<Reply> read_reply(std::span<const uint8_t> message) {
    Reader reader(message);
    reader.bytes(4);  // c-ares has looked at the number and the flags
    const uint16_t questions = reader.u16(), answers = reader.u16();
    reader.bytes(4);  // how long the other sections are, which do not matter here
    std::string name = reader.name();
    const uint16_t type = reader.u16();
    reader.u16();
    if (reader.is_bad() || questions != 1) return std::nullopt;

    std::vector<Record> records;
    for (int i = 0; i < answers && !reader.is_bad(); ++i) records.push_back(read_record(reader));
    if (reader.is_bad()) return std::nullopt;

    Reply reply{.ttl = Duration::max()};
    constexpr int aliases_max = 16;  // of an alias; longer chains are circles, or nobody's intent
    for (int i = 0; i < aliases_max; ++i) {
        auto alias = std::ranges::find_if(records, [&](const Record& record) {
            return record.type == type_cname && record.owner == name;
        });
        if (alias == records.end()) break;
        reader.go_to(alias->at);
        name = reader.name();
        reply.ttl = std::min(reply.ttl, alias->ttl);
    }
    for (const auto& record : records) {
        if (record.type != type || record.owner != name) continue;
        add(reply, record, reader);
        reply.ttl = std::min(reply.ttl, record.ttl);
    }
    if (reader.is_bad()) return std::nullopt;
    return reply;
}

}  // namespace proxify::resolve
