// SPDX-License-Identifier: Apache-2.0
#include "netfilter/rules.h"

#include <algorithm>
#include <charconv>

#include "base/format.h"

namespace proxify::netfilter {

std::string Mark::text() const {
    return mask == 0xffffffff ? format("{:#x}", value) : format("{:#x}/{:#x}", value, mask);
}

// ---- reading

namespace {

/// The mark is read from a comment: the rule itself nft writes in more than one way.
constexpr std::string_view mark_comment = "connections of proxify itself, mark ";

constexpr auto way_out =
    "if the table is not proxify's, rename it; if it is, run\n"
    "`nft delete table inet proxify` and add the ports again";

Error not_understood(std::string_view part) {
    return Error::of(
        format("cannot read the nftables table inet proxify: there is \"{}\"", part.substr(0, 60)),
        way_out);
}

/// Moves `text` behind the first `what`; false when there is none.
bool skip_past(std::string_view& text, std::string_view what) {
    const auto at = text.find(what);
    if (at == text.npos) return false;
    text.remove_prefix(at + what.size());
    return true;
}

template <class T>
bool take_number(std::string_view& text, T& out, int base = 10) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return error == std::errc();
}

/// "elements = { 80 : 15002, 443 : 15002 }", over several lines when it is long; an empty map has
/// none.
Result<Redirects> read_map(std::string_view listing, std::string_view name) {
    Redirects out;
    auto text = listing;
    if (!skip_past(text, format("map {} {{", name))) return out;
    text = text.substr(0, text.find("\n\t}"));
    if (!skip_past(text, "elements = {")) return out;
    while (true) {
        text.remove_prefix(std::min(text.find_first_not_of(" \t\n,"), text.size()));
        if (text.starts_with('}')) return out;
        const auto element = text;
        uint16_t from = 0, to = 0;
        if (!take_number(text, from) || !text.starts_with(" : "))
            return fail(not_understood(element));
        text.remove_prefix(3);
        if (!take_number(text, to)) return fail(not_understood(element));
        out.emplace(from, to);
    }
}

Result<Mark> read_mark(std::string_view listing) {
    Mark mark;
    auto text = listing;
    if (!skip_past(text, mark_comment)) return mark;
    const auto written = text.substr(0, text.find('"'));
    const bool has_value = text.starts_with("0x") && (text.remove_prefix(2), true) &&
                           take_number(text, mark.value, 16);
    if (!has_value) return fail(not_understood(written));
    if (text.starts_with("/0x")) {
        text.remove_prefix(3);
        if (!take_number(text, mark.mask, 16)) return fail(not_understood(written));
    }
    return mark;
}

}  // namespace

Result<Rules> read_rules(std::string_view listing) {
    TRY_TO(arriving, read_map(listing, "arriving"));
    TRY_TO(leaving, read_map(listing, "leaving"));
    TRY_TO(mark, read_mark(listing));
    return Rules{std::move(arriving), std::move(leaving), mark};
}

// ---- deciding

static Result<> check_for_circles(const Rules& rules) {
    for (const auto* redirects : {&rules.arriving, &rules.leaving})
        for (const auto& [port, to] : *redirects)
            if (rules.arriving.contains(to) || rules.leaving.contains(to))
                return fail(Error::of(
                    format("port {} would lead to {}, which is led away itself", port, to),
                    to == port ? "--to names the port where proxify listens, as 15002"
                               : format("take it out first: proxify redirect rules remove "
                                        "--ports {}",
                                        to)));
    return {};
}

Result<Rules> with(Rules have, const Addition& addition) {
    for (uint16_t port : addition.ports) {
        if (addition.arriving) have.arriving[port] = addition.to;
        if (addition.leaving) have.leaving[port] = addition.to;
    }
    have.mark = addition.mark;
    TRY(check_for_circles(have));
    return have;
}

Rules without(Rules have, const std::set<uint16_t>& ports) {
    if (ports.empty()) return {.arriving = {}, .leaving = {}, .mark = have.mark};
    for (uint16_t port : ports) {
        have.arriving.erase(port);
        have.leaving.erase(port);
    }
    return have;
}

// ---- writing

static std::string elements(const char* verb, const char* map, const Redirects& of,
                            bool with_targets) {
    if (of.empty()) return {};
    std::string list;
    for (const auto& [port, to] : of) {
        list += list.empty() ? "" : ", ";
        list += with_targets ? format("{} : {}", port, to) : format("{}", port);
    }
    return format("{} element inet proxify {} {{ {} }}\n", verb, map, list);
}

static std::string difference(const char* map, const Redirects& have, const Redirects& want) {
    Redirects gone, added;
    for (const auto& [port, to] : have)
        if (auto kept = want.find(port); kept == want.end() || kept->second != to)
            gone.emplace(port, to);
    for (const auto& [port, to] : want)
        if (auto was = have.find(port); was == have.end() || was->second != to)
            added.emplace(port, to);
    return elements("delete", map, gone, /*with_targets=*/false) +
           elements("add", map, added, /*with_targets=*/true);
}

/// Chains that are there already are not moved: `add` leaves them where they are.
static std::string frame(const Mark& mark) {
    // Where destinations are rewritten, as iptables does it; by its name, nft 1.0.6 knows the
    // priority in one of the two chains only.
    constexpr int dstnat = -100;
    std::string out = "add table inet proxify\n";
    for (const char* map : {"arriving", "leaving"})
        out += format("add map inet proxify {} {{ type inet_service : inet_service; }}\n", map);
    for (const char* hook : {"prerouting", "output"})
        out += format(
            "add chain inet proxify {0} {{ type nat hook {0} priority {1}; policy accept; }}\n"
            "flush chain inet proxify {0}\n",
            hook, dstnat);
    // Before this hook the kernel has not yet asked whether a packet may come from outside to
    // 127.0.0.1, and after a redirection it is none: proxify would dial there in a stranger's
    // name. One to ::1 does not come this far.
    out += "add rule inet proxify prerouting ip daddr 127.0.0.0/8 return\n";
    out +=
        "add rule inet proxify prerouting meta l4proto tcp redirect to :tcp dport map @arriving\n";
    out +=
        format("add rule inet proxify output meta mark & {:#x} == {:#x} return comment \"{}{}\"\n",
               mark.mask, mark.value & mark.mask, mark_comment, mark.text());
    out += "add rule inet proxify output meta l4proto tcp redirect to :tcp dport map @leaving\n";
    return out;
}

std::string transaction(const std::optional<Rules>& have, const Rules& want) {
    if (want.empty()) return have ? "delete table inet proxify\n" : "";
    const Rules before = have.value_or(Rules());
    return frame(want.mark) + difference("arriving", before.arriving, want.arriving) +
           difference("leaving", before.leaving, want.leaving);
}

}  // namespace proxify::netfilter
