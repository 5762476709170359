// SPDX-License-Identifier: Apache-2.0
// What a client says before its own bytes begin: who it is, whom it wants, and how it will speak.
#include <cerrno>

#include "secure/handshake.h"
#include "session/handshakes.h"
#include "session/session.h"

namespace proxify::session {

using namespace io;

Task<Ending> Session::greet() {
    if (service_->takes_header_from(record_.client.ip))
        if (Ending failed = co_await hear_header(); !failed.is_normal()) co_return failed;
    if (is_nobodys_yet())
        if (Ending failed = co_await ask_name(); !failed.is_normal()) co_return failed;
    if (Ending denied = let_in(); !denied.is_normal()) co_return denied;
    if (service_->tls)
        if (Ending failed = co_await shake_hands_with_client(); !failed.is_normal())
            co_return failed;
    client_.hold();  // what it says next waits until there is somebody to hear it
    co_return Ending{};
}

Task<Ending> Session::shake_hands_with_client() {
    const Turn turn(*service_->handshakes);
    const int most = service_->spec.tls->max_handshakes;
    if (most != 0 && turn.number() > most)
        co_return Ending{Party::resource, Stage::greet, "too many TLS handshakes at once"};
    Deadline deadline(around_.loop, client_);
    deadline.begin(service_->spec.tls->handshake_timeout);
    shaking_hands_ = &client_;
    const secure::Outcome outcome =
        co_await secure::shake_hands(client_, std::make_unique<tls::Connection>(*service_->tls));
    shaking_hands_ = nullptr;
    deadline.end();
    if (interrupted_) co_return *interrupted_;
    count_handshake(stats().client_tls, outcome, deadline.has_passed(), client_);
    if (deadline.has_passed())
        co_return Ending{Party::silent_client, Stage::greet, "no TLS handshake in time"};
    if (outcome.error == EBADMSG) {
        record_.detail = outcome.why;
        co_await relay::flush(around_.loop, client_);  // the client may hear why
        co_return Ending{Party::client, Stage::greet, "the TLS handshake failed"};
    }
    if (outcome.error != 0)
        co_return Ending{Party::client, Stage::greet, "gone during the TLS handshake",
                         outcome.error == ENODATA ? 0 : outcome.error};
    if (const auto peer = note_tls())
        if (auto at = tls::find_allowed(*peer, service_->spec.tls->settings.allowed_names))
            service_->allowed_clients[*at]->add();
    co_return Ending{};
}

std::optional<tls::CertificateFacts> Session::note_tls() {
    const auto* agreed = secure::connection_of(client_);
    if (!agreed) return std::nullopt;
    record_.tls = agreed->version();
    auto peer = agreed->peer();
    if (peer) record_.identity = peer->names.empty() ? peer->subject : peer->names.front();
    return peer;
}

}  // namespace proxify::session
