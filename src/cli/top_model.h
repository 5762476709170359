// SPDX-License-Identifier: Apache-2.0
// What `proxify top` knows and shows. Pure: answers, keys and the time come in, questions, orders
// and lines of text come out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/top_rows.h"
#include "http/message.h"
#include "screen/line.h"

namespace proxify::cli {

enum class Page { services, targets, sessions };
std::span<const Column> columns_of(Page page);

/// More than anybody reads; a full proxify has a million. It names the oldest.
inline constexpr uint64_t sessions_asked_for = 2000;

/// What is looked at: all services, the targets of one, or the sessions of one or of one target.
struct Question {
    Page page = Page::services;
    std::string service = {}, target = {};  ///< empty for all
    bool operator==(const Question&) const = default;
};

struct Answer {
    Question question;
    Time at{};        ///< when it came
    double wall = 0;  ///< the same in seconds since 1970
    report::Status status;
    report::Services services;  ///< these three: as far as the question goes
    report::Targets targets;
    report::Sessions sessions;
};

/// What the operator has decided, and confirmed.
struct Order {
    enum class Kind { drain, undrain, kill };
    Kind kind = Kind::drain;
    std::string service, target;
    uint64_t session = 0;
    bool operator==(const Order&) const = default;
};

http::Request request_for(const Question& question);
http::Request request_for(const Order& order);

class TopModel {
  public:
    explicit TopModel(Duration interval) : interval_(interval) { views_.push_back(first_view()); }

    /// What to ask now, if it is time; then take() or take_failure() is to follow.
    std::optional<Question> next_question(Time now);
    /// How long there is nothing to ask and nothing to draw anew.
    Duration pause(Time now) const;
    void take(const Answer& answer);
    void take_failure(const Error& error, Time now);

    /// A decision is to be carried out at once; take_outcome() follows.
    std::optional<Order> handle(const screen::Key& key);
    void take_outcome(const Result<report::Done>& outcome);
    bool is_over() const { return is_over_; }

    /// As many lines as there are rows, none wider than `columns`.
    std::vector<screen::Line> draw(int columns, int rows, Time now);

  private:
    /// One of the pages that lead to where the operator is.
    struct View {
        Question question;
        size_t sort = 0;
        bool falls = true;
        std::string filter;
        std::string selected;        ///< key of the row
        size_t at = 0;               ///< its place in `order`
        size_t top = 0;              ///< of the row that is shown first
        std::vector<Row> rows;       ///< of the last answer
        std::vector<size_t> order;   ///< those that the filter lets through, sorted
        std::vector<size_t> widths;  ///< of each column, without any cutting; 0 hides it
        Sample before, after;
        std::optional<Time> answered;
        uint64_t matching = 0;  ///< sessions there are, also those that were not asked for
    };
    struct Note {
        std::string text;
        screen::Role role = screen::Role::plain;
    };
    struct Confirmation {
        Order order;
        std::string question;
    };

    static View first_view();
    View& view() { return views_.back(); }
    const View& view() const { return views_.back(); }
    bool is_stale(Time now) const;
    /// One that says the same in each row.
    bool is_hidden(size_t column) const;

    void arrange();
    const Row* selected_row() const;
    void move_to(size_t at);
    void move_by(int64_t rows);
    void type_filter(const screen::Key& key);
    std::optional<Order> confirm(const screen::Key& key);
    void command(std::string_view letter);
    void enter(Question question);
    void go_back(bool may_end);
    void sort_by(size_t column);
    void propose(Order::Kind kind);

    screen::Line status_line(size_t columns, Time now) const;
    screen::Line title_line(size_t columns, Time now) const;
    std::vector<screen::Line> table(size_t columns, size_t rows);
    std::vector<screen::Line> foot(size_t columns, size_t rows) const;

    const Duration interval_;
    std::vector<View> views_;  ///< never empty
    std::optional<report::Status> status_;
    Sample status_before_, status_after_;
    std::optional<Time> asked_;
    bool asks_at_once_ = true;
    std::string failure_;  ///< why there is no answer at present
    Time failing_since_{};
    bool is_over_ = false, is_paused_ = false, is_typing_ = false, shows_help_ = false;
    std::optional<Confirmation> confirmation_;
    std::optional<Note> note_;
    size_t page_rows_ = 1;  ///< that were shown last
};

}  // namespace proxify::cli
