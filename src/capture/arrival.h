// SPDX-License-Identifier: Apache-2.0
// Arrival: an accepted connection and what it was aimed at, whichever door it came in by.
#pragma once

#include <cstdint>

#include "base/address.h"
#include "io/stream.h"

namespace proxify::capture {

enum class Door : uint8_t {
    bound,    ///< a listener on the port itself
    steered,  ///< the steering listener: sk_lookup sent it, or it was dialled directly
};

struct Arrival {
    io::Socket socket;
    Address client;
    Address original_dst;
    Door door = Door::bound;
};

/// What an accepted socket was aimed at.
Arrival arrive(io::Socket socket, Door door);

}  // namespace proxify::capture
