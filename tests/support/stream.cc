// SPDX-License-Identifier: Apache-2.0
#include "support/stream.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace proxify::test {

const char* to_text(End end) {
    switch (end) {
        case End::clean:
            return "clean";
        case End::reset:
            return "reset";
        case End::none_yet:
            return "none yet";
    }
    return "?";
}

StreamError::StreamError(const std::string& what, int number)
    : std::runtime_error(number ? what + ": " + std::strerror(number) : what), number(number) {}

static Address parsed(const std::string& text) {
    auto address = Address::parse(text);
    if (!address) throw std::runtime_error("the test wrote a bad address: " + text);
    return *address;
}

static Fd new_socket(const Address& address) {
    auto socket = Fd::adopt(::socket(address.ip.is_v4 ? AF_INET : AF_INET6,
                                     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket) throw StreamError("socket", errno);
    return socket;
}

static void set(const Fd& socket, int level, int option, int value) {
    if (setsockopt(socket.get(), level, option, &value, sizeof value) < 0)
        throw StreamError("setsockopt", errno);
}

static int bind_to(const Fd& socket, const Address& address) {
    sockaddr_storage where{};
    socklen_t size = address.to_sockaddr(where);
    return bind(socket.get(), reinterpret_cast<sockaddr*>(&where), size);
}

static Address address_of(int fd, decltype(getsockname)* which) {
    sockaddr_storage where{};
    socklen_t size = sizeof where;
    if (which(fd, reinterpret_cast<sockaddr*>(&where), &size) < 0)
        throw StreamError("cannot read a socket's address", errno);
    return Address::from_sockaddr(where);
}

// The socket is nullopt when connect() failed, with the reason in `error`. A socket and ECONNRESET:
// it was connected, and the reset came before anybody could look.
static std::optional<Fd> try_dial(const Namespace& where, const std::string& to,
                                  const DialOptions& options, int& error) {
    const Address target = parsed(to);
    Fd socket;
    where.run([&] { socket = new_socket(target); });
    set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    if (options.receive_buffer) set(socket, SOL_SOCKET, SO_RCVBUF, *options.receive_buffer);
    if (!options.from.empty() && bind_to(socket, parsed(options.from)) < 0)
        throw StreamError("bind " + options.from, errno);

    sockaddr_storage peer{};
    socklen_t size = target.to_sockaddr(peer);
    error = 0;
    if (connect(socket.get(), reinterpret_cast<sockaddr*>(&peer), size) < 0) error = errno;
    if (error == EINPROGRESS) {
        pollfd ready{.fd = socket.get(), .events = POLLOUT, .revents = 0};
        for (Moment deadline = now() + options.limit; poll(&ready, 1, millis_until(deadline)) < 1;)
            if (now() >= deadline) {
                error = ETIMEDOUT;
                return std::nullopt;
            }
        socklen_t length = sizeof error;
        getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    }
    // Who is accepted and reset at once was connected all the same.
    if (error != 0 && error != ECONNRESET) return std::nullopt;
    // On a steered port no socket is bound, and a client may be given that very port to dial from.
    if (address_of(socket.get(), getsockname) == target)
        throw std::runtime_error("a test's client connected to itself at " + to +
                                 "; reserve_ports() was forgotten");
    return socket;
}

Stream Stream::dial(const Namespace& where, const std::string& to, DialOptions options) {
    int error = 0;
    auto socket = try_dial(where, to, options, error);
    if (!socket) throw StreamError("connect to " + to, error);
    Stream stream = adopt(std::move(*socket));
    stream.is_reset_ = error == ECONNRESET;
    return stream;
}

int Stream::dial_error(const Namespace& where, const std::string& to, DialOptions options) {
    int error = 0;
    return try_dial(where, to, options, error) ? 0 : error;
}

Stream Stream::adopt(Fd socket, int stop_fd) {
    Stream stream;
    stream.socket_ = std::move(socket);
    stream.stop_fd_ = stop_fd;
    return stream;
}

void Stream::wait_for(short events, Moment deadline, const char* what) const {
    pollfd fds[2] = {{.fd = socket_.get(), .events = events, .revents = 0},
                     {.fd = stop_fd_, .events = POLLIN, .revents = 0}};
    while (poll(fds, 2, millis_until(deadline)) < 1)
        if (now() >= deadline) throw StreamError(what, ETIMEDOUT);
    if (fds[1].revents) throw StreamError("the server is being stopped", ECANCELED);
}

size_t Stream::send_some(std::string_view bytes) {
    if (is_reset_) throw StreamError("send", ECONNRESET);
    ssize_t count = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EAGAIN || errno == EINTR) return 0;
    throw StreamError("send", errno);
}

