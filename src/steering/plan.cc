// SPDX-License-Identifier: Apache-2.0
#include "steering/plan.h"

namespace proxify::steering {

Plan make_plan(const PortSet& have, const PortSet& own, const PortSet& want) {
    // A port of ours that is gone from the map was deleted by hand, so it is ours no longer, unless
    // the config wants it and it is added again.
    const PortSet ours = own & have;
    const PortSet add = want & ~have;
    return {.remove = to_list(ours & ~want), .add = to_list(add), .own_after = (ours & want) | add};
}

PortSet to_set(std::span<const uint16_t> ports) {
    PortSet set;
    for (uint16_t port : ports) set.set(port);
    return set;
}

std::vector<uint16_t> to_list(const PortSet& ports) {
    std::vector<uint16_t> list;
    list.reserve(ports.count());
    for (size_t port = 0; port < ports.size(); ++port)
        if (ports.test(port)) list.push_back(static_cast<uint16_t>(port));
    return list;
}

}  // namespace proxify::steering
