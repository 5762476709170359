// SPDX-License-Identifier: Apache-2.0
#include "base/format.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {

static bool read_address(const Value& value, TargetSpec& target, Problems& problems) {
    auto* text = value.as<std::string>();
    if (!text) {
        expected(value, "targets", R"(a string like "10.0.0.1:80")", problems);
        return false;
    }
    auto understood = read_target(*text);
    if (!understood) {
        problems.add(value.at, "targets: " + understood.error().text, understood.error().hint);
        return false;
    }
    target = std::move(*understood);
    return true;
}

static void read_one_target(const Value& value, DraftService& draft, Problems& problems) {
    TargetSpec target;
    auto* table = value.as<Table>();
    const Value* address = &value;
    if (table) {
        Fields fields(*table, target_section, problems);
        address = fields.find("address");
        if (!address)
            return problems.add(value.at, "targets: the target has no address",
                                R"(write { address = "10.0.0.1:80" })");
        if (!read_address(*address, target, problems)) return;
        if (fields.count("weight", {0, weight_max}, target.weight) && target.srv)
            problems.add(
                fields.find("weight")->at,
                format("weight: the weights of {} come from its SRV records", quoted(target.text)),
                "take it out");
        fields.count("priority", {0, 255}, target.priority);
        fields.flag("backup", target.backup);
        fields.count("max_connections", {1, connections_max}, target.max_connections);
    } else if (!read_address(value, target, problems)) {
        return;
    }
    draft.service.targets.push_back(std::move(target));
    draft.targets_at.push_back(address->at);
}

void read_target_list(const Value& value, DraftService& draft, Problems& problems) {
    auto targets = one_or_many(value);
    if (targets.empty())
        expected(value, "targets", "at least one target", problems, R"(write ["10.0.0.1:80"])");
    for (const auto& target : targets) read_one_target(target, draft, problems);
}

}  // namespace proxify::config
