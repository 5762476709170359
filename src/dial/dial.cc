// SPDX-License-Identifier: Apache-2.0
#include "dial/dial.h"

#include <cerrno>

namespace proxify::dial {

using namespace io;

static int bind_source(Ring& ring, Handle socket, const Destination& destination, bool guarded) {
    if (!destination.source) return guarded ? ring.bind(socket, {destination.to.ip, 0}) : 0;
    return ring.bind_transparent(socket, {*destination.source, 0}, /*choose_port=*/guarded);
}

Task<int> dial(Loop& loop, Guard* guard, Destination destination, Duration at_most,
               Attempt& attempt) {
    Ring& ring = loop.ring();
    const Address& to = destination.to;
    const auto way = way_to(guard, to, destination.is_local);
    if (way == Guard::Way::own) co_return ELOOP;
    if (destination.source && destination.source->is_v4 != to.ip.is_v4) co_return EAFNOSUPPORT;

    int opened = ring.open_stream(to.ip.is_v4);
    if (opened < 0) co_return -opened;
    attempt.socket = Socket(ring, static_cast<Handle>(opened));
    const Handle socket = attempt.socket.handle();
    if (guard && guard->mark() != 0) ring.set_mark(socket, guard->mark());
    if (guard && destination.may_return)
        attempt.claim.emplace(*guard, ring.cookie(socket), destination.source.has_value());

    // A connection to a local address comes from that very address unless it is told otherwise. Its
    // port is chosen here, so that the guard knows it before the SYN leaves.
    const bool guarded = way == Guard::Way::steered;
    if (int error = bind_source(ring, socket, destination, guarded); error < 0) co_return -error;
    Address source;
    if (guarded) {
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
