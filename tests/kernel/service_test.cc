// SPDX-License-Identifier: Apache-2.0
// What a service manager hears from proxify. The manager is a socket of the test's own.
#include <poll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "base/format.h"
#include "support/kernel_test.h"

using namespace proxify;
using namespace proxify::test;

namespace {

/// Listens as systemd does: at a path that everybody may write to, or at an abstract name.
class Manager {
  public:
    explicit Manager(const Namespace& where, bool is_abstract = false) {
        sockaddr_un at{};
        at.sun_family = AF_UNIX;
        name_ = is_abstract ? format("@proxify-test-{}", where.inode()) : directory_ / "notify";
        std::memcpy(at.sun_path, name_.data(), name_.size());
        if (is_abstract) at.sun_path[0] = '\0';
        const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
        // Abstract names belong to the network namespace.
        where.run([&] {
            socket_ = Fd::adopt(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
            REQUIRE(bind(socket_.get(), reinterpret_cast<sockaddr*>(&at), size) == 0);
        });
        if (!is_abstract) chmod(name_.c_str(), 0777);
    }

    std::vector<std::string> environment() const { return {"NOTIFY_SOCKET=" + name_}; }

    /// The next message; "" when none came in time.
    std::string next(Millis limit = 10s) {
        pollfd here{.fd = socket_.get(), .events = POLLIN, .revents = 0};
        if (poll(&here, 1, static_cast<int>(limit.count())) < 1) return "";
        char text[4096];
        ssize_t size = recv(socket_.get(), text, sizeof text, 0);
        return {text, static_cast<size_t>(size)};
    }
    /// The next one that begins so, whatever comes before it.
    std::string next(const std::string& begin, Millis limit = 10s) {
        for (Moment end = now() + limit; now() < end;)
            if (auto text = next(Millis(millis_until(end))); text.starts_with(begin)) return text;
        return "";
    }

  private:
    TempDir directory_;
    std::string name_;
    Fd socket_;
};

std::string web(const std::string& ports, const std::string& health = "") {
    return "[[service]]\nname = \"web\"\nports = [" + ports +
           "]\ntargets = [\"127.0.0.1:9001\"]\n"
           "health = { interval = \"20ms\", rise = 1, fall = 1" +
           health + " }\n";
}

Setup steered(const Manager& manager, std::string config) {
    return {.config = std::move(config),
            .flags = {"-b"},
            .command = {.environment = manager.environment()}};
}

int64_t microseconds_now() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

/// Checks that the next two messages, but for STATUS, are those of a reload that began after
/// `from`.
void check_reload(Manager& manager, int64_t from) {
    const std::string begin = "RELOADING=1\nMONOTONIC_USEC=";
    std::string first;
    do first = manager.next();
    while (first.starts_with("STATUS="));
    INFO(first);
    REQUIRE(first.starts_with(begin));
    int64_t at = 0;
    std::from_chars(first.data() + begin.size(), first.data() + first.size(), at);
    CHECK(at >= from);
    CHECK(at <= microseconds_now());
    CHECK(manager.next().starts_with("READY=1\n"));
}

/// One thread of another process stands still, and the others go on.
class Stopped {
  public:
    explicit Stopped(pid_t thread) : thread_(thread) {
        if (ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0 ||
            ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0 ||
            waitpid(thread, nullptr, __WALL) != thread)
            throw std::runtime_error(std::string("cannot stop a thread: ") + std::strerror(errno));
    }
    ~Stopped() { ptrace(PTRACE_DETACH, thread_, nullptr, nullptr); }
    Stopped(Stopped&&) = delete;

