// SPDX-License-Identifier: Apache-2.0
// The part of Server that operators use: what it shows them, and what they change beside the file.
#include <unistd.h>

#include <algorithm>

#include "base/format.h"
#include "config/names.h"
#include "control/changes.h"
#include "control/reports.h"
#include "control/server.h"
#include "control/text.h"
#include "explain/explain.h"

namespace proxify::control {

using namespace io;

// ---- what runs

/// "redirect on 15002 and 15006", one for each.
static std::vector<std::string> captures_text(const config::Config& config) {
    std::vector<std::string> out;
    for (const auto& capture : config.captures) {
        std::vector<std::string> ports;
        for (uint16_t port : capture.listen) ports.push_back(std::to_string(port));
        out.push_back(std::string(config::name_of(capture.type, config::capture_type_names)) +
                      (capture.only_watch ? ", which only watches"
                       : capture.proxy    ? " to the proxy at " + capture.proxy->text()
                       : capture.to_port  ? format(" to port {}", *capture.to_port)
                                          : " on " + kernel::join_with_and(ports)));
    }
    return out;
}

report::Status Server::status() const {
    const Time now = loop_.now();
    report::Status out{
        .version = options_.version,
        .pid = getpid(),
        .started_at = wall_clock(started_at_, now),
        .uptime = seconds(now - started_at_),
        .state = leaving_ ? "leaving" : "running",
        .mode = steering_ ? "steering" : "listening",
        .captures = captures_text(snapshot_->config()),
        .user = user_ ? user_->name : "",
        .config_path = options_.config_path,
        .listener_port = steering_port_,
        .workers = workers_.size(),
        .ports = snapshot_->port_count(),
        .sessions_so_far = sessions_so_far_,
        .log_dropped = log_.dropped(),
        .is_behind = steering_is_behind_ || doors_are_behind_,
        .reload = last_reload_,
    };
    for (const auto& service : snapshot_->services()) {
        if (!service) continue;
        ++out.services;
        out.services_down += !service->pool.any_available();
        out.sessions += service->pool.admission().sessions();
        out.targets += service->pool.targets().size();
        for (const auto& target : service->pool.targets()) out.targets_up += target->available;
    }
    return out;
}

report::Services Server::services() const {
    return report_services(*snapshot_);
}

report::Targets Server::targets() const {
    return report_targets(*snapshot_, orders_, *health_, loop_.now());
}

report::Ports Server::ports() const {
    return report_ports(*snapshot_, steering_ ? &*steering_ : nullptr, steering_port_);
}

Result<report::Steering> Server::steering() const {
    if (!steering_) return report::Steering{};
    return report_steering(*snapshot_, *steering_, *steering_port_);
}

std::vector<worker::Worker*> Server::everyone() const {
    std::vector<worker::Worker*> all;
    for (const auto* workers : {&workers_, &retired_})
        for (const auto& worker : *workers) all.push_back(worker.get());
    return all;
}

Result<report::Explanation> Server::explain(const Address& client, const Address& destination) {
    if (leaving_) return fail(Error::of("proxify is leaving, and takes no new connections"));
    TRY_TO(explanation,
           explain::explain(
               {.client = client, .destination = destination},
               {.snapshot = *snapshot_,
                .steering = steering_ ? &*steering_ : nullptr,
                .listener_port = steering_port_,
                .doors = own_doors_,
                .is_here = [this](const Ip& ip) { return dial::is_local(loop_.ring(), ip); },
                .now = loop_.now(),
                .random = loop_.ring().random()}));
    return report_explanation(explanation);
}

static std::vector<metrics::Answer> answers_of(const std::vector<kernel::Counter>& all) {
    std::vector<metrics::Answer> out;
    for (const auto& one : all) out.push_back({one.name, one.value});
    return out;
}

metrics::Input Server::metrics() const {
    const auto wall = [now = loop_.now()](Time at) {
        return std::chrono::system_clock::now() -
               std::chrono::duration_cast<std::chrono::system_clock::duration>(now - at);
    };
    metrics::Input input{.version = options_.version,
                         .started_at = wall(started_at_),
                         .reloaded_at = wall(applied_at_),
                         .is_refused = !last_refusal_.empty() || taken_back_,
                         .log_lines_dropped = log_.dropped(),
                         .snapshot = snapshot_};
    for (const auto* worker : everyone()) input.workers.push_back(worker->stats());
    // Who leaves closes its listeners, one by one.
    if (!leaving_)
        for (const auto& [port, group] : listeners_)
            for (size_t i = 0; i < group.size(); ++i)
                input.workers[i % workers_.size()].accept_queue +=
                    loop_.ring().accept_queue(group[i]);
    for (auto& [capture, answers, by_container] : doors_.counts())
        input.captures.push_back({capture, answers_of(answers), std::move(by_container)});
    if (!steering_) return input;
    auto& steering = input.steering.emplace();
    steering.all = answers_of(steering_->counters().value_or(std::vector<kernel::Counter>()));
    bool counts_ports = false;
    for (const auto& service : snapshot_->services()) {
        if (!service) continue;
        steering.by_service[service->name] =
            answers_of(steering_->counters(service->name).value_or(std::vector<kernel::Counter>()));
        counts_ports |= service->spec.count_ports;
    }
    if (counts_ports) steering.by_port = steering_->port_counts().value_or(std::vector<uint64_t>());
    return input;
}

bool Server::survey(Survey begin) {
    constexpr size_t waiting_max = 32;
    if (surveys_.size() >= waiting_max) return false;
    surveys_.push_back(std::move(begin));
    if (surveys_.size() == 1) begin_survey();
    return true;
}

void Server::begin_survey() {
    // Whoever lets go of it last, on whatever thread, makes room for the next.
    std::shared_ptr<void> turn(nullptr, [this](void*) {
        loop_.post([this] {
            surveys_.pop_front();
            if (!surveys_.empty()) begin_survey();
        });
    });
    surveys_.front()(std::move(turn));
}

// ---- reload

Result<report::Plan> Server::plan_change(Result<config::Config> next) const {
    TRY_TO(config, std::move(next));
    if (options_.socket) config.admin.socket = *options_.socket;
    TRY(check_change(config));
    return control::plan_change(*snapshot_, config);
}

report::Reload Server::reload_now(std::optional<Duration> watch) {
    auto done = reload(/*was_asked_for=*/true);
    if (!watch || !undo_) return done;
    const bool is_recent = done.state == "unchanged" && loop_.now() - undo_->at < *watch;
    if (done.state != "applied" && !is_recent) return done;
    if (last_reload_.state == "watching" && is_recent) return last_reload_;  // by somebody else
    last_reload_ = undo_->done;
    last_reload_.state = "watching";
    loop_.spawn(watch_reload(*undo_, *watch));
    return last_reload_;
}

Server::Share Server::share_now() const {
    Share share;
    for (const auto& service : snapshot_->services()) {
        if (!service) continue;
        // Whatever operators have ordered meanwhile: that is no loss.
        const auto available = static_cast<size_t>(
            std::ranges::count_if(service->members, [](const balance::Member& member) {
                return member.weight > 0 && member.target->available;
            }));
        share.available[service->name] = available;
        share.in_all += available;
    }
    return share;
}

/// Why the last reload had better be taken back; "" when it may stay.
std::string Server::loss_since(const Share& before, bool time_is_up) const {
    const Share now = share_now();
    for (const auto& service : snapshot_->services()) {
        if (!service || now.available.at(service->name) > 0) continue;
        const auto& health = service->spec.health;
        const bool may_yet_come =
            service->pool.targets().empty() || (health.enabled && !health.initially_up);
        if (may_yet_come && !time_is_up) continue;
        if (auto had = before.available.find(service->name);
            had != before.available.end() && had->second > 0)
            return format("service {} has no target left that is up", service->name);
    }
    if (now.in_all * 2 < before.in_all)
        return format("only {} of {} targets are left", now.in_all, before.in_all);
    return {};
}

void Server::take_back(const config::Config& before, const std::string& loss) {
    config::Config lost = snapshot_->config();
    auto restored = apply(before);
    if (restored) taken_back_ = std::move(lost);
    applied_at_ = loop_.now();
    undo_.reset();
    last_reload_.state = restored ? "rolled-back" : "applied";
    last_reload_.text =
        restored
            ? format("{}: the config from before is back; {} says otherwise until it is changed",
                     loss, options_.config_path)
            : format("{}, and the config from before cannot be brought back: {}", loss,
                     one_line(restored.error()));
    log_.error("reload_rolled_back", "reload: " + last_reload_.text);
}

/// New targets count as up at first, so a config that is no good shows by what is lost after it; or
/// as down, and then by what does not come.
Task<> Server::watch_reload(Undo undo, Duration time) {
    const uint64_t number = last_reload_.number;
    const Time until = loop_.now() + time;
    Share share = undo.after;
    for (const auto& [service, available] : undo.before.available)
        if (auto now = share.available.find(service); now != share.available.end())
            now->second = std::max(now->second, available);
    for (;;) {
        const bool time_is_up = loop_.now() >= until;
        const std::string loss = loss_since(share, time_is_up);
        if (!loss.empty()) co_return take_back(undo.config, loss);
        if (time_is_up) break;
        co_await something_changed_.wait(until - loop_.now());
        if (leaving_ || last_reload_.number != number) co_return;
    }
    last_reload_.state = "kept";
    log_.info("reload_kept", format("reload: kept, after {} of watching", to_text(time)));
}

// ---- orders for targets

/// Orders for a target that is not there at present, as DNS may bring it back. Says which.
std::string Server::lift_orders(const std::string& which) {
    std::string lifted;
    std::erase_if(orders_, [&](const auto& order) {
        const auto& [service, target] = order.first;
        if (which != target && which != service + "/" + target) return false;
        lifted += format("{}{} of service {}", lifted.empty() ? "" : ", ", target, service);
        return true;
    });
    return lifted;
}

Result<report::Done> Server::order(const std::string& which, const NewOrder& wanted) {
    struct Found {
        std::string service, target;
        uint32_t sessions;
    };
    std::vector<Found> found;
    std::string services;
    for (const auto& service : snapshot_->services()) {
        if (!service) continue;
        bool here = false;
        for (size_t i = 0; i < service->members.size(); ++i) {
            const auto& target = *service->members[i].target;
            const std::string ending = target.text.substr(target.text.rfind(':'));
            const std::string prefix = service->name + "/";
            const auto name = which.starts_with(prefix) ? which.substr(prefix.size()) : which;
            if (name != target.text && name != service->hosts[i] &&
                name != service->hosts[i] + ending)
                continue;
            found.push_back({service->name, target.text, target.sessions});
            here = true;
        }
        if (here) services += (services.empty() ? "" : ", ") + service->name;
    }
    if (found.empty() && (wanted.is_drained == false || (wanted.sets_weight && !wanted.weight)))
        if (auto lifted = lift_orders(which); !lifted.empty())
            return report::Done{lifted + ": what was ordered is forgotten", {}};
    if (found.empty())
        return fail(
            Error::of(format("there is no target \"{}\"", which), "`proxify targets` lists them"));
    if (services.contains(','))
        return fail(Error::of(format("\"{}\" is a target of several services: {}", which, services),
                              format("write {}/{}", found.front().service, which)));

    uint64_t sessions = 0;
    std::string names;
    for (const auto& one : found) {
        auto& order = orders_[{one.service, one.target}];
        if (wanted.is_drained) order.is_drained = *wanted.is_drained;
        if (wanted.sets_weight) order.weight = wanted.weight;
        if (order == routing::Order{}) orders_.erase({one.service, one.target});
        sessions += one.sessions;
        names += (names.empty() ? "" : ", ") + one.target;
    }
    publish(snapshot_->config());

    report::Done done;
    const auto whose = format("{} of service {}", names, found.front().service);
    if (wanted.sets_weight)
        done.text = wanted.weight ? format("{} has weight {}", whose, *wanted.weight)
                                  : format("{} has the weight that the file says", whose);
    else if (*wanted.is_drained)
        done.text =
            format("{} gets no new sessions; it has {}", whose, count_text(sessions, "session"));
    else
        done.text = whose + " gets new sessions again";
    log_.info("order", "order: " + done.text);
    for (const auto& warning : warnings_of(*snapshot_))
        if (warning.starts_with(format("service {} ", found.front().service)))
            done.warnings.push_back(warning);
    for (const auto& warning : done.warnings) log_.warn("service_down", warning);
    return done;
}

}  // namespace proxify::control
