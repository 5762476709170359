// SPDX-License-Identifier: Apache-2.0
// Element: what is counted for each element of a service's chain, by all workers at once. It lives
// as long as the service has an element of that name, through reloads.
#pragma once

#include <array>

#include "base/direction.h"
#include "stats/counter.h"

namespace proxify::stats {

struct Element {
    struct Way {
        Counter chunks, bytes;  ///< that passed an element of type `count`; of others, 0
        Counter dropped;        ///< chunks, as are the next ones
        Counter changed;
        Counter closed;
        Counter failed;
    };
    std::array<Way, 2> ways;

    Way& of(Direction direction) { return ways[static_cast<size_t>(direction)]; }
    const Way& of(Direction direction) const { return ways[static_cast<size_t>(direction)]; }
};

}  // namespace proxify::stats
