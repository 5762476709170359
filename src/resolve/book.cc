// SPDX-License-Identifier: Apache-2.0
#include "resolve/book.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <set>
#include <tuple>

#include "base/format.h"

namespace proxify::resolve {

void Schedule::answered(Time now, std::optional<Duration> ttl, Duration longest) {
    failures_ = 0;
    due_ = now + std::min(std::max(ttl.value_or(longest), shortest), longest);
}

void Schedule::failed(Time now, Duration longest) {
    constexpr int doublings_max = 20;  // twelve days: beyond any patience, and no overflow
    const Duration pause = shortest * (1 << std::min(failures_, doublings_max));
    ++failures_;
    due_ = now + std::min(pause, longest);
}

void Book::follow(const std::vector<Question>& names, Duration longest, Time now) {
    std::map<std::string, Name> followed;
    for (const auto& [kind, text] : names) {
        auto known = names_.find(text);
        const bool is_new = known == names_.end() || known->second.kind != kind;
        followed[text] = is_new ? Name{.kind = kind} : std::move(known->second);
    }
    names_ = std::move(followed);
    longest_ = longest;
    for (auto& [question, entry] : entries_) entry.schedule.not_later_than(now + longest);
    update_entries(now);
}

/// One entry for each name, and one for each host of a service.
void Book::update_entries(Time now) {
    std::set<Question> wanted;
    for (const auto& [text, name] : names_) {
        auto known = entries_.find(*wanted.insert({name.kind, text}).first);
        if (known == entries_.end()) continue;
        for (const auto& record : known->second.records) wanted.insert({Kind::host, record.host});
    }
    std::erase_if(entries_, [&](const auto& entry) { return !wanted.contains(entry.first); });
    for (const auto& question : wanted)
        entries_.try_emplace(question, Entry{.schedule = Schedule(now)});
}

std::vector<Question> Book::take_due(Time now) {
    std::vector<std::pair<Time, const Question*>> due;
    for (const auto& [question, entry] : entries_)
        if (!entry.is_asked && entry.schedule.due() <= now)
            due.emplace_back(entry.schedule.due(), &question);
    // Who has waited longest goes first.
    std::ranges::sort(due, {}, [](const auto& one) { return std::tie(one.first, *one.second); });

    std::vector<Question> taken;
    for (auto [since, question] : due) {
        if (asking_ == asking_max) break;
        ++asking_;
        entries_.find(*question)->second.is_asked = true;
        taken.push_back(*question);
    }
    return taken;
}

std::optional<Time> Book::next_due() const {
    std::optional<Time> next;
    if (asking_ == asking_max) return next;
    for (const auto& [question, entry] : entries_)
        if (!entry.is_asked && (!next || entry.schedule.due() < *next)) next = entry.schedule.due();
    return next;
}

std::vector<Outcome> Book::record(const Question& question, Answer answer, Time now) {
    --asking_;
    auto found = entries_.find(question);
    if (found == entries_.end()) return {};  // nobody wants to know any more
    Entry& entry = found->second;
    entry.is_asked = false;
    if (answer.was_dropped) {
        entry.schedule.again(now);
        return {};
    }
    if (answer.error.empty())
        entry.schedule.answered(now, answer.ttl, longest_);
    else
        entry.schedule.failed(now, longest_);
    learn(entry, question.kind, std::move(answer));
    if (question.kind == Kind::service) update_entries(now);

    std::vector<Outcome> outcomes;
    for (auto& [text, name] : names_)
        if (depends_on({name.kind, text}, question))
            if (auto outcome = conclude(text, name)) outcomes.push_back(std::move(*outcome));
    return outcomes;
}

/// What did not come this time stays as it was.
void Book::learn(Entry& entry, Kind kind, Answer answer) {
    entry.is_known = true;
    entry.error = std::move(answer.error);
    if (!entry.error.empty()) return;
    if (kind == Kind::service) {
        entry.records = std::move(answer.records);
        std::ranges::sort(entry.records);
        if (entry.records.size() > endpoints_max) entry.records.resize(endpoints_max);
    }
    if (answer.v4) entry.v4 = std::move(*answer.v4);
    if (answer.v6) entry.v6 = std::move(*answer.v6);
}

bool Book::depends_on(const Question& name, const Question& question) const {
    if (name == question) return true;
    if (name.kind != Kind::service || question.kind != Kind::host) return false;
    const auto& records = entries_.at(name).records;
    return std::ranges::find(records, question.name, &ServiceRecord::host) != records.end();
}

/// Nothing before all of it is known: a service whose new host has no address yet stays as it was.
std::optional<Outcome> Book::conclude(const std::string& text, Name& name) const {
    const Question question{name.kind, text};
    const Entry& entry = entries_.at(question);
    auto is_known = [&](const ServiceRecord& record) {
        return entries_.at({Kind::host, record.host}).is_known;
    };
    if (!entry.is_known || !std::ranges::all_of(entry.records, is_known)) return std::nullopt;

    Outcome outcome{.name = text,
                    .endpoints = endpoints_of(question),
                    .before = name.endpoints,
                    .error = error_of(question)};
    // Records whose hosts have no address are as good as none: what was good before stays.
    if (outcome.endpoints.empty()) outcome.endpoints = name.endpoints;
    outcome.error_changed = outcome.error != name.error;
    if (name.is_known && !outcome.error_changed && !outcome.endpoints_changed())
        return std::nullopt;
    name = {name.kind, true, outcome.error, outcome.endpoints};
    return outcome;
}

std::string Book::error_of(const Question& name) const {
    const Entry& entry = entries_.at(name);
    if (!entry.error.empty()) return entry.error;
    for (const auto& record : entry.records) {
        const auto& error = entries_.at({Kind::host, record.host}).error;
        if (!error.empty())
            return format("{}: {}", record.host.substr(0, record.host.size() - 1), error);
    }
    return {};
}

/// Sorted: servers rotate their answers, and that is to be no news.
std::vector<Endpoint> Book::endpoints_of(const Question& name) const {
    std::vector<Endpoint> endpoints;
    const Entry& entry = entries_.at(name);
    auto add_all = [&](const Entry& host, const Endpoint& like) {
        for (const auto* addresses : {&host.v4, &host.v6})
            for (const Ip& ip : *addresses) {
                endpoints.push_back(like);
                endpoints.back().ip = ip;
            }
    };
    if (name.kind == Kind::host) add_all(entry, {});

    uint32_t rank = 0;
    for (auto first = entry.records.begin(); first != entry.records.end(); ++rank) {
        auto last = std::find_if(first, entry.records.end(), [&](const ServiceRecord& record) {
            return record.priority != first->priority;
        });
        std::vector<uint16_t> weights;
        std::transform(first, last, std::back_inserter(weights),
                       [](const ServiceRecord& record) { return record.weight; });
        const auto scaled = scale_weights(weights);
        for (size_t i = 0; i < scaled.size(); ++i, ++first)
            add_all(entries_.at({Kind::host, first->host}),
                    {.ip = {}, .port = first->port, .weight = scaled[i], .priority = rank});
    }

    // The same place twice is one, with the better priority.
    auto place = [](const Endpoint& one) { return std::tie(one.ip, one.port, one.priority); };
    std::ranges::sort(endpoints, {}, place);
    auto again = std::ranges::unique(
        endpoints, {}, [](const Endpoint& one) { return std::tie(one.ip, one.port); });
    endpoints.erase(again.begin(), again.end());
    std::ranges::sort(endpoints, {},
                      [](const Endpoint& one) { return std::tie(one.priority, one.ip, one.port); });
    if (endpoints.size() > endpoints_max) endpoints.resize(endpoints_max);
    return endpoints;
}

std::vector<Endpoint> Book::lookup(const std::string& name) const {
    auto found = names_.find(name);
    return found == names_.end() ? std::vector<Endpoint>{} : found->second.endpoints;
}

bool Book::is_complete() const {
    return std::ranges::all_of(names_, [](const auto& name) { return name.second.is_known; });
}

std::vector<uint32_t> scale_weights(const std::vector<uint16_t>& weights) {
    constexpr uint32_t weight_max = 256;
    uint32_t common = 0, most = 0;
    bool has_zero = false;
    for (uint32_t weight : weights) {
        common = std::gcd(common, weight);
        most = std::max(most, weight);
        has_zero = has_zero || weight == 0;
    }
    if (most == 0) return std::vector<uint32_t>(weights.size(), 1);

    const uint32_t unit = most <= weight_max ? 1 : common;
    // The others become as large as they may beside a zero, for that can be no less than 1.
    const uint32_t factor = has_zero ? std::max(weight_max * unit / most, 1u) : 1;
    std::vector<uint32_t> scaled;
    for (uint32_t weight : weights) {
        uint32_t share = most / unit <= weight_max ? weight / unit * factor
                                                   : (weight * weight_max + most / 2) / most;
        scaled.push_back(std::max(share, 1u));
    }
    return scaled;
}

std::vector<Endpoint> without(const std::vector<Endpoint>& endpoints,
                              const std::vector<Endpoint>& others) {
    auto place = [](const Endpoint& one) { return std::pair(one.ip, one.port); };
    std::set<std::pair<Ip, std::optional<uint16_t>>> places;
    for (const auto& other : others) places.insert(place(other));
    std::vector<Endpoint> rest;
    std::ranges::copy_if(endpoints, std::back_inserter(rest),
                         [&](const Endpoint& one) { return !places.contains(place(one)); });
    return rest;
}

std::string to_text(const std::vector<Endpoint>& endpoints) {
    constexpr size_t shown_max = 16;
    std::string text;
    for (size_t i = 0; i < endpoints.size(); ++i) {
        if (i == shown_max) return text + format(" and {} more", endpoints.size() - i);
        const auto& [ip, port, weight, priority] = endpoints[i];
        if (i > 0) text += ", ";
        text += port ? Address{ip, *port}.text() : ip.text();
        std::string notes = weight == 1 ? "" : format("weight {}", weight);
        if (priority > 0) notes += format("{}priority {}", notes.empty() ? "" : ", ", priority);
        if (!notes.empty()) text += format(" ({})", notes);
    }
    return text;
}

}  // namespace proxify::resolve
