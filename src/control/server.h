// SPDX-License-Identifier: Apache-2.0
// Server: everything that is slow. It puts the parts together, then lives on the main thread:
// signals, the config file, names, health checks. Workers only carry connections.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "control/desk.h"
#include "control/doors.h"
#include "control/notify.h"
#include "control/own_doors.h"
#include "dial/dial.h"
#include "health/health.h"
#include "io/host.h"
#include "io/loop.h"
#include "kernel/privileges.h"
#include "metrics/metrics.h"
#include "report/report.h"
#include "resolve/resolver.h"
#include "routing/snapshot.h"
#include "steering/steering.h"
#include "telemetry/log.h"
#include "worker/worker.h"

namespace proxify::control {

struct Options {
    bool steer = false;  ///< -b
    std::string config_path = "targets.toml";
    std::optional<std::string> config_text = {};  ///< instead of a file: what a command makes
    std::optional<uint16_t> listen;               ///< -p; overrides the file
    std::optional<std::string> socket;            ///< --socket; the same
    std::string version;
};

class Server {
  public:
    /// Does all that can fail: after this it runs.
    static Result<std::unique_ptr<Server>> open(const Options& options);
    ~Server();

    /// Until a signal ends it.
    void run();

    // What operators ask and order, by the desk. All but post() on the control thread.

    void post(io::Loop::Message message) { loop_.post(std::move(message)); }
    bool is_leaving() const { return leaving_; }
    bool is_ready() const { return !leaving_ && !steering_is_behind_ && !doors_are_behind_; }
    report::Status status() const;
    report::Services services() const;
    report::Targets targets() const;
    report::Ports ports() const;
    Result<report::Steering> steering() const;
    /// Brings along what a page of metrics is made of.
    metrics::Input metrics() const;
    /// What would become of a client; see explain/.
    Result<report::Explanation> explain(const Address& client, const Address& destination);
    /// A survey of all sessions begins when those before it are over: each takes memory. It holds
    /// its `turn` until it is done. False when too many wait already.
    using Survey = std::move_only_function<void(std::shared_ptr<void> turn)>;
    bool survey(Survey begin);
    /// Every worker, those that were retired as well.
    std::vector<worker::Worker*> everyone() const;

    /// What a reload of the file would change, or of another one.
    Result<report::Plan> plan_reload() const { return plan_change(load()); }
    Result<report::Plan> plan_change(Result<config::Config> next) const;
    /// Reloads the file. With `watch` the config from before comes back when, within that time, a
    /// service loses its last target that is up, or half of all targets go. An edit may have been
    /// seen and applied before the operator asked: one that is no older than `watch` is watched
    /// too.
    report::Reload reload_now(std::optional<Duration> watch);
    /// What an operator sets for a target; what is not said stays.
    struct NewOrder {
        std::optional<bool> is_drained = {};
        bool sets_weight = false;
        std::optional<uint32_t> weight = {};  ///< none: what the file says
    };
    /// `which` is a target as `proxify targets` shows it, or a name in the file, with or without
    /// the service and a slash before it.
    Result<report::Done> order(const std::string& which, const NewOrder& wanted);

  private:
    /// By port: the listeners that share it, one for each worker at least.
    using Listeners = std::map<uint16_t, std::vector<io::Handle>>;

    /// By port of our listener.
    using Captured = std::map<uint16_t, config::CaptureType>;

    /// What it takes to serve, before there is anybody who does.
    struct Opened {
        std::vector<io::Ring> rings;
        Listeners listeners;
        std::string text;  ///< for the log
    };

    Server(const Options& options, config::Config config, io::Ring ring, io::Signals signals,
           std::optional<kernel::User> user, Notifier notifier);
    Result<> start(const config::Config& config);
    Result<Opened> open_steered(uint16_t port, const config::Config& config);
    Result<Opened> open_bound(const config::Config& config);
    Result<> become_user(const Listeners& listeners, const config::Config& config);
    Result<std::vector<io::Ring>> open_rings(size_t count);
    void start_workers(std::vector<io::Ring> rings);
    void on_worker_end(const worker::Worker* worker);
    worker::Shares shares_for(size_t worker_count) const;
    void set_worker_count(size_t count, std::vector<io::Ring> rings, const Listeners& more);
    capture::Door door_on(uint16_t port) const;
    Doors::ListenerOn listener_on() const;
    void use_captures(const config::Config& config);
    kernel::Work work_of(const config::Config& config) const;

