// SPDX-License-Identifier: Apache-2.0
// Namespace: an anonymous network namespace to try real sockets and real BPF in.
//
// It has no name anywhere, only descriptors: when this object and the processes inside it are gone,
// the kernel takes it away with every link, address and socket in it. Nothing has to be cleaned up
// after a test that crashed, and any number of tests may run side by side.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include "base/fd.h"

namespace proxify::test {

/// Thrown when the machine does not allow a test at all; what() names exactly what is missing.
struct Missing : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Namespace {
  public:
    /// A new namespace with 127.0.0.1 and ::1 up. Throws Missing where namespaces are not allowed.
    static Namespace create();

    /// Runs `work` in a fresh thread inside the namespace, waits for it, rethrows what it throws.
    /// Sockets made by `work` stay inside for ever, whoever uses them; so do processes it starts.
    void run(const std::function<void()>& work) const;

    /// Moves the calling process inside. For use between fork and exec: allocates nothing, throws
    /// nothing, and is false (with errno set) when it did not work.
    bool enter_in_child() const noexcept;

    /// Keeps first..last out of the source ports that connect() picks. A steered port has no socket
    /// bound to it, so without this a client on this host can be given the very port that it dials,
    /// and then connects to itself.
    void reserve_ports(uint16_t first, uint16_t last) const;

    /// One more address on loopback: "10.1.2.3/32", "2001:db8::7/128".
    void add_address(const std::string& cidr) const;

    int fd() const { return fd_.get(); }
    /// The number by which /proc/PID/ns/net and bpf_link_info call this namespace.
    uint64_t inode() const;

  private:
    explicit Namespace(Fd fd) : fd_(std::move(fd)) {}
    Fd fd_;
};

}  // namespace proxify::test
