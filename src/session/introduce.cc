// SPDX-License-Identifier: Apache-2.0
// What a target is told before a client's bytes: whose they are, and how we will speak.
#include <cerrno>

#include "secure/handshake.h"
#include "session/session.h"

namespace proxify::session {

using namespace io;

Task<Ending> Session::introduce(const balance::Target& target, Time until) {
    if (enters_tunnel_)
        if (Ending failed = co_await enter_tunnel(until); !failed.is_normal()) co_return failed;
    if (!service_->target_tls) co_return Ending{};
    const auto& spec = *service_->spec.target_tls;
    const std::string& name =
        spec.server_name.empty() ? service_->host_of(target) : spec.server_name;
    Deadline deadline(around_.loop, *target_);
    deadline.begin(until - around_.loop.now());
    shaking_hands_ = &*target_;
    const secure::Outcome outcome = co_await secure::shake_hands(
        *target_,
        std::make_unique<tls::Connection>(*service_->target_tls, name, name + " " + target.text));
    shaking_hands_ = nullptr;
    if (interrupted_) co_return *interrupted_;
    if (deadline.has_passed())
        co_return Ending{Party::silent_target, Stage::connect, "no TLS handshake in time"};
    if (outcome.error == 0) co_return Ending{};
    record_.detail = outcome.why;
    co_return Ending{Party::target, Stage::connect, "the TLS handshake failed",
                     outcome.error == EBADMSG || outcome.error == ENODATA ? 0 : outcome.error};
}

}  // namespace proxify::session