  private:
    pid_t thread_;
};

/// The kernel lists threads in the order in which they were made.
pid_t last_worker(pid_t process) {
    pid_t last = 0;
    for (const auto& thread : std::filesystem::directory_iterator(format("/proc/{}/task", process)))
        if (read_file(thread.path() / "comm") == "worker\n")
            last = std::stoi(thread.path().filename());
    return last;
}

}  // namespace

TEST_CASE("READY=1 comes when clients are served, and not before") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    for (bool is_abstract : {false, true})
        for (bool steer : {true, false}) {
            INFO("abstract " << is_abstract << ", -b " << steer);
            Manager manager(ns, is_abstract);
            Setup setup = steered(manager, web("5001, \"5003-5005\""));
            if (!steer) setup.flags = {};
            auto proxify = Proxify::start(ns, std::move(setup));
            CHECK(manager.next() == "READY=1\nSTATUS=1 service; 4 ports; 0 sessions");
            CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
            CHECK(proxify.stop() == 0);
            CHECK(manager.next("STOPPING=1").starts_with("STOPPING=1\nSTATUS=draining: 1 service"));
        }
}

TEST_CASE("a start that fails is never ready") {
    IN_NAMESPACE(ns);
    Manager manager(ns);
    Server busy(ns, "127.0.0.1:8080", answer("busy"));
    Finished refused = Proxify::refuse(ns, steered(manager, web("5001")));
    CHECK(refused.exit_code == 1);
    CHECK(manager.next(0ms).empty());
}

TEST_CASE("a reload begins with RELOADING=1 and ends with READY=1, also one that is refused") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Manager manager(ns);
    auto proxify = Proxify::start(ns, steered(manager, web("5001")));
    CHECK(manager.next().starts_with("READY=1\n"));

    int64_t from = microseconds_now();
    proxify.reload(web("5002"));
    check_reload(manager, from);

    from = microseconds_now();
    proxify.process().signal(SIGHUP);
    check_reload(manager, from);

    from = microseconds_now();
    replace_file(proxify.config_path(), "nonsense");
    check_reload(manager, from);
    CHECK(answered_by(ns, "127.0.0.1:5002") == "blue");
}

TEST_CASE("STATUS says what has changed, and not more than once a second") {
    IN_NAMESPACE(ns);
    std::optional<Server> blue(std::in_place, ns, "127.0.0.1:9001", echo());
    Manager manager(ns);
    auto proxify = Proxify::start(ns, steered(manager, web("5001")));
    const Moment begin = now();
    CHECK(manager.next().starts_with("READY=1\n"));
    {
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        client.send("x");
        CHECK(manager.next("STATUS=1 service; 1 port; 1 session") != "");
    }
    blue.reset();
    CHECK(manager.next("STATUS=1 service, 1 down; 1 port; 0 sessions") != "");
    CHECK(now() - begin > 1s);
    // Nothing changes, nothing is said.
    CHECK(manager.next(1500ms) == "");
}

TEST_CASE("WATCHDOG=1 comes in time, but not while a worker hangs") {
    IN_NAMESPACE(ns);
    Manager manager(ns);
    Setup setup = steered(manager, "[proxify]\nworkers = 2\n" + web("5001"));
    setup.command.environment.push_back("WATCHDOG_USEC=400000");
    auto proxify = Proxify::start(ns, std::move(setup));
    const Moment begin = now();
    // A busy machine makes some late, but hardly all of them.
    auto shortest = Moment::duration(1h);
    Moment last = begin;
    for (int i = 0; i < 6; ++i) {
        REQUIRE(manager.next("WATCHDOG=1") != "");
        if (i > 0) shortest = std::min(shortest, now() - last);
        last = now();
    }
    CHECK(shortest < 400ms);
    CHECK(now() - begin >= 800ms);

    {
        Stopped worker(last_worker(proxify.process().pid()));
        // What it answered before counts, once.
        while (manager.next("WATCHDOG=1", 1200ms) != "") REQUIRE(now() - begin < 20s);
        CHECK(answered_by(ns, "127.0.0.1:5001") != "");  // the rest goes on
    }
    CHECK(manager.next("WATCHDOG=1") != "");

    // More workers are asked as well, and those that go are not waited for.
    proxify.reload("[proxify]\nworkers = 4\n" + web("5001"));
    CHECK(manager.next("WATCHDOG=1") != "");
    {
        Stopped worker(last_worker(proxify.process().pid()));
        while (manager.next("WATCHDOG=1", 1200ms) != "") REQUIRE(now() - begin < 40s);
    }
    proxify.reload("[proxify]\nworkers = 1\n" + web("5001"));
    for (int i = 0; i < 5; ++i) CHECK(manager.next("WATCHDOG=1") != "");
    CHECK(proxify.stop() == 0);
}

