// SPDX-License-Identifier: Apache-2.0
// How `proxify top` looks. From the top: proxify's state; where one is; the table; what is
// selected, in full; the keys, or a question.
#include <algorithm>

#include "base/count_text.h"
#include "base/format.h"
#include "cli/table.h"
#include "cli/top_model.h"

namespace proxify::cli {

using screen::cut;
using screen::cut_middle;
using screen::Line;
using screen::Role;
using screen::shown;
using screen::Span;
using screen::width_of;

namespace {

/// A name gets so much of a line before columns with so much `spare` or more get any.
struct Claim {
    size_t name;
    int spare;
};
constexpr Claim first_claim{40, 8}, second_claim{24, 5}, last_claim{0, 1};

/// Some words of a line; the higher its rank, the sooner it goes when there is too little room.
struct Part {
    Span span;
    int rank = 0;
};

Line line_of(std::vector<Part> parts, size_t columns) {
    auto width = [&] {
        size_t sum = 0;
        for (const auto& part : parts) sum += width_of(part.span.text) + 2;
        return sum - std::min<size_t>(sum, 2);
    };
    while (width() > columns) {
        auto last = std::ranges::max_element(parts, {}, &Part::rank);
        if (last == parts.end() || last->rank == 0) break;
        parts.erase(last);
    }
    Line line;
    for (auto& part : parts) {
        if (!line.spans.empty()) line.spans.push_back({"  "});
        line.spans.push_back(std::move(part.span));
    }
    return line;
}

void cut_line(Line& line, size_t columns) {
    size_t left = columns;
    for (auto& span : line.spans) {
        span.text = cut(span.text, left);
        left -= std::min(left, width_of(span.text));
    }
}

/// The text as at most `lines` lines, broken at spaces where that is possible. What is too long for
/// all of them loses its middle.
std::vector<std::string> folded(std::string text, size_t columns, size_t lines) {
    std::vector<std::string> out;
    if (columns == 0 || lines == 0) return out;
    text = cut_middle(text, columns * lines);
    while (width_of(text) > columns && out.size() + 1 < lines) {
        const size_t fits = screen::fitting(text, columns);
        if (fits == 0) break;
        size_t end = text.rfind(' ', fits);
        // Without a good place to break, or without room for what would then follow, in any place.
        if (end == std::string::npos || end == 0 ||
            width_of(std::string_view(text).substr(end + 1)) > columns * (lines - out.size() - 1))
            end = fits;
        out.push_back(text.substr(0, end));
        text.erase(0, text[end] == ' ' ? end + 1 : end);
    }
    out.push_back(cut(text, columns));
    return out;
}

struct Fitted {
    size_t column = 0, width = 0;
};

struct Layout {
    std::vector<Fitted> columns;
    size_t gap = 2;
};

/// Which columns there is room for, and how wide each is. Names shrink first, then go the columns
/// that one can best do without; what is sorted by stays.
Layout fit(std::span<const Column> columns, const std::vector<size_t>& widths, size_t sort,
           size_t room) {
    Layout out;
    for (size_t i = 0; i < columns.size(); ++i)
        if (widths[i] > 0)
            out.columns.push_back(
                {i, columns[i].shrinks ? std::min(widths[i], columns[i].width_min) : widths[i]});
    auto spare = [&](const Fitted& one) {
        return one.column == sort ? 0 : columns[one.column].spare;
    };
    auto missing = [&](size_t more) {
        size_t sum = more + out.gap * (out.columns.size() - 1);
        for (const auto& one : out.columns) sum += one.width;
        return sum > room ? sum - room : 0;
    };
    auto make_room = [&](const Claim& claim) {
        const size_t name = std::min(widths[0], claim.name);
        const size_t more = name - std::min(name, out.columns[0].width);
        while (missing(more)) {
            auto last = std::ranges::max_element(out.columns, {}, spare);
            if (spare(*last) < claim.spare) break;
            out.columns.erase(last);
        }
    };
    make_room(first_claim);
    if (missing(0)) out.gap = 1;
    make_room(second_claim);
    make_room(last_claim);
    for (auto& one : out.columns)
        if (columns[one.column].shrinks)
            one.width -= std::min(missing(0), one.width - std::min<size_t>(one.width, 4));
    for (auto& one : out.columns) {
        if (!columns[one.column].shrinks || missing(0)) continue;
        size_t used = out.gap * (out.columns.size() - 1);
        for (const auto& other : out.columns) used += other.width;
        one.width = std::min(widths[one.column], one.width + (room - used));
    }
    return out;
}

std::string padded(const std::string& text, size_t width, bool is_right) {
    const std::string space(width - std::min(width, width_of(text)), ' ');
    return is_right ? space + text : text + space;
}

Line head_line(std::span<const Column> columns, const Layout& layout, size_t sort, bool falls) {
    Line line{.spans = {}, .is_reverse = true};
    for (const auto& [column, width] : layout.columns) {
        if (!line.spans.empty()) line.spans.push_back({std::string(layout.gap, ' ')});
        std::string title(columns[column].title);
        if (column == sort) title += falls ? " v" : " ^";
        line.spans.push_back({.text = padded(cut(title, width), width, columns[column].is_right),
                              .is_bold = column == sort});
    }
    return line;
}

Line row_line(std::span<const Column> columns, const Layout& layout, const Row& row) {
    Line line;
    for (const auto& [column, width] : layout.columns) {
        if (!line.spans.empty()) line.spans.push_back({std::string(layout.gap, ' ')});
        const Cell& cell = row.cells[column];
        const auto text =
            columns[column].shrinks ? cut_middle(cell.text, width) : cut(cell.text, width);
        line.spans.push_back({padded(text, width, columns[column].is_right), cell.role});
    }
    return line;
}

std::vector<Line> help() {
    std::vector<Line> out;
    for (const char* text :
         {"arrows, j, k  select; also PgUp, PgDn, Home, End",
          "Enter         the targets of a service, the sessions of a target",
          "Tab           the sessions of a service", "q, Esc        back; q on the first page ends",
          "s, r          sort by the next column; the other way round",
          "/             show only what has these words in it; Esc clears",
          "d, u          drain the selected target; give it new sessions again",
          "K             end the selected session", "p             pause, and go on", "",
          "IN is to the target, OUT to the client; /S is per second.",
          "NEW sessions, FAIL: those that did not end as they should, or did",
          "not connect. P99: of 100 connects to targets 99 are faster."})
        out.push_back({{Span{text}}});
    return out;
}

}  // namespace

Line TopModel::status_line(size_t columns, Time now) const {
    if (!failure_.empty()) {
        const auto since = std::chrono::duration<double>(now - failing_since_).count();
        auto text = format("no answer for {}, trying again: {}", short_time(std::max(since, 0.0)),
                           shown(failure_));
        return {{Span{cut(text, columns), Role::bad, true}}};
    }
    if (!status_) return {{Span{"asking proxify ..."}}};
    const auto& status = *status_;
    std::vector<Part> parts{{{"proxify " + shown(status.version), Role::plain, true}, 3},
                            {{"up " + short_time(status.uptime)}, 4}};
    if (status.state != "running") parts.push_back({{shown(status.state), Role::caution, true}, 0});
    if (status.is_behind) parts.push_back({{"kernel is behind", Role::caution, true}, 5});
    parts.push_back({{count_text(status.sessions, "session")}, 1});
    if (auto rate = rates_between(status_before_, status_after_, "").begun)
        parts.push_back({{short_rate(*rate) + " new/s"}, 2});
    parts.push_back({{count_text(status.services, "service")}, 6});
    if (status.services_down)
        parts.back() = {
            {format("{} of {} down", status.services_down, count_text(status.services, "service")),
             Role::bad, true},
            0};
    parts.push_back({{format("{}/{} targets up", status.targets_up, status.targets),
                      status.targets_up < status.targets ? Role::caution : Role::plain},
                     7});
    return line_of(std::move(parts), columns);
}

Line TopModel::title_line(size_t columns, Time now) const {
    const View& here = view();
    const auto& question = here.question;
    std::vector<Part> right;
    if (!here.filter.empty())
        right.push_back({{format("filter \"{}\"", here.filter), Role::caution}});
    if (is_paused_) right.push_back({{"paused", Role::caution}});
    if (is_stale(now))
        right.push_back(
            {{format("{} old",
                     short_time(std::chrono::duration<double>(now - *here.answered).count())),
              Role::caution}});
    Line end = line_of(std::move(right), columns);

    std::string count = format("{}", here.order.size());
    if (here.order.size() < here.rows.size()) count += format(" of {}", here.rows.size());
    if (here.matching > sessions_asked_for && here.rows.size() >= sessions_asked_for)
        count += format("; the oldest of {}", here.matching);
    std::string what, where;
    switch (question.page) {
        case Page::services:
            what = "services";
            break;
        case Page::targets:
            what = "targets";
            where = " of " + shown(question.service);
            break;
        case Page::sessions:
            what = "sessions";
            where = " of " + shown(question.service);
            if (!question.target.empty()) where += " with " + shown(question.target);
            break;
    }
    const auto tail = here.answered ? format(" ({})", count) : std::string();
    const size_t taken =
        what.size() + tail.size() + (end.spans.empty() ? 0 : width_of(end.text()) + 2);
    where = cut_middle(where, columns - std::min(columns, taken));
    Line line{{Span{what, Role::plain, true}, Span{where, Role::plain, true}, Span{tail}}};
    const size_t left = columns - std::min(columns, width_of(line.text()) + width_of(end.text()));
    if (!end.spans.empty()) line.spans.push_back({std::string(left, ' ')});
    for (auto& span : end.spans) line.spans.push_back(std::move(span));
    return line;
}

/// The head and the rows.
std::vector<Line> TopModel::table(size_t columns, size_t rows) {
    View& here = view();
    const auto all = columns_of(here.question.page);
    page_rows_ = rows - 1;
    here.top = std::clamp(here.top,
                          here.at - std::min(here.at, page_rows_ - std::min<size_t>(page_rows_, 1)),
                          here.at);
    // Without empty lines below the last row, as far as there are rows.
    here.top = std::min(here.top, here.order.size() - std::min(here.order.size(), page_rows_));

    const auto layout = fit(all, here.widths, here.sort, columns);
    std::vector<Line> out{head_line(all, layout, here.sort, here.falls)};
    for (size_t i = here.top; i < here.order.size() && out.size() < rows; ++i) {
        out.push_back(row_line(all, layout, here.rows[here.order[i]]));
        if (i == here.at) out.back().is_reverse = true;
        if (!failure_.empty())
            for (auto& span : out.back().spans) span.role = Role::faint;
    }
    std::string nothing;
    if (here.order.empty() && !here.answered)
        nothing = failure_.empty() ? "asking ..." : "";
    else if (here.order.empty() && !here.rows.empty())
        nothing = "the filter lets nothing through";
    else if (here.order.empty())
        nothing = "there are none";
    if (!nothing.empty() && out.size() < rows) out.push_back({{Span{nothing, Role::faint}}});
    return out;
}

/// The last lines: what is selected, in full, and below it the keys; or what is to be said or
/// asked.
std::vector<Line> TopModel::foot(size_t columns, size_t rows) const {
    std::vector<Line> out;
    auto say = [&](const std::string& text, Role role, bool is_bold) {
        for (auto& part : folded(text, columns, rows)) out.push_back({{Span{part, role, is_bold}}});
        out.insert(out.begin(), rows - std::min(rows, out.size()), Line{});
    };
    if (confirmation_) {
        say(confirmation_->question, Role::caution, true);
        return out;
    }
    if (note_) {
        say(shown(note_->text), note_->role, false);
        return out;
    }
    const Row* row = selected_row();
    if (row && rows > 1)
        for (auto& part : folded(row->detail, columns, rows - 1))
            out.push_back({{Span{part, Role::faint}}});
    // A line of distance, where there is one.
    out.insert(out.begin(), rows - 1 - std::min(rows - 1, out.size()), Line{});

    if (is_typing_) {
        const std::string hint = "  Enter keeps it, Esc clears it";
        const auto typed =
            cut_middle("filter: " + view().filter, columns - std::min<size_t>(columns, 1));
        out.push_back({{Span{typed, Role::plain, true}, Span{"_", Role::plain, true},
                        Span{hint, Role::faint}}});
        return out;
    }
    const Page page = view().question.page;
    std::vector<Part> keys;
    auto add = [&](std::string_view key, std::string_view what, int rank) {
        keys.push_back({{format("{} {}", key, what)}, rank});
    };
    if (page == Page::services) add("Enter", "targets", 3);
    if (page == Page::targets) add("Enter", "sessions", 3);
    if (page == Page::services) add("Tab", "sessions", 6);
    if (page == Page::targets) add("d", "drain", 2);
    if (page == Page::targets) add("u", "undrain", 4);
    if (page == Page::sessions) add("K", "end session", 2);
    add("s", "sort", 5);
    add("r", "reverse", 7);
    add("/", "filter", 6);
    add("p", is_paused_ ? "go on" : "pause", is_paused_ ? 1 : 8);
    add("?", "help", 1);
    add("q", views_.size() > 1 ? "back" : "end", 0);
    out.push_back(line_of(std::move(keys), columns));
    return out;
}

std::vector<Line> TopModel::draw(int wanted_columns, int wanted_rows, Time now) {
    const auto columns = static_cast<size_t>(std::max(wanted_columns, 0));
    const auto rows = static_cast<size_t>(std::max(wanted_rows, 0));
    // What a small terminal can do without goes first: the detail, the title.
    const size_t foot_rows = rows >= 20 ? 3 : rows >= 10 ? 2 : rows >= 2 ? 1 : 0;
    const bool has_title = rows >= 5;
    std::vector<Line> out{status_line(columns, now)};
    if (has_title) out.push_back(title_line(columns, now));
    const size_t middle = rows - std::min(rows, out.size() + foot_rows);
    if (middle > 0) {
        auto lines = shows_help_ ? help() : table(columns, middle);
        lines.resize(middle);
        for (auto& line : lines) out.push_back(std::move(line));
    }
    if (foot_rows > 0)
        for (auto& line : foot(columns, foot_rows)) out.push_back(std::move(line));
    out.resize(rows);
    for (auto& line : out) cut_line(line, columns);
    return out;
}

}  // namespace proxify::cli
