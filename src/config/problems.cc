// SPDX-License-Identifier: Apache-2.0
#include "config/problems.h"

#include <algorithm>
#include <tuple>

#include "base/expect.h"
#include "base/format.h"

namespace proxify::config {

// More than a screenful helps nobody: a file that wrong mostly has one cause, near the top.
static constexpr size_t shown_max = 20;

Error Problems::to_error() && {
    expect(!empty(), "there is a problem to report");
    std::ranges::sort(kept_, [](const Problem& a, const Problem& b) {
        return std::tie(a.at, a.what) < std::tie(b.at, b.what);
    });
    auto sentence = [&](const Problem& problem) {
        return format("{}:{}:{}: {}", file_, problem.at.line, problem.at.column, problem.what);
    };

    if (count_ == 1) return Error::of(sentence(kept_[0]), std::move(kept_[0].hint));

    auto error = Error::of(format("{} has {} mistakes", file_, count_));
    for (size_t i = 0; i < std::min(kept_.size(), shown_max); ++i) {
        auto hint = kept_[i].hint.empty() ? "" : "\n    hint: " + kept_[i].hint;
        error.causes.push_back(sentence(kept_[i]) + hint);
    }
    if (count_ > shown_max) error.causes.push_back(format("and {} more", count_ - shown_max));
    return error;
}

}  // namespace proxify::config
