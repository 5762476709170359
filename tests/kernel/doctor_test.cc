// SPDX-License-Identifier: Apache-2.0
// `proxify doctor` on real hosts with something in the way.
#include <linux/capability.h>
#include <sys/syscall.h>

#include <sstream>

#include "kernel/foreign_program.h"
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

/// One service with these ports.
std::string web(const std::string& ports) {
    return "[[service]]\nname = \"web\"\nports = [" + ports + "]\ntargets = [\"203.0.113.1:80\"]\n";
}

/// What it prints beside what is fine, with each finding on one line and no space twice.
struct Report {
    int exit_code;
    std::string text, bad;

    bool says(const std::string& part) const { return bad.find(part) != std::string::npos; }
};

Report read_report(const Finished& finished) {
    check_for_bugs(finished.err);
    CHECK(finished.err == "");
    std::string bad;
    bool is_bad = false;
    for (const auto& line : lines_of(finished.out)) {
        if (line.empty()) break;
        const bool begins = line[0] != ' ';
        if (begins) is_bad = !line.starts_with("ok ");
        if (!is_bad) continue;
        std::istringstream words(line);
        if (begins) bad += '\n';
        for (std::string word; words >> word;) bad += (bad.ends_with('\n') ? "" : " ") + word;
    }
    return {finished.exit_code, finished.out, bad};
}

/// Runs it as it would be started with such a file; without one there is none.
Report doctor(const Namespace& where, const std::string& config,
              std::vector<std::string> flags = {"-b"}, Command command = {}) {
    if (config.empty()) {
        TempDir empty;
        command.argv = {proxify_binary(), "doctor"};
        command.argv.insert(command.argv.end(), flags.begin(), flags.end());
        command.inside = &where;
        command.directory = empty.path();
        return read_report(run(command));
    }
    flags.insert(flags.begin(), "doctor");
    return read_report(Proxify::refuse(where, {config, flags, std::move(command)}));
}

void set_sysctl(const Namespace& where, const std::string& name, const std::string& value) {
    where.run([&] { write_file("/proc/sys/" + name, value); });
}

/// Who is attached in this namespace, and who listens.
std::string attached_to(const Namespace& where) {
    return run_line(where, "bpftool net list; ss -ltnH").out;
}

}  // namespace

TEST_CASE("where nothing is in the way the doctor ends with 0 and leaves nothing behind") {
    IN_NAMESPACE(ns);
    const auto before = attached_to(ns);
    for (auto flags : {std::vector<std::string>{}, {"-b"}, {"-b", "-p", "9090"}}) {
        auto report = doctor(ns, web("5001"), flags);
        INFO(report.text);
        CHECK(report.exit_code == 0);
        CHECK(find_line(report.text, {"ok", "targets.toml: 1 service, 1 port, 1 target"}));
        CHECK(find_line(report.text, {"ok", "a ring opens"}));
        CHECK(find_line(report.text, {"ok", "the steering program loads"}));
        CHECK(find_line(report.text, {"Nothing is wrong: proxify"}));
        CHECK(report.text.find('\x1b') == std::string::npos);
    }
    CHECK(attached_to(ns) == before);
    // What it promised holds.
    auto proxify = Proxify::start(ns, {.config = web("5001"), .flags = {"-b"}});
}

TEST_CASE("who would be shadowed is named with its process, and would be in the way without -b") {
    IN_NAMESPACE(ns);
    Server local(ns, "127.0.0.1:5001", answer("local"));
    const std::string me = "kernel-doctor (pid " + std::to_string(getpid()) + ")";

    auto steered = doctor(ns, web("5001"));
    INFO(steered.text);
    CHECK(steered.exit_code == 3);
    CHECK(steered.says("warn listeners port 5001 is steered away from " + me +
                       ", which listens on 127.0.0.1:5001"));

    auto bound = doctor(ns, web("5001"), {});
    INFO(bound.text);
    CHECK(bound.exit_code == 1);
    CHECK(bound.says("FAIL listeners port 5001 is taken by " + me));
    CHECK(Proxify::refuse(ns, {.config = web("5001")}).exit_code == 1);
}

TEST_CASE("a listener on port 22 is not to be shadowed") {
    IN_NAMESPACE(ns);
    Server ssh(ns, "127.0.0.1:22", answer("ssh"));
    auto report = doctor(ns, web("\"20-30\""));
    INFO(report.text);
    CHECK(report.exit_code == 1);
    CHECK(report.says("FAIL listeners port 22 would be steered away from kernel-doctor"));
}

