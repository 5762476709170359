// SPDX-License-Identifier: Apache-2.0
// Bytes: how much went which way. A Meter counts what one session moves, everywhere at once.
#pragma once

#include "stats/counter.h"

namespace proxify::stats {

struct Bytes {
    Counter to_target;
    Counter to_client;
};

struct Meter {
    // Each may be null; they outlive the session.
    Bytes* service = nullptr;
    Bytes* target = nullptr;
    Bytes* port = nullptr;

    void add(uint64_t to_target, uint64_t to_client) const {
        for (Bytes* place : {service, target, port}) {
            if (place && to_target > 0) place->to_target.add(to_target);
            if (place && to_client > 0) place->to_client.add(to_client);
        }
    }
};

}  // namespace proxify::stats
