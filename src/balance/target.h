// SPDX-License-Identifier: Apache-2.0
// Target: one address that can serve a service, and what is known about it. Made once for each
// service and address, kept through reloads, shared by the workers and the control thread:
// what names it is fixed at birth, all that changes is atomic. Only health/ writes its state.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/address.h"
#include "config/config.h"

namespace proxify::balance {

/// Counts one more, unless that is more than `max` (0 for no limit). Exact, whoever else counts.
inline bool take_one(std::atomic<uint32_t>& count, const std::atomic<uint32_t>& max) {
    const uint32_t most = max.load(std::memory_order_relaxed);
    if (most == 0) {
        count.fetch_add(1, std::memory_order_relaxed);
        return true;
    }
    uint32_t now = count.load(std::memory_order_relaxed);
    while (now < most)
        if (count.compare_exchange_weak(now, now + 1, std::memory_order_relaxed)) return true;
    return false;
}

struct Target {
    Target(Ip at, config::TargetPort where, std::string written)
        : ip(at), port(where), text(std::move(written)) {}

    const Ip ip;
    const config::TargetPort port;
    const std::string text;  ///< as a person knows it: "127.0.0.1:9001", "db:* (10.0.0.7)"

    std::atomic<bool> up = true;
    /// An address of this host: dialling it might be steered back to us; see capture/dial_guard.h.
    std::atomic<bool> is_local = false;
    /// Connects of real clients that failed since the last that did not.
    std::atomic<uint32_t> failed_connects = 0;
    std::atomic<uint32_t> sessions = 0;
    /// So many at once, by the newest file; 0 for no limit.
    std::atomic<uint32_t> sessions_max = 0;

    bool is_full() const {
        const uint32_t max = sessions_max.load(std::memory_order_relaxed);
        return max != 0 && sessions.load(std::memory_order_relaxed) >= max;
    }

    /// Where a client that dialled `dialled` is sent. Nowhere if that is beyond the last port,
    /// which a port added by hand may ask for: those of the file were checked.
    std::optional<Address> for_dialled(uint16_t dialled) const {
        if (port.kind == config::TargetPort::Kind::offset && dialled + port.value > 65535)
            return std::nullopt;
        return Address{ip, port.for_dialled(dialled)};
    }
};

}  // namespace proxify::balance
