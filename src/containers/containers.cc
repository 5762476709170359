// SPDX-License-Identifier: Apache-2.0
#include "containers/containers.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/format.h"
#include "containers/daemon.h"
#include "containers/docker.h"

namespace proxify::containers {

static constexpr const char* usual_sockets[] = {"/var/run/docker.sock", "/run/podman/podman.sock"};

Result<> check_runtime(const std::string& runtime) {
    if (runtime == "docker" || runtime == "podman") return {};
    if (runtime == "containerd" || runtime == "cri-o" || runtime == "crio")
        return fail(Error::of(format("finding containers of {} is not supported yet", runtime),
                              "docker and podman are; addresses can be named with cidr, and "
                              "processes with cgroup, whatever runs them"));
    return fail(Error::of(format("\"{}\" is no container runtime that proxify knows", runtime),
                          "use docker or podman"));
}

Result<std::string> socket_of(const std::string& host) {
    std::string where = host;
    if (const char* set = std::getenv("DOCKER_HOST"); where.empty() && set) where = set;
    if (!where.empty()) {
        const auto path = where.starts_with("unix://") ? where.substr(7) : where;
        if (path.starts_with('/')) return path;
        if (where.find("://") == where.npos || where.starts_with("unix://"))
            return fail(
                Error::of(format("\"{}\" names no socket of Docker", where), "use unix:///PATH"));
        return fail(Error::of(format("asking the Docker API at {} is not supported", where),
                              "only a socket of this host is, since addresses and processes of its "
                              "own containers are what can be used here: unix:///PATH"));
    }
    // One behind a closed directory may be there: whoever asks will hear that this is why.
    for (const char* path : usual_sockets)
        if (access(path, F_OK) == 0 || errno == EACCES) return path;
    return fail(Error::of(format("there is no Docker here: neither {} nor {} exists",
                                 usual_sockets[0], usual_sockets[1]),
                          "start Docker, or `podman system service --time 0`, or name the socket "
                          "with DOCKER_HOST=unix:///PATH"));
}

Result<Container> find(const std::string& name, const std::string& host, Duration patience) {
    TRY_TO(request, ask_for(name));
    TRY_TO(socket_path, socket_of(host));
    TRY_TO(answer, ask(socket_path, request, patience));
    TRY_TO(found, read_container(name, answer));
    if (!found) return fail(no_such_container(name));
    return *std::move(found);
}

Error without_addresses(const Container& container) {
    return Error::of(format("container \"{}\" has no address of its own", container.name),
                     "it is in the network of the host or of another container: name that one, or "
                     "its address and port with cidr");
}

}  // namespace proxify::containers
