// SPDX-License-Identifier: Apache-2.0
// The tables of `proxify top`: what a running proxify says of itself, as rows that can be sorted,
// searched and cut to size. Pure.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "report/report.h"
#include "screen/line.h"

namespace proxify::cli {

/// What only ever grows, of one service, target or session.
struct Counts {
    uint64_t begun = 0, failed = 0, to_target = 0, to_client = 0;
};

/// The counts of all rows at one moment.
struct Sample {
    Time at{};
    std::unordered_map<std::string, Counts> counts;  ///< by a row's key
};

/// Per second, between two samples; nothing where one is not to be had, or where what was counted
/// began anew.
struct Rates {
    std::optional<double> begun, failed, to_target, to_client;
};
Rates rates_between(const Sample& before, const Sample& after, const std::string& key);

struct Column {
    std::string_view title;
    bool is_right = false;  ///< numbers, whose largest come first when they are sorted
    size_t width_min = 1;   ///< so that a column does not jump about with what is in it
    /// When there is too little room: the higher, the sooner it goes; 0 stays.
    int spare = 0;
    bool shrinks = false;  ///< may be cut in its middle, down to width_min
};

struct Cell {
    std::string text;
    /// What it is sorted by, when that is not the text. NaN is for what is unknown.
    std::optional<double> number = {};
    screen::Role role = screen::Role::plain;
};

struct Row {
    std::string key;    ///< "web", "web/127.0.0.1:9001", "17": tells it from the others
    std::string words;  ///< in small letters; a filter looks here
    std::vector<Cell> cells;
    std::string detail;  ///< a line with what the cells have no room for
    // What the operator can do with it:
    std::string service, target, name;
    uint64_t session = 0, sessions = 0;
};

std::span<const Column> service_columns();
std::span<const Column> target_columns();
std::span<const Column> session_columns();

Sample sample_of(const report::Services& services, Time at);
Sample sample_of(const report::Targets& targets, Time at);
Sample sample_of(const report::Sessions& sessions, Time at);

std::vector<Row> rows_of(const report::Services& services, const Sample& before,
                         const Sample& after);
/// `wall` in seconds since 1970, for how long ago something was.
std::vector<Row> rows_of(const report::Targets& targets, const Sample& before, const Sample& after,
                         double wall);
std::vector<Row> rows_of(const report::Sessions& sessions, const Sample& before,
                         const Sample& after);

/// Whether a comes before b: numbers in a text count as numbers, so that :902 is before :9001.
bool is_before(std::string_view a, std::string_view b);
/// "0", "0.4", "17", "1.2k", "34k": at most four characters
std::string short_rate(double per_second);
std::string small_letters(std::string_view text);

}  // namespace proxify::cli
