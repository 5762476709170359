// SPDX-License-Identifier: Apache-2.0
// Page: what a Prometheus server reads, in its text format 0.0.4, line by line.
//
//     # HELP proxify_sessions_total Sessions that began.
//     # TYPE proxify_sessions_total counter
//     proxify_sessions_total{service="web"} 27
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "stats/histogram.h"

namespace proxify::metrics {

enum class Type { counter, gauge, histogram, summary };
std::string_view to_text(Type type);

/// One label, `service="web"`, whatever the value is made of. Join several with commas.
std::string label(std::string_view name, std::string_view value);

class Page {
  public:
    /// Samples that follow belong to this metric. What has no sample does not show.
    void begin(std::string_view name, Type type, std::string_view help);

    // `labels` as label() makes them, or nothing.

    void add(std::string_view labels, uint64_t value);
    void add_seconds(std::string_view labels, double value);
    void add_histogram(std::string_view labels, const stats::Histogram& histogram);
    /// A summary of no quantiles: how many, and how long together.
    void add_summary(std::string_view labels, const stats::Timing& timing);

    std::string take() { return std::move(text_); }

  private:
    void write(std::string_view suffix, std::string_view labels, std::string_view value);

    std::string text_;
    std::string_view name_;
    std::string heading_;  ///< until the first sample
};

}  // namespace proxify::metrics
