// SPDX-License-Identifier: Apache-2.0
#include "containers/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <utility>

#include "base/format.h"
#include "containers/docker.h"
#include "http/client.h"

namespace proxify::containers {

/// What a container's description takes is a few KiB; a thousand networks do not take this.
static constexpr size_t answer_size_max = size_t{16} << 20;

int milliseconds(Duration left) {
    const auto within = std::clamp<Duration>(left, 0ns, 1h);
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(within).count());
}

bool is_forbidden(const std::string& socket_path) {
    return faccessat(AT_FDCWD, socket_path.c_str(), W_OK, AT_EACCESS) != 0 && errno == EACCES;
}

Result<http::Response> ask(const std::string& socket_path, const http::Request& request,
                           Duration patience, int ending) {
    const auto cannot = [&](const std::string& why) { return fail(cannot_ask(socket_path, why)); };
    const auto deadline = std::chrono::steady_clock::now() + patience;
    auto call = http::Call::open(socket_path, request);
    if (!call && is_forbidden(socket_path)) return fail(may_not_ask(socket_path));
    if (!call) return cannot(call.error().what);
    while (!call->is_complete()) {
        const Duration left = deadline - std::chrono::steady_clock::now();
        if (left <= 0ns) return cannot(format("no answer within {}", to_text(patience)));
        pollfd sockets[] = {{call->fd(), POLLIN, 0}, {ending, POLLIN, 0}};
        poll(sockets, std::size(sockets), milliseconds(left));
        if (sockets[1].revents) return cannot("nobody wants to know any more");
        if (!sockets[0].revents) continue;
        if (auto read = call->read(); !read) return cannot(read.error().what);
        if (call->body().size() > answer_size_max) return cannot("its answer has no end");
    }
    return http::Response{.status = call->status(), .type = {}, .body = std::move(call->body())};
}

}  // namespace proxify::containers
