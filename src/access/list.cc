// SPDX-License-Identifier: Apache-2.0
#include "access/list.h"

#include <algorithm>
#include <optional>

namespace proxify::access {

namespace {

struct Rule {
    Prefix prefix;
    bool allows;
};

/// The address after this one; nothing after the last of its family.
std::optional<Ip> next(Ip ip) {
    for (size_t i = ip.is_v4 ? 4 : 16; i-- > 0;)
        if (++ip.bytes[i] != 0) return ip;
    return std::nullopt;
}

/// One sweep over prefixes that lie side by side or within each other, outer ones first.
template <class Stretches>
Stretches flatten(std::vector<Rule> rules, Ip zero, bool admits_others) {
    std::ranges::sort(rules, {}, &Rule::prefix);
    Stretches out{{zero, admits_others}};
    auto from = [&](const Ip& first, bool is_admitted) {
        if (out.back().first == first)
            out.back().is_admitted = is_admitted;
        else if (out.back().is_admitted != is_admitted)
            out.push_back({first, is_admitted});
    };
    std::vector<Rule> around;  // those we are inside of, outermost first
    auto leave = [&] {
        auto after = next(around.back().prefix.last());
        around.pop_back();
        if (after) from(*after, around.empty() ? admits_others : around.back().allows);
    };
    for (const Rule& rule : rules) {
        while (!around.empty() && !around.back().prefix.contains(rule.prefix.ip)) leave();
        from(rule.prefix.ip, rule.allows);
        around.push_back(rule);
    }
    while (!around.empty()) leave();
    return out;
}

}  // namespace

List::List(std::span<const Prefix> allow, std::span<const Prefix> deny) {
    std::vector<Rule> v4, v6;
    for (const auto& prefix : allow) (prefix.ip.is_v4 ? v4 : v6).push_back({prefix, true});
    for (const auto& prefix : deny) (prefix.ip.is_v4 ? v4 : v6).push_back({prefix, false});
    const bool admits_others = allow.empty();
    v4_ = flatten<Stretches>(std::move(v4), Ip{.bytes = {}, .is_v4 = true}, admits_others);
    v6_ = flatten<Stretches>(std::move(v6), Ip{.bytes = {}, .is_v4 = false}, admits_others);
}

bool List::admits(const Ip& client) const {
    const Stretches& stretches = client.is_v4 ? v4_ : v6_;
    auto after = std::ranges::upper_bound(stretches, client, {}, &Stretch::first);
    return std::prev(after)->is_admitted;
}

}  // namespace proxify::access
