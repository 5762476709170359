// SPDX-License-Identifier: Apache-2.0
// Ping-pong: each connection sends a message, waits until all of it has come back, sends the next.
#include "base/format.h"
#include "load/link.h"

namespace proxify::bench {

namespace {

class PingPong {
  public:
    explicit PingPong(const Options& options)
        : options_(options),
          dialer_(options, errors_),
          tls_(Tls::make(options, errors_)),
          meter_(options),
          connections_(static_cast<size_t>(options.connections)) {}

    void run();

  private:
    /// Nobody goes on before all have had a first answer: a proxy is not to be asked to accept and
    /// to carry at the same time, which is other work (and a program that takes one new connection
    /// a turn, as nginx does, would take seconds for a thousand).
    enum class Phase { opening, going, stopping };

    struct Connection {
        Link link;
        uint64_t start = 0;  ///< of its stream in the pattern
        uint64_t goal = 0;   ///< where the message under way ends
        uint64_t sent = 0;
        uint64_t received = 0;
        Moment began;  ///< when the message under way was sent
        bool is_new = true;
        bool answered = false;  ///< since the meter was opened
    };

    void on_event(Connection& connection, uint32_t events);
    void begin_message(Connection& connection, Moment now);
    void complete(Connection& connection);
    bool push(Connection& connection);
    void pull(Connection& connection, bool at_end);
    void lose(Connection& connection, const std::string& why);

    const Options& options_;
    Errors errors_;
    Dialer dialer_;
    std::unique_ptr<Tls> tls_;
    Meter meter_;
    Epoll epoll_;
    Pattern pattern_;
    std::vector<Connection> connections_;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(Pattern::longest);
    Histogram latency_;
    size_t first_answers_ = 0;
    size_t under_way_ = 0;
    Phase phase_ = Phase::opening;
};

void PingPong::run() {
    auto handle = [this](void* owner, uint32_t events) {
        on_event(*static_cast<Connection*>(owner), events);
    };
    uint32_t number = 0;
    for (auto& connection : connections_) {
        connection.link = Link(dialer_.dial(), tls_.get());
        if (!connection.link) continue;
        connection.start = Pattern::start_of(number++, Direction::to_target);
        // Edge-triggered: one wait and one read for each answer.
        epoll_.add(connection.link.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &connection);
    }
    auto patience = Clock::now() + 10s;
    epoll_.run_while(
        [&] {
            return first_answers_ < connections_.size() && errors_.total() == 0 &&
                   Clock::now() < patience && !told_to_stop;
        },
        handle);
    if (first_answers_ < connections_.size())
        errors_.add(
            format("{} of {} connections got a first answer", first_answers_, connections_.size()));

    phase_ = Phase::going;
    for (auto& connection : connections_) {
        if (connection.link && connection.received > 0) begin_message(connection, Clock::now());
    }
    meter_.run(epoll_, handle);

    // Each message under way must still come back.
    phase_ = Phase::stopping;
    patience = Clock::now() + 5s;
    epoll_.run_while([&] { return under_way_ > 0 && Clock::now() < patience; }, handle);
    if (under_way_ > 0) errors_.add(format("{} messages never came back", under_way_));
    for (const auto& connection : connections_) {
        if (connection.link && !connection.answered && meter_.seconds() > 0.5)
            errors_.add("a connection got no answer all the time");
    }

    auto exchanges = static_cast<double>(latency_.count());
    Line("ping")
        .add("exchanges", exchanges)
        .add("rate", exchanges / meter_.seconds())
        .add(latency_)
        .add(meter_)
        .add("errors", static_cast<double>(errors_.total()));
}

void PingPong::on_event(Connection& connection, uint32_t events) {
    if (!connection.link) return;
    if (connection.is_new) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
        connection.is_new = false;
        if (!dialer_.is_connected(connection.link.fd())) return connection.link.close();
        return begin_message(connection, Clock::now());
    }
    if (connection.sent < connection.goal && !push(connection)) return;
    if (events & ~EPOLLOUT) pull(connection, (events & EPOLLRDHUP) != 0);
}

void PingPong::begin_message(Connection& connection, Moment now) {
    connection.began = now;
    connection.goal += options_.size;
    ++under_way_;
    push(connection);
}

bool PingPong::push(Connection& connection) {
    while (connection.sent < connection.goal) {
        ssize_t sent = connection.link.send(pattern_.at(connection.start + connection.sent),
                                            connection.goal - connection.sent);
        if (sent < 0 && errno == EAGAIN) return true;
        if (sent < 0) {
            lose(connection, format("send: {}", strerror(errno)));
            return false;
        }
        connection.sent += static_cast<uint64_t>(sent);
    }
    return true;
}

void PingPong::pull(Connection& connection, bool at_end) {
    for (;;) {
        ssize_t got = connection.link.receive(buffer_.data(), buffer_.size());
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0)
            return lose(connection,
                        got < 0 ? format("receive: {}", strerror(errno)) : "an early end");
        auto size = static_cast<size_t>(got);
        if (connection.received + size > connection.sent ||
            !pattern_.matches(connection.start + connection.received, buffer_.data(), size))
            return lose(connection, "wrong bytes came back");
        connection.received += size;
        if (connection.received == connection.goal) complete(connection);
        if (!connection.link || !(at_end || connection.link.has_waiting())) return;
    }
}

/// A whole message is back: the next one goes, in the time between the first and the last.
void PingPong::complete(Connection& connection) {
    auto now = Clock::now();
    --under_way_;
    if (meter_.is_open()) {
        latency_.add(static_cast<uint64_t>((now - connection.began).count()));
        connection.answered = true;
    }
    if (phase_ == Phase::opening) ++first_answers_;
    if (phase_ == Phase::going) begin_message(connection, now);
}

void PingPong::lose(Connection& connection, const std::string& why) {
    errors_.add(why);
    if (connection.received < connection.goal) --under_way_;
    connection.link.close();
}

}  // namespace

void ping_pong(const Options& options) {
    PingPong(options).run();
}

}  // namespace proxify::bench
