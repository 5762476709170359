// SPDX-License-Identifier: Apache-2.0
// Server: everything that is slow. It puts the parts together, then lives on the main thread:
// signals, the config file, names, health checks. Workers only carry connections.
#pragma once

#include <bitset>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "dial/dial.h"
#include "health/health.h"
#include "io/host.h"
#include "io/loop.h"
#include "resolve/resolver.h"
#include "routing/snapshot.h"
#include "steering/steering.h"
#include "telemetry/log.h"
#include "worker/worker.h"

namespace proxify::control {

struct Options {
    bool steer = false;  ///< -b
    std::string config_path = "targets.toml";
    std::optional<uint16_t> listen;  ///< -p; overrides the file
};

class Server {
  public:
    /// Does all that can fail: after this it runs.
    static Result<std::unique_ptr<Server>> open(const Options& options);
    ~Server();

    /// Until a signal ends it.
    void run();

  private:
    /// Sends sessions' and checks' own dials past our own door.
    struct SteeringGuard : dial::Guard {
        explicit SteeringGuard(steering::Steering& by) : steering(by) {}
        bool is_steered(uint16_t port) const override { return steering.steers(port); }
        bool let_through(const Address& source) override { return steering.guard_dial(source); }
        void forget(const Address& source) override { steering.unguard_dial(source); }
        steering::Steering& steering;
    };

    using Listeners = std::map<uint16_t, io::Handle>;

    Server(const Options& options, config::Config config, io::Ring ring, io::Signals signals);
    Result<> start(const config::Config& config);
    Result<> start_steered(uint16_t port, const config::Config& config);
    Result<> start_bound(const config::Config& config);
    void start_worker(io::Ring ring, size_t listener_count);

    Result<Listeners> bind_ports(const steering::PortSet& ports);
    void reload(bool was_asked_for);
    Result<std::string> apply(const config::Config& config);
    void publish(config::Config config);
    void on_resolved(const resolve::Resolver::Outcome& outcome);
    void leave();

    io::Task<> heed_signals();
    io::Task<> heed_file();

    Options options_;
    telemetry::Log log_;
    io::Loop loop_;
    io::Signals signals_;
    io::Readable signal_arrival_;
    std::optional<io::FileWatch> file_;
    std::optional<io::Readable> file_change_;
    std::string last_refusal_;  ///< why the file was refused last, so that it is said once

    std::shared_ptr<const routing::Snapshot> snapshot_;
    std::optional<steering::Steering> steering_;
    std::optional<SteeringGuard> guard_;
    std::optional<health::Health> health_;
    std::optional<resolve::Resolver> resolver_;
    std::unique_ptr<worker::Worker> worker_;
    bool leaving_ = false;
};

}  // namespace proxify::control
