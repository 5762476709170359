// SPDX-License-Identifier: Apache-2.0
// Both ends of a tunnel, from the handshake to the answer. The near end is a client's session whose
// target is "tunnel", the far end is one that came in by the door of that name.
#include <algorithm>
#include <cerrno>

#include "secure/handshake.h"
#include "session/handshakes.h"
#include "session/session.h"

namespace proxify::session {

using namespace io;
using tunnel::Answer;

namespace {

/// What a client may take to open a tunnel, handshake and all.
constexpr Duration patience = 10s;

/// Strangers may keep so many handshakes waiting, and no more.
constexpr int handshakes_max = 1000;

/// Reads one message and leaves what comes behind it. 0, EPROTO when it is none, or what ended the
/// stream.
template <class Message>
Task<int> hear(Stream& stream, tunnel::Read<Message> (&read)(std::span<const std::byte>),
               Message& message) {
    using State = tunnel::Read<Message>::State;
    std::string heard;
    for (Received received;;) {
        received = {};
        co_await stream.receive(received);
        if (received.error != 0) co_return received.error;
        if (received.chunk.empty()) co_return ENODATA;
        const auto bytes = received.chunk.bytes();
        const size_t had = heard.size();
        heard.append(reinterpret_cast<const char*>(bytes.data()),
                     std::min(bytes.size(), tunnel::size_max - had));
        auto found = read(std::as_bytes(std::span(heard)));
        if (found.state == State::malformed) co_return EPROTO;
        if (found.state == State::incomplete) continue;
        received.chunk.consume(found.size - had);
        if (!received.chunk.empty()) stream.put_back(std::move(received.chunk));
        message = std::move(found.message);
        co_return 0;
    }
}

/// Nothing else is on its way, so that there is room for it.
bool say(Stream& stream, const std::string& message) {
    return stream.send_now(std::as_bytes(std::span(message))) == static_cast<int>(message.size());
}

}  // namespace

// ---- the near end

Task<Ending> Session::enter_tunnel(Time until) {
    const auto& tunnel = *service_->tunnel;
    const std::string to = record_.target->text();
    const std::string& name =
        tunnel.spec.server_name.empty() ? record_.target->ip.text() : tunnel.spec.server_name;
    tunnel::Opening opening{.port = record_.original_dst.port, .path = {}};
    if (passage_) opening.path = passage_->opening.path;
    if (opening.path.size() == tunnel::hops_max)
        co_return Ending{Party::policy, Stage::connect, "a loop of tunnels"};
    opening.path.push_back(around_.instance);

    Deadline deadline(around_.loop, *target_);
    deadline.begin(until - around_.loop.now());
    shaking_hands_ = &*target_;
    const secure::Outcome outcome = co_await secure::shake_hands(
        *target_, std::make_unique<tls::Connection>(tunnel.client, name, name + " " + to));
    int error = outcome.error;
    auto answer = Answer::unreachable;
    if (error == 0)
        error = say(*target_, encode(opening))
                    ? co_await hear(*target_, tunnel::read_answer, answer)
                    : ECONNRESET;
    shaking_hands_ = nullptr;
    if (interrupted_) co_return *interrupted_;
    if (deadline.has_passed())
        co_return Ending{Party::silent_target, Stage::connect,
                         "no answer from the other end of the tunnel"};
    // That a certificate of ours is not wanted is heard after the handshake.
    const auto* agreed = secure::connection_of(*target_);
    record_.detail = outcome.error != 0 || !agreed ? outcome.why : agreed->error();
    if (outcome.error != 0 || error == EBADMSG)
        co_return Ending{Party::target, Stage::connect,
                         "the TLS handshake with the other end of the tunnel failed",
                         error == EBADMSG || error == ENODATA ? 0 : error};
    if (error != 0)
        co_return Ending{Party::target, Stage::connect,
                         error == EPROTO ? "what answers at the tunnel's port is no tunnel"
                                         : "the other end of the tunnel went away",
                         error == EPROTO || error == ENODATA ? 0 : error};
    switch (answer) {
        case Answer::connected:
            break;
        case Answer::refused:
            co_return Ending{Party::target, Stage::connect,
                             "refused at the other end of the tunnel", ECONNREFUSED};
        case Answer::not_allowed:
            co_return Ending{Party::policy, Stage::connect,
                             "the other end of the tunnel does not allow this port"};
        case Answer::loop:
            co_return Ending{Party::policy, Stage::connect, "a loop of tunnels"};
        case Answer::unreachable:
            co_return Ending{Party::target, Stage::connect,
                             "the other end of the tunnel cannot reach it"};
    }
    co_return Ending{};
}

// ---- the far end

/// Until it is known which service this client is for. Of what it says only the port is believed,
/// and that it may be reached is for us to say; the address is the one that it has dialled.
Task<Ending> Session::leave_tunnel() {
    // Held as long as hands are shaken by it.
    const std::shared_ptr<const routing::Tunnel> tunnel =
        around_.snapshot ? (*around_.snapshot)->tunnel() : nullptr;
    if (!tunnel) co_return Ending{Party::policy, Stage::route, "there is no [tunnel] any more"};
    if (tunnel->common_list && !tunnel->common_list->admits(record_.client.ip))
        co_return Ending{Party::policy, Stage::accept, "denied"};
    const Turn turn(*tunnel->handshakes);
    if (turn.number() > handshakes_max)
        co_return Ending{Party::resource, Stage::greet, "too many TLS handshakes at once"};
    Deadline deadline(around_.loop, client_);
    deadline.begin(patience);
    shaking_hands_ = &client_;
    const secure::Outcome outcome =
        co_await secure::shake_hands(client_, std::make_unique<tls::Connection>(tunnel->server));
    int error = outcome.error;
    if (error == 0) error = co_await hear(client_, tunnel::read_opening, passage_->opening);
    shaking_hands_ = nullptr;
    deadline.end();
    note_tls();
    if (interrupted_) co_return *interrupted_;
    if (deadline.has_passed())
        co_return Ending{Party::silent_client, Stage::greet, "no tunnel was opened in time"};
    if (outcome.error == EBADMSG) {
        record_.detail = outcome.why;
        co_await relay::flush(around_.loop, client_);  // the near end may hear why
        co_return Ending{Party::client, Stage::greet, "the TLS handshake failed"};
    }
    if (error == EPROTO)
        co_return Ending{Party::client, Stage::greet, "what it said opens no tunnel"};
    if (error != 0)
        co_return Ending{Party::client, Stage::greet, "gone before it opened a tunnel",
                         error == ENODATA || error == EBADMSG ? 0 : error};
    passage_->is_open = true;
    co_return route_passage(tunnel->spec);
}

Ending Session::route_passage(const config::Tunnel& spec) {
    const auto& [port, path] = passage_->opening;
    const uint16_t listener_port = std::exchange(record_.original_dst.port, port);
    auto refuse_with = [&](Answer answer, const char* why) {
        passage_->refusal = answer;
        return Ending{Party::policy, Stage::greet, why};
    };
    if (std::ranges::find(path, around_.instance) != path.end())
        return refuse_with(Answer::loop, "a loop: it came through this proxify before");
    if (path.size() > static_cast<size_t>(spec.max_hops))
        return refuse_with(Answer::loop, "it came through too many tunnels");
    const bool is_own = around_.guard && around_.guard->way_to(port) == dial::Guard::Way::own;
    if (is_own || !spec.may_reach(port))
        return refuse_with(Answer::not_allowed, is_own ? "a tunnel to a listener of proxify itself"
                                                       : "this port is not for tunnels");
    service_ = (*around_.snapshot)
                   ->route_captured(listener_port, record_.original_dst, around_.loop.now())
                   .service;
    if (!service_)
        return refuse_with(Answer::not_allowed, "no service for this port and no default_service");
    if (!service_->names) record_.service = {service_, &service_->name};
    // The near end says nothing more before it has an answer, and that comes with the target.
    if (service_->greets())
        return refuse_with(Answer::not_allowed,
                           "the service waits for what cannot come through a tunnel: tls, "
                           "accept_proxy and sni are for other doors");
    passage_->refusal = Answer::not_allowed;  // until a target is dialled
    return {};
}

bool Session::answer_passage(Answer answer) {
    if (!passage_->is_open || std::exchange(passage_->is_answered, true)) return false;
    return say(client_, encode(answer));
}

/// Tells the near end why. False when it cannot hear it.
bool Session::refuse_passage(const Ending& why) {
    Answer answer = passage_->refusal;
    if (why.error == ECONNREFUSED) answer = Answer::refused;
    return answer_passage(answer) && client_.shutdown_write() == 0;
}

}  // namespace proxify::session
