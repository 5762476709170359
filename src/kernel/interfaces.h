// SPDX-License-Identifier: Apache-2.0
// Interfaces: the network interfaces of the namespace in which this was opened, and word of when to
// look again (rtnetlink(7)). Loopback is not among them.
//
// Word may come late, come twice or get lost, as netlink says of itself. So it carries nothing but
// the numbers of interfaces that are gone: what is there is always asked for anew.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace proxify::kernel {

struct Interface {
    uint32_t index = 0;  ///< never that of another interface while this one is there
    std::string name;    ///< may change
    /// Its packets begin with a link header of 14 bytes, or with the IP header (tun, wireguard).
    bool has_ethernet = true;
    auto operator<=>(const Interface&) const = default;
};

/// Whether an interface has a tc filter at its clsact queueing discipline, anybody's. True when the
/// kernel does not tell.
bool has_filters(uint32_t interface);

class Interfaces {
  public:
    static Result<Interfaces> open();

    /// All of them, by index. Does not wait for anything but the kernel.
    Result<std::vector<Interface>> list() const;

    /// May be read from when something has happened.
    int fd() const { return news_.get(); }

    struct News {
        bool is_any = false;
        std::vector<uint32_t> gone;  ///< even if an interface of the same number is there by now
        bool is_cut = false;         ///< some was lost, so others may be gone as well
    };
    /// Reads what has come in, without waiting.
    News read_news();

  private:
    Interfaces(Fd news, Fd questions) : news_(std::move(news)), questions_(std::move(questions)) {}
    Fd news_, questions_;
};

}  // namespace proxify::kernel
