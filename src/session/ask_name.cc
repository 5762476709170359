// SPDX-License-Identifier: Apache-2.0
// Where services share a port: which of them a client wants, by what it says first. Its words go on
// to whoever is meant to hear them.
#include <vector>

#include "hello/hello.h"
#include "routing/names.h"
#include "session/session.h"

namespace proxify::session {

using namespace io;
using hello::Reader;

Task<Ending> Session::ask_name() {
    const auto names = service_->names;
    // Other lists are known once the service is.
    if (!service_->admits(record_.client.ip))
        co_return Ending{Party::policy, Stage::accept, "denied"};
    Reader reader;
    if (Ending failed = co_await read_hello(reader, names->patience()); !failed.is_normal())
        co_return failed;
    const auto& found = names->find(reader.name());
    if (!found) {
        record_.detail = reader.name().empty() ? "it asks for none" : reader.name();
        co_return Ending{Party::policy, Stage::route, "no service for this name"};
    }
    belong_to(found);
    co_return Ending{};
}

Task<Ending> Session::read_hello(Reader& reader, Duration patience) {
    Deadline deadline(around_.loop, client_);
    deadline.begin(patience);
    shaking_hands_ = &client_;
    Received received;
    std::vector<std::byte> before;  // empty when the hello came in one piece, as it mostly does
    for (;;) {
        received = {};
        co_await client_.receive(received);
        const auto bytes = received.chunk.bytes();
        if (bytes.empty() || reader.take(bytes) != Reader::State::incomplete) break;
        before.insert(before.end(), bytes.begin(), bytes.end());
    }
    shaking_hands_ = nullptr;
    deadline.end();
    if (interrupted_) co_return *interrupted_;
    if (deadline.has_passed())
        co_return Ending{Party::silent_client, Stage::greet, "no TLS hello in time"};
    if (received.chunk.empty()) {
        if (received.error == 0) record_.detail = "it ended before";
        co_return Ending{Party::client, Stage::greet, "no TLS hello", received.error};
    }
    if (reader.state() == Reader::State::no_hello) {
        record_.detail = reader.why();
        co_return Ending{Party::client, Stage::greet, "no TLS hello"};
    }
    if (!before.empty()) {
        const auto last = received.chunk.bytes();
        before.insert(before.end(), last.begin(), last.end());
        received.chunk = Chunk::copy_of(before);
    }
    client_.put_back(std::move(received.chunk));
    co_return Ending{};
}

}  // namespace proxify::session
