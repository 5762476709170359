// SPDX-License-Identifier: Apache-2.0
#include "hello/hello.h"

#include <algorithm>
#include <optional>

namespace proxify::hello {

namespace {

// RFC 8446, sections 5.1, 4 and 4.2.
constexpr unsigned char handshake_record = 22, client_hello = 1;
constexpr size_t record_max = 16 * 1024, message_header = 4;
constexpr size_t server_name_extension = 0, alpn_extension = 16;
constexpr size_t host_name = 0, host_name_max = 255;

constexpr std::string_view too_long = "it is too long";

/// Takes numbers, and byte strings behind their length, from the front of some bytes. Once there
/// was less than it took it has failed, and gives zeros and nothing.
class Parts {
  public:
    explicit Parts(std::string_view bytes) : bytes_(bytes) {}

    size_t number(size_t size) {
        size_t out = 0;
        for (char c : bytes(size)) out = out << 8 | static_cast<unsigned char>(c);
        return out;
    }
    std::string_view bytes(size_t size) {
        if (size > bytes_.size()) {
            has_failed_ = true;
            bytes_ = {};
            return {};
        }
        auto out = bytes_.substr(0, size);
        bytes_.remove_prefix(size);
        return out;
    }
    /// Behind its length, which is a number of so many bytes.
    std::string_view vector(size_t size_of_length) { return bytes(number(size_of_length)); }

    bool is_empty() const { return bytes_.empty(); }
    bool has_failed() const { return has_failed_; }

  private:
    std::string_view bytes_;
    bool has_failed_ = false;
};

/// Nothing when the list is malformed, or names two; empty when it names no host.
std::optional<std::string_view> host_in(std::string_view extension) {
    Parts outer(extension);
    Parts list(outer.vector(2));
    std::string_view host;
    bool is_good = !list.is_empty() && outer.is_empty();
    while (is_good && !list.is_empty()) {
        const size_t type = list.number(1);
        const auto name = list.vector(2);
        if (type != host_name) continue;
        is_good = host.empty() && !name.empty() && name.size() <= host_name_max &&
                  std::ranges::all_of(name, [](char c) { return c > ' ' && c < 0x7f; });
        host = name;
    }
    if (!is_good || list.has_failed()) return {};
    return host;
}

std::optional<std::string_view> protocols_in(std::string_view extension) {
    Parts outer(extension);
    const auto protocols = outer.vector(2);
    Parts list(protocols);
    bool is_good = !list.is_empty() && outer.is_empty();
    while (is_good && !list.is_empty()) is_good = !list.vector(1).empty();
    if (!is_good) return {};
    return protocols;
}

}  // namespace

Reader::State Reader::refuse(std::string_view why) {
    name_ = protocols_ = {};
    why_ = why;
    return state_ = State::no_hello;
}

Reader::State Reader::take(std::span<const std::byte> bytes) {
    while (state_ == State::incomplete && !bytes.empty()) {
        if (record_left_ == 0 && !take_header(bytes)) return state_;
        const size_t size = std::min({record_left_, bytes.size(), bytes_max - came_});
        message_.append(reinterpret_cast<const char*>(bytes.data()), size);
        bytes = bytes.subspan(size);
        record_left_ -= size;
        came_ += size;
        if (is_whole()) return parse();
        if (state_ == State::incomplete && came_ == bytes_max) return refuse(too_long);
    }
    return state_;
}

/// True when all of a record's header is there. Each byte is looked at as soon as it has come:
/// whoever speaks something else may wait for an answer.
bool Reader::take_header(std::span<const std::byte>& bytes) {
    while (header_has_ < header_size) {
        if (bytes.empty()) return false;
        const auto byte = static_cast<unsigned char>(bytes.front());
        bytes = bytes.subspan(1);
        ++came_;
        header_[header_has_++] = byte;
        if (header_has_ == 1 && byte != handshake_record)
            refuse("it does not begin as a handshake does");
        if (header_has_ == 2 && byte != 3) refuse("it is of no version of TLS");
        if (state_ == State::incomplete && came_ == bytes_max) refuse(too_long);
        if (state_ != State::incomplete) return false;
    }
    header_has_ = 0;
    record_left_ = static_cast<size_t>(header_[3]) << 8 | header_[4];
    if (record_left_ == 0) refuse("a record without bytes");
    if (record_left_ > record_max) refuse("a record that is too long");
    return state_ == State::incomplete;
}

bool Reader::is_whole() {
    if (!message_.empty() && message_[0] != client_hello) {
        refuse("another handshake message comes first");
        return false;
    }
    if (message_.size() < message_header) return false;
    const size_t size = message_header + Parts(std::string_view(message_).substr(1)).number(3);
    if (size > bytes_max) {
        refuse(too_long);
        return false;
    }
    if (message_.size() < size) return false;
    message_.resize(size);
    return true;
}

Reader::State Reader::parse() {
    Parts parts(std::string_view(message_).substr(message_header));
    parts.bytes(2 + 32);  // version, random
    const auto session = parts.vector(1), ciphers = parts.vector(2), compressions = parts.vector(1);
    if (parts.has_failed() || session.size() > 32 || ciphers.empty() || ciphers.size() % 2 != 0 ||
        compressions.empty())
        return refuse("it is malformed");
    if (parts.is_empty()) return state_ = State::no_name;  // TLS 1.2 may do without extensions

    Parts extensions(parts.vector(2));
    bool has_names = false, has_protocols = false;
    while (!extensions.is_empty() && !extensions.has_failed()) {
        const size_t type = extensions.number(2);
        const auto extension = extensions.vector(2);
        if (extensions.has_failed()) break;
        if (type == server_name_extension) {
            // Of two, we might believe one and the target the other.
            const auto host = host_in(extension);
            if (!host || has_names) return refuse("its server name is malformed");
            has_names = true;
            name_ = *host;
        } else if (type == alpn_extension) {
            const auto protocols = protocols_in(extension);
            if (!protocols || has_protocols) return refuse("its protocols are malformed");
            has_protocols = true;
            protocols_ = *protocols;
        }
    }
    if (parts.has_failed() || extensions.has_failed() || !parts.is_empty())
        return refuse("its extensions are malformed");
    return state_ = name_.empty() ? State::no_name : State::name;
}

}  // namespace proxify::hello
