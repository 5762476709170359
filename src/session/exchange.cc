// SPDX-License-Identifier: Apache-2.0
// What becomes of a session whose service has a cache, before a target is chosen: the request is
// read, and answered if it can be. The cache stands where the target stands, behind the elements:
// its requests have come through them, and its answers are yet to go through them.
#include "session/exchange.h"

#include "base/format.h"
#include "session/in_line.h"
#include "session/session.h"

namespace proxify::session {

using namespace io;
using cache::Reply;
using filter::Progress;
using State = Progress::State;

namespace {

/// What of the request decides whether it is one that can be looked up.
enum class Shape { unfinished, whole, unfit };

Shape shape_of(std::string_view request, bool has_ended, const config::Cache& rules) {
    if (request.size() > rules.max_request) return Shape::unfit;
    if (!rules.delimiter.empty()) {
        // Behind the first one there is another request, and an answer would be of both.
        if (auto at = request.find(rules.delimiter); at != std::string_view::npos)
            return at + rules.delimiter.size() == request.size() ? Shape::whole : Shape::unfit;
    }
    if (!has_ended) return Shape::unfinished;
    return request.empty() ? Shape::unfit : Shape::whole;
}

Ending lost_client(Stage stage, int error) {
    return {Party::client, stage, error == ETIMEDOUT ? "vanished" : "reset", error};
}

}  // namespace

/// Sees first what comes from the target. Once that has come to its end, and not by a reset,
/// whoever asks the same can have it, be the session's own client as slow as it likes.
class Session::Recorder final : public filter::Element {
  public:
    explicit Recorder(Session& session) : session_(session) {}

    filter::Answer see(Direction, filter::Bytes bytes, Time, filter::Buffer&) override {
        return {.has_enough = !session_.exchange_->lead.add(bytes)};
    }
    filter::Answer end(Direction, Time now, filter::Buffer&) override {
        cache::Lead& lead = session_.exchange_->lead;
        const uint64_t sent = session_.relay_->to_target();
        const uint64_t size = session_.exchange_->request_size();
        if (sent == size && session_.relay_->is_well())
            lead.keep(now);
        else
            lead.give_up(sent > size ? cache::Loss::asked_more : cache::Loss::cut_off);
        return {};
    }

