// SPDX-License-Identifier: Apache-2.0
// Stream: a connected socket that tasks read from and write to.
//
// Reading: one receive is kept in the kernel, which fills shared buffers by itself. A chunk is
// handed to whoever awaits it, sent on in the same breath, and its buffer is back before the next
// event is looked at: a few buffers serve thousands of streams and stay in the cache.
//
// Writing: send_now() takes what fits. When nothing fits, the other side is slow: its
// source is put on hold, which stops reading and moves what was read already into memory of
// its own, so that a slow reader costs its own session a few chunks and the others nothing.
//
// A stream may have a codec (TLS): what goes over the wire is then not what is read and written,
// and whoever reads and writes need not know. Only bulk through pipes is not to be had.
#pragma once

#include <cerrno>
#include <coroutine>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/codec.h"
#include "io/loop.h"
#include "io/ring.h"

namespace proxify::io {

/// The owner of a connected (or connecting) socket. Closes it.
class Socket {
  public:
    Socket() = default;
    Socket(Ring& ring, Handle handle) : ring_(&ring), handle_(handle) {}
    Socket(Socket&& other) noexcept
        : ring_(other.ring_), handle_(std::exchange(other.handle_, Handle::none)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(ring_, other.ring_);
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Socket() {
        if (handle_ != Handle::none) ring_->close(handle_);
    }

    explicit operator bool() const { return handle_ != Handle::none; }
    Handle handle() const { return handle_; }
    /// Gives ownership to the caller.
    [[nodiscard]] Handle release() { return std::exchange(handle_, Handle::none); }
    Address local_address() const { return ring_->local_address(handle_); }
    Address peer_address() const { return ring_->peer_address(handle_); }
    std::optional<Address> redirected_from() const { return ring_->redirected_from(handle_); }
    /// Its end will be a reset, and what was not delivered is thrown away.
    void reset_on_close() { ring_->reset_on_close(handle_); }

  private:
    Ring* ring_ = nullptr;
    Handle handle_ = Handle::none;
};

/// Received bytes, in a shared buffer that goes home with the chunk or, parked, in their own
/// memory.
class Chunk {
  public:
    Chunk() = default;
    Chunk(Ring& ring, uint16_t buffer, size_t size)
        : ring_(&ring),
          begin_(ring.buffer(buffer)),
          size_(static_cast<uint32_t>(size)),
          buffer_(buffer) {}
    Chunk(Chunk&& other) noexcept { *this = std::move(other); }
    Chunk& operator=(Chunk&& other) noexcept {
        std::swap(ring_, other.ring_);
        std::swap(parked_, other.parked_);
        std::swap(begin_, other.begin_);
        std::swap(size_, other.size_);
        std::swap(buffer_, other.buffer_);
        return *this;
    }
    ~Chunk() {
        if (ring_) ring_->provide(buffer_);
    }

    std::span<const std::byte> bytes() const { return {begin_, size_}; }
    bool empty() const { return size_ == 0; }
    void resize(size_t size) { size_ = static_cast<uint32_t>(size); }
    void consume(size_t count) {
        begin_ += count;
        size_ -= static_cast<uint32_t>(count);
    }
    /// Moves the bytes out of the shared buffer. Before any wait that is up to the peer.
    void park();

  private:
    Ring* ring_ = nullptr;  ///< set while the bytes are in one of its buffers
    std::unique_ptr<std::byte[]> parked_;
    const std::byte* begin_ = nullptr;
    uint32_t size_ = 0;
    uint16_t buffer_ = 0;
};

/// What a receive gave: bytes; or no bytes, and then the end of the stream (error 0), a
/// failure (an errno), ECANCELED after stop(), or EAGAIN after stop_waiting(). With a codec also
/// EBADMSG, what came cannot be decoded, and ENODATA, it ended in the middle.
struct Received {
    Chunk chunk;
    int error = 0;
    bool more_waits = false;  ///< the kernel has more bytes already
};

class Stream {
  public:
    Stream(Loop& loop, Socket socket);
    Stream(const Stream&) = delete;
    ~Stream();

    /// From here on bytes look different on the wire; `came` is what was received of these already.
    /// Only while nobody receives.
    void encode_with(std::unique_ptr<Codec> codec, Chunk came);
    bool is_coded() const { return coded_ != nullptr; }
    /// Null without one.
    const Codec* codec() const { return coded_ ? coded_->codec.get() : nullptr; }

