// SPDX-License-Identifier: Apache-2.0
#include "base/format.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {

static void read_interval(Fields& fields, std::string_view key, std::optional<Duration>& out) {
    Duration interval{};
    if (fields.duration(key, {.least = 10ms}, interval)) out = interval;
}

static void read_check_address(Fields& fields, HealthSpec& health) {
    auto* value = fields.find("address");
    if (!value) return;
    auto* text = value->as<std::string>();
    auto ip = text ? Ip::parse(*text) : std::nullopt;
    if (!ip)
        return fields.expected(*value, "address", R"(an address like "10.0.0.1" or "2001:db8::1")",
                               "without a port, which is a key of its own; names are not looked up "
                               "here");
    health.address = ip;
}

void read_health(const Value& value, HealthSpec& health, Problems& problems) {
    if (auto* enabled = value.as<bool>()) {
        health.enabled = *enabled;
        return;
    }
    auto* table = value.as<Table>();
    if (!table)
        return expected(value, "health", "false or a table like { interval = \"2s\" }", problems);
    Fields fields(*table, health_section, problems);
    fields.duration("interval", {.least = 10ms}, health.interval);
    read_interval(fields, "fast_interval", health.fast_interval);
    read_interval(fields, "down_interval", health.down_interval);
    fields.duration("timeout", {}, health.timeout);
    fields.count("rise", {1, 100}, health.rise);
    fields.count("fall", {1, 100}, health.fall);
    fields.choice("initial", initial_names, health.initially_up);
    read_check_address(fields, health);
    uint16_t port = 0;
    if (fields.port("port", port)) health.port = port;

    auto type = CheckType::tcp;
    bool is_known = !fields.find("type") || fields.choice("type", check_type_names, type);
    if (is_known) read_check(type, value.at, fields, health);
}

}  // namespace proxify::config
