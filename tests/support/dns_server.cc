// SPDX-License-Identifier: Apache-2.0
#include "support/dns_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace proxify::test {

static constexpr size_t packet_max = 512;  // without EDNS

static Fd open_at_port_53(int type) {
    auto fd = Fd::adopt(socket(AF_INET, type | SOCK_CLOEXEC, 0));
    int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{.sin_family = AF_INET,
                        .sin_port = htons(53),
                        .sin_addr = {htonl(INADDR_LOOPBACK)},
                        .sin_zero = {}};
    if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
        throw std::runtime_error(std::string("cannot bind 127.0.0.1:53: ") + std::strerror(errno));
    return fd;
}

DnsServer::DnsServer(const Namespace& where) {
    where.run([&] {
        socket_ = open_at_port_53(SOCK_DGRAM);
        listener_ = open_at_port_53(SOCK_STREAM);
    });
    listen(listener_.get(), 16);
    stop_ = Fd::adopt(eventfd(0, EFD_CLOEXEC));
    write_file(directory_ / "resolv.conf", "nameserver 127.0.0.1\n");
    thread_ = std::thread([this] { serve(); });
}

DnsServer::~DnsServer() {
    eventfd_write(stop_.get(), 1);
    thread_.join();
}

void DnsServer::set(const std::string& name, const std::vector<std::string>& addresses,
                    uint32_t ttl) {
    std::vector<DnsRecord> records;
    for (const auto& text : addresses)
        records.push_back(address_record(name, Ip::parse(text).value(), ttl));
    std::lock_guard lock(mutex_);
    names_[name] = std::move(records);
}

void DnsServer::set_services(const std::string& name, const std::vector<DnsService>& services,
                             uint32_t ttl) {
    std::vector<DnsRecord> records;
    for (const auto& service : services) records.push_back(service_record(name, service, ttl));
    std::lock_guard lock(mutex_);
    names_[name] = std::move(records);
}

void DnsServer::set_alias(const std::string& name, const std::string& other, uint32_t ttl) {
    std::lock_guard lock(mutex_);
    names_[name] = {alias_record(name, other, ttl)};
}

void DnsServer::forget(const std::string& name) {
    std::lock_guard lock(mutex_);
    names_.erase(name);
}

void DnsServer::set_manner(const std::string& name, Manner manner) {
    std::lock_guard lock(mutex_);
    manners_[name] = manner;
}

void DnsServer::set_manner(Manner manner) {
    std::lock_guard lock(mutex_);
    manner_ = manner;
}

int DnsServer::questions(const std::string& name, uint16_t type) const {
    std::lock_guard lock(mutex_);
    auto found = asked_.find({name, type});
    return found == asked_.end() ? 0 : found->second;
}

size_t DnsServer::different_questions() const {
    std::lock_guard lock(mutex_);
    return asked_.size();
}

size_t DnsServer::sources() const {
    std::lock_guard lock(mutex_);
    return sources_.size();
}

std::pair<std::string, std::string> DnsServer::resolv_conf() const {
    return {directory_ / "resolv.conf", "/etc/resolv.conf"};
}

void DnsServer::serve() {
    for (;;) {
        std::vector<pollfd> fds;
        for (int fd : {stop_.get(), socket_.get(), listener_.get()})
            fds.push_back({.fd = fd, .events = POLLIN, .revents = 0});
        for (const auto& stream : streams_)
            fds.push_back({.fd = stream.get(), .events = POLLIN, .revents = 0});
        poll(fds.data(), fds.size(), -1);
        if (fds[0].revents) return;
        if (fds[1].revents) answer_packet();
        for (size_t i = fds.size(); i-- > 3;)
            if (fds[i].revents && !answer_stream(fds[i].fd))
                streams_.erase(streams_.begin() + static_cast<ptrdiff_t>(i - 3));
        if (fds[2].revents)
            streams_.push_back(Fd::adopt(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
    }
}

void DnsServer::answer_packet() {
    char packet[packet_max];
    sockaddr_storage client{};
    socklen_t size = sizeof client;
    ssize_t count = recvfrom(socket_.get(), packet, sizeof packet, 0,
                             reinterpret_cast<sockaddr*>(&client), &size);
    if (count < 0) return;
    auto send = [&](const std::string& bytes) {
        sendto(socket_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&client),
               size);
    };
    const auto question = read_question({packet, static_cast<size_t>(count)});
    Manner manner;
    {
        std::lock_guard lock(mutex_);
        sources_.insert(Address::from_sockaddr(client).port);
        auto own = manners_.find(question.name);
        manner = own == manners_.end() ? manner_ : own->second;
    }
    std::string reply = reply_to(question, false);
    if (manner == Manner::silent) return;
    if (manner == Manner::garbage) {
        send("");
        send("\x01");
        send(std::string(60, '\xFF'));
        reply = write_reply(question, {{.owner = question.name,
                                        .type = question.type,
                                        .ttl = 1,
                                        .data = "far too long and without any sense"}});
    }
    if (manner == Manner::servfail || (manner == Manner::only_v4 && question.type == dns_aaaa))
        reply = write_reply(question, {}, /*outcome=*/2);
    if (reply.size() > packet_max) reply = write_reply(question, {}, 0, /*is_truncated=*/true);
    send(reply);
}

/// One question on a connection; false when that is over.
bool DnsServer::answer_stream(int socket) {
    auto receive = [&](size_t count) {
        std::string bytes(count, '\0');
        ssize_t got = recv(socket, bytes.data(), count, MSG_WAITALL);
        return got == static_cast<ssize_t>(count) ? bytes : std::string();
    };
    const std::string length = receive(2);
    if (length.empty()) return false;
    const std::string message =
        receive(static_cast<unsigned char>(length[0]) << 8 | static_cast<unsigned char>(length[1]));
    if (message.empty()) return false;
    ++questions_over_tcp_;
    const std::string reply = reply_to(read_question(message), true);
    const std::string framed =
        std::string{static_cast<char>(reply.size() >> 8), static_cast<char>(reply.size())} + reply;
    return send(socket, framed.data(), framed.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(framed.size());
}

std::string DnsServer::reply_to(const DnsQuestion& question, bool over_tcp) {
    std::lock_guard lock(mutex_);
    if (!over_tcp) {
        ++questions_;
        ++asked_[{question.name, question.type}];
    }
    constexpr int no_such_name = 3;
    if (!names_.contains(question.name)) return write_reply(question, {}, no_such_name);
    return write_reply(question, answers_for(question));
}

/// What is asked for, and through aliases what those have.
std::vector<DnsRecord> DnsServer::answers_for(const DnsQuestion& question) const {
    std::vector<DnsRecord> answers;
    for (std::string name = question.name; answers.size() < 8;) {
        auto found = names_.find(name);
        if (found == names_.end()) return answers;
        const bool is_alias = found->second.size() == 1 && found->second[0].type == dns_cname;
        for (const auto& record : found->second)
            if (is_alias || record.type == question.type) answers.push_back(record);
        if (!is_alias) return answers;
        name.clear();
        const std::string& wire = found->second[0].data;
        for (size_t at = 0; wire[at] != 0; at += static_cast<unsigned char>(wire[at]) + 1u)
            name += (name.empty() ? "" : ".") +
                    wire.substr(at + 1, static_cast<unsigned char>(wire[at]));
    }
    return answers;
}

}  // namespace proxify::test
