// SPDX-License-Identifier: Apache-2.0
// What a TLS client says first, made by hand (RFC 8446, section 4.1.2).
#pragma once

#include <cstddef>
#include <string>

namespace proxify::test::client_hello {

/// In `size` bytes, the highest first.
inline std::string number(size_t value, size_t size) {
    std::string out;
    for (size_t i = size; i-- > 0;) out += static_cast<char>(value >> 8 * i);
    return out;
}

/// Behind its length.
inline std::string vec(size_t size_of_length, const std::string& bytes) {
    return number(bytes.size(), size_of_length) + bytes;
}

inline std::string extension(size_t type, const std::string& bytes) {
    return number(type, 2) + vec(2, bytes);
}

/// The extension server_name.
inline std::string named(const std::string& name) {
    return extension(0, vec(2, number(0, 1) + vec(2, name)));
}

/// The extension padding.
inline std::string padding(size_t size) {
    return extension(21, std::string(size, '\0'));
}

inline std::string message(const std::string& extensions) {
    const std::string body = "\x03\x03" + std::string(32, 'r') + vec(1, std::string(32, 's')) +
                             vec(2, "\x13\x01\x13\x02") + vec(1, std::string(1, '\0')) +
                             vec(2, extensions);
    return "\x01" + vec(3, body);
}

/// In records of at most `size` bytes.
inline std::string records(const std::string& message, size_t size = 16384) {
    std::string out;
    for (size_t at = 0; at < message.size(); at += size)
        out += "\x16\x03\x01" + vec(2, message.substr(at, size));
    return out;
}

}  // namespace proxify::test::client_hello
