// SPDX-License-Identifier: Apache-2.0
// The doctor's judgement of hosts that were made up.
#include <cerrno>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "doctor/finding.h"
#include "doctor/text.h"
#include "support/catch.h"
#include "support/temp_dir.h"
#include "tls/authority.h"

using namespace proxify;
using namespace proxify::doctor;
using kernel::Listening;

namespace {

/// One on which nothing is wrong, whatever is asked of it.
Host healthy() {
    Host host;
    host.kernel = "6.1.0-18-amd64";
    host.cores = 2;
    host.network_namespace = 4026531840;
    host.is_first_namespace = true;
    host.io_uring_disabled = 0;
    host.locked_memory_max = 8 << 20;
    host.program_was_tried = true;
    host.steering_links.emplace();
    host.unprivileged_bpf_disabled = 2;
    host.bpf_jit_enable = 1;
    host.has_btf = true;
    host.bpffs = "/sys/fs/bpf";
    host.cgroup2 = "/sys/fs/cgroup";
    host.listeners.emplace();
    host.addresses = {*Ip::parse("127.0.0.1"), *Ip::parse("198.51.100.1")};
    host.may_bind_low_ports = true;
    host.interfaces = {{.name = "eth0", .rp_filter = 2}};
    host.descriptors_max = 524288;
    host.nr_open = 1048576;
    host.file_max = 9223372036854775807;
    host.files_open = 1000;
    host.somaxconn = 4096;
    host.syncookies = 1;
    host.max_syn_backlog = 1024;
    host.conntrack_count = 10;
    host.conntrack_max = 262144;
    return host;
}

config::Config config_of(const std::string& text) {
    auto config = config::parse(text, "targets.toml");
    if (!config) FAIL(config.error().text());
    return *config;
}

/// A service `web` with these ports and this target.
config::Config web(const std::string& ports, const std::string& target = "203.0.113.1:80",
                   const std::string& more = "") {
    return config_of("[[service]]\nname = \"web\"\nports = [" + ports + "]\ntargets = [\"" +
                     target + "\"]\n" + more);
}

Listening listening(const std::string& at, const std::string& process) {
    return {.address = *Address::parse(at), .inode = 1, .process = process};
}

constexpr bool steered = true, bound = false;

std::vector<Finding> bad_ones(std::vector<Finding> findings) {
    std::erase_if(findings, [](const Finding& one) { return one.severity == Severity::ok; });
    return findings;
}

std::vector<Finding> bad_ones(const Host& host, const config::Config& config, bool steer) {
    return bad_ones(judge(host, &config, {.steer = steer}));
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

namespace proxify::doctor {
std::ostream& operator<<(std::ostream& out, const Finding& finding) {
    return out << to_text(finding.severity) << " | " << finding.topic << " | " << finding.what
               << " | " << finding.remedy;
}
}  // namespace proxify::doctor

TEST_CASE("on a healthy host there is nothing to say against any start") {
    for (bool steer : {bound, steered}) {
        CHECK(bad_ones(healthy(), web("443, 5001"), steer).empty());
        CHECK(bad_ones(judge(healthy(), nullptr, {.steer = steer})).empty());
        auto findings = judge(healthy(), nullptr, {.steer = steer});
        CHECK(worst(findings) == Severity::ok);
        for (const auto& finding : findings) CHECK(finding.remedy.empty());
    }
}

TEST_CASE("each thing that is wrong with the host alone is one finding with its remedy") {
    struct Row {
        std::string about;
        bool steer;
        std::function<void(Host&)> change;
        Finding expected;
    };
    auto ring = [](int number, Host& host) {
        host.ring_refused = Error::from_errno(number, "cannot set up io_uring", "a hint");
        host.io_uring_errno = number;
    };
    using enum Severity;
    const std::string allow =
        "allow io_uring_setup, io_uring_enter and io_uring_register: with Docker by a profile of "
        "your own, `--security-opt seccomp=FILE`; in a systemd unit by `SystemCallFilter=@aio`";
    const std::vector<Row> rows = {
        {"an old kernel that does it all the same",
         bound,
         [](Host& host) { host.kernel = "5.14.0-427.el9"; },
         {note, "kernel",
          "Linux 5.14.0-427.el9 is older than 6.1, the oldest that proxify is tried with; what it "
          "asks of io_uring is there",
          "boot Linux 6.1 or newer if anything behaves oddly"}},
        {"the sysctl that shuts io_uring off",
         bound,
         [&](Host& host) { ring(EPERM, host), host.io_uring_disabled = 2; },
         {error, "io_uring", "the sysctl kernel.io_uring_disabled is 2: nobody may use io_uring",
          "`sysctl -w kernel.io_uring_disabled=0`"}},
        {"the sysctl that keeps it for a group",
         bound,
         [&](Host& host) { ring(EPERM, host), host.io_uring_disabled = 1; },
         {error, "io_uring",
          "the sysctl kernel.io_uring_disabled is 1: only root and one group may use io_uring",
          "run as root; or name a group of this user, `sysctl -w kernel.io_uring_group=GID`; or "
          "`sysctl -w kernel.io_uring_disabled=0`"}},
        {"a seccomp filter",
         steered,
         [&](Host& host) { ring(EPERM, host), host.has_seccomp_filter = true; },
         {error, "io_uring", "a seccomp filter forbids io_uring, as Docker's default one does",
          allow}},
        {"a seccomp filter that hides it",
         bound,
         [&](Host& host) { ring(ENOSYS, host), host.has_seccomp_filter = true; },
         {error, "io_uring",
          "io_uring is not there: a seccomp filter hides it, or this kernel was built without it",
          allow}},
        {"a kernel without it",
         bound,
         [&](Host& host) { ring(ENOSYS, host); },
         {error, "io_uring", "this kernel was built without io_uring",
          "boot one that was built with CONFIG_IO_URING"}},
        {"forbidden by who knows what",
         bound,
         [&](Host& host) { ring(EACCES, host); },
         {error, "io_uring", "io_uring is forbidden, by neither sysctl nor seccomp",
          "ask the security module: `dmesg | grep -i denied` may name it"}},
        {"too little memory for a ring",
         bound,
         [&](Host& host) { ring(ENOMEM, host); },
         {error, "io_uring", "there is too little memory for a ring",
          "free some, or raise the limit of the cgroup: `MemoryMax=` in a systemd unit, `--memory` "
          "with Docker"}},
        {"no descriptor for a ring",
         bound,
         [&](Host& host) { ring(EMFILE, host); },
         {error, "io_uring", "no descriptor is left for a ring", "raise `ulimit -n`"}},
        {"a plain ring opens, ours does not",
         bound,
         [&](Host& host) { ring(EINVAL, host), host.io_uring_errno = 0; },
         {error, "io_uring", "cannot set up io_uring: Invalid argument", "a hint"}},
        {"a program that the kernel refuses",
         steered,
         [](Host& host) {
             host.program_refused = {.what = "cannot load the steering program",
                                     .causes = {"this kernel has no sk_lookup hook"},
                                     .hint = {}};
         },
         {error, "steering", "cannot load the steering program: this kernel has no sk_lookup hook",
          "leave -b away, or boot a newer kernel"}},
        {"the same where it is not asked for",
         bound,
         [](Host& host) {
             host.program_refused = {.what = "cannot load the steering program",
                                     .causes = {},
                                     .hint = "a hint\nin two lines"};
         },
         {note, "steering", "cannot load the steering program", "a hint in two lines"}},
        {"another proxify",
         steered,
         [](Host& host) { host.steering_links = {{4, 9, "proxify_steer", true}}; },
         {error, "steering",
          "a proxify steers in this network namespace already (link id 4, program id 9): a second "
          "one is refused",
          "end the first, or start this one in another network namespace"}},
        {"another proxify, and ordinary listeners",
         bound,
         [](Host& host) { host.steering_links = {{4, 9, "proxify_steer", true}}; },
         {warning, "steering",
          "a proxify steers in this network namespace (link id 4, program id 9): ports that it "
          "steers never reach a listener of this one",
          "give the two different ports, or end one"}},
        {"somebody else's program",
         steered,
         [](Host& host) { host.steering_links = {{4, 9, "tubular", false}}; },
         {warning, "steering",
          "another sk_lookup program, \"tubular\" (link id 4, program id 9), is attached here: the "
          "connections that it takes never reach proxify",
          "`bpftool link list` shows it; find out whose it is, and which ports it takes"}},
        {"somebody's program, of which little is known",
         bound,
         [](Host& host) { host.steering_links = {{.program_id = 9}}; },
         {warning, "steering",
          "another sk_lookup program, whose name only root may see (program id 9), is attached "
          "here: the connections that it takes never reach proxify",
          "`bpftool link list` shows it; find out whose it is, and which ports it takes"}},
        {"no JIT",
         steered,
         [](Host& host) { host.bpf_jit_enable = 0; },
         {note, "bpf", "the kernel interprets BPF, so each new connection costs more",
          "`sysctl -w net.core.bpf_jit_enable=1`"}},
        {"BPF for everybody",
         bound,
         [](Host& host) { host.unprivileged_bpf_disabled = 0; },
         {note, "bpf", "every user may load BPF programs, which proxify has no need of",
          "`sysctl -w kernel.unprivileged_bpf_disabled=2`"}},
        {"nothing mounted",
         bound,
         [](Host& host) { host.bpffs = host.cgroup2 = "", host.has_btf = false; },
         {note, "bpf",
          "not there: BTF of the kernel, bpffs and cgroup2; proxify does without, other tools may "
          "not",
          "BTF comes with a kernel that was built with CONFIG_DEBUG_INFO_BTF\n"
          "`mount -t bpf bpf /sys/fs/bpf`\n`mkdir -p /run/cgroup2 && mount -t cgroup2 none "
          "/run/cgroup2`"}},
        {"strict rp_filter with two ways in",
         bound,
         [](Host& host) {
             host.interfaces = {{.name = "eth0", .rp_filter = 1}, {.name = "eth1", .rp_filter = 2}};
         },
         {note, "rp_filter",
          "rp_filter is strict on eth0: a client whose way back leads through another interface is "
          "dropped before proxify sees it",
          "`sysctl -w net.ipv4.conf.eth0.rp_filter=2`"}},
        {"strict rp_filter that does not see marks",
         bound,
         [](Host& host) {
             host.interfaces = {{.name = "eth0", .rp_filter = 1}, {.name = "eth1", .rp_filter = 1}};
             host.marks = {.choose_routes = true};
         },
         {warning, "rp_filter",
          "rp_filter is strict on eth0 and eth1 and does not heed the firewall marks that `ip "
          "rule` "
          "routes by: a client whose way back depends on its mark is dropped",
          "`sysctl -w net.ipv4.conf.eth0.rp_filter=2`\n"
          "`sysctl -w net.ipv4.conf.eth1.rp_filter=2`"}},
        {"marks that lead to a local route, and are heeded",
         bound,
         [](Host& host) {
             host.interfaces = {{.name = "eth0", .src_valid_mark = true}};
             host.marks = {.choose_routes = true, .lead_home = true};
         },
         {warning, "rp_filter",
          "src_valid_mark is set for eth0, and `ip rule` leads some firewall marks to a local "
          "route: clients with such a mark are dropped as martians",
          "`sysctl -w net.ipv4.conf.eth0.accept_local=1`"}},
        {"the same with strict rp_filter, for which accept_local is not enough",
         bound,
         [](Host& host) {
             host.interfaces = {{"eth0", 1, true, true}};
             host.marks = {.choose_routes = true, .lead_home = true};
         },
         {warning, "rp_filter",
          "src_valid_mark is set for eth0, and `ip rule` leads some firewall marks to a local "
          "route: clients with such a mark are dropped as martians",
          "`sysctl -w net.ipv4.conf.eth0.accept_local=1`\n"
          "`sysctl -w net.ipv4.conf.eth0.rp_filter=2`"}},
        {"few descriptors",
         bound,
         [](Host& host) { host.descriptors_max = 1024; },
         {warning, "limits", "1024 descriptors are room for about 458 sessions at a time",
          "`ulimit -n 65536`, or `LimitNOFILE=65536` in a systemd unit"}},
        {"few descriptors, and a low ceiling",
         bound,
         [](Host& host) { host.descriptors_max = 1024, host.nr_open = 4096; },
         {warning, "limits", "1024 descriptors are room for about 458 sessions at a time",
          "`ulimit -n 65536`, or `LimitNOFILE=65536` in a systemd unit; no limit can be above "
          "fs.nr_open: `sysctl -w fs.nr_open=65536`"}},
        {"too few descriptors",
         bound,
         [](Host& host) { host.descriptors_max = 25; },
         {error, "limits",
          "1 listener for each of 2 workers take 48 descriptors, and 25 are allowed",
          "use -b, which needs one listener for all ports; or `ulimit -n 65536`, or "
          "`LimitNOFILE=65536` in a systemd unit"}},
        {"a host full of open files",
         bound,
         [](Host& host) { host.file_max = 100'000, host.files_open = 90'001; },
         {warning, "limits", "the host has 90001 files open of 100000 (fs.file-max)",
          "`sysctl -w fs.file-max=200000`"}},
        {"a short queue",
         bound,
         [](Host& host) { host.somaxconn = 4095; },
         {warning, "queues",
          "net.core.somaxconn is 4095: so many clients, not 4096, can wait to be accepted at a "
          "listener",
          "`sysctl -w net.core.somaxconn=4096`"}},
        {"no SYN cookies",
         bound,
         [](Host& host) { host.syncookies = 0; },
         {note, "queues",
          "net.ipv4.tcp_syncookies is 0: 1024 SYNs that nobody follows up make a listener deaf",
          "`sysctl -w net.ipv4.tcp_syncookies=1`"}},
        {"a full table of connections",
         bound,
         [](Host& host) { host.conntrack_count = 90, host.conntrack_max = 100; },
         {warning, "conntrack",
          "the table of nf_conntrack is nearly full, 90 of 100: when it is, new connections are "
          "dropped; each session takes two places",
          "`sysctl -w net.netfilter.nf_conntrack_max=200`"}},
    };
    for (const auto& row : rows) {
        CAPTURE(row.about);
        Host host = healthy();
        row.change(host);
        CHECK(bad_ones(judge(host, nullptr, {.steer = row.steer})) == std::vector{row.expected});
    }
}

TEST_CASE("what only just suffices is not complained of") {
    for (auto change : std::vector<std::function<void(Host&)>>{
             [](Host& host) { host.kernel = "6.1.0"; },
             [](Host& host) { host.kernel = "10.0"; },
             [](Host& host) { host.descriptors_max = 2194; },  // 1000 sessions
             [](Host& host) { host.somaxconn = 4096; },
             [](Host& host) { host.conntrack_count = 89, host.conntrack_max = 100; },
             [](Host& host) { host.conntrack_max = 0; },  // any number
             [](Host& host) { host.file_max = 100'000, host.files_open = 90'000; },
             [](Host& host) { host.interfaces = {{.name = "eth0", .rp_filter = 1}}; },
             // Marks that choose ordinary routes, and are heeded: a VPN.
             [](Host& host) {
                 host.interfaces = {{.name = "eth0", .rp_filter = 1, .src_valid_mark = true}};
                 host.marks = {.choose_routes = true};
             },
             // Marks that lead home, for TPROXY, and are not heeded, or are let in.
             [](Host& host) {
                 host.interfaces = {{.name = "eth0"},
                                    {.name = "eth1", .src_valid_mark = true, .accept_local = true}};
                 host.marks = {.choose_routes = true, .lead_home = true};
             },
             // Strict, and marks that it does not heed lead home: tried, those are let in.
             [](Host& host) {
                 host.interfaces = {{.name = "eth0", .rp_filter = 1}};
                 host.marks = {.choose_routes = true, .lead_home = true};
             },
             // A host that shows little.
             [](Host& host) {
                 host.nr_open = host.file_max = host.files_open = host.somaxconn = {};
                 host.conntrack_count = host.conntrack_max = host.bpf_jit_enable = {};
                 host.unprivileged_bpf_disabled = host.syncookies = {};
                 host.is_first_namespace = {};
             },
         }) {
        Host host = healthy();
        change(host);
        CHECK(bad_ones(judge(host, nullptr, {.steer = true})).empty());
    }
}

TEST_CASE("a kernel that is too old fails once for itself and once for what it lacks") {
    Host host = healthy();
    host.kernel = "5.10.0";
    host.ring_refused = Error::from_errno(EINVAL, "cannot set up io_uring");
    host.locked_memory_max = 64 << 10;
    auto findings = bad_ones(judge(host, nullptr, {}));
    REQUIRE(findings.size() == 3);
    CHECK(findings[0] ==
          Finding{Severity::error, "kernel", "Linux 5.10.0 is too old", "boot Linux 6.1 or newer"});
    CHECK(findings[1] == Finding{Severity::error, "io_uring",
                                 "cannot set up io_uring: Invalid argument",
                                 "boot Linux 6.1 or newer"});
    CHECK(findings[2] ==
          Finding{Severity::warning, "limits",
                  "this kernel counts rings and BPF maps as locked memory, of which 64 KiB are "
                  "allowed",
                  "`ulimit -l unlimited`, or `LimitMEMLOCK=infinity` in a systemd unit"});
}

TEST_CASE("where the kernel locks memory for rings, the limit on that is to blame") {
    Host host = healthy();
    host.kernel = "5.11.0";
    host.ring_refused = Error::from_errno(ENOMEM, "cannot set up io_uring");
    host.io_uring_errno = ENOMEM;
    host.locked_memory_max = 64 << 20;
    auto findings = bad_ones(judge(host, nullptr, {}));
    REQUIRE(findings.size() == 2);
    CHECK(findings[1] ==
          Finding{Severity::error, "io_uring",
                  "a ring takes more memory than may be locked, 65536 KiB",
                  "raise it: `ulimit -l unlimited`, or `LimitMEMLOCK=infinity` in a systemd unit"});
}

TEST_CASE("without capabilities -b fails, other starts have a note, and the unseen is said") {
    Host host = healthy();
    host.missing_for_steering = {"CAP_BPF", "CAP_NET_ADMIN"};
    host.program_was_tried = false;
    host.steering_links.reset();

    auto with_b = bad_ones(judge(host, nullptr, {.steer = true}));
    REQUIRE(with_b.size() == 2);
    CHECK(with_b[0] == Finding{Severity::error, "steering",
                               "-b needs CAP_BPF and CAP_NET_ADMIN, which are missing",
                               "run as root, or grant CAP_BPF and CAP_NET_ADMIN; or leave -b away: "
                               "the same services then run on ordinary listeners, without "
                               "privileges"});
    CHECK(with_b[1] == Finding{Severity::note, "unseen",
                               "not looked at: whether the steering program loads and which "
                               "sk_lookup programs are attached here",
                               "`sudo proxify doctor -b` sees more"});

    auto without = bad_ones(judge(host, nullptr, {}));
    REQUIRE(without.size() == 2);
    CHECK(without[0] == Finding{Severity::note, "steering",
                                "-b would need CAP_BPF and CAP_NET_ADMIN, which are missing",
                                "for -b, run as root, or grant CAP_BPF and CAP_NET_ADMIN"});
    CHECK(without[1].remedy == "`sudo proxify doctor` sees more");
}

TEST_CASE("one that listens on a port that is to be steered is named, as grave as it is") {
    struct Row {
        std::string at, process;
        config::Config config;
        Severity severity;
        std::string what, remedy;
    };
    using enum Severity;
    const std::vector<Row> rows = {
        {"[::]:5001", "postgres (pid 7)", web("5001"), warning,
         "port 5001 is steered away from postgres (pid 7), which listens on [::]:5001: it would "
         "get "
         "no new connections",
         "end it, or take port 5001 out of service \"web\"; if clients are to reach it through "
         "proxify, name \"127.0.0.1:5001\" as a target"},
        {"127.0.0.1:5001", "", web("5001"), warning,
         "port 5001 is steered away from an unknown process, which listens on 127.0.0.1:5001: it "
         "would get no new connections",
         "end it, or take port 5001 out of service \"web\"; if clients are to reach it through "
         "proxify, name \"127.0.0.1:5001\" as a target"},
        {"0.0.0.0:22", "sshd (pid 8)", web("\"20-30\""), error,
         "port 22 would be steered away from sshd (pid 8), which listens on 0.0.0.0:22: nobody "
         "could log in any more",
         "take port 22 out of service \"web\", or move sshd to another port first"},
        {"0.0.0.0:22", "", web("22"), error,
         "port 22 would be steered away from an unknown process, which listens on 0.0.0.0:22: "
         "nobody could log in any more",
         "take port 22 out of service \"web\", or move sshd to another port first"},
        {"0.0.0.0:2222", "sshd (pid 8)", web("2222"), error,
         "port 2222 would be steered away from sshd (pid 8), which listens on 0.0.0.0:2222: nobody "
         "could log in any more",
         "take port 2222 out of service \"web\", or move sshd to another port first"},
        {"0.0.0.0:5001", "x (pid 8)", web("5001", "203.0.113.1:80", "when_down = \"pass\""), note,
         "port 5001 is steered away from x (pid 8), which listens on 0.0.0.0:5001, until no target "
         "of \"web\" is up",
         "as when_down = \"pass\" asks for; take the port out of the service if it was not meant"},
        {"0.0.0.0:5001", "x (pid 8)", web("5001", "127.0.0.1:5001"), ok,
         "port 5001 is steered, and \"web\" leads on to x (pid 8), which listens on 0.0.0.0:5001",
         ""},
        {"198.51.100.1:5001", "x (pid 8)", web("5001", "198.51.100.1:*"), ok,
         "port 5001 is steered, and \"web\" leads on to x (pid 8), which listens on "
         "198.51.100.1:5001",
         ""},
        {"0.0.0.0:22", "sshd (pid 8)", web("22", "127.0.0.1:22"), ok,
         "port 22 is steered, and \"web\" leads on to sshd (pid 8), which listens on 0.0.0.0:22",
         ""},
    };
    for (const auto& row : rows) {
        CAPTURE(row.what);
        Host host = healthy();
        host.listeners->push_back(listening(row.at, row.process));
        if (row.process.empty()) host.listeners->back().process = "";
        auto findings = judge(host, &row.config, {.steer = true});
        Finding expected{row.severity, "listeners", row.what, row.remedy};
        CAPTURE(findings);
        CHECK(std::ranges::count(findings, expected) == 1);
        CHECK(std::ranges::count(findings, "listeners", &Finding::topic) == 1);
    }
}

TEST_CASE("the sockets of one process on one port are one finding") {
    Host host = healthy();
    for (auto at : {"0.0.0.0:5001", "[::]:5001", "[::]:5001"})
        host.listeners->push_back(listening(at, "nginx (pid 5)"));
    host.listeners->push_back(listening("0.0.0.0:5002", "nginx (pid 5)"));
    auto findings = bad_ones(host, web("5001, 5002"), steered);
    REQUIRE(findings.size() == 2);
    CHECK(
        contains(findings[0].what, "nginx (pid 5), which listens on 0.0.0.0:5001 and [::]:5001:"));
}

TEST_CASE("a service with addresses shadows only who may be dialled there") {
    auto config = web("5001", "203.0.113.1:80", "addresses = [\"198.51.100.0/28\"]");
    for (auto [at, is_shadowed] : {std::pair{"127.0.0.1:5001", false},
                                   {"198.51.100.16:5001", false},
                                   {"198.51.100.15:5001", true},
                                   {"0.0.0.0:5001", true},
                                   {"[::]:5001", true}}) {
        CAPTURE(at);
        Host host = healthy();
        host.listeners->push_back(listening(at, "x (pid 1)"));
        CHECK(bad_ones(host, config, steered).empty() != is_shadowed);
    }
}

TEST_CASE("without -b a port that somebody has is an error") {
    Host host = healthy();
    host.listeners->push_back(listening("127.0.0.1:5001", "x (pid 8)"));
    CHECK(bad_ones(host, web("5001"), bound) ==
          std::vector{Finding{Severity::error, "listeners",
                              "port 5001 is taken by x (pid 8) (127.0.0.1:5001)",
                              "end it, take port 5001 out of the file, or use -b"}});
}

TEST_CASE("with -b the listener needs a port of its own") {
    Host host = healthy();
    host.listeners->push_back(listening("[::]:8080", "proxify (pid 8)"));
    CHECK(bad_ones(host, web("5001"), bound).empty());
    CHECK(bad_ones(host, web("5001"), steered) ==
          std::vector{Finding{Severity::error, "listeners",
                              "port 8080, where the listener is to be, is taken by proxify (pid 8) "
                              "([::]:8080)",
                              "choose another port with -p PORT, or end it"}});
    auto config = web("5001");
    CHECK(bad_ones(judge(host, &config, {.steer = true, .listen = 9090})).empty());

    auto findings = bad_ones(judge(healthy(), &config, {.steer = true, .listen = 5001}));
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].severity == Severity::error);
    CHECK(findings[0].what == "service \"web\" lists port 5001, which is the listener's own");
    CHECK(contains(findings[0].remedy, "choose another listener with -p"));
}

