// SPDX-License-Identifier: Apache-2.0
// Many connections, and too many.
#include <sys/resource.h>

#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

Setup through_5001(const std::string& more = "") {
    return {.config =
                "[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\n"
                "targets = [\"127.0.0.1:9001\"]\n" +
                more + "\n",
            .flags = {"-b"}};
}

/// Its descriptors when nobody is connected, after a first client has warmed it up.
int fds_at_rest(const Namespace& ns, Proxify& proxify, const char* address = "127.0.0.1:5001") {
    answered_by(ns, address);
    proxify.sessions(1);
    int fds = 0;
    eventually([&] { return std::exchange(fds, proxify.process().open_fds()) == fds; });
    return fds;
}

bool is_at_rest(Proxify& proxify, int fds) {
    return eventually([&] { return proxify.process().open_fds() <= fds; }, 60s);
}

}  // namespace

TEST_CASE("after ten thousand connections of all manners no descriptor is left", "[P-18]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", greet("hello"));
    auto proxify = Proxify::start(ns, through_5001());
    const int fds = fds_at_rest(ns, proxify);
    const size_t connections = 10'000;
    for (size_t i = 0; i < connections; ++i) {
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        switch (i % 5) {
            case 0:
                break;  // connects and leaves
            case 1:
                client.reset();
                break;  // the same, impolitely
            case 2:
                client.receive_line();
                break;  // only listens
            case 3:
                client.send("x");
                break;  // says something and does not wait
            case 4:
                client.finish();
                REQUIRE(client.receive_all().bytes == "hello\n");
        }
    }
    CHECK(is_at_rest(proxify, fds));
    CHECK(proxify.sessions(connections + 1, 60s).size() == connections + 1);
    CHECK(eventually([&] { return target.open() == 0; }));
}

TEST_CASE("nine thousand idle connections are held, and one more is served", "[P-21]") {
    IN_NAMESPACE(ns);
    // Both ends of each are in this process, and both of proxify's own in that one.
    const int connections = 9'000;
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < 2 * connections + 500)
        SKIP_TEST("needs a limit of 18500 open files (ulimit -n), which is " +
                  std::to_string(files.rlim_cur));

    Server blue(ns, "127.0.0.1:9002", answer("blue"));
    auto proxify = Proxify::start(ns, through_5001(R"(
[[service]]
name    = "other"
ports   = [5002]
health  = false
targets = ["127.0.0.1:9002"]
)"));
    const int fds = fds_at_rest(ns, proxify, "127.0.0.1:5002");
    const size_t memory = proxify.process().resident_bytes();
    {
        Crowd crowd(ns, "127.0.0.1:9001");
        std::vector<Stream> clients;
        for (int i = 0; i < connections; ++i) clients.push_back(Stream::dial(ns, "127.0.0.1:5001"));
        REQUIRE(eventually([&] { return crowd.size() == connections; }, 60s));
        CHECK(proxify.process().open_fds() >= 2 * connections);
        CHECK(answered_by(ns, "127.0.0.1:5002") == "blue");
        const size_t each = (proxify.process().resident_bytes() - memory) / connections;
        INFO(each << " bytes of memory for each");
        CHECK(each < (sanitized ? 64'000 : 16'000));
        // All leave at once.
    }
    CHECK(is_at_rest(proxify, fds));
    CHECK(answered_by(ns, "127.0.0.1:5002") == "blue");
}

TEST_CASE("with 64 descriptors it serves whom it can, stays quiet, and serves again", "[P-21]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Setup setup = through_5001();
    setup.command.open_files = 64;
    auto proxify = Proxify::start(ns, std::move(setup));
    const int fds = fds_at_rest(ns, proxify);
    for (int round = 0; round < 3; ++round) {
        std::vector<Stream> clients;
        for (int i = 0; i < 100; ++i) clients.push_back(Stream::dial(ns, "127.0.0.1:5001"));
        REQUIRE(eventually([&] { return blue.open() >= 10; }));
        const Millis before = proxify.process().cpu_time();
        std::this_thread::sleep_for(500ms);  // a measurement, not a wait
        CHECK(proxify.process().cpu_time() - before <= 150ms);
        clients.clear();
        CHECK(eventually([&] { return answered_by(ns, "127.0.0.1:5001", {.limit = 1s}) == "blue"; },
                         20s));
        CHECK(is_at_rest(proxify, fds));
    }
    CHECK(proxify.process().is_running());
}
