// SPDX-License-Identifier: Apache-2.0
#include "access/list.h"

#include <vector>

namespace proxify::access {

List::List(std::span<const Prefix> allow, std::span<const Prefix> deny) {
    std::vector<PrefixMap<bool>::Entry> entries;
    entries.reserve(allow.size() + deny.size());
    for (const auto& prefix : allow) entries.emplace_back(prefix, true);
    for (const auto& prefix : deny) entries.emplace_back(prefix, false);
    admitted_ = PrefixMap<bool>(std::move(entries), /*others=*/allow.empty());
}

}  // namespace proxify::access