TEST_CASE("low ports take a capability where proxify binds them") {
    Host host = healthy();
    host.may_bind_low_ports = false;
    CHECK(
        bad_ones(host, web("80, \"442-1024\""), bound) ==
        std::vector{Finding{
            Severity::error, "ports",
            "ports 80, 442-1023 are below 1024: to listen there takes CAP_NET_BIND_SERVICE, which "
            "is missing",
            "run as root; or `setcap cap_net_bind_service=ep $(command -v proxify)`; or `sysctl "
            "-w net.ipv4.ip_unprivileged_port_start=80`"}});
    CHECK(bad_ones(host, web("80"), steered).empty());
    auto config = web("80");
    auto findings = bad_ones(judge(host, &config, {.steer = true, .listen = 1023}));
    REQUIRE(findings.size() == 1);
    CHECK(contains(findings[0].what, "port 1023 is below 1024: "));
    CHECK(contains(findings[0].remedy, "ip_unprivileged_port_start=1023`; or choose a higher"));

    CHECK(bad_ones(host, web("1024"), bound).empty());
    host.unprivileged_from = 80;
    CHECK(bad_ones(host, web("80"), bound).empty());
    CHECK_FALSE(bad_ones(host, web("79"), bound).empty());
}

TEST_CASE("ports among the source ports of clients clash until they are reserved") {
    Host host = healthy();
    host.reserved_ports.set(7000);
    host.local_ports = {40000, 50000};
    auto config = web("39999, \"40000-40002\", 40009, \"49999-50002\"");
    CHECK(bad_ones(host, config, steered) ==
          std::vector{Finding{
              Severity::warning, "ports",
              "ports 40000-40002, 40009, 49999-50000 lie in ip_local_port_range (40000-50000): a "
              "client on this host may be given the port that it dials, and connect to itself",
              "`sysctl -w "
              "net.ipv4.ip_local_reserved_ports=7000,40000-40002,40009,49999-50000`"}});
    auto note = bad_ones(host, config, bound);
    REQUIRE(note.size() == 1);
    CHECK(note[0].severity == Severity::note);
    CHECK(contains(note[0].what, "an outgoing connection may be using one"));

    for (uint16_t port : {40000, 40001, 40002, 49999, 50000}) host.reserved_ports.set(port);
    auto one = bad_ones(host, config, steered);
    REQUIRE(one.size() == 1);
    CHECK(contains(one[0].what, "port 40009 lies in ip_local_port_range"));
    host.reserved_ports.set(40009);
    CHECK(bad_ones(host, config, steered).empty());
}

