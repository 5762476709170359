// SPDX-License-Identifier: Apache-2.0
// How bytes and endings travel through one session.
#include <cerrno>

#include "support/kernel_test.h"
#include "support/pattern.h"
#include "support/told.h"

using namespace proxify::test;

namespace {

/// One service on port 5001 with its target at 127.0.0.1:9001, and more keys.
Setup through_5001(const std::string& more = "") {
    return {.config =
                "[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\n"
                "targets = [\"127.0.0.1:9001\"]\n" +
                more + "\n",
            .flags = {"-b"}};
}

}  // namespace

TEST_CASE("1 GiB each way at once through one connection arrives byte for byte", "[P-15]") {
    IN_NAMESPACE(ns);
    const uint64_t size = uint64_t{1} << 30;
    const Pattern up(1), down(2);
    Told<std::string> target_says;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        std::string problem;
        std::thread sender([&] {
            try {
                send_pattern(client, down, size);
                client.finish();
            } catch (const std::exception& error) {
                target_says.tell(error.what());
            }
        });
        try {
            receive_pattern(client, up, size);
        } catch (const std::exception& error) {
            problem = error.what();
        }
        sender.join();
        target_says.tell(problem);
    });
    Setup setup = through_5001();
    setup.config += "[log]\nformat = \"json\"\n";  // which tells sizes to the byte
    auto proxify = Proxify::start(ns, std::move(setup));
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    std::string sending_failed;
    std::thread sender([&] {
        try {
            send_pattern(client, up, size);
            client.finish();
        } catch (const std::exception& error) {
            sending_failed = error.what();
        }
    });
    CHECK_NOTHROW(receive_pattern(client, down, size));
    sender.join();
    CHECK(sending_failed == "");
    CHECK(target_says.get() == "");
    const auto session = proxify.sessions(1)[0];
    INFO(session.line);
    CHECK(session.to_target == size);
    CHECK(session.to_client == size);
    CHECK(session.ending.starts_with("--"));
}

TEST_CASE("a client that has finished sending still gets its answer", "[P-16]") {
    IN_NAMESPACE(ns);
    const uint64_t size = 10 << 20;
    const Pattern request(3), response(4);
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        receive_pattern(client, request, size);  // up to the end of what the client has to say
        send_pattern(client, response, size);
    });
    auto proxify = Proxify::start(ns, through_5001());
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    send_pattern(client, request, size);
    client.finish();
    CHECK_NOTHROW(receive_pattern(client, response, size));
    CHECK(proxify.sessions(1)[0].ending.starts_with("--"));
}

TEST_CASE("a target that has finished sending still hears the client", "[P-16]") {
    IN_NAMESPACE(ns);
    const uint64_t size = 10 << 20;
    const Pattern first(5), second(6);
    Told<std::string> target_says;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        send_pattern(client, first, size);
        client.finish();
        try {
            receive_pattern(client, second, size);
            target_says.tell("");
        } catch (const std::exception& error) {
            target_says.tell(error.what());
        }
    });
    auto proxify = Proxify::start(ns, through_5001());
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    CHECK_NOTHROW(receive_pattern(client, first, size));
    send_pattern(client, second, size);
    client.finish();
    CHECK(target_says.get() == "");
}

TEST_CASE("a thousand rounds on one connection", "[P-17]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, through_5001());
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    for (int round = 0; round < 1000; ++round) {
        const std::string request =
            "round " + std::to_string(round) + std::string(round % 700, '.');
        client.send(request);
        REQUIRE(client.receive_exactly(request.size()) == request);
    }
    client.finish();
    CHECK(client.receive_all().end == End::clean);
}

TEST_CASE("one byte at a time is as good as all at once", "[P-17]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, through_5001());
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    for (char c : std::string("one byte at a time")) {
        client.send({&c, 1});
        REQUIRE(client.receive_exactly(1) == std::string(1, c));
    }
}

TEST_CASE("a target may speak first", "[P-18]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", greet("welcome"));
    auto proxify = Proxify::start(ns, through_5001());
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    CHECK(client.receive_line() == "welcome\n");
}

TEST_CASE("a client's reset reaches the target, after what the client had sent", "[P-19]") {
    IN_NAMESPACE(ns);
    for (const uint64_t size : {uint64_t{1}, uint64_t{64} << 10, uint64_t{300} << 10}) {
        const Pattern pattern(size);
        std::atomic<bool> client_has_reset = false;
        Told<Got> target_got;
        // It begins to read late, so that the reset overtakes the bytes where that is possible.
        Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
            eventually([&] { return client_has_reset.load(); });
            target_got.tell(client.receive_all());
        });
        auto proxify = Proxify::start(ns, through_5001());
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        send_pattern(client, pattern, size);
        REQUIRE(client.is_delivered());
        client.reset();
        client_has_reset = true;

        const Got got = target_got.get();
        INFO(size << " bytes sent");
        CHECK(got.end == End::reset);
        CHECK(got.bytes.size() == size);
        CHECK_FALSE(pattern.first_difference(0, got.bytes));
        CHECK(proxify.sessions(1)[0].ending.starts_with("C"));
    }
}

TEST_CASE("a target's reset reaches the client, after what the target had sent", "[P-19]") {
    IN_NAMESPACE(ns);
    for (const uint64_t size :
         {uint64_t{0}, uint64_t{1}, uint64_t{64} << 10, uint64_t{300} << 10}) {
        const Pattern pattern(size);
        Told<bool> target_has_reset;
        Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
            client.receive_exactly(1);
            send_pattern(client, pattern, size);
            const bool delivered = client.is_delivered();
            client.reset();
            target_has_reset.tell(delivered);
        });
        auto proxify = Proxify::start(ns, through_5001());
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        client.send("?");
        REQUIRE(target_has_reset.get());

        const Got got = client.receive_all();
        INFO(size << " bytes sent");
        CHECK(got.end == End::reset);
        CHECK(got.bytes.size() == size);
        CHECK_FALSE(pattern.first_difference(0, got.bytes));
        CHECK(proxify.sessions(1)[0].ending.starts_with("T"));
    }
}

