// SPDX-License-Identifier: Apache-2.0
// Explanation: what would become of one SYN, as plain values. It knows nothing of what made it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"

namespace proxify::explain {

struct Question {
    Address client;
    Address destination;
};

/// How it ends for the client, as far as that is known before a target is dialled.
enum class Outcome {
    joined,               ///< accepted, and joined to a target
    queued,               ///< accepted, and in line for a seat
    reset_after_accept,   ///< accepted, then reset
    up_to_its_name,       ///< accepted, and the name in its TLS hello decides
    refused,              ///< proxify's rules have it answered with a reset
    dropped,              ///< not answered
    local_listener,       ///< somebody else on this host answers
    refused_by_the_host,  ///< a reset, for nobody listens there
};
std::string_view to_text(Outcome outcome);

/// One thing that is looked at on the way, in the order of the way.
struct Step {
    /// One word: "host", "steering", "access", "state", "rate", "listener", "service", "header",
    /// "sessions", "choice".
    std::string stage;
    std::string finding;   ///< a sentence, with the values that decided
    bool decides = false;  ///< this is why it ends so; true once
};

/// A target of the service.
struct Candidate {
    std::string target;  ///< "127.0.0.1:9001", "db:* (10.0.0.7)"
    int order = 0;       ///< it is tried first (1), next (2), ...; 0 when it is not tried
    std::vector<std::string>
        states;          ///< "down", "ejected", "full 3/3", "2/10 sessions", "weight 5"
    std::string reason;  ///< why it is tried then, or not at all
};

struct Explanation {
    Question question;
    std::vector<Step> steps;
    /// Those that are tried, in that order, then the others, the most preferred tier first.
    std::vector<Candidate> candidates;
    /// The policy draws lots: the order is one of those that are possible.
    bool is_one_draw = false;
    std::string service;  ///< "" when none is reached
    Outcome outcome = Outcome::refused_by_the_host;
    std::string target;       ///< where it is joined to, "127.0.0.1:9001"; "" unless joined
    std::string client_sees;  ///< a sentence without a full stop
};

}  // namespace proxify::explain
