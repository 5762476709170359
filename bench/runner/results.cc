// SPDX-License-Identifier: Apache-2.0
#include "runner/results.h"

#include <algorithm>

#include "base/expect.h"
#include "runner/subject.h"

namespace proxify::bench {

const std::vector<Group>& all_groups() {
    static const std::vector<Group> all = {
        {"ping",
         "Ping-pong: a message there and back, then the next",
         {{"rate", "exchanges, thousands/s", true, 1e-3, 1},
          {"cpu", "proxy CPU for each exchange, µs", false, 1e6, 2},
          {"p50", "p50 latency, µs", false, 1, 0},
          {"p99", "p99 latency, µs", false, 1, 0},
          {"p999", "p99.9 latency, µs", false, 1, 0}}},
        {"connect",
         "Connect, exchange one message, close",
         {{"rate", "connections, thousands/s", true, 1e-3, 2},
          {"cpu", "proxy CPU for each connection, µs", false, 1e6, 1},
          {"p50", "p50 latency, µs", false, 1, 0},
          {"p99", "p99 latency, µs", false, 1, 0}}},
        {"bulk",
         "Bulk: as many bytes as go",
         {{"gbit", "Gbit per second", true, 1, 1},
          {"cpu", "proxy CPU seconds for each GB", false, 1, 3}}},
        {"tls-handshake",
         "TLS: connect, handshake, exchange one message, close; 50 at a time",
         {{"rate", "handshakes, thousands/s", true, 1e-3, 2},
          {"cpu", "proxy CPU for each connection, µs", false, 1e6, 1},
          {"p50", "p50 latency, µs", false, 1, 0},
          {"p99", "p99 latency, µs", false, 1, 0}}},
        {"tls-ping",
         "TLS: a message there and back, then the next",
         {{"rate", "exchanges, thousands/s", true, 1e-3, 1},
          {"cpu", "proxy CPU for each exchange, µs", false, 1e6, 2},
          {"p50", "p50 latency, µs", false, 1, 0},
          {"p99", "p99 latency, µs", false, 1, 0}}},
        {"tls-bulk",
         "TLS: as many bytes as go",
         {{"gbit", "Gbit per second", true, 1, 2},
          {"cpu", "proxy CPU seconds for each GB", false, 1, 3}}},
        {"copy",
         "Bulk through a filter that must see every byte",
         {{"gbit", "Gbit per second", true, 1, 1},
          {"cpu", "proxy CPU seconds for each GB", false, 1, 3}}},
        {"idle",
         "Idle connections",
         {{"user", "user memory for each connection, KB", false, 1e-3, 2},
          {"kernel", "kernel memory for each connection, KB", false, 1e-3, 2},
          {"cpu", "CPU while idle, percent of a core", false, 100, 2}}},
        {"listed",
         "Ping-pong, 64 B, 50 connections beside 9000 idle ones, while an operator has all listed",
         {{"rate", "exchanges, thousands/s", true, 1e-3, 1},
          {"p50_us", "p50 latency, µs", false, 1, 0},
          {"p99_us", "p99 latency, µs", false, 1, 0},
          {"p999_us", "p99.9 latency, µs", false, 1, 0}}},
        {"ports",
         "Ports configured",
         {{"start", "start until the last port answers, seconds", false, 1, 3},
          {"memory", "user memory, MB", false, 1e-6, 1},
          {"fds", "open descriptors", false, 1, 0},
          {"listening", "listening sockets", false, 1, 0},
          {"connect", "p50 of connect, µs", false, 1, 1}}},
        {"reload",
         "Reload under load: 10 000 ports added and removed again and again",
         {{"failed", "failed connections", false, 1, 0},
          {"effect", "time to take effect, ms", false, 1e3, 1},
          {"effect_max", "longest time to take effect, ms", false, 1e3, 1},
          {"worst", "worst latency of a client, ms", false, 1e-3, 1},
          {"rate", "live connections, thousands/s", true, 1e-3, 1}}},
        {"doors",
         "Doors of proxify: connect, exchange one message, close; beside the listener",
         {{"rate", "thousands/s", true, 1e-3, 2},
          {"cpu", "proxify's CPU, µs", false, 1e6, 1},
          {"all", "CPU of all, µs", false, 1e6, 1},
          {"p50", "p50, µs", false, 1, 0}},
         true},
        {"doors-ping",
         "Doors of proxify: ping-pong, 64 B, 50 connections; beside the listener",
         {{"rate", "thousands/s", true, 1e-3, 1},
          {"cpu", "proxify's CPU, µs", false, 1e6, 2},
          {"all", "CPU of all, µs", false, 1e6, 2},
          {"p50", "p50, µs", false, 1, 0}},
         true},
        {"elements-ping",
         "Elements: ping-pong, 64 B, 50 connections; beside a service that has none",
         {{"rate", "thousands/s", true, 1e-3, 1},
          {"cpu", "proxify's CPU, µs", false, 1e6, 2},
          {"p50", "p50, µs", false, 1, 0}},
         true},
        {"elements-bulk",
         "Elements: bulk, down, 4 connections; beside a service that has none",
         {{"gbit", "Gbit per second", true, 1, 1},
          {"cpu", "proxify's CPU seconds for each GiB", false, 1, 3}},
         true},
        {"elements-cache",
         "Cache: connect, ask, end, be answered, 50 at a time; beside a service that keeps nothing",
         {{"rate", "thousands/s", true, 1e-3, 2},
          {"served", "thousands for each CPU second of proxify", true, 1e-3, 2},
          {"target", "the target's CPU, µs", false, 1e6, 2},
          {"p50", "p50, µs", false, 1, 0}},
         true},
    };
    return all;
}

const Group& group(const std::string& id) {
    auto found = std::ranges::find(all_groups(), id, &Group::id);
    expect(found != all_groups().end(), "a group is named by its id");
    return *found;
}

void Results::know(const Row& row) {
    if (!find_row(row.id)) rows_.push_back(row);
}

void Results::add(const Row& row, const std::string& subject, const std::string& metric,
                  double value) {
    know(row);
    cells_[row.id][subject].samples[metric].push_back(value);
}

void Results::note(const Row& row, const std::string& subject, const std::string& text) {
    know(row);
    cells_[row.id][subject].note = text;
}

const Row* Results::find_row(const std::string& id) const {
    auto found = std::ranges::find(rows_, id, &Row::id);
    return found == rows_.end() ? nullptr : &*found;
}

const std::vector<double>* Results::samples(const std::string& row, const std::string& subject,
                                            const std::string& metric) const {
    auto in_row = cells_.find(row);
    if (in_row == cells_.end()) return nullptr;
    auto cell = in_row->second.find(subject);
    if (cell == in_row->second.end()) return nullptr;
    auto found = cell->second.samples.find(metric);
    return found == cell->second.samples.end() ? nullptr : &found->second;
}

std::optional<Figure> Results::find(const std::string& row, const std::string& subject,
                                    const std::string& metric) const {
    const auto* values = samples(row, subject, metric);
    if (!values || values->empty()) return std::nullopt;
    auto sorted = *values;
    std::ranges::sort(sorted);
    size_t middle = sorted.size() / 2;
    double median =
        sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    return Figure{.median = median, .low = sorted.front(), .high = sorted.back()};
}

std::string Results::note_of(const std::string& row, const std::string& subject) const {
    auto in_row = cells_.find(row);
    if (in_row == cells_.end()) return {};
    auto cell = in_row->second.find(subject);
    return cell == in_row->second.end() ? std::string() : cell->second.note;
}

std::optional<Results::Best> Results::best_peer(const std::string& row,
                                                const Metric& metric) const {
    std::optional<Best> best;
    for (const auto& subject : all_subjects()) {
        if (subject.program != Program::haproxy && subject.program != Program::nginx) continue;
        auto figure = find(row, subject.id, metric.id);
        if (!figure) continue;
        bool better = !best || (metric.more_is_better ? figure->median > best->figure.median
                                                      : figure->median < best->figure.median);
        if (better) best = Best{.subject = subject.id, .figure = *figure};
    }
    return best;
}

}  // namespace proxify::bench