TEST_CASE("another sk_lookup program is a warning that names it") {
    IN_NAMESPACE(ns);
    ForeignProgram foreign(ns);
    auto report = doctor(ns, web("5001"));
    INFO(report.text);
    CHECK(report.exit_code == 3);
    CHECK(report.says("another sk_lookup program, \"somebody_elses\" (link id "));
}

TEST_CASE("a proxify that steers already is what a second one fails on") {
    IN_NAMESPACE(ns);
    auto proxify = Proxify::start(ns, {.config = web("5001"), .flags = {"-b"}});
    auto report = doctor(ns, web("5002"), {"-b", "-p", "9090"});
    INFO(report.text);
    CHECK(report.exit_code == 1);
    CHECK(report.says("a proxify steers in this network namespace already (link id " +
                      std::to_string(proxify.ids().link)));
    CHECK_FALSE(report.says("listeners"));

    auto same_port = doctor(ns, web("5002"));
    INFO(same_port.text);
    CHECK(same_port.says("port 8080, where the listener is to be, is taken by proxify (pid " +
                         std::to_string(proxify.process().pid())));
    // It only looked: the first goes on.
    CHECK(proxify.process().is_running());
    CHECK(run_line(ns, "bpftool link list").out.find(std::to_string(proxify.ids().link) + ": ") !=
          std::string::npos);
}

TEST_CASE("ports among the source ports of clients clash, and the remedy that is given helps") {
    IN_NAMESPACE(ns);
    set_sysctl(ns, "net/ipv4/ip_local_port_range", "40000 41000");
    auto report = doctor(ns, web("39999, \"40990-41010\""));
    INFO(report.text);
    CHECK(report.exit_code == 3);
    CHECK(report.says("ports 40990-41000 lie in ip_local_port_range (40000-41000)"));
    // As new_namespace() has 5000-5999 reserved, those stay so.
    const std::string remedy = "net.ipv4.ip_local_reserved_ports=5000-5999,40990-41000";
    REQUIRE(report.says("`sysctl -w " + remedy + "`"));

    set_sysctl(ns, "net/ipv4/ip_local_reserved_ports", remedy.substr(remedy.find('=') + 1));
    auto after = doctor(ns, web("39999, \"40990-41010\""));
    INFO(after.text);
    CHECK(after.exit_code == 0);
    CHECK_FALSE(after.says("ip_local_port_range"));
}

TEST_CASE("an ordinary user hears what -b lacks, and that it runs without") {
    IN_NAMESPACE(ns);
    auto steered = doctor(ns, web("5001"), {"-b"}, {.user = nobody});
    INFO(steered.text);
    CHECK(steered.exit_code == 1);
    CHECK(steered.says("FAIL steering -b needs CAP_BPF and CAP_NET_ADMIN, which are missing"));
    CHECK(steered.says("not looked at: whether the steering program loads"));
    CHECK(steered.says("`sudo proxify doctor -b` sees more"));

    auto bound = doctor(ns, web("5001"), {}, {.user = nobody});
    INFO(bound.text);
    CHECK(bound.exit_code == 0);
    CHECK(bound.says("note steering -b would need CAP_BPF and CAP_NET_ADMIN"));

    auto low = doctor(ns, web("443"), {}, {.user = nobody});
    INFO(low.text);
    CHECK(low.exit_code == 1);
    CHECK(low.says("port 443 is below 1024: to listen there takes CAP_NET_BIND_SERVICE"));
    set_sysctl(ns, "net/ipv4/ip_unprivileged_port_start", "443");
    CHECK(doctor(ns, web("443"), {}, {.user = nobody}).exit_code == 0);
}

TEST_CASE("one missing capability is named alone") {
    IN_NAMESPACE(ns);
    auto report =
        doctor(ns, web("5001"), {"-b"}, {.without_capabilities = {CAP_SYS_ADMIN, CAP_NET_ADMIN}});
    INFO(report.text);
    CHECK(report.exit_code == 1);
    CHECK(report.says("-b needs CAP_NET_ADMIN, which is missing"));
}

TEST_CASE("a seccomp filter that forbids io_uring is named as the cause") {
    IN_NAMESPACE(ns);
    if (read_file("/proc/sys/kernel/io_uring_disabled") != "0\n")
        SKIP_TEST("needs sysctl kernel.io_uring_disabled to be 0");
    auto report = doctor(ns, web("5001"), {"-b"}, {.forbidden_call = SYS_io_uring_setup});
    INFO(report.text);
    CHECK(report.exit_code == 1);
    CHECK(report.says("FAIL io_uring a seccomp filter forbids io_uring"));
    CHECK(report.says("`--security-opt seccomp=FILE`"));
    CHECK_FALSE(report.says("kernel.io_uring_disabled"));
}

