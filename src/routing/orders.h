// SPDX-License-Identifier: Apache-2.0
// Orders: what operators have set for targets of a running proxify, beside what the file says. They
// outlive reloads; a restart forgets them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace proxify::routing {

struct Order {
    bool is_drained = false;              ///< no new sessions; those it has go on
    std::optional<uint32_t> weight = {};  ///< instead of the file's
    bool operator==(const Order&) const = default;

    uint32_t apply(uint32_t weight_of_file) const {
        return is_drained ? 0 : weight.value_or(weight_of_file);
    }
};

/// By service, and target as its text.
using Orders = std::map<std::pair<std::string, std::string>, Order>;

inline Order order_for(const Orders& orders, const std::string& service,
                       const std::string& target) {
    auto found = orders.find({service, target});
    return found == orders.end() ? Order{} : found->second;
}

}  // namespace proxify::routing
