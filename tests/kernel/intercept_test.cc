// SPDX-License-Identifier: Apache-2.0
// `proxify intercept`, as people type it, and captures of type "connect" in the file.
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <thread>

#include "support/cgroup.h"
#include "support/kernel_test.h"
#include "support/log_lines.h"

using namespace proxify;
using namespace proxify::test;

namespace {

constexpr auto target_address = "203.0.113.7:80";
constexpr auto proxy_address = "203.0.113.9:8888";

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

size_t count_of(const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++count;
    return count;
}

/// A host with addresses to dial, and a cgroup for those who do.
struct Scene {
    Namespace inside = new_scene();
    TestCgroup cgroup = TestCgroup::create();
    TempDir directory;

    static Namespace new_scene() {
        auto where = Namespace::create();
        for (const char* address : {"203.0.113.4/32", "203.0.113.7/32", "203.0.113.9/32"})
            where.add_address(address);
        return where;
    }

    std::vector<std::string> command(std::vector<std::string> flags) const {
        std::vector<std::string> argv{proxify_binary(), "intercept", "--cgroup",
                                      cgroup.path(),    "--socket",  directory / "admin.sock"};
        argv.insert(argv.end(), flags.begin(), flags.end());
        return argv;
    }
    /// `proxify intercept`, once it captures.
    Child intercept(const std::vector<std::string>& flags) const {
        auto child = Child::start({.argv = command(flags), .inside = &inside});
        REQUIRE(eventually([&] { return contains(child.err(), "ready: ") || !child.is_running(); },
                           30s));
        INFO(child.err());
        REQUIRE(child.is_running());
        return child;
    }
    std::string answered(const std::string& address = target_address) const {
        return cgroup.run(inside, [&] { return answered_by(inside, address, {.limit = 5s}); });
    }
    /// A proxy as people make one, which lives in the cgroup that is captured, and forks for each
    /// connection.
    Child socat() const {
        auto child =
            Child::start({.argv = {"sh", "-c",
                                   cgroup.shell_prefix() +
                                       "socat TCP-LISTEN:8888,bind=203.0.113.9,fork,reuseaddr "
                                       "TCP:203.0.113.7:80"},
                          .inside = &inside});
        wait_for_proxy();
        return child;
    }
    /// One that answers itself. A process of its own, for clients are children of this one, and
    /// would be exempt as the proxy's.
    Process proxy() const {
        Process process(cgroup.start(inside, [&] {
            Server proxy(inside, proxy_address, greet("proxy"));
            pause();
        }));
        wait_for_proxy();
        return process;
    }
    void wait_for_proxy() const {
        REQUIRE(eventually([&] { return listening(inside).contains(proxy_address); }));
    }
};

int end(Child& child, int signal = SIGINT) {
    child.signal(signal);
    return child.wait(15s).value_or(-1);
}

}  // namespace

TEST_CASE("[B-01] without a proxy connections are only seen, and said with --show-events [B-14]") {
    IN_NAMESPACE(unused);
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    {
        auto quiet = scene.intercept({});
        CHECK(scene.answered() == "target");
        CHECK(end(quiet) == 0);
        CHECK_FALSE(contains(quiet.err(), "original_dst="));
        CHECK(contains(quiet.err(), "0 redirected, 1 seen"));
    }
    auto loud = scene.intercept({"--show-events"});
    CHECK(scene.answered() == "target");
    CHECK(eventually([&] { return contains(loud.err(), "original_dst=203.0.113.7:80 seen"); }, 5s));
    CHECK(end(loud, SIGTERM) == 0);
}

