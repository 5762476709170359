// SPDX-License-Identifier: Apache-2.0
#include "doctor/text.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "doctor/findings.h"

namespace proxify::doctor {

namespace {

constexpr size_t mark_width = 4;
constexpr size_t gap = 2;

struct Mark {
    std::string_view word, colour;
};

Mark mark_of(Severity severity) {
    switch (severity) {
        case Severity::ok:
            return {"ok", "\x1b[32m"};
        case Severity::note:
            return {"note", "\x1b[36m"};
        case Severity::warning:
            return {"warn", "\x1b[33m"};
        case Severity::error:
            break;
    }
    return {"FAIL", "\x1b[31;1m"};
}

/// Names of processes and services can hold any byte; a terminal obeys some of them.
std::string harmless(std::string_view text) {
    std::string out;
    for (char c : text) {
        auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 && c != '\n') || byte == 0x7F)
            out += format("\\x{:02X}", byte);
        else
            out += c;
    }
    return out;
}

/// Columns that UTF-8 takes, roughly: one for each character.
size_t width_of(std::string_view text) {
    return static_cast<size_t>(std::ranges::count_if(
        text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// What must not be broken: words, and all that stands between two backticks.
std::vector<std::string> pieces_of(std::string_view line) {
    std::vector<std::string> pieces(1);
    bool is_command = false;
    for (char c : line) {
        if (c == '`') is_command = !is_command;
        if (c == ' ' && !is_command)
            pieces.emplace_back();
        else
            pieces.back() += c;
    }
    std::erase(pieces, "");
    return pieces;
}

/// `text` in lines of at most `width`, unless one piece is longer. Its own line ends stay, and so
/// does the space that a line begins with.
std::vector<std::string> wrap(std::string_view text, size_t width) {
    std::vector<std::string> lines;
    while (true) {
        auto line = text.substr(0, text.find('\n'));
        const std::string indent(std::min(line.find_first_not_of(' '), line.size()), ' ');
        std::string out = indent;
        for (const auto& piece : pieces_of(line)) {
            if (out.size() > indent.size() && width_of(out) + 1 + width_of(piece) > width) {
                lines.push_back(std::move(out));
                out = indent;
            }
            if (out.size() > indent.size()) out += ' ';
            out += piece;
        }
        lines.push_back(std::move(out));
        if (line.size() == text.size()) return lines;
        text.remove_prefix(line.size() + 1);
    }
}

std::string summary(std::span<const Finding> findings, const Start& start) {
    auto count = [&](Severity severity) {
        return static_cast<size_t>(std::ranges::count(findings, severity, &Finding::severity));
    };
    const auto name = start.steer ? "proxify -b" : "proxify";
    const size_t errors = count(Severity::error), warnings = count(Severity::warning);
    std::string counts;
    if (errors > 0) counts = count_text(errors, "error");
    if (warnings > 0) counts += (errors > 0 ? ", " : "") + count_text(warnings, "warning");
    if (errors > 0)
        return format("{}: mend {} before you start {} here.", counts,
                      errors == 1 ? "what failed" : "those that failed", name);
    if (warnings > 0) return format("{}: {} can run here.", counts, name);
    return format("Nothing is wrong: {} can run here.", name);
}

}  // namespace

std::string as_text(std::span<const Finding> findings, const Start& start, Look look) {
    size_t topic_width = 0;
    for (const auto& finding : findings) topic_width = std::max(topic_width, finding.topic.size());
    const size_t margin = mark_width + gap + topic_width + gap;
    const size_t width = look.columns > margin + 20 ? look.columns - margin : 20;

    std::string out;
    auto add_lines = [&](const std::string& text, size_t indent, bool is_begun) {
        for (const auto& line : wrap(harmless(text), width - indent)) {
            if (!is_begun) out += std::string(margin + indent, ' ');
            out += line + "\n";
            is_begun = false;
        }
    };
    auto add = [&](const Finding& finding) {
        auto [word, colour] = mark_of(finding.severity);
        out += look.colours ? format("{}{:<{}}\x1b[0m", colour, word, mark_width)
                            : format("{:<{}}", word, mark_width);
        out += format("{:{}}{:<{}}", "", gap, finding.topic, topic_width + gap);
        add_lines(finding.what, 0, /*is_begun=*/true);
        if (!finding.remedy.empty()) add_lines(finding.remedy, 2, /*is_begun=*/false);
    };
    for (auto severity : {Severity::ok, Severity::note, Severity::warning, Severity::error})
        for (const auto& finding : findings)
            if (finding.severity == severity) add(finding);
    return out + "\n" + summary(findings, start) + "\n";
}

}  // namespace proxify::doctor
