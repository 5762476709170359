// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <ctime>

#include "base/format.h"
#include "telemetry/log.h"

namespace proxify::telemetry {

namespace {

struct Moment {
    std::tm calendar{};
    int milliseconds = 0;
};

Moment split(WallTime time, bool utc) {
    auto since = time.time_since_epoch();
    auto seconds = std::chrono::floor<std::chrono::seconds>(since);
    std::time_t clock = seconds.count();
    Moment moment;
    utc ? gmtime_r(&clock, &moment.calendar) : localtime_r(&clock, &moment.calendar);
    moment.milliseconds =
        static_cast<int>(std::chrono::floor<std::chrono::milliseconds>(since - seconds).count());
    return moment;
}

std::string clock_text(WallTime time) {
    auto [calendar, milliseconds] = split(time, false);
    return format("{:02}:{:02}:{:02}.{:03}", calendar.tm_hour, calendar.tm_min, calendar.tm_sec,
                  milliseconds);
}

/// RFC 3339 in UTC.
std::string timestamp(WallTime time) {
    auto [calendar, milliseconds] = split(time, true);
    return format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", calendar.tm_year + 1900,
                  calendar.tm_mon + 1, calendar.tm_mday, calendar.tm_hour, calendar.tm_min,
                  calendar.tm_sec, milliseconds);
}

const char* word(Level level) {
    switch (level) {
        case Level::debug:
            return "debug";
        case Level::info:
            return "info";
        case Level::warn:
            return "warn";
        case Level::error:
            return "error";
        case Level::off:
            break;
    }
    return "off";
}

/// How many bytes the character of UTF-8 that `text` begins with has (RFC 3629, section 4); 0 when
/// it begins with none.
size_t character_size(std::string_view text) {
    auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = at(0);
    if (first < 0x80) return 1;
    const size_t size = first < 0xc2   ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
    if (size == 0 || text.size() < size) return 0;
    for (size_t i = 1; i < size; ++i)
        if ((at(i) & 0xc0) != 0x80) return 0;
    const unsigned char second = at(1);
    const bool is_too_long = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
    const bool is_surrogate = first == 0xed && second >= 0xa0;
    const bool is_beyond = first == 0xf4 && second >= 0x90;
    return is_too_long || is_surrogate || is_beyond ? 0 : size;
}

/// A JSON string (RFC 8259, section 7) with its quotes. A byte that is no UTF-8 becomes U+FFFD, so
/// that the line can be read whatever others have sent.
std::string quoted(std::string_view text) {
    std::string out = "\"";
    while (!text.empty()) {
        const auto c = static_cast<unsigned char>(text[0]);
        const size_t size = character_size(text);
        if (c == '"' || c == '\\')
            (out += '\\') += text[0];
        else if (c < 0x20 || c == 0x7f)
            out += format("\\u{:04x}", c);
        else if (size == 0)
            out += "\\ufffd";
        else
            out += text.substr(0, size);
        text.remove_prefix(std::max<size_t>(size, 1));
    }
    return out += '"';
}

/// What others have named, a process or a container, is no command for a terminal and no line of
/// its own. Some commands are characters of two bytes, U+0080 to U+009F, or one such byte.
std::string on_one_line(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const auto c = static_cast<unsigned char>(text[0]);
        const size_t size = character_size(text);
        const bool is_command =
            c < 0x20 || c == 0x7f ||
            (size == 2 && c == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0);
        if (size == 0 || is_command)
            out += '?';
        else
            out += text.substr(0, size);
        text.remove_prefix(std::max<size_t>(size, 1));
    }
    return out;
}

std::string size_text(uint64_t bytes) {
    if (bytes < 1024) return format("{}B", bytes);
    double size = static_cast<double>(bytes);
    const char* unit = "";
    for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
        if (size < 1024) break;
        size /= 1024;
        unit = next;
    }
    return format("{:.1f}{}", size, unit);
}

std::string duration_text(Duration duration) {
    double seconds = std::chrono::duration<double>(duration).count();
    return seconds < 1 ? format("{:.1f}ms", seconds * 1e3) : format("{:.2f}s", seconds);
}

std::string reason_text(const Ending& ending) {
    if (ending.error == 0) return ending.reason;
    return format("{}: {}", ending.reason, std::strerror(ending.error));
}

}  // namespace

std::string render(Format form, WallTime time, const SessionRecord& record) {
    const std::string service = record.service ? *record.service : "-";
    const std::string target = record.target ? record.target->text() : "-";
    if (form == Format::json) {
        auto in_ms = [](Duration duration) {
            return std::chrono::duration<double, std::milli>(duration).count();
        };
        return format(
            R"({{"time":{},"level":"info","event":"session","id":{},"service":{},"client":{}{},)"
            R"("original_dst":{}{}{},"target":{},"to_target":{},"to_client":{},"duration_ms":{:.3f},)"
            R"("queued_ms":{:.3f},"tried":{}{},"ending":{},"reason":{}{}}})",
            quoted(timestamp(time)), record.id, quoted(service), quoted(record.client.text()),
            record.via ? format(R"(,"via":{})", quoted(record.via->text())) : "",
            quoted(record.original_dst.text()),
            record.door.empty() ? "" : format(R"(,"door":{})", quoted(record.door)),
            !*record.tls
                ? ""
                : format(R"(,"tls":{},"identity":{})", quoted(record.tls), quoted(record.identity)),
            quoted(target), record.to_target, record.to_client, in_ms(record.duration),
            in_ms(record.queued), record.tried,
            *record.cache ? format(R"(,"cache":{})", quoted(record.cache)) : "",
            quoted(record.ending.letters()), quoted(reason_text(record.ending)),
            (record.element.empty() ? "" : format(R"(,"element":{})", quoted(record.element))) +
                (record.detail.empty() ? "" : format(R"(,"detail":{})", quoted(record.detail))));
    }
    return format(
        "{} info  session {} service={} client={}{} original_dst={}{}{} target={} to_target={} "
        "to_client={} duration={}{} tried={}{} ending={} {}{}",
        clock_text(time), record.id, service, record.client.text(),
        record.via ? " via=" + record.via->text() : "", record.original_dst.text(),
        record.door.empty() ? "" : format(" door={}", record.door),
        (*record.tls ? format(" tls={}", record.tls) : "") +
            (record.identity.empty() ? "" : format(" identity={}", on_one_line(record.identity))),
        target, size_text(record.to_target), size_text(record.to_client),
        duration_text(record.duration),
        record.queued > 0s ? " queued=" + duration_text(record.queued) : "", record.tried,
        *record.cache ? format(" cache={}", record.cache) : "", record.ending.letters(),
        reason_text(record.ending),
        (record.element.empty() ? "" : format(": {}", record.element)) +
            (record.detail.empty() ? "" : format(": {}", on_one_line(record.detail))));
}

std::string render(Format form, WallTime time, const Happening& happening) {
    if (form == Format::text)
        return format("{} {:<5} {}", clock_text(time), word(happening.level),
                      on_one_line(happening.message));
    std::string out =
        format(R"({{"time":{},"level":"{}","event":"{}","message":{})", quoted(timestamp(time)),
               word(happening.level), happening.event, quoted(happening.message));
    for (const auto& [key, value] : happening.fields)
        out += format(",\"{}\":{}", key, quoted(value));
    return out += '}';
}

}  // namespace proxify::telemetry
