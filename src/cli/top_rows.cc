// SPDX-License-Identifier: Apache-2.0
#include "cli/top_rows.h"

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "cli/table.h"

namespace proxify::cli {

using screen::Role;
using screen::shown;

namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

constexpr Column services_shown[] = {
    {.title = "SERVICE", .width_min = 16, .shrinks = true},
    {.title = "STATE", .width_min = 5},
    {.title = "UP", .is_right = true, .width_min = 5},
    {.title = "SESSIONS", .is_right = true, .width_min = 8},
    {.title = "WAITING", .is_right = true, .width_min = 7, .spare = 6},
    {.title = "NEW/S", .is_right = true, .width_min = 5, .spare = 1},
    {.title = "FAIL/S", .is_right = true, .width_min = 6, .spare = 2},
    {.title = "P50", .is_right = true, .width_min = 5, .spare = 8},
    {.title = "P99", .is_right = true, .width_min = 5, .spare = 5},
    {.title = "IN/S", .is_right = true, .width_min = 6, .spare = 4},
    {.title = "OUT/S", .is_right = true, .width_min = 6, .spare = 3},
    {.title = "SO FAR", .is_right = true, .width_min = 6, .spare = 9},
    {.title = "PORTS", .width_min = 8, .spare = 10, .shrinks = true},
};

constexpr Column targets_shown[] = {
    {.title = "TARGET", .width_min = 15, .shrinks = true},
    {.title = "STATE", .width_min = 7},
    {.title = "FOR", .is_right = true, .width_min = 4, .spare = 6},
    {.title = "WEIGHT", .is_right = true, .width_min = 6, .spare = 7},
    {.title = "SESSIONS", .is_right = true, .width_min = 8},
    {.title = "NEW/S", .is_right = true, .width_min = 5, .spare = 1},
    {.title = "FAIL/S", .is_right = true, .width_min = 6, .spare = 2},
    {.title = "CONNECT", .is_right = true, .width_min = 7, .spare = 5},
    {.title = "IN/S", .is_right = true, .width_min = 6, .spare = 4},
    {.title = "OUT/S", .is_right = true, .width_min = 6, .spare = 3},
    {.title = "SO FAR", .is_right = true, .width_min = 6, .spare = 9},
    {.title = "WHY", .width_min = 12, .spare = 10, .shrinks = true},
};

constexpr Column sessions_shown[] = {
    {.title = "SESSION", .is_right = true, .width_min = 7},
    {.title = "CLIENT", .width_min = 21, .shrinks = true},
    {.title = "DIALLED", .width_min = 12, .spare = 8, .shrinks = true},
    {.title = "TARGET", .width_min = 14, .spare = 3, .shrinks = true},
    {.title = "STATE", .width_min = 5, .spare = 4},
    {.title = "AGE", .is_right = true, .width_min = 5},
    {.title = "IN", .is_right = true, .width_min = 6, .spare = 6},
    {.title = "OUT", .is_right = true, .width_min = 6, .spare = 5},
    {.title = "IN/S", .is_right = true, .width_min = 6, .spare = 2},
    {.title = "OUT/S", .is_right = true, .width_min = 6, .spare = 1},
};

Cell text_cell(const std::string& text) {
    return {.text = text.empty() ? "-" : shown(text)};
}

Cell number_cell(double number, std::string text) {
    return {.text = std::move(text), .number = number};
}

Cell count_cell(uint64_t count) {
    return number_cell(static_cast<double>(count), format("{}", count));
}

/// With how many there may be.
Cell filled_cell(uint64_t count, uint64_t max) {
    Cell cell = count_cell(count);
    if (max == 0) return cell;
    cell.text = format("{}/{}", count, max);
    if (count >= max) cell.role = Role::caution;
    return cell;
}

Cell rate_cell(std::optional<double> rate) {
    return rate ? number_cell(*rate, short_rate(*rate)) : number_cell(unknown, "-");
}

/// Of what is better not to be there.
Cell bad_rate_cell(std::optional<double> rate) {
    Cell cell = rate_cell(rate);
    if (rate && *rate > 0) cell.role = Role::bad;
    return cell;
}

Cell bytes_cell(std::optional<double> bytes) {
    return bytes ? number_cell(*bytes, short_bytes(static_cast<uint64_t>(std::llround(*bytes))))
                 : number_cell(unknown, "-");
}

Cell bytes_cell(uint64_t bytes) {
    return bytes_cell(std::optional<double>(static_cast<double>(bytes)));
}

Cell time_cell(std::optional<double> seconds) {
    return number_cell(seconds.value_or(unknown), short_time(seconds));
}

Cell state_cell(const std::string& state) {
    Cell cell = text_cell(state);
    if (state == "up" || state == "open") cell.role = Role::good;
    if (state == "down") cell.role = Role::bad;
    for (const char* uneasy : {"panic", "ejected", "drained", "left", "waiting", "connecting"})
        if (state == uneasy) cell.role = Role::caution;
    return cell;
}

std::string joined(const std::vector<std::string>& words, std::string_view between) {
    std::string out;
    for (const auto& word : words) {
        if (!out.empty()) out += between;
        out += shown(word);
    }
    return out;
}

void add_part(std::string& sentence, const std::string& part) {
    if (!part.empty()) sentence += (sentence.empty() ? "" : ", ") + part;
}

/// A filter finds a row by what is written in its texts, and not by its numbers.
void set_words(Row& row, const std::vector<std::string>& words) {
    for (const auto& word : words) row.words += small_letters(shown(word)) + "\n";
}

std::string key_of(const report::Service& service) {
    return service.name;
}
std::string key_of(const report::Target& target) {
    return target.service + "/" + target.address;
}
std::string key_of(const report::Session& session) {
    return format("{}", session.id);
}

}  // namespace

