// SPDX-License-Identifier: Apache-2.0
// Containers, as the Docker Engine API knows them: Docker's own daemon, or podman's service, at a
// socket of the file system.
//
// Source: docs.docker.com/reference/api/engine, "Inspect a container" and "Monitor events".
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/result.h"

namespace proxify::containers {

struct Container {
    std::string id;        ///< 64 hexadecimal digits
    std::string name;      ///< "web", without Docker's leading slash
    bool running = false;  ///< has a process; so a paused one does, one between restarts not
    int pid = 0;           ///< of its first process, as the daemon's PID namespace counts; 0: none
    std::vector<Ip> addresses = {};  ///< in all its networks, IPv4 first, each once, sorted

    bool operator==(const Container&) const = default;
};

/// What is new about one of the containers that somebody follows.
///
///     container   error    what it means
///     running     -        that is how it is
///     stopped     set      there, but not running: no addresses, no process
///     -           set      there is none, or nothing is known because nobody could be asked yet
///     any         set      nobody can be asked now, and this is what was known last: keep it
///
/// What was known is not kept for ever where there is somebody who could tell, but does not tell
/// this process: then the address may be another container's by now. It is forgotten after some
/// minutes, which is news.
///
/// So whoever acts on addresses takes those of `container`, and writes `error` to the log when set.
struct News {
    std::string name;  ///< as it was asked for
    std::optional<Container> container = {};
    std::optional<Error> error = {};
};

/// Whether containers of this runtime can be found: "docker" and "podman" can; "containerd" and
/// "cri-o" have no Docker API.
Result<> check_runtime(const std::string& runtime);

/// Where to ask: `host`, or else DOCKER_HOST, as "unix:///PATH" or "/PATH"; or else the first that
/// exists of Docker's usual socket and podman's. An Error for other schemes, as tcp:// and ssh://.
Result<std::string> socket_of(const std::string& host);

/// One question. A container that does not run is no Error here, one that does not exist is.
Result<Container> find(const std::string& name, const std::string& host, Duration patience = 10s);

/// For whoever needs addresses of a running container that has none, which happens in the network
/// of the host or of another container.
Error without_addresses(const Container& container);

}  // namespace proxify::containers