TEST_CASE("thousands of ports make a short sentence and a whole command") {
    std::string ports;
    for (int port = 40000; port < 44000; port += 2) ports += std::to_string(port) + ",";
    auto findings = bad_ones(healthy(), web(ports), steered);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].what.size() < 250);
    CHECK(contains(findings[0].what, "ports 40000, 40002, "));
    CHECK(contains(findings[0].what, " and more lie in"));
    CHECK(contains(findings[0].remedy, ",43996,43998`"));
}

TEST_CASE("a target that is proxify's own listener is said") {
    auto own = [](const std::string& ports, const std::string& target, bool steer) {
        auto findings = bad_ones(healthy(), web(ports, target), steer);
        std::erase_if(findings, [](const Finding& one) { return one.topic != "targets"; });
        return findings;
    };
    CHECK(
        own("5001", "127.0.0.1:8080", steered) ==
        std::vector{Finding{Severity::warning, "targets",
                            "target \"127.0.0.1:8080\" of \"web\" is proxify itself, which listens "
                            "on port 8080",
                            "give the target another port, or choose another listener with -p"}});
    CHECK(
        own("5001, \"6000-6002\"", "198.51.100.1:*", bound) ==
        std::vector{Finding{Severity::warning, "targets",
                            "target \"198.51.100.1:*\" of \"web\" is proxify itself, which listens "
                            "on ports 5001, 6000-6002",
                            "give the target another port, or use -b, which binds none of them"}});
    CHECK(own("5001, 5002", "localhost:+1", bound).size() == 1);
    CHECK(own("5001, 5003", "localhost:+1", bound).empty());
    CHECK(own("5001", "127.0.0.1:5001", steered).empty());
    CHECK(own("5001", "127.0.0.1:8080", bound).empty());
    CHECK(own("5001", "203.0.113.1:8080", steered).empty());
}