    // Each of these is awaited by at most one task at a time.

    struct Receive {
        Stream& stream;
        Received& received;
        std::coroutine_handle<> awaiter{};
        bool await_ready() { return stream.read_what_waits(received); }
        void await_suspend(std::coroutine_handle<> caller) {
            awaiter = caller;
            stream.receiver_ = this;
            stream.receive_op_.soon = caller.address();
            stream.keep_receiving();
        }
        void await_resume() {}
    };
    /// `co_await from.receive(received);` fills `received`, which stays where it is meanwhile.
    Receive receive(Received& received) { return {*this, received}; }

    /// A receive that is awaited ends with EAGAIN: nothing has come yet.
    void stop_waiting() {
        if (!receiver_) return;
        receiver_->received.error = EAGAIN;
        std::exchange(receiver_, nullptr)->awaiter.resume();
    }

    /// What is left of a chunk that receive() gave is what it gives next. Only while nobody
    /// receives.
    void put_back(Chunk chunk);

    /// Bytes taken, -EAGAIN when none fit, or -errno.
    int send_now(std::span<const std::byte> bytes) {
        return coded_ ? send_coded(bytes) : ring().send_now(handle_, bytes);
    }

    struct Writable {
        Stream& stream;
        bool await_ready() { return stream.stopped_; }
        void await_suspend(std::coroutine_handle<> awaiter) { stream.wait_writable(awaiter); }
        /// False after stop().
        bool await_resume() { return !stream.stopped_; }
    };
    Writable writable() { return {*this}; }

    /// Where its bytes go is full: stop reading until the next receive().
    void hold();

    // For bulk, which goes through a pipe instead of receive() and send_now(). Not with a codec.

    struct Held {
        Stream& stream;
        bool await_ready() { return !stream.receiving_; }
        void await_suspend(std::coroutine_handle<> awaiter) { stream.reader_ = awaiter; }
        void await_resume() {}
    };
    /// Waits after hold() until the kernel reads no more into buffers.
    Held held() { return {*this}; }
    /// Bytes were read that receive() has not given yet.
    bool has_waiting() const { return waiting_chunks_ != nullptr; }

    struct Readable {
        Stream& stream;
        bool await_ready() { return stream.stopped_; }
        void await_suspend(std::coroutine_handle<> awaiter) { stream.wait_readable(awaiter); }
        /// False after stop().
        bool await_resume() { return !stream.stopped_; }
    };
    /// Only while held.
    Readable readable() { return {*this}; }
    int fill(Pipe& pipe) { return pipe.fill_from(handle_); }
    int drain(Pipe& pipe) { return pipe.pour_into(handle_); }

    /// Much will go from this one into `to`.
    void tune_for_bulk(Stream& to) { ring().tune_for_bulk(handle_, to.handle_); }

    /// Ends every wait on this stream, those under way (after this call) and later ones, with
    /// ECANCELED.
    void stop();
    bool is_stopped() const { return stopped_; }

    /// Below zero when the peer has reset the connection. With a codec also -EAGAIN: again when it
    /// is writable.
    int shutdown_write() {
        if (coded_)
            if (const int error = finish_coded(); error < 0) return error;
        return ring().shutdown_write(handle_);
    }
    bool is_connected() { return ring().is_connected(handle_); }
    int unacknowledged() { return ring().unacknowledged(handle_); }
    void reset_on_close() { ring().reset_on_close(handle_); }

    /// Waits until the kernel holds no operation of this stream; stop() first.
    struct Quiet {
        Stream& stream;
        bool await_ready() { return !stream.receiving_ && !stream.awaiting_writable_; }
        void await_suspend(std::coroutine_handle<> awaiter) { stream.quiet_ = awaiter; }
        void await_resume() {}
    };
    Quiet quiet() { return {*this}; }

    /// For Loop: a buffer may be free again.
    void receive_again();

  private:
    struct ReceiveOp : Completion {
        Stream* stream;
    };
    struct WritableOp : Completion {
        Stream* stream;
    };

