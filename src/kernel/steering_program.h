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
#include <vector>

#include "base/address.h"
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

class SteeringProgram {
  public:
    /// Loads program and maps. They steer nothing until attach().
    static Result<SteeringProgram> load();

    /// The socket that gets the connections: listening, and AF_INET6 with IPV6_V6ONLY off if it
    /// is to have those of both families.
    Result<> set_listener(int listener_fd);

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

    Result<std::vector<Counter>> counters() const;

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
    std::unique_ptr<bpf_link, DestroyLink> link_;  // declared last, so it goes first
};

}  // namespace proxify::kernel
