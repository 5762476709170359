// SPDX-License-Identifier: Apache-2.0
#include "kernel/peer.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/fd.h"

namespace proxify::kernel {

struct Peers::Question {
    Fd netlink;
    std::mutex one_at_a_time = {};
    uint32_t number = 0;  ///< of the last question; its answer has the same

    Result<> ask(const inet_diag_sockid& id, bool is_v4);
    std::optional<inet_diag_msg> answer();
};

Peers::Peers(std::unique_ptr<Question> question) : question_(std::move(question)) {}
Peers::~Peers() = default;
Peers::Peers(Peers&&) noexcept = default;

Result<Peers> Peers::open() {
    auto netlink =
        Fd::adopt(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
    if (!netlink) return fail(Error::from_errno(errno, "open a sock_diag socket"));
    return Peers(std::make_unique<Question>(std::move(netlink)));
}

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

Result<> Peers::Question::ask(const inet_diag_sockid& id, bool is_v4) {
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

std::optional<inet_diag_msg> Peers::Question::answer() {
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
        std::lock_guard guard(question_->one_at_a_time);
        if (!question_->ask(id, local.ip.is_v4)) return std::nullopt;
        found = question_->answer();
    }
    // Where no connection is, the kernel answers with a listener at the local port.
    if (!found || found->idiag_state == TCP_LISTEN || found->id.idiag_dport != id.idiag_dport)
        return std::nullopt;
    return Peer{.cookie = uint64_t{found->id.idiag_cookie[1]} << 32 | found->id.idiag_cookie[0],
                .inode = found->idiag_inode,
                .uid = found->idiag_uid};
}

}  // namespace proxify::kernel
