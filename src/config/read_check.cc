// SPDX-License-Identifier: Apache-2.0
// The keys in `health` that belong to one type of check or another.
#include <algorithm>

#include "base/format.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {

namespace {

/// Longer ones are no questions that a health check asks.
constexpr size_t text_max = 4096;

struct Home {
    std::string_view key;
    std::vector<CheckType> types;
};

const Home homes[] = {
    {"method", {CheckType::http}},
    {"path", {CheckType::http}},
    {"host", {CheckType::http}},
    {"status", {CheckType::http}},
    {"body", {CheckType::http}},
    {"tls", {CheckType::http}},
    {"send", {CheckType::send}},
    {"send_hex", {CheckType::send}},
    {"expect", {CheckType::send}},
    {"expect_hex", {CheckType::send}},
    {"expect_regex", {CheckType::send}},
    {"sni", {CheckType::tls, CheckType::http}},
    {"verify", {CheckType::tls, CheckType::http}},
    {"expiry_warning", {CheckType::tls}},
    {"command", {CheckType::exec}},
};

void check_homes(CheckType type, Fields& fields) {
    for (const auto& [key, types] : homes) {
        auto* value = fields.find(key);
        if (!value || std::ranges::find(types, type) != types.end()) continue;
        auto home = name_of(types.front(), check_type_names);
        fields.problems().add(value->at,
                              format("health.{}: checks of the type \"{}\" have no such key", key,
                                     name_of(type, check_type_names)),
                              format("it belongs to type = \"{}\"", home));
    }
}

bool is_visible(char c) {
    return c > ' ' && c <= '~';
}

/// The text at `key`, if it is one that `fits`; complains otherwise.
template <class Fits>
bool read_text(Fields& fields, std::string_view key, std::string_view what, std::string& out,
               Fits fits) {
    auto* value = fields.find(key);
    if (!value) return false;
    auto* text = value->as<std::string>();
    if (!text || text->empty() || text->size() > text_max || !fits(*text)) {
        fields.expected(*value, key, what);
        return false;
    }
    out = *text;
    return true;
}

/// The text at `key` as `read` understands it; complains otherwise.
template <class T>
bool read_word(Fields& fields, std::string_view key, std::string_view what,
               Understood<T> (*read)(std::string_view), T& out) {
    std::string text;
    if (!read_text(fields, key, what, text, [](auto&) { return true; })) return false;
    auto understood = read(text);
    if (!understood) {
        fields.not_understood(*fields.find(key), key, understood.error());
        return false;
    }
    out = *std::move(understood);
    return true;
}

void read_optional_pattern(Fields& fields, std::string_view key,
                           std::optional<pattern::Pattern>& out) {
    std::string text;
    if (!read_text(fields, key, "a regular expression of 1 to 4096 bytes", text,
                   [](auto&) { return true; }))
        return;
    auto understood = read_pattern(text);
    if (!understood) return fields.not_understood(*fields.find(key), key, understood.error());
    out = *std::move(understood);
}

/// Of several keys for one thing one may be written.
void check_alternatives(Fields& fields, std::initializer_list<std::string_view> keys) {
    std::string_view first;
    for (auto key : keys) {
        auto* value = fields.find(key);
        if (!value) continue;
        if (!first.empty())
            fields.problems().add(value->at,
                                  format("health.{}: \"{}\" is written already", key, first),
                                  "write one of them");
        else
            first = key;
    }
}

void read_tls(Fields& fields, TlsSpec& tls) {
    auto is_name = [](const std::string& text) {
        auto fits = [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                   c == '-' || c == '_' || c == '.';
        };
        return text.size() <= 253 && (std::ranges::all_of(text, fits) || Ip::parse(text));
    };
    read_text(fields, "sni", R"(a name like "db.example")", tls.name, is_name);
    fields.flag("verify", tls.verify);
}

void read_statuses_at(Fields& fields, std::vector<StatusRange>& out) {
    auto* value = fields.find("status");
    if (!value) return;
    constexpr auto what = R"(a number from 100 to 599 or a range like "200-399")";
    std::vector<StatusRange> ranges;
    for (const auto& one : one_or_many(*value)) {
        if (auto* text = one.as<std::string>()) {
            auto understood = read_statuses(*text);
            if (!understood) return fields.not_understood(one, "status", understood.error());
            ranges.push_back(*understood);
        } else if (auto* number = one.as<int64_t>(); number && *number >= 100 && *number <= 599) {
            auto status = static_cast<int>(*number);
            ranges.push_back({status, status});
        } else {
            return fields.expected(one, "status", what);
        }
    }
    if (ranges.empty()) return fields.expected(*value, "status", what);
    out = std::move(ranges);
}

HttpCheck read_http(Fields& fields) {
    HttpCheck check;
    auto is_method = [](const std::string& text) {
        return text.size() <= 32 &&
               std::ranges::all_of(text, [](char c) { return c >= 'A' && c <= 'Z'; });
    };
    auto is_path = [](const std::string& text) {
        return text.front() == '/' && std::ranges::all_of(text, is_visible);
    };
    auto is_host = [](const std::string& text) { return std::ranges::all_of(text, is_visible); };
    read_text(fields, "method", R"(a method like "GET" or "HEAD")", check.method, is_method);
    read_text(fields, "path", R"(a path like "/healthz", without spaces)", check.path, is_path);
    read_text(fields, "host", R"(a host like "www.example" or "www.example:8080")", check.host,
              is_host);
    read_statuses_at(fields, check.statuses);
    read_optional_pattern(fields, "body", check.body);
    bool uses_tls = false;
    fields.flag("tls", uses_tls);
    if (uses_tls) {
        read_tls(fields, check.tls.emplace());
    } else {
        for (auto key : {"sni", "verify"})
            if (auto* value = fields.find(key))
                fields.problems().add(value->at,
                                      format("health.{}: the check does not use TLS", key),
                                      "add tls = true");
    }
    return check;
}

SendCheck read_send(Position at, Fields& fields) {
    constexpr auto bytes = R"(hexadecimal digits, such as "50 49 4e 47")";
    constexpr auto words = R"(1 to 4096 bytes of text, such as "PING\r\n")";
    auto any = [](auto&) { return true; };
    SendCheck check;
    check_alternatives(fields, {"send", "send_hex"});
    check_alternatives(fields, {"expect", "expect_hex", "expect_regex"});
    read_text(fields, "send", words, check.send, any);
    read_word(fields, "send_hex", bytes, read_hex, check.send);
    read_text(fields, "expect", words, check.expect, any);
    read_word(fields, "expect_hex", bytes, read_hex, check.expect);
    read_optional_pattern(fields, "expect_regex", check.expect_pattern);
    auto is_written = [&](auto key) { return fields.find(key) != nullptr; };
    constexpr std::string_view keys[] = {"send", "send_hex", "expect", "expect_hex",
                                         "expect_regex"};
    if (std::ranges::none_of(keys, is_written))
        fields.problems().add(at, "health: the check has nothing to send and nothing to expect",
                              R"(add a key like send = "PING\r\n" or expect = "+PONG")");
    return check;
}

TlsCheck read_tls_check(Fields& fields) {
    TlsCheck check;
    read_tls(fields, check.tls);
    fields.duration("expiry_warning", {.least = 1s}, check.expiry_warning);
    return check;
}

ExecCheck read_exec(Position at, Fields& fields) {
    constexpr auto hint = R"(write ["/usr/local/bin/check", "an argument"])";
    ExecCheck check;
    auto* value = fields.find("command");
    if (!value) {
        fields.problems().add(at, "health: the check has no command",
                              R"(add a key like command = ["/usr/local/bin/check"])");
        return check;
    }
    for (const auto& word : one_or_many(*value)) {
        auto* text = word.as<std::string>();
        if (!text || text->size() > text_max || text->find('\0') != std::string::npos) {
            fields.expected(word, "command", "texts: a full path, and arguments", hint);
            return check;
        }
        check.command.push_back(*text);
    }
    // Without a shell and without a search: what runs does not depend on who started proxify.
    if (check.command.empty() || !check.command[0].starts_with('/'))
        fields.expected(*value, "command", "the full path of a program, and its arguments", hint);
    return check;
}

}  // namespace

void read_check(CheckType type, Position at, Fields& fields, HealthSpec& health) {
    check_homes(type, fields);
    switch (type) {
        case CheckType::tcp:
            break;
        case CheckType::http:
            health.check = read_http(fields);
            break;
        case CheckType::send:
            health.check = read_send(at, fields);
            break;
        case CheckType::tls:
            health.check = read_tls_check(fields);
            break;
        case CheckType::exec:
            health.check = read_exec(at, fields);
            break;
    }
}

}  // namespace proxify::config
