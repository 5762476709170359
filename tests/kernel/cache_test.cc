// SPDX-License-Identifier: Apache-2.0
// The cache of a service whose clients ask once and are answered once. Every claim is held against
// how often the target was asked.
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "road.h"
#include "support/exposition.h"
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

constexpr const char* address = "127.0.0.1:5001";

std::string config(const std::string& cache, const std::string& more = "") {
    return "[admin]\nhttp = \"127.0.0.1:5999\"\n[[service]]\nname = \"web\"\nports = [5001]\n"
           "health = false\ntargets = [\"127.0.0.1:9001\"]\n" +
           (cache.empty() ? "" : "cache = { " + cache + " }\n") + more;
}

/// Asks, says that this was all, and takes what comes.
Got ask(const Namespace& ns, std::string_view request, const std::string& to = address,
        DialOptions options = {}) {
    Stream client = Stream::dial(ns, to, options);
    client.send(request);
    client.finish();
    return client.receive_all();
}

/// Reads a request to its end and answers it, once it may.
class Oracle {
  public:
    explicit Oracle(
        const Namespace& ns, std::function<std::string(const std::string&)> answer =
                                 [](const std::string& request) { return "re: " + request; })
        : server_(ns, "127.0.0.1:9001", [this, answer = std::move(answer)](Stream& client) {
              const std::string request = client.receive_all(10min).bytes;
              ++asked_;
              std::unique_lock lock(mutex_);
              opened_.wait(lock, [&] { return is_open_; });
              lock.unlock();
              client.send(answer(request));
          }) {}
    ~Oracle() { open(); }
    void close() {
        std::lock_guard lock(mutex_);
        is_open_ = false;
    }
    void open() {
        std::lock_guard lock(mutex_);
        is_open_ = true;
        opened_.notify_all();
    }
    int asked() const { return asked_; }
    int connections() const { return server_.connections(); }

  private:
    std::atomic<int> asked_ = 0;
    std::mutex mutex_;
    std::condition_variable opened_;
    bool is_open_ = true;
    Server server_;
};

/// Clients who ask the same at once, each in a thread of its own.
class Crowding {
  public:
    Crowding(const Namespace& ns, size_t count, std::string request) : got_(count) {
        for (size_t i = 0; i < count; ++i)
            threads_.emplace_back([this, &ns, i, request] { got_[i] = ask(ns, request); });
    }
    std::vector<Got> wait() {
        threads_.clear();
        return got_;
    }

  private:
    std::vector<Got> got_;
    std::vector<std::jthread> threads_;
};

double metric(const Namespace& ns, const std::string& name, const std::string& more = "") {
    Stream client = Stream::dial(ns, "127.0.0.1:5999");
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const std::string page = client.receive_all().bytes;
    return parse_exposition(page.substr(page.find("\r\n\r\n") + 4))
        .at("proxify_cache_" + name + "{service=\"web\"" + more + "}");
}

bool says(const SessionLine& line, const std::string& what) {
    return line.line.find(" cache=" + what + " ") != std::string::npos;
}

}  // namespace

TEST_CASE("an identical request is answered without the target, and another one is not", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\"")});
    for (int i = 0; i < 5; ++i) {
        const Got got = ask(ns, "what?");
        CHECK(got.bytes == "re: what?");
        CHECK(got.end == End::clean);
    }
    CHECK(oracle.asked() == 1);
    CHECK(ask(ns, "what").bytes == "re: what");
    CHECK(ask(ns, "what??").bytes == "re: what??");
    CHECK(oracle.asked() == 3);

    const auto sessions = proxify.sessions(7);
    REQUIRE(sessions.size() == 7);
    for (const SessionLine& line : sessions) {
        INFO(line.line);
        CHECK(line.ending == "-- done");
        CHECK((says(line, "hit") || says(line, "miss")));
        CHECK(line.target == (says(line, "hit") ? "-" : "127.0.0.1:9001"));
        if (says(line, "hit")) CHECK(line.to_client == 9);
    }
    CHECK(std::ranges::count_if(sessions, [](auto& line) { return says(line, "hit"); }) == 4);
    CHECK(metric(ns, "hits_total") == 4);
    CHECK(metric(ns, "misses_total") == 3);
    CHECK(metric(ns, "passed_total") == 0);
    CHECK(metric(ns, "hit_bytes_total") == 4 * 9);
    CHECK(metric(ns, "entries") == 3);
    CHECK(metric(ns, "bytes") > 3 * 9);
}

