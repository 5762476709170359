// SPDX-License-Identifier: Apache-2.0
#include "kernel/interfaces.h"

#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "kernel/netlink.h"

namespace proxify::kernel {

Result<Interfaces> Interfaces::open() {
    TRY_TO(news, open_netlink(NETLINK_ROUTE, RTMGRP_LINK, SOCK_NONBLOCK));
    TRY_TO(questions, open_netlink(NETLINK_ROUTE));
    return Interfaces(std::move(news), std::move(questions));
}

/// Whether packets of this kind of interface have 14 bytes before the IP header. Other kinds of
/// link headers exist on hardware that no program here knows how to read.
static bool has_ethernet(unsigned short type) {
    return type == ARPHRD_ETHER;
}

static std::string name_in(const nlmsghdr& header) {
    auto left = static_cast<int>(header.nlmsg_len - NLMSG_LENGTH(sizeof(ifinfomsg)));
    const auto* message = static_cast<const ifinfomsg*>(NLMSG_DATA(&header));
    for (const auto* one = IFLA_RTA(message); RTA_OK(one, left); one = RTA_NEXT(one, left))
        if (one->rta_type == IFLA_IFNAME) return static_cast<const char*>(RTA_DATA(one));
    return {};
}

/// Whether the list is whole; the kernel says when it changed while it was read.
static Result<bool> dump_links(int netlink, std::vector<Interface>& found) {
    struct {
        nlmsghdr header;
        ifinfomsg body;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = RTM_GETLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    return dump(netlink, request.header, "network interfaces", [&](const nlmsghdr& message) {
        const auto& link = *static_cast<const ifinfomsg*>(NLMSG_DATA(&message));
        if (link.ifi_flags & IFF_LOOPBACK) return;
        found.push_back({.index = static_cast<uint32_t>(link.ifi_index),
                         .name = name_in(message),
                         .has_ethernet = has_ethernet(link.ifi_type)});
    });
}

/// True as well where the kernel does not say.
static bool has_filters(int netlink, uint32_t interface, uint32_t direction) {
    struct {
        nlmsghdr header;
        tcmsg body;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = RTM_GETTFILTER;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.body.tcm_ifindex = static_cast<int>(interface);
    request.body.tcm_parent = TC_H_MAKE(TC_H_CLSACT, direction);
    bool has_any = false;
    auto done = dump(netlink, request.header, "filters", [&](const nlmsghdr&) { has_any = true; });
    return !done || has_any;
}

bool has_filters(uint32_t interface) {
    auto netlink = open_netlink(NETLINK_ROUTE);
    return !netlink || has_filters(netlink->get(), interface, TC_H_MIN_INGRESS) ||
           has_filters(netlink->get(), interface, TC_H_MIN_EGRESS);
}

Result<std::vector<Interface>> Interfaces::list() const {
    std::vector<Interface> found;
    // Where interfaces come and go all the time, the last list has to do: news of what it lacks is
    // on its way.
    for (int tries = 0; tries < 8; ++tries) {
        found.clear();
        TRY_TO(is_whole, dump_links(questions_.get(), found));
        if (is_whole) break;
    }
    std::ranges::sort(found);
    auto repeated = std::ranges::unique(found, {}, &Interface::index);
    found.erase(repeated.begin(), repeated.end());
    return found;
}

Interfaces::News Interfaces::read_news() {
    News news;
    alignas(nlmsghdr) char buffer[32 << 10];
    while (true) {
        ssize_t received = recv(news_.get(), buffer, sizeof buffer, MSG_TRUNC);
        if (received < 0 && errno == EINTR) continue;
        if (received < 0 && errno == ENOBUFS) {
            news.is_any = news.is_cut = true;
            continue;
        }
        if (received <= 0) return news;
        news.is_any = true;
        if (static_cast<size_t>(received) > sizeof buffer) news.is_cut = true;
        auto left = std::min(static_cast<size_t>(received), sizeof buffer);
        for (auto* message = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(message, left);
             message = NLMSG_NEXT(message, left)) {
            if (message->nlmsg_type != RTM_DELLINK) continue;
            // A bridge says the same of a port that leaves it, for its own family.
            const auto& link = *static_cast<const ifinfomsg*>(NLMSG_DATA(message));
            if (link.ifi_family == AF_UNSPEC)
                news.gone.push_back(static_cast<uint32_t>(link.ifi_index));
        }
    }
}

}  // namespace proxify::kernel
