// SPDX-License-Identifier: Apache-2.0
// Interceptor: the capture of type "connect" that a config has. It works the programs in the
// kernel, follows the containers that the capture names, and the processes of somebody else's
// proxy, and says what was captured.
//
// It belongs to one thread and, once it is open, makes that wait for no more than some system
// calls: what takes time (walks through /proc, questions to a daemon) happens on threads of its
// own, whose findings process() takes over. To end them takes as long as the one question that they
// ask just then.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"
#include "config/config.h"
#include "containers/follower.h"
#include "intercept/plan.h"
#include "intercept/scout.h"
#include "intercept/text.h"
#include "kernel/cgroups.h"
#include "kernel/connect_program.h"
#include "telemetry/log.h"

namespace proxify::intercept {

/// Fails where a container that the capture names cannot be found or does not run now. Waits for
/// the daemon: for a command that somebody has just typed.
Result<> check_containers(const config::Capture& capture);

class Interceptor {
  public:
    /// Whether the cgroup that a capture is for is there.
    static Result<> check(const config::Capture& capture);
    /// Does all that can fail; captures nothing yet. Looks once for the proxy, which takes some
    /// milliseconds, and waits so long at most until the containers are known. `log` outlives it.
    static Result<std::unique_ptr<Interceptor>> open(const config::Capture& capture, OwnMark mark,
                                                     Duration patience, telemetry::Journal& log);
    ~Interceptor();

    /// Captures from now on, as the last become() says. After a failure it may be tried again.
    Result<> start();
    /// Captures nothing more, and says how it was. Connections that were captured are still known.
    void stop();
    bool is_capturing() const { return is_capturing_; }

    /// Whether this one can go over to another capture. If not, a new one has to take its place.
    bool can_become(const config::Capture& capture) const;
    /// At once, if it is capturing; else from start() on.
    Result<> become(const config::Capture& capture, OwnMark mark);

    /// Readable when process() has something to do.
    int fd() const { return wakes_.get(); }
    void process();

    /// Where a connection was aimed that came to our listener; forgets it. From any thread.
    std::optional<Address> take_original_dst(const Address& client, const Address& local) const {
        return program_.take_original_dst(client, local);
    }

    Result<Report> report();
    /// What was captured so far, by the container that was dialled; cheap.
    Result<std::map<std::string, uint64_t>> counts_by_container() const;
    Result<std::vector<kernel::Counter>> counters() const { return program_.counters(); }

  private:
    /// What was learnt of a container, on the follower's thread.
    struct Learnt {
        containers::News news;
        Home home;
    };
    /// Found by other threads, for process() to take over.
    struct Inbox {
        std::vector<Learnt> containers;
        std::optional<ProxyOwner> owner;
    };

    Interceptor(config::Capture capture, OwnMark mark, kernel::ConnectProgram program,
                kernel::Cgroup root, kernel::Cgroup attached, telemetry::Journal& log);
    Result<> begin(Duration patience);
    void follow_containers();
    void watch_owner();
    void put(std::function<void(Inbox&)> change);
    void arm_timers();
    void look_at_cgroups();

    void on_event(const kernel::ConnectEvent& event);
    void on_container(const Learnt& learnt);
    void on_owner(ProxyOwner owner);
    Result<> tell_kernel();
    Result<> tell_settings(const kernel::ConnectSettings& settings);
    Result<> add_sources(const std::set<kernel::ConnectSource>& sources);
    Result<> remove_sources_but(const std::set<kernel::ConnectSource>& kept);
    Result<> add_destinations(const std::vector<kernel::ConnectDestination>& added);
    Result<> remove_destinations(const std::vector<kernel::ConnectDestination>& removed);
    Result<> exempt_processes();
    void write_report();
    std::string cgroup_text(uint64_t id);
    std::string source_text(const kernel::FollowedConnection& connection);

    config::Capture capture_;
    OwnMark mark_;
    telemetry::Journal& log_;
    kernel::ConnectProgram program_;
    kernel::Cgroup root_, attached_;
    uint64_t failed_in_ = 0;  ///< the cgroup to which the programs could not be attached
    std::string own_cgroup_;
    uint32_t own_pid_namespace_ = 0;
    bool is_capturing_ = false;

    Addresses addresses_;
    std::map<std::string, Home> homes_;  ///< of containers that run
    std::map<Home, std::string> names_;  ///< the other way round
    Numbers numbers_;
    // What the kernel has.
    std::set<kernel::ConnectDestination> destinations_;
    std::set<kernel::ConnectSource> sources_;
    kernel::ConnectSettings settings_;

    ProxyOwner owner_;
    uint64_t proxy_netns_ = 0;  ///< of the last owner that was known; 0 for proxify's own
    uint32_t proxy_uid_ = 0;
    uint64_t listened_ = 0;              ///< how often somebody began to listen there
    std::map<int, uint64_t> newcomers_;  ///< processes that did, and the number of each time
    std::string answering_in_;           ///< the cgroup where original destinations are told

    std::map<uint64_t, std::string> cgroup_texts_;
    bool has_looked_ = false;  ///< at all cgroups, since the look timer rang
    std::map<std::string, uint64_t>
        exempt_;  ///< ids of exempt cgroups; 0 for one that is not there
    Fd mail_, report_timer_, look_timer_, wakes_;
    std::mutex lock_;
    Inbox inbox_;
    // Declared last, so their threads end before anything that they write to.
    std::optional<Scout> scout_;
    std::optional<containers::Follower> follower_;
};

}  // namespace proxify::intercept
