// SPDX-License-Identifier: Apache-2.0
#include "cli/rules.h"

#include <algorithm>
#include <charconv>
#include <ostream>

#include "base/format.h"
#include "cli/table.h"
#include "config/words.h"
#include "netfilter/nft.h"
#include "report/report.h"

namespace proxify::cli {

using netfilter::Mark;
using netfilter::Rules;
using Verb = RulesOrder::Verb;

// ---- reading

static Result<std::set<uint16_t>> read_port_list(std::string_view text) {
    std::set<uint16_t> ports;
    for (size_t at = 0; at <= text.size();) {
        const auto end = std::min(text.find(',', at), text.size());
        auto range = config::read_ports(text.substr(at, end - at));
        if (!range)
            return fail(
                Error::of("--ports: " + range.error().text, "write 8080,8081 or 8000-8010"));
        for (uint32_t port = range->first; port <= range->last; ++port)
            ports.insert(static_cast<uint16_t>(port));
        at = end + 1;
    }
    return ports;
}

/// "0x2035", "8245", "0x35/0xff".
static Result<Mark> read_mark(std::string_view text) {
    auto number = [](std::string_view digits, uint32_t& out) {
        const int base = digits.starts_with("0x") ? 16 : 10;
        if (base == 16) digits.remove_prefix(2);
        auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), out, base);
        return error == std::errc() && end == digits.data() + digits.size();
    };
    Mark mark;
    const auto slash = text.find('/');
    const bool understood = number(text.substr(0, slash), mark.value) &&
                            (slash == text.npos || number(text.substr(slash + 1), mark.mask));
    if (understood && (mark.value & mark.mask) != 0) return mark;
    return fail(Error::of(format("--mark: expected a number other than 0, or number/mask, found {}",
                                 config::quoted(text)),
                          "write what [proxify] mark says, as 0x2035 or 0x35/0xff"));
}

bool is_rules(const Options& options) {
    return options.command == Command::redirect && !options.arguments.empty();
}

static constexpr auto usage =
    "proxify redirect rules add --ports 8080,8081 --to 15002\n"
    "proxify redirect rules remove [--ports 8080]\n"
    "proxify redirect rules show";

static Error meaningless(std::string_view flag, std::string_view to) {
    return Error::of(format("--{} means nothing to {}", flag, to), usage);
}

static bool has(const Options& options, const char* flag) {
    return options.filters.contains(flag) || options.lists.contains(flag);
}

Result<> check_no_rules(const Options& options) {
    for (auto flag : {"to", "only", "mark"})
        if (has(options, flag)) return fail(meaningless(flag, "redirect without rules"));
    return {};
}

Result<RulesOrder> read_rules_order(const Options& options) {
    const auto& words = options.arguments;
    RulesOrder order;
    if (options.socket) return fail(meaningless("socket", "redirect rules"));
    if (words.size() == 2 && words[1] == "add")
        order.verb = Verb::add;
    else if (words.size() == 2 && words[1] == "remove")
        order.verb = Verb::remove;
    else if (words.size() != 2 || words[1] != "show")
        return fail(Error::of("redirect rules takes add, remove or show", usage));
    for (auto flag : {"ports", "to", "only", "mark"}) {
        const bool fits = order.verb == Verb::add ||
                          (order.verb == Verb::remove && flag == std::string_view("ports"));
        if (has(options, flag) && !fits)
            return fail(meaningless(flag, "redirect rules " + words[1]));
    }

    auto& addition = order.addition;
    if (auto lists = options.lists.find("ports"); lists != options.lists.end()) {
        for (const auto& list : lists->second) {
            TRY_TO(ports, read_port_list(list));
            addition.ports.merge(ports);
        }
    }
    if (order.verb != Verb::add) return order;
    auto given = [&](const char* flag) {
        auto found = options.filters.find(flag);
        return found == options.filters.end() ? std::string() : found->second;
    };
    if (addition.ports.empty())
        return fail(Error::of("redirect rules add needs --ports, those that clients dial", usage));
    if (!has(options, "to"))
        return fail(
            Error::of("redirect rules add needs --to, the port where proxify listens", usage));
    auto to = config::read_ports(given("to"));
    if (!to || to->first != to->last)
        return fail(Error::of(
            format("--to: expected a port from 1 to 65535, found {}", config::quoted(given("to"))),
            usage));
    addition.to = to->first;
    if (has(options, "mark")) {
        TRY_TO(mark, read_mark(given("mark")));
        addition.mark = mark;
    }
    if (const auto only = given("only"); has(options, "only")) {
        if (only != "arriving" && only != "leaving")
            return fail(Error::of(
                format("--only: expected arriving or leaving, found {}", config::quoted(only)),
                "arriving is what other hosts dial, leaving what this one does"));
        addition.arriving = only == "arriving";
        addition.leaving = only == "leaving";
    }
    return order;
}

// ---- printing

std::string rules_text(const Rules& rules) {
    if (rules.empty()) return "no port is redirected\n";
    Table table({">PORT", ">ARRIVING", ">LEAVING"});
    std::set<uint16_t> ports;
    for (const auto* redirects : {&rules.arriving, &rules.leaving})
        for (const auto& [port, to] : *redirects) ports.insert(port);
    auto cell = [](const netfilter::Redirects& redirects, uint16_t port) {
        auto found = redirects.find(port);
        return found == redirects.end() ? std::string("-") : format("{}", found->second);
    };
    for (uint16_t port : ports)
        table.row({format("{}", port), cell(rules.arriving, port), cell(rules.leaving, port)});
    return table.text() + format("What carries the mark {} leaves as it is.\n", rules.mark.text());
}

std::string rules_json(const Rules& rules) {
    report::Redirects out{.redirects = {}, .mark = rules.mark.text()};
    std::map<uint16_t, report::Redirect> by_port;
    for (const auto& [port, to] : rules.arriving) by_port[port].arriving = to;
    for (const auto& [port, to] : rules.leaving) by_port[port].leaving = to;
    for (auto& [port, redirect] : by_port) {
        redirect.port = port;
        out.redirects.push_back(redirect);
    }
    return report::to_json(out);
}

// ---- doing

/// What was done, as a sentence, or what stands there.
static Result<std::string> follow(const RulesOrder& order, bool json) {
    TRY_TO(have, netfilter::current_rules());
    const Rules before = have.value_or(Rules());
    if (order.verb == Verb::show) return json ? rules_json(before) : rules_text(before);

    Rules want;
    if (order.verb == Verb::add) {
        TRY_TO(with_them, netfilter::with(before, order.addition));
        want = std::move(with_them);
    } else {
        want = netfilter::without(before, order.addition.ports);
    }
    TRY(netfilter::run(netfilter::transaction(have, want)));
    return json ? rules_json(want) : rules_text(want);
}

int run_rules(const Options& options, std::ostream& out, std::ostream& err) {
    auto order = read_rules_order(options);
    if (!order) {
        err << order.error().text() << '\n';
        return exit_usage;
    }
    auto done = follow(*order, options.json);
    if (!done) {
        err << done.error().text() << '\n';
        return exit_failed;
    }
    out << *done;
    return exit_done;
}

}  // namespace proxify::cli