TEST_CASE("without -b each port costs a descriptor for each worker") {
    Host host = healthy();
    host.descriptors_max = 20'000;
    auto config = web("\"10000-19999\"");
    auto findings = bad_ones(host, config, bound);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].severity == Severity::error);
    CHECK(findings[0].what ==
          "10000 listeners for each of 2 workers take 20046 descriptors, and 20000 are allowed");
    CHECK(contains(findings[0].remedy, "use -b"));
    CHECK(bad_ones(host, config, steered).empty());
    config.workers = 1;
    CHECK(bad_ones(host, config, bound).empty());
}

TEST_CASE("descriptors that just suffice to start are a warning, as no session has any") {
    Host host = healthy();
    host.descriptors_max = 48;
    auto findings = bad_ones(judge(host, nullptr, {}));
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].severity == Severity::warning);
    CHECK(findings[0].what == "48 descriptors are room for about 0 sessions at a time");
}

TEST_CASE("fewer descriptors than sessions that the file lets in are said") {
    Host host = healthy();
    host.descriptors_max = 10'000;
    auto config = web("5001", "203.0.113.1:80", "max_connections = 5000");
    auto findings = bad_ones(host, config, steered);
    REQUIRE(findings.size() == 1);
    CHECK(
        findings[0].what ==
        "10000 descriptors are room for about 4800 sessions at a time, and the file lets in 5000");
    config.services[0].max_connections = 4840;
    CHECK(bad_ones(host, config, steered).empty());
}

