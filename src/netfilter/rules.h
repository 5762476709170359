// SPDX-License-Identifier: Apache-2.0
// The nftables rules that lead connections to a listener of proxify: what is there, what is to be
// there, and the transaction between the two, as nft(8) reads it. Pure: nft.h runs it.
//
// All of it stands in one table of our own, `inet proxify`, for IPv4 and IPv6 alike, so that nobody
// else's rules are touched and everything goes with the table. Two maps say which port leads where:
// `arriving` for what other hosts dial, to this host or through it but not to its loopback,
// `leaving` for what this host dials. What carries our mark goes its way: those are proxify's own
// connections to the places that clients aimed at, and without that each would come straight back.
//
// The kernel has `redirect` in tables of both families since 5.2.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"

namespace proxify::netfilter {

/// The port that a client dials, and the port of ours that it gets.
using Redirects = std::map<uint16_t, uint16_t>;

/// Of a socket, what SO_MARK says: only the bits of the mask count.
struct Mark {
    uint32_t value = 0x2035;
    uint32_t mask = 0xffffffff;

    std::string text() const;  ///< "0x2035", "0x35/0xff"
    auto operator<=>(const Mark&) const = default;
};

struct Rules {
    Redirects arriving, leaving;
    /// Whose connections are not redirected when they leave.
    Mark mark;

    bool empty() const { return arriving.empty() && leaving.empty(); }
    bool operator==(const Rules&) const = default;
};

/// Reads what `nft list table inet proxify` prints.
Result<Rules> read_rules(std::string_view listing);

/// What is wanted for some ports; others keep what they have.
struct Addition {
    std::set<uint16_t> ports;
    uint16_t to = 0;
    bool arriving = true, leaving = true;
    Mark mark;
    bool operator==(const Addition&) const = default;
};

/// Refuses what would lead in a circle: a port that is itself where others lead.
Result<Rules> with(Rules have, const Addition& addition);
/// Without these ports, or without any when `ports` is empty.
Rules without(Rules have, const std::set<uint16_t>& ports);

/// What nft is to do, all of it or nothing; empty when there is nothing to do. `have` is none where
/// there is no table, and with the last port the table goes. The chains and the mark are written
/// anew each time, so that what somebody broke is whole again. Of the maps only what differs is
/// named: who adds another port meanwhile loses nothing.
std::string transaction(const std::optional<Rules>& have, const Rules& want);

}  // namespace proxify::netfilter
