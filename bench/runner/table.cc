// SPDX-License-Identifier: Apache-2.0
// The table, and the same as JSON.
#include <algorithm>

#include "base/format.h"
#include "runner/report.h"
#include "runner/subject.h"

namespace proxify::bench {

std::string number_text(double value, int decimals) {
    return format("{:.{}f}", value, decimals);
}

namespace {

/// Width on the screen: bytes that continue a UTF-8 character have none.
size_t width_of(const std::string& text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string pad(const std::string& text, size_t width, bool to_the_right) {
    std::string space(width > width_of(text) ? width - width_of(text) : 0, ' ');
    return to_the_right ? space + text : text + space;
}

using Lines = std::vector<std::vector<std::string>>;

std::string align(const Lines& lines) {
    std::vector<size_t> widths;
    for (const auto& line : lines) {
        widths.resize(std::max(widths.size(), line.size()));
        for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width_of(line[i]));
    }
    std::string out;
    for (const auto& line : lines) {
        std::string text = " ";
        for (size_t i = 0; i < line.size(); ++i)
            text += " " + pad(line[i], widths[i] + (i > 0), i > 0);
        out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
    }
    return out;
}

std::string cell_text(const Results& results, const Row& row, const Subject& subject,
                      const Metric& metric) {
    auto figure = results.find(row.id, subject.id, metric.id);
    if (!figure) return results.note_of(row.id, subject.id).empty() ? "-" : "see below";
    auto text = number_text(figure->median * metric.scale, metric.decimals);
    const auto* samples = results.samples(row.id, subject.id, metric.id);
    if (samples->size() > 1) text += format(" ±{:.0f}%", figure->spread() * 100);
    return text;
}

std::string ratio_text(std::optional<Figure> own, std::optional<Figure> other) {
    if (!own || !other || other->median == 0) return "-";
    return format("{:.2f}x", own->median / other->median);
}

std::string metric_table(const Results& results, const Group& group, const Metric& metric,
                         bool pinned) {
    std::vector<Row> rows;
    std::ranges::copy_if(results.rows(), std::back_inserter(rows), [&](const Row& row) {
        return row.group == group.id && row.pinned == pinned;
    });
    bool any = false;
    Lines lines{{metric.title}};
    for (const auto& subject : all_subjects()) lines[0].push_back(subject.title);
    lines[0].insert(lines[0].end(), {"of best peer", "of direct"});
    for (const auto& row : rows) {
        std::vector<std::string> line{row.title};
        for (const auto& subject : all_subjects()) {
            line.push_back(cell_text(results, row, subject, metric));
            any = any || results.find(row.id, subject.id, metric.id);
        }
        auto own = results.find(row.id, "proxify-b", metric.id);
        if (!own) own = results.find(row.id, "proxify", metric.id);
        auto best = results.best_peer(row.id, metric);
        line.push_back(ratio_text(own, best ? std::optional(best->figure) : std::nullopt));
        line.push_back(ratio_text(own, results.find(row.id, "direct", metric.id)));
        lines.push_back(std::move(line));
    }
    return any ? align(lines) + "\n" : "";
}

/// A row for each row, and its metrics side by side.
std::string row_table(const Results& results, const Group& group, bool pinned) {
    const Subject& proxify = subject("proxify");
    Lines lines{{""}};
    for (const auto& metric : group.metrics) lines[0].insert(lines[0].end(), {metric.title, ""});
    for (const auto& row : results.rows()) {
        if (row.group != group.id || row.pinned != pinned) continue;
        std::vector<std::string> line{row.title};
        for (const auto& metric : group.metrics) {
            line.push_back(cell_text(results, row, proxify, metric));
            line.push_back(ratio_text(results.find(row.id, proxify.id, metric.id),
                                      results.find(row.base, proxify.id, metric.id)));
        }
        lines.push_back(std::move(line));
    }
    return lines.size() > 1 ? align(lines) + "\n" : "";
}

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n') {
            out += "\\n";
        } else {
            out += c;
        }
    }
    return out + "\"";
}

std::string object(const std::map<std::string, std::string>& members) {
    std::string out = "{";
    for (const auto& [name, value] : members)
        out += format("{}{}: {}", out.size() > 1 ? ", " : "", quoted(name), quoted(value));
    return out + "}";
}

}  // namespace