TEST_CASE("the text is aligned, wrapped, and ends with the worst") {
    Host host = healthy();
    host.is_first_namespace = false;
    host.bpffs = "";
    host.somaxconn = 128;
    host.steering_links = {{4, 9, "tubular", false}};
    host.listeners = {{listening("0.0.0.0:22", "sshd (pid 812)")}};
    const auto config = web("22, \"40000-40100\"");
    const Start start{.steer = true};
    CHECK(as_text(judge(host, &config, start), start, {}) ==
          R"(ok    kernel     Linux 6.1.0-18-amd64 on 2 cores
ok    network    network namespace 4026531840, not that of pid 1: only ports in
                 here are served
ok    io_uring   a ring opens, with all that proxify asks of it
ok    steering   the steering program loads
ok    bpf        BTF of the kernel and cgroup2 at /sys/fs/cgroup
ok    limits     524288 descriptors are room for about 261900 sessions at a time
ok    conntrack  10 of 262144 places in the table are taken
note  bpf        not there: bpffs; proxify does without, other tools may not
                   `mount -t bpf bpf /sys/fs/bpf`
warn  steering   another sk_lookup program, "tubular" (link id 4, program id 9),
                 is attached here: the connections that it takes never reach
                 proxify
                   `bpftool link list` shows it; find out whose it is, and which
                   ports it takes
warn  ports      ports 40000-40100 lie in ip_local_port_range (32768-60999): a
                 client on this host may be given the port that it dials, and
                 connect to itself
                   `sysctl -w net.ipv4.ip_local_reserved_ports=40000-40100`
warn  queues     net.core.somaxconn is 128: so many clients, not 4096, can wait
                 to be accepted at a listener
                   `sysctl -w net.core.somaxconn=4096`
FAIL  listeners  port 22 would be steered away from sshd (pid 812), which
                 listens on 0.0.0.0:22: nobody could log in any more
                   take port 22 out of service "web", or move sshd to another
                   port first

1 error, 3 warnings: mend what failed before you start proxify -b here.
)");
}

