// SPDX-License-Identifier: Apache-2.0
// Bulk: as many bytes as go through, to the client, to the target, or both. What counts is what
// was received. At the end every byte that was sent must have arrived, on both sides.
#include "base/format.h"
#include "load/link.h"

namespace proxify::bench {

namespace {

class Bulk {
  public:
    explicit Bulk(const Options& options)
        : options_(options),
          dialer_(options, errors_),
          tls_(Tls::make(options, errors_)),
          meter_(options),
          tally_(Tally::map(options.tally_fd)),
          connections_(static_cast<size_t>(options.connections)) {
        if (!tally_) die("cannot map the tally");
    }

    void run();

  private:
    struct Connection {
        Link link;
        Hello hello;
        uint64_t sent = 0;
        uint64_t received = 0;
        bool is_new = true;
        bool has_said_hello = false;
        bool is_dry = false;    ///< nothing more came, for now
        bool finished = false;  ///< we have shut our direction down
    };

    void on_event(Connection& connection, uint32_t events);
    void greet(Connection& connection);
    void say_hello(Connection& connection);
    void give(Connection& connection);
    void take(Connection& connection);
    void take_some(Connection& connection);
    void finish(Connection& connection);
    void lose(Connection& connection, const std::string& why);
    /// Received so far, at both ends; what the target received is only known with a shared tally.
    uint64_t moved() const;

    const Options& options_;
    Errors errors_;
    Dialer dialer_;
    std::unique_ptr<Tls> tls_;
    Meter meter_;
    Tally* tally_;
    Epoll epoll_;
    Pattern pattern_;
    std::vector<Connection> connections_;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(bulk_chunk);
    size_t open_ = 0;
    uint64_t sent_ = 0;
    uint64_t received_ = 0;
    bool stopping_ = false;
};

void Bulk::run() {
    uint64_t target_received = tally_->bulk_received, target_sent = tally_->bulk_sent;
    uint64_t target_errors = tally_->errors;
    auto handle = [this](void* owner, uint32_t events) {
        on_event(*static_cast<Connection*>(owner), events);
    };
    uint32_t number = 0;
    for (auto& connection : connections_) {
        connection.link = Link(dialer_.dial(), tls_.get());
        if (!connection.link) continue;
        ++open_;
        connection.hello.stream = number++;
        connection.hello.client_sends = options_.client_sends;
        connection.hello.target_sends = options_.target_sends;
        // Level-triggered, one call for each event: all connections get their turn.
        epoll_.add(connection.link.fd(), EPOLLIN | EPOLLOUT, &connection);
    }

    uint64_t before = 0;
    meter_.run(epoll_, handle, [&] {
        if (!meter_.is_open()) before = moved();
    });
    auto bytes = static_cast<double>(moved() - before);

    // The end: ours first, the target's then, and the sums must agree.
    stopping_ = true;
    for (auto& connection : connections_) {
        if (connection.link && connection.has_said_hello) finish(connection);
    }
    auto patience = Clock::now() + 20s;
    epoll_.run_while([&] { return open_ > 0 && Clock::now() < patience; }, handle);
    if (open_ > 0) errors_.add(format("{} connections did not end", open_));
    if (options_.tally_fd >= 0 && errors_.total() == 0) {
        if (tally_->bulk_received - target_received != sent_)
            errors_.add("the target got less than was sent");
        if (tally_->bulk_sent - target_sent != received_)
            errors_.add("we got less than the target sent");
        if (tally_->errors != target_errors) errors_.add("the target saw errors");
    }

    Line("bulk")
        .add("bytes", bytes)
        .add("gbit", bytes * 8e-9 / meter_.seconds())
        .add(meter_)
        .add("errors", static_cast<double>(errors_.total()));
}

uint64_t Bulk::moved() const {
    return received_ +
           (options_.tally_fd >= 0 ? tally_->bulk_received.load(std::memory_order_relaxed) : sent_);
}

void Bulk::on_event(Connection& connection, uint32_t events) {
    if (!connection.link) return;
    if (connection.is_new) return greet(connection);
    if (events & ~EPOLLOUT) take(connection);
    if (!connection.link || connection.finished || !(events & EPOLLOUT)) return;
    give(connection);
    if (stopping_ && connection.link) finish(connection);
}

void Bulk::greet(Connection& connection) {
    connection.is_new = false;
    if (!dialer_.is_connected(connection.link.fd())) return lose(connection, "could not connect");
    say_hello(connection);
}

/// With TLS not before hands are shaken.
void Bulk::say_hello(Connection& connection) {
    const ssize_t sent = connection.link.send(&connection.hello, sizeof(Hello));
    if (sent < 0 && errno == EAGAIN)
        return epoll_.change(connection.link.fd(), EPOLLIN, &connection);
    if (sent != sizeof(Hello)) return lose(connection, "could not say hello");
    connection.has_said_hello = true;
    epoll_.change(connection.link.fd(), options_.client_sends ? EPOLLIN | EPOLLOUT : EPOLLIN,
                  &connection);
    if (stopping_) finish(connection);
}

void Bulk::give(Connection& connection) {
    const size_t size = stopping_ ? connection.link.owed() : bulk_chunk;
    if (size == 0) return;
    auto place = Pattern::start_of(connection.hello.stream, Direction::to_target) + connection.sent;
    ssize_t sent = connection.link.send(pattern_.at(place), size);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) return lose(connection, format("send: {}", strerror(errno)));
    connection.sent += static_cast<uint64_t>(sent);
    sent_ += static_cast<uint64_t>(sent);
}

void Bulk::take(Connection& connection) {
    if (!connection.has_said_hello) return say_hello(connection);
    do {
        take_some(connection);
    } while (connection.link && connection.link.has_waiting() && !connection.is_dry);
}

void Bulk::take_some(Connection& connection) {
    ssize_t got = connection.link.receive(buffer_.data(), buffer_.size());
    connection.is_dry = got < 0 && errno == EAGAIN;
    if (connection.is_dry) return;
    if (got < 0) return lose(connection, format("receive: {}", strerror(errno)));
    if (got == 0) {
        if (!connection.finished) return lose(connection, "an early end");
        --open_;
        return connection.link.close();
    }
    auto size = static_cast<size_t>(got);
    auto place =
        Pattern::start_of(connection.hello.stream, Direction::to_client) + connection.received;
    if (!pattern_.matches(place, buffer_.data(), size)) return lose(connection, "wrong bytes came");
    connection.received += size;
    received_ += size;
}

void Bulk::finish(Connection& connection) {
    // What is under way goes first, and then the end; epoll says when it may be tried again.
    if (connection.link.owed() > 0 || !connection.link.finish())
        return epoll_.change(connection.link.fd(), EPOLLIN | EPOLLOUT, &connection);
    connection.finished = true;
    epoll_.change(connection.link.fd(), EPOLLIN, &connection);
}

void Bulk::lose(Connection& connection, const std::string& why) {
    errors_.add(why);
    --open_;
    connection.link.close();
}

}  // namespace

void bulk(const Options& options) {
    Bulk(options).run();
}

}  // namespace proxify::bench
