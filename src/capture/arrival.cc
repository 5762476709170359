// SPDX-License-Identifier: Apache-2.0
#include "capture/arrival.h"

namespace proxify::capture {

std::string_view name_of(Door door) {
    switch (door) {
        case Door::bound:
            return "listener";
        case Door::steered:
            return "steering";
        case Door::connect:
            return "connect";
        case Door::ingress:
            return "ingress";
        case Door::redirect:
            return "redirect";
        case Door::tproxy:
            return "tproxy";
        case Door::tunnel:
            return "tunnel";
    }
    return "";
}

Arrival arrive(io::Socket socket, Door door, uint16_t listener_port, Origins* origins) {
    const Address client = socket.peer_address();
    const Address local = socket.local_address();
    std::optional<Address> original = local;
    switch (door) {
        case Door::bound:
        case Door::steered:
        case Door::tunnel:
            // sk_lookup chooses a socket, it rewrites nothing; and whoever dials the listener
            // itself has aimed there.
            break;
        case Door::ingress:
        case Door::tproxy:
            // The same, but who dials these listeners themselves has aimed at nothing.
            if (local.port == listener_port) original.reset();
            break;
        case Door::redirect:
            original = socket.redirected_from();
            // Where connections are tracked, one that was not redirected is told its own address.
            if (original == local) original.reset();
            // The rule comes before the kernel's own look at what is from outside and cannot be:
            // what listens at loopback only is not to be had from the wire. Clients of this host
            // are redirected to loopback themselves.
            if (original && original->ip.is_loopback() && !local.ip.is_loopback()) original.reset();
            break;
        case Door::connect:
            original = origins ? origins->take(client, local) : std::nullopt;
            break;
    }
    return {.socket = std::move(socket),
            .client = client,
            .original_dst = original.value_or(local),
            .door = door,
            .knows_original = original.has_value(),
            .may_be_ours = (door == Door::redirect || door == Door::tproxy) && original};
}

}  // namespace proxify::capture
