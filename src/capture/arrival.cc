// SPDX-License-Identifier: Apache-2.0
#include "capture/arrival.h"

namespace proxify::capture {

Arrival arrive(io::Socket socket, Door door) {
    // Both doors so far keep the address the client dialled as the socket's own: sk_lookup chooses
    // a socket, it rewrites nothing.
    Address client = socket.peer_address();
    Address original_dst = socket.local_address();
    return {std::move(socket), client, original_dst, door};
}

}  // namespace proxify::capture
