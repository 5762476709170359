// SPDX-License-Identifier: Apache-2.0
// Podman: real containers, and a daemon that speaks the Docker API, in a test's own namespace.
//
// Bridges, addresses and firewall rules of the containers belong to the namespace; images, state
// and the socket to a temporary directory; the containers' processes to a cgroup of their own. All
// of it is in the hands of a shell that outlives the test by a moment, whichever way that ends, and
// takes everything away: see podman.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace proxify::test {

/// What keeps this machine from running containers; nullopt when nothing does.
std::optional<std::string> missing_for_containers();

class Podman {
  public:
    explicit Podman(const Namespace& where);
    ~Podman();
    Podman(Podman&&) = delete;

    /// DOCKER_HOST for whoever wants to ask.
    std::string host() const { return "unix://" + socket_; }
    const std::string& socket() const { return socket_; }
    /// Under which all containers run, and nobody else: "/sys/fs/cgroup/unified/proxify-test-x".
    const std::string& cgroup() const { return cgroup_; }

    /// `podman ARGUMENTS`, and what it says; throws when it fails.
    std::string operator()(std::vector<std::string> arguments) const;
    void add_network(const std::string& name, const std::vector<std::string>& subnets) const;
    /// Runs a line of a shell in a new container, where busybox is all there is.
    void start(const std::string& name, const std::string& network, const std::string& line) const;
    /// A line of a shell that tells whoever connects to `port` some words and nothing else. The
    /// words are those of `echo`, said anew to everybody.
    static std::string saying(const std::string& words, int port);
    /// A shell's line inside; what it prints.
    Finished inside(const std::string& name, const std::string& line) const;

    /// As when the daemon is updated: containers run on, nobody answers at the socket.
    void stop_daemon() const;
    void start_daemon() const;

  private:
    void order(const std::string& line) const;

    TempDir directory_;
    std::string socket_, cgroup_;
    Fd orders_;  ///< the shell's standard input; its end is the order to clean up
    pid_t shell_ = -1;
};

}  // namespace proxify::test

/// Behind IN_NAMESPACE(name).
#define NEEDS_CONTAINERS() \
    if (auto missing = ::proxify::test::missing_for_containers()) SKIP_TEST(*missing)
