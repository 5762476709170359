// SPDX-License-Identifier: Apache-2.0
// Pictures: small bar charts, one for each row, side by side. A chart has its own scale, which
// begins at zero; the thin line on a bar reaches from the lowest to the highest of its samples.
#include <algorithm>

#include "base/format.h"
#include "runner/report.h"
#include "runner/subject.h"

namespace proxify::bench {

namespace {

constexpr int columns = 3;
constexpr int panel_width = 330;
constexpr int label_width = 100;
constexpr int bar_width_max = 150;
constexpr int bar_height = 15;
constexpr int bar_step = 20;
constexpr int panel_title_height = 22;
constexpr int panel_gap = 18;
constexpr int margin = 24;
constexpr int picture_width = 2 * margin + columns * panel_width;

const char* color_of(const Subject& subject) {
    if (subject.id == "direct") return "#c3c8cf";
    if (subject.id == "proxify") return "#5bb5c9";
    if (subject.id == "proxify-b") return "#0b7285";
    if (subject.id == "haproxy") return "#e8a33d";
    if (subject.id == "haproxy-splice") return "#c77d1e";
    return "#86a65a";
}

std::string escaped(const std::string& text) {
    std::string out;
    for (char c : text) {
        if (c == '<')
            out += "&lt;";
        else if (c == '>')
            out += "&gt;";
        else if (c == '&')
            out += "&amp;";
        else
            out += c;
    }
    return out;
}

std::string text_at(double x, double y, const std::string& style, const std::string& text) {
    return format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>\n", x, y, style,
                  escaped(text));
}

std::string rectangle(double x, double y, double width, double height, const std::string& color) {
    return format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x, y,
        width, height, color);
}

/// The picture around what was drawn.
std::string framed(const std::string& body, double height) {
    std::string out = format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1:.0f}\" viewBox=\"0 0 "
        "{0} {1:.0f}\">\n"
        "<!-- SPDX-License-Identifier: Apache-2.0; drawn by bench -->\n<style>\n",
        picture_width, height);
    out +=
        "text { font-family: system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif; "
        "fill: #24292f; }\n"
        ".title { font-size: 17px; font-weight: 600; }\n"
        ".about { font-size: 11.5px; fill: #656d76; }\n"
        ".metric { font-size: 13px; font-weight: 600; }\n"
        ".panel { font-size: 12px; fill: #424a53; }\n"
        ".label { font-size: 11.5px; text-anchor: end; fill: #424a53; }\n"
        ".value { font-size: 11.5px; }\n"
        ".own { font-weight: 700; }\n"
        ".none { font-size: 11.5px; fill: #8c959f; }\n"
        ".axis { stroke: #d0d7de; }\n"
        ".range { stroke: #24292f; stroke-width: 1.2; }\n</style>\n";
    out += rectangle(0, 0, picture_width, height, "#ffffff");
    return out + body + "</svg>\n";
}

std::vector<Subject> shown_subjects(const Results& results, const std::vector<Row>& rows,
                                    const Metric& metric) {
    std::vector<Subject> shown;
    for (const auto& subject : all_subjects()) {
        if (std::ranges::any_of(rows, [&](const Row& row) {
                return results.find(row.id, subject.id, metric.id) ||
                       !results.note_of(row.id, subject.id).empty();
            }))
            shown.push_back(subject);
    }
    return shown;
}

bool is_measured(const Results& results, const Row& row, const Metric& metric) {
    return std::ranges::any_of(all_subjects(), [&](const Subject& subject) {
        return results.find(row.id, subject.id, metric.id).has_value();
    });
}

std::string hint_of(const Metric& metric) {
    return metric.more_is_better ? " (more is better)" : " (less is better)";
}

std::string panel(const Results& results, const Row& row, const Metric& metric,
                  const std::vector<Subject>& subjects, const std::string& title, double x,
                  double y) {
    std::string out = text_at(x, y + 12, "panel", title);
    double top = 0;
    for (const auto& subject : subjects) {
        if (auto figure = results.find(row.id, subject.id, metric.id))
            top = std::max(top, figure->high);
    }
    double bar_x = x + label_width, bar_y = y + panel_title_height;
    out += format(
        "<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" class=\"axis\"/>\n",
        bar_x, bar_y - 2, bar_y + bar_step * static_cast<double>(subjects.size()) - 3);
    for (const auto& subject : subjects) {
        bool own = subject.program == Program::proxify;
        out += text_at(bar_x - 7, bar_y + 11.5, own ? "label own" : "label", subject.title);
        if (auto figure = results.find(row.id, subject.id, metric.id)) {
            auto along = [&](double value) {
                return top > 0 ? std::max(value, 0.0) / top * bar_width_max : 0;
            };
            out += rectangle(bar_x, bar_y, std::max(along(figure->median), 0.5), bar_height,
                             color_of(subject));
            if (figure->high > figure->low)
                out += format(
                    "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" "
                    "class=\"range\"/>\n",
                    bar_x + along(figure->low), bar_y + bar_height / 2.0,
                    bar_x + along(figure->high), bar_y + bar_height / 2.0);
            auto note = results.note_of(row.id, subject.id);
            out +=
                text_at(bar_x + along(figure->high) + 6, bar_y + 11.5, own ? "value own" : "value",
                        number_text(figure->median * metric.scale, metric.decimals) +
                            (note.empty() ? "" : " *"));
        } else {
            out += text_at(bar_x + 6, bar_y + 11.5, "none",
                           results.note_of(row.id, subject.id).empty() ? "-" : "*");
        }
        bar_y += bar_step;
    }
    return out;
}

