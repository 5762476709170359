// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/format.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {

static std::string read_name(const Value& service, Fields& fields) {
    std::string name;
    if (!fields.find("name"))
        fields.problems().add(service.at, "the service has no name",
                              R"(add a line like name = "web")");
    else
        fields.name("name", name);
    return name;
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

static void read_queue(const Value& value, Queue& queue, Problems& problems) {
    auto* table = value.as<Table>();
    if (!table) return expected(value, "queue", "a table like { timeout = \"5s\" }", problems);
    Fields fields(*table, queue_section, problems);
    fields.count("size", {0, 100'000}, queue.size);
    fields.duration("timeout", {}, queue.timeout);
}

static void read_ejection(const Value& value, Ejection& ejection, Problems& problems) {
    if (auto* enabled = value.as<bool>()) {
        ejection.enabled = *enabled;
        return;
    }
    auto* table = value.as<Table>();
    if (!table)
        return expected(value, "ejection", "false or a table like { failures = 5 }", problems);
    Fields fields(*table, ejection_section, problems);
    fields.count("failures", {1, 1000}, ejection.failures);
    fields.count("early_resets", {0, 1000}, ejection.early_resets);
    fields.duration("time", {}, ejection.time);
    if (!fields.duration("max_time", {}, ejection.max_time) && !fields.find("max_time"))
        ejection.max_time = std::max(ejection.max_time, ejection.time);
    fields.count("max_share", {1, 100}, ejection.max_share);
    if (auto* most = fields.find("max_time"); most && ejection.max_time < ejection.time)
        problems.add(most->at,
                     format("ejection.max_time: {} is less than ejection.time, {}",
                            to_text(ejection.max_time), to_text(ejection.time)),
                     "the first ejection lasts `time`, later ones longer, up to `max_time`");
}

static void read_hash_balance_factor(Fields& fields, Service& service) {
    auto* value = fields.find("hash_balance_factor");
    if (!value) return;
    auto* number = value->as<int64_t>();
    if (!number || (*number != 0 && (*number < 101 || *number > 1000)))
        return fields.expected(*value, "hash_balance_factor", "0 or a number from 101 to 1000",
                               "150 lets a target have one and a half times the average");
    service.hash_balance_factor = static_cast<int>(*number);
    bool is_hash = service.balance == Balance::source_hash || service.balance == Balance::maglev;
    if (*number != 0 && !is_hash)
        fields.problems().add(
            value->at, "hash_balance_factor: only \"source-hash\" and \"maglev\" can be bounded",
            "take it out, or write balance = \"source-hash\"");
}

static void read_sni(Fields& fields, DraftService& draft) {
    auto* value = fields.find("sni");
    if (!value) return;
    if (one_or_many(*value).empty())
        return fields.expected(*value, "sni", R"(names like "www.example.org")",
                               "without the key, clients of any name are served");
    for (const auto& one : one_or_many(*value)) {
        auto* text = one.as<std::string>();
        if (!text) {
            fields.expected(one, "sni", R"(a name like "www.example.org")");
        } else if (auto name = read_server_name(*text); !name) {
            fields.not_understood(one, "sni", name.error());
        } else {
            draft.service.sni.push_back(*std::move(name));
            draft.sni_at.push_back(one.at);
        }
    }
}

DraftService read_service(const Value& value, const Table& table, Problems& problems) {
    Fields fields(table, service_section, problems);
    DraftService draft{.name_at = value.at};
    Service& service = draft.service;
    service.name = read_name(value, fields);
    if (auto* name = fields.find("name")) draft.name_at = name->at;

    fields.ports("ports", service.ports, draft.ports_at);
    if (auto* ports = fields.find("ports"); !ports || one_or_many(*ports).empty())
        draft.no_ports_at = ports ? ports->at : value.at;

    fields.prefixes("addresses", service.addresses, draft.addresses_at);

    if (auto* targets = fields.find("targets"))
        read_target_list(*targets, draft, problems);
    else
        problems.add(value.at, "the service has no targets",
                     R"(add a line like targets = ["10.0.0.1:80"])");

    fields.choice("balance", balance_names, service.balance);
    read_hash_balance_factor(fields, service);
    if (auto* health = fields.find("health")) read_health(*health, service.health, problems);
    if (auto* timeouts = fields.find("timeouts"))
        read_timeouts(*timeouts, service.timeouts, problems);
    fields.count("tries", {1, tries_max}, service.tries);
    fields.count("max_connections", {1, connections_max}, service.max_connections);
    if (auto* queue = fields.find("queue")) read_queue(*queue, service.queue, problems);
    fields.duration("slow_start", {}, service.slow_start);
    if (auto* ejection = fields.find("ejection"))
        read_ejection(*ejection, service.ejection, problems);
    fields.count("panic", {0, 100}, service.panic);
    fields.choice("on_down", on_down_names, service.on_down);
    fields.choice("relay", relay_names, service.relay);

    fields.prefixes("allow", service.access.allow, draft.access_at.allow);
    fields.prefixes("deny", service.access.deny, draft.access_at.deny);
    fields.choice("on_deny", on_deny_names, service.on_deny);
    fields.choice("when_down", when_down_names, service.when_down);
    if (auto* limits = fields.find("limits")) read_limits(*limits, service.limits, problems);
    fields.flag("count_ports", service.count_ports);
    fields.flag("transparent", service.transparent);
    if (auto* filters = fields.find("filters")) read_filters(*filters, draft, problems);
    fields.size("chunk_size", {1, 65536}, service.chunk_size);
    if (auto* cache = fields.find("cache")) read_cache(*cache, service, problems);
    if (auto* tls = fields.find("tls")) read_tls(*tls, draft, problems);
    if (auto* tls = fields.find("target_tls")) read_target_tls(*tls, draft, problems);
    read_sni(fields, draft);
    read_proxy(fields, service, problems);
    return draft;
}

}  // namespace proxify::config
