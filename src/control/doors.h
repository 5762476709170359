// SPDX-License-Identifier: Apache-2.0
// Doors: those captures that take more than a listener: programs at connect() and at interfaces.
// For the control thread, but for take().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "capture/arrival.h"
#include "config/config.h"
#include "ingress/ingress.h"
#include "intercept/interceptor.h"
#include "io/loop.h"
#include "telemetry/log.h"

namespace proxify::control {

class Doors : public capture::Origins {
  public:
    Doors(io::Loop& loop, telemetry::Journal& log);
    ~Doors() override;

    /// A listening socket of the capture that listens on this port.
    using ListenerOn = std::function<int(uint16_t port)>;

    /// Whether this config is possible here.
    Result<> check(const config::Config& config) const;
    /// Captures what the config says, from now on. Waits so long at most for what is known of
    /// containers.
    Result<> apply(const config::Config& config, const ListenerOn& listener_on, Duration patience);
    /// Captures nothing more; connections that were captured are still known to take().
    void close();

    std::optional<Address> take(const Address& client, const Address& local) override;

    /// What the programs have counted.
    struct Counts {
        std::string_view capture;  ///< "connect"
        std::vector<kernel::Counter> answers;
        std::map<std::string, uint64_t> by_container = {};
    };
    std::vector<Counts> counts() const;

  private:
    /// An interceptor, and the wait for what it has to do. Shared with its task, which ends later.
    struct Connect {
        Connect(io::Loop& loop, std::shared_ptr<intercept::Interceptor> owned);
        std::shared_ptr<intercept::Interceptor> interceptor;
        io::Readable readable;
    };
    Result<> apply_connect(const config::Config& config, Duration patience);
    void close_connect();
    static io::Task<> watch(std::shared_ptr<Connect> connect);

    io::Loop& loop_;
    telemetry::Journal& log_;
    std::shared_ptr<Connect> connect_;
    using Interceptors = std::vector<std::shared_ptr<intercept::Interceptor>>;
    /// Those that may have captured a connection that nobody has accepted yet, the newest first.
    std::atomic<std::shared_ptr<const Interceptors>> interceptors_;

    Result<> open_ingress(const config::Config& config);
    io::Task<> follow_interfaces();

    std::optional<ingress::Ingress> ingress_;
    std::optional<io::Readable> interfaces_changed_;
};

}  // namespace proxify::control