  private:
    Session& session_;
};

Task<std::optional<Ending>> Session::answer_from_cache() {
    auto& stats = *service_->cache->stats();
    auto settle = [&](const char* what, stats::Counter& counter) {
        record_.cache = what;
        counter.add();
    };
    begin_exchange();
    bool is_whole = false;
    exchange_->is_reading = true;
    Ending ended = co_await read_request(is_whole);
    exchange_->is_reading = false;
    if (!ended.is_normal()) co_return refuse(ended);
    if (!is_whole) {
        settle("passed", stats.passed);
        co_return std::nullopt;
    }

    bool has_waited = false;
    Reply reply;
    if (ended = co_await ask_cache(reply, has_waited); !ended.is_normal()) co_return refuse(ended);
    switch (reply.kind) {
        case Reply::Kind::hit:
            has_waited ? settle("shared", stats.shared) : settle("hit", stats.hits);
            exchange_->is_answering = true;
            ended = co_await answer(std::move(reply.answer));
            if (!ended.is_normal()) refuse(ended);
            co_return ended;
        case Reply::Kind::lead:
            settle("miss", stats.misses);
            exchange_->lead = std::move(reply.lead);
            if (!chain_)
                chain_ =
                    std::make_unique<filter::Chain>(64 << 10, std::vector<filter::Link>{}, nullptr);
            chain_->watch_target(std::make_unique<Recorder>(*this), "cache");
            co_return std::nullopt;
        case Reply::Kind::wait:
        case Reply::Kind::alone:
            break;
    }
    settle("passed", stats.passed);
    co_return std::nullopt;
}

/// Services of several ports may answer differently on each, and those that go on to where the
/// client aimed surely do.
void Session::begin_exchange() {
    std::string key = service_->spec.goes_to_original() && knows_original_
                          ? record_.original_dst.text() + ' '
                          : format("{} ", record_.original_dst.port);
    const size_t size = key.size();
    exchange_ = std::make_unique<Exchange>(std::move(key), size);
}

/// Reads until the request is whole, or it is clear that it will not be, or it takes too long. What
/// has come through the chain is in exchange_ then, and the rest still in client_, which is held.
Task<Ending> Session::read_request(bool& is_whole) {
    Loop& loop = around_.loop;
    const auto& rules = *service_->spec.cache;
    const Time deadline = loop.now() + rules.request_timeout;
    filter::Flow* flow = chain_ ? &chain_->flow(Direction::to_target) : nullptr;
    std::string& key = exchange_->key;
    Patience patience(loop, client_);
    Ending ending;
    Shape shape = Shape::unfinished;
    while (shape == Shape::unfinished && ending.is_normal() && loop.now() < deadline) {
        Received received;
        patience.begin(flow ? std::min(deadline, flow->holds_until()) : deadline);
        co_await client_.receive(received);
        patience.end();
        if (received.error == ECANCELED) break;
        const bool is_due = received.error == EAGAIN;
        if (received.error != 0 && !is_due) {
            ending = lost_client(Stage::choose, received.error);
            break;
        }
        const bool has_ended = received.chunk.empty() && !is_due;

        filter::Output out;
        Progress progress{.state = State::full};
        while (progress.state != State::hungry) {
            if (progress.state == State::wait) {
                if (progress.until >= deadline) break;
                client_.hold();
                received.chunk.park();
                co_await pause(progress.until);
                if (interrupted_) break;
            }
            filter::Bytes input = received.chunk.bytes();
            if (!flow) {
                out.add_view(std::exchange(input, {}));
                progress.state = State::hungry;
            } else {
                progress = is_due      ? flow->release(loop.now(), out)
                           : has_ended ? flow->finish(loop.now(), out)
                                       : flow->run(input, loop.now(), out);
            }
            key.append(filter::text_of(out.bytes()));
            out.consume(out.size());
            received.chunk.consume(received.chunk.bytes().size() - input.size());
            if (progress.state == State::closed) {
                ending = {Party::policy, Stage::filter, progress.reason};
                record_.element = progress.element;
                break;
            }
            if (exchange_->request_size() > rules.max_request) break;
        }
        shape = shape_of(filter::text_of(exchange_->request()), has_ended, rules);
        if (progress.state != State::hungry) shape = Shape::unfit;
        client_.put_back(std::move(received.chunk));
    }
    is_whole = shape == Shape::whole;
    client_.hold();
    co_await client_.held();
    co_return interrupted_ ? *interrupted_ : ending;
}

/// An element wants us to wait, or others to have their turn.
Task<> Session::pause(Time until) {
    Signal interrupted(around_.loop);
    turn_ = &interrupted;
    co_await interrupted.wait(std::max<Duration>(until - around_.loop.now(), 1ns));
    turn_ = nullptr;
}

/// Waits for another's answer as long as it would for a connection: then this client is not to
/// wait for a slow one any more, and nor are others.
Task<Ending> Session::ask_cache(Reply& reply, bool& has_waited) {
    Loop& loop = around_.loop;
    auto place = std::make_shared<InLine<cache::Waiter>>(loop);
    reply = service_->cache->ask(exchange_->key, *place, loop.now());
    if (reply.kind != Reply::Kind::wait) co_return Ending{};

    has_waited = true;
    turn_ = &place->turn;
    const Time until = loop.now() + service_->spec.timeouts.connect;
    bool is_here = true;
    while (loop.now() < until &&
           !co_await place->turn.wait(std::min(until - loop.now(), look_interval)))
        if (!(is_here = client_.is_connected())) break;
    turn_ = nullptr;
    const bool is_overdue = is_here && !interrupted_ && loop.now() >= until;
    auto& cache = *service_->cache;
    reply = is_overdue ? cache.lose_patience(*place) : cache.leave(*place);
    if (interrupted_) co_return *interrupted_;
    if (!is_here) co_return Ending{Party::client, Stage::choose, "gone while it waited"};
    co_return Ending{};
}

/// Sends what a target has answered, as a target's session would: through the elements, no faster
/// than the client takes it, and with an end that the client answers with its own.
Task<Ending> Session::answer(cache::Answer answer) {
    const auto& timeouts = service_->spec.timeouts;
    Loop& loop = around_.loop;
    Deadline idle(loop, client_);
    idle.begin(timeouts.idle);
    filter::Flow* flow = chain_ ? &chain_->flow(Direction::to_client) : nullptr;
    filter::Bytes left = *answer;
    filter::Output out;
    Ending ending;
    for (Progress progress{.state = State::full};
         progress.state != State::closed && progress.state != State::hungry;) {
        if (progress.state == State::wait) {
            idle.begin(timeouts.idle + (progress.until - loop.now()));  // who waits by our order
            co_await pause(progress.until);
        }
        if (client_.is_stopped()) break;
        const bool is_last = left.empty();
        if (!flow) {
            out.add_view(std::exchange(left, {}));
            progress.state = State::hungry;
        } else {
            progress = is_last ? flow->finish(loop.now(), out) : flow->run(left, loop.now(), out);
            if (!is_last && progress.state == State::hungry) progress.state = State::full;
        }
        idle.begin(timeouts.idle);
        int error = 0;
        while (!out.empty()) {
            const int sent = client_.send_now(out.bytes());
            if (sent >= 0) {
                out.consume(static_cast<size_t>(sent));
                count_answered(static_cast<size_t>(sent));
            } else if (sent != -EAGAIN) {
                error = -sent;
                break;
            } else if (!co_await client_.writable()) {
                break;
            } else {
                idle.begin(timeouts.idle);
            }
        }
        if (error != 0) {
            ending = lost_client(Stage::data, error);
            break;
        }
        if (client_.is_stopped()) break;
        if (progress.state == State::closed) {
            ending = {Party::policy, Stage::filter, progress.reason};
            record_.element = progress.element;
        }
    }

    const bool is_sent = ending.is_normal() && !client_.is_stopped();
    if (is_sent) {
        int error = client_.shutdown_write();
        while (error == -EAGAIN && co_await client_.writable()) error = client_.shutdown_write();
        if (error < 0 && error != -EAGAIN) ending = lost_client(Stage::last, ECONNRESET);
        idle.begin(std::min(timeouts.idle, timeouts.half_close));
        while (ending.is_normal()) {
            Received received;
            co_await client_.receive(received);
            if (received.error == ECANCELED) break;
            if (received.error != 0)
                ending = lost_client(Stage::last, received.error);
            else if (received.chunk.empty())
                break;
        }
    }
    if (interrupted_)
        ending = *interrupted_;
    else if (idle.has_passed())
        ending = is_sent ? Ending{Party::silent_client, Stage::last, "half-closed and idle"}
                         : Ending{Party::silent_client, Stage::data, "idle"};
    client_.stop();
    co_await client_.quiet();
    if (ending.party == Party::policy) co_await relay::flush(loop, client_);
    co_return ending;
}

void Session::count_answered(size_t bytes) {
    record_.to_client += bytes;
    service_->cache->stats()->hit_bytes.add(bytes);
    stats().bytes.to_client.add(bytes);
    if (auto* port = port_stats()) port->bytes.to_client.add(bytes);
}

}  // namespace proxify::session
