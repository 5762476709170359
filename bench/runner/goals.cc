// SPDX-License-Identifier: Apache-2.0
// The goals, as code: what is compared with what.
#include <algorithm>

#include "base/expect.h"
#include "base/format.h"
#include "runner/report.h"
#include "runner/subject.h"

namespace proxify::bench {

namespace {

/// Goals are about what people run: steered. Without figures for it, about proxify that binds.
std::string ours(const Results& results, const std::string& row, const std::string& metric) {
    return results.find(row, "proxify-b", metric) ? "proxify-b" : "proxify";
}

const Metric& metric_of(const std::string& group_id, const std::string& metric_id) {
    const auto& metrics = group(group_id).metrics;
    auto found = std::ranges::find(metrics, metric_id, &Metric::id);
    expect(found != metrics.end(), "a goal is about a metric of its group");
    return *found;
}

struct RatioGoal {
    std::string row;
    std::string group;
    std::string metric;
    std::string against;  ///< a subject's id, or "best"
    double bound = 1;     ///< at least, where more is better; at most otherwise
};

std::optional<Judgement> judge_ratio(const Results& results, const RatioGoal& goal) {
    const Row* row = results.find_row(goal.row);
    if (!row) return std::nullopt;
    const auto& metric = metric_of(goal.group, goal.metric);
    std::string title = group(goal.group).title;
    title = title.substr(0, title.find(':'));
    Judgement judgement{.work = format("{}, {}: {}", title, row->title,
                                       metric.title.substr(0, metric.title.find(','))),
                        .wanted = {},
                        .measured = {},
                        .met = std::nullopt};

    std::optional<Results::Best> other;
    if (goal.against == "best") {
        other = results.best_peer(goal.row, metric);
    } else if (auto figure = results.find(goal.row, goal.against, goal.metric)) {
        other = Results::Best{.subject = goal.against, .figure = *figure};
    }
    std::string name = goal.against == "best" ? "the best peer" : subject(goal.against).title;
    judgement.wanted =
        format("{} {:g}x of {}", metric.more_is_better ? "at least" : "at most", goal.bound, name);
    auto own = results.find(goal.row, ours(results, goal.row, goal.metric), goal.metric);
    if (!own || !other || other->figure.median == 0) {
        judgement.measured = "not measured";
        return judgement;
    }
    double ratio = own->median / other->figure.median;
    judgement.met = metric.more_is_better ? ratio >= goal.bound : ratio <= goal.bound;
    judgement.measured = format("{:.2f}x", ratio);
    if (goal.against == "best")
        judgement.measured += format(" ({})", subject(other->subject).title);
    return judgement;
}

/// A figure of ours that must not exceed a number.
std::optional<Judgement> judge_most(const Results& results, const std::string& row_id,
                                    const std::string& group_id, const std::string& metric_id,
                                    double most) {
    const Row* row = results.find_row(row_id);
    if (!row) return std::nullopt;
    const auto& metric = metric_of(group_id, metric_id);
    Judgement judgement{.work = format("{}: {}", row->title, metric.title),
                        .wanted = {},
                        .measured = "not measured",
                        .met = std::nullopt};
    judgement.wanted = format("at most {:g}", most * metric.scale);
    if (auto own = results.find(row_id, ours(results, row_id, metric_id), metric_id)) {
        judgement.met = own->median <= most;
        judgement.measured = number_text(own->median * metric.scale, metric.decimals);
    }
    return judgement;
}

double whole_spread(const Figure& figure) {
    return figure.median == 0 ? 0 : (figure.high - figure.low) / figure.median;
}

std::optional<Judgement> judge_connect_of_many_ports(const Results& results) {
    auto one = results.find("ports-1", "proxify-b", "connect");
    auto many = results.find("ports-60000", "proxify-b", "connect");
    auto direct = results.find("ports-1", "direct", "connect");
    if (!one || !many || !direct) return std::nullopt;
    double allowed = 1 + whole_spread(*direct);
    double ratio = many->median / one->median;
    return Judgement{.work = "60 000 ports: p50 of connect, against 1 port",
                     .wanted = format("at most {:.2f}x, the spread of direct", allowed),
                     .measured = format("{:.2f}x", ratio),
                     .met = ratio <= allowed};
}

/// Steering must cost nothing: within 3 %, or what direct varies by, in each row.
std::optional<Judgement> judge_steered(const Results& results) {
    std::string worst_row;
    double worst = 0, worst_ratio = 0, worst_allowed = 0;
    int compared = 0;
    bool met = true;
    for (const auto& row : results.rows()) {
        if (!row.pinned || (row.group != "ping" && row.group != "connect" && row.group != "bulk"))
            continue;
        std::string metric = row.group == "bulk" ? "gbit" : "rate";
        auto bound = results.find(row.id, "proxify", metric),
             steered = results.find(row.id, "proxify-b", metric);
        auto direct = results.find(row.id, "direct", metric);
        if (!bound || !steered || !direct) continue;
        ++compared;
        double allowed = std::max(0.03, whole_spread(*direct));
        double lost = 1 - steered->median / bound->median;
        met = met && lost <= allowed;
        if (compared == 1 || lost - allowed > worst) {
            worst = lost - allowed;
            worst_ratio = steered->median / bound->median;
            worst_allowed = allowed;
            worst_row = row.id;
        }
    }
    if (compared == 0) return std::nullopt;
    return Judgement{
        .work = format("steered against bound, worst of {} rows ({})", compared, worst_row),
        .wanted = format("at least {:.2f}x", 1 - worst_allowed),
        .measured = format("{:.2f}x", worst_ratio),
        .met = met};
}

}  // namespace

std::vector<Judgement> judge(const Results& results) {
    std::vector<RatioGoal> ratios = {
        {"ping-64-1000", "ping", "rate", "best", 1.2},
        {"ping-64-1000", "ping", "cpu", "best", 0.8},
        {"ping-64-50", "ping", "cpu", "best", 0.9},
        {"ping-64-1", "ping", "p50", "best", 1.0},
        {"ping-16384-1", "ping", "p50", "best", 1.0},
        {"connect-50", "connect", "rate", "best", 1.2},
    };
    for (const char* way : {"down", "up", "both"}) {
        for (int connections : {1, 4}) {
            auto row = format("bulk-{}-{}", way, connections);
            ratios.push_back({row, "bulk", "gbit", "haproxy-splice", 1.6});
            ratios.push_back({row, "bulk", "gbit", "direct", 0.75});
        }
        ratios.push_back({format("bulk-{}-100", way), "bulk", "gbit", "haproxy-splice", 1.05});
    }
    for (const char* row : {"tls-full-1.3", "tls-resumed-1.3", "tls-full-1.2", "tls-resumed-1.2"})
        ratios.push_back({row, "tls-handshake", "cpu", "best", 1.0});
    ratios.push_back({"tls-ping-1", "tls-ping", "p50", "best", 1.0});
    ratios.push_back({"tls-ping-50", "tls-ping", "cpu", "best", 1.0});
    for (const char* row : {"tls-down-1", "tls-down-4", "tls-up-1", "tls-up-4"}) {
        ratios.push_back({row, "tls-bulk", "gbit", "best", 1.0});
        ratios.push_back({row, "tls-bulk", "cpu", "best", 1.0});
    }
    for (int connections : {4, 100})
        ratios.push_back({format("copy-down-{}", connections), "copy", "gbit", "nginx", 1.2});

    std::vector<Judgement> goals;
    auto take = [&](std::optional<Judgement> judgement) {
        if (judgement) goals.push_back(*std::move(judgement));
    };
    for (const auto& goal : ratios) take(judge_ratio(results, goal));
    for (int count : {1000, 4000, 9000})
        take(judge_most(results, format("idle-{}", count), "idle", "user", 1500));
    take(judge_most(results, "ports-60000", "ports", "listening", 1));
    take(judge_most(results, "ports-60000", "ports", "start", 0.5));
    take(judge_connect_of_many_ports(results));
    take(judge_most(results, "reload", "reload", "failed", 0));
    take(judge_steered(results));
    return goals;
}

void derive_kernel_memory(Results& results) {
    auto rows = results.rows();
    for (const auto& row : rows) {
        auto direct = results.find(row.id, "direct", "slabs");
        if (row.group != "idle" || !direct) continue;
        for (const auto& subject : all_subjects()) {
            const auto* slabs = results.samples(row.id, subject.id, "slabs");
            if (!slabs || subject.program == Program::none) continue;
            for (double value : std::vector<double>(*slabs))
                results.add(row, subject.id, "kernel", value - direct->median);
        }
    }
}

}  // namespace proxify::bench
