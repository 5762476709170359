// SPDX-License-Identifier: Apache-2.0
// Snapshot: the configuration as the workers see it, immutable once published. A session keeps the
// service it was born under, so a reload changes nothing for a connection in mid-life.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "balance/pool.h"
#include "base/clock.h"
#include "config/config.h"

namespace proxify::routing {

/// One service at work: its configuration and its targets.
struct Service {
    std::string name;
    config::Service spec;
    balance::Pool pool;
};

class Snapshot {
  public:
    /// What a name resolves to now; a literal address resolves to itself without asking.
    using Resolve = std::function<std::vector<Ip>(const std::string& host)>;

    /// Targets that `before` knows under the same service and address are kept, with all
    /// that was learnt about them, and so is the line of each service; what they are limited to
    /// changes at once, also for sessions of `before`. Ports that `before` had and `config` has not
    /// are retired.
    static std::shared_ptr<const Snapshot> build(config::Config config, const Resolve& resolve,
                                                 const Snapshot* before, Time now);

    /// The service for a port that a client dialled; null when there is none.
    const std::shared_ptr<const Service>& find(uint16_t port) const {
        return services_[route_[port]];
    }

    /// The service a port belonged to until a moment ago: a client whose connection
    /// was still in the accept queue when its port was removed keeps what it aimed at.
    std::shared_ptr<const Service> find_retired(uint16_t port, Time now) const;

    /// For the listener's own port and for ports that people added by hand.
    const std::shared_ptr<const Service>& default_service() const { return default_; }

    const config::Config& config() const { return config_; }
    /// All services; the first is null, so that route_ may say "none" with 0.
    const std::vector<std::shared_ptr<const Service>>& services() const { return services_; }
    size_t port_count() const { return port_count_; }

    /// Longer than a SYN can wait for its handshake and its place in the queue.
    static constexpr Duration retirement = 2min;

  private:
    struct Retired {
        std::shared_ptr<const Service> service;
        Time until;
    };
    config::Config config_;
    std::vector<std::shared_ptr<const Service>> services_;
    std::array<uint16_t, 65536> route_{};  ///< index into services_
    std::shared_ptr<const Service> default_;
    std::map<uint16_t, Retired> retired_;
    size_t port_count_ = 0;
};

}  // namespace proxify::routing