TEST_CASE("a service keeps nothing unless its file says so", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    auto proxify = Proxify::start(ns, {.config = config("")});
    for (int i = 0; i < 3; ++i) CHECK(ask(ns, "what?").bytes == "re: what?");
    CHECK(oracle.asked() == 3);
    CHECK(proxify.sessions(3)[2].line.find("cache=") == std::string::npos);
}

TEST_CASE("of fifty who ask the same at once the target hears one", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    oracle.close();
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\"")});
    Crowding crowd(ns, 50, "what?");
    // The forty-nine have been read, and the one is at the target.
    CHECK(eventually([&] {
        const std::string sessions = proxify.ask({"sessions"}).out;
        return count_lines(sessions, {"waiting"}) == 49;
    }));
    CHECK(oracle.connections() == 1);
    oracle.open();
    for (const Got& got : crowd.wait()) CHECK(got.bytes == "re: what?");
    CHECK(oracle.connections() == 1);
    proxify.sessions(50);
    CHECK(metric(ns, "misses_total") == 1);
    CHECK(metric(ns, "shared_total") == 49);
}

TEST_CASE("an answer that was cut off is not kept, and the next who waits asks", "[P-49]") {
    IN_NAMESPACE(ns);
    std::atomic<int> asked = 0;
    std::atomic<bool> may_fail = false;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        client.receive_all(10min);
        if (++asked == 1) {
            client.send("half an ans");
            eventually([&] { return may_fail.load(); }, 60s);
            return client.reset();
        }
        client.send("whole");
    });
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\"")});
    Stream first = Stream::dial(ns, address);
    first.send("what?");
    first.finish();
    REQUIRE(first.receive_exactly(11) == "half an ans");
    Crowding crowd(ns, 3, "what?");
    CHECK(eventually([&] { return count_lines(proxify.ask({"sessions"}).out, {"waiting"}) == 3; }));
    may_fail = true;
    CHECK(first.receive_all().end == End::reset);
    for (const Got& got : crowd.wait()) {
        CHECK(got.bytes == "whole");
        CHECK(got.end == End::clean);
    }
    CHECK(asked == 2);
    CHECK(ask(ns, "what?").bytes == "whole");
    CHECK(asked == 2);
    CHECK(metric(ns, "not_kept_total", ",reason=\"cut_off\"") == 1);
}

TEST_CASE("a client that leaves in mid-answer leaves the question to the next", "[P-49]") {
    IN_NAMESPACE(ns);
    std::atomic<int> asked = 0;
    std::atomic<bool> has_left = false;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        client.receive_all(10min);
        ++asked;
        client.send("first half, ");
        eventually([&] { return has_left.load(); }, 60s);
        client.send("second half");
    });
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\"")});
    Stream first = Stream::dial(ns, address);
    first.send("what?");
    first.finish();
    REQUIRE(first.receive_exactly(12) == "first half, ");
    Crowding crowd(ns, 2, "what?");
    CHECK(eventually([&] { return count_lines(proxify.ask({"sessions"}).out, {"waiting"}) == 2; }));
    first.reset();
    has_left = true;
    for (const Got& got : crowd.wait()) CHECK(got.bytes == "first half, second half");
    CHECK(asked == 2);
}

