// SPDX-License-Identifier: Apache-2.0
// What the facts mean. The order is that of a start: the kernel, io_uring, the steering program;
// then what stands around: ports, ways, limits.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iterator>

#include "base/format.h"
#include "config/certificates.h"
#include "doctor/finding.h"
#include "doctor/findings.h"
#include "io/ring.h"
#include "kernel/privileges.h"
#include "steering/tables.h"

namespace proxify::doctor {

namespace {

/// Fewer sessions at a time than this is a default that nobody chose.
constexpr size_t sessions_few = 1000;

bool is_older(const std::string& release, int major, int minor) {
    int a = 0, b = 0;
    if (std::sscanf(release.c_str(), "%d.%d", &a, &b) != 2) return false;
    return std::pair(a, b) < std::pair(major, minor);
}

/// An Error in one sentence, but for its hint.
std::string sentence(const Error& error) {
    std::string text = error.what;
    for (const auto& cause : error.causes) text += ": " + cause;
    return text;
}

void judge_kernel(const Host& host, Findings& findings) {
    if (!is_older(host.kernel, 6, 1))
        findings.ok("kernel",
                    format("Linux {} on {}", host.kernel, count_text(host.cores, "core")));
    else if (host.ring_refused)
        findings.fail("kernel", format("Linux {} is too old", host.kernel),
                      "boot Linux 6.1 or newer");
    else
        findings.note("kernel",
                      format("Linux {} is older than 6.1, the oldest that proxify is tried with; "
                             "what it asks of io_uring is there",
                             host.kernel),
                      "boot Linux 6.1 or newer if anything behaves oddly");
}

void judge_namespace(const Host& host, Findings& findings) {
    if (!host.is_first_namespace)
        findings.ok("network", format("network namespace {}", host.network_namespace));
    else
        findings.ok("network", format("network namespace {}, {}", host.network_namespace,
                                      *host.is_first_namespace
                                          ? "that of the host itself"
                                          : "not that of pid 1: only ports in here are served"));
}

// ---- io_uring

/// Since Linux 5.11 BPF maps, and since 5.12 rings, are charged to the memory cgroup instead.
bool locks_memory(const Host& host) {
    return is_older(host.kernel, 5, 12) && host.locked_memory_max != SIZE_MAX;
}

void judge_refused_ring(const Host& host, Findings& findings) {
    const long setting = host.io_uring_disabled.value_or(0);
    auto refused = [&](std::string what, std::string remedy) {
        findings.fail("io_uring", std::move(what), std::move(remedy));
    };
    const auto seccomp_remedy =
        "allow io_uring_setup, io_uring_enter and io_uring_register: with Docker by a profile of "
        "your own, `--security-opt seccomp=FILE`; in a systemd unit by `SystemCallFilter=@aio`";

    switch (host.io_uring_errno) {
        case EPERM:
        case EACCES:
            if (setting == 2)
                return refused("the sysctl kernel.io_uring_disabled is 2: nobody may use io_uring",
                               "`sysctl -w kernel.io_uring_disabled=0`");
            if (setting == 1)
                return refused(
                    format("the sysctl kernel.io_uring_disabled is 1: only root and one group may "
                           "use io_uring{}",
                           host.has_seccomp_filter ? "; and a seccomp filter may forbid it" : ""),
                    "run as root; or name a group of this user, `sysctl -w "
                    "kernel.io_uring_group=GID`; or `sysctl -w kernel.io_uring_disabled=0`");
            if (host.has_seccomp_filter)
                return refused("a seccomp filter forbids io_uring, as Docker's default one does",
                               seccomp_remedy);
            return refused("io_uring is forbidden, by neither sysctl nor seccomp",
                           "ask the security module: `dmesg | grep -i denied` may name it");
        case ENOSYS:
            if (host.has_seccomp_filter)
                return refused(
                    "io_uring is not there: a seccomp filter hides it, or this kernel was built "
                    "without it",
                    seccomp_remedy);
            return refused("this kernel was built without io_uring",
                           "boot one that was built with CONFIG_IO_URING");
        case EMFILE:
        case ENFILE:
            return refused("no descriptor is left for a ring", "raise `ulimit -n`");
        case ENOMEM:
            if (locks_memory(host))
                return refused(format("a ring takes more memory than may be locked, {} KiB",
                                      host.locked_memory_max / 1024),
                               "raise it: `ulimit -l unlimited`, or `LimitMEMLOCK=infinity` in a "
                               "systemd unit");
            return refused("there is too little memory for a ring",
                           "free some, or raise the limit of the cgroup: `MemoryMax=` in a systemd "
                           "unit, `--memory` with Docker");
        default:
            break;
    }
    // A plain ring opens, so it is what we ask of it that is missing, or has no room.
    const auto& error = *host.ring_refused;
    refused(sentence(error), error.hint.empty() ? "boot Linux 6.1 or newer" : error.hint);
}

void judge_ring(const Host& host, Findings& findings) {
    if (host.ring_refused)
        judge_refused_ring(host, findings);
    else
        findings.ok("io_uring", "a ring opens, with all that proxify asks of it");
}

// ---- steering

void judge_program(const Host& host, const Start& start, Findings& findings) {
    const auto severity = start.steer ? Severity::error : Severity::note;
    const auto& missing = host.missing_for_steering;
    if (!missing.empty())
        findings.add(severity, "steering",
                     format("-b {} {}, which {} missing", start.steer ? "needs" : "would need",
                            kernel::join_with_and(missing), missing.size() == 1 ? "is" : "are"),
                     start.steer ? paragraph(kernel::privileges_hint(missing))
                                 : format("for -b, run as root, or grant {}",
                                          kernel::join_with_and(missing)));
    else if (host.program_refused)
        findings.add(severity, "steering", sentence(*host.program_refused),
                     host.program_refused->hint.empty() ? "leave -b away, or boot a newer kernel"
                                                        : paragraph(host.program_refused->hint));
    else if (host.program_was_tried)
        findings.ok("steering", "the steering program loads");
}

/// Programs of others come before ours in the kernel, and before every ordinary listener.
void judge_links(const Host& host, const Start& start, Findings& findings) {
    if (!host.steering_links) return;
    for (const auto& link : *host.steering_links) {
        const auto id = link.link_id == 0
                            ? format("program id {}", link.program_id)
                            : format("link id {}, program id {}", link.link_id, link.program_id);
        if (link.is_proxify && start.steer)
            findings.fail("steering",
                          format("a proxify steers in this network namespace already ({}): a "
                                 "second one is refused",
                                 id),
                          "end the first, or start this one in another network namespace");
        else if (link.is_proxify)
            findings.warn("steering",
                          format("a proxify steers in this network namespace ({}): ports that it "
                                 "steers never reach a listener of this one",
                                 id),
                          "give the two different ports, or end one");
        else
            findings.warn(
                "steering",
                format("another sk_lookup program, {} ({}), is attached here: the connections that "
                       "it takes never reach proxify",
                       link.program_name.empty() ? "whose name only root may see"
                                                 : format("\"{}\"", link.program_name),
                       id),
                "`bpftool link list` shows it; find out whose it is, and which ports it takes");
    }
    if (host.steering_links->empty())
        findings.ok("steering", "no other sk_lookup program is attached here");
}

void judge_bpf(const Host& host, const Start& start, Findings& findings) {
    if (host.bpf_jit_enable == 0 && start.steer)
        findings.note("bpf", "the kernel interprets BPF, so each new connection costs more",
                      "`sysctl -w net.core.bpf_jit_enable=1`");
    if (host.unprivileged_bpf_disabled == 0)
        findings.note("bpf", "every user may load BPF programs, which proxify has no need of",
                      "`sysctl -w kernel.unprivileged_bpf_disabled=2`");

    std::vector<std::string> there, missing;
    std::string remedies;
    auto look_for = [&](const std::string& what, bool is_there, const std::string& remedy) {
        (is_there ? there : missing).push_back(what);
        if (!is_there) remedies += (remedies.empty() ? "" : "\n") + remedy;
    };
    auto at = [](const std::string& place) { return place.empty() ? "" : " at " + place; };
    look_for("BTF of the kernel", host.has_btf,
             "BTF comes with a kernel that was built with CONFIG_DEBUG_INFO_BTF");
    look_for("bpffs" + at(host.bpffs), !host.bpffs.empty(), "`mount -t bpf bpf /sys/fs/bpf`");
    look_for("cgroup2" + at(host.cgroup2), !host.cgroup2.empty(),
             "`mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2`");
    if (!there.empty()) findings.ok("bpf", kernel::join_with_and(there));
    if (!missing.empty())
        findings.note("bpf",
                      format("not there: {}; proxify does without, other tools may not",
                             kernel::join_with_and(missing)),
                      remedies);
}

// ---- ways

/// `sysctl -w` of one setting for each of these interfaces.
std::string set_for_each(const std::vector<std::string>& interfaces, std::string_view setting) {
    std::string commands;
    for (const auto& name : interfaces)
        commands += format("{}`sysctl -w net.ipv4.conf.{}.{}`", commands.empty() ? "" : "\n", name,
                           setting);
    return commands;
}

/// What the check of source addresses drops, proxify never sees: it comes before the lookup of a
/// socket. What becomes of a packet whose mark leads to a local route was tried on Linux 6.18:
/// where src_valid_mark is set it is dropped even without rp_filter, unless accept_local is set and
/// rp_filter is not strict.
void judge_ways(const Host& host, Findings& findings) {
    std::vector<std::string> strict, blind, martian;
    for (const auto& one : host.interfaces) {
        if (one.rp_filter == 1) strict.push_back(one.name);
        if (one.rp_filter == 1 && !one.src_valid_mark) blind.push_back(one.name);
        if (one.src_valid_mark && (!one.accept_local || one.rp_filter == 1))
            martian.push_back(one.name);
    }
    if (host.marks.lead_home && !martian.empty())
        findings.warn(
            "rp_filter",
            format("src_valid_mark is set for {}, and `ip rule` leads some firewall marks "
                   "to a local route: clients with such a mark are dropped as martians",
                   kernel::join_with_and(martian)),
            set_for_each(martian, "accept_local=1") +
                (strict.empty() ? "" : "\n" + set_for_each(strict, "rp_filter=2")));
    if (host.marks.choose_routes && !host.marks.lead_home && !blind.empty())
        findings.warn("rp_filter",
                      format("rp_filter is strict on {} and does not heed the firewall marks that "
                             "`ip rule` routes by: a client whose way back depends on its mark is "
                             "dropped",
                             kernel::join_with_and(blind)),
                      set_for_each(blind, "rp_filter=2"));
    else if (!strict.empty() && host.interfaces.size() > 1)
        findings.note("rp_filter",
                      format("rp_filter is strict on {}: a client whose way back leads through "
                             "another interface is dropped before proxify sees it",
                             kernel::join_with_and(strict)),
                      set_for_each(strict, "rp_filter=2"));
}

// ---- limits

/// Descriptors that a start takes, as Server::bind_ports and Server::shares_for count them. What is
/// open beside listeners was counted on a proxify at rest, and 10 are kept free.
struct Need {
    size_t workers, listeners, others;
    size_t in_all() const { return listeners + others; }
};

Need need_of(const Host& host, const config::Config* config, const Start& start) {
    const size_t workers = config && config->workers ? *config->workers : host.cores;
    const size_t ports = config && !start.steer ? steering::ports_of(*config).count() : 1;
    return {.workers = workers,
            .listeners = ports * workers,
            .others = (start.steer ? 55 : 42) + 2 * workers};
}

/// A session has two sockets; a sixteenth is for pipes, up to 64 of them for a worker.
size_t sessions_within(size_t descriptors, const Need& need) {
    if (descriptors <= need.in_all()) return 0;
    const size_t room = (descriptors - need.in_all()) / need.workers;
    return (room - 2 * std::min<size_t>(room / 32, 64)) / 2 * need.workers;
}

/// No more exact than we are.
std::string about_sessions(size_t sessions) {
    return "about " + count_text(sessions < 1000 ? sessions : sessions - sessions % 100, "session");
}

void judge_descriptors(const Host& host, const config::Config* config, const Start& start,
                       Findings& findings) {
    const Need need = need_of(host, config, start);
    const size_t limit = host.descriptors_max;
    const size_t goal = std::max<size_t>(65536, 2 * need.in_all());
    auto remedy = format("`ulimit -n {}`, or `LimitNOFILE={}` in a systemd unit", goal, goal);
    if (host.nr_open && static_cast<size_t>(*host.nr_open) < goal)
        remedy += format("; no limit can be above fs.nr_open: `sysctl -w fs.nr_open={}`", goal);

    const size_t sessions = sessions_within(limit, need);
    size_t wanted = 0;
    if (config)
        for (const auto& service : config->services)
            wanted += static_cast<size_t>(service.max_connections);

    if (limit < need.in_all())
        findings.fail(
            "limits",
            format("{} for each of {} take {} descriptors, and {} are allowed",
                   count_text(need.listeners / need.workers, "listener"),
                   count_text(need.workers, "worker"), need.in_all(), limit),
            (start.steer ? "" : "use -b, which needs one listener for all ports; or ") + remedy);
    else if (sessions < sessions_few || sessions < wanted)
        findings.warn(
            "limits",
            format("{} descriptors are room for {} at a time{}", limit, about_sessions(sessions),
                   sessions < wanted ? format(", and the file lets in {}", wanted) : ""),
            remedy);
    else if (limit == SIZE_MAX)
        findings.ok("limits", "any number of descriptors is allowed");
    else
        findings.ok("limits", format("{} descriptors are room for {} at a time", limit,
                                     about_sessions(sessions)));

    if (host.file_max && host.files_open && *host.file_max - *host.files_open < *host.file_max / 10)
        findings.warn("limits",
                      format("the host has {} files open of {} (fs.file-max)", *host.files_open,
                             *host.file_max),
                      format("`sysctl -w fs.file-max={}`", 2 * *host.file_max));
}

void judge_locked_memory(const Host& host, Findings& findings) {
    constexpr size_t enough = 64 << 20;
    if (!locks_memory(host) || host.locked_memory_max >= enough) return;
    findings.warn("limits",
                  format("this kernel counts rings and BPF maps as locked memory, of which {} KiB "
                         "are allowed",
                         host.locked_memory_max / 1024),
                  "`ulimit -l unlimited`, or `LimitMEMLOCK=infinity` in a systemd unit");
}

void judge_queues(const Host& host, Findings& findings) {
    const int backlog = io::ListenOptions{}.backlog;
    if (host.somaxconn && *host.somaxconn < backlog)
        findings.warn("queues",
                      format("net.core.somaxconn is {}: so many clients, not {}, can wait to be "
                             "accepted at a listener",
                             *host.somaxconn, backlog),
                      format("`sysctl -w net.core.somaxconn={}`", backlog));
    if (host.syncookies == 0)
        findings.note("queues",
                      format("net.ipv4.tcp_syncookies is 0: {} SYNs that nobody follows up make a "
                             "listener deaf",
                             host.max_syn_backlog ? std::to_string(*host.max_syn_backlog) : "some"),
                      "`sysctl -w net.ipv4.tcp_syncookies=1`");
}

void judge_conntrack(const Host& host, Findings& findings) {
    if (!host.conntrack_count || !host.conntrack_max || *host.conntrack_max <= 0) return;
    const long count = *host.conntrack_count, most = *host.conntrack_max;
    if (count >= most - most / 10)
        findings.warn("conntrack",
                      format("the table of nf_conntrack is nearly full, {} of {}: when it is, new "
                             "connections are dropped; each session takes two places",
                             count, most),
                      format("`sysctl -w net.netfilter.nf_conntrack_max={}`", 2 * most));
    else
        findings.ok("conntrack", format("{} of {} places in the table are taken", count, most));
}

/// What was not looked at, so that silence is not taken for health.
void judge_unseen(const Host& host, const Start& start, Findings& findings) {
    std::vector<std::string> unseen;
    if (!host.program_was_tried) unseen.emplace_back("whether the steering program loads");
    if (!host.steering_links) unseen.emplace_back("which sk_lookup programs are attached here");
    if (!host.listeners)
        unseen.emplace_back("who listens on which port");
    else if (std::ranges::any_of(*host.listeners, &std::string::empty, &kernel::Listening::process))
        unseen.emplace_back("whose some of the listeners are");
    if (unseen.empty()) return;
    findings.note("unseen", format("not looked at: {}", kernel::join_with_and(unseen)),
                  format("`sudo proxify doctor{}` sees more", start.steer ? " -b" : ""));
}

}  // namespace

std::string paragraph(std::string text) {
    std::ranges::replace(text, '\n', ' ');
    return text;
}

std::string_view to_text(Severity severity) {
    switch (severity) {
        case Severity::ok:
            return "ok";
        case Severity::note:
            return "note";
        case Severity::warning:
            return "warning";
        case Severity::error:
            break;
    }
    return "error";
}

Severity worst(std::span<const Finding> findings) {
    Severity worst = Severity::ok;
    for (const auto& finding : findings) worst = std::max(worst, finding.severity);
    return worst;
}

std::vector<Finding> judge(const Host& host, const config::Config* config, const Start& start) {
    Findings findings;
    judge_kernel(host, findings);
    judge_namespace(host, findings);
    judge_ring(host, findings);
    judge_program(host, start, findings);
    judge_links(host, start, findings);
    judge_bpf(host, start, findings);
    if (config) judge_ports(host, *config, start, findings);
    if (config) judge_certificates(host, *config, findings);
    judge_ways(host, findings);
    judge_descriptors(host, config, start, findings);
    judge_locked_memory(host, findings);
    judge_queues(host, findings);
    judge_conntrack(host, findings);
    judge_unseen(host, start, findings);
    return std::move(findings).take();
}

// ---- with the real host

/// The parser's message: all of its lines, as several mistakes have one each.
static Finding finding_of(const Error& error) {
    std::string remedy;
    for (const auto& line : error.causes) remedy += line + "\n";
    remedy += error.hint;
    if (remedy.ends_with('\n')) remedy.pop_back();
    return {Severity::error, "config", error.what, remedy};
}

static Finding summary_of(const config::Config& config, const std::string& path) {
    size_t targets = 0;
    for (const auto& service : config.services) targets += service.targets.size();
    return {Severity::ok, "config",
            format("{}: {}, {}, {}", path, count_text(config.services.size(), "service"),
                   count_text(steering::ports_of(config).count(), "port"),
                   count_text(targets, "target")),
            ""};
}

std::vector<Finding> diagnose(const Start& start) {
    std::optional<config::Config> config;
    Finding about_config;
    std::error_code ignored;
    const std::string path = start.config_path.value_or("targets.toml");
    if (!start.config_path && !std::filesystem::exists(path, ignored)) {
        about_config = {Severity::note, "config",
                        format("there is no {} here: only the host was looked at", path),
                        "name the file with -c FILE"};
    } else if (auto loaded = config::load(path)) {
        config = std::move(*loaded);
        about_config = summary_of(*config, path);
    } else {
        about_config = finding_of(loaded.error());
    }

    steering::PortSet ports;
    if (config) {
        ports = steering::ports_of(*config);
        if (start.steer) ports.set(start.listen.value_or(config->listen));
    }
    std::vector<std::string> keys;
    if (config) keys = config::keys_of(*config);
    auto findings = judge(examine_host(ports, keys), config ? &*config : nullptr, start);
    findings.insert(findings.begin(), std::move(about_config));
    return findings;
}

}  // namespace proxify::doctor
