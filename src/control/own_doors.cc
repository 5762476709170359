// SPDX-License-Identifier: Apache-2.0
#include "control/own_doors.h"

namespace proxify::control {

dial::Guard::Way OwnDoors::way_to(uint16_t port) const {
    if (listens_[port].load(std::memory_order_relaxed)) return Way::own;
    return steering_ && steering_->steers(port) ? Way::steered : Way::open;
}

void OwnDoors::claim(uint64_t cookie) {
    std::lock_guard lock(claims_lock_);
    claims_.insert(cookie);
}

void OwnDoors::disclaim(uint64_t cookie) {
    std::lock_guard lock(claims_lock_);
    claims_.erase(cookie);
}

Result<> OwnDoors::recognise() {
    std::lock_guard lock(claims_lock_);
    if (peers_) return {};
    TRY_TO(peers, kernel::Peers::open());
    peers_.emplace(std::move(peers));
    return {};
}

bool OwnDoors::is_own(const Address& client, const Address& original_dst) {
    {
        std::lock_guard lock(claims_lock_);
        if (!peers_ || claims_.empty()) return false;
    }
    const auto peer = peers_->find(client, original_dst);
    if (!peer) return false;
    std::lock_guard lock(claims_lock_);
    return claims_.contains(peer->cookie);
}

}  // namespace proxify::control
