// SPDX-License-Identifier: Apache-2.0
#include "routing/names.h"

#include <algorithm>
#include <array>

#include "routing/snapshot.h"

namespace proxify::routing {

static const Names::Shared nobody;

Names::Names(std::vector<Shared> services) : services_(std::move(services)), nameless_(&nobody) {
    for (const Shared& service : services_) {
        for (const auto& name : service->spec.sni) by_name_.emplace(name, &service);
        if (service->spec.sni.empty()) nameless_ = &service;
        const auto& tls = service->spec.tls;
        patience_ =
            std::max(patience_, tls ? tls->handshake_timeout : config::Tls{}.handshake_timeout);
    }
}

const Names::Shared& Names::find(std::string_view name) const {
    if (name.ends_with('.')) name.remove_suffix(1);
    // One byte more, in front, for the star: "www.example.org" is looked up as "*.example.org" too.
    std::array<char, 256> room;
    if (name.empty() || name.size() >= room.size()) return *nameless_;
    std::ranges::transform(name, room.begin() + 1, [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    const std::string_view low(room.data() + 1, name.size());
    if (auto exact = by_name_.find(low); exact != by_name_.end()) return *exact->second;

    const auto dot = low.find('.');
    if (dot == 0 || dot == std::string_view::npos) return *nameless_;
    room[dot] = '*';
    const auto wild = by_name_.find({room.data() + dot, low.size() - dot + 1});
    return wild == by_name_.end() ? *nameless_ : *wild->second;
}

}  // namespace proxify::routing