void Stream::send(std::string_view bytes, Millis limit) {
    for (const Moment deadline = now() + limit; !bytes.empty();) {
        size_t count = send_some(bytes);
        bytes.remove_prefix(count);
        if (count == 0) wait_for(POLLOUT, deadline, "send");
    }
}

void Stream::finish() {
    if (is_reset_) throw StreamError("shutdown", ECONNRESET);
    if (shutdown(socket_.get(), SHUT_WR) < 0) throw StreamError("shutdown", errno);
}

void Stream::reset() {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close();
}

void Stream::close() {
    socket_.close();
}

std::string Stream::receive(size_t most, Millis limit) {
    if (is_reset_) throw StreamError("receive", ECONNRESET);
    std::string bytes(most, '\0');
    for (const Moment deadline = now() + limit;;) {
        ssize_t count = recv(socket_.get(), bytes.data(), bytes.size(), 0);
        if (count >= 0) {
            bytes.resize(static_cast<size_t>(count));
            return bytes;
        }
        if (errno != EAGAIN && errno != EINTR) throw StreamError("receive", errno);
        wait_for(POLLIN, deadline, "receive");
    }
}

std::string Stream::receive_exactly(size_t count, Millis limit) {
    std::string bytes;
    for (const Moment deadline = now() + limit; bytes.size() < count;) {
        std::string next = receive(count - bytes.size(), Millis(millis_until(deadline)));
        if (next.empty())
            throw StreamError("the stream ended after " + std::to_string(bytes.size()) + " of " +
                                  std::to_string(count) + " bytes",
                              0);
        bytes += next;
    }
    return bytes;
}

std::string Stream::receive_line(Millis limit) {
    std::string line;
    for (const Moment deadline = now() + limit; !line.ends_with('\n');) {
        std::string next = receive(1, Millis(millis_until(deadline)));
        if (next.empty()) throw StreamError("the stream ended within the line \"" + line + "\"", 0);
        line += next;
    }
    return line;
}

Got Stream::receive_all(Millis limit) {
    Got got{.bytes = {}, .end = End::clean};
    const Moment deadline = now() + limit;
    try {
        for (;;) {
            std::string next = receive(64 << 10, Millis(millis_until(deadline)));
            if (next.empty()) return got;
            got.bytes += next;
        }
    } catch (const StreamError& error) {
        if (error.number == ECONNRESET || error.number == EPIPE)
            got.end = End::reset;
        else if (error.number == ETIMEDOUT)
            got.end = End::none_yet;
        else
            throw;
    }
    return got;
}

void Stream::wait_until_stopped() const {
    pollfd stop{.fd = stop_fd_, .events = POLLIN, .revents = 0};
    while (poll(&stop, 1, -1) < 1) {
    }
}

bool Stream::is_delivered(Millis limit) const {
    return eventually(
        [&] {
            int unacknowledged = 0;
            return ioctl(socket_.get(), SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0;
        },
        limit);
}

Address Stream::local() const {
    return address_of(socket_.get(), getsockname);
}

Address Stream::peer() const {
    return address_of(socket_.get(), getpeername);
}

Fd listen_at(const Namespace& where, const std::string& text, int backlog) {
    const Address address = parsed(text);
    Fd socket;
    where.run([&] { socket = new_socket(address); });
    set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
    if (!address.ip.is_v4) set(socket, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (bind_to(socket, address) < 0) throw StreamError("bind " + text, errno);
    if (listen(socket.get(), backlog) < 0) throw StreamError("listen at " + text, errno);
    return socket;
}

}  // namespace proxify::test
