// SPDX-License-Identifier: Apache-2.0
// Soak: the real `proxify -b` under everything at once, for as long as one likes. Clients of all
// manners come and go, either side leaves at any moment, targets die and come back, targets.toml is
// edited, well and badly. Both ends of every connection live in one thread and compute what they
// send and what they expect, so every byte is compared and none is stored; and every line of the
// log is compared with what really happened.
//
// The seed decides what is to happen and in which order. The kernel's timing is not seeded, so a
// rare failure may take a few runs to return.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "support/eventually.h"

namespace proxify::test::soak {

struct Options {
    std::string binary;
    Millis duration = 10min;
    uint64_t seed = 0;
    std::FILE* out = stdout;  ///< for the story; null for none
};

/// What went wrong, in words; nothing when all is well. Throws where a soak cannot run at all.
std::vector<std::string> run(const Options& options);

}  // namespace proxify::test::soak
