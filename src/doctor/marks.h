// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace proxify::doctor {

/// What IPv4 routing in this network namespace does with firewall marks.
struct Marks {
    bool choose_routes = false;  ///< some `ip rule` asks for one
    bool lead_home = false;  ///< and leads to a table in which everything is local, as for TPROXY
};

Marks marks_here();

}  // namespace proxify::doctor
