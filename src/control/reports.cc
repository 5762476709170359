// SPDX-License-Identifier: Apache-2.0
#include "control/reports.h"

#include <algorithm>
#include <numeric>

#include "base/format.h"
#include "config/names.h"
#include "filter/filters.h"

namespace proxify::control {

using report::Counter;

namespace {

std::string range_text(config::PortRange range) {
    return range.first == range.last ? format("{}", range.first)
                                     : format("{}-{}", range.first, range.last);
}

std::vector<std::string> texts_of(const std::vector<Prefix>& prefixes) {
    std::vector<std::string> out;
    for (const auto& prefix : prefixes) out.push_back(prefix.text());
    return out;
}

std::vector<Counter> counters_of(const std::vector<kernel::Counter>& counters) {
    std::vector<Counter> out;
    for (const auto& one : counters)
        out.push_back({std::string(one.name), std::string(one.meaning), one.value});
    return out;
}

bool is_default(const routing::Snapshot& snapshot, const routing::Service& service) {
    return snapshot.default_service() && snapshot.default_service()->name == service.name;
}

/// The bound within which so large a share of all was; nothing when there were none, or when it was
/// beyond the last bound.
std::optional<double> quantile(const stats::Histogram& histogram, double share) {
    const auto counts = histogram.counts();
    const auto all = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
    if (all == 0) return {};
    uint64_t below = 0;
    for (size_t i = 0; i < histogram.bounds().size(); ++i) {
        below += counts[i];
        if (static_cast<double>(below) >= share * static_cast<double>(all))
            return seconds(histogram.bounds()[i]);
    }
    return {};
}

std::vector<report::Element> report_elements(const filter::Filters& filters) {
    std::vector<report::Element> out;
    for (const auto& entry : filters.entries())
        for (auto direction : {Direction::to_target, Direction::to_client}) {
            if (entry.sees(direction) == filter::nothing) continue;
            const auto& way = entry.stats->of(direction);
            out.push_back(
                {.name = entry.spec.name,
                 .type = std::string(config::name_of(entry.spec.type, config::element_type_names)),
                 .direction = std::string(
                     config::name_of(std::optional(direction), config::direction_names)),
                 .chunks = way.chunks.value(),
                 .bytes = way.bytes.value(),
                 .dropped = way.dropped.value(),
                 .changed = way.changed.value(),
                 .closed = way.closed.value(),
                 .failed = way.failed.value()});
        }
    return out;
}

report::Service report_service(const routing::Snapshot& snapshot, const routing::Service& service) {
    const auto& spec = service.spec;
    const auto& admission = service.pool.admission();
    report::Service out{
        .name = service.name,
        .state = !service.pool.any_available() ? "down"
                 : admission.is_panic()        ? "panic"
                                               : "up",
        .ports = {},
        .addresses = texts_of(spec.addresses),
        .is_default = is_default(snapshot, service),
        .balance = std::string(config::name_of(spec.balance, config::balance_names)),
        .when_down = std::string(config::name_of(spec.when_down, config::when_down_names)),
        .targets = service.pool.targets().size(),
        .sessions = admission.sessions(),
        .sessions_max = static_cast<uint64_t>(spec.max_connections),
        .waiting = admission.waiting(),
    };
    const auto& stats = *service.stats;
    out.sessions_so_far = stats.sessions.value();
    for (const auto& ending : stats.endings.list())
        if (ending.letters != Ending{}.letters()) out.failures_so_far += ending.value;
    out.bytes_to_target = stats.bytes.to_target.value();
    out.bytes_to_client = stats.bytes.to_client.value();
    out.connect_p50 = quantile(stats.connects, 0.5);
    out.connect_p99 = quantile(stats.connects, 0.99);
    if (service.filters) out.elements = report_elements(*service.filters);
    for (auto range : config::joined(spec.ports)) out.ports.push_back(range_text(range));
    for (const auto& target : service.pool.targets()) out.targets_up += target->available;
    return out;
}

std::string_view state_of(const balance::Target& target, const routing::Order& order) {
    if (!target.up) return "down";
    if (target.ejected) return "ejected";
    return order.is_drained ? "drained" : "up";
}

report::Target report_target(const routing::Service& service, const balance::Target& target) {
    const auto& stats = target.stats;
    report::Target out{.service = service.name,
                       .address = target.text,
                       .weight = 0,
                       .sessions = target.sessions,
                       .sessions_max = target.sessions_max,
                       .sessions_so_far = stats.connects.count.value(),
                       .failed_connects = stats.refused.value() + stats.timed_out.value() +
                                          stats.unreachable.value(),
                       .bytes_to_target = stats.bytes.to_target.value(),
                       .bytes_to_client = stats.bytes.to_client.value(),
                       .connect_mean = {},
                       .checks_good = stats.good_checks.value(),
                       .checks_bad = stats.bad_checks.value()};
    if (out.sessions_so_far > 0)
        out.connect_mean = stats.connects.sum.seconds() / static_cast<double>(out.sessions_so_far);
    return out;
}

}  // namespace

double wall_clock(Time at, Time now) {
    return seconds(std::chrono::system_clock::now().time_since_epoch()) - seconds(now - at);
}

report::Services report_services(const routing::Snapshot& snapshot) {
    report::Services out;
    for (const auto& service : snapshot.services())
        if (service) out.services.push_back(report_service(snapshot, *service));
    return out;
}

report::Targets report_targets(const routing::Snapshot& snapshot, const routing::Orders& orders,
                               const health::Health& health, Time now) {
    report::Targets out;
    for (const auto& service : snapshot.services()) {
        if (!service) continue;
        for (size_t i = 0; i < service->members.size(); ++i) {
            const auto& member = service->members[i];
            const auto& target = *member.target;
            const auto order = order_for(orders, service->name, target.text);
            auto& one = out.targets.emplace_back(report_target(*service, target));
            one.written = service->hosts[i];
            one.state = state_of(target, order);
            one.weight = order.weight.value_or(member.weight);
            if (order.weight) one.weight_of_file = member.weight;
            one.priority = member.priority;
            one.is_backup = member.is_backup;
            if (const auto* story = health.story_of(target)) {
                one.reason = story->reason;
                one.since = wall_clock(story->since, now);
            }
        }
        for (const auto& left : service->left) {
            auto target = left.lock();
            if (!target || target->sessions == 0) continue;
            out.targets.push_back(report_target(*service, *target));
            out.targets.back().state = "left";
        }
    }
    return out;
}

report::Ports report_ports(const routing::Snapshot& snapshot, const steering::Steering* steering,
                           std::optional<uint16_t> listener_port) {
    report::Ports out;
    std::vector<kernel::Listening> shadowed;
    if (steering) shadowed = steering->shadowed(steering::ports_of(snapshot.config()));
    for (const auto& service : snapshot.services()) {
        if (!service) continue;
        for (auto range : config::joined(service->spec.ports)) {
            auto& one = out.ports.emplace_back();
            one.ports = range_text(range);
            one.service = service->name;
            one.addresses = texts_of(service->spec.addresses);
            one.origin = "config";
            for (const auto& listening : shadowed)
                if (range.first <= listening.address.port && listening.address.port <= range.last)
                    one.shadows.push_back(
                        format("{} on {}",
                               listening.process.empty() ? "an unknown process" : listening.process,
                               listening.address.text()));
        }
    }
    const auto by_default = snapshot.default_service() ? snapshot.default_service()->name : "";
    if (listener_port)
        out.ports.push_back(
            {.ports = std::to_string(*listener_port), .service = by_default, .origin = "listener"});
    if (steering)
        for (uint16_t port : steering->added_by_hand())
            out.ports.push_back(
                {.ports = std::to_string(port), .service = by_default, .origin = "hand"});
    return out;
}

Result<report::Steering> report_steering(const routing::Snapshot& snapshot,
                                         const steering::Steering& steering,
                                         uint16_t listener_port) {
    TRY_TO(ids, steering.ids());
    TRY_TO(counters, steering.counters());
    report::Steering out{.is_on = true,
                         .program_id = ids.program,
                         .link_id = ids.link,
                         .proxy_ports_id = ids.proxy_ports,
                         .proxy_sock_id = ids.proxy_sock,
                         .listener_port = listener_port,
                         .ports = snapshot.port_count(),
                         .counters = counters_of(counters),
                         .services = {},
                         .warnings = steering.warnings()};
    for (const auto& service : snapshot.services()) {
        auto of_service = steering.counters(service ? service->name : std::string());
        if (!of_service) continue;
        out.services.push_back({service ? service->name : "", counters_of(*of_service)});
    }
    // Ports that services share by name are counted together.
    if (std::ranges::any_of(snapshot.services(),
                            [](const auto& one) { return one && !one->spec.sni.empty(); }))
        if (auto shared = steering.counters(steering::by_name))
            out.services.push_back({steering::by_name, counters_of(*shared)});
    return out;
}

report::Explanation report_explanation(const explain::Explanation& explanation) {
    report::Explanation out{.client = explanation.question.client.text(),
                            .destination = explanation.question.destination.text(),
                            .steps = {},
                            .candidates = {},
                            .is_one_draw = explanation.is_one_draw,
                            .service = explanation.service,
                            .outcome = std::string(to_text(explanation.outcome)),
                            .target = explanation.target,
                            .client_sees = explanation.client_sees};
    for (const auto& step : explanation.steps)
        out.steps.push_back({step.stage, step.finding, step.decides});
    for (const auto& one : explanation.candidates)
        out.candidates.push_back(
            {one.target, static_cast<uint64_t>(one.order), one.states, one.reason});
    return out;
}

report::Session report_session(const session::Session::View& view, uint64_t worker) {
    return {.id = view.id,
            .service = view.service ? *view.service : "",
            .client = view.client.text(),
            .original_dst = view.original_dst.text(),
            .target = view.target ? view.target->text() : "",
            .state = view.state,
            .age = seconds(view.age),
            .to_target = view.to_target,
            .to_client = view.to_client,
            .worker = worker};
}

}  // namespace proxify::control