std::string render_table(const About& about, const Results& results,
                         const std::vector<Judgement>& goals) {
    std::string out;
    for (bool pinned : {true, false}) {
        for (const auto& group : all_groups()) {
            std::string tables;
            if (group.compares_rows) {
                tables = row_table(results, group, pinned);
            } else {
                for (const auto& metric : group.metrics)
                    tables += metric_table(results, group, metric, pinned);
            }
            std::string notes;
            for (const auto& row : results.rows()) {
                if (row.group != group.id || row.pinned != pinned) continue;
                for (const auto& subject : all_subjects()) {
                    if (auto note = results.note_of(row.id, subject.id); !note.empty())
                        notes += format("  {}, {}: {}\n", row.title, subject.title, note);
                }
            }
            if (tables.empty() && notes.empty()) continue;
            out += format("{}{}\n\n{}{}{}", group.title, pinned ? "" : " (nothing pinned)", tables,
                          notes, notes.empty() ? "" : "\n");
        }
    }
    if (!goals.empty()) {
        out += "Goals\n\n";
        Lines lines;
        for (const auto& goal : goals)
            lines.push_back({goal.work, goal.wanted, goal.measured,
                             !goal.met   ? "?"
                             : *goal.met ? "met"
                                         : "NOT MET"});
        out += align(lines) + "\n";
    }
    out += format(
        "{} repetitions of {} s, medians; ± is half the way from the lowest to the highest.\n",
        about.repetitions, about.seconds);
    out +=
        "Pinned: the proxy on a core of its own, load and target on another. Ratios are those of "
        "proxify -b; those of doors are to the listener with the same clients, those of elements "
        "to the service "
        "that has none.\n"
        "CPU of direct is that of the target.\n";
    for (const auto& [name, value] : about.machine) out += format("  {}: {}\n", name, value);
    for (const auto& [name, value] : about.versions) out += format("  {}: {}\n", name, value);
    out += format("  other programs used {:.1f} % of the machine, its host took {:.1f} %\n",
                  about.others_share * 100, about.stolen_share * 100);
    return out;
}

std::string render_json(const About& about, const Results& results,
                        const std::vector<Judgement>& goals) {
    std::string out = "{\n";
    out += format("\"date\": {},\n\"command\": {},\n\"machine\": {},\n\"versions\": {},\n",
                  quoted(about.date), quoted(about.command), object(about.machine),
                  object(about.versions));
    out += format(
        "\"repetitions\": {}, \"seconds\": {}, \"others_share\": {:.4f}, \"stolen_share\": "
        "{:.4f},\n",
        about.repetitions, about.seconds, about.others_share, about.stolen_share);
    out += "\"rows\": [\n";
    bool first_row = true;
    for (const auto& row : results.rows()) {
        out += format("{}{{\"id\": {}, \"group\": {}, \"title\": {}, \"pinned\": {}, \"cells\": {{",
                      first_row ? "" : ",\n", quoted(row.id), quoted(row.group), quoted(row.title),
                      row.pinned);
        first_row = false;
        bool first_cell = true;
        for (const auto& subject : all_subjects()) {
            std::string members;
            for (const auto& metric : group(row.group).metrics) {
                const auto* samples = results.samples(row.id, subject.id, metric.id);
                if (!samples) continue;
                auto figure = *results.find(row.id, subject.id, metric.id);
                members += format("{}\"{}\": {{\"median\": {:.6g}, \"samples\": [",
                                  members.empty() ? "" : ", ", metric.id, figure.median);
                for (size_t i = 0; i < samples->size(); ++i)
                    members += format("{}{:.6g}", i ? ", " : "", (*samples)[i]);
                members += "]}";
            }
            if (auto note = results.note_of(row.id, subject.id); !note.empty())
                members += format("{}\"note\": {}", members.empty() ? "" : ", ", quoted(note));
            if (members.empty()) continue;
            out += format("{}\n  \"{}\": {{{}}}", first_cell ? "" : ",", subject.id, members);
            first_cell = false;
        }
        out += "}}";
    }
    out += "],\n\"goals\": [\n";
    for (size_t i = 0; i < goals.size(); ++i) {
        const auto& goal = goals[i];
        out += format("  {{\"work\": {}, \"wanted\": {}, \"measured\": {}, \"met\": {}}}{}\n",
                      quoted(goal.work), quoted(goal.wanted), quoted(goal.measured),
                      !goal.met   ? "null"
                      : *goal.met ? "true"
                                  : "false",
                      i + 1 < goals.size() ? "," : "");
    }
    return out + "]\n}\n";
}

}  // namespace proxify::bench
