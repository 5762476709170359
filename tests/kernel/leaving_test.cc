// SPDX-License-Identifier: Apache-2.0
// How proxify goes: by signal, in haste, and killed. Nothing of it stays behind.
#include <cerrno>
#include <csignal>
#include <span>

#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

Setup through_5001(const std::string& drain = "10s") {
    return {.config = "[proxify]\ndrain_timeout = \"" + drain +
                      "\"\n[[service]]\nname = \"web\"\nports = [5001]\n"
                      "targets = [\"127.0.0.1:9001\"]\n",
            .flags = {"-b"}};
}

/// Whether the kernel knows nothing of these any more. It frees them a moment after the process.
bool are_gone(const Namespace& ns, const KernelIds& ids) {
    const std::string ask = "bpftool link show id " + std::to_string(ids.link) +
                            " || bpftool prog show id " + std::to_string(ids.program) +
                            " || bpftool map show id " + std::to_string(ids.proxy_ports) +
                            " || bpftool map show id " + std::to_string(ids.proxy_sock);
    return eventually([&] { return run_line(ns, ask).exit_code != 0; });
}

}  // namespace

TEST_CASE("SIGTERM and SIGINT end it with 0, and ports, link, maps and program are free",
          "[P-22]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    for (int signal : {SIGTERM, SIGINT}) {
        auto proxify = Proxify::start(ns, through_5001());
        const KernelIds ids = proxify.ids();
        REQUIRE(ids.link > 0);
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
        proxify.process().signal(signal);
        CHECK(proxify.process().wait(5s) == 0);
        CHECK(are_gone(ns, ids));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
        CHECK(listening(ns) == std::set<std::string>{"127.0.0.1:9001"});
    }
}

TEST_CASE("without -b too, SIGTERM ends it with 0 and frees its ports", "[P-22]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Setup setup = through_5001();
    setup.flags = {};
    auto proxify = Proxify::start(ns, std::move(setup));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
    CHECK(proxify.stop() == 0);
    CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
}

TEST_CASE("sessions may finish after SIGTERM, while new clients are refused", "[P-22]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, through_5001("60s"));
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.send("before ");
    CHECK(client.receive_exactly(7) == "before ");

    proxify.process().signal(SIGTERM);
    CHECK(eventually([&] {
        return Stream::dial_error(ns, "127.0.0.1:5001") == ECONNREFUSED &&
               Stream::dial_error(ns, "127.0.0.1:8080") == ECONNREFUSED;
    }));
    client.send("after");
    CHECK(client.receive_exactly(5) == "after");
    CHECK(proxify.process().is_running());
    client.finish();
    CHECK(client.receive_all().end == End::clean);
    CHECK(proxify.process().wait(5s) == 0);
}

TEST_CASE("sessions that go on longer than the drain deadline are ended, and it leaves with 0",
          "[P-22]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", greet("blue"));
    auto proxify = Proxify::start(ns, through_5001("500ms"));
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.receive_line();
    const Moment start = now();
    proxify.process().signal(SIGTERM);
    CHECK(proxify.process().wait(10s) == 0);
    CHECK(now() - start >= 450ms);
    CHECK(client.receive_all().end != End::none_yet);
    const auto session = proxify.sessions(1)[0];
    INFO(session.line);
    CHECK(session.ending.starts_with("O"));
}

TEST_CASE("a second signal ends it at once", "[P-22]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", greet("blue"));
    auto proxify = Proxify::start(ns, through_5001("10m"));
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.receive_line();
    proxify.process().signal(SIGTERM);
    REQUIRE(eventually([&] { return answered_by(ns, "127.0.0.1:5001") == "refused"; }));
    CHECK(proxify.process().is_running());
    proxify.process().signal(SIGTERM);
    CHECK(proxify.process().wait(5s).has_value());
}

TEST_CASE("whoever waits in the accept queue when it is told to leave is still served", "[P-22]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", greet("blue"));
    auto proxify = Proxify::start(ns, through_5001());
    // While it stands still the kernel completes handshakes for it.
    proxify.process().signal(SIGSTOP);
    std::vector<Stream> queued;
    for (int i = 0; i < 50; ++i) queued.push_back(Stream::dial(ns, "127.0.0.1:5001"));
    proxify.process().signal(SIGTERM);
    proxify.process().signal(SIGCONT);
    for (Stream& client : queued) REQUIRE(client.receive_line() == "blue\n");
    for (Stream& client : queued) client.finish();
    CHECK(proxify.process().wait(10s) == 0);
}

TEST_CASE("twenty quick restarts under load, every second one by kill -9, leave nothing",
          "[P-36]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    std::atomic<bool> enough = false;
    std::atomic<int> served = 0;
    auto knock = [&] {
        while (!enough) served += answered_by(ns, "127.0.0.1:5001", {.limit = 2s}) == "blue";
    };
    std::thread load[] = {std::thread(knock), std::thread(knock)};
    struct Join {
        std::atomic<bool>& enough;
        std::span<std::thread> threads;
        void now() {
            enough = true;
            for (auto& thread : threads)
                if (thread.joinable()) thread.join();
        }
        ~Join() { now(); }
    } join{enough, load};
    for (int restart = 0; restart < 20; ++restart) {
        auto proxify = Proxify::start(ns, through_5001("1s"));
        const KernelIds ids = proxify.ids();
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
        const int signal = restart % 2 ? SIGKILL : SIGTERM;
        proxify.process().signal(signal);
        CHECK(proxify.process().wait(10s) == (signal == SIGKILL ? 128 + SIGKILL : 0));
        CHECK(are_gone(ns, ids));
    }
    join.now();
    CHECK(served > 20);
    CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
    // After a kill the kernel takes io_uring apart behind the scenes, and the listener with it.
    CHECK(eventually([&] { return answered_by(ns, "127.0.0.1:8080") == "refused"; }));
}
