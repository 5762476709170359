// SPDX-License-Identifier: Apache-2.0
// Plan: all that is decided about one connection, drawn from the seed of the run and the
// connection's number and from nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "soak/random.h"
#include "support/eventually.h"

namespace proxify::test::soak {

/// Ports that fare alike; see reloads.cc for the services they lead to.
enum class Family {
    steady,    ///< always open
    shifting,  ///< opened, closed and handed from service to service by reloads
    wide,      ///< a range whose end reloads move
    greeted,   ///< the target speaks first
    fragile,   ///< has one target, which dies now and then
    mirrored,  ///< the target's port follows the dialled one
    by_hand,   ///< in no file: bpftool opens and closes them
};

struct PortBlock {
    uint16_t first, count;
    bool has(uint16_t port) const { return port >= first && port < first + count; }
};
PortBlock ports_of(Family family);

/// How an end leaves before it is done: by a reset, or by a close that does not read to the end.
struct Cut {
    enum class How { never, reset, close } how = How::never;
    uint64_t after_bytes = UINT64_MAX;  ///< sent and received, whatever comes first
    Millis after = 1h;
};

/// How one end of a connection behaves.
struct Manner {
    size_t chunk_max = 16 << 10;
    unsigned pause_percent = 1;  ///< so many chunks are followed by a pause
    Millis pause_max = 4ms;
    uint64_t stalls_after =
        UINT64_MAX;  ///< received bytes, after which nothing is read for a while
    Millis stall = 0ms;
    bool never_reads = false;
    bool speaks_last = false;  ///< says what it has to say when the other has finished
    std::optional<int> receive_buffer = {};
    Cut cut = {};

    bool is_slow() const { return never_reads || stall > 0ms; }
};

struct Plan {
    uint64_t number = 0;
    Millis delay{};  ///< since the one before
    Family family = Family::steady;
    std::string address;  ///< what the client dials
    uint16_t port = 0;
    bool silent = false;        ///< not even its number is said
    uint64_t up = 0, down = 0;  ///< bytes to send, besides number and greeting
    Manner client, target;

    static Plan drawn(uint64_t seed, uint64_t number);
};

}  // namespace proxify::test::soak
