// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <algorithm>

#include "base/format.h"

namespace proxify::cli {

/// In letters; of UTF-8 each has one byte that is not 10xxxxxx.
static size_t width_of(const std::string& text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

static std::string join(const std::vector<std::string>& cells, const std::vector<size_t>& widths,
                        const std::vector<bool>& right) {
    std::string out;
    for (size_t i = 0; i < cells.size(); ++i) {
        const std::string blanks(widths[i] - width_of(cells[i]), ' ');
        out += (right[i] ? blanks + cells[i] : cells[i] + blanks) + "  ";
    }
    return out.substr(0, out.find_last_not_of(' ') + 1) + "\n";
}

std::string Table::text() const {
    std::vector<std::string> titles = titles_;
    std::vector<bool> right;
    std::vector<size_t> widths;
    for (auto& title : titles) {
        right.push_back(title.starts_with('>'));
        if (right.back()) title.erase(0, 1);
        widths.push_back(width_of(title));
    }
    for (const auto& row : rows_)
        for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
    std::string out = join(titles, widths, right);
    for (const auto& row : rows_) out += join(row, widths, right);
    return out;
}

std::string labelled(const std::vector<std::pair<std::string, std::string>>& lines) {
    size_t width = 0;
    for (const auto& [label, value] : lines) width = std::max(width, label.size());
    std::string out;
    for (const auto& [label, value] : lines) out += format("{:<{}}  {}\n", label, width, value);
    return out;
}

std::string short_time(double seconds) {
    const double ms = seconds * 1000;
    if (ms < 9.95) return format("{:.1f}ms", ms);
    if (ms < 999.5) return format("{:.0f}ms", ms);
    if (seconds < 9.95) return format("{:.1f}s", seconds);
    if (seconds < 120) return format("{:.0f}s", seconds);
    if (seconds < 7200) return format("{:.0f}m", seconds / 60);
    if (seconds < 172800) return format("{:.0f}h", seconds / 3600);
    return format("{:.0f}d", seconds / 86400);
}

std::string short_time(std::optional<double> seconds) {
    return seconds ? short_time(*seconds) : "-";
}

std::string short_bytes(uint64_t bytes) {
    static constexpr const char* units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    auto value = static_cast<double>(bytes);
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < std::size(units)) {
        value /= 1000;
        ++unit;
    }
    return value < 9.95 && unit > 0 ? format("{:.1f} {}", value, units[unit])
                                    : format("{:.0f} {}", value, units[unit]);
}

}  // namespace proxify::cli
