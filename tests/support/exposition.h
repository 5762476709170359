// SPDX-License-Identifier: Apache-2.0
// Exposition: a page of metrics in Prometheus' text format, read back by its grammar.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace proxify::test {

struct Exposition {
    struct Family {
        std::string type, help;
        /// By name and labels as they are written: `proxify_x_bucket{service="web",le="1"}`.
        std::map<std::string, double> samples;
    };
    std::map<std::string, Family> families;

    /// The value of one sample; throws when there is none.
    double at(const std::string& name_and_labels) const;
    bool has(const std::string& name_and_labels) const;
};

/// Throws, naming the line, when it is not one: each family in one piece, with HELP and TYPE before
/// its samples; names, labels and values by the grammar; no sample twice.
Exposition parse_exposition(std::string_view text);

}  // namespace proxify::test
