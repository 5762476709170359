// SPDX-License-Identifier: Apache-2.0
// Whose is the other end of a connection, when that end is a socket of this network namespace.
//
// After netfilter has rewritten a destination, the two ends of one connection do not know each
// other by address: the client's socket says where it aimed. With that and its own address the
// kernel finds it, by the question that `ss` asks for one socket: sock_diag(7), INET_DIAG without
// NLM_F_DUMP, which takes no privilege. The kernel answers within the call, so nobody waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/address.h"
#include "base/result.h"

namespace proxify::kernel {

/// What the kernel tells of a socket.
struct Peer {
    uint64_t cookie = 0;  ///< as SO_COOKIE gives it to its owner
    uint32_t inode = 0;   ///< as fstat() gives it; 0 once it is closed
    uint32_t uid = 0;     ///< of who made it
};

class Peers {
  public:
    /// Of the calling thread's namespace, for good. So many threads ask without waiting for each
    /// other, with two descriptors for each; more of them share.
    static Result<Peers> open(size_t threads);

    /// Whether an interface here has the address, as of this moment: the kernel tells of each
    /// change unasked. Without one, a fraction of the cost of find(). From any thread.
    bool is_here(const Ip& ip);

    /// The TCP socket here that is connected, or on its way, from `local` to `remote`, both in one
    /// family and as it sees them itself; none when there is none. From any thread. Before Linux
    /// 6.9 the kernel itself answers one such question at a time, of whomever.
    std::optional<Peer> find(const Address& local, const Address& remote);

    ~Peers();
    Peers(Peers&&) noexcept;

  private:
    struct Desk;
    explicit Peers(std::vector<std::unique_ptr<Desk>> desks);
    Desk& desk();
    std::vector<std::unique_ptr<Desk>> desks_;
};

}  // namespace proxify::kernel
