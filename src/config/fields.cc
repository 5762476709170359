// SPDX-License-Identifier: Apache-2.0
#include "config/fields.h"

#include <algorithm>

#include "base/format.h"
#include "base/nearest.h"

namespace proxify::config {

// ---- what may be written where

using Keys = std::span<const std::string_view>;

static constexpr std::string_view file_keys[] = {"proxify", "admin",   "log",
                                                 "service", "capture", "tunnel"};
static constexpr std::string_view proxify_keys[] = {
    "listen", "default_service", "workers", "drain_timeout", "resolve_interval", "allow", "deny",
    "user",   "group",           "mark",    "mark_mask"};
static constexpr std::string_view admin_keys[] = {"socket", "group", "http"};
static constexpr std::string_view log_keys[] = {"format", "level"};
static constexpr std::string_view service_keys[] = {
    "name",       "ports",    "addresses", "targets",         "balance",      "hash_balance_factor",
    "health",     "timeouts", "tries",     "max_connections", "queue",        "slow_start",
    "ejection",   "panic",    "relay",     "on_down",         "when_down",    "allow",
    "deny",       "on_deny",  "limits",    "count_ports",     "transparent",  "filters",
    "chunk_size", "cache",    "tls",       "target_tls",      "accept_proxy", "send_proxy",
    "sni"};
static constexpr std::string_view target_keys[] = {"address", "weight", "priority", "backup",
                                                   "max_connections"};
static constexpr std::string_view health_keys[] = {
    "type",    "interval",  "fast_interval", "down_interval", "timeout",      "rise",
    "fall",    "initial",   "address",       "port",          "method",       "path",
    "host",    "status",    "body",          "tls",           "sni",          "verify",
    "send",    "send_hex",  "expect",        "expect_hex",    "expect_regex", "expiry_warning",
    "command", "send_proxy"};
static constexpr std::string_view timeouts_keys[] = {"connect", "idle", "half_close"};
static constexpr std::string_view queue_keys[] = {"size", "timeout"};
static constexpr std::string_view ejection_keys[] = {"failures", "early_resets", "time", "max_time",
                                                     "max_share"};
static constexpr std::string_view capture_keys[] = {
    "type",         "service",    "listen",          "ports",
    "cidr",         "containers", "from_containers", "cgroup",
    "only_watch",   "proxy",      "exempt_cgroups",  "events",
    "report_every", "runtime",    "to_port",         "interfaces",
    "hook",         "address"};
static constexpr std::string_view filter_keys[] = {
    "type", "name", "direction", "on_error", "head",  "level", "pattern", "action", "delimiter",
    "find", "with", "hold",      "bytes",    "burst", "per",   "script",  "memory", "instructions"};
static constexpr std::string_view cache_keys[] = {"ttl",      "max_request", "max_response",
                                                  "max_size", "delimiter",   "request_timeout"};
static constexpr std::string_view tls_keys[] = {"certificates",   "key",
                                                "min_version",    "alpn",
                                                "client_ca",      "crl",
                                                "allowed_names",  "handshake_timeout",
                                                "max_handshakes", "require_client_certificate"};
static constexpr std::string_view target_tls_keys[] = {
    "verify", "ca",          "crl",  "server_name",  "certificate",
    "key",    "min_version", "alpn", "allowed_names"};
static constexpr std::string_view tunnel_keys[] = {
    "certificate", "key",   "ca",       "port",     "address",
    "server_name", "ports", "fallback", "max_hops", "allowed_names"};
static constexpr std::string_view send_proxy_keys[] = {"version", "unique_id", "tls", "tlvs"};
static constexpr std::string_view limits_keys[] = {"source_sessions", "source_rate"};

const Section file_section{"the file", "", file_keys};
const Section proxify_section{"[proxify]", "", proxify_keys};
const Section admin_section{"[admin]", "admin.", admin_keys};
const Section log_section{"[log]", "log.", log_keys};
const Section service_section{"[[service]]", "", service_keys};
const Section target_section{"a target", "", target_keys};
const Section health_section{"health", "health.", health_keys};
const Section timeouts_section{"timeouts", "timeouts.", timeouts_keys};
const Section queue_section{"queue", "queue.", queue_keys};
const Section ejection_section{"ejection", "ejection.", ejection_keys};
const Section capture_section{"[[capture]]", "", capture_keys};
const Section filter_section{"a filter", "filters.", filter_keys};
const Section cache_section{"cache", "cache.", cache_keys};
const Section tls_section{"tls", "tls.", tls_keys};
const Section target_tls_section{"target_tls", "target_tls.", target_tls_keys};
const Section tunnel_section{"[tunnel]", "tunnel.", tunnel_keys};
const Section send_proxy_section{"send_proxy", "send_proxy.", send_proxy_keys};
const Section limits_section{"limits", "limits.", limits_keys};

static const Section* const sections[] = {
    &file_section,       &proxify_section,    &admin_section,    &log_section,   &service_section,
    &target_section,     &health_section,     &timeouts_section, &queue_section, &ejection_section,
    &limits_section,     &capture_section,    &filter_section,   &cache_section, &tls_section,
    &target_tls_section, &send_proxy_section, &tunnel_section};

const std::span<const Section* const> all_sections = sections;

// ---- text

static std::string listed(Keys words) {
    std::string out;
    for (auto word : words) out += (out.empty() ? "" : ", ") + std::string(word);
    return out;
}

static bool contains(Keys words, std::string_view word) {
    return std::ranges::find(words, word) != words.end();
}

/// A value as a message shows it.
static std::string shown(const Value& value) {
    if (auto* truth = value.as<bool>()) return *truth ? "true" : "false";
    if (auto* integer = value.as<int64_t>()) return std::to_string(*integer);
    if (auto* real = value.as<double>()) return format("{}", *real);
    if (auto* string = value.as<std::string>()) return quoted(*string);
    if (auto* array = value.as<Array>()) return array->empty() ? "an empty array" : "an array";
    if (value.as<Table>()) return "a table";
    return "a date or time";
}

std::string place(Position at) {
    return format("{}:{}", at.line, at.column);
}

void expected(const Value& found, std::string_view label, std::string_view what, Problems& problems,
              std::string hint) {
    problems.add(found.at, format("{}: expected {}, found {}", label, what, shown(found)),
                 std::move(hint));
}

std::span<const Value> one_or_many(const Value& value) {
    if (auto* array = value.as<Array>()) return *array;
    return {&value, 1};
}

// ---- fields

static std::string hint_for_unknown(std::string_view key, const Section& section) {
    if (auto near = nearest(key, section.keys); !near.empty())
        return format("did you mean \"{}\"?", near);
    auto home = std::ranges::find_if(
        sections, [&](const Section* other) { return contains(other->keys, key); });
    if (home != std::end(sections)) return format("\"{}\" belongs in {}", key, (*home)->name);
    return format("{} can have {}", section.name, listed(section.keys));
}

Fields::Fields(const Table& table, const Section& section, Problems& problems)
    : table_(table), section_(section), problems_(problems) {
    for (const auto& [key, at, value] : table) {
        if (contains(section.keys, key)) continue;
        problems.add(at, format("unknown key {} in {}", quoted(key), section.name),
                     hint_for_unknown(key, section));
    }
}

std::string Fields::label(std::string_view key) const {
    return std::string(section_.prefix) + std::string(key);
}

void Fields::expected(const Value& found, std::string_view key, std::string_view what,
                      std::string hint) {
    config::expected(found, label(key), what, problems_, std::move(hint));
}

void Fields::not_understood(const Value& found, std::string_view key, const Complaint& complaint) {
    problems_.add(found.at, format("{}: {}", label(key), complaint.text), complaint.hint);
}

const Value* Fields::find(std::string_view key) const {
    auto found = std::ranges::find(table_, key, &Member::key);
    return found == table_.end() ? nullptr : &found->value;
}

const Table* Fields::table(std::string_view key) {
    auto* value = find(key);
    if (!value) return nullptr;
    auto* table = value->as<Table>();
    if (!table)
        expected(*value, key, "a table", format("write a line [{}], in single brackets", key));
    return table;
}

bool Fields::duration(std::string_view key, Bounds bounds, Duration& out) {
    auto* value = find(key);
    if (!value) return false;
    auto* text = value->as<std::string>();
    if (!text) {
        auto* number = value->as<int64_t>();
        expected(
            *value, key, R"(a duration such as "250ms", "5s", "1m30s" or "1h")",
            number && *number > 0 ? format("write \"{}s\" or \"{}ms\"", *number, *number) : "");
        return false;
    }
    auto duration = read_duration(*text);
    if (!duration) {
        not_understood(*value, key, duration.error());
        return false;
    }
    if (*duration < bounds.least || *duration > bounds.most) {
        // The bound of a year is shown in days too, as nobody thinks in 8760 hours.
        expected(*value, key,
                 format("a duration from {} to {}{}", to_text(bounds.least), to_text(bounds.most),
                        bounds.most == year ? " (365 days)" : ""));
        return false;
    }
    out = *duration;
    return true;
}

bool Fields::count(std::string_view key, Counts allowed, int& out) {
    auto* value = find(key);
    if (!value) return false;
    auto* number = value->as<int64_t>();
    if (!number || *number < allowed.least || *number > allowed.most) {
        expected(*value, key, format("a number from {} to {}", allowed.least, allowed.most));
        return false;
    }
    out = static_cast<int>(*number);
    return true;
}

bool Fields::size(std::string_view key, Sizes allowed, uint64_t& out) {
    auto* value = find(key);
    if (!value) return false;
    uint64_t size = 0;
    if (auto* text = value->as<std::string>()) {
        auto understood = read_size(*text);
        if (!understood) {
            not_understood(*value, key, understood.error());
            return false;
        }
        size = *understood;
    } else if (auto* number = value->as<int64_t>(); number && *number >= 0) {
        size = static_cast<uint64_t>(*number);
    } else {
        expected(*value, key, R"(a number of bytes, or a size such as "64KiB" or "1MiB")");
        return false;
    }
    if (size < allowed.least || size > allowed.most) {
        expected(*value, key,
                 format("a size from {} to {}", size_text(allowed.least), size_text(allowed.most)));
        return false;
    }
    out = size;
    return true;
}

bool Fields::text(std::string_view key, size_t bytes_max, std::string& out) {
    auto* value = find(key);
    if (!value) return false;
    auto* text = value->as<std::string>();
    if (!text || text->empty() || text->size() > bytes_max) {
        expected(*value, key, format("a string of 1 to {} bytes", bytes_max));
        return false;
    }
    out = *text;
    return true;
}

bool Fields::name(std::string_view key, std::string& out) {
    auto* value = find(key);
    if (!value) return false;
    auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '.' || c == '-';
    };
    auto* text = value->as<std::string>();
    if (!text || text->empty() || text->size() > 64 || !std::ranges::all_of(*text, fits)) {
        expected(*value, key, "1 to 64 letters, digits, \"_\", \".\" or \"-\"");
        return false;
    }
    out = *text;
    return true;
}

