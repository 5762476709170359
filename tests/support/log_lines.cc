// SPDX-License-Identifier: Apache-2.0
#include "support/log_lines.h"

#include <algorithm>
#include <cstdlib>

#include "support/json.h"

namespace proxify::test {

std::vector<std::string> lines_of(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty()) {
        size_t end = std::min(text.find('\n'), text.size());
        lines.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

static bool has_all(const std::string& line, const std::vector<std::string>& words) {
    return std::ranges::all_of(words, [&](const auto& word) { return line.contains(word); });
}

std::optional<std::string> find_line(std::string_view log, std::vector<std::string> words) {
    for (const auto& line : lines_of(log))
        if (has_all(line, words)) return line;
    return std::nullopt;
}

int count_lines(std::string_view log, std::vector<std::string> words) {
    return static_cast<int>(std::ranges::count_if(
        lines_of(log), [&](const auto& line) { return has_all(line, words); }));
}

bool is_ready(std::string_view log) {
    return find_line(log, {"ready:"}).has_value();
}

int reloads_applied(std::string_view log) {
    return count_lines(log, {"reload: applied"});
}

int reloads_refused(std::string_view log) {
    return count_lines(log, {"reload: refused"});
}

int times_down(std::string_view log, const std::string& target) {
    return count_lines(log, {"target " + target + " ", " is down"});
}

int times_up(std::string_view log, const std::string& target) {
    return count_lines(log, {"target " + target + " ", " is up"});
}

// The number after `label` in `line`, or 0.
static int number_after(const std::string& line, const std::string& label) {
    size_t at = line.find(label);
    return at == std::string::npos ? 0 : std::atoi(line.c_str() + at + label.size());
}

std::optional<KernelIds> kernel_ids(std::string_view log) {
    auto line = find_line(log, {"steering:", "proxy_ports", "proxy_sock"});
    if (!line) return std::nullopt;
    return KernelIds{.program = number_after(*line, "proxify_steer id "),
                     .link = number_after(*line, "link id "),
                     .proxy_ports = number_after(*line, "proxy_ports id "),
                     .proxy_sock = number_after(*line, "proxy_sock id ")};
}

// The value of `name=value` in a log line; values have no spaces.
static std::string value_of(const std::string& line, const std::string& name) {
    size_t at = line.find(" " + name + "=");
    if (at == std::string::npos) return {};
    at += name.size() + 2;
    return line.substr(at, line.find(' ', at) - at);
}

std::vector<SessionLine> session_lines(std::string_view log) {
    std::vector<SessionLine> sessions;
    for (const auto& line : lines_of(log)) {
        if (line.starts_with('{')) {
            auto json = parse_json_object(line);
            if (!json || (*json)["event"] != "session") continue;
            sessions.push_back(
                {.service = (*json)["service"],
                 .client = (*json)["client"],
                 .original_dst = (*json)["original_dst"],
                 .target = (*json)["target"],
                 .to_target = std::strtoull((*json)["to_target"].c_str(), nullptr, 10),
                 .to_client = std::strtoull((*json)["to_client"].c_str(), nullptr, 10),
                 .tried = std::atoi((*json)["tried"].c_str()),
                 .ending = (*json)["ending"] + " " + (*json)["reason"],
                 .line = line});
            continue;
        }
        if (!has_all(line, {" service=", " client=", " ending="})) continue;
        sessions.push_back(
            {.service = value_of(line, "service"),
             .client = value_of(line, "client"),
             .original_dst = value_of(line, "original_dst"),
             .target = value_of(line, "target"),
             .to_target = std::strtoull(value_of(line, "to_target").c_str(), nullptr, 10),
             .to_client = std::strtoull(value_of(line, "to_client").c_str(), nullptr, 10),
             .tried = std::atoi(value_of(line, "tried").c_str()),
             .ending = line.substr(line.find(" ending=") + 8),
             .line = line});
    }
    return sessions;
}

}  // namespace proxify::test
