// SPDX-License-Identifier: Apache-2.0
#include "http/message.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "http/client.h"
#include "http/server.h"
#include "support/catch.h"
#include "support/eventually.h"
#include "support/temp_dir.h"

using namespace proxify;
using http::Request;

TEST_CASE("a request goes over the wire and comes back the same, whatever is in it") {
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
        Request request{.method = "POST", .path = "/v1/targets"};
        for (auto parameters = random() % 4; parameters > 0; --parameters) {
            std::string name, value;
            for (auto size = 1 + random() % 5; size > 0; --size)
                name += static_cast<char>(random() % 256);
            for (auto size = random() % 8; size > 0; --size)
                value += static_cast<char>(random() % 256);
            request.query[name] = value;
        }
        const auto target = http::target_of(request);
        CAPTURE(target);
        // Nothing that would end the request line, or be read as something else.
        CHECK(target.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                       "0123456789-._~%/?&=") == target.npos);
        auto read = http::read_target("POST", target);
        CHECK(read.method == request.method);
        CHECK(read.path == request.path);
        CHECK(read.query == request.query);
    }
}

TEST_CASE("a target is read for what it says, and garbage as it stands") {
    using Query = std::map<std::string, std::string>;
    struct {
        std::string target, path;
        Query query;
    } rows[] = {
        {"", "", {}},
        {"/", "/", {}},
        {"/v1/status", "/v1/status", {}},
        {"/v1/status?", "/v1/status", {}},
        {"/a?b", "/a", {{"b", ""}}},
        {"/a?b=", "/a", {{"b", ""}}},
        {"/a?b=c", "/a", {{"b", "c"}}},
        {"/a?b=c&d=e", "/a", {{"b", "c"}, {"d", "e"}}},
        {"/a?b=1&b=2", "/a", {{"b", "2"}}},
        {"/a?&&b=c&", "/a", {{"b", "c"}}},
        {"/a?=c", "/a", {{"", "c"}}},
        {"/a?b=c=d", "/a", {{"b", "c=d"}}},
        {"/a?b=c?d", "/a", {{"b", "c?d"}}},
        {"/a?b=x+y%20z", "/a", {{"b", "x y z"}}},
        {"/a?b=%2F%2f", "/a", {{"b", "//"}}},
        {"/a?b=%", "/a", {{"b", "%"}}},
        {"/a?b=%4", "/a", {{"b", "%4"}}},
        {"/a?b=%zz%-1%+1", "/a", {{"b", "%zz%-1% 1"}}},
        {"/a?b=%41", "/a", {{"b", "A"}}},
        {"/a?b=%00", "/a", {{"b", std::string(1, '\0')}}},
        {"/%41", "/%41", {}},
    };
    for (const auto& [target, path, query] : rows) {
        CAPTURE(target);
        auto request = http::read_target("GET", target);
        CHECK(request.path == path);
        CHECK(request.query == query);
    }
    std::mt19937 random(2);
    for (int round = 0; round < 5000; ++round) {
        std::string target;
        for (auto size = random() % 40; size > 0; --size) target += "/?&=%+aF0\xff"[random() % 10];
        auto once = http::read_target("GET", target);
        if (once.path.starts_with('/') && !once.query.empty())
            CHECK(http::read_target("GET", http::target_of(once)).query == once.query);
    }
}

