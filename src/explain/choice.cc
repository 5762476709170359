// SPDX-License-Identifier: Apache-2.0
#include "explain/choice.h"

#include <algorithm>
#include <iterator>

#include "base/count_text.h"
#include "base/format.h"
#include "config/names.h"

namespace proxify::explain {

using balance::Member;
using balance::Pool;
using balance::Target;
using balance::Tier;
using balance::Tried;
using routing::Service;

namespace {

/// What a client would go through: Session::connect_to_target(), without a dial.
struct Course {
    std::vector<const Target*> tried;  ///< in this order
    const Target* joined = nullptr;    ///< the first of them that can be dialled
    bool is_full = false;              ///< after these it would wait for a seat
    bool line_is_full = false;         ///< others wait, so it would have to line up behind them
    bool service_is_full = false;
};

/// Why it cannot even be dialled; empty when it can.
std::string cannot_dial(const Target& target, const Address& dialled, const Scene& scene) {
    auto to = target.for_dialled(dialled);
    if (!to) return format("it has no port {}", dialled.port + target.port.value);
    const bool is_local = target.port.is_original()
                              ? scene.is_here(to->ip)
                              : target.is_local.load(std::memory_order_relaxed);
    if (dial::way_to(&scene.doors, *to, is_local) == dial::Guard::Way::own)
        return "that is proxify's own listener";
    return {};
}

bool line_is_full(const Service& service) {
    return service.pool.admission().waiting() >= static_cast<size_t>(service.spec.queue.size);
}

/// The real pool is only looked at; its twin is the one that picks.
Course follow(const Service& service, const Scene& scene, const Question& question) {
    Course course;
    const auto& admission = service.pool.admission();
    // Who finds others in line joins it, and is served there at once if it can have what none of
    // those may have. But only if the line has room.
    if (admission.anybody_waits() && line_is_full(service))
        return {.is_full = true, .line_is_full = true};
    const Pool twin = service.pool.twin();
    Tried tried;
    while (tried.count() < service.spec.tries) {
        const auto [target, is_full] = twin.pick(
            {.client = question.client.ip,
             .random = scene.random + static_cast<uint64_t>(tried.count()) * 0x9E3779B97F4A7C15u,
             .tried = tried,
             .now = scene.now});
        course.service_is_full = target && !admission.has_room();
        course.is_full = is_full || course.service_is_full;
        if (!target || course.is_full) break;
        tried.add(*target);
        course.tried.push_back(target);
        if (!course.joined && cannot_dial(*target, question.destination, scene).empty())
            course.joined = target;
    }
    return course;
}

bool is_used(const Target& target, bool is_panic) {
    return is_panic || target.available.load(std::memory_order_relaxed);
}

std::vector<std::string> states_of(const Tier& tier, const Member& member, bool is_panic,
                                   Time now) {
    const Target& target = *member.target;
    std::vector<std::string> states;
    states.push_back(target.up.load(std::memory_order_relaxed) ? "up" : "down");
    if (target.ejected.load(std::memory_order_relaxed)) states.push_back("ejected");
    if (is_panic) states.push_back("panic");
    const auto sessions = target.sessions.load(std::memory_order_relaxed);
    const auto max = target.sessions_max.load(std::memory_order_relaxed);
    if (target.is_full())
        states.push_back(format("full {}/{}", sessions, max));
    else if (max != 0)
        states.push_back(format("{}/{} sessions", sessions, max));
    else
        states.push_back(format("{} session{}", sessions, sessions == 1 ? "" : "s"));
    if (member.weight != 1) states.push_back(format("weight {}", member.weight));
    if (member.is_backup) states.push_back("backup");
    if (member.priority != 0) states.push_back(format("priority {}", member.priority));
    if (tier.is_warming_up(target, now)) states.push_back("slow start");
    return states;
}

std::string why_chosen(const Service& service, const Question& question, size_t place) {
    switch (service.spec.balance) {
        case config::Balance::round_robin:
            return place == 0 ? "it is next in turn" : "it is next in turn of those not tried";
        case config::Balance::least_connections:
            return "it has the fewest sessions for its weight";
        case config::Balance::random:
            return "one possible draw: of two drawn by weight it has less to do";
        case config::Balance::source_hash:
            return format("{} draws the highest number here", question.client.ip.text());
        case config::Balance::maglev:
            return format("{} is in its part of the table", question.client.ip.text());
        case config::Balance::first:
            return "it is the first as written";
    }
    return {};
}

std::string why_tried(const Service& service, const Scene& scene, const Question& question,
                      const Tier& tier, const Target& target, size_t place) {
    std::string why = why_chosen(service, question, place);
    if (place > 0) why = format("if those before it fail: {}", why);
    if (&tier != &service.pool.tiers().front())
        why += tier.level().is_backup ? ", a backup for when no other is to be had"
                                      : ", as nobody of a lower priority number is to be had";
    auto cannot = cannot_dial(target, question.destination, scene);
    return cannot.empty() ? why : format("passed over at once, for {}; {}", cannot, why);
}

std::string why_not(const Service& service, const Member& member, bool is_panic,
                    const Course& course) {
    const Target& target = *member.target;
    if (member.weight == 0) return "weight 0: it takes no new sessions";
    if (!is_used(target, is_panic))
        return target.up.load(std::memory_order_relaxed) ? "ejected, for it let clients down"
                                                         : "down, as health checks say";
    if (target.is_full()) return "full";
    if (course.line_is_full) return "other clients wait for a seat, and the queue is full";
    if (course.service_is_full) return "the service has no room for one more session";
    if (course.is_full)
        return "it is not of the tier that serves, and a full tier does not lead to the next";
    return format("a client is tried on {} at most", service.spec.tries);
}

void add_candidates(const Service& service, const Scene& scene, const Course& course,
                    Explanation& explanation) {
    const bool is_panic = service.pool.admission().is_panic();
    std::vector<Candidate> tried(course.tried.size()), others;
    for (const auto& tier : service.pool.tiers())
        for (const auto& member : tier.members()) {
            const Target& target = *member.target;
            auto found = std::ranges::find(course.tried, &target);
            const auto place = static_cast<size_t>(found - course.tried.begin());
            const bool is_tried = found != course.tried.end();
            auto& candidate = is_tried ? tried[place] : others.emplace_back();
            candidate = {.target = target.text,
                         .order = is_tried ? static_cast<int>(place) + 1 : 0,
                         .states = states_of(tier, member, is_panic, scene.now),
                         .reason = is_tried ? why_tried(service, scene, explanation.question, tier,
                                                        target, place)
                                            : why_not(service, member, is_panic, course)};
            // These decide by the client's address who is passed over in a slow start.
            const bool by_chance = service.spec.balance != config::Balance::source_hash &&
                                   service.spec.balance != config::Balance::maglev;
            explanation.is_one_draw |= by_chance && tier.is_warming_up(target, scene.now);
        }
    explanation.is_one_draw |= service.spec.balance == config::Balance::random;
    explanation.candidates = std::move(tried);
    std::ranges::move(others, std::back_inserter(explanation.candidates));
}

/// "2 of 3 targets are available", and what follows from it.
std::string census(const Pool& pool) {
    const auto [available, all] = pool.count();
    auto text = format("{} of {} available", available, count_text(all, "target"));
    if (pool.admission().is_panic()) text += "; that is panic, so all are used";
    if (size_t others = pool.targets().size() - all; others != 0)
        text += format("; {} with weight 0", others);
    return text;
}

std::string why_full(const Service& service, const Course& course) {
    const auto& admission = service.pool.admission();
    if (course.line_is_full) return "other clients wait for a seat already";
    if (course.service_is_full)
        return format("service {} has {} sessions of {}", service.name, admission.sessions(),
                      admission.sessions_max());
    return course.tried.empty() ? "every target that serves is full"
                                : "every other target that serves is full";
}

void explain_queue(const Service& service, const Course& course, Explanation& explanation) {
    const auto waiting = service.pool.admission().waiting();
    const auto size = static_cast<size_t>(service.spec.queue.size);
    const auto patience = proxify::to_text(service.spec.queue.timeout);
    if (line_is_full(service)) {
        explanation.outcome = Outcome::reset_after_accept;
        explanation.client_sees = "the connection is accepted, then reset";
        explanation.steps.push_back(
            {"choice",
             format("{}: {}, and the queue is full: {} of {} wait", census(service.pool),
                    why_full(service, course), waiting, size),
             true});
        return;
    }
    explanation.outcome = Outcome::queued;
    explanation.client_sees = format(
        "the connection is accepted and waits up to {} for a seat: then it is joined to the target "
        "that has one, or reset",
        patience);
    explanation.steps.push_back(
        {"choice",
         format("{}: {}, so it waits in the queue, up to {}; {} of {} wait there before it",
                census(service.pool), why_full(service, course), patience, waiting, size),
         true});
}

std::string listed(const std::vector<const Target*>& targets) {
    std::string text;
    for (const auto* target : targets) {
        if (!text.empty()) text += ", then ";
        text += target->text;
    }
    return text;
}

}  // namespace

void explain_choice(const Service& service, const Scene& scene, Explanation& explanation) {
    const Question& question = explanation.question;
    const Course course = follow(service, scene, question);
    add_candidates(service, scene, course, explanation);
    if (!course.joined && course.is_full) return explain_queue(service, course, explanation);

    auto finding = census(service.pool);
    if (course.tried.empty())
        finding += ": there is nobody to join it to";
    else
        finding += format(
            "; {} tries {}{}", config::name_of(service.spec.balance, config::balance_names),
            listed(course.tried), explanation.is_one_draw ? ", which is one possible draw" : "");
    if (course.joined) {
        explanation.outcome = Outcome::joined;
        explanation.target = course.joined->for_dialled(question.destination)->text();
        explanation.client_sees =
            format("the connection is accepted and joined to {}", explanation.target);
    } else {
        explanation.outcome = Outcome::reset_after_accept;
        explanation.client_sees = "the connection is accepted, then reset";
        if (!course.tried.empty()) finding += "; none of them can be dialled";
    }
    explanation.steps.push_back({"choice", std::move(finding), true});
}

}  // namespace proxify::explain