TEST_CASE("[B-09] a proxy alone gets every IPv4 connection, and is told apart from others [B-12]") {
    IN_NAMESPACE(unused);
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    Server other(scene.inside, "203.0.113.4:443", greet("other"));
    auto proxy = scene.proxy();
    auto child = scene.intercept({"--proxy", proxy_address, "--show-events", "--json"});
    CHECK(scene.answered() == "proxy");
    CHECK(scene.answered("203.0.113.4:443") == "proxy");
    CHECK(end(child) == 0);
    CHECK(contains(child.err(), R"("original_dst":"203.0.113.7:80","sent_to":"203.0.113.9:8888")"));
    CHECK(
        contains(child.err(), R"("original_dst":"203.0.113.4:443","sent_to":"203.0.113.9:8888")"));
    CHECK(contains(child.err(), R"("from":"/proxify-test-)"));
    CHECK(scene.answered() == "target");
}

TEST_CASE("[B-10] a proxy that forks reaches the target, once for each request [B-11]") {
    IN_NAMESPACE(unused);
    NEEDS_PROGRAM("socat");
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    auto proxy = std::optional(scene.socat());
    auto child = scene.intercept({"--cidr", target_address, "--proxy", proxy_address});
    CHECK(contains(child.err(), "the proxy at 203.0.113.9:8888 is socat (pid "));
    for (int i = 1; i <= 3; ++i) {
        CHECK(scene.answered() == "target");
        CHECK(target.connections() == i);
    }
    // Started again, it is another process: exempt from its first dial on.
    proxy.reset();
    CHECK(eventually([&] { return scene.answered() == "refused"; }));  // [B-20]
    proxy.emplace(scene.socat());
    for (int i = 4; i <= 6; ++i) {
        CHECK(scene.answered() == "target");
        CHECK(target.connections() == i);
    }
    CHECK(
        eventually([&] { return count_of(child.err(), "203.0.113.9:8888 is socat (pid ") == 2; }));
    CHECK(end(child) == 0);
}

TEST_CASE("a proxy that starts after the interceptor, and one in another cgroup, are found") {
    IN_NAMESPACE(unused);
    NEEDS_PROGRAM("socat");
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    auto child = scene.intercept({"--cidr", target_address, "--proxy", proxy_address});
    CHECK(contains(child.err(), "nobody on this host listens at 203.0.113.9:8888"));
    auto proxies = TestCgroup::create();
    auto proxy = Child::start(
        {.argv = {"sh", "-c",
                  proxies.shell_prefix() +
                      "socat TCP-LISTEN:8888,bind=203.0.113.9,fork,reuseaddr TCP:203.0.113.7:80"},
         .inside = &scene.inside});
    CHECK(eventually([&] { return contains(child.err(), "203.0.113.9:8888 is socat (pid "); }));
    CHECK(scene.answered() == "target");
    CHECK(target.connections() == 1);
    CHECK(end(child) == 0);
}

TEST_CASE("in a PID namespace of its own it knows the proxy by the numbers that it sees") {
    IN_NAMESPACE(unused);
    NEEDS_PROGRAM("socat");
    NEEDS_PROGRAM("unshare");
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    std::string line = scene.cgroup.shell_prefix();
    line +=
        "unshare --pid --fork --mount-proc --kill-child sh -c 'socat "
        "TCP-LISTEN:8888,bind=203.0.113.9,fork,reuseaddr TCP:203.0.113.7:80 & sleep 1;";
    for (const auto& word :
         scene.command({"--cidr", target_address, "--proxy", proxy_address, "--show-events"}))
        line += " " + word;
    auto child = Child::start({.argv = {"sh", "-c", line + "; true'"}, .inside = &scene.inside});
    REQUIRE(eventually([&] { return contains(child.err(), "ready: "); }, 30s));
    CHECK(contains(child.err(), "203.0.113.9:8888 is socat (pid "));
    for (int i = 1; i <= 2; ++i) {
        CHECK(scene.answered() == "target");
        CHECK(target.connections() == i);
    }
    CHECK(eventually([&] { return contains(child.err(), "from=\"another PID namespace\""); }));
}

TEST_CASE("with --listen proxify itself takes the connections on to where they were aimed") {
    IN_NAMESPACE(unused);
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    Server other(scene.inside, "203.0.113.4:443", greet("other"));
    auto child = scene.intercept({"--listen", "15001"});
    CHECK(scene.answered() == "target");
    CHECK(scene.answered("203.0.113.4:443") == "other");
    CHECK(target.connections() == 1);
    CHECK(eventually([&] { return count_of(child.err(), "door=connect") == 2; }));
    CHECK(eventually([&] {
        return contains(child.err(),
                        "original_dst=203.0.113.7:80 door=connect target=203.0.113.7:80");
    }));
    // [B-20] What nobody answers is refused.
    CHECK(scene.answered("203.0.113.4:444") != "nobody");
    CHECK(end(child) == 0);
    CHECK(contains(child.err(), "3 redirected"));
}

TEST_CASE("[B-15] reports say how many are open, again and again and at the end") {
    IN_NAMESPACE(unused);
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    auto child = scene.intercept({"--report-every", "200ms"});
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    auto out = Fd::adopt(ends[0]), in = Fd::adopt(ends[1]);
    const pid_t client = scene.cgroup.start(scene.inside, [&] {
        in.close();
        std::vector<Stream> open;
        for (int i = 0; i < 5; ++i) {
            open.push_back(Stream::dial(scene.inside, target_address));
            open.back().receive_line();
        }
        char byte;
        (void)!read(out.get(), &byte, 1);
    });
    CHECK(eventually([&] { return contains(child.err(), "5 connections open (established 5)"); }));
    CHECK(eventually([&] { return contains(child.err(), "open by cgroup: /proxify-test-"); }));
    CHECK(eventually(
        [&] { return contains(child.err(), "open by network namespace: proxify's 5"); }));
    in.close();
    waitpid(client, nullptr, 0);
    const size_t before = child.err().size();
    CHECK(eventually([&] { return contains(child.err(before), "0 connections open, "); }));
    const size_t last = child.err().size();
    CHECK(end(child) == 0);
    CHECK(contains(child.err(last), "0 connections open, 0 redirected, 5 seen"));
}

TEST_CASE("[B-04] links are there while it runs, and gone however it ends") {
    IN_NAMESPACE(unused);
    NEEDS_PROGRAM("bpftool");
    Scene scene;
    auto links = [&] {
        return run({.argv = {"bpftool", "cgroup", "show", scene.cgroup.path()}}).out;
    };
    for (int signal : {SIGINT, SIGTERM, SIGKILL}) {
        auto child = scene.intercept({"--proxy", proxy_address});
        CHECK(contains(links(), "proxify_connect4"));
        CHECK(contains(links(), "proxify_connect6"));
        CHECK(end(child, signal) == (signal == SIGKILL ? 128 + SIGKILL : 0));
        CHECK(eventually([&] { return !contains(links(), "proxify"); }));
    }
}

TEST_CASE("[B-22] what is wrong with --proxy is said, as is what else cannot be done") {
    IN_NAMESPACE(unused);
    Scene scene;
    struct Row {
        std::vector<std::string> flags;
        int code;
        const char* says;
    };
    const Row rows[] = {
        {{"--proxy", "abc"}, 2, "--proxy"},
        {{"--proxy", "1.2.3:80"}, 2, "1.2.3"},
        {{"--proxy", "1.2.3.4:99999"}, 2, "99999"},
        {{"--no-such-flag"}, 2, "--no-such-flag"},
        {{"--runtime", "containerd"}, 2, "containerd is not supported yet"},
    };
    std::vector<std::string> said;
    for (const auto& [flags, code, says] : rows) {
        auto finished = run({.argv = scene.command(flags), .inside = &scene.inside});
        CHECK(finished.exit_code == code);
        INFO(finished.err);
        CHECK(contains(finished.err, says));
        said.push_back(finished.err);
    }
    CHECK(said[0] != said[1]);

    auto nowhere = run({.argv = {proxify_binary(), "intercept", "--cgroup", "/proc", "--socket",
                                 scene.directory / "admin.sock"},
                        .inside = &scene.inside});
    CHECK(nowhere.exit_code == 1);
    CHECK(contains(nowhere.err, "/proc is no folder of a cgroup2 tree"));
}

TEST_CASE("[B-03] without a cgroup2 tree it says so") {
    IN_NAMESPACE(inside);
    NEEDS_PROGRAM("unshare");
    TempDir directory;
    auto finished =
        run_line(inside, "unshare -m sh -c 'umount -a -t cgroup2 && exec " + proxify_binary() +
                             " intercept --socket " + (directory / "admin.sock") + "'");
    CHECK(finished.exit_code == 1);
    INFO(finished.err);
    CHECK(contains(finished.err, "no cgroup2 tree is mounted here"));
}

TEST_CASE("[B-01] without root it says what is missing") {
    IN_NAMESPACE(unused);
    Scene scene;
    std::filesystem::copy_file(proxify_binary(), scene.directory / "proxify");
    auto argv = scene.command({});
    argv[0] = scene.directory / "proxify";
    auto finished = run({.argv = argv, .inside = &scene.inside, .user = nobody});
    CHECK(finished.exit_code == 1);
    INFO(finished.err);
    CHECK(contains(finished.err, "run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"));
}

TEST_CASE("cgroups that are made anew, as services are started again, are known by their names") {
    IN_NAMESPACE(unused);
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    auto proxy = scene.proxy();
    const auto captured = scene.cgroup.path() + "/captured", exempt = captured + "/exempt";
    auto answered_in = [&](const std::string& path) {
        return scene.cgroup.run(scene.inside, [&] {
            write_file(path + "/cgroup.procs", "0");
            return answered_by(scene.inside, target_address, {.limit = 5s});
        });
    };
    auto make = [&] {
        CHECK((mkdir(captured.c_str(), 0755) == 0 && mkdir(exempt.c_str(), 0755) == 0));
    };
    auto remove = [&] {
        CHECK(eventually([&] { return rmdir(exempt.c_str()) == 0; }));
        CHECK(eventually([&] { return rmdir(captured.c_str()) == 0; }));
    };
    make();
    auto child = Child::start(
        {.argv = {proxify_binary(), "intercept", "--cgroup", captured, "--exempt-cgroup", exempt,
                  "--proxy", proxy_address, "--socket", scene.directory / "admin.sock"},
         .inside = &scene.inside});
    REQUIRE(eventually([&] { return contains(child.err(), "ready: "); }, 30s));
    CHECK(answered_in(captured) == "proxy");
    CHECK(answered_in(exempt) == "target");
    remove();
    make();
    CHECK(eventually([&] { return answered_in(captured) == "proxy"; }));
    CHECK(eventually([&] { return answered_in(exempt) == "target"; }));
    CHECK(end(child) == 0);
    remove();
}

/// A program of somebody else's at a cgroup, which allows no other beside it, nor below.
struct Exclusive {
    explicit Exclusive(const std::string& cgroup)
        : folder(Fd::adopt(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC))) {
        const bpf_insn yes[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1},
                                {.code = BPF_JMP | BPF_EXIT}};
        bpf_attr load{};
        load.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
        load.expected_attach_type = BPF_CGROUP_INET4_CONNECT;
        load.insns = reinterpret_cast<uint64_t>(yes);
        load.insn_cnt = 2;
        load.license = reinterpret_cast<uint64_t>("GPL");
        program = Fd::adopt(static_cast<int>(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load)));
        REQUIRE(program);
        REQUIRE(attach(BPF_PROG_ATTACH) == 0);
    }
    ~Exclusive() { attach(BPF_PROG_DETACH); }
    Exclusive(Exclusive&&) = delete;
    long attach(bpf_cmd command) const {
        bpf_attr words{};
        words.target_fd = static_cast<uint32_t>(folder.get());
        words.attach_bpf_fd = static_cast<uint32_t>(program.get());
        words.attach_type = BPF_CGROUP_INET4_CONNECT;
        return syscall(SYS_bpf, command, &words, sizeof words);
    }
    Fd folder, program;
};

