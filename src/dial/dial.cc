// SPDX-License-Identifier: Apache-2.0
#include "dial/dial.h"

#include <cerrno>

namespace proxify::dial {

using namespace io;

Task<int> dial(Loop& loop, Guard* guard, Address to, bool is_local, Duration at_most,
               Attempt& attempt) {
    Ring& ring = loop.ring();
    const auto way = way_to(guard, to, is_local);
    if (way == Guard::Way::own) co_return ELOOP;

    int opened = ring.open_stream(to.ip.is_v4);
    if (opened < 0) co_return -opened;
    attempt.socket = Socket(ring, static_cast<Handle>(opened));

    Address source;
    bool guarded = way == Guard::Way::steered;
    if (guarded) {
        // A connection to a local address comes from that very address unless it is told
        // otherwise. Its port is chosen here, so that the guard knows it before the SYN leaves.
        if (int error = ring.bind(attempt.socket.handle(), {to.ip, 0}); error < 0) co_return -error;
        source = attempt.socket.local_address();
        if (!guard->let_through(source)) co_return EADDRNOTAVAIL;
    }

    Connect connect(loop, attempt.socket, to, at_most);
    attempt.connecting = &connect;
    int error = co_await connect;
    attempt.connecting = nullptr;
    if (guarded) guard->forget(source);
    co_return error;
}

bool is_local(Ring& ring, const Ip& ip) {
    if (ip.is_loopback()) return true;
    int opened = ring.open_stream(ip.is_v4);
    if (opened < 0) return false;
    Socket socket(ring, static_cast<Handle>(opened));
    return ring.bind(socket.handle(), {ip, 0}) == 0;
}

}  // namespace proxify::dial
