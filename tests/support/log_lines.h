// SPDX-License-Identifier: Apache-2.0
// What proxify writes to its log, as the tests understand it. Every expectation about the wording
// of a log line is in this file and its .cc, so that a better word costs one change.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace proxify::test {

std::vector<std::string> lines_of(std::string_view text);
/// The first line with all of `words` in it.
std::optional<std::string> find_line(std::string_view log, std::vector<std::string> words);
int count_lines(std::string_view log, std::vector<std::string> words);

bool is_ready(std::string_view log);
int reloads_applied(std::string_view log);
int reloads_refused(std::string_view log);
/// How often it said that `target` ("127.0.0.1:9001") went down, or came up.
int times_down(std::string_view log, const std::string& target);
int times_up(std::string_view log, const std::string& target);

/// The numbers by which bpftool knows what a `proxify -b` put into the kernel.
struct KernelIds {
    int program = 0, link = 0, proxy_ports = 0, proxy_sock = 0;
};
std::optional<KernelIds> kernel_ids(std::string_view log);

/// The one line of each session, written when it ends, as text or as JSON.
struct SessionLine {
    std::string service, client, original_dst, target;
    uint64_t to_target = 0, to_client = 0;  ///< to the byte in JSON; text rounds what is large
    int tried = 0;
    std::string ending;  ///< the two letters and what follows them
    std::string line;    ///< all of it
};
std::vector<SessionLine> session_lines(std::string_view log);

}  // namespace proxify::test