std::string picture(const About& about, const Results& results, const Group& group,
                    const std::vector<Row>& rows) {
    std::string body;
    double y = margin + 16;
    body += text_at(margin, y, "title", group.title);
    y += 20;
    body += text_at(
        margin, y, "about",
        format("{}. Median of {}; thin line: lowest to highest. Each chart has its own scale.",
               rows.front().pinned ? "The proxy on a core of its own, load and target on another"
                                   : "Nothing pinned, a worker for each core",
               about.repetitions));
    y += 22;
    std::vector<Metric> metrics;
    std::ranges::copy_if(group.metrics, std::back_inserter(metrics), [&](const Metric& metric) {
        return std::ranges::any_of(
            rows, [&](const Row& row) { return is_measured(results, row, metric); });
    });
    // Several rows: a heading for each metric and the rows below it. One row: its metrics side by
    // side.
    size_t place = 0;
    double height = 0;
    for (const auto& metric : metrics) {
        auto subjects = shown_subjects(results, rows, metric);
        if (rows.size() > 1) {
            y += 14;
            body += text_at(margin, y, "metric", metric.title + hint_of(metric));
            y += 14;
            place = 0;
        }
        height = panel_title_height + bar_step * static_cast<double>(subjects.size()) + panel_gap;
        for (size_t i = 0; i < rows.size(); ++i, ++place) {
            if (place > 0 && place % columns == 0) y += height;
            body += panel(results, rows[i], metric, subjects,
                          rows.size() > 1 ? rows[i].title : metric.title + hint_of(metric),
                          margin + static_cast<double>(place % columns) * panel_width, y);
        }
        if (rows.size() > 1) y += height;
    }
    if (rows.size() == 1) y += height;
    for (const auto& row : rows) {
        for (const auto& subject : all_subjects()) {
            auto note = results.note_of(row.id, subject.id);
            if (note.empty()) continue;
            body +=
                text_at(margin, y, "about", format("* {}, {}: {}", row.title, subject.title, note));
            y += 16;
        }
    }
    y += margin - 8;
    return framed(body, y);
}

/// proxify against the best peer in a few rows, as a factor: to the right of the line is better.
std::string overview(const About& about, const Results& results) {
    struct Line {
        const char* row;
        const char* metric;
        const char* title;
    };
    constexpr Line lines[] = {
        {"ping-64-1", "p50", "64 B, 1 connection: latency (p50)"},
        {"ping-64-50", "rate", "64 B, 50 connections: rate"},
        {"ping-64-1000", "rate", "64 B, 1000 connections: rate"},
        {"ping-64-1000", "cpu", "64 B, 1000 connections: CPU"},
        {"connect-50", "rate", "connect, exchange, close: rate"},
        {"connect-50", "cpu", "connect, exchange, close: CPU"},
        {"bulk-down-1", "gbit", "bulk, 1 connection: rate"},
        {"bulk-down-4", "gbit", "bulk, 4 connections: rate"},
        {"bulk-down-100", "gbit", "bulk, 100 connections: rate"},
        {"copy-down-4", "gbit", "bulk that must be looked at: rate"},
        {"idle-9000", "user", "9000 idle connections: memory"},
    };
    struct Bar {
        std::string title;
        double factor;
        std::string peer;
    };
    std::vector<Bar> bars;
    double most = 2;
    for (const auto& line : lines) {
        const Row* row = results.find_row(line.row);
        if (!row) continue;
        const auto& metrics = group(row->group).metrics;
        auto metric = std::ranges::find(metrics, line.metric, &Metric::id);
        auto own = results.find(line.row, "proxify-b", line.metric);
        auto best = results.best_peer(line.row, *metric);
        if (!own || !best || own->median <= 0 || best->figure.median <= 0) continue;
        double factor = own->median / best->figure.median;
        if (!metric->more_is_better) factor = 1 / factor;
        bars.push_back({line.title, factor, subject(best->subject).title});
        most = std::max(most, factor);
    }
    if (bars.empty()) return {};

    constexpr int title_width = 250, area = 420, step = 24;
    auto along = [&](double factor) { return margin + title_width + factor / most * area; };
    double y = margin + 16;
    std::string body =
        text_at(margin, y, "title",
                "proxify -b beside the best of HAProxy, HAProxy with splice, and nginx");
    y += 20;
    body += text_at(margin, y, "about",
                    format("How many times better, pinned, median of {}. Left of the line the peer "
                           "that is named is better.",
                           about.repetitions));
    y += 20;
    double top = y;
    for (const auto& bar : bars) {
        body += text_at(margin + title_width - 8, y + 12, "label", bar.title);
        body += rectangle(along(0), y, along(bar.factor) - along(0), bar_height,
                          bar.factor >= 1 ? "#0b7285" : "#e8a33d");
        body += text_at(along(std::max(bar.factor, 1.0)) + 6, y + 12, "value",
                        format("{:.2f}x of {}", bar.factor, bar.peer));
        y += step;
    }
    body += format(
        "<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" class=\"range\"/>\n",
        along(1), top - 6, y - 4);
    return framed(body, y + margin - 8);
}

}  // namespace

std::map<std::string, std::string> render_pictures(const About& about, const Results& results) {
    std::map<std::string, std::string> pictures;
    if (auto drawn = overview(about, results); !drawn.empty()) pictures["overview.svg"] = drawn;
    for (const auto& group : all_groups()) {
        if (group.compares_rows) continue;
        for (bool pinned : {true, false}) {
            std::vector<Row> rows;
            std::ranges::copy_if(results.rows(), std::back_inserter(rows), [&](const Row& row) {
                return row.group == group.id && row.pinned == pinned;
            });
            if (rows.empty()) continue;
            pictures[group.id + (pinned ? "" : "-unpinned") + ".svg"] =
                picture(about, results, group, rows);
        }
    }
    return pictures;
}

}  // namespace proxify::bench