TEST_CASE("an answer longer than max_response passes whole and is not kept", "[P-49]") {
    IN_NAMESPACE(ns);
    const std::string longer(100'001, 'x'), longest(100'000, 'y');
    Oracle oracle(ns,
                  [&](const std::string& request) { return request == "1" ? longer : longest; });
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\", max_response = 100000")});
    for (int i = 0; i < 2; ++i) CHECK(ask(ns, "1").bytes == longer);
    CHECK(oracle.asked() == 2);
    for (int i = 0; i < 2; ++i) CHECK(ask(ns, "2").bytes == longest);
    CHECK(oracle.asked() == 3);
    CHECK(metric(ns, "not_kept_total", ",reason=\"too_long\"") == 2);
}

TEST_CASE("a request longer than max_request is sent on whole and not looked up", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\", max_request = 100")});
    for (size_t size : {101u, 200'000u}) {
        const std::string request(size, 'q');
        for (int i = 0; i < 2; ++i) CHECK(ask(ns, request).bytes == "re: " + request);
    }
    CHECK(oracle.asked() == 4);
    const std::string request(100, 'q');
    for (int i = 0; i < 2; ++i) CHECK(ask(ns, request).bytes == "re: " + request);
    CHECK(oracle.asked() == 5);
    CHECK(metric(ns, "passed_total") == 4);
}

TEST_CASE("a client that takes its time has an ordinary session, and so has one who listens first",
          "[P-49]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", [](Stream& client) {
        client.send("hello\n");
        echo()(client);
    });
    auto proxify =
        Proxify::start(ns, {.config = config("ttl = \"1m\", request_timeout = \"50ms\"")});
    for (int i = 0; i < 2; ++i) {
        Stream client = Stream::dial(ns, address);
        client.send("be");
        CHECK(client.receive_line() == "hello\n");
        CHECK(client.receive_exactly(2) == "be");
        client.send("gin");
        client.finish();
        CHECK(client.receive_all().bytes == "gin");
        CHECK(target.connections() == i + 1);
    }
    CHECK(says(proxify.sessions(2)[1], "passed"));
}

TEST_CASE("with a delimiter nobody needs to say that it has finished", "[P-49]") {
    IN_NAMESPACE(ns);
    std::atomic<int> asked = 0;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        const std::string line = client.receive_line();
        ++asked;
        client.send("re: " + line);
    });
    auto proxify = Proxify::start(
        ns, {.config = config("ttl = \"1m\", delimiter = \"\\n\", request_timeout = \"1m\"")});
    for (int i = 0; i < 3; ++i) {
        Stream client = Stream::dial(ns, address);
        client.send("wh");
        client.send("at?\n");
        const Got got = client.receive_all();
        CHECK(got.bytes == "re: what?\n");
        CHECK(got.end == End::clean);
    }
    CHECK(asked == 1);
    // Two in one are no single exchange.
    for (int i = 0; i < 2; ++i) {
        Stream client = Stream::dial(ns, address);
        client.send("what?\nand?\n");
        CHECK(client.receive_exactly(10) == "re: what?\n");
        CHECK(asked == 2 + i);
    }
    CHECK(metric(ns, "passed_total") == 2);
}

TEST_CASE("what a client asks behind its request is not part of the answer that is kept",
          "[P-49]") {
    IN_NAMESPACE(ns);
    std::atomic<int> asked = 0;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        client.send("re: " + client.receive_line());
        if (++asked == 1) client.send("re: " + client.receive_line());
    });
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\", delimiter = \"\\n\"")});
    Stream client = Stream::dial(ns, address);
    client.send("a\n");
    CHECK(client.receive_line() == "re: a\n");
    client.send("b\n");
    CHECK(client.receive_all().bytes == "re: b\n");
    CHECK(eventually([&] { return metric(ns, "not_kept_total", ",reason=\"asked_more\"") == 1; }));
    Stream other = Stream::dial(ns, address);
    other.send("a\n");
    CHECK(other.receive_all().bytes == "re: a\n");
    CHECK(asked == 2);
}

