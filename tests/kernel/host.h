// SPDX-License-Identifier: Apache-2.0
// What the tests of the kernel side share: a host of their own, and the question where a client
// lands on it.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>
#include <string>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"
#include "kernel/privileges.h"
#include "support/catch.h"
#include "support/namespace.h"
#include "support/stream.h"

namespace proxify::test {

/// What this machine lacks for the tests in this folder; empty if nothing.
inline std::string missing_for_kernel_tests() {
    auto missing = kernel::missing_for_steering();
    if (!missing.empty()) return "needs " + kernel::join_with_and(missing);
    try {
        Namespace::create();
    } catch (const Missing& error) {
        return error.what();
    }
    return {};
}

#define NEEDS_KERNEL_ACCESS()                                                         \
    if (auto missing = ::proxify::test::missing_for_kernel_tests(); !missing.empty()) \
    SKIP_TEST(missing)

/// The value of a Result; a failure fails the test with its text.
template <class T>
T value_of(Result<T> result) {
    if (!result) FAIL(result.error().text());
    if constexpr (!std::is_void_v<T>) return *std::move(result);
}

/// A listening socket for both families, as proxify's own is.
inline Fd listen_on_both(const Namespace& inside, uint16_t port) {
    Fd fd;
    inside.run([&] {
        fd = Fd::adopt(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        sockaddr_in6 at{.sin6_family = AF_INET6, .sin6_port = htons(port)};
        int off = 0, on = 1;
        setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
        REQUIRE(listen(fd.get(), 1024) == 0);
    });
    return fd;
}

/// A namespace with proxify's listener at 8080 and nobody else.
struct Host {
    Namespace inside = Namespace::create();
    Fd listener = listen_on_both(inside, 8080);

    Host() { inside.reserve_ports(5000, 5999); }
};

/// Where a client of `to` lands: "listener", "local" (when there is such a socket), "refused", or
/// the error that connect() gives.
inline std::string landing(const Host& host, const std::string& to, const Fd& local = Fd(),
                           const std::string& from = {}) {
    DialOptions options{.limit = 2s, .from = from};
    std::optional<Stream> client;
    try {
        client = Stream::dial(host.inside, to, options);
    } catch (const StreamError& error) {
        return error.number == ECONNREFUSED ? "refused" : std::strerror(error.number);
    }
    pollfd sockets[] = {{.fd = host.listener.get(), .events = POLLIN},
                        {.fd = local.get(), .events = POLLIN}};
    if (poll(sockets, 2, 2000) < 1) return "nobody accepts";
    const pollfd& ready = sockets[sockets[0].revents & POLLIN ? 0 : 1];

    // Whoever got it must also see the address that was dialled.
    auto accepted = Fd::adopt(accept4(ready.fd, nullptr, nullptr, SOCK_CLOEXEC));
    sockaddr_storage dialled{};
    socklen_t size = sizeof dialled;
    getsockname(accepted.get(), reinterpret_cast<sockaddr*>(&dialled), &size);
    CHECK(Address::from_sockaddr(dialled).text() == to);
    return ready.fd == host.listener.get() ? "listener" : "local";
}

}  // namespace proxify::test
