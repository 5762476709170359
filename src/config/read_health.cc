// SPDX-License-Identifier: Apache-2.0
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {

void read_health(const Value& value, HealthSpec& health, Problems& problems) {
    if (auto* enabled = value.as<bool>()) {
        health.enabled = *enabled;
        return;
    }
    auto* table = value.as<Table>();
    if (!table)
        return expected(value, "health", "false or a table like { interval = \"2s\" }", problems);
    Fields fields(*table, health_section, problems);
    if (auto* type = fields.find("type")) {
        auto* word = type->as<std::string>();
        if (!word || *word != "tcp")
            fields.expected(*type, "type", "\"tcp\"", "nothing else is available in this version");
    }
    fields.duration("interval", {.least = 10ms}, health.interval);
    fields.duration("timeout", {}, health.timeout);
    fields.count("rise", {1, 100}, health.rise);
    fields.count("fall", {1, 100}, health.fall);
    uint16_t port = 0;
    if (fields.port("port", port)) health.port = port;
}

}  // namespace proxify::config