TEST_CASE("a cgroup made anew that cannot be captured at first is captured when it can be") {
    IN_NAMESPACE(unused);
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    auto proxy = scene.proxy();
    const auto captured = scene.cgroup.path() + "/captured";
    auto answered = [&] {
        return scene.cgroup.run(scene.inside, [&] {
            write_file(captured + "/cgroup.procs", "0");
            return answered_by(scene.inside, target_address, {.limit = 5s});
        });
    };
    REQUIRE(mkdir(captured.c_str(), 0755) == 0);
    auto child =
        Child::start({.argv = {proxify_binary(), "intercept", "--cgroup", captured, "--proxy",
                               proxy_address, "--socket", scene.directory / "admin.sock"},
                      .inside = &scene.inside});
    REQUIRE(eventually([&] { return contains(child.err(), "ready: "); }, 30s));
    CHECK(answered() == "proxy");
    CHECK(eventually([&] { return rmdir(captured.c_str()) == 0; }));
    {
        Exclusive other(scene.cgroup.path());
        REQUIRE(mkdir(captured.c_str(), 0755) == 0);
        CHECK(eventually([&] { return contains(child.err(), "attach proxify_connect4 to"); }));
        CHECK(answered() == "target");
    }
    CHECK(eventually([&] { return contains(child.err(), "was made anew, and is captured"); }));
    CHECK(answered() == "proxy");
    CHECK(count_of(child.err(), "attach proxify_connect4 to") == 1);
    CHECK(end(child) == 0);
    CHECK(eventually([&] { return rmdir(captured.c_str()) == 0; }));
}

