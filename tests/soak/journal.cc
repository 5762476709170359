// SPDX-License-Identifier: Apache-2.0
#include "soak/journal.h"

#include "support/json.h"

namespace proxify::test::soak {

std::vector<SessionLine> Journal::read() {
    const std::string news = proxify_.err(read_);
    read_ += news.size();
    rest_ += news;
    std::vector<SessionLine> sessions;
    size_t begin = 0;
    for (size_t end; (end = rest_.find('\n', begin)) != rest_.npos; begin = end + 1)
        heed(rest_.substr(begin, end - begin), sessions);
    rest_.erase(0, begin);
    return sessions;
}

void Journal::heed(const std::string& line, std::vector<SessionLine>& sessions) {
    auto json = parse_json_object(line);
    if (json && (*json)["event"] == "session") {
        sessions.push_back(session_lines(line).front());
        return;
    }
    applied_ += test::reloads_applied(line);
    if (test::reloads_refused(line) > 0) ++refused_, last_refusal_ = line;
    if (!ids_) ids_ = kernel_ids(line);
    const bool is_expected =
        json && ((*json)["level"] == "info" || (*json)["event"] == "target_down" ||
                 (*json)["event"] == "service_down" || (*json)["event"] == "reload_refused");
    if (!is_expected && strange_.size() < 40) strange_.push_back(line);
}

}  // namespace proxify::test::soak
