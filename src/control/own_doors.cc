// SPDX-License-Identifier: Apache-2.0
#include "control/own_doors.h"

namespace proxify::control {

dial::Guard::Way OwnDoors::way_to(uint16_t port) const {
    if (listens_[port].load(std::memory_order_relaxed)) return Way::own;
    return steering_ && steering_->steers(port) ? Way::steered : Way::open;
}

void OwnDoors::claim(dial::Claim& claim) {
    if (claim.is_of_elsewhere) ++claims_of_elsewhere_;
    auto& claims = claims_of(claim.cookie);
    std::lock_guard lock(claims.lock);
    claim.next = claims.first;
    if (claims.first) claims.first->previous = &claim;
    claims.first = &claim;
}

void OwnDoors::disclaim(dial::Claim& claim) {
    if (claim.is_of_elsewhere) --claims_of_elsewhere_;
    auto& claims = claims_of(claim.cookie);
    std::lock_guard lock(claims.lock);
    (claim.previous ? claim.previous->next : claims.first) = claim.next;
    if (claim.next) claim.next->previous = claim.previous;
}

bool OwnDoors::is_claimed(uint64_t cookie) {
    auto& claims = claims_of(cookie);
    std::lock_guard lock(claims.lock);
    auto* claim = claims.first;
    while (claim && claim->cookie != cookie) claim = claim->next;
    return claim;
}

Result<> OwnDoors::recognise(size_t threads) {
    if (recognises_) return {};
    TRY_TO(peers, kernel::Peers::open(threads));
    peers_.emplace(std::move(peers));
    recognises_ = true;
    return {};
}

bool OwnDoors::is_own(const Address& client, const Address& original_dst) {
    if (!recognises_) return false;
    // Most clients are on other hosts. None of those is us, unless we have borrowed an address.
    if (claims_of_elsewhere_ == 0 && !peers_->is_here(client.ip)) return false;
    const auto peer = peers_->find(client, original_dst);
    return peer && is_claimed(peer->cookie);
}

}  // namespace proxify::control