bool Fields::flag(std::string_view key, bool& out) {
    auto* value = find(key);
    if (!value) return false;
    auto* flag = value->as<bool>();
    if (!flag) {
        expected(*value, key, "true or false");
        return false;
    }
    out = *flag;
    return true;
}

bool Fields::port(std::string_view key, uint16_t& out) {
    auto* value = find(key);
    if (!value) return false;
    auto* number = value->as<int64_t>();
    if (!number || *number < 1 || *number > 65535) {
        expected(*value, key, "a port number from 1 to 65535");
        return false;
    }
    out = static_cast<uint16_t>(*number);
    return true;
}

void Fields::ports(std::string_view key, std::vector<PortRange>& out, std::vector<Position>& at) {
    auto* value = find(key);
    if (!value) return;
    auto written = one_or_many(*value);
    out.reserve(written.size());
    at.reserve(written.size());
    for (const auto& one : written) {
        std::optional<PortRange> range;
        if (auto* text = one.as<std::string>()) {
            auto understood = read_ports(*text);
            if (understood)
                range = *understood;
            else
                not_understood(one, key, understood.error());
        } else if (auto* number = one.as<int64_t>(); number && *number >= 1 && *number <= 65535) {
            auto port = static_cast<uint16_t>(*number);
            range = PortRange{port, port};
        } else {
            expected(one, key, R"(a number from 1 to 65535 or a range like "5300-5399")");
        }
        if (!range) continue;
        out.push_back(*range);
        at.push_back(one.at);
    }
}

