// SPDX-License-Identifier: Apache-2.0
#include "metrics/page.h"

#include <chrono>

#include "base/format.h"

namespace proxify::metrics {

std::string_view to_text(Type type) {
    switch (type) {
        case Type::counter:
            return "counter";
        case Type::gauge:
            return "gauge";
        case Type::histogram:
            return "histogram";
        case Type::summary:
            return "summary";
    }
    return "untyped";
}

std::string label(std::string_view name, std::string_view value) {
    std::string text(name);
    text += "=\"";
    for (char c : value) {
        if (c == '\\' || c == '"') text += '\\';
        if (c == '\n')
            text += "\\n";
        else
            text += c;
    }
    return text + '"';
}

void Page::begin(std::string_view name, Type type, std::string_view help) {
    name_ = name;
    heading_ = format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, to_text(type));
}

void Page::add(std::string_view labels, uint64_t value) {
    write("", labels, format("{}", value));
}

void Page::add_seconds(std::string_view labels, double value) {
    write("", labels, format("{}", value));
}

void Page::add_histogram(std::string_view labels, const stats::Histogram& histogram) {
    const auto counts = histogram.counts();
    const auto bounds = histogram.bounds();
    const std::string before = labels.empty() ? "" : format("{},", labels);
    uint64_t so_far = 0;
    for (size_t i = 0; i < bounds.size(); ++i) {
        const std::chrono::duration<double> bound = bounds[i];
        so_far += counts[i];
        write("_bucket", format("{}le=\"{}\"", before, bound.count()), format("{}", so_far));
    }
    const std::string all = format("{}", so_far + counts.back());
    write("_bucket", format("{}le=\"+Inf\"", before), all);
    write("_sum", labels, format("{}", histogram.seconds()));
    write("_count", labels, all);
}

void Page::add_summary(std::string_view labels, const stats::Timing& timing) {
    write("_sum", labels, format("{}", timing.sum.seconds()));
    write("_count", labels, format("{}", timing.count.value()));
}

void Page::write(std::string_view suffix, std::string_view labels, std::string_view value) {
    text_ += heading_;
    heading_.clear();
    text_ += name_;
    text_ += suffix;
    if (!labels.empty()) format_to(std::back_inserter(text_), "{{{}}}", labels);
    text_ += ' ';
    text_ += value;
    text_ += '\n';
}

}  // namespace proxify::metrics
