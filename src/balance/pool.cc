// SPDX-License-Identifier: Apache-2.0
#include "balance/pool.h"

#include <algorithm>
#include <map>

namespace proxify::balance {

Pool::Pool(const Rule& rule, const std::vector<Member>& members,
           std::shared_ptr<Admission> admission)
    : admission_(std::move(admission)) {
    std::map<Level, std::vector<Member>> levels;
    for (const auto& member : members) {
        targets_.push_back(member.target);
        if (member.weight > 0) in_use_.push_back(member.target.get());
        if (member.target->port.is_original()) {
            original_ = member.weight > 0 ? member.target.get() : nullptr;
            continue;
        }
        levels[{member.is_backup, member.priority}].push_back(member);
    }
    for (auto& [level, of_level] : levels) tiers_.emplace_back(rule, level, std::move(of_level));
}

Choice Pool::take(const Asking& asking) const {
    if (admission_->anybody_waits()) return {.is_full = true};
    Choice choice = choose(asking);
    // choose() may have held a seat for a moment, and somebody in line may have missed it.
    if (choice.is_full) admission_->notice_room();
    return choice;
}

Choice Pool::choose(const Asking& asking) const {
    for (;;) {
        auto [target, is_full] = pick(asking);
        if (!target) return {.is_full = is_full};
        if (!take_one(target->sessions, target->sessions_max)) continue;  // another was quicker
        if (admission_->enter()) return {.seat = Seat(*admission_, *target)};
        target->sessions.fetch_sub(1, std::memory_order_seq_cst);
        return {.is_full = true};
    }
}

Pick Pool::pick(const Asking& asking) const {
    if (original_ && asking.knows_original) {
        if (asking.tried.contains(*original_)) return {};
        if (original_->is_full()) return {.is_full = true};
        return {.target = original_};
    }
    const bool is_panic = admission_->is_panic();
    for (const auto& tier : tiers_)
        if (Pick found = tier.pick(asking, is_panic); found.target || found.is_full) return found;
    return {};
}

Pool Pool::twin() const {
    Pool twin;
    twin.admission_ = std::make_shared<Admission>();
    twin.admission_->set_panic(admission_->is_panic());
    twin.targets_ = targets_;
    for (const auto& tier : tiers_) twin.tiers_.emplace_back(tier);
    twin.in_use_ = in_use_;
    twin.original_ = original_;
    return twin;
}

bool Pool::any_available() const {
    if (original_) return true;
    const bool is_panic = admission_->is_panic();
    return std::ranges::any_of(tiers_,
                               [&](const Tier& tier) { return tier.any_available(is_panic); });
}

Pool::Census Pool::count() const {
    Census census{.all = in_use_.size()};
    for (const Target* target : in_use_) census.available += target->available;
    return census;
}

std::shared_ptr<Target> Pool::find(const Target* target) const {
    auto found = std::ranges::find(targets_, target, &std::shared_ptr<Target>::get);
    return found == targets_.end() ? nullptr : *found;
}

void Pool::continue_after(const Pool& other) {
    for (auto& tier : tiers_)
        for (const auto& before : other.tiers_)
            if (before.level() == tier.level()) tier.continue_after(before);
}

}  // namespace proxify::balance
