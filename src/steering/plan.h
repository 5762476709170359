// SPDX-License-Identifier: Apache-2.0
// Plan: what has to change in proxy_ports so that it serves a new config. Pure arithmetic on sets.
//
// The map has two writers, proxify and the people who type `bpftool map update`. So three sets
// come in, and the rules are:
//
//   - a port that the config wants and the map lacks is added, even if somebody deleted it by hand;
//   - a port that the config no longer wants is removed, if proxify was the one who put it there;
//   - a port put there by hand stays, whatever the config said meanwhile.
#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <vector>

namespace proxify::steering {

/// A set of port numbers; 8 KiB, quick to compare and to combine.
using PortSet = std::bitset<65536>;

PortSet to_set(std::span<const uint16_t> ports);
std::vector<uint16_t> to_list(const PortSet& ports);

struct Plan {
    std::vector<uint16_t> remove;  ///< both sorted; no port is in both
    std::vector<uint16_t> add;
    PortSet own_after;  ///< the ports that proxify answers for, once this is done
};

/// `have` is in the map now, `own` is what proxify put there, `want` is what the config says.
Plan make_plan(const PortSet& have, const PortSet& own, const PortSet& want);

}  // namespace proxify::steering