TEST_CASE("a ring that may not register its buffers is no ring") {
    IN_NAMESPACE(ns);
    auto report = doctor(ns, web("5001"), {}, {.forbidden_call = SYS_io_uring_register});
    INFO(report.text);
    CHECK(report.exit_code == 1);
    CHECK(report.says("cannot register receive buffers with io_uring: Operation not permitted"));
}

TEST_CASE("bpf that is forbidden although the capabilities are there is an error only with -b") {
    IN_NAMESPACE(ns);
    auto report = doctor(ns, web("5001"), {"-b"}, {.forbidden_call = SYS_bpf});
    INFO(report.text);
    CHECK(report.exit_code == 1);
    CHECK(report.says("FAIL steering cannot load the steering program: Operation not permitted"));
    CHECK(report.says("something else forbids bpf()"));
    CHECK(doctor(ns, web("5001"), {}, {.forbidden_call = SYS_bpf}).exit_code == 0);
}

TEST_CASE("few descriptors are a warning, and fewer than the ports take an error") {
    IN_NAMESPACE(ns);
    auto few = doctor(ns, web("5001"), {"-b"}, {.open_files = 256});
    INFO(few.text);
    CHECK(few.exit_code == 3);
    CHECK(few.says("256 descriptors are room for about "));

    auto none = doctor(ns, web("\"5001-5300\""), {}, {.open_files = 256});
    INFO(none.text);
    CHECK(none.exit_code == 1);
    CHECK(none.says("use -b, which needs one listener for all ports"));
}

TEST_CASE(
    "with as many descriptors as the doctor says it starts, and with clearly fewer it does not") {
    IN_NAMESPACE(ns);
    const std::string config = "[proxify]\nworkers = 2\n" + web("\"5001-5100\"");
    auto report = doctor(ns, config, {}, {.open_files = 200});
    INFO(report.text);
    const std::string before = "100 listeners for each of 2 workers take ";
    REQUIRE(report.says(before));
    const auto needed = static_cast<unsigned>(
        std::stoul(report.bad.substr(report.bad.find(before) + before.size())));
    CHECK(needed > 200);
    Proxify::start(ns, {.config = config, .command = {.open_files = needed}});
    Finished refused =
        Proxify::refuse(ns, {.config = config, .command = {.open_files = needed - 10}});
    INFO(refused.err);
    CHECK(refused.exit_code == 1);
}

TEST_CASE("the host's settings are those of the namespace") {
    IN_NAMESPACE(ns);
    set_sysctl(ns, "net/core/somaxconn", "128");
    set_sysctl(ns, "net/ipv4/tcp_syncookies", "0");
    // Two ways in, one of them strict.
    REQUIRE(run_line(ns,
                     "ip link add one type veth peer name two && ip link set one up && "
                     "ip link set two up")
                .exit_code == 0);
    set_sysctl(ns, "net/ipv4/conf/one/rp_filter", "1");
    set_sysctl(ns, "net/ipv4/conf/two/rp_filter", "2");
    auto report = doctor(ns, web("5001"));
    INFO(report.text);
    CHECK(report.exit_code == 3);
    CHECK(report.says("warn queues net.core.somaxconn is 128"));
    CHECK(report.says("note queues net.ipv4.tcp_syncookies is 0"));
    CHECK(report.says("note rp_filter rp_filter is strict on one: "));
}

TEST_CASE("routes that marks choose are looked at, with what the check of sources makes of them") {
    IN_NAMESPACE(ns);
    REQUIRE(
        run_line(ns, "ip link add one type veth peer name two && ip link set one up").exit_code ==
        0);
    set_sysctl(ns, "net/ipv4/conf/one/rp_filter", "1");
    CHECK_FALSE(doctor(ns, web("5001")).says("rp_filter"));
    // As Tailscale and others set up their routes.
    REQUIRE(run_line(ns, "ip rule add fwmark 0x100 lookup 1000").exit_code == 0);
    CHECK(doctor(ns, web("5001")).says("warn rp_filter rp_filter is strict on one and does not"));
    set_sysctl(ns, "net/ipv4/conf/all/src_valid_mark", "1");
    CHECK_FALSE(doctor(ns, web("5001")).says("rp_filter"));
    // As for TPROXY.
    REQUIRE(run_line(ns, "ip route add local default dev lo table 1000").exit_code == 0);
    auto report = doctor(ns, web("5001"));
    INFO(report.text);
    CHECK(report.says("warn rp_filter src_valid_mark is set for one, and `ip rule` leads some"));
    // Each of the two alone does not help.
    CHECK(
        report.says("`sysctl -w net.ipv4.conf.one.accept_local=1` "
                    "`sysctl -w net.ipv4.conf.one.rp_filter=2`"));
    set_sysctl(ns, "net/ipv4/conf/one/accept_local", "1");
    CHECK(doctor(ns, web("5001")).says("src_valid_mark"));
    set_sysctl(ns, "net/ipv4/conf/one/rp_filter", "2");
    report = doctor(ns, web("5001"));
    INFO(report.text);
    CHECK_FALSE(report.says("rp_filter"));
}

