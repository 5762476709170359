// SPDX-License-Identifier: Apache-2.0
#include "doctor/marks.h"

#include <linux/fib_rules.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <set>

#include "base/fd.h"

namespace proxify::doctor {

namespace {

/// Calls `each` with every message that the kernel has of this kind.
template <class Body, class Each>
void dump(uint16_t type, const Body& body, Each each) {
    auto netlink = Fd::adopt(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    // So that the kernel heeds what the body asks for: a router has a million routes.
    const int on = 1;
    setsockopt(netlink.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
    struct {
        nlmsghdr header;
        Body body;
    } request{.header = {}, .body = body};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = type;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    if (!netlink || send(netlink.get(), &request, sizeof request, 0) < 0) return;

    alignas(nlmsghdr) char buffer[32 * 1024];
    while (true) {
        ssize_t received = recv(netlink.get(), buffer, sizeof buffer, 0);
        if (received <= 0) return;
        auto left = static_cast<size_t>(received);
        for (auto* message = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(message, left);
             message = NLMSG_NEXT(message, left)) {
            if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR) return;
            each(message);
        }
    }
}

/// The attribute that follows a body of this type, or null.
template <class Body>
const rtattr* find_attribute(const nlmsghdr* message, uint16_t type) {
    auto left = static_cast<int>(message->nlmsg_len - NLMSG_LENGTH(sizeof(Body)));
    const auto* attribute = reinterpret_cast<const rtattr*>(
        static_cast<const char*>(NLMSG_DATA(message)) + NLMSG_ALIGN(sizeof(Body)));
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
        if (attribute->rta_type == type) return attribute;
    return nullptr;
}

template <class Body>
uint32_t table_of(const nlmsghdr* message, uint16_t type) {
    uint32_t table = 0;
    if (const auto* attribute = find_attribute<Body>(message, type))
        std::memcpy(&table, RTA_DATA(attribute), sizeof table);
    return table;
}

}  // namespace

Marks marks_here() {
    std::set<uint32_t> tables;
    fib_rule_hdr rules{};
    rules.family = AF_INET;
    dump(RTM_GETRULE, rules, [&](const nlmsghdr* message) {
        if (find_attribute<fib_rule_hdr>(message, FRA_FWMARK))
            tables.insert(table_of<fib_rule_hdr>(message, FRA_TABLE));
    });
    Marks marks{.choose_routes = !tables.empty()};
    if (tables.empty()) return marks;

    rtmsg routes{};
    routes.rtm_family = AF_INET;
    routes.rtm_type = RTN_LOCAL;
    dump(RTM_GETROUTE, routes, [&](const nlmsghdr* message) {
        const auto* route = static_cast<const rtmsg*>(NLMSG_DATA(message));
        marks.lead_home |= route->rtm_type == RTN_LOCAL && route->rtm_dst_len == 0 &&
                           tables.contains(table_of<rtmsg>(message, RTA_TABLE));
    });
    return marks;
}

}  // namespace proxify::doctor
