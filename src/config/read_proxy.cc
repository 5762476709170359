// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/format.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {
namespace {

constexpr Name<std::string_view> other_versions[] = {
    {"1", "v1"}, {"2", "v2"}, {"V1", "v1"}, {"V2", "v2"}};

/// What the protocol leaves to whoever wants it (section 2.2.7 of its text).
constexpr int custom_first = 0xE0, custom_last = 0xEF;
/// Of all values together: so there is room for the rest in a header that everybody takes.
constexpr size_t tlv_bytes_max = 2048;

std::optional<uint8_t> read_type(std::string_view word) {
    for (int type = custom_first; type <= custom_last; ++type)
        if (word == format("0x{:X}", type) || word == format("0x{:x}", type))
            return static_cast<uint8_t>(type);
    return std::nullopt;
}

/// A table of texts by type: TOML lets a key be 0xE0, as the protocol writes it.
void read_tlvs(Fields& fields, std::vector<SendProxy::Tlv>& tlvs) {
    auto* value = fields.find("tlvs");
    if (!value) return;
    auto* table = value->as<Table>();
    if (!table) return fields.expected(*value, "tlvs", R"(a table like { 0xE0 = "blue" })");
    size_t bytes = 0;
    for (const auto& [key, at, written] : *table) {
        const auto type = read_type(key);
        auto* text = written.as<std::string>();
        if (!type) {
            fields.problems().add(at, format("send_proxy.tlvs: {} is no type", quoted(key)),
                                  "those from 0xE0 to 0xEF are for everybody's own use");
        } else if (!text) {
            fields.expected(written, "tlvs", R"(a string, as in { 0xE0 = "blue" })");
        } else if (std::ranges::count(tlvs, *type, &SendProxy::Tlv::type)) {
            fields.problems().add(at, format("send_proxy.tlvs: {} is there twice", quoted(key)));
        } else {
            bytes += text->size();
            tlvs.push_back({.type = *type, .value = *text});
        }
    }
    if (bytes > tlv_bytes_max)
        fields.problems().add(
            value->at, format("send_proxy.tlvs: {} bytes are more than {}", bytes, tlv_bytes_max),
            "many who read headers take no longer ones");
}

void read_send_proxy(const Value& value, Service& service, Problems& problems) {
    SendProxy send;
    if (value.as<std::string>()) {
        // The one key of a table that is not written.
        const Table table{{.key = "version", .at = value.at, .value = value}};
        Fields(table, send_proxy_section, problems)
            .choice("version", proxy_version_names, send.version, other_versions);
        service.send_proxy = send;
        return;
    }
    auto* table = value.as<Table>();
    if (!table)
        return expected(value, "send_proxy", R"("v1", "v2" or a table like { unique_id = true })",
                        problems);
    Fields fields(*table, send_proxy_section, problems);
    fields.choice("version", proxy_version_names, send.version, other_versions);
    fields.flag("unique_id", send.unique_id);
    fields.flag("tls", send.tls);
    read_tlvs(fields, send.tlvs);
    if (send.version == 1)
        for (std::string_view key : {"unique_id", "tls", "tlvs"})
            if (auto* one = fields.find(key))
                problems.add(one->at, format("send_proxy.{}: version 1 cannot say it", key),
                             R"(write version = "v2", or take it out)");
    if (send.tls && !service.tls)
        problems.add(fields.find("tls")->at,
                     "send_proxy.tls: the service has no TLS with its clients",
                     "add tls = { ... }, or take this out: what a proxy in front of this one says "
                     "of its own TLS is passed on without it");
    service.send_proxy = std::move(send);
}

/// Checks of the very port that clients are led to begin as these do. Another port, or another
/// address, is often there for checks only.
void read_for_checks(Fields& fields, Service& service, Problems& problems) {
    auto& health = service.health;
    const int version = service.send_proxy ? service.send_proxy->version : 0;
    bool is_wanted = !health.port && !health.address;
    auto* written = fields.find("health");
    auto* table = written ? written->as<Table>() : nullptr;
    for (const auto& member : table ? *table : Table()) {
        if (member.key != "send_proxy") continue;
        // Only this key: the others were read, and complained about.
        const Table alone{member};
        Fields(alone, health_section, problems).flag("send_proxy", is_wanted);
        if (is_wanted && !service.send_proxy)
            problems.add(member.at, "health.send_proxy: the service has no send_proxy",
                         R"(add a line like send_proxy = "v2", or take this out)");
        if (is_wanted && std::holds_alternative<ExecCheck>(health.check))
            problems.add(member.at, "health.send_proxy: a program makes its own connections",
                         "take it out");
    }
    const bool connects = health.enabled && !std::holds_alternative<ExecCheck>(health.check);
    if (is_wanted && connects) health.send_proxy = version;
}

}  // namespace

void read_proxy(Fields& fields, Service& service, Problems& problems) {
    std::vector<Position> at;
    fields.prefixes("accept_proxy", service.accept_proxy, at);
    auto* send = fields.find("send_proxy");
    if (send) read_send_proxy(*send, service, problems);
    if (send && service.cache)
        problems.add(send->at,
                     "send_proxy: the targets are told who asks, and may answer each client "
                     "otherwise, but the service has a cache",
                     "take out cache or send_proxy");
    read_for_checks(fields, service, problems);
}

}  // namespace proxify::config
