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

/// What stands in Numbers for ports that several services share by name: no service has this name.
/// The kernel does not see a client's name, so it lets in all that the common list does.
inline constexpr const char* by_name = "by name";

struct Tables {
    PortSet ports;                                 ///< proxy_ports, but for those added by hand
    std::vector<kernel::PortEntry> of_port;        ///< one for each port number
    std::vector<kernel::ServiceEntry> of_service;  ///< by number, from 0
    std::vector<kernel::AddressEntry> addresses;   ///< sorted
};

Tables make_tables(const config::Config& config, const Numbers& numbers, const Down& down);

kernel::ServiceEntry entry_of(const config::Service& service, uint16_t number, const Down& down);

/// All that have a number: the services, and by_name where it is needed.
std::vector<std::string> numbered_names(const config::Config& config);

/// The ports of all services.
PortSet ports_of(const config::Config& config);

}  // namespace proxify::steering
