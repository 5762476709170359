// SPDX-License-Identifier: Apache-2.0
// What a running proxify says of itself, as values. The same ones are made by the server, written
// as JSON, read back by the commands and printed, so each is described once: the names here are the
// names in the JSON. Times are seconds since 1970, durations seconds; an address is text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace proxify::report {

/// How the last change of the config went.
struct Reload {
    uint64_t number = 0;  ///< of the last that was applied; 0 before the first
    double at = 0;
    std::string state = "none";  ///< "none", "applied", "unchanged", "refused", "watching",
                                 ///< "kept", "rolled-back", "replaced"
    std::string text;            ///< a sentence
    std::vector<std::string> warnings;
};

struct Status {
    std::string version;
    int pid = 0;
    double started_at = 0;
    double uptime = 0;
    std::string state;                  ///< "running", "leaving"
    std::string mode;                   ///< "steering", "listening"
    std::vector<std::string> captures;  ///< "redirect on 15002 and 15006"
    std::string user;
    std::string config_path;
    std::optional<uint16_t> listener_port;  ///< with steering
    uint64_t workers = 0;
    uint64_t services = 0, services_down = 0;
    uint64_t targets = 0, targets_up = 0;
    uint64_t ports = 0;
    uint64_t sessions = 0, sessions_so_far = 0;
    uint64_t log_dropped = 0;
    bool is_behind = false;  ///< the kernel has not got the last change yet
    Reload reload;
};

/// What an element has done with one direction.
struct Element {
    std::string name;
    std::string type;                   ///< "match"
    std::string direction;              ///< "to_target", "to_client"
    uint64_t chunks = 0, bytes = 0;     ///< of type "count"
    uint64_t dropped = 0, changed = 0;  ///< chunks
    uint64_t closed = 0;                ///< sessions
    uint64_t failed = 0;                ///< chunks
};

struct Service {
    std::string name;
    std::string state;               ///< "up", "panic", "down"
    std::vector<std::string> ports;  ///< "5001", "5300-5399"
    std::vector<std::string> addresses;
    bool is_default = false;
    std::string balance;
    std::string when_down;
    uint64_t targets = 0, targets_up = 0;
    uint64_t sessions = 0;
    uint64_t sessions_max = 0;  ///< 0 for no limit
    uint64_t waiting = 0;       ///< in line for room
    uint64_t sessions_so_far = 0;
    uint64_t failures_so_far = 0;  ///< sessions that did not end as they should
    uint64_t bytes_to_target = 0, bytes_to_client = 0;
    std::optional<double> connect_p50, connect_p99;  ///< at most so long, of all connects so far
    std::vector<Element> elements;  ///< in the order of its filters, each direction that they see
};

struct Target {
    std::string service;
    std::string address;  ///< "127.0.0.1:9001", "10.0.0.7:*"
    std::string written;  ///< the name that the file has for it
    std::string state;    ///< "up", "down", "ejected", "drained", "left"
    std::string reason;   ///< of that state, when there is one
    std::optional<double> since;
    uint64_t weight = 1;
    std::optional<uint64_t> weight_of_file;  ///< where a command has set another
    uint64_t priority = 0;
    bool is_backup = false;
    uint64_t sessions = 0;
    uint64_t sessions_max = 0;
    uint64_t sessions_so_far = 0;
    uint64_t failed_connects = 0;
    uint64_t bytes_to_target = 0, bytes_to_client = 0;
    std::optional<double> connect_mean;
    uint64_t checks_good = 0, checks_bad = 0;
};

struct Session {
    uint64_t id = 0;
    std::string service;
    std::string client;
    std::string original_dst;
    std::string target;  ///< empty before it has one
    std::string state;   ///< "waiting", "connecting", "open"
    double age = 0;
    uint64_t to_target = 0, to_client = 0;
    uint64_t worker = 0;
};

struct Sessions {
    std::vector<Session> sessions;  ///< the oldest first
    uint64_t matching = 0;          ///< also those beyond the limit
};

struct Port {
    std::string ports;    ///< "5001", "5300-5399"
    std::string service;  ///< empty when clients of it are refused
    std::vector<std::string> addresses;
    std::string origin;  ///< "config", "hand" for those added to proxy_ports, "listener"
    std::vector<std::string> shadows;  ///< local listeners that get no connections any more
};

struct Counter {
    std::string name;
    std::string meaning;
    uint64_t value = 0;
};

struct ServiceCounters {
    std::string service;  ///< empty for ports that were added by hand
    std::vector<Counter> counters;
};

struct Steering {
    bool is_on = false;
    uint64_t program_id = 0, link_id = 0, proxy_ports_id = 0, proxy_sock_id = 0;
    uint16_t listener_port = 0;
    uint64_t ports = 0;
    std::vector<Counter> counters;  ///< of all services together
    std::vector<ServiceCounters> services;
    std::vector<std::string> warnings;
};

/// One difference between the running config and another.
struct Change {
    std::string sign;    ///< "+", "-", "~"
    std::string what;    ///< "service web", "target 10.0.0.1:80 of service web"
    std::string effect;  ///< what becomes of live sessions, where something does
};

/// What a reload would do.
struct Plan {
    std::vector<Change> changes;
    std::vector<std::string> warnings;
};

/// What came of a command that changes something.
struct Done {
    std::string text;  ///< a sentence
    std::vector<std::string> warnings;
};

/// One thing that is looked at on the way of a SYN.
struct Step {
    std::string stage;
    std::string finding;
    bool decides = false;
};
struct Candidate {
    std::string target;
    uint64_t order = 0;  ///< 0 when it is not tried
    std::vector<std::string> states;
    std::string reason;
};
/// What would become of a client; explain/explanation.h has the words.
struct Explanation {
    std::string client, destination;
    std::vector<Step> steps;
    std::vector<Candidate> candidates;
    bool is_one_draw = false;
    std::string service;
    std::string outcome;
    std::string target;
    std::string client_sees;
};

/// What `proxify doctor` has found.
struct Finding {
    std::string severity;  ///< "ok", "note", "warning", "error"
    std::string topic, what, remedy;
};
struct Findings {
    std::vector<Finding> findings;
    std::string worst;
};

/// What `proxify check` has found. Where the file is no good, all but `error` and `hint` is empty.
struct Checked {
    bool is_good = false;
    std::string error;  ///< may have several lines
    std::string hint;
    uint64_t services = 0, targets = 0, ports = 0;
    std::string text;  ///< what would run, for people
};

/// A port that netfilter leads to a listener of ours.
struct Redirect {
    uint16_t port = 0;
    std::optional<uint16_t> arriving;  ///< where other hosts get that dial it
    std::optional<uint16_t> leaving;   ///< where this host gets
};
struct Redirects {
    std::vector<Redirect> redirects;
    std::string mark;  ///< "0x2035", "0x35/0xff": what carries it is not redirected when it leaves
};

struct Trouble {
    std::string error;
    std::string hint;
};

struct Services {
    std::vector<Service> services;
};
struct Targets {
    std::vector<Target> targets;
};
struct Ports {
    std::vector<Port> ports;
};

/// For each of the values above: one line of JSON with its newline.
template <class T>
std::string to_json(const T& value);
/// The reverse; keys that are missing have their defaults, unknown ones are ignored.
template <class T>
Result<T> from_json(std::string_view text);

}  // namespace proxify::report
