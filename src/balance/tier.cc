// SPDX-License-Identifier: Apache-2.0
#include "balance/tier.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

namespace proxify::balance {

namespace {

// The hashes are part of what users see: the same client goes to the same target after a restart,
// and through another proxify with the same file. So they depend on nothing but their input.

/// SplitMix64's finalizer (Steele, Lea, Flood 2014).
uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

uint64_t hash(std::string_view bytes, uint64_t seed) {
    uint64_t x = seed ^ 0xCBF29CE484222325u;  // FNV-1a, which mix() then spreads
    for (char c : bytes) x = (x ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    return mix(x);
}

uint64_t hash(const Ip& ip) {
    return hash({reinterpret_cast<const char*>(ip.bytes.data()), ip.bytes.size()}, ip.is_v4);
}

/// A number between 0 and 1, neither included.
double share(uint64_t drawn) {
    return (static_cast<double>(drawn >> 11) + 0.5) / 9007199254740992.0;
}

/// What a target would have with one session more, for each unit of its weight: a < b.
bool has_less(const Member& a, const Member& b) {
    auto with_one_more = [](const Member& member) {
        return uint64_t{member.target->sessions.load(std::memory_order_relaxed)} + 1;
    };
    return with_one_more(a) * b.weight < with_one_more(b) * a.weight;
}

/// One round of nginx's smooth weighted round robin: 5, 1, 1 is a a b a c a a. Who has gathered the
/// most goes next, and pays what all gathered in that step.
std::vector<uint16_t> smooth_order(const std::vector<Member>& members) {
    uint32_t common = 0;
    for (const auto& member : members) common = std::gcd(common, member.weight);
    if (common == 0) return {};
    int64_t total = 0;
    for (const auto& member : members) total += member.weight / common;

    std::vector<int64_t> gathered(members.size());
    std::vector<uint16_t> order;
    order.reserve(static_cast<size_t>(total));
    while (order.size() < static_cast<size_t>(total)) {
        for (size_t i = 0; i < members.size(); ++i) gathered[i] += members[i].weight / common;
        auto most = std::ranges::max_element(gathered);
        *most -= total;
        order.push_back(static_cast<uint16_t>(most - gathered.begin()));
    }
    return order;
}

/// The table of Maglev (Eisenbud et al., NSDI 2016, section 3.4): each target walks through the
/// table in an order of its own and takes the next free place, in turns that follow the weights.
constexpr size_t table_size = 65537;  // a prime, as the walk needs

std::vector<uint16_t> maglev_table(const std::vector<Member>& members) {
    struct Walk {
        size_t place, step;
        uint64_t due = 0;  ///< its share of the turns so far
    };
    uint32_t most = 0;
    std::vector<Walk> walks;
    for (const auto& member : members) {
        walks.push_back({.place = hash(member.target->text, 1) % table_size,
                         .step = hash(member.target->text, 2) % (table_size - 1) + 1});
        most = std::max(most, member.weight);
    }
    if (most == 0) return {};

    constexpr uint16_t nobody = UINT16_MAX;
    std::vector<uint16_t> table(table_size, nobody);
    for (size_t taken = 0; taken < table_size;) {
        for (size_t i = 0; i < members.size() && taken < table_size; ++i) {
            Walk& walk = walks[i];
            walk.due += members[i].weight;
            if (walk.due < most) continue;
            walk.due -= most;
            while (table[walk.place] != nobody) walk.place = (walk.place + walk.step) % table_size;
            table[walk.place] = static_cast<uint16_t>(i);
            ++taken;
        }
    }
    return table;
}

}  // namespace

Tier::Tier(const Rule& rule, Level level, std::vector<Member> members)
    : rule_(rule), level_(level), members_(std::move(members)) {
    if (is_hash())
        for (const auto& member : members_) keys_.push_back(hash(member.target->text, 0));
    if (rule_.policy == config::Balance::round_robin) order_ = smooth_order(members_);
    if (rule_.policy == config::Balance::maglev) order_ = maglev_table(members_);
}

Tier::Tier(const Tier& other)
    : rule_(other.rule_),
      level_(other.level_),
      members_(other.members_),
      keys_(other.keys_),
      order_(other.order_) {
    continue_after(other);
}

Pick Tier::pick(const Asking& asking, bool is_panic) const {
    const bool is_choosy =
        (rule_.slow_start > Duration::zero() && rule_.policy != config::Balance::first) ||
        (rule_.hash_balance_factor != 0 && is_hash());
    if (is_choosy)
        if (Target* target = choose(choosy_look(asking, is_panic))) return {.target = target};
    // Whoever is left has just come back, or has more than its share: better there than nowhere.
    const Look look{.asking = asking, .is_panic = is_panic};
    if (Target* target = choose(look)) return {.target = target};
    return {.is_full = std::ranges::any_of(
                members_, [&](const Member& member) { return is_open(member, look); })};
}

Tier::Look Tier::choosy_look(const Asking& asking, bool is_panic) const {
    Look look{.asking = asking,
              .is_panic = is_panic,
              .is_choosy = true,
              .key = is_hash() ? hash(asking.client) : mix(asking.random)};
    if (rule_.hash_balance_factor == 0) return look;
    for (const auto& member : members_) {
        if (!takes_part(member, is_panic)) continue;
        look.load += member.target->sessions.load(std::memory_order_relaxed);
        look.weight += member.weight;
    }
    return look;
}

/// With a bounded hash no target has more than `factor` of the average for its weight (Mirrokni,
/// Thorup, Zadimoghaddam 2018), the session that is about to begin among them. As the factor is
/// over 1 not all can be at their bound.
bool Tier::is_welcome(const Member& member, const Look& look) const {
    if (rule_.slow_start > Duration::zero() && !is_warm(*member.target, look)) return false;
    if (rule_.hash_balance_factor == 0) return true;
    const uint64_t sessions = member.target->sessions.load(std::memory_order_relaxed);
    return sessions * look.weight * 100 <
           static_cast<uint64_t>(rule_.hash_balance_factor) * (look.load + 1) * member.weight;
}

/// A target that came back takes part in a share of the choices that grows to all of them. By
/// chance; or by the client's address, where that decides: then a client that has moved back stays.
bool Tier::is_warm(const Target& target, const Look& look) const {
    if (!is_warming_up(target, look.asking.now)) return true;
    const auto since = target.back_since.load(std::memory_order_relaxed);
    const auto elapsed = look.asking.now.time_since_epoch().count() - since;
    return share(mix(look.key ^ hash(target.text, 3))) *
               static_cast<double>(rule_.slow_start.count()) <
           static_cast<double>(elapsed);
}

bool Tier::is_warming_up(const Target& target, Time now) const {
    const auto since = target.back_since.load(std::memory_order_relaxed);
    return since != Target::never_out &&
           now.time_since_epoch().count() - since < rule_.slow_start.count();
}

bool Tier::any_available(bool is_panic) const {
    return std::ranges::any_of(members_,
                               [&](const Member& member) { return takes_part(member, is_panic); });
}

Target* Tier::choose(const Look& look) const {
    switch (rule_.policy) {
        case config::Balance::round_robin:
            return in_turn(look);
        case config::Balance::least_connections:
            return least_connections(look);
        case config::Balance::random:
            return one_of_two(look);
        case config::Balance::source_hash:
            return by_source(look);
        case config::Balance::maglev:
            return by_table(look);
        case config::Balance::first:
            return first(look);
    }
    return nullptr;
}

Target* Tier::first(const Look& look) const {
    for (const auto& member : members_)
        if (is_free(member, look)) return member.target.get();
    return nullptr;
}

Target* Tier::in_turn(const Look& look) const {
    if (!first(look)) return nullptr;  // else the walk below would be long, and for nothing
    size_t begin = next_.load(std::memory_order_relaxed);
    for (;;) {
        Target* found = nullptr;
        size_t after = 0;
        for (size_t i = 0; i < order_.size() && !found; ++i) {
            size_t at = (begin + i) % order_.size();
            const Member& member = members_[order_[at]];
            if (!is_free(member, look)) continue;
            found = member.target.get();
            after = (at + 1) % order_.size();
        }
        // Another worker may have picked meanwhile: then look again from where it stopped.
        if (!found || next_.compare_exchange_weak(begin, after, std::memory_order_relaxed))
            return found;
    }
}

/// Among equals they take turns.
Target* Tier::least_connections(const Look& look) const {
    const Member* least = nullptr;
    size_t begin = next_.fetch_add(1, std::memory_order_relaxed);
    for (size_t i = 0; i < members_.size(); ++i) {
        const Member& member = members_[(begin + i) % members_.size()];
        if (is_free(member, look) && (!least || has_less(member, *least))) least = &member;
    }
    return least ? least->target.get() : nullptr;
}

/// The power of two choices (Mitzenmacher 2001): of two drawn by weight, the one with less to do.
Target* Tier::one_of_two(const Look& look) const {
    const Member* one = drawn(look, look.asking.random);
    const Member* other = drawn(look, mix(look.asking.random + 1));
    // Either may be missing, if the last that was free went or became full meanwhile.
    if (!one || !other) return one ? one->target.get() : other ? other->target.get() : nullptr;
    return (has_less(*other, *one) ? other : one)->target.get();
}

const Member* Tier::drawn(const Look& look, uint64_t random) const {
    uint64_t total = 0;
    for (const auto& member : members_)
        if (is_free(member, look)) total += member.weight;
    if (total == 0) return nullptr;
    uint64_t left = random % total;
    const Member* last = nullptr;
    for (const auto& member : members_) {
        if (!is_free(member, look)) continue;
        last = &member;
        if (left < member.weight) break;
        left -= member.weight;
    }
    return last;  // or a later one, if a target went down between the two walks
}

/// Rendezvous hashing (Thaler, Ravishankar 1998) with the weights of Schindelhauer and Schomaker
/// (2005): each target draws a number for this client, and the highest wins. When a target goes,
/// only its own clients move.
Target* Tier::by_source(const Look& look) const {
    const uint64_t client = hash(look.asking.client);
    Target* best = nullptr;
    double best_score = 0;
    for (size_t i = 0; i < members_.size(); ++i) {
        const Member& member = members_[i];
        if (!is_free(member, look)) continue;
        uint64_t drawn = mix(client ^ keys_[i]);
        double score = member.weight / -std::log(share(drawn));
        if (!best || score > best_score) {
            best = member.target.get();
            best_score = score;
        }
    }
    return best;
}

/// A key whose owner is down or tried goes on to places that depend on nothing but the key: the
/// other keys stay where they are.
Target* Tier::by_table(const Look& look) const {
    if (!first(look)) return nullptr;
    uint64_t key = hash(look.asking.client);
    for (int i = 0; i < 64; ++i, key = mix(key + 1)) {
        const Member& owner = members_[order_[key % table_size]];
        if (is_free(owner, look)) return owner.target.get();
    }
    return by_source(look);  // nearly all are down
}

}  // namespace proxify::balance
