// SPDX-License-Identifier: Apache-2.0
#include "support/exposition.h"

#include <charconv>
#include <regex>
#include <stdexcept>

#include "base/format.h"

namespace proxify::test {

namespace {

const std::regex name_form("[a-zA-Z_:][a-zA-Z0-9_:]*");
// A label value holds anything, but quotes, backslashes and newlines only as \", \\ and \n.
const std::regex sample_form(
    R"re(([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*"(,[a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*")*\})? ([^ ]+))re");

double number(const std::string& text) {
    double value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        throw std::runtime_error("no number: " + text);
    return value;
}

/// "proxify_x_bucket" of a histogram belongs to "proxify_x".
bool belongs(const std::string& sample, const std::string& family, const std::string& type) {
    if (type == "histogram")
        return sample == family + "_bucket" || sample == family + "_sum" ||
               sample == family + "_count";
    if (type == "summary") return sample == family + "_sum" || sample == family + "_count";
    return sample == family;
}

}  // namespace

double Exposition::at(const std::string& name_and_labels) const {
    for (const auto& [name, family] : families)
        if (auto found = family.samples.find(name_and_labels); found != family.samples.end())
            return found->second;
    throw std::runtime_error("no sample " + name_and_labels);
}

bool Exposition::has(const std::string& name_and_labels) const {
    for (const auto& [name, family] : families)
        if (family.samples.contains(name_and_labels)) return true;
    return false;
}

Exposition parse_exposition(std::string_view text) {
    Exposition page;
    std::string family;
    if (!text.ends_with('\n')) throw std::runtime_error("the last line has no end");
    while (!text.empty()) {
        const size_t end = text.find('\n');
        const std::string line(text.substr(0, end));
        text.remove_prefix(end + 1);
        auto claim = [&](bool holds, const char* what) {
            if (!holds) throw std::runtime_error(format("{}: {}", what, line));
        };
        std::smatch match;
        if (line.starts_with("# HELP ")) {
            const size_t space = line.find(' ', 7);
            claim(space != line.npos, "HELP without words");
            family = line.substr(7, space - 7);
            claim(std::regex_match(family, name_form), "no name");
            claim(page.families.try_emplace(family).second, "a family comes twice");
            page.families[family].help = line.substr(space + 1);
        } else if (line.starts_with("# TYPE ")) {
            const size_t space = line.find(' ', 7);
            claim(!family.empty() && line.substr(7, space - 7) == family, "TYPE without its HELP");
            claim(page.families[family].type.empty() && page.families[family].samples.empty(),
                  "TYPE comes first, and once");
            page.families[family].type = line.substr(space + 1);
        } else {
            claim(std::regex_match(line, match, sample_form), "no sample");
            claim(!family.empty() && belongs(match[1], family, page.families[family].type),
                  "a sample of another family");
            auto added = page.families[family].samples.emplace(match[1].str() + match[2].str(),
                                                               number(match[6]));
            claim(added.second, "a sample comes twice");
        }
    }
    return page;
}

}  // namespace proxify::test
