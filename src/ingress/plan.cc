// SPDX-License-Identifier: Apache-2.0
#include "ingress/plan.h"

#include <algorithm>

#include "base/format.h"

namespace proxify::ingress {

using kernel::IngressPort;

Leads leads_of(const config::Config& config) {
    Leads leads;
    for (const auto& capture : config.captures) {
        if (capture.type != config::CaptureType::ingress) continue;
        Lead lead{.to_port = capture.to_port, .scope = capture.interfaces};
        if (!lead.to_port && !capture.listen.empty()) lead.listen = capture.listen.front();
        std::ranges::sort(lead.scope);
        auto repeated = std::ranges::unique(lead.scope);
        lead.scope.erase(repeated.begin(), repeated.end());
        for (auto range : capture.ports)
            for (uint32_t port = range.first; port <= range.last; ++port)
                leads.emplace(static_cast<uint16_t>(port), lead);
    }
    return leads;
}

std::string describe(uint16_t port, const Lead* lead) {
    if (!lead) return format("port {} is not captured any more", port);
    std::string where;
    for (const auto& name : lead->scope) where += (where.empty() ? " at " : ", ") + name;
    if (lead->to_port) return format("port {} leads to port {}{}", port, *lead->to_port, where);
    return format("port {} leads to the listener on port {}{}", port, lead->listen.value_or(0),
                  where);
}

std::set<Scope> scopes_of(const Leads& leads) {
    std::set<Scope> scopes;
    for (const auto& [port, lead] : leads) scopes.insert(lead.scope);
    return scopes;
}

bool covers(const std::set<Scope>& scopes, std::string_view interface) {
    return std::ranges::any_of(scopes, [&](const Scope& scope) {
        return scope.empty() || std::ranges::find(scope, interface) != scope.end();
    });
}

Entries make_entries(const Entries& have, const Leads& leads, const Numbers<uint16_t>& listeners,
                     const Numbers<Scope>& scopes) {
    Entries want;
    for (const auto& [port, entry] : have)
        if (entry.has_flows || entry.has_answers)
            want[port] = {.has_flows = entry.has_flows, .has_answers = entry.has_answers};
    for (const auto& [port, lead] : leads) {
        auto& entry = want[port];
        if (!lead.scope.empty()) entry.scope = static_cast<uint8_t>(scopes.of(lead.scope));
        if (lead.to_port) {
            entry.to_port = lead.to_port;
            entry.has_flows = true;
            want[*lead.to_port].has_answers = true;
        } else if (lead.listen) {
            entry.listener = listeners.of(*lead.listen);
        }
    }
    return want;
}

/// 0 is written first.
static int turn_of(const IngressPort& entry) {
    if (entry.to_port || entry.listener) return 2;
    return entry.has_answers ? 1 : 0;
}

std::vector<std::pair<uint16_t, IngressPort>> make_plan(const Entries& have, const Entries& want) {
    std::vector<std::pair<uint16_t, IngressPort>> plan;
    for (const auto& [port, entry] : have)
        if (!want.contains(port)) plan.emplace_back(port, IngressPort{});
    for (const auto& [port, entry] : want) {
        auto found = have.find(port);
        if (found == have.end() || found->second != entry) plan.emplace_back(port, entry);
    }
    std::ranges::sort(plan, {},
                      [](const auto& one) { return std::pair(turn_of(one.second), one.first); });
    return plan;
}

}  // namespace proxify::ingress