TEST_CASE("a hit is the answer to the byte, also for a slow reader", "[P-49]") {
    IN_NAMESPACE(ns);
    std::string large;
    for (uint32_t i = 0; large.size() < 1 << 20; ++i)
        large += static_cast<char>((i * 2654435761u) >> 24);
    Oracle oracle(
        ns, [&](const std::string& request) { return request + large.substr(request.size()); });
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\"")});
    std::string every_byte;
    for (int i = 0; i < 256; ++i) every_byte += static_cast<char>(i);
    const std::string expected = every_byte + large.substr(256);
    for (int i = 0; i < 2; ++i) CHECK((ask(ns, every_byte).bytes == expected));
    CHECK((ask(ns, every_byte, address, {.receive_buffer = 2048}).bytes == expected));
    CHECK(oracle.asked() == 1);
}

TEST_CASE("requests reach the cache through the elements, and answers leave it through them",
          "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns, [](const std::string& request) { return request + request; });
    auto proxify = Proxify::start(
        ns, {.config = config(
                 "ttl = \"1m\"",
                 "filters = [ { type = \"count\" }, { type = \"limit_bytes\", bytes = 9 } ]\n"
                 "chunk_size = 3\n")});
    for (int i = 0; i < 2; ++i) {
        CHECK(ask(ns, "abcd").bytes == "abcdabcd");
        CHECK(oracle.asked() == 1);
    }
    // The answer is too long for the last element, and each time it is an element that ends it.
    for (int i = 0; i < 2; ++i) {
        const Got got = ask(ns, "abcde");
        CHECK(got.bytes == "abcdeabcd");
        CHECK(got.end == End::reset);
    }
    // The request itself is: no target hears of it.
    const int before = oracle.connections();
    CHECK(ask(ns, "0123456789").end == End::reset);
    CHECK(oracle.connections() == before);
    CHECK(proxify.sessions(5)[4].ending.starts_with("PF more bytes than allowed"));
}

TEST_CASE("what passes the cache has come through the elements once, and in order", "[P-49]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", [](Stream& client) {
        client.send("hello\n");
        echo()(client);
    });
    const std::string rules = "ttl = \"1m\", max_request = 100, request_timeout = \"50ms\"";
    SECTION("a slow request") {
        auto proxify = Proxify::start(
            ns,
            {.config = config(rules, "filters = [ { type = \"limit_bytes\", bytes = 12 } ]\n")});
        Stream client = Stream::dial(ns, address);
        client.send("abc");
        CHECK(client.receive_line() == "hello\n");
        CHECK(client.receive_exactly(3) == "abc");
        client.send("def");
        CHECK(client.receive_exactly(3) == "def");
        client.send("gh");
        CHECK(client.receive_all().end == End::reset);
        CHECK(proxify.sessions(1)[0].to_target == 8);
    }
    SECTION("a long request") {
        auto proxify = Proxify::start(
            ns, {.config = config(rules, "chunk_size = 7\nfilters = [ { type = \"count\" } ]\n")});
        std::string request;
        for (uint32_t i = 0; request.size() < 300'000; ++i)
            request += static_cast<char>((i * 2654435761u) >> 24);
        Stream client = Stream::dial(ns, address);
        std::jthread sender([&] {
            client.send(request);
            client.finish();
        });
        CHECK((client.receive_all().bytes == "hello\n" + request));
    }
}

TEST_CASE("a request is looked up as the elements have made it, with what they kept back",
          "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    // The end of each request, and of each answer, may be the beginning of what is replaced.
    SECTION("until the client ends") {
        auto proxify = Proxify::start(
            ns, {.config = config("ttl = \"1m\"",
                                  "filters = [{ type = \"replace\", find = \"who??\", with = "
                                  "\"what?\", hold = \"1h\" }]\n")});
        for (int i = 0; i < 2; ++i) {
            CHECK(ask(ns, "who?").bytes == "re: who?");
            CHECK(ask(ns, "who??").bytes == "re: what?");
            CHECK(ask(ns, "what?").bytes == "re: what?");
        }
        CHECK(oracle.asked() == 2);
        CHECK(metric(ns, "hits_total") == 4);
    }
    SECTION("until they are held no longer") {
        auto proxify = Proxify::start(
            ns, {.config = config("ttl = \"1m\", delimiter = \"\\n\", request_timeout = \"1m\"",
                                  "filters = [{ type = \"replace\", find = \"\\n!\", with = "
                                  "\"\\n?\", hold = \"20ms\" }]\n")});
        for (int i = 0; i < 2; ++i) {
            Stream client = Stream::dial(ns, address);
            client.send("what\n");
            // The oracle listens to the end; a hit needs none.
            if (i == 0) client.finish();
            const Got got = client.receive_all();
            CHECK(got.bytes == "re: what\n");
            CHECK(got.end == End::clean);
        }
        CHECK(oracle.asked() == 1);
        CHECK(metric(ns, "hits_total") == 1);
    }
}

