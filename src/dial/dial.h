// SPDX-License-Identifier: Apache-2.0
// Dialling a target, for sessions and for health checks alike.
//
// Guard keeps our own connections out of our own doors. When a target is a local address on a
// port that is steered, the kernel would hand our connect() right back to our listener, and each
// turn of that loop costs two sockets. So such a dial is bound to its source first, and the
// kernel is told to let that source through. A port on which we listen ourselves leads nowhere
// else: it is not dialled.
#pragma once

#include <cerrno>

#include "base/address.h"
#include "io/loop.h"
#include "io/stream.h"

namespace proxify::dial {

/// Called by any thread that dials.
class Guard {
  public:
    virtual ~Guard() = default;
    enum class Way { open, steered, own };
    /// What a dial to a local address on this port would meet.
    virtual Way way_to(uint16_t port) const = 0;
    /// Lets connections from `source` through until forget(). False when that cannot be promised.
    virtual bool let_through(const Address& source) = 0;
    virtual void forget(const Address& source) = 0;
};

/// What a dial to this address would meet. `guard` may be null.
inline Guard::Way way_to(const Guard* guard, const Address& to, bool is_local) {
    return guard && is_local ? guard->way_to(to.port) : Guard::Way::open;
}

/// Whether an error says that something ran out on this host, and nothing about the target.
inline bool ran_out(int error) {
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS ||
           error == EADDRNOTAVAIL;
}

/// One dial: the socket it makes, and a way to end it early.
struct Attempt {
    io::Socket socket;
    io::Connect* connecting = nullptr;

    void cancel() {
        if (connecting) connecting->cancel();
    }
};

/// Opens attempt.socket and connects it. Gives 0 or an errno, ELOOP when it would reach proxify
/// itself. `guard` may be null.
io::Task<int> dial(io::Loop& loop, Guard* guard, Address to, bool is_local, Duration at_most,
                   Attempt& attempt);

/// Whether an address belongs to this host: whether a socket can be bound to it.
bool is_local(io::Ring& ring, const Ip& ip);

}  // namespace proxify::dial
