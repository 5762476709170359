// SPDX-License-Identifier: Apache-2.0
// `proxify redirect rules`: the rules of this host's netfilter that lead connections to proxify.
// They are apart from the process: they stay when it ends, and it needs no right to write them.
#pragma once

#include <iosfwd>
#include <string>

#include "cli/options.h"
#include "netfilter/rules.h"

namespace proxify::cli {

struct RulesOrder {
    enum class Verb { add, remove, show };
    Verb verb = Verb::show;
    netfilter::Addition addition;  ///< of remove only the ports; none for all
    bool operator==(const RulesOrder&) const = default;
};

bool is_rules(const Options& options);

/// Every failure of these is wrong usage: exit_usage.
/// Of redirect without rules: that no flag is given which only rules understand.
Result<> check_no_rules(const Options& options);
Result<RulesOrder> read_rules_order(const Options& options);

/// What `show` prints.
std::string rules_text(const netfilter::Rules& rules);
std::string rules_json(const netfilter::Rules& rules);

int run_rules(const Options& options, std::ostream& out, std::ostream& err);

}  // namespace proxify::cli
