// SPDX-License-Identifier: Apache-2.0
// The PROXY header with which those in accept_proxy begin: whom they carry, and what that client
// dialled. It is asked of them always and of others never, so that nobody else is believed, and
// nobody's own bytes are taken for one.
#include "proxy_header/header.h"

#include <algorithm>

#include "session/session.h"

namespace proxify::session {

using namespace io;
using proxy_header::Parsed;

namespace {

/// A proxy sends it at once. Where the service has a time for handshakes, it is that.
constexpr Duration header_timeout = 10s;

/// Reads what has come of a header, and takes that from the chunk; what is behind it stays there.
Parsed read_on(std::string& bytes, Chunk& chunk) {
    const size_t before = bytes.size();
    const auto came = chunk.bytes();
    const size_t taken = std::min(came.size(), proxy_header::size_max - before);
    bytes.append(reinterpret_cast<const char*>(came.data()), taken);
    Parsed parsed = proxy_header::parse(std::as_bytes(std::span(bytes)));
    chunk.consume(parsed.state == Parsed::State::complete ? parsed.size - before : taken);
    return parsed;
}

}  // namespace

Task<Ending> Session::hear_header() {
    // The list of all services is about whoever connects here; those who are named come later.
    if (service_->common_list && !service_->common_list->admits(record_.client.ip))
        co_return Ending{Party::policy, Stage::accept, "denied"};

    const auto& tls = service_->spec.tls;
    Deadline deadline(around_.loop, client_);
    deadline.begin(tls ? tls->handshake_timeout : header_timeout);
    shaking_hands_ = &client_;
    std::string bytes;
    Parsed parsed;
    Received received;
    while (parsed.state == Parsed::State::incomplete) {
        received = {};
        co_await client_.receive(received);
        if (received.error != 0 || received.chunk.empty()) break;
        parsed = read_on(bytes, received.chunk);
    }
    shaking_hands_ = nullptr;
    deadline.end();

    if (interrupted_) co_return *interrupted_;
    if (deadline.has_passed())
        co_return Ending{Party::silent_client, Stage::greet, "no PROXY header in time"};
    if (parsed.state == Parsed::State::malformed) {
        record_.detail = parsed.problem;
        co_return Ending{Party::client, Stage::greet, "no good PROXY header"};
    }
    if (parsed.state == Parsed::State::incomplete)
        co_return Ending{Party::client, Stage::greet, "gone before its PROXY header was whole",
                         received.error};
    client_.put_back(std::move(received.chunk));

    auto& header = parsed.header;
    if (header.ends) {
        record_.via = record_.client;
        record_.client = header.ends->source;
        record_.original_dst = header.ends->destination;
        knows_original_ = true;
    }
    if (service_->spec.send_proxy && !header.tlvs.empty())
        heard_ = std::make_unique<std::vector<proxy_header::Tlv>>(std::move(header.tlvs));
    co_return Ending{};
}

}  // namespace proxify::session