TEST_CASE("without a file it looks at the host; a wrong one is an error in the parser's words") {
    IN_NAMESPACE(ns);
    auto without = doctor(ns, "");
    INFO(without.text);
    CHECK(without.exit_code == 0);
    CHECK(without.says("note config there is no targets.toml here: only the host was looked at"));

    auto named = doctor(ns, "", {"-c", "other.toml"});
    INFO(named.text);
    CHECK(named.exit_code == 1);
    CHECK(named.says("FAIL config cannot read other.toml: No such file or directory"));

    auto one_mistake = doctor(ns, web("70000"));
    INFO(one_mistake.text);
    CHECK(one_mistake.exit_code == 1);
    CHECK(one_mistake.says("FAIL config targets.toml:3:"));
    CHECK(find_line(one_mistake.text, {"ok", "the steering program loads"}));

    auto two_mistakes = doctor(ns, "nonsense = 1\n" + web("70000"));
    INFO(two_mistakes.text);
    CHECK(two_mistakes.says("FAIL config targets.toml has 2 mistakes targets.toml:1:1: "));
    CHECK(two_mistakes.says("targets.toml:4:"));
}

TEST_CASE("wrong usage of the doctor ends with 2") {
    IN_NAMESPACE(ns);
    for (auto flags : {std::vector<std::string>{"-x"}, {"me"}, {"-p", "0"}}) {
        flags.insert(flags.begin(), "doctor");
        CHECK(Proxify::refuse(ns, {.config = "", .flags = flags}).exit_code == 2);
    }
}

TEST_CASE("a certificate that ends soon is a warning of the doctor's, and of a start and a reload",
          "[P-47]") {
    IN_NAMESPACE(ns);
    TempDir dir;
    auto cert = [&](std::vector<std::string> words) {
        words.insert(words.begin(), {proxify_binary(), "cert"});
        return run({.argv = words, .directory = dir.path()}).exit_code;
    };
    REQUIRE(cert({"ca", "--out", "ca"}) == 0);
    REQUIRE(cert({"leaf", "--ca", "ca", "--san", "a.example", "--out", "a", "--days", "5"}) == 0);
    const std::string tls =
        "tls = { certificates = \"" + (dir / "a.pem") + "\", key = \"" + (dir / "a.key") + "\" }\n";
    const std::string warning = (dir / "a.pem") + " (tls of service web) expires in 5 days, on ";
    auto times_in = [&](const std::string& log) {
        size_t times = 0;
        for (size_t at = 0; (at = log.find(warning, at)) != log.npos; ++at) ++times;
        return times;
    };

    auto report = doctor(ns, web("5001") + tls);
    INFO(report.text);
    CHECK(report.exit_code == 3);
    CHECK(report.says("expires in 5 days, on "));

    auto proxify = Proxify::start(ns, {web("5001") + tls});
    CHECK(eventually([&] { return times_in(proxify.log()) == 1; }));
    proxify.reload(web("5001, 5002") + tls);
    CHECK(eventually([&] { return times_in(proxify.log()) == 2; }));
    // A renewed one is taken over, and nothing more is said.
    auto reloads = [&] {
        const auto log = proxify.log();
        size_t times = 0;
        for (size_t at = 0; (at = log.find("reload: applied", at)) != log.npos; ++at) ++times;
        return times;
    };
    const size_t before = reloads();
    REQUIRE(cert({"leaf", "--ca", "ca", "--san", "a.example", "--out", "a", "--force"}) == 0);
    CHECK(eventually([&] { return reloads() > before; }));
    CHECK(times_in(proxify.log()) == 2);
    CHECK(proxify.stop() == 0);
    CHECK(doctor(ns, web("5001") + tls).bad.find("certificate") == std::string::npos);
}
