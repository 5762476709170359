// SPDX-License-Identifier: Apache-2.0
#include "session/session.h"

#include <algorithm>
#include <cerrno>
#include <memory>

#include "filter/filters.h"
#include "session/in_line.h"

namespace proxify::session {

using namespace io;

Session::Session(Surroundings& around, uint64_t id, capture::Arrival arrival,
                 std::shared_ptr<const routing::Service> service)
    : around_(around),
      service_(std::move(service)),
      opened_(around.loop.now()),
      port_(arrival.original_dst.port),
      is_captured_(capture::is_capture(arrival.door)),
      is_uncounted_(is_captured_ || is_nobodys_yet()),
      knows_original_(arrival.knows_original),
      may_be_ours_(arrival.may_be_ours),
      client_(around.loop, std::move(arrival.socket)) {
    record_.id = id;
    record_.client = arrival.client;
    record_.original_dst = arrival.original_dst;
    if (is_captured_) record_.door = capture::name_of(arrival.door);
    if (service_ && !is_nobodys_yet()) record_.service = {service_, &service_->name};
    if (arrival.door == capture::Door::tunnel) passage_ = std::make_unique<Passage>();
}

Task<> Session::live() {
    if (passage_) {
        passage_->came = co_await leave_tunnel();
        port_ = record_.original_dst.port;
    }
    if (!is_nobodys_yet()) count_begin();
    record_.ending = co_await carry();
    // A stream that was listened to before there was a relay has a receive in the kernel still.
    client_.stop();
    co_await client_.quiet();
    if (target_) {
        target_->stop();
        co_await target_->quiet();
    }
    if (is_nobodys_yet()) belong_to(nullptr);
    if (exchange_ && record_.ending.party == Party::policy)
        exchange_->lead.give_up(cache::Loss::closed);
    record_.duration = around_.loop.now() - opened_;
    count_end();
    around_.log.session(std::move(record_));
}

void Session::belong_to(std::shared_ptr<const routing::Service> service) {
    service_ = std::move(service);
    if (service_) record_.service = {service_, &service_->name};
    count_begin();
}

/// The life of a connection. Each step goes on with what the one before it made, or says how the
/// session ended.
Task<Ending> Session::carry() {
    if (interrupted_) co_return refuse(*interrupted_);
    if (may_be_ours_ && around_.guard &&
        around_.guard->is_own(record_.client, record_.original_dst))
        co_return refuse(
            {Party::policy, Stage::accept, "a loop: this is a connection of proxify itself"});
    if (passage_ && !passage_->came.is_normal()) co_return refuse(passage_->came);
    if (!service_)
        co_return refuse(
            {Party::policy, Stage::route, "no service for this port and no default_service"});
    if (Ending denied = service_->greets() ? co_await greet() : let_in(); !denied.is_normal())
        co_return refuse(denied);

    begin_chain();
    if (service_->cache) {
        // What a cache reads comes once the near end of a tunnel has its answer.
        if (passage_) answer_passage(tunnel::Answer::connected);
        if (auto ended = co_await answer_from_cache()) co_return *ended;
    }
    if (Ending failed = co_await connect_to_target(); !failed.is_normal()) co_return refuse(failed);
    if (passage_) answer_passage(tunnel::Answer::connected);

    // From here on bytes may have moved, so no other target can be tried.
    const auto& spec = service_->spec;
    relay::Relay relay(around_.loop, client_, *target_,
                       {.idle = spec.timeouts.idle,
                        .half_close = spec.timeouts.half_close,
                        .may_splice = spec.relay != config::RelayMode::copy,
                        .meter = meter(),
                        .chain = chain_.get(),
                        .first = exchange_ ? exchange_->request() : std::span<const std::byte>()});
    relay_ = &relay;
    Ending ending = co_await relay.run();
    relay_ = nullptr;
    record_.to_target = relay.to_target();
    record_.to_client = relay.to_client();
    record_.element = relay.ended_by();
    learn(ending);
    co_return ending;
}

/// The service's elements, as this session's own.
void Session::begin_chain() {
    if (!service_->filters) return;
    chain_ = service_->filters->begin({.session = record_.id,
                                       .service = service_->name,
                                       .client = record_.client,
                                       .original_dst = record_.original_dst,
                                       .log = around_.log});
}

Ending Session::let_in() {
    if (!service_->admits(record_.client.ip)) return {Party::policy, Stage::accept, "denied"};
    if (!service_->sources) return {};

    const auto limits = service_->limits_at(
        port_, is_uncounted_ ? std::optional<uint16_t>(port_) : around_.uncounted_port);
    if (limits == access::SourceLimits{}) return {};
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

/// What this session says about its target: one that resets a connection before it has sent a byte
/// would not have had to take it.
void Session::learn(const Ending& ending) {
    auto& target = seat_.target();
    if (target.port.is_original()) return;
    if (record_.to_client > 0) {
        if (target.early_resets.load(std::memory_order_relaxed) != 0)
            target.early_resets.store(0, std::memory_order_relaxed);
    } else if (ending.party == Party::target && ending.error != 0 && ending.error != ETIMEDOUT) {
        target.stats.early_resets.add();
        count(target, balance::Trouble::early_reset);
    }
}

void Session::count(balance::Target& target, balance::Trouble trouble) {
    const bool is_connect = trouble == balance::Trouble::failed_connect;
    auto& counter = is_connect ? target.failed_connects : target.early_resets;
    const uint32_t in_a_row = counter.fetch_add(1, std::memory_order_relaxed) + 1;
    const uint32_t limit = ejects_after(service_->spec.ejection, trouble);
    const bool condemns =
        is_connect && in_a_row % static_cast<uint32_t>(service_->spec.health.fall) == 0;
    if (around_.on_failing_target && (condemns || (limit != 0 && in_a_row % limit == 0)))
        around_.on_failing_target(*service_, target, trouble, in_a_row);
}

/// Dials targets until one answers, each at most once. All tries share one budget of time, in which
/// waiting for room is not counted; a try may use its even share of what is left, so that one black
/// hole leaves time for the others.
Task<Ending> Session::connect_to_target() {
    const auto& spec = service_->spec;
    Time deadline = around_.loop.now() + spec.timeouts.connect;
    Duration patience = spec.queue.timeout;
    balance::Tried tried;
    Ending failed{Party::target, Stage::choose, "no healthy target"};
    if (!knows_original_ && spec.goes_to_original())
        failed = {Party::policy, Stage::choose, "no original destination, and no other target"};

    while (tried.count() < spec.tries) {
        const balance::Asking asking{.client = record_.client.ip,
                                     .random = around_.loop.ring().random(),
                                     .tried = tried,
                                     .now = around_.loop.now(),
                                     .knows_original = knows_original_};
        // Held from here on, so that others who choose see it coming.
        balance::Choice choice = service_->pool.take(asking);
        if (choice.is_full) {
            const Duration before = patience;
            Ending refused = co_await wait_for_seat(asking, choice, patience);
            if (!refused.is_normal()) co_return refused;
            deadline += before - patience;
        }
        if (!choice.seat) break;
        balance::Target* target = &choice.seat.target();
        tried.add(*target);
        record_.tried = tried.count();
        record_.detail.clear();  // it is of the target before

        auto reached = target->for_dialled(record_.original_dst);
        if (!reached) {
            failed = {Party::policy, Stage::choose, "no such port at the target"};
            continue;
        }
        Address to = *reached;
        enters_tunnel_ = target->port.is_tunnel() && !stays_here();
        if (enters_tunnel_)
            to.ip = service_->tunnel->spec.address.value_or(to.ip);
        else if (target->port.is_tunnel())
            to = record_.original_dst;
        if (passage_) passage_->refusal = tunnel::Answer::unreachable;
        auto chances = std::min<int>(spec.tries, static_cast<int>(service_->pool.targets().size()));
        const Time began = around_.loop.now();
        auto left = deadline - began;
        int error = co_await dial::dial(around_.loop, around_.guard, destination_of(*target, to),
                                        left / (chances - tried.count() + 1), attempt_);
        record_.target = to;
        if (interrupted_) co_return *interrupted_;
        if (error == ECONNREFUSED && enters_tunnel_ &&
            service_->tunnel->spec.fallback == config::Fallback::plain) {
            enters_tunnel_ = false;
            to = record_.original_dst;
            attempt_.socket = Socket();
            error = co_await dial::dial(around_.loop, around_.guard, destination_of(*target, to),
                                        deadline - around_.loop.now(), attempt_);
            record_.target = to;
            if (interrupted_) co_return *interrupted_;
        }
        if (error == 0 && service_->introduces()) {
            target_.emplace(around_.loop, std::move(attempt_.socket));
            failed = co_await introduce(*target, began + left / (chances - tried.count() + 1));
            if (interrupted_ || !failed.is_normal()) {
                target_->stop();
                co_await target_->quiet();
                target_.reset();  // closed before the seat is another's
                if (interrupted_) co_return *interrupted_;
                target->stats.count_failed_connect(
                    failed.party == Party::silent_target ? ETIMEDOUT : failed.error);
                if (!target->port.is_original()) count(*target, balance::Trouble::failed_connect);
                continue;
            }
        }
        if (error == 0) {
            if (target->failed_connects.load(std::memory_order_relaxed) != 0)
                target->failed_connects.store(0, std::memory_order_relaxed);
            count_connect(target->stats, around_.loop.now() - began);
            seat_ = std::move(choice.seat);
            if (!target_) target_.emplace(around_.loop, std::move(attempt_.socket));
            co_return Ending{};
        }

        attempt_.socket = Socket();  // closed before the seat is another's
        if (dial::ran_out(error))
            co_return Ending{Party::resource, Stage::connect, "cannot open a connection", error};
        if (error == ELOOP || (spec.transparent && (error == EAFNOSUPPORT || error == EPERM))) {
            failed = {Party::policy, Stage::connect,
                      error == ELOOP ? "the target is proxify itself"
                      : error == EPERM
                          ? "no right to use the client's address"
                          : "the client's address is of another family than the target's"};
            continue;
        }
        target->stats.count_failed_connect(error);
        bool late = error == ETIMEDOUT;
        failed = {late ? Party::silent_target : Party::target, Stage::connect,
                  late ? "no answer" : "refused", late ? 0 : error};
        // Of a target that follows the dialled port, one that is closed says nothing of the others.
        // And of where each client aimed, nothing is about another client.
        const bool is_about_all =
            !target->port.is_original() && (target->port.kind == config::TargetPort::Kind::fixed ||
                                            error != ECONNREFUSED || spec.has_one_port());
        if (is_about_all) count(*target, balance::Trouble::failed_connect);
    }
    co_return failed;
}

/// Whether the client aimed at this very host: no tunnel leads there, and no wire. Not asked by
/// binding, which net.ipv4.ip_nonlocal_bind lets pass for any address; and what is not known to be
/// here must not go in the clear.
bool Session::stays_here() {
    const Ip& ip = record_.original_dst.ip;
    if (ip.is_loopback()) return true;
    if (!around_.guard) return dial::is_local(around_.loop.ring(), ip);
    return around_.guard->is_here(ip).value_or(false);
}

dial::Destination Session::destination_of(const balance::Target& target, const Address& to) {
    // A rule that brings clients here may well catch what goes on from here, whatever the target.
    dial::Destination destination{.to = to, .may_return = is_captured_};
    if (service_->spec.transparent) destination.source = record_.client.ip;
    if (target.port.is_original()) {
        // Whether it is an address of ours matters only where the port is one of our doors.
        destination.is_local = around_.guard &&
                               around_.guard->way_to(to.port) != dial::Guard::Way::open &&
                               (enters_tunnel_ ? around_.guard->is_here(to.ip).value_or(false)
                                               : dial::is_local(around_.loop.ring(), to.ip));
    } else {
        destination.is_local = target.is_local.load(std::memory_order_relaxed);
    }
    return destination;
}

Task<Ending> Session::wait_for_seat(const balance::Asking& asking, balance::Choice& choice,
                                    Duration& patience) {
    Loop& loop = around_.loop;
    auto& admission = service_->pool.admission();
    auto place = std::make_shared<InLine<balance::Waiter>>(loop);
    if (!admission.line_up(*place, service_->pool, asking,
                           static_cast<size_t>(service_->spec.queue.size)))
        co_return Ending{Party::resource, Stage::choose, "the queue is full"};

    turn_ = &place->turn;
    const Time since = loop.now(), until = since + patience;
    bool is_here = true;
    while (loop.now() < until &&
           !co_await place->turn.wait(std::min(until - loop.now(), look_interval)))
        if (!(is_here = client_.is_connected())) break;
    turn_ = nullptr;
    choice = admission.step_out(*place);
    patience -= std::min(patience, loop.now() - since);
    record_.queued += loop.now() - since;
    stats().waits.add(loop.now() - since);

    if (interrupted_) co_return *interrupted_;
    if (!is_here) co_return Ending{Party::client, Stage::choose, "gone while it waited"};
    if (choice.is_full)
        co_return Ending{Party::silent_target, Stage::choose, "waited too long in the queue"};
    co_return Ending{};
}

// Statistics: a handful of atomic additions when it begins, when it has reached a target and when
// it ends; the relay counts bytes. Nothing in between.

stats::Port* Session::port_stats() {
    if (!service_ || !service_->port_stats) return nullptr;
    return &service_->port_stats->at(port_);
}

void Session::count_begin() {
    stats().sessions.add();
    if (auto* port = port_stats()) port->sessions.add();
}

void Session::count_connect(stats::Target& target, Duration took) {
    stats().connects.add(took);
    target.connects.add(took);
    if (auto* port = port_stats()) port->connects.add(took);
}

stats::Meter Session::meter() {
    auto* port = port_stats();
    return {.service = &stats().bytes,
            .target = &seat_.target().stats.bytes,
            .port = port ? &port->bytes : nullptr};
}

void Session::count_end() {
    stats().endings.add(record_.ending);
    stats().durations.add(record_.duration);
    auto* port = port_stats();
    const bool is_answered = target_ || (exchange_ && record_.to_client > 0);
    if (port && !is_answered) port->failed.add();
}

/// The client gets a reset, not an end that looks like an answer.
Ending Session::refuse(Ending why) {
    if (passage_ && refuse_passage(why)) return why;
    client_.reset_on_close();
    return why;
}

Session::View Session::view() const {
    const bool is_moving = exchange_ && (exchange_->is_reading || exchange_->is_answering);
    return {.id = record_.id,
            .service = record_.service,
            .client = record_.client,
            .original_dst = record_.original_dst,
            .target = record_.target,
            .state = relay_ || is_moving ? "open"
                     : turn_             ? "waiting"
                                         : "connecting",
            .age = around_.loop.now() - opened_,
            .to_target = relay_ ? relay_->to_target() : 0,
            .to_client = relay_ ? relay_->to_client() : record_.to_client};
}

void Session::interrupt(Ending why) {
    if (!relay_)
        why.stage = shaking_hands_ == &client_                      ? Stage::greet
                    : exchange_ && exchange_->is_answering          ? Stage::data
                    : turn_ || (exchange_ && exchange_->is_reading) ? Stage::choose
                                                                    : Stage::connect;
    if (!interrupted_) interrupted_ = why;
    attempt_.cancel();
    // Each may be the end of this session.
    if (shaking_hands_) return shaking_hands_->stop();
    if (relay_) return relay_->interrupt(why);
    if (exchange_) client_.stop();
    if (turn_) turn_->raise();
}

}  // namespace proxify::session