    Result<std::vector<io::Handle>> listen(uint16_t port, size_t count, bool is_transparent);
    Result<Listeners> bind_ports(const steering::PortSet& ports, const Captured& captured,
                                 size_t count);
    Result<Listeners> widen_groups(size_t count, const steering::PortSet& but_for);
    void close_all(const Listeners& listeners);
    void hand_out(const Listeners& listeners);
    report::Reload reload(bool was_asked_for);
    static Result<config::Config> load(const Options& options);
    Result<config::Config> load() const { return load(options_); }
    void open_desk(const config::Admin& admin);
    io::Task<> move_desk();
    Result<> check_change(const config::Config& config) const;
    Result<std::string> apply(const config::Config& config);
    std::vector<std::string> files_of(const config::Config& config) const;
    void publish(config::Config config);
    void tell_kernel(const routing::Service& service);
    void tell_kernel();
    void on_state_change(const routing::Service& service, const balance::Target& target,
                         health::Change change);
    void on_resolved(const resolve::Outcome& outcome);
    void tell_who_left(const routing::Snapshot& before);
    void leave();
    [[noreturn]] void end_at_once();

    io::Task<> heed_signals();
    io::Task<> heed_file();

    /// How many targets of each service were up when a reload came.
    struct Share {
        std::map<std::string, size_t> available;
        size_t in_all = 0;
    };
    /// What it takes to take the last reload back.
    struct Undo {
        config::Config config;
        Share before, after;  ///< it was applied
        Time at;              ///< when it was applied
        report::Reload done;  ///< what was said of it
    };
    Share share_now() const;
    std::string loss_since(const Share& before, bool time_is_up) const;
    io::Task<> watch_reload(Undo undo, Duration time);
    void take_back(const config::Config& before, const std::string& loss);
    void begin_survey();
    std::string lift_orders(const std::string& which);

    std::string status_line() const;
    io::Task<> tell_status();
    io::Task<> tell_alive(Duration limit);
    void tell_of_certificates();
    io::Task<> watch_certificates();

    Options options_;
    std::optional<kernel::User> user_;
    Notifier notifier_;
    telemetry::Log log_;
    io::Loop loop_;
    io::Signals signals_;
    io::Readable signal_arrival_;
    std::optional<io::FileWatch> file_;
    std::optional<io::Readable> file_change_;
    std::string last_refusal_;  ///< why the file was refused last, so that it is said once

    std::shared_ptr<const routing::Snapshot> snapshot_;
    std::optional<steering::Steering> steering_;
    std::optional<uint16_t> steering_port_;  ///< of the listener, with steering
    bool steering_is_behind_ = false;        ///< the last change did not reach the kernel
    OwnDoors own_doors_;
    Doors doors_{loop_, log_};
    Captured captured_;                  ///< by the running config
    std::map<uint16_t, Ip> listens_at_;  ///< of those, where it is not all addresses
    bool doors_are_behind_ = false;      ///< the last change did not reach all of them
    bool told_of_marks_ = false;
    std::optional<health::Health> health_;
    std::optional<resolve::Resolver> resolver_;
    std::vector<std::unique_ptr<worker::Worker>> workers_;
    std::vector<std::unique_ptr<worker::Worker>> retired_;  ///< their last sessions go on
    size_t workers_running_ = 0;                            ///< both
    size_t fds_taken_ = 0;                                  ///< by all but sessions and pipes
    std::atomic<uint64_t> sessions_so_far_ = 0;
    /// Number i of a group belongs to worker i modulo the number of workers.
    Listeners listeners_;
    std::deque<Survey> surveys_;  ///< the first is under way
    routing::Orders orders_;
    report::Reload last_reload_;
    std::optional<Undo> undo_;  ///< since the first reload
    /// What the file still says, though it was no good; it is not tried again unasked.
    std::optional<config::Config> taken_back_;
    io::Signal something_changed_{loop_};  ///< for whoever watches a reload
    const tunnel::Id instance_;            ///< what tunnels know this process by
    Time started_at_{};
    Time applied_at_{};  ///< the running config
    std::optional<Desk> desk_;
    io::Signal no_more_status_{loop_}, no_more_watchdog_{loop_}, no_more_certificates_{loop_};
    bool names_moved_ = false;  ///< since the snapshot was built; another is on its way
    bool leaving_ = false;
};

}  // namespace proxify::control