TEST_CASE("an answer from memory is no faster than the rate of the service", "[P-49]") {
    IN_NAMESPACE(ns);
    constexpr size_t size = 60'000, burst = 10'000, bytes_per_second = 100'000;
    Oracle oracle(ns, [](const std::string& request) { return std::string(size, request[0]); });
    auto proxify = Proxify::start(
        ns, {.config = config("ttl = \"1m\"", "filters = [{ type = \"rate\", bytes = " +
                                                  std::to_string(bytes_per_second) +
                                                  ", burst = " + std::to_string(burst) + " }]\n")});
    for (int i = 0; i < 2; ++i) {
        const Moment began = now();
        const Got got = ask(ns, "what?");
        const auto took = std::chrono::duration_cast<Millis>(now() - began);
        CHECK(got.bytes == std::string(size, 'w'));
        CHECK(got.end == End::clean);
        // Without a limit it would take less than a millisecond.
        CHECK(took.count() >= Millis::rep{1000 * (size - burst) / bytes_per_second} * 9 / 10);
    }
    CHECK(oracle.asked() == 1);
    CHECK(metric(ns, "hits_total") == 1);
}

TEST_CASE("who aimed elsewhere is not told what somebody else's target said", "[P-49]") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    // Two hosts, and two ports of one of them, for each family.
    const std::string places[] = {"203.0.113.8:8080", "203.0.113.9:8080", "203.0.113.9:8081",
                                  "[2001:db8::8]:8080", "[2001:db8::9]:8080"};
    for (const char* one :
         {"203.0.113.8/32", "203.0.113.9/32", "2001:db8::8/128", "2001:db8::9/128"})
        ns.add_address(one);
    std::vector<std::unique_ptr<Server>> servers;
    for (const auto& place : places)
        servers.push_back(std::make_unique<Server>(ns, place, [place](Stream& client) {
            client.send(client.receive_all(10min).bytes + " at " + place);
        }));
    auto proxify = Proxify::start(
        ns, {.config = "[admin]\nhttp = \"127.0.0.1:5999\"\n[[service]]\nname = \"web\"\n"
                       "targets = [\"original\"]\nhealth = false\ncache = { ttl = \"1m\" }\n"
                       "[[capture]]\ntype = \"redirect\"\nports = [15002]\nservice = \"web\"\n"});
    must(ns, proxify_binary() + " redirect rules add --ports 8080,8081 --to 15002");
    for (int i = 0; i < 3; ++i)
        for (const auto& place : places) CHECK(ask(ns, "x", place).bytes == "x at " + place);
    for (const auto& server : servers) {
        INFO(server->address());
        CHECK(server->connections() == 1);
    }
    CHECK(metric(ns, "misses_total") == 5);
    CHECK(metric(ns, "hits_total") == 10);
}

