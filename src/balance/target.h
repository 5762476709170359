// SPDX-License-Identifier: Apache-2.0
// Target: one address that can serve a service, and what is known about it. Made once for each
// service and address, kept through reloads, shared by the workers and the control thread:
// what names it is fixed at birth, all that changes is atomic. Only health/ writes its state.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/address.h"
#include "base/clock.h"
#include "config/config.h"
#include "stats/target.h"

namespace proxify::balance {

/// Whether one more is no more than `max` (0 for no limit).
inline bool has_room(const std::atomic<uint32_t>& count, const std::atomic<uint32_t>& max) {
    const uint32_t most = max.load(std::memory_order_relaxed);
    return most == 0 || count.load(std::memory_order_relaxed) < most;
}

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

/// How a target lets a real client down.
enum class Trouble { failed_connect, early_reset };

/// So many in a row eject a target; 0 for any number.
inline uint32_t ejects_after(const config::Ejection& ejection, Trouble trouble) {
    return static_cast<uint32_t>(trouble == Trouble::failed_connect ? ejection.failures
                                                                    : ejection.early_resets);
}

struct Target {
    Target(Ip at, config::TargetPort where, std::string written)
        : ip(at), port(where), text(std::move(written)) {}

    const Ip ip;
    const config::TargetPort port;
    const std::string text;  ///< as a person knows it: "127.0.0.1:9001", "db:* (10.0.0.7)"

    // The state, which only health/ writes: what checks say, whether real clients have been let
    // down so often that it is out for a while, and what follows from the two.
    std::atomic<bool> up = true;
    std::atomic<bool> ejected = false;
    std::atomic<bool> available = true;
    /// Since when it takes part again after it was out, on the loops' clock; never_out if it has
    /// not been. For a slow start.
    std::atomic<Time::rep> back_since = never_out;
    static constexpr Time::rep never_out = std::numeric_limits<Time::rep>::min();

    /// An address of this host: dialling it might be steered back to us; see capture/dial_guard.h.
    std::atomic<bool> is_local = false;
    // What real clients met, in a row: connects that failed; connections that it reset before it
    // had sent a byte.
    std::atomic<uint32_t> failed_connects = 0;
    std::atomic<uint32_t> early_resets = 0;
    std::atomic<uint32_t> sessions = 0;
    /// So many at once, by the newest file; 0 for no limit.
    std::atomic<uint32_t> sessions_max = 0;

    stats::Target stats = {};

    /// For health/: true when that changes whether it takes part.
    bool set_up(bool is_up, Time now) {
        up.store(is_up, std::memory_order_relaxed);
        return set_available(now);
    }
    bool set_ejected(bool is_ejected, Time now) {
        ejected.store(is_ejected, std::memory_order_relaxed);
        return set_available(now);
    }

    bool is_full() const { return !has_room(sessions, sessions_max); }

    /// Where a client that dialled `dialled` is sent. Nowhere if that is beyond the last port,
    /// which a port added by hand may ask for: those of the file were checked.
    std::optional<Address> for_dialled(const Address& dialled) const {
        if (port.is_tunnel()) return Address{dialled.ip, port.value};
        if (port.is_original()) return dialled;
        if (port.kind == config::TargetPort::Kind::offset && dialled.port + port.value > 65535)
            return std::nullopt;
        return Address{ip, port.for_dialled(dialled.port)};
    }

  private:
    bool set_available(Time now) {
        const bool is =
            up.load(std::memory_order_relaxed) && !ejected.load(std::memory_order_relaxed);
        if (is == available.load(std::memory_order_relaxed)) return false;
        if (is) back_since.store(now.time_since_epoch().count(), std::memory_order_relaxed);
        available.store(is, std::memory_order_relaxed);
        return true;
    }
};

}  // namespace proxify::balance