TEST_CASE("whoever asks waits no longer than it has patience for") {
    test::TempDir directory;
    const auto path = directory / "socket";
    auto listener = Fd::adopt(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un where{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(where.sun_path, sizeof where.sun_path - 1);
    REQUIRE(bind(listener.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);

    auto trouble = [&](const std::string& at) {
        auto answer = http::ask(at, {}, 100ms);
        REQUIRE_FALSE(answer);
        return answer.error().text();
    };
    CHECK(trouble(path).find("Connection refused") != std::string::npos);  // nobody listens
    REQUIRE(listen(listener.get(), 0) == 0);
    // The first waits in the queue, where nobody answers it; then the queue is full.
    CHECK(trouble(path).find("does not answer within 100ms") != std::string::npos);
    CHECK(trouble(path).find("does not answer within 100ms") != std::string::npos);
    CHECK(trouble(path).find("does not answer within 100ms") != std::string::npos);
    CHECK(trouble(directory / "none").find("No such file") != std::string::npos);
    CHECK(trouble(directory / std::string(200, 'x')).find("too long") != std::string::npos);
}

// ---- the server

namespace {

http::Render saying(const std::string& text) {
    return [text] { return http::Response{.type = "text/plain", .body = text}; };
}

/// Answers in every way that there is: /at-once, /twice, /later from another thread, /kept when
/// the test says so, /dropped never.
struct Oracle {
    Oracle() {
        REQUIRE(server->listen(path, {}));
        server->start();
    }
    ~Oracle() {
        server.reset();
        for (auto& thread : threads) thread.join();
    }

    void take(const Request& request, const http::Answer& answer) {
        if (request.path == "/at-once") answer(saying("at once"));
        if (request.path == "/echo") answer(saying(request.body));
        if (request.path == "/twice") {
            answer(saying("one"));
            answer(saying("two"));
        }
        std::lock_guard guard(lock);
        if (request.path == "/later")
            threads.emplace_back([answer] {
                answer(saying("later"));
                answer(saying("too late"));
            });
        if (request.path == "/kept") kept.push_back(answer);
    }
    std::string ask(const std::string& where, Duration patience = 5s, std::string body = {}) const {
        auto answer =
            http::ask(path, {.method = "POST", .path = where, .query = {}, .body = std::move(body)},
                      patience);
        return answer ? answer->body : "nothing";
    }

    test::TempDir directory;
    const std::string path = directory / "socket";
    std::mutex lock;
    std::vector<std::thread> threads;
    std::vector<http::Answer> kept;
    std::optional<http::Server> server{
        std::in_place, [this](const Request& request, http::Door, const http::Answer& answer) {
            take(request, answer);
        }};
};

}  // namespace

TEST_CASE("the first answer counts, from whatever thread; one that comes too late is nobody's") {
    Oracle oracle;
    CHECK(oracle.ask("/at-once") == "at once");
    CHECK(oracle.ask("/twice") == "one");
    CHECK(oracle.ask("/later") == "later");
    const std::string large(1 << 20, 'x');
    CHECK(oracle.ask("/echo", 5s, large) == large);
    CHECK(oracle.ask("/kept", 50ms) == "nothing");
    CHECK(oracle.ask("/dropped", 50ms) == "nothing");
    REQUIRE(oracle.kept.size() == 1);
    oracle.kept[0](saying("at last"));  // the client has gone
    CHECK(oracle.ask("/at-once") == "at once");

    CHECK(oracle.ask("/kept", 50ms) == "nothing");
    oracle.server.reset();
    for (auto& answer : oracle.kept) answer(saying("when all is gone"));
    CHECK(oracle.ask("/at-once") == "nothing");
}

TEST_CASE("a server can go at any moment, whoever asks and answers meanwhile") {
    for (int round = 0; round < 20; ++round) {
        Oracle oracle;
        std::atomic<bool> enough = false;
        std::atomic<int> answered = 0, strange = 0;
        std::vector<std::thread> clients;
        for (const char* where : {"/at-once", "/twice", "/later", "/kept"})
            clients.emplace_back([&, where] {
                const std::map<std::string, std::string> right{
                    {"/at-once", "at once"}, {"/twice", "one"}, {"/later", "later"}};
                while (!enough) {
                    auto said = oracle.ask(where, 20ms);
                    answered += said != "nothing";
                    auto wanted = right.find(where);
                    strange +=
                        said != "nothing" && (wanted == right.end() || said != wanted->second);
                }
            });
        // Those who answer go last where cores are few, and others may want all of these.
        CHECK(test::eventually([&] { return answered > 50; }, 60s));
        oracle.server.reset();
        enough = true;
        for (auto& client : clients) client.join();
        for (auto& answer : oracle.kept) answer(saying("when all is gone"));
        CHECK(strange == 0);
    }
}
