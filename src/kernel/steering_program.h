// SPDX-License-Identifier: Apache-2.0
// SteeringProgram: bpf/steer.bpf.c and its maps, in the kernel for as long as this object lives.
//
// Nothing is pinned: the kernel frees all of it when the last descriptor is closed, so a proxify
// that was killed leaves nothing behind. Every call is a plain system call on a descriptor; those
// that change maps may come from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"

struct bpf_link;
struct steer;  // the generated skeleton

namespace proxify::kernel {

/// The name that bpftool shows for the program.
inline constexpr std::string_view steering_program_name = "proxify_steer";

/// How often the program answered in this way since it was loaded, on all CPUs together.
struct Counter {
    std::string_view name;     ///< "passed_own_dial": one word, for metrics
    std::string_view meaning;  ///< half a sentence, for people
    uint64_t value = 0;
};

/// What may become of a client; see enum steer_verdict.
enum class Verdict : uint8_t { accept, refuse, drop, pass };

/// Where a SYN gets to.
enum class Landing : uint8_t {
    listener,  ///< to ours
    sink,      ///< nowhere, and nobody answers
    nowhere,   ///< it is answered with a reset
    host,      ///< to whoever listens there on this host; a reset if nobody does
};

/// What the program would do with a SYN.
struct Explained {
    /// Of the counter that would count it; "not_ours" when the port is not in proxy_ports.
    std::string_view outcome;
    std::string_view meaning;
    uint16_t service = 0;  ///< the number under which it would be counted
    Landing landing = Landing::host;
};

/// What the program knows of a port that is in proxy_ports. Services go by number, from 1; 0 is for
/// ports that were added by hand.
struct PortEntry {
    uint16_t service = 0;     ///< whose it is, where no address says otherwise; 0 for nobody's
    bool by_address = false;  ///< the dialled address names the service first
    bool counted = false;     ///< port_counts() is wanted
    bool operator==(const PortEntry&) const = default;
};

struct ServiceEntry {
    uint16_t number = 0;  ///< under which its list and its counters are found; 0 when it has none
    Verdict present = Verdict::accept;
    Verdict on_deny = Verdict::refuse;
    uint32_t rate = 0;  ///< connections that a source may open in a second; 0 for any number
    bool operator==(const ServiceEntry&) const = default;
};

/// Addresses at which a port belongs to a service. The longest prefix wins.
struct AddressEntry {
    uint16_t port = 0;
    Prefix prefix;
    uint16_t service = 0;
    auto operator<=>(const AddressEntry&) const = default;
};

/// The access list of a service, or of all: number 0.
struct AccessList {
    uint16_t service = 0;
    std::vector<std::pair<Prefix, bool>> prefixes = {};  ///< and whether its clients are denied
    bool denies_others = false;
};

class SteeringProgram {
  public:
    /// Loads program and maps. They steer nothing until attach().
    static Result<SteeringProgram> load();

    /// The socket that gets the connections: listening, and AF_INET6 with IPV6_V6ONLY off if it
    /// is to have those of both families.
    Result<> set_listener(int listener_fd);

    /// Makes Verdict::drop mean silence, by a socket of the calling thread's network namespace that
    /// swallows what it gets; without it such clients are refused. It stands beside the listener's
    /// port, at an address where nobody can dial it.
    Result<> open_sink(uint16_t port);
    /// The socket for dropped clients, or -1 while there is none.
    int sink() const { return sink_.get(); }

    /// Starts to steer in the calling thread's network namespace.
    Result<> attach();
    /// Stops: no lookup that begins after this meets the program. The maps stay.
    void detach();

    /// What proxy_ports holds now, sorted, whoever put it there.
    Result<std::vector<uint16_t>> ports() const;
    Result<> add_ports(std::span<const uint16_t> ports);
    /// A port that is already gone is no error.
    Result<> remove_ports(std::span<const uint16_t> ports);
    bool has_port(uint16_t port) const;

    // What the program knows of ports and services. A span's first element is for number `first`.

    Result<> set_ports(uint16_t first, std::span<const PortEntry> entries);
    Result<> set_services(uint16_t first, std::span<const ServiceEntry> entries);
    /// An entry that is there already gets the new service.
    Result<> add_addresses(std::span<const AddressEntry> entries);
    /// One that is not there is no error.
    Result<> remove_addresses(std::span<const AddressEntry> entries);
    /// Each list takes the place of the one before in one step; an empty one denies nobody.
    Result<> set_lists(std::span<const AccessList> lists);

    /// Between guard and unguard, connections that come from `source` are passed on, not steered.
    /// False when the kernel did not take it: then the dial may come back to proxify itself.
    bool guard_dial(const Address& source);
    void unguard_dial(const Address& source);

    /// The numbers by which bpftool knows it; link is 0 while nothing is attached.
    struct Ids {
        uint32_t link = 0;
        uint32_t program = 0;
        uint32_t proxy_ports = 0;
        uint32_t proxy_sock = 0;
    };
    Result<Ids> ids() const;

    /// Makes counters for a service, or takes them away. Those for which there is no room are
    /// counted with number 0.
    Result<> count_service(uint16_t service, bool is_counted);
    /// Of all services together, and of one.
    Result<std::vector<Counter>> counters() const;
    Result<std::vector<Counter>> counters(uint16_t service) const;
    /// Connections steered, of ports that are `counted`; one element for each port number.
    Result<std::vector<uint64_t>> port_counts() const;

    /// Runs the program's twin, which goes the same way through the same maps and leaves all of
    /// them as they are: no counter counts, no rate is used up. By one thread at a time. It cannot
    /// say what other sk_lookup programs do with the SYN first.
    Result<Explained> explain(const Address& client, const Address& destination) const;

    /// For BPF_PROG_RUN in tests.
    int program_fd() const;

  private:
    struct DestroyObject {
        void operator()(steer* object) const;
    };
    struct DestroyLink {
        void operator()(bpf_link* link) const;
    };
    explicit SteeringProgram(steer* object) : object_(object) {}

    std::unique_ptr<steer, DestroyObject> object_;
    std::vector<uint64_t> counted_before_;  ///< of services that are counted no more, by counter
    Fd sink_;
    std::unique_ptr<bpf_link, DestroyLink> link_;  // declared last, so it goes first
};

}  // namespace proxify::kernel
