// SPDX-License-Identifier: Apache-2.0
// Scenario: a whole life of a worker on a make-believe network, from the first listener to the end
// of the drain, with everything that is checked about it afterwards.
//
// A Plan is all that happens by decision: who comes when, what targets are like, what is reloaded.
// It is drawn from a seed, or made by hand. What happens by chance, the World draws from the same
// seed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "config/config.h"
#include "io/sim/world.h"
#include "telemetry/log.h"
#include "worker/worker.h"

namespace proxify::test {

struct Plan {
    struct Client {
        Duration when;
        uint16_t port;
        io::sim::Script script;
    };
    struct Reload {
        Duration when;
        config::Config config;
    };
    struct NewAnswer {
        Duration when;
        Ip target;
        io::sim::Door::Answer answer;
    };
    struct NewState {  ///< as a health check would set it, in runs without checks
        Duration when;
        size_t target;  ///< counted through all services, modulo how many there are
        bool up;
    };

    struct Look {  ///< at what has been counted so far
        Duration when;
        std::function<void(const routing::Snapshot&)> at;
    };

    uint64_t seed = 0;
    io::sim::Faults faults;
    io::Ring::Options ring{.entries = 64, .completions = 1024, .buffers = 16, .buffer_size = 1024};
    bool steered = false;  ///< one listener for all ports, or one for each
    worker::Shares shares{.sessions_max = 1000, .pipes_max = 0};
    config::Config config;
    std::map<std::string, std::vector<Endpoint>> names;
    std::map<Ip, io::sim::Door> targets;
    std::vector<Client> clients;
    std::set<uint16_t> added_by_hand;
    std::vector<Reload> reloads;
    std::vector<NewAnswer> answers;
    std::vector<NewState> states;
    std::vector<Look> looks;
    std::vector<Duration> handovers;  ///< each listener is released, and listened on again
    Duration drain_at = 10s;

    static Plan drawn(uint64_t seed);
};

struct Outcome {
    std::vector<std::string> problems;
    std::vector<telemetry::SessionRecord> records;
    std::map<std::string, size_t> endings;              ///< by their two letters
    std::shared_ptr<const routing::Snapshot> snapshot;  ///< the last one, with what it counted
    uint64_t bytes = 0;                                 ///< that proxify sent
    uint64_t bytes_parked_max = 0;
    size_t joined_max = 0;  ///< connections to targets at the same time
    uint64_t turns = 0;
    uint64_t digest = 0;

    size_t count(const std::string& letters) const {
        auto found = endings.find(letters);
        return found == endings.end() ? 0 : found->second;
    }
};

/// Runs it to its end. A run that hangs ends the process, with a line that says how to replay it.
Outcome run(const Plan& plan, bool tracing = false);

}  // namespace proxify::test
