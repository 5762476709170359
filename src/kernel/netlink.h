// SPDX-License-Identifier: Apache-2.0
// Questions to the kernel over netlink (RFC 3549, netlink(7)).
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace proxify::kernel {

/// A socket for questions, which is told of what happens to `groups`. `flags` as socket(2) takes
/// them, such as SOCK_NONBLOCK.
Result<Fd> open_netlink(int protocol, uint32_t groups = 0, int flags = 0);

/// Sends a question whose answer is a list (NLM_F_DUMP), on a socket that waits, and calls for each
/// message of it. Gives whether the list is whole: the kernel says when it changed while it was
/// read. `what` is listed, for errors: "TCP listeners".
Result<bool> dump(int netlink, const nlmsghdr& request, std::string_view what,
                  const std::function<void(const nlmsghdr&)>& on_message);

}  // namespace proxify::kernel