TEST_CASE("[B-26] destinations in the file come and go while it runs, and sessions live on") {
    IN_NAMESPACE(unused);
    Scene scene;
    Server first(scene.inside, target_address, greet("first"));
    Server second(scene.inside, "203.0.113.4:80", greet("second"));
    Server ours(scene.inside, "127.0.0.1:9001", greet("by proxify"));
    auto config = [&](const std::string& capture) {
        std::string text =
            "[[service]]\nname = \"outbound\"\ntargets = [\"127.0.0.1:9001\"]\nports = [5001]\n";
        if (!capture.empty())
            text += "[[capture]]\ntype = \"connect\"\ncgroup = \"" + scene.cgroup.path() + "\"\n" +
                    capture;
        return text;
    };
    const std::string to_service = "service = \"outbound\"\n";
    auto proxify = Proxify::start(scene.inside,
                                  {.config = config(to_service + "cidr = [\"203.0.113.7:80\"]\n")});
    CHECK(scene.answered() == "by proxify");
    CHECK(scene.answered("203.0.113.4:80") == "second");
    proxify.reload(config(to_service + "cidr = [\"203.0.113.4\"]\n"));
    CHECK(scene.answered() == "first");
    CHECK(scene.answered("203.0.113.4:80") == "by proxify");
    // Another listener, then none, then one again.
    proxify.reload(config(to_service + "cidr = [\"203.0.113.0/24\"]\nlisten = 15009\n"));
    CHECK(scene.answered() == "by proxify");
    CHECK(scene.answered("203.0.113.4:80") == "by proxify");
    proxify.reload(config(""));
    CHECK(scene.answered() == "first");
    proxify.reload(config("only_watch = true\n"));
    CHECK(scene.answered() == "first");
    proxify.reload(config(to_service + "cidr = [\"203.0.113.0/24\"]\n"));
    CHECK(scene.answered() == "by proxify");
    CHECK(proxify.stop() == 0);
    CHECK(scene.answered() == "first");
}

