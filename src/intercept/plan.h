// SPDX-License-Identifier: Apache-2.0
// What a capture means for the kernel, given what is known of its containers. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/address.h"
#include "config/config.h"
#include "kernel/connect_program.h"

namespace proxify::intercept {

/// What proxify's own sockets are marked with.
struct OwnMark {
    uint32_t value = 0;
    uint32_t mask = 0xffffffff;
};

/// Addresses of containers, by the name that the capture gives them. One that is not there, or does
/// not run, has none.
using Addresses = std::map<std::string, std::vector<Ip>>;

kernel::ConnectHooks hooks_of(const config::Capture& capture);
kernel::ConnectSettings settings_of(const config::Capture& capture, OwnMark mark);

/// Sorted, each once. The container with the index i is counted under i + 1, all else under 0.
std::vector<kernel::ConnectDestination> destinations_of(const config::Capture& capture,
                                                        const Addresses& addresses);

/// All containers that the capture names, each once.
std::vector<std::string> containers_of(const config::Capture& capture);

/// How to come from `have` to `want`: what is added first, then what is removed. A destination
/// whose number changes is added only.
struct DestinationChanges {
    std::vector<kernel::ConnectDestination> add, remove;
};
DestinationChanges changes(const std::vector<kernel::ConnectDestination>& have,
                           const std::vector<kernel::ConnectDestination>& want);

}  // namespace proxify::intercept
