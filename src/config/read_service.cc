// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {

static std::string read_name(const Value& service, Fields& fields) {
    auto* name = fields.find("name");
    if (!name) {
        fields.problems().add(service.at, "the service has no name",
                              R"(add a line like name = "web")");
        return {};
    }
    auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '.' || c == '-';
    };
    auto* text = name->as<std::string>();
    if (!text || text->empty() || text->size() > 64 || !std::ranges::all_of(*text, fits)) {
        fields.expected(*name, "name", "1 to 64 letters, digits, \"_\", \".\" or \"-\"");
        return {};
    }
    return *text;
}

static void read_port(const Value& value, DraftService& draft, Fields& fields) {
    std::optional<PortRange> range;
    if (auto* text = value.as<std::string>()) {
        auto understood = read_ports(*text);
        if (understood)
            range = *understood;
        else
            fields.not_understood(value, "ports", understood.error());
    } else if (auto* number = value.as<int64_t>(); number && *number >= 1 && *number <= 65535) {
        auto port = static_cast<uint16_t>(*number);
        range = PortRange{port, port};
    } else {
        fields.expected(value, "ports", R"(a number from 1 to 65535 or a range like "5300-5399")");
    }
    if (!range) return;
    draft.service.ports.push_back(*range);
    draft.ports_at.push_back(value.at);
}

static void read_port_list(const Value& value, DraftService& draft, Fields& fields) {
    auto ports = one_or_many(value);
    if (ports.empty()) draft.no_ports_at = value.at;
    draft.service.ports.reserve(ports.size());
    draft.ports_at.reserve(ports.size());
    for (const auto& port : ports) read_port(port, draft, fields);
}

static void read_timeouts(const Value& value, Timeouts& timeouts, Problems& problems) {
    auto* table = value.as<Table>();
    if (!table) return expected(value, "timeouts", "a table like { connect = \"5s\" }", problems);
    Fields fields(*table, timeouts_section, problems);
    fields.duration("connect", {}, timeouts.connect);
    fields.duration("idle", {}, timeouts.idle);
    fields.duration("half_close", {}, timeouts.half_close);
}

static void read_limits(const Value& value, Limits& limits, Problems& problems) {
    auto* table = value.as<Table>();
    if (!table)
        return expected(value, "limits", "a table like { source_sessions = 100 }", problems);
    Fields fields(*table, limits_section, problems);
    fields.count("source_sessions", {0, 1'000'000}, limits.source_sessions);
    fields.count("source_rate", {0, 1'000'000}, limits.source_rate);
}

DraftService read_service(const Value& value, const Table& table, Problems& problems) {
    Fields fields(table, service_section, problems);
    DraftService draft{.name_at = value.at};
    Service& service = draft.service;
    service.name = read_name(value, fields);
    if (auto* name = fields.find("name")) draft.name_at = name->at;

    if (auto* ports = fields.find("ports"))
        read_port_list(*ports, draft, fields);
    else
        draft.no_ports_at = value.at;

    fields.prefixes("addresses", service.addresses, draft.addresses_at);

    if (auto* targets = fields.find("targets"))
        read_target_list(*targets, draft, problems);
    else
        problems.add(value.at, "the service has no targets",
                     R"(add a line like targets = ["10.0.0.1:80"])");

    fields.choice("balance", balance_names, service.balance);
    if (auto* health = fields.find("health")) read_health(*health, service.health, problems);
    if (auto* timeouts = fields.find("timeouts"))
        read_timeouts(*timeouts, service.timeouts, problems);
    fields.count("tries", {1, 100}, service.tries);
    fields.choice("relay", relay_names, service.relay);

    fields.prefixes("allow", service.access.allow, draft.access_at.allow);
    fields.prefixes("deny", service.access.deny, draft.access_at.deny);
    fields.choice("on_deny", on_deny_names, service.on_deny);
    fields.choice("when_down", when_down_names, service.when_down);
    if (auto* limits = fields.find("limits")) read_limits(*limits, service.limits, problems);
    fields.flag("count_ports", service.count_ports);
    return draft;
}

}  // namespace proxify::config
