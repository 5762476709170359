// SPDX-License-Identifier: Apache-2.0
#include "filter/chain.h"

#include <algorithm>

#include "base/expect.h"

namespace proxify::filter {

using State = Progress::State;

Flow::Flow(Direction direction, size_t chunk_size, std::vector<Link*> links, OnFailure on_failure)
    : direction_(direction), chunk_size_(chunk_size), on_failure_(std::move(on_failure)) {
    for (Link* link : links) {
        const uint64_t left = direction == Direction::to_target ? link->to_target : link->to_client;
        if (left > 0) stages_.push_back({.link = link, .left = left});
    }
    hungry_ = stages_.size();
}

void Flow::add_first(Link& link) {
    expect(!is_at_end_ && !has_pending(), "an element is added before bytes come");
    stages_.insert(stages_.begin(), {.link = &link, .left = everything});
    ++hungry_;
}

bool Flow::has_pending() const {
    return std::ranges::any_of(stages_, [](const Stage& stage) { return !stage.pending.empty(); });
}

Progress Flow::run(Bytes& input, Time now, Output& out) {
    waits_until_.reset();
    return go_on(input, now, out);
}

Progress Flow::finish(Time now, Output& out) {
    is_at_end_ = true;
    Bytes none;
    return run(none, now, out);
}

Time Flow::holds_until() const {
    Time soonest = Time::max();
    for (const Stage& stage : stages_)
        if (stage.left > 0)
            soonest = std::min(soonest, stage.link->element->holds_until(direction_));
    return soonest;
}

Progress Flow::release(Time now, Output& out) {
    Buffer made;
    // The last one first: what an earlier one lets go comes after it.
    for (size_t i = stages_.size(); i-- > 0;) {
        Element& element = *stages_[i].link->element;
        if (stages_[i].left == 0 || element.holds_until(direction_) > now) continue;
        made.clear();
        element.release(direction_, now, made);
        hand_on(i, made, out);
    }
    Bytes none;
    return run(none, now, out);
}

/// What has come furthest goes on first, so little is kept. At the end each element ends once all
/// that was before it has come past, the first one first.
Progress Flow::go_on(Bytes& input, Time now, Output& out) {
    for (;;) {
        if (first_ < cut_) cut_off();
        if (waits_until_) return {.state = State::wait, .until = *waits_until_};
        if (out.size() >= out_enough) return {.state = State::full};
        auto last = std::find_if(stages_.rbegin(), stages_.rend(),
                                 [](const Stage& stage) { return !stage.pending.empty(); });
        if (last != stages_.rend()) {
            const auto index = static_cast<size_t>(stages_.rend() - last) - 1;
            last->taken += show(index, Bytes(last->pending).subspan(last->taken),
                                /*is_input=*/false, now, out);
            if (last->taken == last->pending.size()) {
                last->pending = {};
                last->taken = 0;
            }
        } else if (!is_at_end_) {
            if (input.empty()) return {};
            input = input.subspan(show(0, input, /*is_input=*/true, now, out));
        } else {
            while (first_ < stages_.size() && stages_[first_].left == 0) ++first_;
            if (first_ == stages_.size()) return closed_;
            end(first_, now, out);
        }
    }
}

/// An element has closed: what waits before it goes nowhere, and those after it have all that they
/// will see.
void Flow::cut_off() {
    is_at_end_ = true;
    for (; first_ < cut_; ++first_) {
        stages_[first_].left = 0;
        stages_[first_].pending = {};
        stages_[first_].taken = 0;
    }
}

/// Shows a piece from the front of `source` to the stage at `index`, and what it lets pass to those
/// after it; gives how many bytes are dealt with.
size_t Flow::show(size_t index, Bytes source, bool is_input, Time now, Output& out) {
    Bytes piece = source.first(std::min(source.size(), chunk_size_));
    size_t dealt_with = piece.size();
    bool is_first = true;  // nobody has seen the piece yet: what is not taken stays in `source`
    std::vector<size_t> satisfied;
    for (size_t i = index; i < stages_.size() && !piece.empty(); ++i) {
        Stage& stage = stages_[i];
        if (stage.left == 0) continue;

        const Bytes shown = piece.first(std::min<uint64_t>(piece.size(), stage.left));
        Buffer made;
        Answer answer = ask(stage, shown, now, made);
        const bool takes = answer.verdict != Verdict::wait && answer.verdict != Verdict::close;
        const size_t taken = takes ? std::min(answer.taken, shown.size()) : 0;
        expect(taken > 0 || !takes, "an element takes something");
        if (is_first)
            dealt_with = taken;
        else
            append(stage.pending, piece.subspan(taken));
        is_first = false;
        piece = answer.verdict == Verdict::pass ? piece.first(taken) : Bytes();
        if (answer.verdict == Verdict::change) hand_on(i, made, out);
        if (!takes) break;

        if (stage.left != everything) stage.left -= taken;
        if (answer.has_enough) stage.left = 0;
        if (stage.left == 0) satisfied.push_back(i);
    }
    if (is_input)
        out.add_view(piece);
    else
        out.add(piece);
    // What they kept back comes after what they let pass.
    for (; !satisfied.empty(); satisfied.pop_back()) end(satisfied.back(), now, out);
    return dealt_with;
}

/// What becomes of the bytes. A failure has become a pass or a close; of wait and close the flow
/// has taken note.
Answer Flow::ask(Stage& stage, Bytes bytes, Time now, Buffer& made) {
    Answer answer = stage.link->element->see(direction_, bytes, now, made);
    judge(stage, answer, now);
    return answer;
}

void Flow::judge(Stage& stage, Answer& answer, Time now) {
    if (answer.took_long) waits_until_ = now;
    if (answer.verdict == Verdict::pass) return;
    stats::Element::Way uncounted;
    auto& stats = stage.link->stats ? stage.link->stats->of(direction_) : uncounted;
    switch (answer.verdict) {
        case Verdict::pass:
            break;
        case Verdict::drop:
            stats.dropped.add();
            break;
        case Verdict::change:
            stats.changed.add();
            break;
        case Verdict::wait:
            waits_until_ = answer.until;
            break;
        case Verdict::close:
            stats.closed.add();
            close(stage, answer.reason);
            break;
        case Verdict::fail:
            stats.failed.add();
            if (!std::exchange(stage.link->has_failed, true) && on_failure_)
                on_failure_(stage.link->name, answer.error);
            answer = {};
            if (!stage.link->closes_on_error) break;
            answer.verdict = Verdict::close;
            close(stage, "an element failed");
            break;
    }
}

/// The first reason counts: later elements that close as well only shorten what is still to come.
void Flow::close(const Stage& stage, const char* reason) {
    cut_ = std::max(cut_, static_cast<size_t>(&stage - stages_.data()) + 1);
    if (closed_.state != State::closed)
        closed_ = {.state = State::closed, .reason = reason, .element = stage.link->name};
}

/// The stage has seen all that it is to see.
void Flow::end(size_t index, Time now, Output& out) {
    Stage& stage = stages_[index];
    stage.left = 0;
    --hungry_;
    Buffer made;
    Answer answer = stage.link->element->end(direction_, now, made);
    expect(answer.verdict != Verdict::wait, "an element does not wait at the end");
    judge(stage, answer, now);
    if (answer.verdict != Verdict::close) hand_on(index, made, out);
}

/// What a stage has made goes to the next one, behind what waits there.
void Flow::hand_on(size_t index, Bytes made, Output& out) {
    if (index + 1 < stages_.size())
        append(stages_[index + 1].pending, made);
    else
        out.add(made);
}

namespace {

std::vector<Link*> in_order(std::vector<Link>& links) {
    std::vector<Link*> order;
    for (Link& link : links) order.push_back(&link);
    return order;
}

std::vector<Link*> reversed(std::vector<Link*> order) {
    std::ranges::reverse(order);
    return order;
}

}  // namespace

Chain::Chain(size_t chunk_size, std::vector<Link> links, const Flow::OnFailure& on_failure)
    : links_(std::move(links)),
      to_target_(Direction::to_target, chunk_size, in_order(links_), on_failure),
      to_client_(Direction::to_client, chunk_size, reversed(in_order(links_)), on_failure) {}

void Chain::watch_target(std::unique_ptr<Element> element, std::string_view name) {
    nearest_target_ = std::make_unique<Link>(Link{.element = std::move(element), .name = name});
    to_client_.add_first(*nearest_target_);
}

}  // namespace proxify::filter
