// SPDX-License-Identifier: Apache-2.0
#include "kernel/peer.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "base/fd.h"
#include "kernel/netlink.h"

namespace proxify::kernel {

namespace {

/// Questions about sockets.
struct Sockets {
    Fd netlink;
    uint32_t number = 0;  ///< of the last question; its answer has the same

    Result<> ask(const inet_diag_sockid& id, bool is_v4);
    std::optional<inet_diag_msg> answer();
};

/// All addresses of this host, of which the kernel tells whenever one comes or goes.
class Addresses {
  public:
    explicit Addresses(Fd netlink) : netlink_(std::move(netlink)) {}
    Result<> ask_for_all();
    /// Reads what has been told since.
    void catch_up();
    bool has(const Ip& ip) const {
        auto at = known_.lower_bound({ip, 0});
        return at != known_.end() && at->first == ip;
    }

  private:
    void note(const nlmsghdr& header);

    Fd netlink_;
    std::set<std::pair<Ip, uint32_t>> known_;  ///< with the interface: two may have the same
    bool is_asking_ = false, has_gaps_ = false;
};

}  // namespace

/// For one thread at a time.
struct Peers::Desk {
    Sockets sockets;
    Addresses addresses;
    std::mutex one_at_a_time = {};
};

Peers::Peers(std::vector<std::unique_ptr<Desk>> desks) : desks_(std::move(desks)) {}
Peers::~Peers() = default;
Peers::Peers(Peers&&) noexcept = default;

Result<Peers> Peers::open(size_t threads) {
    std::vector<std::unique_ptr<Desk>> desks;
    for (size_t i = 0; i < threads; ++i) {
        TRY_TO(sockets, open_netlink(NETLINK_SOCK_DIAG, 0, SOCK_NONBLOCK));
        TRY_TO(addresses,
               open_netlink(NETLINK_ROUTE, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, SOCK_NONBLOCK));
        desks.push_back(std::make_unique<Desk>(Sockets{.netlink = std::move(sockets)},
                                               Addresses(std::move(addresses))));
        TRY(desks.back()->addresses.ask_for_all());
    }
    return Peers(std::move(desks));
}

Peers::Desk& Peers::desk() {
    static std::atomic<size_t> threads = 0;
    thread_local const size_t mine = threads++;
    return *desks_[mine % desks_.size()];
}

// ---- addresses

Result<> Addresses::ask_for_all() {
    struct {
        nlmsghdr header;
        ifaddrmsg body;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = RTM_GETADDR;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.body.ifa_family = AF_UNSPEC;
    if (send(netlink_.get(), &request, sizeof request, 0) < 0)
        return fail(Error::from_errno(errno, "ask the kernel for the addresses of this host"));
    known_.clear();
    is_asking_ = true;
    has_gaps_ = false;
    return {};
}

void Addresses::catch_up() {
    alignas(nlmsghdr) char buffer[8192];
    while (true) {
        if (has_gaps_ && !is_asking_ && !ask_for_all()) return;
        ssize_t received = recv(netlink_.get(), buffer, sizeof buffer, 0);
        if (received < 0 && errno == EINTR) continue;
        // More was told than there is room for.
        if (received < 0 && errno == ENOBUFS) {
            has_gaps_ = true;
            continue;
        }
        if (received <= 0) return;
        auto left = static_cast<uint32_t>(received);
        for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left))
            note(*header);
    }
}

void Addresses::note(const nlmsghdr& header) {
    if (header.nlmsg_flags & NLM_F_DUMP_INTR) has_gaps_ = true;
    if (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR) is_asking_ = false;
    if (header.nlmsg_type != RTM_NEWADDR && header.nlmsg_type != RTM_DELADDR) return;

    const auto* about = static_cast<const ifaddrmsg*>(NLMSG_DATA(&header));
    const size_t size = about->ifa_family == AF_INET ? 4 : 16;
    std::optional<Ip> ip;
    auto left = static_cast<uint32_t>(IFA_PAYLOAD(&header));
    for (const auto* part = IFA_RTA(about); RTA_OK(part, left); part = RTA_NEXT(part, left)) {
        // Where there are both, IFA_ADDRESS is that of the other end.
        const bool is_it = part->rta_type == IFA_LOCAL || (part->rta_type == IFA_ADDRESS && !ip);
        if (!is_it || RTA_PAYLOAD(part) != size) continue;
        ip = Ip{.bytes = {}, .is_v4 = size == 4};
        std::memcpy(ip->bytes.data(), RTA_DATA(part), size);
    }
    if (!ip) return;
    if (header.nlmsg_type == RTM_NEWADDR)
        known_.emplace(*ip, about->ifa_index);
    else
        known_.erase({*ip, about->ifa_index});
}

bool Peers::is_here(const Ip& ip) {
    if (ip.is_loopback()) return true;
    auto& desk = this->desk();
    std::lock_guard guard(desk.one_at_a_time);
    desk.addresses.catch_up();
    return desk.addresses.has(ip);
}

// ---- sockets

/// The socket as it sees itself: what it is bound to is its source.
static inet_diag_sockid id_of(const Address& local, const Address& remote) {
    inet_diag_sockid id{};
    id.idiag_sport = htons(local.port);
    id.idiag_dport = htons(remote.port);
    std::memcpy(id.idiag_src, local.ip.bytes.data(), sizeof id.idiag_src);
    std::memcpy(id.idiag_dst, remote.ip.bytes.data(), sizeof id.idiag_dst);
    id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    return id;
}

Result<> Sockets::ask(const inet_diag_sockid& id, bool is_v4) {
    struct {
        nlmsghdr header;
        inet_diag_req_v2 body;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.header.nlmsg_seq = ++number;
    request.body.sdiag_family = is_v4 ? AF_INET : AF_INET6;
    request.body.sdiag_protocol = IPPROTO_TCP;
    request.body.idiag_states = ~0u;
    request.body.id = id;
    if (send(netlink.get(), &request, sizeof request, 0) < 0)
        return fail(Error::from_errno(errno, "ask the kernel for a socket"));
    return {};
}

std::optional<inet_diag_msg> Sockets::answer() {
    // It is there when send() returns; before it there may be one that somebody gave up.
    alignas(nlmsghdr) char buffer[4096];
    while (true) {
        ssize_t received = recv(netlink.get(), buffer, sizeof buffer, 0);
        if (received < 0 && errno == EINTR) continue;
        if (received <= 0) return std::nullopt;
        const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
        if (!NLMSG_OK(header, static_cast<size_t>(received))) return std::nullopt;
        if (header->nlmsg_seq != number) continue;
        if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return std::nullopt;  // ENOENT, mostly
        return *static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
    }
}

std::optional<Peer> Peers::find(const Address& local, const Address& remote) {
    if (local.ip.is_v4 != remote.ip.is_v4) return std::nullopt;
    const auto id = id_of(local, remote);
    std::optional<inet_diag_msg> found;
    {
        auto& desk = this->desk();
        std::lock_guard guard(desk.one_at_a_time);
        if (!desk.sockets.ask(id, local.ip.is_v4)) return std::nullopt;
        found = desk.sockets.answer();
    }
    // Where no connection is, the kernel answers with a listener at the local port.
    if (!found || found->idiag_state == TCP_LISTEN || found->id.idiag_dport != id.idiag_dport)
        return std::nullopt;
    return Peer{.cookie = uint64_t{found->id.idiag_cookie[1]} << 32 | found->id.idiag_cookie[0],
                .inode = found->idiag_inode,
                .uid = found->idiag_uid};
}

}  // namespace proxify::kernel
