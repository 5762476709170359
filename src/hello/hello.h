// SPDX-License-Identifier: Apache-2.0
// What a client says first when it speaks TLS, its ClientHello (RFC 8446, section 4.1.2): read,
// never answered. The bytes come from anybody, in pieces of any size and in any number of records.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace proxify::hello {

/// On the wire, records included. Clients that send long keys take 2 KiB, and a record holds 16.
inline constexpr size_t bytes_max = 64 * 1024;

class Reader {
  public:
    Reader() = default;
    Reader(const Reader&) = delete;  // its words are parts of what it holds

    enum class State {
        incomplete,  ///< so far it may be one
        no_hello,    ///< it is none: see why()
        no_name,     ///< it is, and names nobody
        name,        ///< it is, and has a name
    };

    /// What came next. What comes behind a hello is looked at by nobody.
    State take(std::span<const std::byte> bytes);
    State state() const { return state_; }

    /// The host that is asked for (RFC 6066, section 3), as it was written: 1 to 255 bytes without
    /// spaces and control characters.
    std::string_view name() const { return name_; }
    /// The protocols offered (ALPN, RFC 7301), each behind a byte that says how long it is.
    std::string_view protocols() const { return protocols_; }
    /// Of no_hello: "a record without bytes".
    std::string_view why() const { return why_; }

  private:
    State refuse(std::string_view why);
    bool take_header(std::span<const std::byte>& bytes);
    bool is_whole();
    State parse();

    static constexpr size_t header_size = 5;

    State state_ = State::incomplete;
    std::array<unsigned char, header_size> header_;  ///< of the record that is being read
    size_t header_has_ = 0;
    size_t record_left_ = 0;
    size_t came_ = 0;
    std::string message_;                      ///< put together from its records
    std::string_view name_, protocols_, why_;  ///< the first two are parts of the message
};

}  // namespace proxify::hello
