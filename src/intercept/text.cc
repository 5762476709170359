// SPDX-License-Identifier: Apache-2.0
#include "intercept/text.h"

#include <algorithm>
#include <array>

#include "base/count_text.h"
#include "base/format.h"

namespace proxify::intercept {

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/// The id of a container in the path of its cgroup: 64 hexadecimal digits that stand alone, as in
/// /system.slice/docker-ID.scope, /docker/ID, /machine.slice/libpod-ID.scope.
static std::string container_id(const std::string& cgroup) {
    constexpr size_t length = 64;
    for (size_t i = 0; i < cgroup.size();) {
        size_t end = i;
        while (end < cgroup.size() && is_hex(cgroup[end])) ++end;
        if (end - i == length) return cgroup.substr(i, length);
        i = end + 1;
    }
    return {};
}

std::string whose(const Home& home, const std::string& cgroup, const std::string& own,
                  uint32_t own_pid_namespace, const std::map<Home, std::string>& containers) {
    for (const auto& [one, name] : containers)
        if ((one.cgroup != 0 && one.cgroup == home.cgroup) ||
            (one.pid_namespace != 0 && one.pid_namespace == home.pid_namespace))
            return name;
    if (auto id = container_id(cgroup); !id.empty()) return "container " + id.substr(0, 12);
    if (home.pid_namespace != own_pid_namespace) return "another PID namespace";
    if (cgroup == "/" || cgroup == own) return "host";
    return cgroup.empty() ? "a cgroup that is gone" : cgroup;
}

/// A process names itself, and may do so with anything.
static std::string plain(const std::string& comm) {
    std::string out = comm;
    for (char& c : out)
        if (c < 0x21 || c > 0x7e) c = '?';
    return out;
}

Line line_of(const kernel::FollowedConnection& connection, const std::string& from,
             const std::string& cgroup, const std::string& container) {
    const auto comm = plain(connection.comm);
    const auto original = connection.original.text();
    const bool is_redirected = connection.is_redirected;
    Line line{.message = format(
                  "connect pid={} comm={} uid={} from={} original_dst={} {}", connection.pid, comm,
                  connection.uid, from.find(' ') == std::string::npos ? from : '"' + from + '"',
                  original, is_redirected ? "sent_to=" + connection.used.text() : "seen"),
              .fields = {{"pid", format("{}", connection.pid)},
                         {"comm", comm},
                         {"uid", format("{}", connection.uid)},
                         {"from", from},
                         {"cgroup", cgroup},
                         {"original_dst", original}}};
    if (is_redirected) line.fields.emplace_back("sent_to", connection.used.text());
    if (!container.empty()) {
        line.message += " container=" + container;
        line.fields.emplace_back("container", container);
    }
    return line;
}

std::string state_text(int state) {
    // enum of linux/bpf.h, BPF_TCP_ESTABLISHED and on.
    constexpr std::array<const char*, 13> names{
        "",       "established", "dialling", "syn_recv", "fin_wait1", "fin_wait2",   "time_wait",
        "closed", "close_wait",  "last_ack", "listen",   "closing",   "new_syn_recv"};
    if (state < 1 || state >= static_cast<int>(names.size())) return format("state {}", state);
    return names[static_cast<size_t>(state)];
}

template <class Count>
static std::string join(const std::map<std::string, Count>& counts) {
    std::string out;
    for (const auto& [name, count] : counts) {
        if (!out.empty()) out += ", ";
        out += format("{} {}", name, count);
    }
    return out;
}

std::vector<Line> lines_of(const Report& report) {
    std::vector<Line> lines;
    lines.push_back(
        {.message = format("connect: {} open{}, {} redirected, {} seen, {} left alone so far",
                           count_text(report.open, "connection"),
                           report.open ? " (" + join(report.by_state) + ")" : "", report.redirected,
                           report.seen, report.left_alone),
         .fields = {{"open", format("{}", report.open)},
                    {"by_state", join(report.by_state)},
                    {"redirected", format("{}", report.redirected)},
                    {"seen", format("{}", report.seen)},
                    {"left_alone", format("{}", report.left_alone)}}});
    auto add = [&](const char* field, const char* what, const std::string& counts) {
        if (counts.empty()) return;
        lines[0].fields.emplace_back(field, counts);
        lines.push_back({.message = format("connect: {}: {}", what, counts), .fields = {}});
    };
    add("by_source", "open by source", join(report.by_source));
    add("by_cgroup", "open by cgroup", join(report.by_cgroup));
    add("by_netns", "open by network namespace", join(report.by_netns));
    add("by_container", "captured so far by container", join(report.by_container));
    // Sums that are not zero, in the words of the counters.
    std::string why, lost;
    for (const auto& [name, meaning, value] : report.counters) {
        if (value == 0) continue;
        auto& list = name.starts_with("passed_") ? why : lost;
        if (name.starts_with("passed_") || name.starts_with("lost_"))
            list += format("{}{} {}", list.empty() ? "" : ", ", value, meaning);
    }
    add("left_alone_why", "left alone so far", why);
    add("lost", "lost so far", lost);
    return lines;
}

}  // namespace proxify::intercept
