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
            // Where a name decides, clients are counted once it is known; and whom a PROXY header
            // names is known to those who read it.
            .rate = service.sni.empty() && service.accept_proxy.empty()
                        ? static_cast<uint32_t>(service.limits.source_rate)
                        : 0};
}

std::vector<std::string> numbered_names(const config::Config& config) {
    std::vector<std::string> names;
    if (std::ranges::any_of(config.services, [](const auto& one) { return !one.sni.empty(); }))
        names.emplace_back(by_name);
    for (const auto& service : config.services) names.push_back(service.name);
    return names;
}

Tables make_tables(const config::Config& config, const Numbers& numbers, const Down& down) {
    Tables tables{.ports = ports_of(config),
                  .of_port = std::vector<kernel::PortEntry>(65536),
                  .of_service = {ServiceEntry{}},
                  .addresses = {}};
    const uint16_t shared = numbers.of(by_name);
    if (shared != 0) {
        tables.of_service.resize(shared + 1u);
        tables.of_service[shared] = {.number = shared};
    }
    for (const auto& service : config.services) {
        const uint16_t number = numbers.of(service.name);
        if (tables.of_service.size() <= number) tables.of_service.resize(number + 1u);
        tables.of_service[number] = entry_of(service, number, down);
        for (auto [first, last] : service.ports)
            for (uint32_t port = first; port <= last; ++port) {
                auto& entry = tables.of_port[port];
                entry.counted |= service.count_ports;
                if (service.addresses.empty()) entry.service = entry.service == 0 ? number : shared;
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
    const auto is_same_place = [](const auto& one, const auto& other) {
        return one.port == other.port && one.prefix == other.prefix;
    };
    // Of a place that several share, one entry.
    auto last = tables.addresses.begin();
    for (auto next = last; next != tables.addresses.end(); ++next) {
        if (next != tables.addresses.begin() && is_same_place(*last, *next)) {
            last->service = shared;
            continue;
        }
        if (next != tables.addresses.begin()) ++last;
        *last = *next;
    }
    if (!tables.addresses.empty()) tables.addresses.erase(std::next(last), tables.addresses.end());
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
