// SPDX-License-Identifier: Apache-2.0
// Preface: what the two ends of a tunnel say to each other before the bytes of a connection, inside
// of TLS. The near end says where the connection goes and by whom it has come; the far end answers
// once it knows whether that can be. Everything is in network order:
//
//     'P' 'X' 'F' 'Y'  version  kind  length (2)  body
//
//     kind 1, opening:  port (2), then 16 bytes for each proxify that it has passed, the first
//     first kind 2, answer:   one byte
//
// Nobody is told an address: a tunnel leads to the host at its end and no farther.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace proxify::tunnel {

/// Names one running proxify: bytes that nobody else has drawn.
using Id = std::array<uint8_t, 16>;

struct Opening {
    uint16_t port = 0;     ///< that the client dialled; never 0
    std::vector<Id> path;  ///< the proxifys passed so far; never empty
    bool operator==(const Opening&) const = default;
};

enum class Answer : uint8_t {
    connected = 0,    ///< what follows is the service's
    refused = 1,      ///< nobody listens there, or it would not
    not_allowed = 2,  ///< this port is not for tunnels
    loop = 3,         ///< it has been here before, or has come too far
    unreachable = 4,  ///< anything else that keeps it from there
};

inline constexpr size_t hops_max = 16;
/// No message is longer.
inline constexpr size_t size_max = 8 + 2 + hops_max * sizeof(Id);

/// Of at most hops_max hops.
std::string encode(const Opening& opening);
std::string encode(Answer answer);

/// How the beginning of a stream reads. What is malformed is so with the first byte that is wrong,
/// so that nobody waits for the rest of something else.
template <class Message>
struct Read {
    enum class State { incomplete, malformed, complete };
    State state = State::incomplete;
    size_t size = 0;  ///< of a complete one, in bytes
    Message message = {};
};
Read<Opening> read_opening(std::span<const std::byte> bytes);
Read<Answer> read_answer(std::span<const std::byte> bytes);

}  // namespace proxify::tunnel