TEST_CASE("while one who asks for the file's user serves, connections are captured") {
    IN_NAMESPACE(unused);
    Scene scene;
    Server first(scene.inside, target_address, greet("first"));
    Server ours(scene.inside, "127.0.0.1:9001", greet("by proxify"));
    auto proxify = Proxify::start(
        scene.inside,
        {.config = "[proxify]\nuser = \"nobody\"\n[[service]]\nname = \"outbound\"\ntargets = "
                   "[\"127.0.0.1:9001\"]\nports = [5001]\n[[capture]]\ntype = \"connect\"\ncidr = "
                   "[\"203.0.113.7:80\"]\nservice = \"outbound\"\nevents = true\ncgroup = \"" +
                   scene.cgroup.path() + "\"\n"});
    CHECK(scene.answered() == "by proxify");
    // It still says whose they are.
    CHECK(eventually([&] { return contains(proxify.log(), "from=/proxify-test-"); }, 5s));
    CHECK(proxify.stop() == 0);
}

TEST_CASE("a proxy stays exempt when proxify, as the file's user, may not look at it any more") {
    IN_NAMESPACE(unused);
    NEEDS_PROGRAM("socat");
    Scene scene;
    Server target(scene.inside, target_address, greet("target"));
    auto proxy = std::optional(scene.socat());
    auto proxify = Proxify::start(
        scene.inside, {.config = "[proxify]\nuser = \"nobody\"\n[[capture]]\ntype = \"connect\"\n"
                                 "cidr = [\"203.0.113.7:80\"]\nproxy = \"203.0.113.9:8888\"\n"
                                 "cgroup = \"" +
                                 scene.cgroup.path() + "\"\n"});
    CHECK(scene.answered() == "target");
    // Somebody listens at that port, which makes it look again.
    auto listens = [&] {
        return scene.cgroup.run(scene.inside, [&] {
            auto listener = Fd::adopt(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
            int on = 1;
            setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
            sockaddr_storage at{};
            const socklen_t size = Address::parse("[::]:8888")->to_sockaddr(at);
            return bind(listener.get(), reinterpret_cast<sockaddr*>(&at), size) == 0 &&
                           listen(listener.get(), 1) == 0
                       ? "yes"
                       : std::strerror(errno);
        });
    };
    CHECK(listens() == "yes");
    CHECK(eventually([&] { return contains(proxify.log(), "9:8888 stays socat (pid "); }));
    std::this_thread::sleep_for(700ms);  // the walks after that change nothing
    CHECK(scene.answered() == "target");
    CHECK(target.connections() == 2);
    // One that is started anew is taken at its word, for good.
    proxy.reset();
    CHECK(eventually([&] { return scene.answered() == "refused"; }));
    proxy.emplace(scene.socat());
    CHECK(scene.answered() == "target");
    CHECK(eventually(
        [&] { return count_of(proxify.log(), "203.0.113.9:8888 is socat (pid ") == 2; }));
    std::this_thread::sleep_for(700ms);
    CHECK(scene.answered() == "target");
    CHECK(target.connections() == 4);
    CHECK(proxify.stop() == 0);
}
