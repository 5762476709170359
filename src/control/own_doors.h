// SPDX-License-Identifier: Apache-2.0
// OwnDoors: what keeps proxify's own connections out of its own doors; see dial/dial.h. Asked by
// every thread that dials.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

#include "dial/dial.h"
#include "kernel/peer.h"
#include "steering/steering.h"

namespace proxify::control {

class OwnDoors : public dial::Guard {
  public:
    Way way_to(uint16_t port) const override;
    bool let_through(const Address& source) override { return steering_->guard_dial(source); }
    void forget(const Address& source) override { steering_->unguard_dial(source); }
    uint32_t mark() const override { return mark_.load(std::memory_order_relaxed); }
    std::optional<bool> is_here(const Ip& ip) override {
        return recognises_ ? std::optional(peers_->is_here(ip)) : std::nullopt;
    }
    void claim(dial::Claim& claim) override;
    void disclaim(dial::Claim& claim) override;
    bool is_own(const Address& client, const Address& original_dst) override;

    /// Before the first worker starts.
    void use(steering::Steering& steering) { steering_ = &steering; }
    /// Whether we listen on the port ourselves.
    void set_listening(uint16_t port, bool listens) { listens_[port] = listens; }
    void set_mark(uint32_t mark) { mark_ = mark; }
    /// From here on is_own() can tell, of what other programs' rules bring back to this host. By
    /// the thread that listens, once there is a door for that; so many threads will ask.
    Result<> recognise(size_t threads);

  private:
    /// Claims whose cookies have the same last digits. The kernel counts cookies up, so those of
    /// one moment are in different lists, and threads do not meet.
    struct alignas(64) Claims {
        std::mutex lock;
        dial::Claim* first = nullptr;
    };
    Claims& claims_of(uint64_t cookie) { return claims_[cookie % claims_.size()]; }
    bool is_claimed(uint64_t cookie);

    std::array<std::atomic<bool>, 65536> listens_{};
    steering::Steering* steering_ = nullptr;
    std::atomic<uint32_t> mark_ = 0;
    std::array<Claims, 1024> claims_;
    std::atomic<size_t> claims_of_elsewhere_ = 0;
    std::optional<kernel::Peers> peers_;
    std::atomic<bool> recognises_ = false;  ///< peers_ is there, for good
};

}  // namespace proxify::control
