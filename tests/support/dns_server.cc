// SPDX-License-Identifier: Apache-2.0
#include "support/dns_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace proxify::test {

DnsServer::DnsServer(const Namespace& where) {
    where.run([&] { socket_ = Fd::adopt(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); });
    sockaddr_in address{.sin_family = AF_INET,
                        .sin_port = htons(53),
                        .sin_addr = {htonl(INADDR_LOOPBACK)},
                        .sin_zero = {}};
    if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
        throw std::runtime_error(std::string("cannot bind 127.0.0.1:53: ") + std::strerror(errno));
    stop_ = Fd::adopt(eventfd(0, EFD_CLOEXEC));
    write_file(directory_ / "resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n");
    thread_ = std::thread([this] { serve(); });
}

DnsServer::~DnsServer() {
    eventfd_write(stop_.get(), 1);
    thread_.join();
}

void DnsServer::set(const std::string& name, const std::vector<std::string>& addresses) {
    std::vector<Ip> ips;
    for (const auto& text : addresses) ips.push_back(Ip::parse(text).value());
    std::lock_guard lock(mutex_);
    names_[name] = std::move(ips);
}

std::pair<std::string, std::string> DnsServer::resolv_conf() const {
    return {directory_ / "resolv.conf", "/etc/resolv.conf"};
}

void DnsServer::serve() {
    for (;;) {
        pollfd fds[2] = {{.fd = socket_.get(), .events = POLLIN, .revents = 0},
                         {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
        poll(fds, 2, -1);
        if (fds[1].revents) return;
        char question[512];
        sockaddr_storage client{};
        socklen_t size = sizeof client;
        ssize_t count = recvfrom(socket_.get(), question, sizeof question, 0,
                                 reinterpret_cast<sockaddr*>(&client), &size);
        if (count < 17) continue;  // shorter than the shortest question
        std::string reply = reply_to({question, static_cast<size_t>(count)});
        sendto(socket_.get(), reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&client),
               size);
    }
}

// A question is 12 bytes of header, the name as length-prefixed labels, its type and its class.
std::string DnsServer::reply_to(std::string_view question) {
    constexpr size_t header_size = 12;
    std::string name;
    size_t at = header_size;
    while (at < question.size() && question[at] != 0) {
        const size_t length = static_cast<unsigned char>(question[at]);
        if (!name.empty()) name += '.';
        name += question.substr(at + 1, length);
        at += length + 1;
    }
    const size_t end = at + 5;
    if (end > question.size()) return {};
    const int type = static_cast<unsigned char>(question[at + 2]);
    constexpr int type_a = 1, type_aaaa = 28, no_such_name = 3;
    ++questions_;

    std::lock_guard lock(mutex_);
    auto found = names_.find(name);
    std::string answers;
    int count = 0;
    for (const Ip& ip : found == names_.end() ? std::vector<Ip>() : found->second) {
        if (type != (ip.is_v4 ? type_a : type_aaaa)) continue;
        const size_t size = ip.is_v4 ? 4 : 16;
        // The name of the question again, its type, class IN, one second to live.
        answers += std::string("\xC0\x0C\0", 3) + static_cast<char>(type) +
                   std::string("\0\1\0\0\0\1\0", 7);
        answers += static_cast<char>(size);
        answers.append(reinterpret_cast<const char*>(ip.bytes.data()), size);
        ++count;
    }
    std::string reply(question.substr(0, end));
    reply[2] = static_cast<char>(0x84 | (question[2] & 1));  // an answer, by authority
    reply[3] = static_cast<char>(0x80 | (found == names_.end() ? no_such_name : 0));
    reply[6] = 0;
    reply[7] = static_cast<char>(count);
    reply[8] = reply[9] = reply[10] = reply[11] = 0;
    return reply + answers;
}

}  // namespace proxify::test
