// SPDX-License-Identifier: Apache-2.0
#include "health/ejection.h"

#include <algorithm>

#include "base/format.h"

namespace proxify::health {

Duration Penalty::next(Time now, const config::Ejection& spec) {
    if (times_ > 0 && now > returned_) {
        const auto forgiven = (now - returned_) / spec.time;
        times_ -= static_cast<int>(std::min<int64_t>(forgiven, times_));
    }
    // No more of them than matter, so that forgiving begins at once.
    const auto most = (spec.max_time + spec.time - Duration(1)) / spec.time;
    times_ = static_cast<int>(std::clamp<int64_t>(times_ + 1, 1, std::max<int64_t>(most, 1)));
    const Duration length = std::min(spec.time * times_, spec.max_time);
    returned_ = now + length;
    return length;
}

bool may_eject(size_t out, size_t all, int max_share) {
    return (out + 1) * 100 <= all * static_cast<size_t>(max_share);
}

void Ejections::follow(const routing::Snapshot& snapshot) {
    Cases before;
    before.swap(cases_);
    for (const auto& service : snapshot.services()) {
        if (!service) continue;
        for (const auto& target : service->pool.targets()) {
            auto found = before.find(target.get());
            if (found == before.end()) continue;
            auto known = cases_.insert(before.extract(found)).position;
            if (!service->spec.ejection.enabled && target->ejected)
                give_back(*known->second, "ejection is off");
        }
    }
    // The rest belongs to no service any more. But while sessions hold such a target it may come
    // back as what it is, and then nobody here would know that it is to be given back.
    for (auto& [gone, which] : before) release(*which->target);
}

void Ejections::eject(const routing::Service& service,
                      const std::shared_ptr<balance::Target>& target, const std::string& reason) {
    const auto& spec = service.spec.ejection;
    const auto targets = service.pool.targets();
    if (!spec.enabled || target->ejected) return;
    const auto out = static_cast<size_t>(
        std::ranges::count_if(targets, [](const auto& other) { return other->ejected.load(); }));
    if (!may_eject(out, targets.size(), spec.max_share)) return;

    auto& which = cases_[target.get()];
    if (!which) which = std::make_unique<Case>(*this, service.name, target);
    const Duration length = which->penalty.next(loop_.now(), spec);
    target->set_ejected(true, loop_.now());
    target->stats.ejections.add();
    loop_.timers().arm(*which, loop_.now() + length);
    on_change_(service.name, *target, Change::ejected, reason);
    log_.write(telemetry::Level::warn, "target_ejected",
               format("target {} of service {} is ejected for {}: {}", target->text, service.name,
                      to_text(length), reason),
               {{"service", service.name},
                {"target", target->text},
                {"reason", reason},
                {"duration", to_text(length)}});
}

void Ejections::give_back(Case& which, const std::string& reason) {
    auto& target = *which.target;
    loop_.timers().disarm(which);
    release(target);
    on_change_(which.service, target, Change::returned, reason);
    log_.write(
        telemetry::Level::info, "target_returned",
        format("target {} of service {} has returned: {}", target.text, which.service, reason),
        {{"service", which.service}, {"target", target.text}, {"reason", reason}});
}

void Ejections::release(balance::Target& target) {
    target.failed_connects = 0;
    target.early_resets = 0;
    target.set_ejected(false, loop_.now());
}

void Ejections::stop() {
    cases_.clear();
}

}  // namespace proxify::health
