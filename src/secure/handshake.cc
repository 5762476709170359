// SPDX-License-Identifier: Apache-2.0
#include "secure/handshake.h"

namespace proxify::secure {

using namespace io;
using tls::Connection;

namespace {

struct StreamWire final : Wire {
    explicit StreamWire(Stream& stream) : stream(stream) {}
    int send(std::span<const std::byte> bytes) override { return stream.send_now(bytes); }
    Stream& stream;
};

}  // namespace

Task<Outcome> shake_hands(Stream& stream, std::unique_ptr<Connection> connection) {
    StreamWire wire(stream);
    size_t came = 0;
    for (Received received;;) {
        auto bytes = received.chunk.bytes();
        const size_t before = bytes.size();
        const auto shaken = connection->shake_hands(bytes);
        received.chunk.consume(before - bytes.size());
        came += before - bytes.size();

        int sent = connection->flush(wire);
        while (sent == -EAGAIN) {
            received.chunk.park();
            if (!co_await stream.writable()) co_return Outcome{ECANCELED};
            sent = connection->flush(wire);
        }
        if (shaken == Connection::Shaken::failed) {
            Outcome outcome{EBADMSG, connection->error(), connection->is_about_certificate()};
            if (const auto& refused = connection->refused())
                outcome.why += " (" + refused->subject + ")";
            co_return outcome;
        }
        if (shaken == Connection::Shaken::done) {
            // A peer that is gone by now, and takes no ticket, may have said something before.
            stream.encode_with(std::move(connection), std::move(received.chunk));
            co_return Outcome{};
        }
        if (sent < 0) co_return Outcome{-sent};
        if (came > bytes_max) co_return Outcome{EBADMSG, "the handshake is too long"};

        received = {};
        co_await stream.receive(received);
        if (received.error != 0) co_return Outcome{received.error};
        if (received.chunk.empty()) co_return Outcome{ENODATA};
    }
}

}  // namespace proxify::secure
