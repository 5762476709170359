// SPDX-License-Identifier: Apache-2.0
// Ending: who ended a session, where it was then, and why. Every session has exactly one.
//
// It renders as words for people and as two letters for columns, which follow HAProxy's
// session state (doc/configuration.txt 8.5) as far as our words allow: `TC refused` is a target
// that would not have us, `cD idle` a client that went quiet, `-- done` the normal end.
#pragma once

#include <cstdint>
#include <string>

namespace proxify {

enum class Party : char {
    client = 'C',
    target = 'T',
    silent_client = 'c',  ///< a limit in time passed while waiting for the client
    silent_target = 't',
    policy = 'P',    ///< our own rules
    resource = 'R',  ///< something ran out here
    operator_ = 'O',
    none = '-',
};

enum class Stage : char {
    accept = 'A',
    route = 'N',   ///< naming the service
    choose = 'Q',  ///< choosing a target
    connect = 'C',
    greet = 'H',   ///< before the client's own bytes: PROXY header, TLS handshake, tunnel
    filter = 'F',  ///< an element of the service's chain
    data = 'D',
    last = 'L',  ///< the last bytes: one side has finished sending
    done = '-',
};

struct Ending {
    Party party = Party::none;
    Stage stage = Stage::done;
    const char* reason = "done";  ///< a constant of the program, never freed
    int error = 0;                ///< the errno, if one is to blame

    bool is_normal() const { return party == Party::none; }
    std::string letters() const { return {static_cast<char>(party), static_cast<char>(stage)}; }
};

}  // namespace proxify