TEST_CASE("the worst finding counts, wherever it stands") {
    using enum Severity;
    auto worst_of = [](std::vector<Severity> severities) {
        std::vector<Finding> findings;
        for (auto severity : severities) findings.push_back({severity, "x", "y", ""});
        return worst(findings);
    };
    CHECK(worst_of({}) == ok);
    CHECK(worst_of({ok, note, ok}) == note);
    CHECK(worst_of({warning, note}) == warning);
    CHECK(worst_of({ok, error, warning}) == error);
}

TEST_CASE("the last line counts") {
    auto last_line = [](std::vector<Severity> severities, bool steer) {
        std::vector<Finding> findings;
        for (auto severity : severities) findings.push_back({severity, "x", "y", ""});
        auto text = as_text(findings, {.steer = steer}, {});
        return text.substr(text.find("\n\n") + 2);
    };
    using enum Severity;
    CHECK(last_line({ok, note}, bound) == "Nothing is wrong: proxify can run here.\n");
    CHECK(last_line({warning}, bound) == "1 warning: proxify can run here.\n");
    CHECK(last_line({warning, ok, warning}, steered) == "2 warnings: proxify -b can run here.\n");
    CHECK(last_line({error, error}, steered) ==
          "2 errors: mend those that failed before you start proxify -b here.\n");
}