TEST_CASE("each port of a service has answers of its own", "[P-49]") {
    IN_NAMESPACE(ns);
    Server one(ns, "127.0.0.1:9001", [](Stream& client) {
        client.receive_all(10min);
        client.send("one");
    });
    Server two(ns, "127.0.0.1:9002", [](Stream& client) {
        client.receive_all(10min);
        client.send("two");
    });
    auto proxify =
        Proxify::start(ns, {.config = "[[service]]\nname = \"web\"\nports = [5001, 5002]\n"
                                      "health = false\ntargets = [\"127.0.0.1:+4000\"]\n"
                                      "cache = { ttl = \"1m\" }\n",
                            .flags = {"-b"}});
    for (int i = 0; i < 2; ++i) {
        CHECK(ask(ns, "x", "127.0.0.1:5001").bytes == "one");
        CHECK(ask(ns, "x", "127.0.0.1:5002").bytes == "two");
    }
    CHECK(one.connections() == 1);
    CHECK(two.connections() == 1);
}

TEST_CASE("a reload keeps answers while targets and cache stay the same", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"1m\"")});
    ask(ns, "what?");
    proxify.reload(config("ttl = \"1m\"", "tries = 2\n"));
    CHECK(ask(ns, "what?").bytes == "re: what?");
    CHECK(oracle.asked() == 1);
    proxify.reload(config("ttl = \"2m\""));
    CHECK(ask(ns, "what?").bytes == "re: what?");
    CHECK(oracle.asked() == 2);
    CHECK(metric(ns, "hits_total") == 1);
    CHECK(metric(ns, "misses_total") == 2);
    proxify.reload(config(""));
    CHECK(ask(ns, "what?").bytes == "re: what?");
    CHECK(oracle.asked() == 3);
}

