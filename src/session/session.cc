// SPDX-License-Identifier: Apache-2.0
#include "session/session.h"

#include <algorithm>
#include <cerrno>

namespace proxify::session {

using namespace io;

Session::Session(Surroundings& around, uint64_t id, capture::Arrival arrival,
                 std::shared_ptr<const routing::Service> service)
    : around_(around),
      service_(std::move(service)),
      opened_(around.loop.now()),
      client_(around.loop, std::move(arrival.socket)) {
    record_.id = id;
    record_.client = arrival.client;
    record_.original_dst = arrival.original_dst;
    if (service_) record_.service = {service_, &service_->name};
}

Task<> Session::live() {
    record_.ending = co_await carry();
    record_.duration = around_.loop.now() - opened_;
    around_.log.session(std::move(record_));
}

/// The life of a connection. Each step goes on with what the one before it made, or says how the
/// session ended.
Task<Ending> Session::carry() {
    if (interrupted_) co_return refuse(*interrupted_);
    if (!service_)
        co_return refuse(
            {Party::policy, Stage::route, "no service for this port and no default_service"});
    if (Ending denied = let_in(); !denied.is_normal()) co_return refuse(denied);

    if (Ending failed = co_await connect_to_target(); !failed.is_normal()) co_return refuse(failed);

    // From here on bytes may have moved, so no other target can be tried.
    const auto& spec = service_->spec;
    relay::Relay relay(around_.loop, client_, *target_,
                       {.idle = spec.timeouts.idle,
                        .half_close = spec.timeouts.half_close,
                        .may_splice = spec.relay != config::RelayMode::copy});
    relay_ = &relay;
    Ending ending = co_await relay.run();
    relay_ = nullptr;
    record_.to_target = relay.to_target();
    record_.to_client = relay.to_client();
    co_return ending;
}

Ending Session::let_in() {
    if (!service_->admits(record_.client.ip)) return {Party::policy, Stage::accept, "denied"};
    if (!service_->sources) return {};

    const auto& written = service_->spec.limits;
    access::SourceLimits limits{static_cast<uint32_t>(written.source_sessions),
                                static_cast<uint32_t>(written.source_rate)};
    if (around_.kernel_counts_sources) limits.rate = 0;
    place_ = std::make_unique<access::Sources::Place>();
    switch (service_->sources->enter(record_.client.ip, limits, opened_, *place_)) {
        case access::Sources::Answer::welcome:
            break;
        case access::Sources::Answer::too_many_sessions:
            return {Party::policy, Stage::accept, "too many sessions of this source"};
        case access::Sources::Answer::too_fast:
            return {Party::policy, Stage::accept, "too many connections of this source"};
    }
    return {};
}

/// Dials targets until one answers, each at most once. All tries share one budget of time; a try
/// may use its even share of what is left, so that one black hole leaves time for the others.
Task<Ending> Session::connect_to_target() {
    const auto& spec = service_->spec;
    const uint16_t dialled_port = record_.original_dst.port;
    const Time deadline = opened_ + spec.timeouts.connect;
    balance::Tried tried;
    Ending failed{Party::target, Stage::choose, "no healthy target"};

    while (tried.count() < spec.tries) {
        balance::Target* target = service_->pool.pick(
            {.client = record_.client.ip, .random = around_.loop.ring().random(), .tried = tried});
        if (!target) break;
        tried.add(*target);
        record_.tried = tried.count();

        auto reached = target->for_dialled(dialled_port);
        if (!reached) {
            failed = {Party::policy, Stage::choose, "no such port at the target"};
            continue;
        }
        // Held from here on, so that others who choose see it coming.
        balance::Seat seat(*target);
        const Address to = *reached;
        auto chances = std::min<int>(spec.tries, static_cast<int>(service_->pool.targets().size()));
        auto left = deadline - around_.loop.now();
        int error = co_await dial::dial(around_.loop, around_.guard, to,
                                        target->is_local.load(std::memory_order_relaxed),
                                        left / (chances - tried.count() + 1), attempt_);
        record_.target = to;
        if (interrupted_) co_return *interrupted_;
        if (error == 0) {
            if (target->failed_connects.load(std::memory_order_relaxed) != 0)
                target->failed_connects.store(0, std::memory_order_relaxed);
            seat_ = std::move(seat);
            target_.emplace(around_.loop, std::move(attempt_.socket));
            co_return Ending{};
        }

        bool is_ours = error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS ||
                       error == EADDRNOTAVAIL;
        if (is_ours)
            co_return Ending{Party::resource, Stage::connect, "cannot open a connection", error};
        if (error == ELOOP) {
            failed = {Party::policy, Stage::connect, "the target is proxify itself"};
            continue;
        }
        bool late = error == ETIMEDOUT;
        failed = {late ? Party::silent_target : Party::target, Stage::connect,
                  late ? "no answer" : "refused", late ? 0 : error};
        if (target->failed_connects.fetch_add(1, std::memory_order_relaxed) + 1 ==
            static_cast<uint32_t>(spec.health.fall))
            around_.on_failing_target(*service_, *target);
    }
    co_return failed;
}

/// The client gets a reset, not an end that looks like an answer.
Ending Session::refuse(Ending why) {
    client_.reset_on_close();
    return why;
}

void Session::interrupt(Ending why) {
    if (!relay_) why.stage = Stage::connect;
    if (!interrupted_) interrupted_ = why;
    attempt_.cancel();
    if (relay_) relay_->interrupt(why);
}

}  // namespace proxify::session
