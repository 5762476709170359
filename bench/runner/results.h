// SPDX-License-Identifier: Apache-2.0
// Results: every figure that was measured, by row (a work of a certain size), subject and metric.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace proxify::bench {

/// A kind of figure. Its unit is part of its title; `decimals` are for people.
struct Metric {
    std::string id;
    std::string title;
    bool more_is_better = false;
    double scale = 1;  ///< for people: what is shown is the value times this
    int decimals = 1;
};

/// Rows of one group have the same metrics, and one picture.
struct Group {
    std::string id;
    std::string title;
    std::vector<Metric> metrics;
    /// It is about proxify alone: rows are compared with each other, not programs.
    bool compares_rows = false;
};

struct Row {
    std::string id;  ///< "ping-64-1000"; the unpinned set begins with "free-"
    std::string group;
    std::string title;
    bool pinned = true;
    std::string base = {};  ///< row that this one is compared with, if its group compares rows
};

struct Figure {
    double median = 0;
    double low = 0;
    double high = 0;
    /// Half the way from lowest to highest, as a share of the median.
    double spread() const { return median == 0 ? 0 : (high - low) / 2 / median; }
};

const std::vector<Group>& all_groups();
const Group& group(const std::string& id);

class Results {
  public:
    void add(const Row& row, const std::string& subject, const std::string& metric, double value);
    /// Said in place of, or beside, the figures of a cell.
    void note(const Row& row, const std::string& subject, const std::string& text);

    std::optional<Figure> find(const std::string& row, const std::string& subject,
                               const std::string& metric) const;
    const std::vector<double>* samples(const std::string& row, const std::string& subject,
                                       const std::string& metric) const;
    std::string note_of(const std::string& row, const std::string& subject) const;
    /// In the order in which they were first measured.
    const std::vector<Row>& rows() const { return rows_; }
    const Row* find_row(const std::string& id) const;

    /// The best of the peers (everything but proxify and direct).
    struct Best {
        std::string subject;
        Figure figure;
    };
    std::optional<Best> best_peer(const std::string& row, const Metric& metric) const;

  private:
    void know(const Row& row);

    struct Cell {
        std::map<std::string, std::vector<double>> samples;
        std::string note;
    };
    std::vector<Row> rows_;
    std::map<std::string, std::map<std::string, Cell>> cells_;
};

}  // namespace proxify::bench
