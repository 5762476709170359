// SPDX-License-Identifier: Apache-2.0
#include "worker/worker.h"

#include <cerrno>
#include <cstring>

#include "base/format.h"
#include "base/thread.h"

namespace proxify::worker {

using namespace io;

static constexpr Ending drain_is_over{Party::operator_, Stage::data, "the drain deadline passed"};

Worker::Worker(Ring ring, telemetry::Journal& log, Options options,
               std::shared_ptr<const routing::Snapshot> snapshot)
    : loop_(std::move(ring)),
      log_(log),
      options_(std::move(options)),
      snapshot_(std::move(snapshot)),
      around_{loop_,
              log_,
              snapshot_->unserved(),
              options_.guard,
              options_.on_failing_target,
              options_.uncounted_port,
              &snapshot_,
              options_.instance} {
    use(options_.shares);
}

Worker::~Worker() {
    join();
}

void Worker::start(std::function<void()> on_end) {
    thread_ = start_thread("worker", [this, on_end = std::move(on_end)] {
        loop_.run();
        on_end();
    });
}

void Worker::join() {
    if (thread_.joinable()) thread_.join();
}

void Worker::use(Shares shares) {
    options_.shares = shares;
    sessions_max_.set(shares.sessions_max);
    loop_.pipes().set_count_max(shares.pipes_max);
}

stats::Worker Worker::stats() const {
    const Pipes& pipes = loop_.pipes();
    std::vector<std::pair<std::string_view, uint64_t>> accepted;
    for (size_t i = 0; i < accepted_.size(); ++i)
        if (accepted_[i] > 0)
            accepted.emplace_back(capture::name_of(static_cast<capture::Door>(i)), accepted_[i]);
    return {.number = options_.number,
            .sessions = session_count_,
            .sessions_max = sessions_max_,
            .accept_pauses = accept_pauses_,
            .buffers = loop_.ring().buffer_count(),
            .buffer_waits = loop_.times_starved(),
            .pipes = pipes.count(),
            .pipes_lent = pipes.lent(),
            .pipes_max = pipes.count_max(),
            .pipes_refused = pipes.times_refused(),
            .accepted = std::move(accepted),
            .completion_overflows = loop_.ring().times_overflowed()};
}

void Worker::listen(Handle listener, capture::Door kind) {
    auto door = std::make_shared<Door>(loop_, listener, kind);
    doors_.emplace(door->listener.address().port, door);
    loop_.spawn(serve(door));
}

void Worker::stop_listening(uint16_t port) {
    for (auto found = doors_.find(port); found != doors_.end(); found = doors_.find(port)) {
        auto door = doors_.extract(found).mapped();
        door->listener.finish();
        door->room.raise();
    }
}

void Worker::release(uint16_t port, Handle listener, std::move_only_function<void()> on_released) {
    auto [found, end] = doors_.equal_range(port);
    while (found != end && found->second->listener.handle() != listener) ++found;
    expect(found != end, "a listener is released by the worker that has it");
    auto door = doors_.extract(found).mapped();
    door->on_released = std::move(on_released);
    door->listener.release();
    door->room.raise();
}

Task<> Worker::serve(std::shared_ptr<Door> door) {
    ++doors_open_;
    bool complained = false;
    for (;;) {
        int accepted = co_await door->listener.accept();
        if (accepted >= 0) {
            complained = false;
            ++accepted_[static_cast<size_t>(door->kind)];
            Socket socket(loop_.ring(), static_cast<Handle>(accepted));
            const uint16_t port = door->listener.address().port;
            auto arrival = capture::arrive(std::move(socket), door->kind, port, options_.origins);
            // Out of a tunnel it is named by what the near end says.
            auto service =
                door->kind == capture::Door::tunnel ? nullptr
                : capture::is_capture(door->kind)
                    ? snapshot_->route_captured(port, arrival.original_dst, loop_.now()).service
                    : snapshot_
                          ->route(arrival.original_dst,
                                  /*is_steered=*/door->kind == capture::Door::steered, loop_.now(),
                                  options_.is_added_by_hand)
                          .service;
            loop_.spawn(hold(std::make_unique<session::Session>(
                around_, take_id(), std::move(arrival), std::move(service))));
            if (session_count_ < options_.shares.sessions_max || draining_) continue;
        } else if (accepted == -ECANCELED) {
            break;  // the queue is empty, or left to another worker
        } else if (accepted == -ECONNABORTED || accepted == -EINTR || accepted == -EAGAIN) {
            continue;
        } else if (!std::exchange(complained, true)) {
            log_.warn("accept_failed",
                      format("cannot accept on {}: {}; clients wait until sessions end",
                             door->listener.address().text(), std::strerror(-accepted)));
        }
        // No room: clients wait in the kernel's queue. Asking again at once would burn a core.
        ++accept_pauses_;
        door->listener.pause();
        waiting_doors_.push_back(door);
        co_await door->room.wait(100ms);
        std::erase(waiting_doors_, door);
    }
    --doors_open_;
    if (door->on_released) door->on_released();
    if (is_idle()) drained_.raise();
}

/// A session's life, and its place in the list.
Task<> Worker::hold(std::unique_ptr<session::Session> session) {
    session->next = sessions_;
    if (sessions_) sessions_->previous = session.get();
    sessions_ = session.get();
    ++session_count_;
    if (overdue_) session->interrupt(drain_is_over);

    co_await session->live();

    --session_count_;
    for (Visit* visit : visits_)
        if (visit->next == session.get()) visit->next = session->next;
    if (session->next) session->next->previous = session->previous;
    (session->previous ? session->previous->next : sessions_) = session->next;
    if (!waiting_doors_.empty()) waiting_doors_.front()->room.raise();
    if (is_idle()) drained_.raise();
}

void Worker::visit(std::function<void(session::Session&)> visitor) {
    loop_.spawn(walk(std::make_unique<Visit>(std::move(visitor), sessions_)));
}

Task<> Worker::walk(std::unique_ptr<Visit> visit) {
    constexpr int at_a_time = 64;
    visits_.push_back(visit.get());
    while (visit->next) {
        for (int i = 0; i < at_a_time && visit->next; ++i) {
            auto* session = visit->next;
            visit->next = session->next;  // the visitor may end it at once
            visit->visitor(*session);
        }
        // Not at this very moment: a timer that is due at once fires in the same turn.
        co_await loop_.sleep(1ns);
    }
    std::erase(visits_, visit.get());
}

void Worker::drain(Duration deadline) {
    if (std::exchange(draining_, true)) return;
    while (!doors_.empty()) stop_listening(doors_.begin()->first);
    loop_.spawn(end_drain(deadline));
    loop_.stop();
}

Task<> Worker::end_drain(Duration deadline) {
    // Clients that wait in a queue are served as well, so the last session may be yet to begin.
    const Time until = loop_.now() + deadline;
    while (!is_idle() && loop_.now() < until) co_await drained_.wait(until - loop_.now());
    overdue_ = true;
    interrupt_each(drain_is_over, nullptr);
}

void Worker::end_sessions_of(const balance::Target& target) {
    interrupt_each({Party::target, Stage::data, "the target is down"}, &target);
}

/// Those of one target, or all.
void Worker::interrupt_each(Ending why, const balance::Target* only_of) {
    for (auto* session = sessions_; session;) {
        auto* next = session->next;  // interrupt() may end the session at once
        if (!only_of || session->is_joined_to(*only_of)) session->interrupt(why);
        session = next;
    }
}

}  // namespace proxify::worker
