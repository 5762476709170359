// SPDX-License-Identifier: Apache-2.0
// Steering: the configured ports of this host lead to one listener, from start() to end().
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "kernel/listeners.h"
#include "kernel/steering_program.h"
#include "steering/plan.h"
#include "steering/tables.h"

namespace proxify::steering {

/// What the kernel would do with a SYN.
struct Explained {
    std::string_view outcome;  ///< of kernel::Explained
    std::string_view meaning;
    std::string service;      ///< "" for none, or for one that is not counted by a name
    bool is_by_name = false;  ///< several services, which share the port by sni
    kernel::Landing landing = kernel::Landing::host;
    /// Sentences about other sk_lookup programs that are asked as well.
    std::vector<std::string> others = {};
};

class Steering {
  public:
    /// Steers the ports of the config to the listening socket, in the calling thread's network
    /// namespace. Either all of it works, or nothing is left in the kernel.
    static Result<Steering> start(int listener_fd, const config::Config& config);

    /// Makes the kernel serve a new config. Whoever serves the connections must know that config
    /// already. After an error the maps hold something between old and new; applying again is safe.
    Result<> apply(const config::Config& config);

    /// A service has lost its last target that was up, or has one again: what its `when_down` says
    /// begins or ends. A service that is new counts as up.
    Result<> set_down(const std::string& service, bool is_down);

    /// No new connection is steered from here on. What waits in the listener's queue is still
    /// there: accept until it is empty, then close the listener.
    void end() { program_.detach(); }

    /// Whether the port leads to proxify now, by config or by hand. One system call.
    bool steers(uint16_t port) const { return program_.has_port(port); }

    /// Whether the port is in the map because somebody put it there by hand. From any thread.
    bool is_added_by_hand(uint16_t port) const;

    /// Around a dial of our own to an address of this host, so that it is not steered back here;
    /// `source` is what the dialling socket is bound to. Any thread may call these.
    bool guard_dial(const Address& source) { return program_.guard_dial(source); }
    void unguard_dial(const Address& source) { program_.unguard_dial(source); }

    /// The socket for dropped clients, which is opened if no service has needed it yet.
    Result<int> open_sink();

    /// Sentences for the operator about what was found at the start: other steering programs, and
    /// listeners that get no connections any more.
    const std::vector<std::string>& warnings() const { return warnings_; }

    /// Local listeners on one of these ports that are not our own: they get no new connections.
    /// Empty when the kernel does not tell.
    std::vector<kernel::Listening> shadowed(const PortSet& ports) const;
    /// Ports that people have added to proxy_ports.
    std::vector<uint16_t> added_by_hand() const;

    /// One sentence for each local listener on one of these ports that is not our own.
    std::vector<std::string> shadow_warnings(const PortSet& ports) const;

    /// Asks the program itself, and changes nothing. For the thread that steers.
    Result<Explained> explain(const Address& client, const Address& destination) const;

    Result<kernel::SteeringProgram::Ids> ids() const { return program_.ids(); }
    Result<std::vector<kernel::Counter>> counters() const { return program_.counters(); }
    Result<std::vector<kernel::Counter>> counters(const std::string& service) const {
        return program_.counters(numbers_.of(service));
    }
    Result<std::vector<uint64_t>> port_counts() const { return program_.port_counts(); }

  private:
    Steering(kernel::SteeringProgram program, uint64_t listener_inode, uint16_t listener_port)
        : program_(std::move(program)),
          listener_inode_(listener_inode),
          listener_port_(listener_port) {}

    Result<> write_lists(const config::Config& config);
    Result<> write_services(std::vector<kernel::ServiceEntry> want);
    Result<> write_entries(const Tables& want);
    Result<> forget(const config::Config& config, const Tables& want);

    kernel::SteeringProgram program_;
    uint64_t listener_inode_;
    uint16_t listener_port_;
    config::Config config_;  ///< applied last
    Down down_;
    Numbers numbers_;
    Tables have_;           ///< what the kernel holds; of addresses, all that it may hold
    bool is_sure_ = false;  ///< of have_: the last writing came to its end
    std::map<uint16_t, config::Access> lists_;  ///< in the kernel, by number; 0 is for all services
    PortSet own_;                               ///< the ports that proxify itself put into the map
    std::unique_ptr<std::mutex> own_lock_ = std::make_unique<std::mutex>();
    std::vector<std::string> warnings_;
};

}  // namespace proxify::steering
