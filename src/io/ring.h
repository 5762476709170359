// SPDX-License-Identifier: Apache-2.0
// Ring: the seam between proxify and the kernel's sockets. Everything above it - streams, timers,
// buffers, sessions - is the same whether Ring is io_uring (io/uring) or a make-believe network
// (io/sim); the program is linked with one of them. So no one above touches a descriptor, a clock
// or a random number of their own.
//
// An asynchronous operation is a Completion, owned by whoever asks, that stays where it is until
// its last event. Reaping only collects: wait() gathers events, next() hands them out one by one,
// so user code never runs inside the ring and stacks stay short.
//
// Operations that never block (open, shut down, ask for an address, send what fits) are
// plain calls. A result below zero is a negated errno.
//
// One thread owns a ring; only wake() may be called from another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/address.h"
#include "base/clock.h"
#include "base/result.h"

namespace proxify::io {

/// A socket, or another thing a ring can wait on. Only io/ knows what the number means.
enum class Handle : int { none = -1 };

/// What became of an operation. `more` says that the operation goes on and will tell again.
struct Event {
    int32_t result = 0;
    bool more = false;
    bool more_waits = false;  ///< the socket has more bytes already
    uint16_t buffer = 0;      ///< which shared buffer holds the bytes, when receive() gave some
};

/// An operation in flight. The owner keeps it in place until an event without `more` came.
struct Completion {
    using OnEvent = void (*)(Completion&, Event);
    OnEvent on_event = nullptr;
    /// What on_event will touch besides this, or null: with thousands of sessions it has left the
    /// cache, and is fetched while the events before it are dealt with.
    const void* soon = nullptr;
};

/// A kernel pipe; see io/pipes.h.
struct PipeEnds {
    Handle read = Handle::none;
    Handle write = Handle::none;
};

struct ListenOptions {
    bool share_port = false;   ///< SO_REUSEPORT: other listeners of ours stand beside this one
    bool transparent = false;  ///< IP_TRANSPARENT: takes what was aimed at other hosts as well
    bool only_bind = false;    ///< for a look at whether the address is free
    int backlog = 4096;
};

class Ring {
  public:
    struct Options {
        unsigned entries = 1024;       ///< operations queued between two turns
        unsigned completions = 16384;  ///< events that may wait to be reaped
        // Few, because they are used in turn and are to stay in the cache; but the kernel hands out
        // about 20 between two turns, and with fewer than that streams stand in line. Large for
        // bulk; but one burst may fill all of them, and is kept when the other side is slow.
        unsigned buffers = 32;  ///< shared receive buffers; a power of two
        unsigned buffer_size = 32 * 1024;
    };

    static Result<Ring> open(const Options& options);
    Ring(Ring&&) noexcept;
    Ring& operator=(Ring&&) noexcept;
    ~Ring();

    // The turn.

    /// Hands queued operations to the kernel and waits until there is an event, a wake() or the
    /// moment has come; `until` in the past only looks. Refreshes now().
    void wait(Time until);
    /// The next gathered event, or false when there are none left.
    bool next(Completion*& completion, Event& event);
    /// Ends the wait() in progress, or the next one. From any thread.
    void wake();
    Time now() const;
    /// Turns that began with more events than the queue for them holds; the kernel kept the others
    /// aside. From any thread.
    uint64_t times_overflowed() const;
    uint64_t random();

    // Operations in flight.

    /// Accepts until cancelled; each event's result is a Handle.
    void accept(Handle listener, Completion& completion);
    /// Receives into shared buffers, over and over or once. Result 0 is the end of the stream,
    /// -ENOBUFS means that every buffer is in use: ask again once one is back.
    void receive(Handle socket, bool once, Completion& completion);
    void connect(Handle socket, const Address& to, Completion& completion);
    /// One event when the socket may be written to, or read from.
    void wait_writable(Handle socket, Completion& completion);
    void wait_readable(Handle socket, Completion& completion);
    /// Asks an operation to end. Its last event still comes, with -ECANCELED or its result.
    void cancel(Completion& completion);

    // Shared buffers.

    unsigned buffer_count() const;
    std::byte* buffer(uint16_t id);
    /// Gives a buffer back to the kernel, or to the spares.
    void provide(uint16_t id);
    /// A buffer of Spares::size bytes that is ours until provide().
    uint16_t take_spare();

    // What never waits.

    int open_stream(bool v4);  ///< a Handle, or -errno
    Result<Handle> listen(const Address& at, const ListenOptions& options);
    int accept_now(Handle listener);  ///< a Handle, or -EAGAIN and others
    /// Clients who are connected already and wait to be accepted. From any thread.
    unsigned accept_queue(Handle listener) const;
    int bind(Handle socket, const Address& at);
    /// The same to an address that may be another host's. Unless it is chosen here, connect() finds
    /// a port that is free for where it goes. Takes CAP_NET_ADMIN or CAP_NET_RAW.
    int bind_transparent(Handle socket, const Address& at, bool choose_port);
    /// SO_MARK, which takes the same.
    int set_mark(Handle socket, uint32_t mark);
    /// By which the kernel knows the socket, and no other one ever.
    uint64_t cookie(Handle socket);
    /// Sends what fits now: bytes taken, -EAGAIN when nothing does, or another -errno.
    int send_now(Handle socket, std::span<const std::byte> bytes);
    /// Sends the end after what was sent. Below zero when there is no connection any more.
    int shutdown_write(Handle socket);
    /// A pipe that takes `size` bytes, or -errno: -EPERM when this user has too many large ones.
    int open_pipe(size_t size, PipeEnds& ends);
    void close_pipe(PipeEnds ends);
    /// Moves what is there from a socket into a pipe, or from a pipe into a socket, without
    /// copying: bytes moved, -EAGAIN, or another -errno. 0 from a socket is its end, mostly.
    int splice_in(Handle socket, PipeEnds pipe, size_t count);
    int splice_out(PipeEnds pipe, Handle socket, size_t count);
    /// Much will go from one to the other: where the way is short, little is to lie in between.
    void tune_for_bulk(Handle from, Handle to);
    /// Bytes that the peer has not acknowledged yet.
    int unacknowledged(Handle socket);
    /// Makes close() send a reset and throw away what was not delivered.
    void reset_on_close(Handle socket);
    void close(Handle socket);
    /// False once the peer has reset the connection, or is known to be gone.
    bool is_connected(Handle socket);
    Address local_address(Handle socket);
    Address peer_address(Handle socket);
    /// What an accepted connection was aimed at before netfilter redirected it (SO_ORIGINAL_DST);
    /// none if it did not.
    std::optional<Address> redirected_from(Handle socket);

  private:
    struct Impl;
    explicit Ring(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace proxify::io
