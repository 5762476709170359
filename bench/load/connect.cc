// SPDX-License-Identifier: Apache-2.0
// Connect, exchange one message, close, again: so many at a time. The latency is that of all three.
#include "base/format.h"
#include "load/link.h"

namespace proxify::bench {

namespace {

class Churn {
  public:
    explicit Churn(const Options& options)
        : options_(options),
          dialer_(options, errors_),
          tls_(Tls::make(options, errors_)),
          meter_(options),
          seats_(static_cast<size_t>(options.connections)) {}

    void run();

  private:
    /// One of the connections that are open at a time.
    struct Seat {
        Link link;
        uint64_t start = 0;
        size_t sent = 0;
        size_t received = 0;
        bool is_new = true;
        bool has_ended = false;  ///< we have shut our direction down
        Moment began;
    };

    void begin(Seat& seat);
    void on_event(Seat& seat, uint32_t events);
    bool push(Seat& seat);
    void pull(Seat& seat);
    void lose(Seat& seat, const std::string& why);

    const Options& options_;
    Errors errors_;
    Dialer dialer_;
    std::unique_ptr<Tls> tls_;
    Meter meter_;
    Epoll epoll_;
    Pattern pattern_;
    std::vector<Seat> seats_;
    std::vector<Seat*> failed_;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(Pattern::longest);
    Histogram latency_;
    uint32_t next_stream_ = 0;
    size_t under_way_ = 0;
    bool stopping_ = false;
};

void Churn::run() {
    auto handle = [this](void* owner, uint32_t events) {
        on_event(*static_cast<Seat*>(owner), events);
    };
    for (auto& seat : seats_) begin(seat);
    // A seat that failed tries again at the next turn: at once, it would only count errors.
    meter_.run(epoll_, handle, [this] {
        for (Seat* seat : std::exchange(failed_, {})) begin(*seat);
    });

    stopping_ = true;
    auto patience = Clock::now() + 5s;
    epoll_.run_while([&] { return under_way_ > 0 && Clock::now() < patience; }, handle);
    if (under_way_ > 0) errors_.add(format("{} connections were never served", under_way_));

    auto count = static_cast<double>(latency_.count());
    Line("connect")
        .add("connections", count)
        .add("rate", count / meter_.seconds())
        .add(latency_)
        .add(meter_)
        .add("errors", static_cast<double>(errors_.total()));
}

void Churn::begin(Seat& seat) {
    if (stopping_) return;
    seat = {};
    seat.start =
        Pattern::start_of(options_.asks_the_same ? 0 : next_stream_++, Direction::to_target);
    seat.began = Clock::now();
    seat.link = Link(dialer_.dial(), tls_.get());
    if (!seat.link) return failed_.push_back(&seat);
    ++under_way_;
    // Over loopback the handshake is over by now, so the message can mostly go at once.
    if (!push(seat)) return;
    epoll_.add(seat.link.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &seat);
}

void Churn::on_event(Seat& seat, uint32_t events) {
    if (!seat.link) return;
    if (seat.is_new) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
        seat.is_new = false;
        if (!dialer_.is_connected(seat.link.fd())) return lose(seat, "could not connect");
    }
    if (seat.sent < options_.size && !push(seat)) return;
    // Not before it was seen to be connected: behind the end the answer may be over already.
    if (options_.asks_the_same && seat.sent == options_.size && !seat.has_ended) {
        seat.has_ended = true;
        seat.link.finish();
    }
    if (events & ~EPOLLOUT) pull(seat);
}

bool Churn::push(Seat& seat) {
    ssize_t sent = seat.link.send(pattern_.at(seat.start + seat.sent), options_.size - seat.sent);
    if (sent < 0 && errno == EAGAIN) return true;
    if (sent < 0) {
        lose(seat, format("send: {}", strerror(errno)));
        return false;
    }
    seat.sent += static_cast<size_t>(sent);
    return true;
}

void Churn::pull(Seat& seat) {
    ssize_t got = seat.link.receive(buffer_.data(), buffer_.size());
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0)
        return lose(seat, got < 0 ? format("receive: {}", strerror(errno)) : "an early end");
    auto size = static_cast<size_t>(got);
    if (seat.received + size > seat.sent ||
        !pattern_.matches(seat.start + seat.received, buffer_.data(), size))
        return lose(seat, "wrong bytes came back");
    seat.received += size;
    if (seat.received < options_.size) return seat.link.has_waiting() ? pull(seat) : void();

    if (meter_.is_open()) latency_.add(static_cast<uint64_t>((Clock::now() - seat.began).count()));
    --under_way_;
    seat.link.close();
    begin(seat);
}

void Churn::lose(Seat& seat, const std::string& why) {
    errors_.add(why);
    --under_way_;
    seat.link.close();
    failed_.push_back(&seat);
}

}  // namespace

void connect_exchange_close(const Options& options) {
    Churn(options).run();
}

}  // namespace proxify::bench