TEST_CASE("without WATCHDOG_USEC there is no WATCHDOG=1, and without NOTIFY_SOCKET nothing") {
    IN_NAMESPACE(ns);
    Manager manager(ns);
    auto proxify = Proxify::start(ns, steered(manager, web("5001")));
    CHECK(manager.next("WATCHDOG=1", 1s) == "");
    CHECK(proxify.stop() == 0);
    CHECK(manager.next("STOPPING=1") != "");
    Setup silent{.config = web("5001"), .command = {.environment = {"WATCHDOG_USEC=1000"}}};
    auto other = Proxify::start(ns, std::move(silent));
    CHECK(other.stop() == 0);
    CHECK(manager.next(0ms) == "");
}

TEST_CASE("programs that check cannot speak to the manager") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    TempDir out;
    Manager manager(ns);
    Setup setup =
        steered(manager, web("5001", format(R"(, type = "exec", command = ["/bin/sh", "-c", )"
                                            R"("env > {0}/new; mv {0}/new {0}/environment"])",
                                            out.path().string())));
    setup.command.environment.push_back("WATCHDOG_USEC=60000000");
    auto proxify = Proxify::start(ns, std::move(setup));
    REQUIRE(eventually([&] { return std::filesystem::exists(out / "environment"); }));
    const auto environment = read_file(out / "environment");
    CHECK(environment.contains("PROXIFY_PORT=9001"));
    CHECK_FALSE(environment.contains("NOTIFY_SOCKET"));
    CHECK_FALSE(environment.contains("WATCHDOG"));
}

TEST_CASE("a proxify that became an ordinary user is still heard") {
    IN_NAMESPACE(ns);
    Manager manager(ns);
    auto proxify =
        Proxify::start(ns, steered(manager, "[proxify]\nuser = \"nobody\"\n" + web("5001")));
    CHECK(manager.next().starts_with("READY=1\n"));
    CHECK(proxify.stop() == 0);
    CHECK(manager.next("STOPPING=1") != "");
}

TEST_CASE("a manager that does not read keeps nobody waiting for long") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Manager manager(ns);
    Setup setup = steered(manager, web("5001"));
    setup.command.environment.push_back("WATCHDOG_USEC=2000");
    auto proxify = Proxify::start(ns, std::move(setup));
    proxify.reload(web("5002"));
    CHECK(answered_by(ns, "127.0.0.1:5002") == "blue");
    CHECK(proxify.stop() == 0);
}

// ---- the unit file

TEST_CASE("systemd finds nothing wrong with the unit file, and calls it safe") {
    if (auto missing = missing_program("systemd-analyze")) SKIP_TEST(*missing);
    TempDir directory;
    std::string unit = read_file(source_root() + "/packaging/systemd/proxify.service");
    // The program has to be where the unit says.
    const std::string installed = "/usr/sbin/proxify";
    const auto at = unit.find("ExecStart=" + installed) + 10;
    REQUIRE(at < unit.size());
    write_file(directory / "proxify.service", unit.replace(at, installed.size(), proxify_binary()));

    auto analyze = [&](std::vector<std::string> words) {
        words.insert(words.begin(), "systemd-analyze");
        words.push_back(directory / "proxify.service");
        return run({.argv = words});
    };
    Finished verified = analyze({"verify", "--man=no"});
    CHECK(verified.exit_code == 0);
    CHECK(verified.err == "");
    Finished judged = analyze({"security", "--offline=true", "--no-pager", "--threshold=20"});
    INFO(judged.out);
    CHECK(judged.exit_code == 0);
}

TEST_CASE("the unit's user is the one that sysusers.conf makes") {
    const auto users = read_file(source_root() + "/packaging/systemd/sysusers.conf");
    CHECK(users.contains("\nu proxify "));
    CHECK(read_file(source_root() + "/packaging/systemd/proxify.service")
              .contains("\nUser=proxify\n"));
}
