// SPDX-License-Identifier: Apache-2.0
// Whose is the other end of a connection, when that end is a socket of this network namespace.
//
// After netfilter has rewritten a destination, the two ends of one connection do not know each
// other by address: the client's socket says where it aimed. With that and its own address the
// kernel finds it, by the question that `ss` asks for one socket: sock_diag(7), INET_DIAG without
// NLM_F_DUMP, which takes no privilege. The kernel answers within the call, so nobody waits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

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
    /// Of the calling thread's namespace, for good. One descriptor.
    static Result<Peers> open();

    /// The TCP socket here that is connected, or on its way, from `local` to `remote`, both in one
    /// family and as it sees them itself; none when there is none. From any thread: those who ask
    /// at the same time wait for each other, some microseconds each.
    std::optional<Peer> find(const Address& local, const Address& remote);

    ~Peers();
    Peers(Peers&&) noexcept;

  private:
    struct Question;
    explicit Peers(std::unique_ptr<Question> question);
    std::unique_ptr<Question> question_;
};

}  // namespace proxify::kernel
