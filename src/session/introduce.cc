// SPDX-License-Identifier: Apache-2.0
// What a target is told before a client's bytes: whose they are, and how we will speak.
#include <cerrno>

#include "secure/handshake.h"
#include "session/handshakes.h"
#include "session/session.h"

namespace proxify::session {

using namespace io;

Task<Ending> Session::introduce(const balance::Target& target, Time until) {
    if (enters_tunnel_) co_return co_await enter_tunnel(until);
    Deadline deadline(around_.loop, *target_);
    deadline.begin(until - around_.loop.now());
    shaking_hands_ = &*target_;
    Ending ending;
    if (service_->spec.send_proxy) ending = co_await send_header();
    if (ending.is_normal() && service_->target_tls)
        ending = co_await shake_hands_with_target(target);
    shaking_hands_ = nullptr;
    if (interrupted_) co_return *interrupted_;
    if (deadline.has_passed())
        co_return Ending{
            Party::silent_target, Stage::connect,
            service_->target_tls ? "no TLS handshake in time" : "it takes no PROXY header"};
    co_return ending;
}

Task<Ending> Session::shake_hands_with_target(const balance::Target& target) {
    const auto& spec = *service_->spec.target_tls;
    const std::string& name =
        spec.server_name.empty() ? service_->host_of(target) : spec.server_name;
    const secure::Outcome outcome = co_await secure::shake_hands(
        *target_,
        std::make_unique<tls::Connection>(*service_->target_tls, name, name + " " + target.text));
    // Stopped by nobody else, it took too long.
    if (!interrupted_)
        count_handshake(stats().target_tls, outcome, outcome.error == ECANCELED, *target_);
    if (outcome.error == 0) co_return Ending{};
    record_.detail = outcome.why;
    co_return Ending{Party::target, Stage::connect, "the TLS handshake failed",
                     outcome.error == EBADMSG || outcome.error == ENODATA ? 0 : outcome.error};
}

}  // namespace proxify::session
