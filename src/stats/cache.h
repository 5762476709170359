// SPDX-License-Identifier: Apache-2.0
// Cache: what is counted for a service's cache, by all workers at once. It lives as long as the
// service has one, through reloads.
#pragma once

#include "stats/counter.h"

namespace proxify::stats {

struct Cache {
    // Sessions, each in one of them at most: one that ended before it was known what it would be is
    // in none.
    Counter hits;    ///< answered from memory at once
    Counter misses;  ///< that asked a target, for themselves and for whoever asks the same
    Counter shared;  ///< answered with what another one was told meanwhile
    Counter passed;  ///< ordinary sessions

    Counter hit_bytes;  ///< sent to clients without a target: hits and shared
    Counter evictions;  ///< for want of room

    // Answers of targets that were not kept.
    Counter cut_off;
    Counter too_long;
    Counter no_room;
    Counter empty;
    Counter asked_more;  ///< the client had sent more than the request
    Counter closed;      ///< an element or a rule ended the session
};

}  // namespace proxify::stats
