// SPDX-License-Identifier: Apache-2.0
#include "access/sources.h"

#include <algorithm>

namespace proxify::access {

static Ip source_of(const Ip& client) {
    return client.is_v4 ? client : Prefix{client, 64}.network().ip;
}

Sources::Answer Sources::enter(const Ip& client, const SourceLimits& limits, Time now,
                               Place& place) {
    const Ip source = source_of(client);
    Shard& shard = shard_of(source);
    std::lock_guard lock(shard.lock);
    auto found = shard.known.find(source);
    if (found == shard.known.end()) {
        if (shard.known.size() >= shard_max && now >= shard.next_sweep) {
            shard.next_sweep = now + 1s;
            std::erase_if(shard.known, [&](const auto& entry) {
                return entry.second.sessions == 0 && entry.second.due <= now;
            });
        }
        // Sessions are bounded by descriptors; sources that come and go are not.
        bool is_full = shard.known.size() >= shard_max;
        if (is_full && limits.sessions == 0) return Answer::welcome;
        found = shard.known.emplace(source, Known{}).first;
    }
    Known& known = found->second;
    if (limits.sessions > 0 && known.sessions >= limits.sessions) return Answer::too_many_sessions;
    if (limits.rate > 0) {
        const Time due = std::max(known.due, now) + Duration(1s) / limits.rate;
        if (due - now > 1s) return Answer::too_fast;
        known.due = due;
    }
    ++known.sessions;
    place = Place(shared_from_this(), source);
    return Answer::welcome;
}

void Sources::leave(const Ip& source) {
    Shard& shard = shard_of(source);
    std::lock_guard lock(shard.lock);
    auto found = shard.known.find(source);
    // One that has a rate to remember goes later, in enter(), if there is room for it until then;
    // else it goes with its last session.
    const bool is_remembered = found->second.due != Time() && shard.known.size() <= shard_max;
    if (--found->second.sessions == 0 && !is_remembered) shard.known.erase(found);
}

size_t Sources::size() const {
    size_t size = 0;
    for (const auto& shard : shards_) {
        std::lock_guard lock(shard.lock);
        size += shard.known.size();
    }
    return size;
}

}  // namespace proxify::access
