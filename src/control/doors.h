// SPDX-License-Identifier: Apache-2.0
// Doors: those captures that take more than a listener: programs at connect() and at interfaces.
// For the control thread, but for take().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "base/result.h"
#include "capture/arrival.h"
#include "config/config.h"
#include "io/loop.h"
#include "telemetry/log.h"

namespace proxify::control {

class Doors : public capture::Origins {
  public:
    Doors(io::Loop& loop, telemetry::Journal& log);
    ~Doors() override;

    /// A listening socket of the capture that listens on this port.
    using ListenerOn = std::function<int(uint16_t port)>;

    /// Does all that can fail and that needs privileges, at the start: nothing is captured yet.
    Result<> open(const config::Config& config, const ListenerOn& listener_on);
    /// Whether a running proxify can go over to this config.
    Result<> check_change(const config::Config& config) const;
    /// Captures what the config says, from now on. The workers serve it already.
    Result<> apply(const config::Config& config, const ListenerOn& listener_on);
    /// Captures nothing more; connections that were captured are still known to take().
    void close();

    std::optional<Address> take(const Address& client, const Address& local) override;

  private:
    [[maybe_unused]] io::Loop& loop_;
    [[maybe_unused]] telemetry::Journal& log_;
};

}  // namespace proxify::control
