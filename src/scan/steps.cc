// SPDX-License-Identifier: Apache-2.0
#include "scan/steps.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace proxify::scan {
namespace {

/// More than anybody wants, and far from the end of what a number can hold.
constexpr uint64_t plenty = uint64_t{1} << 31;

/// How often "{3}", "{3,}" or "{3,7}" at the front of `text` repeats, and takes it off.
std::optional<uint64_t> take_repeat(std::string_view& text) {
    const size_t close = text.find('}');
    if (!text.starts_with('{') || close == text.npos) return {};
    uint64_t most = 0;
    const char* at = text.data() + 1;
    const char* end = text.data() + close;
    while (at < end) {
        uint64_t number = 0;
        auto [rest, error] = std::from_chars(at, end, number);
        if (error == std::errc::invalid_argument || (rest < end && *rest != ',')) return {};
        most = std::max(most, error == std::errc() ? number : plenty);
        at = rest + 1;
    }
    text.remove_prefix(close + 1);
    return std::clamp<uint64_t>(most, 1, plenty);
}

/// Takes a class, "[...]", off the front.
void take_class(std::string_view& text) {
    size_t at = text.starts_with("[^") ? 2 : 1;
    if (at < text.size() && text[at] == ']') ++at;  // the first one is a member
    for (; at < text.size() && text[at] != ']'; ++at) {
        if (text[at] == '\\')
            ++at;
        else if (text.substr(at).starts_with("[:"))
            at = std::min(text.find(":]", at), text.size() - 1) + 1;
    }
    text.remove_prefix(std::min(at + 1, text.size()));
}

}  // namespace

uint64_t steps_of(std::string_view text) {
    std::vector<uint64_t> open{0};  // the sums of the groups that are open, the outermost first
    uint64_t last = 0;              // what a repeat would repeat; it is in the sum
    auto add = [&](uint64_t steps) {
        last = std::min(steps, plenty);
        open.back() = std::min(open.back() + last, plenty);
    };
    while (!text.empty()) {
        if (auto times = take_repeat(text)) {
            const uint64_t whole = std::min(last * *times, plenty);
            open.back() -= last;
            add(whole);
        } else if (text.starts_with("\\Q")) {
            const size_t end = std::min(text.find("\\E"), text.size());
            for (size_t i = 2; i < end; ++i) add(1);
            text.remove_prefix(std::min(end + 2, text.size()));
        } else if (text.starts_with("(?#")) {
            text.remove_prefix(std::min(text.find(')'), text.size() - 1) + 1);
        } else if (text.starts_with('\\')) {
            add(1);
            text.remove_prefix(std::min<size_t>(2, text.size()));
        } else if (text.starts_with('[')) {
            add(1);
            take_class(text);
        } else if (text.starts_with('(')) {
            open.push_back(0);
            text.remove_prefix(1);
        } else if (text.starts_with(')')) {
            const uint64_t group = open.back();
            if (open.size() > 1) {
                open.pop_back();
            } else {
                open.back() = 0;
            }
            add(group);
            text.remove_prefix(1);
        } else {
            // A star repeats without copies.
            if (std::string_view("*+?|^$").find(text.front()) == text.npos) add(1);
            text.remove_prefix(1);
        }
    }
    uint64_t sum = 0;
    for (uint64_t group : open) sum += group;
    return sum;
}

}  // namespace proxify::scan
