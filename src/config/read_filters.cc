// SPDX-License-Identifier: Apache-2.0
// What a service puts on its byte streams: `filters`, and `cache`.
#include <algorithm>

#include "base/format.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {
namespace {

using Type = ElementType;

/// Which types a key means something to; those that are not here mean something to all.
struct Use {
    std::string_view key;
    std::initializer_list<Type> types;
};
const Use uses[] = {
    {"head", {Type::log, Type::hexdump, Type::match, Type::lua}},
    {"level", {Type::log, Type::hexdump}},
    {"pattern", {Type::match}},
    {"action", {Type::match}},
    {"delimiter", {Type::match}},
    {"find", {Type::replace}},
    {"with", {Type::replace}},
    {"hold", {Type::replace, Type::match}},
    {"bytes", {Type::rate, Type::limit_bytes}},
    {"burst", {Type::rate}},
    {"per", {Type::rate}},
    {"script", {Type::lua}},
    {"memory", {Type::lua}},
    {"instructions", {Type::lua}},
};

// Words of HAProxy, nginx and Envoy for what has another name here.

using Words = Name<std::string_view>;
constexpr Words types_elsewhere[] = {
    {"regex", "match"},        {"regexp", "match"},    {"waf", "match"},
    {"sub_filter", "replace"}, {"rewrite", "replace"}, {"trace", "hexdump"},
    {"tap", "hexdump"},        {"bwlim-in", "rate"},   {"bwlim-out", "rate"},
    {"limit_rate", "rate"},    {"rate_limit", "rate"}, {"rate-limit", "rate"},
    {"bandwidth", "rate"},     {"throttle", "rate"},   {"script", "lua"},
};
constexpr Words directions_elsewhere[] = {{"in", "to_target"},      {"request", "to_target"},
                                          {"forward", "to_target"}, {"upload", "to_target"},
                                          {"client", "to_target"},  {"upstream", "to_target"},
                                          {"out", "to_client"},     {"response", "to_client"},
                                          {"reverse", "to_client"}, {"download", "to_client"}};
constexpr Words errors_elsewhere[] = {
    {"ignore", "pass"}, {"continue", "pass"}, {"abort", "close"}, {"reset", "close"}};
constexpr Words actions_elsewhere[] = {
    {"deny", "close"}, {"reject", "close"}, {"block", "close"}, {"remove", "drop"}};
constexpr Words pers_elsewhere[] = {{"connection", "session"}, {"stream", "session"},
                                    {"client", "source"},      {"ip", "source"},
                                    {"src", "source"},         {"proxy", "service"}};

void check_keys(const Table& table, Type type, Problems& problems) {
    for (const auto& [key, types] : uses) {
        auto found = std::ranges::find(table, key, &Member::key);
        if (found == table.end() || std::ranges::find(types, type) != types.end()) continue;
        std::string whose;
        for (Type one : types)
            whose +=
                format("{}\"{}\"", whose.empty() ? "" : " and ", name_of(one, element_type_names));
        problems.add(found->at,
                     format("filters.{}: means nothing to an element of type \"{}\"", key,
                            name_of(type, element_type_names)),
                     format("take it out; it is for {}", whose));
    }
}

/// Complains when the key is absent.
bool has(Fields& fields, std::string_view key, Position at, std::string_view hint) {
    if (fields.find(key)) return true;
    fields.problems().add(at, format("filters.{}: the element has none", key), std::string(hint));
    return false;
}

void read_stream_pattern_at(Fields& fields, std::optional<scan::Pattern>& out) {
    std::string text;
    if (!fields.text("pattern", 4096, text)) return;
    auto understood = read_stream_pattern(text);
    if (!understood)
        return fields.not_understood(*fields.find("pattern"), "pattern", understood.error());
    out = *std::move(understood);
}

void read_match(Fields& fields, Position at, Element& element) {
    if (has(fields, "pattern", at, R"(add a regular expression: pattern = "secret")"))
        read_stream_pattern_at(fields, element.pattern);
    fields.choice("action", on_match_names, element.on_match, actions_elsewhere);
    fields.text("delimiter", 64, element.delimiter);
    fields.duration("hold", {}, element.hold);
    if (auto* delimiter = fields.find("delimiter"); delimiter && element.on_match != OnMatch::drop)
        fields.problems().add(delimiter->at, "filters.delimiter: ends what action = \"drop\" drops",
                              "take it out, or write action = \"drop\"");
    if (element.pattern && element.pattern->matches_only_at_end() &&
        element.on_match == OnMatch::drop && element.delimiter.empty())
        fields.problems().add(
            fields.find("pattern")->at,
            "filters.pattern: matches at the end of the stream only, when there is "
            "nothing left to drop",
            R"(add what ends a record, delimiter = "\n", or write action = "close")");
}

void read_replace(Fields& fields, Position at, Element& element) {
    if (has(fields, "find", at, R"(add what is to be replaced: find = "a", with = "b")"))
        fields.text("find", 4096, element.find);
    if (auto* with = fields.find("with")) {
        auto* text = with->as<std::string>();
        if (!text || text->size() > 65536)
            fields.expected(*with, "with", "a string of at most 65536 bytes");
        else
            element.with = *text;
    } else {
        has(fields, "with", at, R"(with = "" takes out what is found)");
    }
    fields.duration("hold", {}, element.hold);
}

constexpr uint64_t tebibyte = uint64_t{1} << 40;

void read_rate(Fields& fields, Position at, Element& element) {
    if (has(fields, "bytes", at, R"(add how many may pass in a second: bytes = "1MiB")"))
        fields.size("bytes", {1, tebibyte}, element.bytes);
    // A tenth of a second's worth, and not so little that each chunk waits.
    if (!fields.size("burst", {1, tebibyte}, element.burst))
        element.burst = std::max<uint64_t>(element.bytes / 10, 4096);
    fields.choice("per", rate_per_names, element.per, pers_elsewhere);
}

void read_lua(Fields& fields, Position at, Element& element) {
    fields.size("memory", {64 << 10, 64 << 20}, element.memory);
    fields.count("instructions", {1000, 1'000'000'000}, element.instructions);
    if (has(fields, "script", at, R"(add the path of a file: script = "upper.lua")"))
        fields.text("script", 4096, element.script);
    if (element.script.contains('\0'))
        fields.expected(*fields.find("script"), "script", "the path of a file");
}

Element read_element(const Value& value, Problems& problems) {
    Element element;
    auto* table = value.as<Table>();
    if (!table) {
        auto* type = value.as<std::string>();
        expected(value, "filters", R"(a table like { type = "count" })", problems,
                 type ? format("write {{ type = {} }}", quoted(*type)) : "");
        return element;
    }
    Fields fields(*table, filter_section, problems);
    if (!fields.find("type")) {
        problems.add(value.at, "filters.type: the element has none",
                     R"(add one, such as type = "count")");
        return element;
    }
    if (!fields.choice("type", element_type_names, element.type, types_elsewhere)) return element;
    check_keys(*table, element.type, problems);
    element.name = name_of(element.type, element_type_names);
    fields.name("name", element.name);
    fields.choice("direction", direction_names, element.direction, directions_elsewhere);
    fields.choice("on_error", on_error_names, element.on_error, errors_elsewhere);
    fields.size("head", {1, tebibyte}, element.head);
    static constexpr Name<LogLevel> levels[] = {{"debug", LogLevel::debug},
                                                {"info", LogLevel::info}};
    fields.choice("level", levels, element.level);
    switch (element.type) {
        case Type::log:
        case Type::hexdump:
        case Type::count:
            break;
        case Type::match:
            read_match(fields, value.at, element);
            break;
        case Type::replace:
            read_replace(fields, value.at, element);
            break;
        case Type::rate:
            read_rate(fields, value.at, element);
            break;
        case Type::limit_bytes:
            if (has(fields, "bytes", value.at, R"(add how many may pass: bytes = "1MiB")"))
                fields.size("bytes", {1, tebibyte}, element.bytes);
            break;
        case Type::lua:
            read_lua(fields, value.at, element);
            break;
    }
    return element;
}

/// Elements without a name of their own are called after their type, from the second one on with a
/// number that nobody has: count, count-2.
void give_names(std::span<const Value> written, std::vector<Element>& elements,
                Problems& problems) {
    std::vector<std::string_view> taken;
    auto is_taken = [&](std::string_view name) {
        return std::ranges::find(taken, name) != taken.end();
    };
    std::vector<Element*> nameless;
    for (size_t i = 0; i < elements.size(); ++i) {
        if (elements[i].name.empty()) continue;  // it could not be read
        const Table& table = *written[i].as<Table>();
        auto own = std::ranges::find(table, "name", &Member::key);
        const auto* chosen = own == table.end() ? nullptr : own->value.as<std::string>();
        if (own == table.end()) {
            nameless.push_back(&elements[i]);
        } else if (!chosen || *chosen != elements[i].name) {
            continue;  // it is no name, and that was said already
        } else if (is_taken(elements[i].name)) {
            problems.add(
                own->value.at,
                format("filters.name: {} is the name of another one", quoted(elements[i].name)),
                "give each its own, or leave both out");
        } else {
            taken.push_back(elements[i].name);
        }
    }
    for (Element* element : nameless) {
        const std::string type = element->name;
        for (int number = 2; is_taken(element->name); ++number)
            element->name = format("{}-{}", type, number);
        taken.push_back(element->name);
    }
}

}  // namespace

void read_filters(const Value& value, DraftService& draft, Problems& problems) {
    constexpr size_t elements_max = 32;
    auto* written = value.as<Array>();
    if (!written || written->size() > elements_max)
        return expected(
            value, "filters",
            format(R"(an array of at most {} elements, like [{{ type = "count" }}])", elements_max),
            problems,
            value.as<Table>() ? "put it in brackets: filters = [{ ... }], or [[service.filters]]"
                              : "");
    auto& filters = draft.service.filters;
    for (const auto& one : *written) {
        filters.push_back(read_element(one, problems));
        draft.filters_at.push_back(one.at);
    }
    give_names(*written, filters, problems);
}

void read_cache(const Value& value, Service& service, Problems& problems) {
    auto* table = value.as<Table>();
    if (!table) {
        auto* wanted = value.as<bool>();
        auto* ttl = value.as<std::string>();
        return expected(value, "cache", "a table like { ttl = \"10s\" }", problems,
                        wanted && *wanted ? "cache = {} keeps answers as usual"
                        : wanted          ? "without the key nothing is kept: take it out"
                        : ttl             ? format("write {{ ttl = {} }}", quoted(*ttl))
                                          : "");
    }
    Fields fields(*table, cache_section, problems);
    Cache cache;
    fields.duration("ttl", {}, cache.ttl);
    fields.size("max_request", {1, 1 << 20}, cache.max_request);
    fields.size("max_response", {1, 1 << 30}, cache.max_response);
    fields.size("max_size", {1, tebibyte}, cache.max_size);
    if (!fields.find("max_response"))
        cache.max_response = std::min(cache.max_response, cache.max_size);
    fields.text("delimiter", 64, cache.delimiter);
    fields.duration("request_timeout", {}, cache.request_timeout);
    service.cache = cache;
    if (auto* delimiter = fields.find("delimiter"); cache.delimiter.size() > cache.max_request)
        problems.add(delimiter->at,
                     format("cache.delimiter: is longer than cache.max_request, {}",
                            size_text(cache.max_request)),
                     "no request that ends with it could be looked up");
    if (auto* most = fields.find("max_response"); most && cache.max_response > cache.max_size)
        problems.add(most->at,
                     format("cache.max_response: {} is more than cache.max_size, {}",
                            size_text(cache.max_response), size_text(cache.max_size)),
                     "no answer of that size could be kept");
    if (auto* most = fields.find("max_request"); most && cache.max_request > cache.max_size)
        problems.add(most->at,
                     format("cache.max_request: {} is more than cache.max_size, {}",
                            size_text(cache.max_request), size_text(cache.max_size)),
                     "a request is kept with its answer");
    if (service.transparent)
        problems.add(value.at,
                     "cache: the targets of a transparent service see who asks, and may "
                     "answer each client otherwise",
                     "take out cache or transparent");
}

}  // namespace proxify::config
