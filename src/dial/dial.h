// SPDX-License-Identifier: Apache-2.0
// Dialling a target, for sessions and for health checks alike.
//
// Guard keeps our own connections out of our own doors. When a target is a local address on a
// port that is steered, the kernel would hand our connect() right back to our listener, and each
// turn of that loop costs two sockets. So such a dial is bound to its source first, and the
// kernel is told to let that source through. A port on which we listen ourselves leads nowhere
// else: it is not dialled. Captures know our sockets by their mark; and where a rule that somebody
// else wrote ignores it, whoever accepts the connection recognises it.
#pragma once

#include <cerrno>
#include <cstdint>
#include <optional>

#include "base/address.h"
#include "io/loop.h"
#include "io/stream.h"

namespace proxify::dial {

class Claim;

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

    /// What our sockets are marked with; 0 for nothing.
    virtual uint32_t mark() const { return 0; }
    /// Whether an interface of this host has the address, as far as that is known.
    virtual std::optional<bool> is_here(const Ip& ip) {
        static_cast<void>(ip);
        return std::nullopt;
    }
    /// Between the two, a connection of the socket that is claimed is recognised when it comes back
    /// to us.
    virtual void claim(Claim& claim) { static_cast<void>(claim); }
    virtual void disclaim(Claim& claim) { static_cast<void>(claim); }
    /// Whether a connection that was accepted, from `client` to what it was aimed at, is one of
    /// those.
    virtual bool is_own(const Address& client, const Address& original_dst) {
        static_cast<void>(client), static_cast<void>(original_dst);
        return false;
    }
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

/// What Guard knows a socket by, as long as this lives. It stays where it is: Guard has its place
/// in a list.
class Claim {
  public:
    Claim(Guard& guard, uint64_t cookie, bool is_of_elsewhere)
        : cookie(cookie), is_of_elsewhere(is_of_elsewhere), guard_(guard) {
        guard.claim(*this);
    }
    Claim(Claim&&) = delete;
    ~Claim() { guard_.disclaim(*this); }

    const uint64_t cookie;
    const bool is_of_elsewhere;  ///< its address may be one that this host does not have

    // Guard's.
    Claim* next = nullptr;
    Claim* previous = nullptr;

  private:
    Guard& guard_;
};

struct Destination {
    Address to;
    bool is_local = false;          ///< an address of this host
    std::optional<Ip> source = {};  ///< whose address it is to come from, if not ours
    bool may_return = false;        ///< a rule of somebody else may bring it back to us
};

/// One dial: the socket it makes, and a way to end it early.
struct Attempt {
    io::Socket socket;
    io::Connect* connecting = nullptr;
    std::optional<Claim> claim = {};

    void cancel() {
        if (connecting) connecting->cancel();
    }
};

/// Opens attempt.socket and connects it. Gives 0 or an errno: ELOOP when it would reach proxify
/// itself, EAFNOSUPPORT when source and destination are of two families, EPERM when the
/// source may not be used. `guard` may be null.
io::Task<int> dial(io::Loop& loop, Guard* guard, Destination destination, Duration at_most,
                   Attempt& attempt);

/// Whether an address belongs to this host: whether a socket can be bound to it.
bool is_local(io::Ring& ring, const Ip& ip);

}  // namespace proxify::dial
