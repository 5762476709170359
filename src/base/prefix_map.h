// SPDX-License-Identifier: Apache-2.0
// PrefixMap: a value for each address, by the longest prefix that holds it. Built once; a look is a
// binary search, however many prefixes there are and however they lie within each other.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/address.h"

namespace proxify {

template <class T>
class PrefixMap {
  public:
    using Entry = std::pair<Prefix, T>;

    PrefixMap() : PrefixMap({}, {}) {}
    /// Each prefix is a network (no bits beyond its length) and is there once; `others` is for
    /// addresses that none of them holds.
    PrefixMap(std::vector<Entry> entries, T others) {
        auto v6 = std::ranges::partition(entries,
                                         [](const Entry& entry) { return entry.first.ip.is_v4; });
        v6_ = flatten({v6.begin(), v6.end()}, Ip{.bytes = {}, .is_v4 = false}, others);
        v4_ = flatten({entries.begin(), v6.begin()}, Ip{.bytes = {}, .is_v4 = true}, others);
    }

    const T& at(const Ip& ip) const {
        const auto& stretches = ip.is_v4 ? v4_ : v6_;
        return std::prev(std::ranges::upper_bound(stretches, ip, {}, &Stretch::first))->second;
    }

  private:
    /// From this address on, up to the next one. Rising; the first begins at address 0.
    using Stretch = std::pair<Ip, T>;

    /// The address after this one; nothing after the last of its family.
    static std::optional<Ip> next(Ip ip) {
        for (size_t i = ip.is_v4 ? 4 : 16; i-- > 0;)
            if (++ip.bytes[i] != 0) return ip;
        return std::nullopt;
    }

    /// One sweep over prefixes that lie side by side or within each other, outer ones first.
    static std::vector<Stretch> flatten(std::vector<Entry> entries, Ip zero, const T& others) {
        std::ranges::sort(entries, {}, &Entry::first);
        std::vector<Stretch> out{{zero, others}};
        auto from = [&](const Ip& first, const T& value) {
            if (out.back().first == first)
                out.back().second = value;
            else if (out.back().second != value)
                out.emplace_back(first, value);
        };
        std::vector<const Entry*> around;  // those we are inside of, outermost first
        auto leave = [&] {
            auto after = next(around.back()->first.last());
            around.pop_back();
            if (after) from(*after, around.empty() ? others : around.back()->second);
        };
        for (const Entry& entry : entries) {
            while (!around.empty() && !around.back()->first.contains(entry.first.ip)) leave();
            from(entry.first.ip, entry.second);
            around.push_back(&entry);
        }
        while (!around.empty()) leave();
        return out;
    }

    std::vector<Stretch> v4_, v6_;
};

}  // namespace proxify
