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

/// Of a socket (SO_MARK): 32 bits.
static void read_mark(Fields& fields, std::string_view key, uint32_t& out) {
    auto* value = fields.find(key);
    if (!value) return;
    auto* number = value->as<int64_t>();
    if (!number || *number < 1 || *number > 0xffffffff)
        fields.expected(*value, key, "a number from 0x1 to 0xffffffff");
    else
        out = static_cast<uint32_t>(*number);
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
    read_mark(fields, "mark", draft.config.mark);
    read_mark(fields, "mark_mask", draft.config.mark_mask);
    if (uint32_t mask = draft.config.mark_mask; (draft.config.mark & mask) == 0)
        problems.add(fields.find(fields.find("mark") ? "mark" : "mark_mask")->at,
                     "mark: has no bit of mark_mask, so no socket could be told from another");
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

/// An array of tables, such as [[service]].
template <class T>
static void read_tables(Fields& fields, std::string_view key,
                        T (&read)(const Value&, const Table&, Problems&), std::vector<T>& out) {
    auto* value = fields.find(key);
    if (!value) return;
    const auto tables = format("[[{}]] tables", key);
    const auto hint = format("begin each {} with a line [[{}]], in double brackets", key, key);
    auto* array = value->as<Array>();
    if (!array) return expected(*value, key, tables, fields.problems(), hint);
    out.reserve(array->size());
    for (const auto& one : *array) {
        if (auto* table = one.as<Table>())
            out.push_back(read(one, *table, fields.problems()));
        else
            expected(one, key, tables, fields.problems(), hint);
    }
}

Draft read_file_sections(const Table& file, Problems& problems) {
    Draft draft;
    Fields fields(file, file_section, problems);
    if (auto* table = fields.table("proxify")) read_proxify(*table, draft, problems);
    if (auto* table = fields.table("admin")) read_admin(*table, draft.config.admin, problems);
    if (auto* table = fields.table("log")) read_log(*table, draft.config.log, problems);
    if (auto* table = fields.table("tunnel")) {
        draft.tunnel_at = fields.find("tunnel")->at;
        read_tunnel(*table, draft, problems);
    }
    read_tables(fields, "service", read_service, draft.services);
    read_tables(fields, "capture", read_capture, draft.captures);
    return draft;
}

}  // namespace proxify::config
