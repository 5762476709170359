// SPDX-License-Identifier: Apache-2.0
// The target of every bench: one thread that echoes, and that sends or takes bulk (common/wire.h).
// It does as little as it can, because in the pinned set it shares a core with the load.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <memory>

#include "base/fd.h"
#include "base/format.h"
#include "common/arguments.h"
#include "common/pattern.h"
#include "common/wire.h"

namespace proxify::bench {

namespace {

class Target {
  public:
    explicit Target(Tally& tally) : tally_(tally) {}

    void listen(uint16_t port, bool bulk);
    void run();

  private:
    struct Connection {
        enum class Kind { echo_listener, bulk_listener, echo, bulk } kind;
        Fd fd;
        // echo: what could not be sent back yet
        std::vector<std::byte> pending;
        // bulk
        Hello hello;
        size_t hello_size = 0;
        uint64_t received = 0;
        uint64_t sent = 0;
    };
    using Kind = Connection::Kind;

    void on_event(Connection& connection, uint32_t events);
    void accept_all(Connection& listener);
    bool echo(Connection& connection, uint32_t events);
    bool greet(Connection& connection);
    bool take(Connection& connection);
    bool give(Connection& connection);
    void wrong(const char* what);

    Tally& tally_;
    Epoll epoll_;
    Pattern pattern_;
    std::vector<std::unique_ptr<Connection>> listeners_;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(bulk_chunk);
};

void Target::listen(uint16_t port, bool bulk) {
    Fd fd = Fd::adopt(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int one = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one,
               sizeof one);  // accepted sockets inherit it
    sockaddr_in address{
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {}, .sin_zero = {}};
    if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
        ::listen(fd.get(), 4096) < 0)
        die(format("cannot listen on port {}: {}", port, strerror(errno)));
    auto listener = std::make_unique<Connection>();
    listener->kind = bulk ? Kind::bulk_listener : Kind::echo_listener;
    listener->fd = std::move(fd);
    epoll_.add(listener->fd.get(), EPOLLIN, listener.get());
    listeners_.push_back(std::move(listener));
}

void Target::run() {
    epoll_.run_while([] { return !told_to_stop; },
                     [this](void* owner, uint32_t events) {
                         on_event(*static_cast<Connection*>(owner), events);
                     });
}

void Target::on_event(Connection& connection, uint32_t events) {
    bool goes_on = true;
    switch (connection.kind) {
        case Kind::echo_listener:
        case Kind::bulk_listener:
            return accept_all(connection);
        case Kind::echo:
            goes_on = echo(connection, events);
            break;
        case Kind::bulk:
            if (events & ~EPOLLOUT) goes_on = take(connection);
            if (goes_on && (events & EPOLLOUT)) goes_on = give(connection);
            break;
    }
    // epoll tells of each socket once a turn, so nobody will ask for this one again.
    if (!goes_on) delete &connection;
}

void Target::accept_all(Connection& listener) {
    bool bulk = listener.kind == Kind::bulk_listener;
    for (;;) {
        int fd = accept4(listener.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != ECONNABORTED) wrong(strerror(errno));
            return;
        }
        auto* connection = new Connection{};
        connection->kind = bulk ? Kind::bulk : Kind::echo;
        connection->fd = Fd::adopt(fd);
        epoll_.add(fd, bulk ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, connection);
    }
}

/// Edge-triggered: goes on until there is certainly nothing left. False: the connection is over.
bool Target::echo(Connection& connection, uint32_t events) {
    int fd = connection.fd.get();
    auto& pending = connection.pending;
    for (;;) {
        while (!pending.empty()) {
            ssize_t sent = send(fd, pending.data(), pending.size(), MSG_NOSIGNAL);
            if (sent < 0) return errno == EAGAIN;
            pending.erase(pending.begin(), pending.begin() + sent);
        }
        ssize_t got = recv(fd, buffer_.data(), buffer_.size(), 0);
        if (got < 0) return errno == EAGAIN;
        if (got == 0) return false;
        ssize_t sent = send(fd, buffer_.data(), static_cast<size_t>(got), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return false;
        if (sent < got)
            pending.assign(buffer_.data() + std::max<ssize_t>(sent, 0), buffer_.data() + got);
        // What comes after a short read is a new edge. An end is not, if it was seen together with
        // these bytes.
        bool drained = got < static_cast<ssize_t>(buffer_.size()) && !(events & EPOLLRDHUP);
        if (drained && pending.empty()) return true;
    }
}

bool Target::greet(Connection& connection) {
    auto* into = reinterpret_cast<std::byte*>(&connection.hello) + connection.hello_size;
    ssize_t got = recv(connection.fd.get(), into, sizeof(Hello) - connection.hello_size, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    connection.hello_size += static_cast<size_t>(got);
    if (connection.hello_size < sizeof(Hello)) return true;
    if (connection.hello.magic != Hello::right_magic) {
        wrong("a bulk client did not say hello");
        return false;
    }
    if (connection.hello.target_sends)
        epoll_.change(connection.fd.get(), EPOLLIN | EPOLLOUT, &connection);
    return true;
}

bool Target::take(Connection& connection) {
    if (connection.hello_size < sizeof(Hello)) return greet(connection);
    ssize_t got = recv(connection.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0) {
        if (errno == EAGAIN) return true;
        wrong(strerror(errno));
        return false;
    }
    if (got == 0) return false;  // close() still delivers what give() has sent
    auto size = static_cast<size_t>(got);
    auto place =
        Pattern::start_of(connection.hello.stream, Direction::to_target) + connection.received;
    if (!pattern_.matches(place, buffer_.data(), size)) {
        wrong("a bulk client's bytes arrived changed");
        return false;
    }
    connection.received += size;
    tally_.bulk_received.fetch_add(size, std::memory_order_relaxed);
    return true;
}

bool Target::give(Connection& connection) {
    auto place = Pattern::start_of(connection.hello.stream, Direction::to_client) + connection.sent;
    ssize_t sent = send(connection.fd.get(), pattern_.at(place), bulk_chunk, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno == EAGAIN) return true;
        wrong(strerror(errno));
        return false;
    }
    connection.sent += static_cast<uint64_t>(sent);
    tally_.bulk_sent.fetch_add(static_cast<uint64_t>(sent), std::memory_order_relaxed);
    return true;
}

void Target::wrong(const char* what) {
    if (tally_.errors.fetch_add(1) == 0) std::fprintf(stderr, "target: %s\n", what);
}

int run_target(int argc, char** argv) {
    constexpr Known known[] = {{"port"}, {"tally-fd"}};
    auto arguments = Arguments::parse(argc, argv, known);
    if (!arguments) die(arguments.error().text());
    auto port = static_cast<uint16_t>(arguments->number("port", 62001));
    auto* tally = Tally::map(static_cast<int>(arguments->number("tally-fd", -1)));
    if (!tally) die("cannot map the tally");
    stop_when_told();

    Target target(*tally);
    target.listen(port, false);
    target.listen(static_cast<uint16_t>(port + 1), true);
    std::puts("ready");
    std::fflush(stdout);
    target.run();
    return 0;
}

}  // namespace

}  // namespace proxify::bench

int main(int argc, char** argv) {
    return proxify::bench::run_target(argc, argv);
}
