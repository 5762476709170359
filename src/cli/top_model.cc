// SPDX-License-Identifier: Apache-2.0
#include "cli/top_model.h"

#include <algorithm>
#include <cmath>

#include "base/count_text.h"
#include "base/format.h"

namespace proxify::cli {

using screen::Key;
using screen::Role;
using screen::shown;

namespace {

constexpr size_t filter_bytes_max = 64;

size_t column_named(Page page, std::string_view title) {
    const auto columns = columns_of(page);
    return static_cast<size_t>(std::ranges::find(columns, title, &Column::title) - columns.begin());
}

/// Where the sessions of a target are: "10.0.0.7:80" itself, or anywhere at "10.0.0.7:" when the
/// target's port is "*" or "+1000".
bool has_own_port(const std::string& target) {
    const auto port = target.substr(target.rfind(':') + 1);
    return !port.starts_with('*') && !port.starts_with('+');
}

bool is_at(const std::string& target, const std::string& address) {
    return has_own_port(target) ? address == target
                                : address.starts_with(target.substr(0, target.rfind(':') + 1));
}

/// Takes in a new sample. Two that came close together, because somebody pressed a key, would make
/// wild rates, and two that lie far apart would make stale ones.
void put_sample(Sample& before, Sample& after, Sample now, Duration interval, bool is_first) {
    const auto gap = now.at - after.at;
    if (is_first || gap > 10s + 3 * interval)
        before = {};
    else if (gap >= interval / 2)
        before = std::move(after);
    after = std::move(now);
}

}  // namespace

std::span<const Column> columns_of(Page page) {
    switch (page) {
        case Page::services:
            return service_columns();
        case Page::targets:
            return target_columns();
        case Page::sessions:
            return session_columns();
    }
    return {};
}

http::Request request_for(const Question& question) {
    http::Request out;
    if (!question.service.empty()) out.query["service"] = question.service;
    switch (question.page) {
        case Page::services:
            out.path = "/v1/services";
            break;
        case Page::targets:
            out.path = "/v1/targets";
            break;
        case Page::sessions:
            out.path = "/v1/sessions";
            if (!question.target.empty() && has_own_port(question.target))
                out.query["target"] = question.target;
            out.query["limit"] = format("{}", sessions_asked_for);
            break;
    }
    return out;
}

http::Request request_for(const Order& order) {
    if (order.kind == Order::Kind::kill)
        return {.method = "POST",
                .path = "/v1/kill",
                .query = {{"session", format("{}", order.session)}}};
    return {.method = "POST",
            .path = order.kind == Order::Kind::drain ? "/v1/drain" : "/v1/undrain",
            .query = {{"target", format("{}/{}", order.service, order.target)}}};
}

TopModel::View TopModel::first_view() {
    View out;
    out.sort = column_named(Page::services, "SESSIONS");
    return out;
}

// ---- asking

std::optional<Question> TopModel::next_question(Time now) {
    const bool is_time = !asked_ || now - *asked_ >= interval_;
    if (!asks_at_once_ && (!is_time || is_paused_)) return {};
    asks_at_once_ = false;
    asked_ = now;
    return view().question;
}

Duration TopModel::pause(Time now) const {
    Duration out = 1s;  // the age of what is shown is shown, too
    if (asks_at_once_) return 0s;
    if (asked_ && !is_paused_)
        out = std::min(out, std::max(Duration(0), *asked_ + interval_ - now));
    return out;
}

void TopModel::take(const Answer& answer) {
    failure_.clear();
    // It reckons back to when it began, from clocks that do not quite agree: to the second is
    // enough.
    if (status_ && (status_->pid != answer.status.pid ||
                    std::abs(status_->started_at - answer.status.started_at) > 1)) {
        // Another proxify: nothing that was counted before has to do with it.
        status_before_ = status_after_ = {};
        for (auto& one : views_) one.before = one.after = {};
    }
    Sample counts{.at = answer.at, .counts = {{"", {.begun = answer.status.sessions_so_far}}}};
    put_sample(status_before_, status_after_, std::move(counts), interval_, !status_);
    status_ = answer.status;

    View& here = view();
    // The operator has gone elsewhere since.
    if (answer.question != here.question) return void(asks_at_once_ = true);
    auto fill = [&](const auto& report, auto... more) {
        put_sample(here.before, here.after, sample_of(report, answer.at), interval_,
                   !here.answered);
        here.rows = rows_of(report, here.before, here.after, more...);
    };
    switch (here.question.page) {
        case Page::services:
            fill(answer.services);
            break;
        case Page::targets:
            fill(answer.targets, answer.wall);
            break;
        case Page::sessions: {
            auto sessions = answer.sessions;
            here.matching = sessions.matching;
            if (!here.question.target.empty())
                std::erase_if(sessions.sessions, [&](const report::Session& one) {
                    return !is_at(here.question.target, one.target);
                });
            fill(sessions);
            break;
        }
    }
    here.answered = answer.at;
    arrange();
}

void TopModel::take_failure(const Error& error, Time now) {
    if (failure_.empty()) failing_since_ = now;
    failure_ = error.what;
    for (const auto& cause : error.causes) failure_ += ": " + cause;
}

void TopModel::take_outcome(const Result<report::Done>& outcome) {
    asks_at_once_ = true;
    if (!outcome) {
        note_ = {outcome.error().what, Role::bad};
        if (!outcome.error().hint.empty()) note_->text += "; " + outcome.error().hint;
        return;
    }
    note_ = {outcome->text, Role::good};
    for (const auto& warning : outcome->warnings) {
        note_->text += "; " + warning;
        note_->role = Role::caution;
    }
}

bool TopModel::is_stale(Time now) const {
    return view().answered && now - *view().answered > 2 * interval_ + 1s;
}

bool TopModel::is_hidden(size_t column) const {
    const auto& question = view().question;
    return question.page == Page::sessions && !question.target.empty() &&
           columns_of(question.page)[column].title == "TARGET";
}

// ---- rows

/// Decides anew which rows there are and in which order; the selected one stays selected.
void TopModel::arrange() {
    View& here = view();
    const auto columns = columns_of(here.question.page);
    const auto wanted = small_letters(here.filter);
    here.order.clear();
    here.widths.assign(columns.size(), 0);
    for (size_t i = 0; i < here.rows.size(); ++i) {
        const Row& row = here.rows[i];
        if (!row.words.contains(wanted)) continue;
        here.order.push_back(i);
        for (size_t c = 0; c < columns.size(); ++c)
            here.widths[c] = std::max(here.widths[c], screen::width_of(row.cells[c].text));
    }
    for (size_t c = 0; c < columns.size(); ++c) {
        // Beside the title of what is sorted by stands which way.
        const size_t title = columns[c].title.size() + (c == here.sort ? 2 : 0);
        here.widths[c] =
            std::max({here.widths[c], title, columns[c].shrinks ? 0 : columns[c].width_min});
        if (is_hidden(c)) here.widths[c] = 0;
    }
    std::ranges::sort(here.order, [&](size_t a, size_t b) {
        const Cell& left = here.rows[a].cells[here.sort];
        const Cell& right = here.rows[b].cells[here.sort];
        if (left.number && right.number) {
            const bool left_unknown = std::isnan(*left.number);
            const bool right_unknown = std::isnan(*right.number);
            if (left_unknown != right_unknown) return right_unknown;
            if (!left_unknown && *left.number != *right.number)
                return (*left.number < *right.number) != here.falls;
        } else if (left.text != right.text) {
            if (is_before(left.text, right.text)) return !here.falls;
            if (is_before(right.text, left.text)) return here.falls;
        }
        if (is_before(here.rows[a].key, here.rows[b].key)) return true;
        return !is_before(here.rows[b].key, here.rows[a].key) && a < b;
    });
    auto found = std::ranges::find(here.order, here.selected, [&](size_t i) -> const std::string& {
        return here.rows[i].key;
    });
    move_to(found == here.order.end() ? here.at : static_cast<size_t>(found - here.order.begin()));
}

const Row* TopModel::selected_row() const {
    const View& here = view();
    return here.order.empty() ? nullptr : &here.rows[here.order[here.at]];
}

void TopModel::move_to(size_t at) {
    View& here = view();
    here.at = here.order.empty() ? 0 : std::min(at, here.order.size() - 1);
    if (const Row* row = selected_row()) here.selected = row->key;
}

void TopModel::move_by(int64_t rows) {
    move_to(static_cast<size_t>(std::max<int64_t>(0, static_cast<int64_t>(view().at) + rows)));
}

// ---- keys

std::optional<Order> TopModel::handle(const Key& key) {
    using Kind = Key::Kind;
    note_.reset();
    if (confirmation_) return confirm(key);
    if (shows_help_) {
        shows_help_ = false;
        return {};
    }
    const auto page = static_cast<int64_t>(std::max<size_t>(1, page_rows_));
    switch (key.kind) {
        case Kind::up:
            move_by(-1);
            return {};
        case Kind::down:
            move_by(1);
            return {};
        case Kind::page_up:
            move_by(-page);
            return {};
        case Kind::page_down:
            move_by(page);
            return {};
        case Kind::home:
            move_to(0);
            return {};
        case Kind::end:
            move_to(view().order.size());
            return {};
        default:
            break;
    }
    if (is_typing_) {
        type_filter(key);
        return {};
    }
    const Row* row = selected_row();
    const Page where = view().question.page;
    switch (key.kind) {
        case Kind::enter:
            if (row && where == Page::services) enter({Page::targets, row->service, {}});
            if (row && where == Page::targets) enter({Page::sessions, row->service, row->target});
            break;
        case Kind::tab:
            if (row && where == Page::services) enter({Page::sessions, row->service, {}});
            if (where == Page::targets) enter({Page::sessions, view().question.service, {}});
            break;
        case Kind::escape:
        case Kind::backspace:
            go_back(/*may_end=*/false);
            break;
        case Kind::character:
            command(key.text);
            break;
        default:
            break;
    }
    return {};
}

void TopModel::command(std::string_view letter) {
    View& here = view();
    if (letter == "q") {
        go_back(/*may_end=*/true);
    } else if (letter == "j") {
        move_by(1);
    } else if (letter == "k") {
        move_by(-1);
    } else if (letter == "s") {
        size_t next = here.sort;
        do next = (next + 1) % columns_of(here.question.page).size();
        while (is_hidden(next));
        sort_by(next);
    } else if (letter == "r") {
        here.falls = !here.falls;
        arrange();
    } else if (letter == "/") {
        is_typing_ = true;
    } else if (letter == "d") {
        propose(Order::Kind::drain);
    } else if (letter == "u") {
        propose(Order::Kind::undrain);
    } else if (letter == "K") {
        propose(Order::Kind::kill);
    } else if (letter == "p") {
        is_paused_ = !is_paused_;
        if (!is_paused_) asks_at_once_ = true;
    } else if (letter == "?") {
        shows_help_ = true;
    } else {
        note_ = {format("{} does nothing here; ? shows the keys", shown(letter)), Role::caution};
    }
}

void TopModel::type_filter(const Key& key) {
    View& here = view();
    using Kind = Key::Kind;
    if (key.kind == Kind::enter) {
        is_typing_ = false;
    } else if (key.kind == Kind::escape) {
        is_typing_ = false;
        here.filter.clear();
    } else if (key.kind == Kind::backspace) {
        auto is_inner = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
        while (!here.filter.empty() && is_inner(here.filter.back())) here.filter.pop_back();
        if (!here.filter.empty()) here.filter.pop_back();
    } else if (key.kind == Kind::character &&
               here.filter.size() + key.text.size() <= filter_bytes_max) {
        here.filter += shown(key.text);
    }
    arrange();
}

void TopModel::sort_by(size_t column) {
    View& here = view();
    here.sort = column;
    here.falls = columns_of(here.question.page)[column].is_right;
    arrange();
}

void TopModel::enter(Question question) {
    View next;
    next.question = std::move(question);
    next.sort =
        column_named(next.question.page, next.question.page == Page::sessions ? "AGE" : "SESSIONS");
    views_.push_back(std::move(next));
    arrange();
    asks_at_once_ = true;
}

/// A filter is what one came by last, and so goes first.
void TopModel::go_back(bool may_end) {
    if (!view().filter.empty() && !may_end) {
        view().filter.clear();
        arrange();
    } else if (views_.size() > 1) {
        views_.pop_back();
        asks_at_once_ = true;
    } else if (may_end) {
        is_over_ = true;
    } else {
        note_ = {"q ends proxify top", Role::plain};
    }
}

void TopModel::propose(Order::Kind kind) {
    const Page page = view().question.page;
    const Row* row = selected_row();
    if (kind == Order::Kind::kill ? page != Page::sessions : page != Page::targets) {
        if (kind == Order::Kind::kill)
            note_ = {"K ends a session: Tab shows those of a service", Role::caution};
        else if (page == Page::services)
            note_ = {"it is targets that are drained: Enter shows those of a service",
                     Role::caution};
        else
            note_ = {"it is targets that are drained: q leads back to them", Role::caution};
        return;
    }
    if (!row) return void(note_ = {"nothing is selected", Role::caution});
    Order order{.kind = kind, .service = row->service, .target = row->target};
    std::string question;
    switch (kind) {
        case Order::Kind::drain:
            question = format("drain {} of {}? it has {}", shown(row->target), shown(row->service),
                              count_text(row->sessions, "session"));
            break;
        case Order::Kind::undrain:
            question = format("give {} of {} new sessions again? it has {}", shown(row->target),
                              shown(row->service), count_text(row->sessions, "session"));
            break;
        case Order::Kind::kill:
            order = {.kind = kind, .session = row->session};
            question = format("end session {} of {}?", row->session, shown(row->name));
            break;
    }
    confirmation_ = {std::move(order), question + "  [y/N]"};
}

std::optional<Order> TopModel::confirm(const Key& key) {
    const auto asked = *std::exchange(confirmation_, {});
    if (key.kind != Key::Kind::character || (key.text != "y" && key.text != "Y")) {
        note_ = {"nothing is changed", Role::plain};
        return {};
    }
    note_ = {"asking proxify ...", Role::plain};
    return asked.order;
}

}  // namespace proxify::cli
