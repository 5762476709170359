// SPDX-License-Identifier: Apache-2.0
#include "base/format.h"
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

/// "127.0.0.1:9901", or a port alone, which is one of the loopback address.
static std::optional<Address> read_http_address(const std::string& text) {
    if (auto address = Address::parse(text)) return address;
    return Address::parse("127.0.0.1:" + text);
}

static void read_admin(const Table& table, Admin& admin, Problems& problems) {
    // What a sockaddr_un has room for, with the end of the string and what a new socket is called.
    constexpr size_t path_size_max = 100;
    Fields fields(table, admin_section, problems);
    if (auto* value = fields.find("socket")) {
        auto* path = value->as<std::string>();
        auto* wanted = value->as<bool>();
        if (wanted && !*wanted)
            admin.socket.clear();
        else if (!path || !path->starts_with('/') || path->size() > path_size_max ||
                 path->contains('\0'))
            fields.expected(*value, "socket",
                            format("a full path of at most {} bytes, or false", path_size_max));
        else
            admin.socket = *path;
    }
    if (auto* value = fields.find("group")) {
        auto* name = value->as<std::string>();
        if (!name || name->empty() || name->contains('\0'))
            fields.expected(*value, "group", "the name of a group");
        else
            admin.group = *name;
    }
    if (auto* value = fields.find("http")) {
        auto* text = value->as<std::string>();
        if (text) admin.http = read_http_address(*text);
        if (!admin.http || admin.http->port == 0)
            fields.expected(*value, "http", "an address and a port",
                            "\"127.0.0.1:9901\", or \"9901\", which is the same");
    }
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
    if (auto* table = fields.table("admin")) read_admin(*table, draft.config.admin, problems);
    if (auto* table = fields.table("log")) read_log(*table, draft.config.log, problems);
    if (auto* services = fields.find("service")) read_services(*services, draft, problems);
    return draft;
}

}  // namespace proxify::config