TEST_CASE("a command is never broken, and no byte of a name reaches the terminal as an order") {
    const std::string command = "`sysctl -w " + std::string(100, 'x') + "=1 2 3`";
    std::vector<Finding> findings{
        {Severity::warning, "x", "named \x1b[31m by somebody", "type " + command + " now"}};
    auto text = as_text(findings, {}, {});
    CHECK(contains(text, "\n           " + command + "\n"));
    CHECK(contains(text, "named \\x1B[31m by somebody"));
    CHECK_FALSE(contains(text, "\x1b"));
    CHECK(
        contains(as_text(findings, {}, {.colours = true}), "\x1b[33mwarn\x1b[0m  x  named \\x1B"));
}

TEST_CASE("the doctor warns of certificates that end soon, are over, or not good yet", "[P-47]") {
    test::TempDir dir;
    const auto ca = *tls::make_authority({.common_name = "Example authority", .days = 3650});
    const auto made = *tls::issue({{"ca.pem", ca.certificate}, {"ca.key", ca.key}},
                                  {.common_name = "", .names = {"www.example.org"}, .days = 100});
    test::write_file(dir / "site.pem", made.certificate);
    test::write_file(dir / "site.key", made.key);
    const std::string file = dir / "site.pem", key = dir / "site.key";
    const auto config = web("443", "203.0.113.1:80",
                            "tls = { certificates = '" + file + "', key = '" + key + "' }\n");
    auto said = [&](std::chrono::sys_seconds now) {
        Host host = healthy();
        host.now = now;
        return bad_ones(host, config, bound);
    };
    using std::chrono::days;
    const auto ends = made.facts.not_after;
    CHECK(said(ends - days(15)).empty());
    CHECK(said(ends - days(14)).empty());
    auto text = [&](std::chrono::sys_seconds now) {
        const auto findings = said(now);
        REQUIRE(findings.size() == 1);
        CHECK(findings[0].severity == Severity::warning);
        CHECK(findings[0].topic == "certificates");
        CHECK_FALSE(findings[0].remedy.empty());
        return findings[0].what;
    };
    const std::string whose = "the certificate in " + file + " (tls of service web) ";
    CHECK(text(ends - days(14) + 1s).starts_with(whose + "expires in 14 days, on 2"));
    CHECK(text(ends - days(2) + 1s).starts_with(whose + "expires in 2 days, on 2"));
    CHECK(text(ends - 1s).starts_with(whose + "expires within a day, on 2"));
    CHECK(text(ends).starts_with(whose + "has expired on 2"));
    CHECK(text(made.facts.not_before - 1s).starts_with(whose + "is not good before 2"));

    // As it stands on this host.
    std::filesystem::permissions(key, std::filesystem::perms(0640));
    CHECK(doctor::readable_by_all({key}).empty());
    std::filesystem::permissions(key, std::filesystem::perms(0604));
    CHECK(doctor::readable_by_all({key}) == std::vector<std::string>{key});
    Host host = healthy();
    host.now = ends - days(50);
    host.open_keys = {key};
    CHECK(bad_ones(host, config, bound) ==
          std::vector<Finding>{{Severity::warning, "certificates",
                                "the private key in " + key +
                                    " can be read by every user of this "
                                    "host",
                                "`chmod o= " + key + "`"}});
}

TEST_CASE("a chain in the wrong order is a hint of the doctor's", "[P-47]") {
    test::TempDir dir;
    const auto ca = *tls::make_authority({.common_name = "Example authority"});
    const auto other = *tls::make_authority({.common_name = "Other authority"});
    const auto made = *tls::issue({{"ca.pem", ca.certificate}, {"ca.key", ca.key}},
                                  {.common_name = "", .names = {"www.example.org"}});
    auto said = [&](const std::string& certificates) {
        test::write_file(dir / "site.pem", certificates + made.key);
        Host host = healthy();
        host.now = made.facts.not_before;
        return bad_ones(
            host,
            web("443", "203.0.113.1:80", "tls = { certificates = '" + (dir / "site.pem") + "' }\n"),
            bound);
    };
    CHECK(said(made.certificate).empty());
    CHECK(said(made.certificate + ca.certificate).empty());
    const auto findings = said(made.certificate + other.certificate);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].severity == Severity::note);
    CHECK(contains(findings[0].what,
                   "number 2, \"CN = Other authority\", does not vouch for the one before it, "
                   "\"CN = www.example.org\""));
}
