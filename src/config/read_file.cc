// SPDX-License-Identifier: Apache-2.0
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {

/// A name that means something elsewhere.
static void read_name(Fields& fields, std::string_view key, std::string_view what,
                      std::string& out) {
    auto* value = fields.find(key);
    if (!value) return;
    auto* name = value->as<std::string>();
    if (!name || name->empty())
        fields.expected(*value, key, what);
    else
        out = *name;
}

static void read_proxify(const Table& table, Draft& draft, Problems& problems) {
    Fields fields(table, proxify_section, problems);
    if (fields.port("listen", draft.config.listen)) draft.listen_at = fields.find("listen")->at;
    if (auto* value = fields.find("default_service")) {
        read_name(fields, "default_service", "the name of a service", draft.default_service);
        draft.default_service_at = value->at;
    }
    if (auto* value = fields.find("workers")) {
        auto* word = value->as<std::string>();
        int count = 0;
        if ((!word || *word != "auto") && fields.count("workers", {1, 256}, count))
            draft.config.workers = static_cast<size_t>(count);
    }
    fields.duration("drain_timeout", {}, draft.config.drain);
    fields.duration("resolve_interval", {.least = 100ms}, draft.config.resolve_interval);
    fields.prefixes("allow", draft.config.access.allow, draft.access_at.allow);
    fields.prefixes("deny", draft.config.access.deny, draft.access_at.deny);
    read_name(fields, "user", "the name of a user of this host", draft.config.user);
    read_name(fields, "group", "the name of a group of this host", draft.config.group);
    if (auto* group = fields.find("group"); group && !fields.find("user"))
        problems.add(group->at, "group: without user it changes nothing",
                     "write user, or take it out");
}

static void read_log(const Table& table, Log& log, Problems& problems) {
    Fields fields(table, log_section, problems);
    fields.choice("format", log_format_names, log.format);
    fields.choice("level", log_level_names, log.level);
}

static void read_services(const Value& value, Draft& draft, Problems& problems) {
    constexpr auto hint = "begin each service with a line [[service]], in double brackets";
    auto* services = value.as<Array>();
    if (!services) return expected(value, "service", "[[service]] tables", problems, hint);
    draft.services.reserve(services->size());
    for (const auto& service : *services) {
        if (auto* table = service.as<Table>())
            draft.services.push_back(read_service(service, *table, problems));
        else
            expected(service, "service", "[[service]] tables", problems, hint);
    }
}

Draft read_file_sections(const Table& file, Problems& problems) {
    Draft draft;
    Fields fields(file, file_section, problems);
    if (auto* table = fields.table("proxify")) read_proxify(*table, draft, problems);
    if (auto* table = fields.table("log")) read_log(*table, draft.config.log, problems);
    if (auto* services = fields.find("service")) read_services(*services, draft, problems);
    return draft;
}

}  // namespace proxify::config