std::span<const Column> service_columns() {
    return services_shown;
}
std::span<const Column> target_columns() {
    return targets_shown;
}
std::span<const Column> session_columns() {
    return sessions_shown;
}

// ---- rates

Sample sample_of(const report::Services& services, Time at) {
    Sample out{.at = at, .counts = {}};
    for (const auto& one : services.services)
        out.counts[key_of(one)] = {one.sessions_so_far, one.failures_so_far, one.bytes_to_target,
                                   one.bytes_to_client};
    return out;
}

Sample sample_of(const report::Targets& targets, Time at) {
    Sample out{.at = at, .counts = {}};
    for (const auto& one : targets.targets)
        out.counts[key_of(one)] = {one.sessions_so_far, one.failed_connects, one.bytes_to_target,
                                   one.bytes_to_client};
    return out;
}

Sample sample_of(const report::Sessions& sessions, Time at) {
    Sample out{.at = at, .counts = {}};
    for (const auto& one : sessions.sessions)
        out.counts[key_of(one)] = {0, 0, one.to_target, one.to_client};
    return out;
}

Rates rates_between(const Sample& before, const Sample& after, const std::string& key) {
    auto was = before.counts.find(key), is = after.counts.find(key);
    const double seconds = std::chrono::duration<double>(after.at - before.at).count();
    if (was == before.counts.end() || is == after.counts.end() || seconds <= 0) return {};
    auto rate = [&](uint64_t Counts::* count) -> std::optional<double> {
        const uint64_t from = was->second.*count, to = is->second.*count;
        if (to < from) return {};
        return static_cast<double>(to - from) / seconds;
    };
    return {rate(&Counts::begun), rate(&Counts::failed), rate(&Counts::to_target),
            rate(&Counts::to_client)};
}

// ---- rows

std::vector<Row> rows_of(const report::Services& services, const Sample& before,
                         const Sample& after) {
    std::vector<Row> out;
    for (const auto& one : services.services) {
        const auto rates = rates_between(before, after, key_of(one));
        auto ports = one.ports;
        if (one.is_default) ports.push_back("default");
        Row& row = out.emplace_back();
        row.key = key_of(one);
        row.name = row.service = one.name;
        row.sessions = one.sessions;
        Cell up = number_cell(static_cast<double>(one.targets_up),
                              format("{}/{}", one.targets_up, one.targets));
        if (one.targets_up < one.targets) up.role = one.targets_up ? Role::caution : Role::bad;
        Cell waiting = count_cell(one.waiting);
        if (one.waiting) waiting.role = Role::caution;
        row.cells = {text_cell(one.name),
                     state_cell(one.state),
                     up,
                     filled_cell(one.sessions, one.sessions_max),
                     waiting,
                     rate_cell(rates.begun),
                     bad_rate_cell(rates.failed),
                     time_cell(one.connect_p50),
                     time_cell(one.connect_p99),
                     bytes_cell(rates.to_target),
                     bytes_cell(rates.to_client),
                     count_cell(one.sessions_so_far),
                     text_cell(joined(ports, ","))};

        row.detail = shown(one.name) + ": ";
        std::string facts;
        if (one.state == "panic") facts = "so few targets are up that all get sessions";
        if (one.state == "down") facts = "down, clients: " + shown(one.when_down);
        add_part(facts, ports.empty() ? "" : "ports " + joined(ports, " "));
        add_part(facts, one.addresses.empty() ? "" : "at " + joined(one.addresses, " "));
        add_part(facts, shown(one.balance));
        if (one.waiting) add_part(facts, format("{} waiting", one.waiting));
        if (one.connect_p50)
            add_part(facts, format("connects p50 {}, p99 {}", short_time(one.connect_p50),
                                   short_time(one.connect_p99)));
        row.detail += facts;
        set_words(row, {one.name, one.state, joined(ports, "\n"), joined(one.addresses, "\n")});
    }
    return out;
}

