// SPDX-License-Identifier: Apache-2.0
// Target: one address that can serve a service, and what is known about it. Made once for each
// service and address, kept through reloads, shared by the workers and the control thread:
// the configuration is fixed at birth, all that changes is atomic. Only health/ writes `up`.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/address.h"
#include "config/config.h"

namespace proxify::balance {

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

    /// Where a client that dialled `dialled` is sent. Nowhere if that is beyond the last port,
    /// which a port added by hand may ask for: those of the file were checked.
    std::optional<Address> for_dialled(uint16_t dialled) const {
        if (port.kind == config::TargetPort::Kind::offset && dialled + port.value > 65535)
            return std::nullopt;
        return Address{ip, port.for_dialled(dialled)};
    }
};

/// A seat at a target: a session holds one while it is joined to it, and it returns itself.
class Seat {
  public:
    Seat() = default;
    explicit Seat(Target& target) : target_(&target) {
        target.sessions.fetch_add(1, std::memory_order_relaxed);
    }
    Seat(Seat&& other) noexcept : target_(std::exchange(other.target_, nullptr)) {}
    Seat& operator=(Seat&& other) noexcept {
        std::swap(target_, other.target_);
        return *this;
    }
    ~Seat() {
        if (target_) target_->sessions.fetch_sub(1, std::memory_order_relaxed);
    }

  private:
    Target* target_ = nullptr;
};

}  // namespace proxify::balance
