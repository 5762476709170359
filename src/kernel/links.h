// SPDX-License-Identifier: Apache-2.0
// Who steers in this network namespace: every sk_lookup program that is attached to it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace proxify::kernel {

struct SteeringLink {
    uint32_t link_id = 0;      ///< 0 if unknown: see below
    uint32_t program_id = 0;   ///< always known
    std::string program_name;  ///< empty if unknown
    bool is_proxify = false;   ///< false if unknown
};

/// In the order in which the kernel asks them, which is the order in which they were attached. The
/// kernel shows the program ids to CAP_NET_ADMIN and all the rest to CAP_SYS_ADMIN only.
Result<std::vector<SteeringLink>> steering_links_here();

}  // namespace proxify::kernel
