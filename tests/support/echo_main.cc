// SPDX-License-Identifier: Apache-2.0
// echo: a small target to try proxify with. It sends back what it gets, at 127.0.0.1 and ::1 unless
// an address is given with --at, and says on its standard output for whom, so that one can see
// which target answered:
//
//     echo --name blue 9001
//     blue: 27 bytes back to 127.0.0.1:40222
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/address.h"
#include "base/fd.h"

using namespace proxify;

static Fd listen_at(const Address& address) {
    auto socket =
        Fd::adopt(::socket(address.ip.is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_storage at{};
    socklen_t size = address.to_sockaddr(at);
    if (bind(socket.get(), reinterpret_cast<sockaddr*>(&at), size) < 0 ||
        listen(socket.get(), 1024) < 0) {
        std::fprintf(stderr, "echo: cannot listen at %s: %s\n", address.text().c_str(),
                     std::strerror(errno));
        return {};
    }
    return socket;
}

static void serve(Fd client, Address from, const std::string& name) {
    std::vector<char> buffer(64 << 10);
    size_t echoed = 0;
    for (;;) {
        const ssize_t count = recv(client.get(), buffer.data(), buffer.size(), 0);
        if (count <= 0) break;
        for (ssize_t at = 0; at < count;) {
            const ssize_t sent = send(client.get(), buffer.data() + at,
                                      static_cast<size_t>(count - at), MSG_NOSIGNAL);
            if (sent < 0) return;
            at += sent;
        }
        echoed += static_cast<size_t>(count);
    }
    // Health checks come and go without a byte, and are not worth a line.
    if (echoed == 0) return;
    std::printf("%s: %zu bytes back to %s\n", name.c_str(), echoed, from.text().c_str());
    std::fflush(stdout);
}

static int usage() {
    std::fprintf(stderr, "usage: echo [--name NAME] [--at ADDRESS] PORT\n");
    return 2;
}

int main(int argc, char** argv) {
    std::string name = "echo";
    std::vector<std::string> hosts{"127.0.0.1", "::1"};
    int at = 1;
    if (at + 2 < argc && std::strcmp(argv[at], "--name") == 0) name = argv[at + 1], at += 2;
    if (at + 2 < argc && std::strcmp(argv[at], "--at") == 0) hosts = {argv[at + 1]}, at += 2;
    const long port = at + 1 == argc ? std::strtol(argv[at], nullptr, 10) : 0;
    if (port < 1 || port > 65535) return usage();

    std::vector<Fd> listeners;
    for (const auto& host : hosts) {
        const auto ip = Ip::parse(host);
        if (!ip) return usage();
        if (auto listener = listen_at({*ip, static_cast<uint16_t>(port)}))
            listeners.push_back(std::move(listener));
    }
    if (listeners.empty()) return 1;

    std::vector<pollfd> ready;
    for (const Fd& listener : listeners)
        ready.push_back({.fd = listener.get(), .events = POLLIN, .revents = 0});
    for (;;) {
        poll(ready.data(), ready.size(), -1);
        for (const pollfd& listener : ready) {
            if (!(listener.revents & POLLIN)) continue;
            sockaddr_storage peer{};
            socklen_t size = sizeof peer;
            auto client = Fd::adopt(
                accept4(listener.fd, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
            if (client)
                std::thread(serve, std::move(client), Address::from_sockaddr(peer), name).detach();
        }
    }
}
