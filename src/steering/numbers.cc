// SPDX-License-Identifier: Apache-2.0
#include "steering/numbers.h"

#include <algorithm>

namespace proxify::steering {

std::vector<uint16_t> Numbers::assign(std::span<const std::string> names) {
    std::vector<uint16_t> assigned;
    for (const auto& name : names) {
        if (numbers_.contains(name)) continue;
        if (!free_.empty())
            numbers_[name] = free_.extract(free_.begin()).value();
        else if (next_ <= UINT16_MAX)
            numbers_[name] = static_cast<uint16_t>(next_++);
        else
            continue;
        assigned.push_back(numbers_[name]);
    }
    return assigned;
}

std::vector<uint16_t> Numbers::release_others(std::span<const std::string> names) {
    const std::set<std::string_view> kept(names.begin(), names.end());
    std::vector<uint16_t> released;
    for (const auto& [name, number] : numbers_)
        if (!kept.contains(name)) released.push_back(number);
    std::erase_if(numbers_, [&](const auto& entry) { return !kept.contains(entry.first); });
    free_.insert(released.begin(), released.end());
    return released;
}

uint16_t Numbers::of(const std::string& name) const {
    auto found = numbers_.find(name);
    return found == numbers_.end() ? uint16_t{0} : found->second;
}

std::string Numbers::name_of(uint16_t number) const {
    auto found =
        std::ranges::find(numbers_, number, [](const auto& entry) { return entry.second; });
    return found == numbers_.end() ? std::string() : found->first;
}

}  // namespace proxify::steering
