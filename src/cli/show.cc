// SPDX-License-Identifier: Apache-2.0
#include "cli/show.h"

#include <algorithm>

#include "base/count_text.h"
#include "base/format.h"
#include "cli/table.h"
#include "config/words.h"

namespace proxify::cli {

namespace {

/// All of it, on one line, whatever bytes are in it.
std::string printable(std::string_view text) {
    return config::printable(text, text.npos);
}

std::string joined(const std::vector<std::string>& words, size_t width_max) {
    std::string out;
    for (size_t i = 0; i < words.size(); ++i) {
        if (out.size() + words[i].size() > width_max && i > 0)
            return format("{} and {} more", out, words.size() - i);
        out += (out.empty() ? "" : ", ") + words[i];
    }
    return out.empty() ? "-" : out;
}

std::string of(uint64_t count, uint64_t max) {
    return max == 0 ? format("{}", count) : format("{} of {}", count, max);
}

std::string warnings_text(const std::vector<std::string>& warnings) {
    std::string out;
    for (const auto& warning : warnings) out += "warning: " + printable(warning) + "\n";
    return out;
}

/// Only the counters that have counted something.
void add_counters(Table& table, const std::string& service,
                  const std::vector<report::Counter>& counters) {
    for (const auto& one : counters)
        if (one.value != 0) table.row({service, one.name, format("{}", one.value), one.meaning});
}

/// What the elements of services have done, where there are any.
std::string elements_text(const report::Services& services) {
    Table table({"SERVICE", "ELEMENT", "DIRECTION", ">CHUNKS", ">BYTES", ">DROPPED", ">CHANGED",
                 ">CLOSED", ">FAILED"});
    for (const auto& service : services.services)
        for (const auto& one : service.elements) {
            const bool counts = one.type == "count";
            auto number = [](bool is_said, uint64_t count) {
                return is_said ? format("{}", count) : std::string("-");
            };
            table.row({service.name, one.name, one.direction, number(counts, one.chunks),
                       counts ? short_bytes(one.bytes) : "-", number(!counts, one.dropped),
                       number(!counts, one.changed), number(!counts, one.closed),
                       number(!counts, one.failed)});
        }
    return table.empty() ? "" : "\n" + table.text();
}

}  // namespace

std::string show(const report::Status& status) {
    const auto& reload = status.reload;
    std::vector<std::pair<std::string, std::string>> lines{
        {"proxify", format("{}, pid {}, {} for {}", status.version, status.pid, status.state,
                           short_time(status.uptime))},
        {"mode", status.listener_port
                     ? format("steering to the listener on port {}", *status.listener_port)
                     : std::string("listening on each port")},
        {"config", status.config_path},
        {"services", format("{}, {} down", status.services, status.services_down)},
        {"targets", format("{}, {} up", status.targets, status.targets_up)},
        {"ports", format("{}", status.ports)},
        {"sessions", format("{} now, {} so far", status.sessions, status.sessions_so_far)},
        {"workers", format("{}", status.workers)},
    };
    std::vector<std::pair<std::string, std::string>> captures;
    for (const auto& capture : status.captures)
        captures.emplace_back(captures.empty() ? "captures" : "", printable(capture));
    lines.insert(lines.begin() + 2, captures.begin(), captures.end());
    if (!status.user.empty()) lines.insert(lines.begin() + 1, {"user", status.user});
    if (reload.state != "none")
        lines.emplace_back("reload", reload.state + ": " + printable(reload.text));
    for (const auto& warning : reload.warnings) lines.emplace_back("", printable(warning));
    if (status.log_dropped != 0)
        lines.emplace_back("log", format("{} dropped", count_text(status.log_dropped, "line")));
    if (status.is_behind)
        lines.emplace_back("kernel", "has not got the last change; the next reload tries again");
    return labelled(lines);
}

std::string show(const report::Services& services) {
    Table table({"SERVICE", "STATE", ">UP", ">SESSIONS", ">WAITING", ">SO FAR", ">FAILED",
                 ">CONNECT P99", ">IN", ">OUT", "PORTS"});
    for (const auto& one : services.services) {
        auto ports = one.ports;
        if (one.is_default) ports.push_back("default");
        auto where = joined(ports, 24);
        if (!one.addresses.empty()) where += " at " + joined(one.addresses, 24);
        table.row({one.name, one.state, format("{}/{}", one.targets_up, one.targets),
                   of(one.sessions, one.sessions_max), format("{}", one.waiting),
                   format("{}", one.sessions_so_far), format("{}", one.failures_so_far),
                   short_time(one.connect_p99), short_bytes(one.bytes_to_target),
                   short_bytes(one.bytes_to_client), where});
    }
    return table.text() + elements_text(services);
}

std::string show(const report::Targets& targets, double now) {
    Table table({"SERVICE", "TARGET", "STATE", ">FOR", ">WEIGHT", ">SESSIONS", ">SO FAR", ">FAILED",
                 ">CONNECT", "WHY"});
    for (const auto& one : targets.targets) {
        auto weight = format("{}", one.weight);
        if (one.weight_of_file) weight += format(" (file {})", *one.weight_of_file);
        std::string notes;
        if (one.is_backup) notes = "backup";
        if (one.priority != 0)
            notes += format("{}priority {}", notes.empty() ? "" : ", ", one.priority);
        if (!one.reason.empty()) notes += (notes.empty() ? "" : "; ") + printable(one.reason);
        table.row({one.service, one.address, one.state,
                   one.since ? short_time(std::max(0.0, now - *one.since)) : "-", weight,
                   of(one.sessions, one.sessions_max), format("{}", one.sessions_so_far),
                   format("{}", one.failed_connects), short_time(one.connect_mean), notes});
    }
    return table.text();
}

std::string show(const report::Sessions& sessions) {
    Table table({">SESSION", "SERVICE", "CLIENT", "DIALLED", "TARGET", "STATE", ">AGE",
                 ">TO TARGET", ">TO CLIENT"});
    for (const auto& one : sessions.sessions)
        table.row({format("{}", one.id), one.service.empty() ? "-" : one.service, one.client,
                   one.original_dst, one.target.empty() ? "-" : one.target, one.state,
                   short_time(one.age), short_bytes(one.to_target), short_bytes(one.to_client)});
    auto out = table.text();
    if (sessions.matching > sessions.sessions.size())
        out += format("and {} more\n", sessions.matching - sessions.sessions.size());
    return out;
}

std::string show(const report::Ports& ports) {
    Table table({"PORTS", "SERVICE", "AT", "FROM", "SHADOWS"});
    for (const auto& one : ports.ports)
        table.row({one.ports, one.service.empty() ? "-" : one.service,
                   one.addresses.empty() ? "any address" : joined(one.addresses, 40), one.origin,
                   one.shadows.empty() ? "" : printable(joined(one.shadows, 60))});
    return table.text();
}

std::string show(const report::Steering& steering) {
    if (!steering.is_on) return "steering is off: proxify runs without -b\n";
    auto out = labelled({
        {"program", format("id {}, link id {}", steering.program_id, steering.link_id)},
        {"maps", format("proxy_ports id {}, proxy_sock id {}", steering.proxy_ports_id,
                        steering.proxy_sock_id)},
        {"listener", format("port {}", steering.listener_port)},
        {"ports", format("{}", steering.ports)},
    });
    Table table({"SERVICE", "ANSWER", ">COUNT", "MEANING"});
    for (const auto& one : steering.services)
        add_counters(table, one.service.empty() ? "-" : one.service, one.counters);
    if (table.empty()) out += "\nno connection has come yet\n";
    if (!table.empty()) out += "\n" + table.text();
    return out + warnings_text(steering.warnings);
}

std::string show(const report::Explanation& explanation) {
    auto out = format("{} to {}\n\n", explanation.client, explanation.destination);
    size_t width = 0;
    for (const auto& step : explanation.steps) width = std::max(width, step.stage.size());
    for (const auto& step : explanation.steps)
        out += format("{} {:<{}}  {}\n", step.decides ? '>' : ' ', step.stage, width,
                      printable(step.finding));
    if (!explanation.candidates.empty()) {
        Table table({">TRIED", "TARGET", "STATE", "WHY"});
        for (const auto& one : explanation.candidates)
            table.row({one.order == 0 ? "-" : format("{}", one.order), one.target,
                       joined(one.states, 60), printable(one.reason)});
        out += "\n" + table.text();
        if (explanation.is_one_draw) out += "the policy draws lots: this is one possible order\n";
    }
    return out + format("\nthe client sees: {}\n", printable(explanation.client_sees));
}

std::string show(const report::Reload& reload) {
    return format("{}: {}\n", reload.state, printable(reload.text)) +
           warnings_text(reload.warnings);
}

std::string show(const report::Plan& plan) {
    std::string out;
    for (const auto& change : plan.changes) {
        out += format("{} {}", change.sign, printable(change.what));
        if (!change.effect.empty()) out += format("  ({})", change.effect);
        out += "\n";
    }
    if (plan.changes.empty()) out = "nothing would change: the file says what is running\n";
    return out + warnings_text(plan.warnings);
}

std::string show(const report::Done& done) {
    return printable(done.text) + "\n" + warnings_text(done.warnings);
}

}  // namespace proxify::cli
