// SPDX-License-Identifier: Apache-2.0
#include "steering/tables.h"

#include <algorithm>

namespace proxify::steering {

using kernel::ServiceEntry;
using kernel::Verdict;

static Verdict while_down(config::WhenDown word) {
    switch (word) {
        case config::WhenDown::refuse:
            return Verdict::refuse;
        case config::WhenDown::drop:
            return Verdict::drop;
        case config::WhenDown::pass:
            return Verdict::pass;
        case config::WhenDown::accept:
            break;
    }
    return Verdict::accept;
}

ServiceEntry entry_of(const config::Service& service, uint16_t number, const Down& down) {
    bool is_down = down.contains(service.name);
    bool drops = service.on_deny == config::OnDeny::drop;
    return {.number = number,
            .present = is_down ? while_down(service.when_down) : Verdict::accept,
            .on_deny = drops ? Verdict::drop : Verdict::refuse,
            // Whom a PROXY header names is known to those who read it.
            .rate = service.accept_proxy.empty() ? static_cast<uint32_t>(service.limits.source_rate)
                                                 : 0};
}

Tables make_tables(const config::Config& config, const Numbers& numbers, const Down& down) {
    Tables tables{.ports = ports_of(config),
                  .of_port = std::vector<kernel::PortEntry>(65536),
                  .of_service = {ServiceEntry{}},
                  .addresses = {}};
    for (const auto& service : config.services) {
        const uint16_t number = numbers.of(service.name);
        if (tables.of_service.size() <= number) tables.of_service.resize(number + 1u);
        tables.of_service[number] = entry_of(service, number, down);
        for (auto [first, last] : service.ports)
            for (uint32_t port = first; port <= last; ++port) {
                auto& entry = tables.of_port[port];
                entry.counted |= service.count_ports;
                if (service.addresses.empty()) entry.service = number;
                entry.by_address |= !service.addresses.empty();
                for (const auto& prefix : service.addresses)
                    tables.addresses.push_back({static_cast<uint16_t>(port), prefix, number});
            }
    }
    // Ports that were added by hand go to the default service.
    if (config.default_service) {
        const auto& service = config.services[*config.default_service];
        tables.of_service[0] = entry_of(service, numbers.of(service.name), down);
    }
    std::ranges::sort(tables.addresses);
    return tables;
}

PortSet ports_of(const config::Config& config) {
    PortSet ports;
    for (const auto& service : config.services)
        for (auto [first, last] : service.ports)
            for (size_t port = first; port <= last; ++port) ports.set(port);
    return ports;
}

}  // namespace proxify::steering
