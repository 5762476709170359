// SPDX-License-Identifier: Apache-2.0
#include "intercept/plan.h"

#include <algorithm>
#include <ranges>

namespace proxify::intercept {

using kernel::ConnectDestination;

kernel::ConnectHooks hooks_of(const config::Capture& capture) {
    return {.redirects = !capture.only_watch, .has_foreign_proxy = capture.proxy.has_value()};
}

kernel::ConnectSettings settings_of(const config::Capture& capture, OwnMark mark) {
    kernel::ConnectSettings settings{.redirects = !capture.only_watch,
                                     .from_sources = !capture.from_containers.empty(),
                                     .has_foreign_proxy = capture.proxy.has_value(),
                                     .wants_events = capture.events,
                                     .mark = mark.value,
                                     .mark_mask = mark.mask};
    if (capture.proxy) {
        (capture.proxy->ip.is_v4 ? settings.proxy_v4 : settings.proxy_v6) = capture.proxy;
    } else if (!capture.listen.empty()) {
        const uint16_t port = capture.listen.front();
        const auto& at = capture.address;
        if (!at || at->is_v4) settings.proxy_v4 = {at.value_or(*Ip::parse("127.0.0.1")), port};
        if (!at || !at->is_v4) settings.proxy_v6 = {at.value_or(*Ip::parse("::1")), port};
    }
    // Nothing named is everything, of the family that the proxy is for. Whoever wants IPv6 as well
    // says so by a destination: most hosts have more of it than their people know.
    if (capture.destinations.empty() && capture.containers.empty()) {
        settings.all_v4 = capture.only_watch || !capture.proxy || capture.proxy->ip.is_v4;
        settings.all_v6 = capture.only_watch || (capture.proxy && !capture.proxy->ip.is_v4);
    }
    return settings;
}

static auto key_of(const ConnectDestination& one) {
    return std::pair(one.prefix, one.port);
}

uint32_t Numbers::of(const std::string& name) {
    if (auto known = numbers_.find(name); known != numbers_.end()) return known->second;
    constexpr uint32_t last_number = kernel::connect_numbers - 1;
    if (names_.size() < last_number)
        names_.push_back(names_.size() + 1 < last_number ? name : "other containers");
    return numbers_[name] = last();
}

std::string Numbers::name(uint32_t number) const {
    return number == 0 || number > names_.size() ? std::string() : names_[number - 1];
}

std::vector<ConnectDestination> destinations_of(const config::Capture& capture,
                                                const Addresses& addresses, Numbers& numbers) {
    // The first one who names a destination counts it.
    std::map<std::pair<Prefix, uint16_t>, uint32_t> found;
    for (const auto& [name, port] : capture.containers) {
        const uint32_t number = numbers.of(name);
        const auto known = addresses.find(name);
        if (known == addresses.end()) continue;
        for (const Ip& ip : known->second)
            found.emplace(std::pair(Prefix{ip, ip.is_v4 ? uint8_t{32} : uint8_t{128}}, port),
                          number);
    }
    for (const auto& [prefix, port] : capture.destinations)
        found.emplace(std::pair(prefix.network(), port), 0);
    std::vector<ConnectDestination> destinations;
    for (const auto& [place, number] : found)
        destinations.push_back({.prefix = place.first, .port = place.second, .number = number});
    return destinations;
}

std::vector<std::string> containers_of(const config::Capture& capture) {
    std::vector<std::string> names;
    for (const auto* list : {&capture.containers, &capture.from_containers})
        for (const auto& one : *list)
            if (std::ranges::find(names, one.name) == names.end()) names.push_back(one.name);
    return names;
}

DestinationChanges changes(const std::vector<ConnectDestination>& have,
                           const std::vector<ConnectDestination>& want) {
    DestinationChanges changes;
    std::ranges::set_difference(want, have, std::back_inserter(changes.add));
    std::ranges::set_difference(have, want, std::back_inserter(changes.remove), {}, key_of, key_of);
    return changes;
}

}  // namespace proxify::intercept
