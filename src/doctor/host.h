// SPDX-License-Identifier: Apache-2.0
// Host: what was read of the machine that proxify is to run on, and how some things fared that were
// tried there. A value: judge() works on one that was made up just as well.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "doctor/marks.h"
#include "kernel/links.h"
#include "kernel/listeners.h"
#include "steering/plan.h"

namespace proxify::doctor {

/// A network interface that is up, loopback left out, as IPv4 sees it: what the kernel makes of
/// conf/all and of conf/NAME together.
struct Interface {
    std::string name;
    int rp_filter = 0;            ///< 0 off, 1 strict, 2 loose
    bool src_valid_mark = false;  ///< the check of source addresses heeds firewall marks
    bool accept_local = false;    ///< and lets in those for which the way back is a local route
};

/// Where something is optional, nullopt says that this kernel, or this user, does not show it.
struct Host {
    std::string kernel;  ///< "6.1.0-18-amd64"
    size_t cores = 1;
    uint64_t network_namespace = 0;          ///< inode, as in net:[4026531840]
    std::optional<bool> is_first_namespace;  ///< the network namespace that pid 1 is in

    // io_uring
    std::optional<Error> ring_refused;  ///< why a ring such as a worker's did not open
    int io_uring_errno = 0;             ///< what the plainest io_uring_setup() says
    std::optional<long> io_uring_disabled;
    bool has_seccomp_filter = false;
    size_t locked_memory_max = 0;  ///< RLIMIT_MEMLOCK, bytes; SIZE_MAX for no limit

    // BPF
    std::vector<std::string> missing_for_steering;  ///< capabilities
    bool program_was_tried = false;                 ///< only where none is missing
    std::optional<Error> program_refused;
    std::optional<std::vector<kernel::SteeringLink>> steering_links;
    std::optional<long> unprivileged_bpf_disabled, bpf_jit_enable;
    bool has_btf = false;
    std::string bpffs, cgroup2;  ///< where they are mounted; empty if nowhere

    // Ports
    std::optional<std::vector<kernel::Listening>> listeners;  ///< names: those of interest only
    std::vector<Ip> addresses;                                ///< local ones
    std::pair<uint16_t, uint16_t> local_ports{32768, 60999};  ///< ip_local_port_range
    steering::PortSet reserved_ports;                         ///< ip_local_reserved_ports
    uint16_t unprivileged_from = 1024;                        ///< ip_unprivileged_port_start
    bool may_bind_low_ports = false;

    // Ways
    std::vector<Interface> interfaces;
    Marks marks;

    // Certificates
    std::chrono::sys_seconds now{};      ///< as this host has it
    std::vector<std::string> open_keys;  ///< files with private keys that others can read

    // Limits
    size_t descriptors_max = 0;  ///< RLIMIT_NOFILE, to which proxify raises itself
    std::optional<long> nr_open, file_max, files_open;
    std::optional<long> somaxconn, syncookies, max_syn_backlog;
    std::optional<long> conntrack_count, conntrack_max;
};

/// Which of them every user can read. A group that may read a key shares it with a service; that
/// everybody may is an oversight.
std::vector<std::string> readable_by_all(const std::vector<std::string>& files);

/// Looks, and tries: a ring is opened, and where the capabilities are there the steering program is
/// loaded. Neither outlives the call, nothing is attached and no packet is sent. Listeners on
/// `ports` are given the names of their processes. `keys` are files that nobody else should read.
Host examine_host(const steering::PortSet& ports, const std::vector<std::string>& keys = {});

}  // namespace proxify::doctor