    /// What a codec has to do with.
    struct Coded {
        std::unique_ptr<Codec> codec;
        Chunk wire;                ///< what it has not taken yet; ours goes before what waits
        std::vector<Chunk> plain;  ///< that was put back
        bool is_over = false;      ///< nothing more can come
        int error = 0;             ///< why
    };

    Ring& ring() { return loop_.ring(); }
    bool read_what_waits(Received& received);
    bool read_coded(Received& received);
    int send_coded(std::span<const std::byte> bytes);
    int finish_coded();
    Chunk take_waiting();
    void keep_receiving();
    void abandon_receive();
    void on_received(Event event);
    void on_writable();
    void wait_writable(std::coroutine_handle<> awaiter);
    void wait_readable(std::coroutine_handle<> awaiter);
    void tell_quiet();

    /// After being held a stream receives one chunk at a time, so often, before it may run
    /// freely again: a burst into a slow peer is what costs memory.
    static constexpr uint8_t careful_receives = 64;
    /// So much may wait of what nobody has asked for; the peer keeps the rest until somebody does.
    static constexpr size_t waiting_max = 4;

    Loop& loop_;
    Handle handle_;
    ReceiveOp receive_op_;
    WritableOp writable_op_;
    Receive* receiver_ = nullptr;
    std::coroutine_handle<> reader_;  ///< of held() or readable()
    std::coroutine_handle<> writer_;
    std::coroutine_handle<> quiet_;
    std::unique_ptr<Coded> coded_;  ///< null when bytes go over the wire as they are
    /// Parked: read, but nobody was waiting. Newest last; made when it is needed first.
    std::unique_ptr<std::vector<Chunk>> waiting_chunks_;
    int error_ = 0;  ///< with ended_: why
    bool ended_ = false;
    bool receiving_ = false;  ///< the kernel holds a receive, or it waits for a buffer
    bool starved_ = false;    ///< it waits for a buffer
    bool polling_ = false;    ///< what it holds is readable()'s
    bool cancelling_ = false;
    bool awaiting_writable_ = false;
    bool stopped_ = false;
    uint8_t careful_ = 0;
};

/// Ends a stream's wait for more at a moment: a receive that is awaited then gives EAGAIN.
class Patience : private Timer {
  public:
    Patience(Loop& loop, Stream& stream)
        : Timer([](Timer& timer) { static_cast<Patience&>(timer).stream_.stop_waiting(); }),
          loop_(loop),
          stream_(stream) {}
    ~Patience() { end(); }
    /// Not at all with Time::max().
    void begin(Time until) {
        if (until != Time::max()) loop_.timers().arm(*this, until);
    }
    void end() { loop_.timers().disarm(*this); }

  private:
    Loop& loop_;
    Stream& stream_;
};

/// Stops a stream when something takes too long.
class Deadline : private Timer {
  public:
    Deadline(Loop& loop, Stream& stream)
        : Timer([](Timer& timer) {
              auto& deadline = static_cast<Deadline&>(timer);
              deadline.has_passed_ = true;
              deadline.stream_.stop();
          }),
          loop_(loop),
          stream_(stream) {}
    ~Deadline() { loop_.timers().disarm(*this); }
    /// From now on; what it was before does not count any more.
    void begin(Duration duration) { loop_.timers().arm(*this, loop_.now() + duration); }
    void end() { loop_.timers().disarm(*this); }
    bool has_passed() const { return has_passed_; }

  private:
    Loop& loop_;
    Stream& stream_;
    bool has_passed_ = false;
};

/// A connect in flight, with its deadline: `int error = co_await connect;` gives 0 or an errno,
/// ETIMEDOUT when `at_most` passed first, ECANCELED after cancel().
class [[nodiscard]] Connect : private Completion, private Timer {
  public:
    Connect(Loop& loop, const Socket& socket, const Address& to, Duration at_most);
    void cancel();

    bool await_ready() { return cancelled_ != 0; }
    void await_suspend(std::coroutine_handle<> awaiter);
    int await_resume() { return cancelled_ && result_ < 0 ? cancelled_ : -result_; }

  private:
    void give_up(int error);

    Loop& loop_;
    Handle socket_;
    Address to_;
    Duration at_most_;
    std::coroutine_handle<> awaiter_;
    int result_ = -ECANCELED;
    int cancelled_ = 0;
    bool in_kernel_ = false;
};

}  // namespace proxify::io