void Fields::prefixes(std::string_view key, std::vector<Prefix>& out, std::vector<Position>& at) {
    auto* value = find(key);
    if (!value) return;
    auto written = one_or_many(*value);
    out.reserve(written.size());
    at.reserve(written.size());
    for (const auto& one : written) {
        auto* text = one.as<std::string>();
        if (!text) {
            expected(one, key, R"(a string like "10.0.0.0/8")");
        } else if (auto prefix = read_prefix(*text); !prefix) {
            not_understood(one, key, prefix.error());
        } else {
            out.push_back(*prefix);
            at.push_back(one.at);
        }
    }
}

/// Which of the words is written at `key`, or -1.
int Fields::choose(std::string_view key, Keys words,
                   std::span<const Name<std::string_view>> others) {
    auto* value = find(key);
    if (!value) return -1;
    auto* text = value->as<std::string>();
    auto found = text ? std::ranges::find(words, *text) : words.end();
    if (found != words.end()) return static_cast<int>(found - words.begin());

    std::string choices;
    for (size_t i = 0; i < words.size(); ++i)
        choices += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + quoted(words[i]);
    auto near = text ? nearest(*text, words) : std::string_view();
    for (auto [other, ours] : others)
        if (text && *text == other) near = ours;
    expected(*value, key, choices, near.empty() ? "" : format("did you mean \"{}\"?", near));
    return -1;
}

}  // namespace proxify::config