std::vector<Row> rows_of(const report::Targets& targets, const Sample& before, const Sample& after,
                         double wall) {
    std::vector<Row> out;
    for (const auto& one : targets.targets) {
        const auto rates = rates_between(before, after, key_of(one));
        std::optional<double> since;
        if (one.since) since = std::max(0.0, wall - *one.since);
        Row& row = out.emplace_back();
        row.key = key_of(one);
        row.name = row.target = one.address;
        row.service = one.service;
        row.sessions = one.sessions;
        Cell weight = count_cell(one.weight);
        if (one.weight_of_file) weight.role = Role::caution;
        std::string why;
        if (one.is_backup) why = "backup";
        if (one.priority != 0) add_part(why, format("priority {}", one.priority));
        add_part(why, shown(one.reason));
        Cell reason = text_cell(why);
        if (why.empty()) reason.text.clear();
        row.cells = {text_cell(one.address),
                     state_cell(one.state),
                     time_cell(since),
                     weight,
                     filled_cell(one.sessions, one.sessions_max),
                     rate_cell(rates.begun),
                     bad_rate_cell(rates.failed),
                     time_cell(one.connect_mean),
                     bytes_cell(rates.to_target),
                     bytes_cell(rates.to_client),
                     count_cell(one.sessions_so_far),
                     reason};

        row.detail = format("{}: {}", shown(one.address), shown(one.state));
        if (since) row.detail += format(" for {}", short_time(*since));
        add_part(row.detail, why);
        if (one.weight_of_file)
            add_part(row.detail,
                     format("weight {}, {} in the file", one.weight, *one.weight_of_file));
        else if (one.weight != 1)
            add_part(row.detail, format("weight {}", one.weight));
        if (one.failed_connects)
            add_part(row.detail, format("{} failed connects so far", one.failed_connects));
        if (!one.written.empty() && !one.address.starts_with(one.written) &&
            !one.address.starts_with("[" + one.written))
            add_part(row.detail, shown(one.written) + " in the file");
        set_words(row, {one.address, one.written, one.state, why});
    }
    return out;
}

std::vector<Row> rows_of(const report::Sessions& sessions, const Sample& before,
                         const Sample& after) {
    std::vector<Row> out;
    for (const auto& one : sessions.sessions) {
        const auto rates = rates_between(before, after, key_of(one));
        Row& row = out.emplace_back();
        row.key = key_of(one);
        row.name = one.client;
        row.service = one.service;
        row.target = one.target;
        row.session = one.id;
        row.cells = {count_cell(one.id),          text_cell(one.client),
                     text_cell(one.original_dst), text_cell(one.target),
                     state_cell(one.state),       time_cell(one.age),
                     bytes_cell(one.to_target),   bytes_cell(one.to_client),
                     bytes_cell(rates.to_target), bytes_cell(rates.to_client)};
        row.detail = format("session {}: {} dialled {}, {}", one.id, shown(one.client),
                            shown(one.original_dst), shown(one.state));
        if (!one.target.empty()) row.detail += " to " + shown(one.target);
        row.detail += format(", worker {}", one.worker);
        set_words(row, {one.service, one.client, one.original_dst, one.target, one.state});
    }
    return out;
}

// ---- texts

bool is_before(std::string_view a, std::string_view b) {
    auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    size_t i = 0, j = 0;
    while (i < a.size() && j < b.size()) {
        if (!is_digit(a[i]) || !is_digit(b[j])) {
            if (a[i] != b[j])
                return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
            ++i, ++j;
            continue;
        }
        while (i < a.size() && a[i] == '0') ++i;
        while (j < b.size() && b[j] == '0') ++j;
        size_t a_end = i, b_end = j;
        while (a_end < a.size() && is_digit(a[a_end])) ++a_end;
        while (b_end < b.size() && is_digit(b[b_end])) ++b_end;
        if (a_end - i != b_end - j) return a_end - i < b_end - j;
        if (int order = a.substr(i, a_end - i).compare(b.substr(j, b_end - j))) return order < 0;
        i = a_end, j = b_end;
    }
    return a.size() - i < b.size() - j;
}

std::string short_rate(double per_second) {
    static constexpr const char* units[] = {"", "k", "M", "G", "T"};
    if (per_second < 0.05) return per_second > 0 ? "<0.1" : "0";
    size_t unit = 0;
    while (per_second >= 999.5 && unit + 1 < std::size(units)) {
        per_second /= 1000;
        ++unit;
    }
    return per_second < 9.95 ? format("{:.1f}{}", per_second, units[unit])
                             : format("{:.0f}{}", per_second, units[unit]);
}

std::string small_letters(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return out;
}

}  // namespace proxify::cli