TEST_CASE("answers make room for others when max_size is reached", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns, [](const std::string& request) { return std::string(30'000, request[0]); });
    auto proxify = Proxify::start(
        ns, {.config = config("ttl = \"1m\", max_size = 100000, max_response = 50000")});
    for (const char* request : {"a", "b", "c", "a", "d"}) {
        CHECK(ask(ns, request).bytes == std::string(30'000, request[0]));
        CHECK(metric(ns, "bytes") <= 100'000);
    }
    CHECK(oracle.asked() == 4);
    CHECK(ask(ns, "a").bytes.size() == 30'000);
    CHECK(oracle.asked() == 4);
    CHECK(ask(ns, "b").bytes.size() == 30'000);
    CHECK(oracle.asked() == 5);
    CHECK(metric(ns, "evictions_total") >= 2);
}

TEST_CASE("an answer is asked for again when it is older than its ttl", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    auto proxify = Proxify::start(ns, {.config = config("ttl = \"300ms\"")});
    ask(ns, "what?");
    CHECK(eventually([&] {
        CHECK(ask(ns, "what?").bytes == "re: what?");
        return oracle.asked() == 2;
    }));
}

TEST_CASE("who waits for another's answer when proxify is told to end is ended in time", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    oracle.close();
    auto proxify = Proxify::start(ns, {.config = "[proxify]\ndrain_timeout = \"300ms\"\n" +
                                                 config("ttl = \"1m\", request_timeout = \"1m\"")});
    Stream silent = Stream::dial(ns, address);  // still in its request
    silent.send("wh");
    Crowding crowd(ns, 3, "what?");
    CHECK(eventually([&] { return count_lines(proxify.ask({"sessions"}).out, {"waiting"}) == 2; }));
    CHECK(proxify.stop() == 0);
    // Three of them never had a target.
    CHECK(count_lines(proxify.log(), {"ending=OQ"}) == 3);
    for (const Got& got : crowd.wait()) CHECK(got.end == End::reset);
    CHECK(silent.receive_all().end == End::reset);
}

TEST_CASE("who waits longer than a connect may take asks for itself", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    oracle.close();
    auto proxify = Proxify::start(
        ns, {.config = config("ttl = \"1m\"", "timeouts = { connect = \"300ms\" }\n")});
    Crowding crowd(ns, 2, "what?");
    CHECK(eventually([&] { return oracle.asked() == 2; }));
    oracle.open();
    for (const Got& got : crowd.wait()) CHECK(got.bytes == "re: what?");
    CHECK(metric(ns, "passed_total") == 1);
}

TEST_CASE("while an answer is slow to come, who asks the same goes on at once", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns);
    oracle.close();
    constexpr Millis connect = 500ms;
    auto proxify = Proxify::start(
        ns, {.config = config("ttl = \"1m\"", "timeouts = { connect = \"" +
                                                  std::to_string(connect.count()) + "ms\" }\n")});
    Crowding crowd(ns, 2, "what?");
    CHECK(eventually([&] { return oracle.asked() == 2; }));
    constexpr int more = 8;
    std::vector<Stream> others;
    const Moment began = now();
    for (int i = 1; i <= more; ++i) {
        others.push_back(Stream::dial(ns, address));
        others.back().send("what?");
        others.back().finish();
        CHECK(eventually([&] { return oracle.asked() == 2 + i; }));
    }
    // If they had waited, one after the other, it would have been as long as this.
    CHECK(now() - began < more * connect);
    oracle.open();
    for (const Got& got : crowd.wait()) CHECK(got.bytes == "re: what?");
    for (Stream& other : others) CHECK(other.receive_all().bytes == "re: what?");
    proxify.sessions(2 + more);
    CHECK(ask(ns, "what?").bytes == "re: what?");
    CHECK(oracle.asked() == 2 + more);
    CHECK(metric(ns, "misses_total") == 1);
    CHECK(metric(ns, "passed_total") == 1 + more);
    CHECK(metric(ns, "hits_total") == 1);
}

TEST_CASE("when an element cuts off an answer, all who wait for it ask at once", "[P-49]") {
    IN_NAMESPACE(ns);
    Oracle oracle(ns, [](const std::string& request) { return request + request; });
    oracle.close();
    auto proxify = Proxify::start(
        ns, {.config =
                 config("ttl = \"1m\"", "filters = [ { type = \"limit_bytes\", bytes = 9 } ]\n")});
    Crowding crowd(ns, 4, "abcde");
    CHECK(eventually([&] { return count_lines(proxify.ask({"sessions"}).out, {"waiting"}) == 3; }));
    oracle.open();
    for (const Got& got : crowd.wait()) {
        CHECK(got.bytes == "abcdeabcd");
        CHECK(got.end == End::reset);
    }
    proxify.sessions(4);
    CHECK(oracle.asked() == 4);
    CHECK(metric(ns, "misses_total") == 1);
    CHECK(metric(ns, "passed_total") == 3);
    CHECK(metric(ns, "not_kept_total", ",reason=\"closed\"") == 1);
    CHECK(metric(ns, "not_kept_total", ",reason=\"cut_off\"") == 0);
}

TEST_CASE("a request that is still among the elements when it passes the cache is sent on whole",
          "[P-49]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", [](Stream& client) {
        client.send("re: " + std::to_string(client.receive_line().size()) + "\n");
    });
    // The client sends its line and nothing more, not even its end.
    std::string rules, elements, request;
    size_t grows_to = 0;
    SECTION("since an element holds it up beyond request_timeout") {
        rules = "request_timeout = \"20ms\"";
        elements = "{ type = \"rate\", bytes = 2000, burst = 100, per = \"service\" }";
        request = std::string(300, 'a') + "\n";
        grows_to = request.size();
    }
    SECTION("since an element makes it longer than max_request") {
        rules = "max_request = 100, request_timeout = \"1m\"";
        elements =
            "{ type = \"replace\", find = \"a\", with = \"" + std::string(4096, 'b') + "\" }";
        request = std::string(30, 'a') + "\n";
        grows_to = 30 * 4096 + 1;
    }
    auto proxify = Proxify::start(
        ns, {.config = config("ttl = \"1m\", delimiter = \"\\n\", " + rules,
                              "filters = [ { type = \"count\" }, " + elements + " ]\n")});
    Stream client = Stream::dial(ns, address);
    client.send(request);
    CHECK(client.receive_line() == "re: " + std::to_string(grows_to) + "\n");
    client.finish();
    CHECK(client.receive_all().end == End::clean);
    CHECK(says(proxify.sessions(1)[0], "passed"));
}
