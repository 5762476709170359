// SPDX-License-Identifier: Apache-2.0
#include "health/health.h"

#include <algorithm>
#include <optional>
#include <set>

#include "base/format.h"
#include "health/checks.h"

namespace proxify::health {

using namespace io;
using balance::Trouble;

bool Verdict::judge(bool good) {
    if (std::exchange(first_, false)) {
        up_ = good;
        in_a_row_ = 0;
    } else if (good == up_) {
        in_a_row_ = 0;
    } else if (++in_a_row_ >= (up_ ? fall_ : rise_)) {
        up_ = good;
        in_a_row_ = 0;
    }
    return up_;
}

void Verdict::condemn() {
    first_ = false;
    up_ = false;
    in_a_row_ = 0;
}

Duration next_interval(const Verdict& verdict, const config::HealthSpec& spec) {
    if (verdict.wavers()) return spec.fast_interval.value_or(spec.interval);
    return verdict.up() ? spec.interval : spec.down_interval.value_or(spec.interval);
}

std::optional<std::string> certificate_warning(Duration ends_in, Duration warn_within,
                                               std::optional<Time> said, Time now) {
    if (ends_in > warn_within || (said && now - *said < 24h)) return std::nullopt;
    const bool has_ended = ends_in < 0s;
    const auto minutes = std::chrono::floor<std::chrono::minutes>(has_ended ? -ends_in : ends_in);
    return has_ended ? format("ended {} ago", to_text(minutes))
                     : format("ends in {}", to_text(minutes));
}

namespace {

/// Where a target is checked. Nothing for one that follows the dialled port of several: no single
/// port speaks for it, so it counts as up, and a client that finds one dead is tried elsewhere. The
/// same for "original", which is any number of places.
std::optional<Address> check_address(const config::Service& spec, const balance::Target& target) {
    if (target.port.is_original()) return std::nullopt;
    const Ip ip = spec.health.address.value_or(target.ip);
    if (spec.health.port) return Address{ip, *spec.health.port};
    if (target.port.kind == config::TargetPort::Kind::fixed) return Address{ip, target.port.value};
    if (!spec.has_one_port()) return std::nullopt;
    auto at = target.for_dialled({ip, spec.ports[0].first});
    if (at) at->ip = ip;
    return at;
}

void count(stats::Target& stats, const Outcome& outcome) {
    switch (outcome.is) {
        case Outcome::Is::good:
            return stats.good_checks.add();
        case Outcome::Is::bad:
            return stats.bad_checks.add();
        case Outcome::Is::unknown:
            return stats.unknown_checks.add();
    }
}

}  // namespace

void Health::follow(const routing::Snapshot& snapshot) {
    Checks before;
    before.swap(checks_);
    services_.clear();
    for (const auto& service : snapshot.services())
        if (service) services_[service->name] = service;
    ejections_.follow(snapshot);
    for (const auto& [name, service] : services_) {
        const auto& spec = service->spec.health;
        for (size_t i = 0; i < service->pool.targets().size(); ++i) {
            const auto& target = service->pool.targets()[i];
            target->is_local = dial::is_local(loop_.ring(), target->ip);
            auto address = check_address(service->spec, *target);
            if (!spec.enabled || !address) {
                if (target->set_up(true, loop_.now()))
                    tell_of_change(name, *target, Change::up, "it is not checked");
                continue;
            }
            Subject subject{service->name, target->text, service->hosts[i], *address};
            auto known = before.find(target.get());
            if (known != before.end() && known->second->spec == spec &&
                known->second->subject == subject) {
                checks_.insert(before.extract(known));
                continue;
            }
            auto check = std::make_shared<Check>(loop_, std::move(subject), spec, target);
            if (known != before.end()) {
                check->verdict.continue_from(known->second->verdict);
                check->warned_at = known->second->warned_at;
            }
            check->number = ++checks_made_;
            checks_[target.get()] = check;
            loop_.spawn(run(check));
        }
    }
    end(before);
    forget_stories();
    for (const auto& [name, service] : services_) {
        look_for_panic(*service);
        service->pool.admission().notice_room();  // there may be more of it now
    }
}

Task<> Health::run(std::shared_ptr<Check> check) {
    while (!check->stopping) {
        auto& target = *check->target;
        target.is_local = dial::is_local(loop_.ring(), target.ip);
        Probe probe(common_, check->subject, check->spec);
        check->probe = &probe;
        const Outcome outcome = co_await examine(probe);
        check->probe = nullptr;
        if (check->stopping) break;
        count(target.stats, outcome);

        // Running out of something here says nothing about the target.
        if (outcome.is != Outcome::Is::unknown) {
            check->verdict.judge(outcome.is == Outcome::Is::good);
            set_state(*check, outcome.reason);
        }
        warn_of_certificate(*check, outcome);
        co_await check->wake.wait(with_jitter(next_interval(check->verdict, check->spec)));
    }
}

void Health::suspect(const std::string& service, const balance::Target* target, Trouble trouble,
                     uint32_t in_a_row) {
    auto known = services_.find(service);
    if (known == services_.end()) return;
    auto found = known->second->pool.find(target);
    if (!found) return;

    // One dead port says nothing about a target that follows the dialled port.
    auto check = checks_.find(target);
    if (trouble == Trouble::failed_connect && check != checks_.end() &&
        target->port.kind == config::TargetPort::Kind::fixed) {
        const auto fall = static_cast<uint32_t>(check->second->spec.fall);
        if (in_a_row % fall != 0) return;
        check->second->verdict.condemn();
        return set_state(*check->second, format("{} connects of clients in a row failed", fall));
    }
    const uint32_t limit = ejects_after(known->second->spec.ejection, trouble);
    if (limit == 0 || in_a_row % limit != 0) return;
    ejections_.eject(*known->second, found,
                     trouble == Trouble::failed_connect
                         ? format("{} connects of clients in a row failed", in_a_row)
                         : format("it reset {} connections in a row without a word", in_a_row));
}

/// Of targets that nobody remembers any more: another may be made where they were.
void Health::forget_stories() {
    std::set<const balance::Target*> known;
    for (const auto& [name, service] : services_) {
        for (const auto& target : service->pool.targets()) known.insert(target.get());
        for (const auto& left : service->left) known.insert(left.lock().get());
    }
    std::erase_if(stories_, [&](const auto& story) { return !known.contains(story.first); });
}

void Health::set_state(Check& check, const std::string& reason) {
    auto& target = *check.target;
    bool up = check.verdict.up();
    if (target.up == up) return;
    if (up) target.failed_connects = 0;
    target.set_up(up, loop_.now());
    // Before the log says so: who reads "up" there is let in.
    tell_of_change(check.subject.service, target, up ? Change::up : Change::down, reason);
    log_.write(up ? telemetry::Level::info : telemetry::Level::warn,
               up ? "target_up" : "target_down",
               format("target {} of service {} is {}: {}", target.text, check.subject.service,
                      up ? "up" : "down", reason),
               {{"service", check.subject.service}, {"target", target.text}, {"reason", reason}});
}

void Health::tell_of_change(const std::string& service, const balance::Target& target,
                            Change change, const std::string& reason) {
    stories_[&target] = {reason, loop_.now()};
    auto found = services_.find(service);
    if (found == services_.end()) return;
    look_for_panic(*found->second);
    found->second->pool.admission().notice_room();
    if (on_change_) on_change_(*found->second, target, change);
}

/// Too few targets take part: those that are left would be buried by what the others had, and
/// perhaps it is our view that is wrong.
void Health::look_for_panic(const routing::Service& service) {
    auto& admission = service.pool.admission();
    const auto [available, all] = service.pool.count();
    const bool is_panic = available * 100 < all * static_cast<size_t>(service.spec.panic);
    if (is_panic == admission.is_panic()) return;
    admission.set_panic(is_panic);
    const auto share =
        format("{} of {} targets of service {} available", available, all, service.name);
    log_.write(is_panic ? telemetry::Level::warn : telemetry::Level::info,
               is_panic ? "panic_begins" : "panic_ends",
               is_panic
                   ? format("panic: {}, less than {} %: all are used", share, service.spec.panic)
                   : format("panic is over: {}", share),
               {{"service", service.name}});
}

void Health::warn_of_certificate(Check& check, const Outcome& outcome) {
    auto* tls = std::get_if<config::TlsCheck>(&check.spec.check);
    if (!tls || !outcome.certificate_ends_in) return;
    const Duration ends_in = *outcome.certificate_ends_in;
    auto warning = certificate_warning(ends_in, tls->expiry_warning, check.warned_at, loop_.now());
    if (!warning) return;
    check.warned_at = loop_.now();
    log_.write(telemetry::Level::warn, "certificate_expires",
               format("the certificate of target {} of service {} {}", check.subject.target,
                      check.subject.service, *warning),
               {{"service", check.subject.service},
                {"target", check.subject.target},
                {"seconds_left", std::to_string(ends_in / 1s)}});
}

void Health::stop() {
    ejections_.stop();
    end(checks_);
    checks_.clear();
}

/// The oldest first: where a target stands in memory is no order that a seed could repeat.
void Health::end(const Checks& checks) {
    std::vector<std::shared_ptr<Check>> in_order;
    for (const auto& [target, check] : checks) in_order.push_back(check);
    std::ranges::sort(in_order, {}, &Check::number);
    for (const auto& check : in_order) {
        check->stopping = true;
        if (check->probe) check->probe->cancel();
        check->wake.raise();
    }
}

/// A tenth more or less, so that the checks of many targets, or of many proxies, do not march in
/// step.
Duration Health::with_jitter(Duration interval) {
    auto tenth = interval.count() / 10;
    if (tenth == 0) return interval;
    return interval - Duration(tenth) +
           Duration(static_cast<int64_t>(loop_.ring().random() % static_cast<uint64_t>(2 * tenth)));
}

}  // namespace proxify::health
