// SPDX-License-Identifier: Apache-2.0
// Elements and a cache in words: what they do, and of the rest what is not as usual.
#include "base/format.h"
#include "config/config.h"
#include "config/names.h"
#include "config/words.h"

namespace proxify::config {
namespace {

using Type = ElementType;

void say_match(const Element& element, std::string& out) {
    out += format(" {}, {}", quoted(element.pattern->text()),
                  name_of(element.on_match, on_match_names));
    if (!element.delimiter.empty()) out += " up to " + quoted(element.delimiter);
}

/// What is said of one type only.
void say_work(const Element& element, std::string& out) {
    const Element usual;
    switch (element.type) {
        case Type::count:
            break;
        case Type::log:
        case Type::hexdump:
            if (element.level != usual.level)
                out += format(", level {}", name_of(element.level, log_level_names));
            break;
        case Type::match:
            say_match(element, out);
            break;
        case Type::replace:
            out += format(" {} with {}", quoted(element.find), quoted(element.with));
            break;
        case Type::rate:
            out += format(" {}/s per {}, {} at once", size_text(element.bytes),
                          name_of(element.per, rate_per_names), size_text(element.burst));
            break;
        case Type::limit_bytes:
            out += format(" {}{}", size_text(element.bytes), element.direction ? "" : " each way");
            break;
        case Type::lua:
            out += " " + printable(element.script);
            if (element.memory != usual.memory)
                out += format(", memory {}", size_text(element.memory));
            if (element.instructions != usual.instructions)
                out += format(", {} instructions", element.instructions);
            break;
    }
    if ((element.type == Type::match || element.type == Type::replace) &&
        element.hold != usual.hold)
        out += format(", holds for {}", to_text(element.hold));
}

}  // namespace

std::string describe(const Element& element) {
    const auto type = name_of(element.type, element_type_names);
    auto out = element.name == type ? std::string(type) : format("{}: {}", element.name, type);
    say_work(element, out);
    if (element.head != 0) out += format(", the first {}", size_text(element.head));
    if (element.direction) out += format(", {} only", name_of(element.direction, direction_names));
    if (element.on_error == OnError::close) out += ", close on error";
    return out;
}

std::string describe(const Cache& cache) {
    const Cache usual;
    auto out = format("answers for {}, {} in all", to_text(cache.ttl), size_text(cache.max_size));
    if (!cache.delimiter.empty()) out += format("; requests end with {}", quoted(cache.delimiter));
    if (cache.max_request != usual.max_request)
        out += format("; requests of at most {}", size_text(cache.max_request));
    if (cache.max_response != usual.max_response)
        out += format("; answers of at most {}", size_text(cache.max_response));
    if (cache.request_timeout != usual.request_timeout)
        out += format("; requests within {}", to_text(cache.request_timeout));
    return out;
}

}  // namespace proxify::config
