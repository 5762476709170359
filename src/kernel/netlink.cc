// SPDX-License-Identifier: Apache-2.0
#include "kernel/netlink.h"

#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "base/format.h"

namespace proxify::kernel {

Result<Fd> open_netlink(int protocol, uint32_t groups, int flags) {
    auto netlink = Fd::adopt(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | flags, protocol));
    sockaddr_nl at{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = groups};
    if (!netlink || bind(netlink.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) != 0)
        return fail(Error::from_errno(errno, "open a netlink socket"));
    return netlink;
}

Result<bool> dump(int netlink, const nlmsghdr& request, std::string_view what,
                  const std::function<void(const nlmsghdr&)>& on_message) {
    if (send(netlink, &request, request.nlmsg_len, 0) < 0)
        return fail(Error::from_errno(errno, format("ask the kernel for its {}", what)));

    bool is_whole = true;
    std::vector<char> buffer(64 << 10);  // one interface with many virtual functions is long
    while (true) {
        ssize_t received = recv(netlink, buffer.data(), buffer.size(), 0);
        if (received < 0 && errno == EINTR) continue;
        if (received <= 0)
            return fail(Error::from_errno(errno, format("read the kernel's list of {}", what)));
        auto left = static_cast<size_t>(received);
        for (auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data());
             NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
            if (message->nlmsg_flags & NLM_F_DUMP_INTR) is_whole = false;
            if (message->nlmsg_type == NLMSG_DONE) return is_whole;
            if (message->nlmsg_type == NLMSG_ERROR) {
                const auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(message));
                return fail(Error::from_errno(-error->error, format("list the kernel's {}", what)));
            }
            on_message(*message);
        }
    }
}

}  // namespace proxify::kernel
