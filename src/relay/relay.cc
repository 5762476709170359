// SPDX-License-Identifier: Apache-2.0
#include "relay/relay.h"

#include <algorithm>
#include <cerrno>

namespace proxify::relay {

using namespace io;

/// How long bytes that were taken before a reset may need to reach the other side.
static constexpr Duration flush_max = 2s;

/// So much of what elements make may be sent in one turn: of an element that makes much of little
/// and a reader that takes it all there might be no end.
static constexpr uint64_t made_max = 1 << 20;

/// So much without a pause is bulk. Less is not worth the change, and messages back and forth never
/// come to it: between them there is nothing to read.
static constexpr size_t bulk = 128 * 1024;

Relay::Relay(Loop& loop, Stream& client, Stream& target, Options options)
    : loop_(loop), client_(client), target_(target), options_(options), last_activity_(loop.now()) {
    options_.may_splice &= !client.is_coded() && !target.is_coded();
}

Task<Ending> Relay::run() {
    loop_.timers().arm(idle_timer_, last_activity_ + idle_limit());
    co_await both(start(Side::client), start(Side::target));
    loop_.timers().disarm(idle_timer_);
    report();

    // From here on nothing is read. A side whose peer is gone gets what was taken for it, and
    // then a reset: after a clean end it would believe that it has everything.
    client_.stop();
    target_.stop();
    co_await client_.quiet();
    co_await target_.quiet();
    if (!ending_.is_normal()) {
        if (target_reset_ && !client_reset_) co_await flush(loop_, client_);
        if (client_reset_ && !target_reset_) co_await flush(loop_, target_);
        if (!ended_by_.empty()) {
            co_await flush(loop_, client_);
            co_await flush(loop_, target_);
        }
        client_.reset_on_close();
        target_.reset_on_close();
    }
    co_return ending_;
}

Task<> flush(Loop& loop, Stream& stream) {
    Time give_up = loop.now() + flush_max;
    for (Duration pause = 1ms; stream.unacknowledged() > 0 && loop.now() < give_up;
         pause = std::min<Duration>(pause * 2, 50ms))
        co_await loop.sleep(pause);
}

Task<> Relay::start(Side from_side) {
    return from_side == Side::client && !options_.first.empty() ? send_first()
                                                                : start_pump(from_side);
}

Task<> Relay::send_first() {
    for (auto left = options_.first; !left.empty();) {
        int sent = target_.send_now(left);
        if (sent >= 0) {
            count(to_target_, sent);
            left = left.subspan(static_cast<size_t>(sent));
        } else if (sent == -EAGAIN) {
            if (!co_await target_.writable()) co_return;
            last_activity_ = loop_.now();
        } else {
            co_return gone(Side::target, -sent);
        }
    }
    co_await start_pump(Side::client);
}

Task<> Relay::start_pump(Side from_side) {
    if (!options_.chain) return pump(from_side);
    auto& flow = options_.chain->flow(from_side == Side::client ? Direction::to_target
                                                                : Direction::to_client);
    return flow.is_sated() ? pump(from_side) : pump_through(from_side, flow);
}

Task<> Relay::pump(Side from_side) {
    Stream& from = stream(from_side);
    Stream& to = stream(other(from_side));
    Way& way = way_from(from_side);
    size_t in_a_row = 0;  // bytes that came without a pause between them
    bool tuned = false;
    for (;;) {
        Received received;
        co_await from.receive(received);
        if (received.error == ECANCELED) co_return;
        if (received.error != 0) {
            // All it had sent is delivered; nobody is left to send to it, or to wait for it.
            gone(from_side, received.error);
            co_return stop();
        }
        if (received.chunk.empty()) {
            while (!finish(from_side))
                if (!co_await to.writable()) co_return;
            co_return;
        }

        last_activity_ = loop_.now();
        in_a_row = received.more_waits ? in_a_row + received.chunk.bytes().size() : 0;
        while (!received.chunk.empty()) {
            int sent = to.send_now(received.chunk.bytes());
            if (sent >= 0) {
                count(way, sent);
                received.chunk.consume(static_cast<size_t>(sent));
            } else if (sent == -EAGAIN) {
                from.hold();
                received.chunk.park();  // whoever is slow now waits in memory of their own
                if (!co_await to.writable()) co_return;
                last_activity_ = loop_.now();
            } else {
                // What the other side sent before it went may still be in the kernel: its own
                // pump goes on until it has met the end. Nothing more is taken from this one.
                gone(other(from_side), -sent);
                from.hold();
                co_return;
            }
        }

        if (in_a_row < bulk) continue;
        if (!std::exchange(tuned, true)) from.tune_for_bulk(to);
        if (options_.may_splice && loop_.pipes().any_to_lend()) {
            received.chunk = {};  // its buffer goes home: this may take long
            from.hold();
            co_await from.held();
            if (from.has_waiting()) continue;  // these come first
            in_a_row = 0;
            if (!co_await pour(from_side)) co_return;
        }
    }
}

/// Each chunk goes through the flow before the next one is received, so what an element makes of it
/// is held up as the chunk itself would be. Once nobody wants to see more it is an ordinary pump.
Task<> Relay::pump_through(Side from_side, filter::Flow& flow) {
    using State = filter::Progress::State;
    Stream& from = stream(from_side);
    Stream& to = stream(other(from_side));
    Way& way = way_from(from_side);
    filter::Output out;
    Patience patience(loop_, from);
    while (!flow.is_sated()) {
        Received received;
        if (flow.has_pending()) {
            received.error = EAGAIN;  // left there before the relay began: it comes first
        } else {
            patience.begin(flow.holds_until());
            co_await from.receive(received);
            patience.end();
        }
        if (received.error == ECANCELED) co_return;
        const bool is_due = received.error == EAGAIN;
        const bool is_gone = received.error != 0 && !is_due;
        if (is_gone) gone(from_side, received.error);
        // A reset is an end as well: what elements keep back came before it.
        const bool has_ended = received.chunk.empty() && !is_due;
        if (!is_due) last_activity_ = loop_.now();

        uint64_t pause_at = way.bytes + made_max;
        for (filter::Progress progress{.state = State::full}; progress.state != State::hungry;) {
            if (progress.state == State::wait || way.bytes >= pause_at) {
                co_await wait(from_side, received, progress.until);
                if (from.is_stopped()) co_return;
                pause_at = way.bytes + made_max;
            }
            filter::Bytes input = received.chunk.bytes();
            progress = is_due      ? flow.release(loop_.now(), out)
                       : has_ended ? flow.finish(loop_.now(), out)
                                   : flow.run(input, loop_.now(), out);
            received.chunk.consume(received.chunk.bytes().size() - input.size());
            while (!out.empty()) {
                int sent = to.send_now(out.bytes());
                if (sent >= 0) {
                    count(way, sent);
                    out.consume(static_cast<size_t>(sent));
                } else if (sent == -EAGAIN) {
                    from.hold();
                    out.keep();
                    received.chunk.park();
                    if (!co_await to.writable()) co_return;
                    last_activity_ = loop_.now();
                } else {
                    gone(other(from_side), -sent);
                    from.hold();
                    co_return;
                }
            }
            if (progress.state == State::closed) co_return end_by(progress);
        }
        if (is_gone) co_return stop();
        if (has_ended) {
            while (!finish(from_side))
                if (!co_await to.writable()) co_return;
            co_return;
        }
    }
    co_await pump(from_side);
}

/// An element wants this direction to wait, or others are to have their turn; nothing more is read
/// meanwhile, so whether the side is still there has to be asked.
Task<> Relay::wait(Side from_side, Received& received, Time until) {
    if (stream(from_side).is_stopped()) co_return;
    stream(from_side).hold();
    received.chunk.park();
    // Time does not go on within a turn, so this is another one in any case.
    Sleep pause = loop_.sleep(std::max<Duration>(until - loop_.now(), 1ns));
    auto& waiting = waiting_[from_side == Side::client ? 0 : 1];
    waiting = &pause;
    co_await pause;
    waiting = nullptr;
    last_activity_ = loop_.now();
    // Once both sides have finished, a connection that is over is no sign.
    const bool has_told = from_side == Side::client ? target_finished_ : client_finished_;
    if (!has_told && !stream(from_side).is_stopped() && !stream(from_side).is_connected()) {
        gone(from_side, ECONNRESET);
        stop();
    }
}

void Relay::end_by(const filter::Progress& progress) {
    if (ending_.is_normal()) {
        ending_ = {.party = Party::policy, .stage = Stage::filter, .reason = progress.reason};
        ended_by_ = progress.element;
    }
    stop();
}

/// Bulk enters no buffer of ours: it goes through a kernel pipe that is lent while bytes are in it.
/// What splice() cannot tell apart, the end of a stream and a failure, is left to receive().
Task<bool> Relay::pour(Side from_side) {
    Stream& from = stream(from_side);
    Stream& to = stream(other(from_side));
    Way& way = way_from(from_side);
    for (int meagre = 0; meagre < 8;) {
        if (!co_await from.readable()) co_return false;
        Pipe pipe = loop_.pipes().borrow();
        if (!pipe) co_return true;
        int filled = from.fill(pipe);
        if (filled == -EAGAIN) continue;
        if (filled < 0) {
            // splice() was told of the reset, and receive() would only see an end.
            gone(from_side, -filled);
            stop();
            co_return false;
        }
        if (filled == 0) co_return true;
        meagre = static_cast<size_t>(filled) < Pipes::pipe_size / 8 ? meagre + 1 : 0;
        last_activity_ = loop_.now();
        while (!pipe.empty()) {
            int sent = to.drain(pipe);
            if (sent >= 0) {
                count(way, sent);
            } else if (sent == -EAGAIN) {
                if (!co_await to.writable()) co_return false;
                last_activity_ = loop_.now();
            } else {
                gone(other(from_side), -sent);
                co_return false;
            }
        }
    }
    co_return true;
}

/// Tells the meter what it has not heard of yet.
void Relay::report() {
    auto unreported = [](Way& way) {
        const uint64_t reported = way.report_at - report_each;
        way.report_at = way.bytes + report_each;
        return way.bytes - reported;
    };
    const uint64_t to_target = unreported(to_target_), to_client = unreported(to_client_);
    options_.meter.add(to_target, to_client);
}

/// `side` has sent all it will: the other is told, and may go on sending. False when it cannot be
/// told yet.
bool Relay::finish(Side side) {
    (side == Side::client ? client_finished_ : target_finished_) = true;
    // An end that a reset caused is no end to pass on (the kernel reports a reset once only,
    // and the other pump may have been told).
    if (side == Side::client ? client_reset_ : target_reset_) return true;
    // A side that ended first and was reset since has not taken everything, and has no pump to
    // notice.
    const int error = stream(other(side)).shutdown_write();
    if (error == -EAGAIN) return false;
    if (error < 0) {
        gone(other(side), ECONNRESET);
        return true;
    }
    last_activity_ = loop_.now();
    loop_.timers().arm(idle_timer_, std::min(idle_timer_.when, loop_.now() + idle_limit()));
    return true;
}

static const char* words_of(int error) {
    switch (error) {
        case ETIMEDOUT:
            return "vanished";
        case EBADMSG:
            return "broke its TLS connection";
        case ENODATA:
            return "ended without the end of TLS";
        default:
            return "reset";
    }
}

void Relay::gone(Side side, int error) {
    (side == Side::client ? client_reset_ : target_reset_) = true;
    if (!ending_.is_normal()) return;
    ending_ = {.party = side == Side::client ? Party::client : Party::target,
               .stage = client_finished_ || target_finished_ ? Stage::last : Stage::data,
               .reason = words_of(error),
               .error = error == EBADMSG || error == ENODATA ? 0 : error};
}

void Relay::interrupt(Ending why) {
    if (ending_.is_normal()) ending_ = why;
    stop();
}

/// Both pumps end, soon.
void Relay::stop() {
    client_.stop();
    target_.stop();
    // The pumps go on later, never in here: that may be the end of all that called us.
    for (Sleep* waiting : waiting_)
        if (waiting) waiting->cut_short();
}

Duration Relay::idle_limit() const {
    return client_finished_ || target_finished_ ? std::min(options_.idle, options_.half_close)
                                                : options_.idle;
}

void Relay::check_idle() {
    // Who waits by our order is not idle.
    if (waiting_[0] || waiting_[1]) last_activity_ = loop_.now();
    Time due = last_activity_ + idle_limit();
    if (due > loop_.now()) return loop_.timers().arm(idle_timer_, due);
    interrupt({.party = client_finished_ ? Party::silent_target : Party::silent_client,
               .stage = client_finished_ || target_finished_ ? Stage::last : Stage::data,
               .reason = client_finished_ || target_finished_ ? "half-closed and idle" : "idle",
               .error = 0});
}

}  // namespace proxify::relay
