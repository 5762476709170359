// SPDX-License-Identifier: Apache-2.0
#include "soak/targets.h"

#include <vector>

namespace proxify::test::soak {

// The services of reloads.cc lead here.
Targets::Targets(const Namespace& where) : where_(where) {
    for (const char* address : {"127.0.0.1:9001", "127.0.0.1:9005", "127.0.0.1:9400",
                                "127.0.0.1:9401", "127.0.0.1:9402", "127.0.0.1:9403"})
        all_.push_back({.address = address});
    for (const char* address : {"127.0.0.1:9002", "[::1]:9003", "127.0.0.1:9004", "127.0.0.1:9021"})
        all_.push_back({.address = address, .is_mortal = true});
    all_.push_back({.address = "127.0.0.1:9011", .greets = true});
    all_.push_back({.address = "[::1]:9012", .greets = true, .is_mortal = true});
    for (Target& target : all_) open_door(target);
}

Target* Targets::choose_victim(uint64_t random) {
    std::vector<Target*> candidates;
    for (Target& target : all_)
        if (target.is_mortal && target.is_alive()) candidates.push_back(&target);
    return candidates.empty() ? nullptr : candidates[random % candidates.size()];
}

void Targets::close_door(Target& target, Moment at, Millis absence) {
    ++deaths_;
    target.listener.close();
    target.comes_back = at + absence;
    target.absences.emplace_back(at, Moment::max());
    if (target.absences.size() > 100) target.absences.pop_front();
}

void Targets::open_doors_again(Moment at) {
    for (Target& target : all_) {
        if (target.is_alive() || at < target.comes_back) continue;
        open_door(target);
        target.absences.back().second = at + until_noticed;
    }
}

bool Targets::was_absent(const std::string& address, Moment since) const {
    for (const Target& target : all_)
        if (target.address == address)
            for (const auto& [first, last] : target.absences)
                if (last >= since) return true;
    return false;
}

const std::string& Targets::greeting() {
    static const std::string text = [] {
        std::string lines;
        for (int i = 1; i <= 100; ++i)
            lines += "220 ready to serve, line " + std::to_string(i) + "\r\n";
        return lines;
    }();
    return text;
}

}  // namespace proxify::test::soak
