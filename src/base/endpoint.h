// SPDX-License-Identifier: Apache-2.0
// Endpoint: one of the places that a name leads to. What asks DNS makes them, what holds targets
// makes a target of each.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>

#include "base/address.h"

namespace proxify {

struct Endpoint {
    Ip ip;
    std::optional<uint16_t> port = {};  ///< only an SRV record says one
    uint32_t weight = 1;                ///< 1 to 256
    uint32_t priority = 0;              ///< 0 is the first choice, 1 the next, without gaps
    auto operator<=>(const Endpoint&) const = default;
};

}  // namespace proxify
