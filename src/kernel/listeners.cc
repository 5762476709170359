// SPDX-License-Identifier: Apache-2.0
#include "kernel/listeners.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "base/fd.h"
#include "base/format.h"
#include "kernel/netlink.h"

namespace proxify::kernel {

static bool is_v6_only(const nlmsghdr& header) {
    // Attributes stand behind the message.
    auto left = static_cast<int>(header.nlmsg_len - NLMSG_LENGTH(sizeof(inet_diag_msg)));
    const auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(&header));
    for (const auto* one = reinterpret_cast<const rtattr*>(message + 1); RTA_OK(one, left);
         one = RTA_NEXT(one, left))
        if (one->rta_type == INET_DIAG_SKV6ONLY)
            return *static_cast<const uint8_t*>(RTA_DATA(one)) != 0;
    return false;
}

static Listening to_listening(const nlmsghdr& header) {
    const auto& message = *static_cast<const inet_diag_msg*>(NLMSG_DATA(&header));
    sockaddr_storage at{};
    if (message.idiag_family == AF_INET) {
        auto& v4 = reinterpret_cast<sockaddr_in&>(at);
        v4.sin_port = message.id.idiag_sport;
        std::memcpy(&v4.sin_addr, message.id.idiag_src, sizeof v4.sin_addr);
    } else {
        auto& v6 = reinterpret_cast<sockaddr_in6&>(at);
        v6.sin6_port = message.id.idiag_sport;
        std::memcpy(&v6.sin6_addr, message.id.idiag_src, sizeof v6.sin6_addr);
    }
    at.ss_family = message.idiag_family;
    return {.address = Address::from_sockaddr(at),
            .inode = message.idiag_inode,
            .process = {},
            .is_v6_only = is_v6_only(header)};
}

static Result<> dump_family(int netlink, uint8_t family, std::vector<Listening>& found) {
    struct {
        nlmsghdr header;
        inet_diag_req_v2 body;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.body.sdiag_family = family;
    request.body.sdiag_protocol = IPPROTO_TCP;
    request.body.idiag_states = 1 << TCP_LISTEN;
    TRY(dump(netlink, request.header, "TCP listeners",
             [&](const nlmsghdr& message) { found.push_back(to_listening(message)); }));
    return {};
}

Result<std::vector<Listening>> tcp_listeners_here() {
    TRY_TO(netlink, open_netlink(NETLINK_SOCK_DIAG));
    std::vector<Listening> found;
    TRY(dump_family(netlink.get(), AF_INET, found));
    TRY(dump_family(netlink.get(), AF_INET6, found));
    return found;
}

/// How well a listener suits: 0 for not at all. An address says more than a family does.
static int suits(const Listening& one, const Address& destination) {
    const auto& [ip, port] = one.address;
    if (port != destination.port) return 0;
    if (ip == destination.ip) return 3;
    if (ip != Ip{.bytes = {}, .is_v4 = ip.is_v4}) return 0;
    if (ip.is_v4 == destination.ip.is_v4) return 2;
    return destination.ip.is_v4 && !one.is_v6_only ? 1 : 0;
}

const Listening* find_listener(const std::vector<Listening>& listeners,
                               const Address& destination) {
    const Listening* best = nullptr;
    for (const auto& one : listeners)
        if (suits(one, destination) > (best ? suits(*best, destination) : 0)) best = &one;
    return best;
}

/// The inode in "socket:[12345]", or 0.
static uint64_t socket_inode(std::string_view link) {
    constexpr std::string_view prefix = "socket:[";
    uint64_t inode = 0;
    if (link.starts_with(prefix))
        std::from_chars(link.data() + prefix.size(), link.data() + link.size(), inode);
    return inode;
}

static std::string name_of_process(const std::filesystem::path& folder) {
    std::string name;
    std::getline(std::ifstream(folder / "comm"), name);
    return format("{} (pid {})", name, folder.filename().string());
}

void name_processes(std::vector<Listening>& listeners) {
    namespace fs = std::filesystem;
    constexpr auto options = fs::directory_options::skip_permission_denied;
    std::error_code ignored;  // processes come and go, and some are none of our business
    // A proxy has a file for each connection, and its listeners among the first of them.
    constexpr int files_max = 4096;

    for (fs::directory_iterator process("/proc", options, ignored), end; process != end;
         process.increment(ignored)) {
        auto pid = process->path().filename().string();
        if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
        if (std::ranges::none_of(listeners,
                                 [](const Listening& one) { return one.process.empty(); }))
            return;
        int files = 0;
        for (fs::directory_iterator file(process->path() / "fd", options, ignored);
             file != end && ++files <= files_max; file.increment(ignored)) {
            uint64_t inode = socket_inode(fs::read_symlink(file->path(), ignored).native());
            if (inode == 0) continue;
            for (auto& listening : listeners)
                if (listening.inode == inode && listening.process.empty())
                    listening.process = name_of_process(process->path());
        }
    }
}

}  // namespace proxify::kernel
