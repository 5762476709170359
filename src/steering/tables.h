// SPDX-License-Identifier: Apache-2.0
// Tables: what the steering program has to know for a config. Pure.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "config/config.h"
#include "kernel/steering_program.h"
#include "steering/numbers.h"
#include "steering/plan.h"

namespace proxify::steering {

/// Names of services that have no target that is up.
using Down = std::set<std::string>;

struct Tables {
    PortSet ports;                                 ///< proxy_ports, but for those added by hand
    std::vector<kernel::PortEntry> of_port;        ///< one for each port number
    std::vector<kernel::ServiceEntry> of_service;  ///< by number, from 0
    std::vector<kernel::AddressEntry> addresses;   ///< sorted
};

Tables make_tables(const config::Config& config, const Numbers& numbers, const Down& down);

kernel::ServiceEntry entry_of(const config::Service& service, uint16_t number, const Down& down);

/// The ports of all services.
PortSet ports_of(const config::Config& config);

}  // namespace proxify::steering
