// SPDX-License-Identifier: Apache-2.0
// Arrival: an accepted connection and what it was aimed at, whichever door it came in by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/address.h"
#include "io/stream.h"

namespace proxify::capture {

enum class Door : uint8_t {
    bound,     ///< a listener on the port itself
    steered,   ///< the steering listener: sk_lookup sent it, or it was dialled directly
    connect,   ///< a program at connect() wrote our listener's address over the one that was meant
    ingress,   ///< a program at an interface gave the SYN to our listener
    redirect,  ///< netfilter did, and wrote our listener's address into it (REDIRECT)
    tproxy,    ///< netfilter did, and wrote nothing (TPROXY)
    tunnel,    ///< another proxify dialled it; what it says first is where the client aimed
};

inline constexpr size_t door_count = 7;

/// Whether it is one beside the ports of services.
constexpr bool is_capture(Door door) {
    return door != Door::bound && door != Door::steered;
}

/// As the log names it.
std::string_view name_of(Door door);

/// Remembers what was aimed at, where a socket cannot say it. Asked by every worker.
class Origins {
  public:
    virtual ~Origins() = default;
    /// Of a connection from `client` that came to our listener at `local`; forgets it.
    virtual std::optional<Address> take(const Address& client, const Address& local) = 0;
};

struct Arrival {
    io::Socket socket;
    Address client;
    Address original_dst;  ///< our own address when it is not known
    Door door = Door::bound;
    bool knows_original = true;
    /// It came by a rule of somebody else, which may have caught one of our own connections.
    bool may_be_ours = false;
};

/// What an accepted socket was aimed at. `origins` may be null.
Arrival arrive(io::Socket socket, Door door, uint16_t listener_port, Origins* origins);

}  // namespace proxify::capture
