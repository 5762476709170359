// SPDX-License-Identifier: Apache-2.0
#include "http/knock.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>

namespace proxify::http {

/// By hand: asio would wait for ever where the queue of whoever listens is full.
Knock knock(const std::string& path, Duration patience) {
    sockaddr_un where{.sun_family = AF_UNIX, .sun_path = {}};
    if (path.size() >= sizeof where.sun_path) return {.socket = {}, .error = ENAMETOOLONG};
    path.copy(where.sun_path, path.size());

    auto socket = Fd::adopt(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return {.socket = {}, .error = errno};
    const auto microseconds = std::max<int64_t>(patience / 1us, 1);
    const timeval limit{.tv_sec = microseconds / 1'000'000, .tv_usec = microseconds % 1'000'000};
    setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) < 0)
        return {.socket = {}, .error = errno};
    return {.socket = std::move(socket)};
}

}  // namespace proxify::http