TEST_CASE("a reset ends a session that is stalled in the other direction", "[P-19]") {
    IN_NAMESPACE(ns);
    std::atomic<uint64_t> sent = 0;
    Server target(ns, "127.0.0.1:9001", pour(sent));
    auto proxify = Proxify::start(ns, through_5001());
    Stream client = Stream::dial(ns, "127.0.0.1:5001", {.receive_buffer = 4096});
    REQUIRE(eventually([&] { return sent > 0; }));
    client.reset();
    CHECK(proxify.sessions(1)[0].ending.starts_with("C"));
    CHECK(eventually([&] { return target.open() == 0; }));
}

TEST_CASE("a slow reader slows the writer, and memory stays bounded", "[P-20]") {
    IN_NAMESPACE(ns);
    std::atomic<uint64_t> sent = 0;
    Server source(ns, "127.0.0.1:9001", pour(sent));
    auto proxify = Proxify::start(ns, through_5001());
    {
        Stream first = Stream::dial(ns, "127.0.0.1:5001");
        first.receive_exactly(1 << 20);
    }
    const size_t before = proxify.process().resident_bytes();

    std::vector<Stream> stalled;
    for (int i = 0; i < 20; ++i) stalled.push_back(Stream::dial(ns, "127.0.0.1:5001"));
    // What the kernel's own buffers hold is taken; then the sources have to stand still.
    uint64_t last = 0;
    Moment moved = now();
    REQUIRE(eventually(
        [&] {
            if (sent != last) last = sent, moved = now();
            return last > 0 && now() - moved > 500ms;
        },
        60s));
    CHECK(proxify.process().resident_bytes() < before + (sanitized ? 64 << 20 : 16 << 20));

    // One that begins to read again finds everything, in order, as far as it likes.
    CHECK(stalled[7].receive_exactly(32 << 20) == std::string(32 << 20, 'p'));
}

TEST_CASE("bulk takes a kernel pipe, and none where relay is copy", "[P-15]") {
    IN_NAMESPACE(ns);
    std::atomic<uint64_t> sent = 0;
    Server source(ns, "127.0.0.1:9001", pour(sent));
    for (bool copy : {false, true}) {
        INFO(copy);
        auto proxify =
            Proxify::start(ns, through_5001(copy ? "relay = \"copy\"" : "relay = \"auto\""));
        const int before = proxify.process().open_fds();
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        for (int i = 0; i < 64; ++i)
            REQUIRE(client.receive_exactly(1 << 20) == std::string(1 << 20, 'p'));
        // The client stops here, so that what is on the way stays there.
        const int sockets = 2, pipe = 2;
        CHECK(proxify.process().open_fds() - before == sockets + (copy ? 0 : pipe));
    }
}

TEST_CASE("a slow target slows the client, and memory stays bounded", "[P-20]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", stare());
    auto proxify = Proxify::start(ns, through_5001());
    const size_t before = proxify.process().resident_bytes();
    const std::string block(64 << 10, 'b');
    std::vector<Stream> clients;
    for (int i = 0; i < 10; ++i) {
        Stream& client = clients.emplace_back(Stream::dial(ns, "127.0.0.1:5001"));
        Moment moved = now();
        CHECK(eventually(
            [&] {
                if (client.send_some(block) > 0) moved = now();
                return now() - moved > 100ms;
            },
            30s));
    }
    CHECK(proxify.process().resident_bytes() < before + (sanitized ? 64 << 20 : 16 << 20));
}

TEST_CASE("a session without a byte either way ends after the idle timeout", "[P-20]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, through_5001("timeouts = { idle = \"400ms\" }"));
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    // Traffic keeps it alive for longer than the timeout.
    const Moment start = now();
    while (now() - start < 800ms) {
        client.send("x");
        REQUIRE(client.receive_exactly(1) == "x");
        std::this_thread::sleep_for(50ms);
    }
    const Moment last = now();
    CHECK(client.receive_all().end != End::none_yet);
    CHECK(now() - last >= 300ms);
    CHECK(now() - last < 5s);
    const auto session = proxify.sessions(1)[0];
    INFO(session.line);
    CHECK(session.ending.contains("idle"));
    CHECK(eventually([&] { return target.open() == 0; }));
}

TEST_CASE("a half-closed session without a byte ends after the half-close timeout", "[P-16]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", stare());
    auto proxify = Proxify::start(ns, through_5001("timeouts = { half_close = \"400ms\" }"));
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.send("anybody there?");
    client.finish();
    const Moment start = now();
    CHECK(client.receive_all().end != End::none_yet);
    CHECK(now() - start >= 300ms);
    CHECK(now() - start < 5s);
    INFO(proxify.log());
    CHECK(proxify.sessions(1)[0].ending.starts_with("t"));
}

TEST_CASE("small messages are not held back", "[P-17]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, through_5001());
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    // Two sends in a row are what Nagle's algorithm and delayed acknowledgements turn into 40 ms.
    const Moment start = now();
    for (int round = 0; round < 200; ++round) {
        client.send("ab");
        client.send("cd");
        REQUIRE(client.receive_exactly(4) == "abcd");
    }
    CHECK(now() - start < 4s);
}
