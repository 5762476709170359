// SPDX-License-Identifier: Apache-2.0
// Aligned text for eyes: columns as wide as they must be, numbers to the right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace proxify::cli {

class Table {
  public:
    /// Column titles; one that begins with '>' has its column aligned to the right.
    explicit Table(std::vector<std::string> titles) : titles_(std::move(titles)) {}
    /// As many cells as there are titles.
    void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    bool empty() const { return rows_.empty(); }
    std::string text() const;

  private:
    std::vector<std::string> titles_;
    std::vector<std::vector<std::string>> rows_;
};

/// Lines of "label  value".
std::string labelled(const std::vector<std::pair<std::string, std::string>>& lines);

/// "0.2ms", "12s", "4m", "3h", "5d": two digits or so.
std::string short_time(double seconds);
std::string short_time(std::optional<double> seconds);
/// "512 B", "1.5 kB", "20 MB"
std::string short_bytes(uint64_t bytes);

}  // namespace proxify::cli
