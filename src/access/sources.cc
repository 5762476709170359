// SPDX-License-Identifier: Apache-2.0
#include "access/sources.h"

#include <algorithm>

#include "base/source.h"

namespace proxify::access {

Sources::Answer Sources::enter(const Ip& client, const SourceLimits& limits, Time now,
                               Place& place) {
    const Ip source = source_of(client);
    Shard& shard = shards_[shard_of(source)];
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
    if (Answer answer = judge(known, limits, now); answer != Answer::welcome) return answer;
    if (limits.rate > 0) known.due = due_after(known, limits, now);
    ++known.sessions;
    place = Place(shared_from_this(), source);
    return Answer::welcome;
}

Sources::Answer Sources::judge(const Known& known, const SourceLimits& limits, Time now) {
    if (limits.sessions > 0 && known.sessions >= limits.sessions) return Answer::too_many_sessions;
    if (limits.rate > 0 && due_after(known, limits, now) - now > 1s) return Answer::too_fast;
    return Answer::welcome;
}

/// One that is not known has nothing yet, and so is welcome.
Sources::Known Sources::find(const Ip& source) const {
    const Shard& shard = shards_[shard_of(source)];
    std::lock_guard lock(shard.lock);
    auto found = shard.known.find(source);
    return found == shard.known.end() ? Known{} : found->second;
}

Sources::Answer Sources::would_answer(const Ip& client, const SourceLimits& limits,
                                      Time now) const {
    return judge(find(source_of(client)), limits, now);
}

uint32_t Sources::sessions_of(const Ip& client) const {
    return find(source_of(client)).sessions;
}

void Sources::leave(const Ip& source) {
    Shard& shard = shards_[shard_of(source)];
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
