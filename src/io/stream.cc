// SPDX-License-Identifier: Apache-2.0
#include "io/stream.h"

#include <cerrno>
#include <cstring>

#include "io/spares.h"

namespace proxify::io {

void Chunk::park() {
    if (!ring_) return;
    parked_ = std::make_unique_for_overwrite<std::byte[]>(size_);
    std::memcpy(parked_.get(), begin_, size_);
    begin_ = parked_.get();
    std::exchange(ring_, nullptr)->provide(buffer_);
}

Stream::Stream(Loop& loop, Socket socket) : loop_(loop), handle_(socket.release()) {
    receive_op_.stream = writable_op_.stream = this;
    receive_op_.on_event = [](Completion& op, Event event) {
        static_cast<ReceiveOp&>(op).stream->on_received(event);
    };
    writable_op_.on_event = [](Completion& op, Event) {
        static_cast<WritableOp&>(op).stream->on_writable();
    };
}

Stream::~Stream() {
    expect(!receiving_ && !awaiting_writable_, "a stream goes when the kernel is done with it");
    ring().close(handle_);
}

void Stream::keep_receiving() {
    if (receiving_) return;
    receiving_ = true;
    bool once = careful_ > 0;
    if (once) --careful_;
    ring().receive(handle_, once, receive_op_);
}

void Stream::receive_again() {
    starved_ = false;
    if (stopped_) {
        receiving_ = false;
        if (!receiver_) return tell_quiet();
        receiver_->received.error = ECANCELED;
        return std::exchange(receiver_, nullptr)->awaiter.resume();
    }
    ring().receive(handle_, careful_ > 0, receive_op_);
}

void Stream::on_received(Event event) {
    if (event.result == -ENOBUFS && !cancelling_) {
        // The receive is over. Asking again at once would fail at once: wait in line.
        starved_ = true;
        loop_.wait_for_buffer(*this);
        return;
    }
    if (!event.more) receiving_ = cancelling_ = false;
    if (std::exchange(polling_, false)) {
        if (reader_) return std::exchange(reader_, {}).resume();
        return tell_quiet();
    }

    Received received;
    bool passing = false;  // nothing to tell: a cancelled receive, or one to be asked for again
    if (event.result > 0) {
        received.chunk = Chunk(ring(), event.buffer, static_cast<size_t>(event.result));
        received.more_waits = event.more_waits;
    } else if (event.result == 0) {
        ended_ = true;
    } else if (event.result == -ECANCELED || event.result == -ENOBUFS || event.result == -EAGAIN ||
               event.result == -EINTR) {
        passing = true;
    } else {
        ended_ = true;
        received.error = error_ = -event.result;
    }

    if (receiver_) {
        if (stopped_)
            received = {.chunk = {}, .error = ECANCELED};
        else if (passing)
            return keep_receiving();
        else if (coded_) {
            coded_->wire = std::move(received.chunk);
            const bool more_waits = received.more_waits;
            if (!read_coded(received)) return keep_receiving();
            received.more_waits |= more_waits;
        }
        receiver_->received = std::move(received);
        return std::exchange(receiver_, nullptr)->awaiter.resume();  // this stream may be gone now
    }
    // Nobody waits: what we feed is held up, so this chunk must not keep a shared buffer.
    if (!received.chunk.empty()) {
        received.chunk.park();
        if (!waiting_chunks_) waiting_chunks_ = std::make_unique<std::vector<Chunk>>();
        waiting_chunks_->push_back(std::move(received.chunk));
        if (waiting_chunks_->size() >= waiting_max) abandon_receive();
    }
    if (reader_ && !receiving_) return std::exchange(reader_, {}).resume();
    tell_quiet();
}

bool Stream::read_what_waits(Received& received) {
    if (stopped_) {
        received.error = ECANCELED;
        return true;
    }
    if (coded_) return read_coded(received);
    if (waiting_chunks_) {
        received.chunk = take_waiting();
        return true;
    }
    received.error = error_;
    return ended_;
}

Chunk Stream::take_waiting() {
    Chunk chunk = std::move(waiting_chunks_->front());
    waiting_chunks_->erase(waiting_chunks_->begin());
    if (waiting_chunks_->empty()) waiting_chunks_.reset();
    return chunk;
}

// ---- with a codec

namespace {

struct SocketWire final : Wire {
    SocketWire(Ring& ring, Handle socket) : ring(ring), socket(socket) {}
    int send(std::span<const std::byte> bytes) override { return ring.send_now(socket, bytes); }
    Ring& ring;
    Handle socket;
};

}  // namespace

void Stream::encode_with(std::unique_ptr<Codec> codec, Chunk came) {
    expect(!receiver_ && !coded_, "a codec comes between two receives, and stays");
    coded_ = std::make_unique<Coded>();
    coded_->codec = std::move(codec);
    came.park();
    coded_->wire = std::move(came);
}

/// What the codec can make of what has come. False when it needs more.
bool Stream::read_coded(Received& received) {
    Coded& coded = *coded_;
    if (!coded.plain.empty()) {
        received.chunk = std::move(coded.plain.front());
        coded.plain.erase(coded.plain.begin());
        return true;
    }
    while (!coded.is_over) {
        const uint16_t id = ring().take_spare();
        Chunk plain(ring(), id, 0);  // it goes home by itself
        auto wire = coded.wire.bytes();
        size_t size = 0;
        const auto opened = coded.codec->open(wire, {ring().buffer(id), Spares::size}, size);
        coded.wire.consume(coded.wire.bytes().size() - wire.size());
        if (coded.wire.empty()) coded.wire = {};  // the same
        switch (opened) {
            case Codec::Opened::bytes:
                plain.resize(size);
                received.chunk = std::move(plain);
                received.error = 0;
                received.more_waits = !coded.wire.empty() || waiting_chunks_;
                return true;
            case Codec::Opened::hungry:
                send_coded({});  // it may have been asked something
                if (waiting_chunks_) {
                    coded.wire = take_waiting();
                } else if (!ended_) {
                    return false;
                } else {
                    // Who has heard our end may just go; before that it is an end that anybody on
                    // the way may have made up.
                    coded.is_over = true;
                    coded.error = error_ != 0 ? error_ : coded.codec->has_finished() ? 0 : ENODATA;
                }
                break;
            case Codec::Opened::ended:
                coded.is_over = true;
                break;
            case Codec::Opened::failed:
                coded.is_over = true;
                coded.error = EBADMSG;
                send_coded({});  // the peer may hear why
                break;
        }
    }
    received.chunk = {};
    received.error = coded.error;
    return true;
}

int Stream::send_coded(std::span<const std::byte> bytes) {
    SocketWire wire(ring(), handle_);
    return coded_->codec->send(bytes, wire);
}

int Stream::finish_coded() {
    SocketWire wire(ring(), handle_);
    return coded_->codec->finish(wire);
}

void Stream::put_back(Chunk chunk) {
    if (chunk.empty()) return;
    chunk.park();
    if (coded_) {
        coded_->plain.insert(coded_->plain.begin(), std::move(chunk));
        return;
    }
    if (!waiting_chunks_) waiting_chunks_ = std::make_unique<std::vector<Chunk>>();
    waiting_chunks_->insert(waiting_chunks_->begin(), std::move(chunk));
}

void Stream::hold() {
    careful_ = careful_receives;
    if (coded_) coded_->wire.park();
    abandon_receive();
}

void Stream::stop() {
    if (std::exchange(stopped_, true)) return;
    if (awaiting_writable_) ring().cancel(writable_op_);
    // Whoever waits goes on later, never in here: that may be the end of all that called us. A
    // starved receiver is told when its place in the line comes.
    if (!starved_) abandon_receive();
}

void Stream::abandon_receive() {
    if (starved_) {
        loop_.forget_starved(*this);
        starved_ = receiving_ = false;
    }
    if (receiving_ && !std::exchange(cancelling_, true)) ring().cancel(receive_op_);
}

void Stream::wait_writable(std::coroutine_handle<> awaiter) {
    writer_ = awaiter;
    awaiting_writable_ = true;
    ring().wait_writable(handle_, writable_op_);
}

void Stream::wait_readable(std::coroutine_handle<> awaiter) {
    expect(!receiving_, "a stream is held before it is polled");
    reader_ = awaiter;
    receiving_ = polling_ = true;
    ring().wait_readable(handle_, receive_op_);
}

void Stream::on_writable() {
    awaiting_writable_ = false;
    if (writer_) {
        std::exchange(writer_, {}).resume();
        return;
    }
    tell_quiet();
}

void Stream::tell_quiet() {
    if (quiet_ && !receiving_ && !awaiting_writable_) std::exchange(quiet_, {}).resume();
}

Connect::Connect(Loop& loop, const Socket& socket, const Address& to, Duration at_most)
    : Timer([](Timer& timer) { static_cast<Connect&>(timer).give_up(ETIMEDOUT); }),
      loop_(loop),
      socket_(socket.handle()),
      to_(to),
      at_most_(at_most) {
    on_event = [](Completion& op, Event event) {
        auto& connect = static_cast<Connect&>(op);
        connect.loop_.timers().disarm(connect);
        connect.in_kernel_ = false;
        connect.result_ = event.result;
        connect.awaiter_.resume();
    };
}

void Connect::await_suspend(std::coroutine_handle<> awaiter) {
    awaiter_ = awaiter;
    in_kernel_ = true;
    loop_.timers().arm(*this, loop_.now() + at_most_);
    loop_.ring().connect(socket_, to_, *this);
}

void Connect::cancel() {
    give_up(ECANCELED);
}

void Connect::give_up(int error) {
    if (std::exchange(cancelled_, error) == 0 && in_kernel_) loop_.ring().cancel(*this);
}

}  // namespace proxify::io
