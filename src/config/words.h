// SPDX-License-Identifier: Apache-2.0
// The small languages inside the strings of targets.toml: durations, ports, targets. Pure functions
// from text to a value, or to a complaint that says what would have been right.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "config/config.h"

namespace proxify::config {

struct Complaint {
    std::string text;  ///< "expected ..., found ..."
    std::string hint;  ///< what to write instead, where it can be told
};

template <class T>
using Understood = std::expected<T, Complaint>;

/// "250ms", "5s", "1m30s", "1h": whole numbers, largest unit first. Zero and lengths beyond a year
/// are understood too; what is sensible depends on the key.
Understood<Duration> read_duration(std::string_view text);

/// "512", "64KiB", "1MiB", "2GiB": bytes. What is sensible depends on the key.
Understood<uint64_t> read_size(std::string_view text);
/// The same as people write it: "64KiB" where it is whole.
std::string size_text(uint64_t bytes);

/// "5300-5399", or "5001" for a range of one.
Understood<PortRange> read_ports(std::string_view text);

/// "10.0.0.1:80", "[::1]:80", "name.example:80"; the port may be "*" or "+1000" too. Or an SRV
/// name, without a port: "_http._tcp.name.example".
Understood<TargetSpec> read_target(std::string_view text);

/// "10.0.0.0/8", "2001:db8::/32", "203.0.113.7": a network, without bits beyond its length.
Understood<Prefix> read_prefix(std::string_view text);

/// "203.0.113.0/24", "203.0.113.7:80", "[2001:db8::/32]:80": a prefix, and a port unless any will
/// do.
Understood<Destination> read_destination(std::string_view text);

/// "web", "web:80": the name of a container, and a port unless any will do.
Understood<ContainerSpec> read_container(std::string_view text);

/// "www.example.org", "*.example.org": a host that TLS clients ask for; in lower case and without a
/// dot at the end.
Understood<std::string> read_server_name(std::string_view text);

/// "203.0.113.9:8888": what is wrong with it is told apart.
Understood<Address> read_proxy(std::string_view text);

/// "200-399", or "204" for a range of one; statuses are 100 to 599.
Understood<StatusRange> read_statuses(std::string_view text);

/// "0d 0a", "0D0A": bytes as pairs of hexadecimal digits, with spaces between pairs or not.
Understood<std::string> read_hex(std::string_view text);

/// A regular expression.
Understood<pattern::Pattern> read_pattern(std::string_view text);
/// The same, to be looked for in a stream.
Understood<scan::Pattern> read_stream_pattern(std::string_view text);

/// "200-399, 418"
std::string listed(const std::vector<StatusRange>& ranges);

/// Text for a message: on one line, without control characters, shortened when it is very long.
std::string printable(std::string_view text, size_t bytes_max = 100);
/// The same in double quotes.
std::string quoted(std::string_view text);

}  // namespace proxify::config
