// SPDX-License-Identifier: Apache-2.0
#include "http/message.h"

#include <charconv>
#include <string_view>

#include "base/format.h"

namespace proxify::http {

static bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static std::string encode(std::string_view text) {
    std::string out;
    for (char c : text)
        out += is_plain(c) ? std::string(1, c) : format("%{:02X}", static_cast<uint8_t>(c));
    return out;
}

static std::string decode(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        uint8_t byte = 0;
        const char* digits = text.data() + i + 1;
        if (text[i] == '%' && i + 2 < text.size() &&
            std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
            out += static_cast<char>(byte);
            i += 2;
        } else {
            out += text[i] == '+' ? ' ' : text[i];
        }
    }
    return out;
}

std::string target_of(const Request& request) {
    std::string out = request.path;
    char separator = '?';
    for (const auto& [name, value] : request.query) {
        out += format("{}{}={}", separator, encode(name), encode(value));
        separator = '&';
    }
    return out;
}

Request read_target(const std::string& method, const std::string& target) {
    const auto mark = target.find('?');
    Request request{.method = method, .path = target.substr(0, mark), .query = {}, .body = {}};
    if (mark == std::string::npos) return request;
    std::string_view rest = std::string_view(target).substr(mark + 1);
    while (!rest.empty()) {
        auto pair = rest.substr(0, rest.find('&'));
        rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
        const auto equals = pair.find('=');
        auto value = equals == pair.npos ? std::string_view() : pair.substr(equals + 1);
        if (!pair.empty()) request.query[decode(pair.substr(0, equals))] = decode(value);
    }
    return request;
}

}  // namespace proxify::http
