// SPDX-License-Identifier: Apache-2.0
#include "containers/containers.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/format.h"
#include "containers/daemon.h"
#include "containers/docker.h"
#include "containers/follower.h"
#include "http/client.h"
#include "support/catch.h"
#include "support/eventually.h"
#include "support/temp_dir.h"

using namespace proxify;
using namespace proxify::containers;
using test::eventually;

namespace {

const std::string id = "97da62914ad63fe33633ce53335eab1e73ce5e8d773d2b9733f0922de561a959";

/// As Docker describes a container; what nobody reads is left out.
std::string described(const std::string& name, const std::string& networks,
                      const std::string& state = R"({"Running":true,"Pid":14474})") {
    return format(R"({{"Id":"{}","Name":"/{}","State":{},"NetworkSettings":{{"IPAddress":"",)"
                  R"("GlobalIPv6Address":"","Networks":{}}}}})",
                  id, name, state, networks);
}

std::string one_network(const std::string& ip) {
    return format(R"({{"bridge":{{"IPAddress":"{}","GlobalIPv6Address":""}}}})", ip);
}

http::Response answer_of(unsigned status, std::string body) {
    return {.status = status, .type = {}, .body = std::move(body)};
}

std::string addresses_of(const Container& container) {
    std::string text;
    for (const auto& ip : container.addresses) text += ip.text() + " ";
    return text;
}

bool contains(const std::string& text, const std::string& part) {
    if (text.find(part) != text.npos) return true;
    UNSCOPED_INFO(text);
    return false;
}

/// DOCKER_HOST, for as long as this lives.
struct DockerHost {
    explicit DockerHost(const char* value) {
        if (const char* was = std::getenv("DOCKER_HOST")) before = was;
        value ? setenv("DOCKER_HOST", value, 1) : unsetenv("DOCKER_HOST");
    }
    ~DockerHost() { before ? setenv("DOCKER_HOST", before->c_str(), 1) : unsetenv("DOCKER_HOST"); }
    std::optional<std::string> before;
};

}  // namespace

// ---- what is said and what it means

TEST_CASE("a name is asked for as it is, and nothing else gets into the path") {
    for (const std::string name : {"web", "a", "A_b.c-d", "0", id.c_str()}) {
        auto request = ask_for(name);
        REQUIRE(request);
        CHECK(http::target_of(*request) == "/containers/" + name + "/json");
    }
    for (const auto& name :
         {std::string(), std::string("/web"), std::string("a/b"), std::string("a b"),
          std::string("a?b"), std::string("a%41"), std::string("-a"), std::string(".."),
          std::string("a\r\nX: y"), std::string("\xc3\xa4"), std::string("a\0b", 3),
          std::string(256, 'a')}) {
        CAPTURE(name);
        auto request = ask_for(name);
        REQUIRE_FALSE(request);
        CHECK(request.error().what.ends_with("can be no name of a container"));
    }
}

TEST_CASE("the events of containers and networks are asked for, from a moment on") {
    CHECK(http::target_of(ask_for_events(1795289027)) ==
          "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%7D"
          "&since=1795289027");
}

TEST_CASE("a container is known by what the daemon says of it") {
    struct {
        std::string about, state, networks, addresses;
        bool running;
        int pid;
    } rows[] = {
        {"one network", R"({"Running":true,"Pid":7})", one_network("203.0.113.2"), "203.0.113.2 ",
         true, 7},
        {"several networks, sorted, IPv4 first", R"({"Running":true,"Pid":7})",
         R"({"b":{"IPAddress":"203.0.113.9","GlobalIPv6Address":"2001:db8::2"},
             "a":{"IPAddress":"198.51.100.2","GlobalIPv6Address":""},
             "c":{"IPAddress":"203.0.113.10"},"d":{"IPAddress":"203.0.113.9"}})",
         "198.51.100.2 203.0.113.9 203.0.113.10 2001:db8::2 ", true, 7},
        {"IPv6 only", R"({"Running":true,"Pid":7})",
         R"({"a":{"IPAddress":"","GlobalIPv6Address":"2001:db8::2"}})", "2001:db8::2 ", true, 7},
        {"the host's network", R"({"Running":true,"Pid":7})", one_network(""), "", true, 7},
        {"no network at all", R"({"Running":true,"Pid":7})", "{}", "", true, 7},
        {"null for networks", R"({"Running":true,"Pid":7})", "null", "", true, 7},
        {"odd networks", R"({"Running":true,"Pid":7})",
         R"({"a":null,"b":1,"c":{"IPAddress":7},"d":{"IPAddress":"invalid IP"},"e":[]})", "", true,
         7},
        {"paused", R"({"Running":true,"Paused":true,"Restarting":false,"Pid":7})",
         one_network("203.0.113.2"), "203.0.113.2 ", true, 7},
        {"between two tries", R"({"Running":true,"Restarting":true,"Pid":0})",
         one_network("203.0.113.2"), "", false, 0},
        {"stopped, with addresses of before", R"({"Running":false,"Pid":0})",
         one_network("203.0.113.2"), "", false, 0},
        {"a state that says nothing", "{}", one_network("203.0.113.2"), "", false, 0},
        {"odd types", R"({"Running":"true","Pid":"7"})", one_network("203.0.113.2"), "", false, 0},
        {"an odd pid", R"({"Running":true,"Pid":"7"})", one_network("203.0.113.2"), "203.0.113.2 ",
         true, 0},
    };
    for (const auto& row : rows) {
        CAPTURE(row.about);
        auto found =
            read_container("web", answer_of(200, described("web", row.networks, row.state)));
        REQUIRE(found);
        REQUIRE(found->has_value());
        CHECK((*found)->id == id);
        CHECK((*found)->name == "web");
        CHECK((*found)->running == row.running);
        CHECK((*found)->pid == row.pid);
        CHECK(addresses_of(**found) == row.addresses);
    }
}

TEST_CASE("old daemons put the address of the first network at the top") {
    auto found = read_container(
        "web", answer_of(200, R"({"Id":")" + id +
                                  R"(","Name":"/web","State":{"Running":true},)"
                                  R"("NetworkSettings":{"IPAddress":"203.0.113.2"}})"));
    REQUIRE((found && *found));
    CHECK(addresses_of(**found) == "203.0.113.2 ");
}

TEST_CASE("a container is found by its name or by 12 digits of its id, never by fewer") {
    struct {
        std::string asked;
        bool found;
    } rows[] = {
        {"web", true},  // its name
        {id, true},
        {id.substr(0, 12), true},
        {id.substr(0, 11), false},  // a daemon would take it
        {"97da", false},
        {"we", false},
        {"a3f0c1d2e4b5", false},
    };
    for (const auto& [asked, expected] : rows) {
        CAPTURE(asked);
        auto found = read_container(asked, answer_of(200, described("web", "{}")));
        REQUIRE(found);
        CHECK(found->has_value() == expected);
    }
}

TEST_CASE("a container that is not there is told from a daemon that makes no sense") {
    for (const char* body :
         {R"({"message":"No such container: web"})",
          R"({"cause":"no such container","message":"no container with name or ID \"web\" found: )"
          R"(no such container","response":404})"}) {
        auto found = read_container("web", answer_of(404, body));
        REQUIRE(found);
        CHECK_FALSE(found->has_value());
    }
    struct {
        unsigned status;
        std::string body, says;
    } rows[] = {
        {404, R"({"message":"page not found"})", "the Docker API answers 404: page not found"},
        {500, R"({"message":"layer not known"})", "the Docker API answers 500: layer not known"},
        {400, R"({"message":"client version 1.24 is too old"})", "answers 400: client version"},
        {404, "404 page not found\n", "does not speak the Docker API: status 404"},
        {502, "", "does not speak the Docker API: status 502"},
        {204, "", "does not speak the Docker API: status 204"},
        {200, "", "describes no container"},
        {200, "<html>hello</html>", "describes no container"},
        {200, "[]", "describes no container"},
        {200, "{}", "describes no container"},
        {200, "\xff\xfe{}", "describes no container"},
        {200, R"({"Id":7,"Name":"/web","State":{}})", "describes no container"},
        {200, R"({"Id":"a","Name":"/web","State":"running"})", "describes no container"},
        {200, R"({"Id":"a","Name":"/web"})", "describes no container"},
        {200, R"([{"Id":"a","Names":["/web"],"State":"running"}])", "describes no container"},
        {200, std::string(100'000, '['), "describes no container"},
        {200, described("web", "{}").substr(0, 60), "describes no container"},
    };
    for (const auto& [status, body, says] : rows) {
        CAPTURE(status, body.substr(0, 80));
        auto found = read_container("web", answer_of(status, body));
        REQUIRE_FALSE(found);
        CHECK(contains(found.error().text(), says));
    }
}

TEST_CASE("whatever a daemon sends, reading it ends well") {
    std::mt19937 random(1);
    const std::string good = described("web", one_network("203.0.113.2"));
    for (int round = 0; round < 3000; ++round) {
        std::string text = good;
        for (auto changes = 1 + random() % 4; changes > 0; --changes)
            text[random() % text.size()] = static_cast<char>(random() % 256);
        if (random() % 4 == 0) text.resize(random() % text.size());
        (void)read_container("web", answer_of(random() % 2 ? 200 : 404, text));
        (void)read_event(text);
    }
}

TEST_CASE("an event says which container may be another now") {
    const std::string docker_start =
        R"({"status":"start","id":")" + id + R"(","from":"busybox","Type":"container",)" +
        R"("Action":"start","Actor":{"ID":")" + id +
        R"(","Attributes":{"image":"busybox","name":"web"}},"scope":"local","time":1})";
    const std::string docker_connect =
        R"({"Type":"network","Action":"connect","Actor":{"ID":"f00","Attributes":{"container":")" +
        id + R"(","name":"bridge","type":"bridge"}}})";
    const std::string docker_rename =
        R"({"Type":"container","Action":"rename","Actor":{"ID":"0abc","Attributes":)"
        R"({"name":"new","oldName":"/web"}}})";
    const std::string other =
        R"({"Type":"container","Action":"start","Actor":{"ID":"0abc","Attributes":{"name":"db"}}})";

    const Container known{.id = id, .name = "web"};
    struct {
        std::string line, name;
        std::optional<Container> known;
        bool concerned;
    } rows[] = {
        {docker_start, "web", std::nullopt, true},
        {docker_start, "db", std::nullopt, false},
        {docker_start, id, std::nullopt, true},
        {docker_start, id.substr(0, 12), std::nullopt, true},
        {docker_start, id.substr(0, 11), std::nullopt, false},
        {docker_connect, "web", known, true},
        {docker_connect, "web", std::nullopt, false},
        {docker_connect, id, std::nullopt, true},
        {docker_rename, "web", std::nullopt, true},
        {docker_rename, "new", std::nullopt, true},
        {other, "web", known, false},
    };
    for (const auto& row : rows) {
        CAPTURE(row.line, row.name);
        auto event = read_event(row.line);
        REQUIRE(event);
        CHECK(concerns(*event, row.name, row.known) == row.concerned);
    }
    CHECK(read_event(docker_start)->action == "start");
    CHECK(read_event(R"({"status":"die","id":"x"})")->action == "die");
    for (const char* line : {"", "\r", "garbage", "[]", "7", "{}", R"({"Action":7})",
                             R"({"Action":"exec_start: sh"})", R"({"Action":"exec_die"})",
                             R"({"Action":"health_status: healthy"})", R"({"Actor":[]})"}) {
        CAPTURE(line);
        CHECK_FALSE(read_event(line));
    }
}

TEST_CASE("news say what is known, and why it is not more") {
    const Container running{.id = id, .name = "web", .running = true, .pid = 7};
    const Container stopped{.id = id, .name = "web"};
    auto found = news_of("web", std::optional(running), std::nullopt);
    CHECK(found.container == running);
    CHECK_FALSE(found.error);

    auto halted = news_of("web", std::optional(stopped), running);
    CHECK(halted.container == stopped);
    CHECK(halted.error->text() ==
          "error: container \"web\" is not running\n  hint: start it: docker start web");

    auto gone = news_of("web", std::optional<Container>(), running);
    CHECK_FALSE(gone.container);
    CHECK(contains(gone.error->text(), "there is no container \"web\""));

    auto away = news_of("web", fail(cannot_ask("/run/d.sock", "Connection refused")), running);
    CHECK(away.container == running);
    CHECK(contains(away.error->text(), "/run/d.sock: Connection refused"));
}

TEST_CASE("what may not be asked any more is forgotten after five minutes") {
    const Container running{.id = id, .name = "web", .running = true, .pid = 7};
    const auto refusal = may_not_ask("/run/d.sock");
    const Time begun{1h};
    Memory memory("web");
    REQUIRE(memory.note(std::optional(running)));
    CHECK_FALSE(memory.note(std::optional(running)));

    auto refused = memory.note_refusal(refusal, begun);
    REQUIRE(refused);
    CHECK(refused->container == running);
    CHECK(contains(refused->error->what, "/run/d.sock: Permission denied"));
    CHECK(contains(refused->error->what, "set its `group`"));
    CHECK_FALSE(memory.note_refusal(refusal, begun + 2s));
    CHECK_FALSE(memory.note_refusal(refusal, begun + 4min + 59s));
    CHECK(memory.known() == running);

    auto forgotten = memory.note_refusal(refusal, begun + 5min);
    REQUIRE(forgotten);
    CHECK_FALSE(forgotten->container);
    CHECK(contains(forgotten->error->what, "Permission denied"));
    CHECK(contains(forgotten->error->what, "for 5m, so what was known of it is forgotten"));
    CHECK_FALSE(memory.note_refusal(refusal, begun + 6min));
    CHECK_FALSE(memory.note_refusal(refusal, begun + 10h));

    auto found = memory.note(std::optional(running));
    REQUIRE(found);
    CHECK(found->container == running);
    CHECK_FALSE(found->error);
    // The five minutes begin anew.
    CHECK(memory.note_refusal(refusal, begun + 11h)->container == running);

    Memory unknown("db");
    REQUIRE(unknown.note_refusal(refusal, begun));
    CHECK_FALSE(unknown.note_refusal(refusal, begun + 1h));
}

TEST_CASE("a daemon that is away makes nobody forget, however long that lasts") {
    const Container running{.id = id, .name = "web", .running = true, .pid = 7};
    const auto away = fail(cannot_ask("/run/d.sock", "Connection refused"));
    const auto refusal = may_not_ask("/run/d.sock");
    const Time begun{1h};
    Memory memory("web");
    REQUIRE(memory.note(std::optional(running)));
    REQUIRE(memory.note(away));
    for (int i = 0; i < 1000; ++i) CHECK_FALSE(memory.note(away));
    CHECK(memory.known() == running);
    // When it comes back, its socket may be root's alone for a moment.
    REQUIRE(memory.note_refusal(refusal, begun));
    CHECK(memory.known() == running);
    // Being away between two refusals confirms nothing.
    REQUIRE(memory.note(away));
    CHECK_FALSE(memory.note_refusal(refusal, begun + 5min)->container);
}

TEST_CASE("a runtime that cannot be asked is refused with a way out") {
    CHECK(check_runtime("docker"));
    CHECK(check_runtime("podman"));
    CHECK(contains(check_runtime("containerd").error().text(), "containerd is not supported yet"));
    CHECK(contains(check_runtime("containerd").error().text(), "cidr"));
    CHECK(contains(check_runtime("cri-o").error().text(), "not supported yet"));
    CHECK(contains(check_runtime("dokcer").error().text(), "no container runtime"));
}

TEST_CASE("the socket is the one that is named, in DOCKER_HOST or at hand") {
    {
        DockerHost none(nullptr);
        CHECK(socket_of("unix:///x/y.sock").value() == "/x/y.sock");
        CHECK(socket_of("/x/y.sock").value() == "/x/y.sock");
    }
    DockerHost set("unix:///from/environment.sock");
    CHECK(socket_of("").value() == "/from/environment.sock");
    CHECK(socket_of("/x/y.sock").value() == "/x/y.sock");
    for (const char* host : {"tcp://127.0.0.1:2375", "ssh://root@web", "npipe:////./pipe/docker"}) {
        CAPTURE(host);
        auto socket = socket_of(host);
        REQUIRE_FALSE(socket);
        CHECK(contains(socket.error().text(), std::string(host) + " is not supported"));
        CHECK(contains(socket.error().text(), "unix:///PATH"));
    }
    CHECK(contains(socket_of("docker.sock").error().text(), "names no socket"));
    CHECK(contains(socket_of("unix://").error().text(), "names no socket"));
}

// ---- a daemon that does what a test wants

namespace {

class FakeDocker {
  public:
    /// Speaks on a connection, after a question has come. False: this closes it.
    using Manner = std::function<void(int socket, const std::string& target)>;

    explicit FakeDocker(const std::string& path) : path_(path) { start(); }
    ~FakeDocker() { stop(); }

    void start() {
        listener_ = Fd::adopt(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un where{.sun_family = AF_UNIX, .sun_path = {}};
        path_.copy(where.sun_path, sizeof where.sun_path - 1);
        REQUIRE(bind(listener_.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);
        REQUIRE(listen(listener_.get(), 64) == 0);
        is_open_ = true;
        std::lock_guard lock(lock_);
        threads_.emplace_back([this] { accept_all(); });
    }

    /// As a daemon that goes: its socket, and every connection.
    void stop() {
        if (!is_open_.exchange(false)) return;
        unlink(path_.c_str());
        shutdown(listener_.get(), SHUT_RDWR);
        hang_up();
        // Twice: while the first are waited for, the last one to be accepted gets its thread.
        for (int round = 0; round < 2; ++round) {
            std::vector<std::thread> threads;
            {
                std::lock_guard lock(lock_);
                threads.swap(threads_);
            }
            for (auto& thread : threads) thread.join();
        }
        listener_.close();
    }

    /// Ends every connection, but takes new ones.
    void hang_up() {
        std::lock_guard lock(lock_);
        for (int socket : sockets_) shutdown(socket, SHUT_RDWR);
    }

    void set(const std::string& name, unsigned status, const std::string& body) {
        std::lock_guard lock(lock_);
        answers_[name] = {status, body};
    }
    void set(const std::string& name, const std::string& ip) {
        set(name, 200, described(name, one_network(ip)));
    }
    void set_manner(Manner manner) {
        std::lock_guard lock(lock_);
        manner_ = std::move(manner);
    }

    /// To everybody who listens to events. Who does not read them makes nobody wait but this.
    void tell(const std::string& line) {
        std::vector<Fd> listening;
        {
            std::lock_guard lock(lock_);
            for (int socket : listening_)
                listening.push_back(Fd::adopt(fcntl(socket, F_DUPFD_CLOEXEC, 0)));
        }
        for (const auto& socket : listening)
            say(socket.get(), format("{:x}\r\n{}\r\n", line.size(), line));
    }
    void tell_of(const std::string& name, const std::string& action = "start") {
        tell(format(R"({{"Action":"{}","Actor":{{"ID":"{}","Attributes":{{"name":"{}"}}}}}})",
                    action, id, name) +
             "\n");
    }

    size_t listening() const {
        std::lock_guard lock(lock_);
        return listening_.size();
    }
    int asked() const { return asked_; }
    int streams() const { return streams_; }

    static void say(int socket, const std::string& text) {
        (void)send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    }

  private:
    void accept_all() {
        for (;;) {
            const int socket = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
            if (socket < 0) return;
            std::lock_guard lock(lock_);
            sockets_.push_back(socket);
            if (!is_open_) shutdown(socket, SHUT_RDWR);
            threads_.emplace_back([this, socket] { serve(socket); });
        }
    }

    void serve(int socket) {
        std::string request;
        char piece[4096];
        while (request.find("\r\n\r\n") == request.npos) {
            const auto count = recv(socket, piece, sizeof piece, 0);
            if (count <= 0) break;
            request.append(piece, static_cast<size_t>(count));
        }
        const auto begin = request.find(' ') + 1;
        const auto target = request.substr(begin, request.find(' ', begin) - begin);
        Manner manner;
        {
            std::lock_guard lock(lock_);
            manner = manner_;
        }
        if (!request.empty()) manner ? manner(socket, target) : answer(socket, target);
        std::lock_guard lock(lock_);
        std::erase(sockets_, socket);
        std::erase(listening_, socket);
        close(socket);
    }

  public:
    /// The manner of good daemons.
    void answer(int socket, const std::string& target) {
        if (target.starts_with("/events")) {
            ++streams_;
            {
                std::lock_guard lock(lock_);
                say(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                listening_.push_back(socket);
            }
            stare(socket);
            return;
        }
        ++asked_;
        const auto name = target.substr(12, target.size() - 12 - 5);
        std::pair<unsigned, std::string> found{404, R"({"message":"No such container"})"};
        {
            std::lock_guard lock(lock_);
            if (auto known = answers_.find(name); known != answers_.end()) found = known->second;
        }
        say(socket, format("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n{}", found.first,
                           found.second.size(), found.second));
    }

    /// Until the client goes.
    static void stare(int socket) {
        char byte;
        while (recv(socket, &byte, 1, 0) > 0) {
        }
    }

  private:
    std::string path_;
    mutable std::mutex lock_;
    Fd listener_;
    std::atomic<bool> is_open_ = false;
    std::vector<int> sockets_, listening_;
    std::vector<std::thread> threads_;
    std::map<std::string, std::pair<unsigned, std::string>> answers_;
    Manner manner_;
    std::atomic<int> asked_ = 0, streams_ = 0;
};

/// All news so far, from whatever thread.
struct Diary {
    void write(std::vector<News> news) {
        std::lock_guard guard(lock);
        ++calls;
        for (auto& entry : news) entries.push_back(std::move(entry));
    }
    size_t size() const {
        std::lock_guard guard(lock);
        return entries.size();
    }
    /// The addresses, or the error, of the last entry about `name`.
    std::string last(const std::string& name) const {
        std::lock_guard guard(lock);
        for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry)
            if (entry->name == name) {
                std::string text = entry->container ? addresses_of(*entry->container) : "none ";
                return text + (entry->error ? "! " + entry->error->what : "");
            }
        return "nothing";
    }
    bool says(const std::string& name, const std::string& what) const {
        return last(name).find(what) != std::string::npos;
    }

    mutable std::mutex lock;
    std::vector<News> entries;
    int calls = 0;
};

struct Stage {
    Follower follower(std::vector<std::string> names) {
        return Follower(std::move(names), path,
                        [this](std::vector<News> news) { diary.write(std::move(news)); });
    }
    test::TempDir directory;
    const std::string path = directory / "docker.sock";
    Diary diary;
};

std::chrono::milliseconds since(test::Moment begun) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(test::now() - begun);
}

}  // namespace

// ---- one question

TEST_CASE("one question finds a container, stopped or running") {
    Stage stage;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    docker.set("db", 200, described("db", "{}", R"({"Running":false})"));
    auto web = find("web", "unix://" + stage.path);
    REQUIRE(web);
    CHECK(addresses_of(*web) == "203.0.113.2 ");
    CHECK(web->pid == 14474);
    auto db = find("db", stage.path);
    REQUIRE(db);
    CHECK_FALSE(db->running);

    auto trouble = find("nope", stage.path);
    REQUIRE_FALSE(trouble);
    CHECK(contains(trouble.error().text(), "there is no container \"nope\""));
    CHECK(contains(trouble.error().text(), "docker ps -a"));
    CHECK_FALSE(find("a/b", stage.path));
    CHECK(contains(without_addresses(*db).text(), "\"db\" has no address of its own"));
}

TEST_CASE("a daemon that is not there is named, with a way out") {
    Stage stage;
    auto trouble = find("web", stage.path);
    REQUIRE_FALSE(trouble);
    CHECK(contains(trouble.error().text(), stage.path + ": No such file"));
    CHECK(contains(trouble.error().text(), "DOCKER_HOST=unix:///PATH"));
    {
        FakeDocker docker(stage.path);
        // Its socket stays, as after a kill -9.
        std::filesystem::rename(stage.path, stage.path + ".old");
    }
    std::filesystem::rename(stage.path + ".old", stage.path);
    CHECK(contains(find("web", stage.path).error().text(), "Connection refused"));
    CHECK(
        contains(find("web", stage.directory / std::string(200, 'x')).error().text(), "too long"));
}

TEST_CASE("an answer may come slowly, in chunks, or until the end of the connection") {
    Stage stage;
    FakeDocker docker(stage.path);
    const auto body = described("web", one_network("203.0.113.2"));
    struct {
        std::string about, head, tail;
    } rows[] = {
        {"with its length", format("Content-Length: {}\r\n\r\n", body.size()) + body, ""},
        {"to the end", "\r\n" + body, ""},
        {"in one chunk", "Transfer-Encoding: chunked\r\n\r\n" + format("{:x}\r\n", body.size()),
         body + "\r\n0\r\n\r\n"},
        {"in two chunks",
         "Transfer-Encoding: chunked\r\n\r\n5;x=y\r\n" + body.substr(0, 5) +
             format("\r\n{:X}\r\n", body.size() - 5),
         body.substr(5) + "\r\n0\r\nTrailer: x\r\n\r\n"},
    };
    for (const auto& row : rows)
        for (bool slowly : {false, true}) {
            CAPTURE(row.about, slowly);
            const auto answer = "HTTP/1.1 200 OK\r\nServer: x\r\n" + row.head + row.tail;
            docker.set_manner([text = answer, slowly](int socket, const std::string&) {
                if (!slowly) return FakeDocker::say(socket, text);
                for (char c : text) {
                    FakeDocker::say(socket, std::string(1, c));
                    std::this_thread::sleep_for(std::chrono::microseconds(200));
                }
            });
            auto web = find("web", stage.path);
            REQUIRE(web);
            CHECK(addresses_of(*web) == "203.0.113.2 ");
        }
}

TEST_CASE("an answer that is none is an error, whatever is wrong with it") {
    Stage stage;
    FakeDocker docker(stage.path);
    const std::string ok = "HTTP/1.1 200 OK\r\n";
    struct {
        std::string text, says;
    } rows[] = {
        {"", "closed before the answer was complete"},
        {"HTTP/1.1 200 O", "closed before"},
        {ok + "Content-Length: 100\r\n\r\nabc", "closed before"},
        {ok + "Transfer-Encoding: chunked\r\n\r\nff\r\nabc", "closed before"},
        {std::string("\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0", 15),
         "not HTTP"},  // HTTP/2, as containerd's
        {"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"},
        {ok + "Content-Length: minus one\r\n\r\n", "not HTTP"},
        {ok + "Content-Length: 9999999999999999\r\n\r\n", "not HTTP"},
        {ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"},
        {ok + std::string(100'000, 'x') + "\r\n\r\n", "not HTTP"},
        {ok + "\r\nhello", "does not speak the Docker API"},
        {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "does not speak the Docker API"},
    };
    for (const auto& [text, says] : rows) {
        CAPTURE(text.substr(0, 80));
        docker.set_manner(
            [said = text](int socket, const std::string&) { FakeDocker::say(socket, said); });
        auto trouble = find("web", stage.path);
        REQUIRE_FALSE(trouble);
        CHECK(contains(trouble.error().text(), says));
    }
}

TEST_CASE("an answer without end is left when it is too long, and one that never begins in time") {
    Stage stage;
    FakeDocker docker(stage.path);
    docker.set_manner([](int socket, const std::string&) {
        FakeDocker::say(socket, "HTTP/1.1 200 OK\r\n\r\n");
        const std::string much(1 << 20, 'x');
        while (send(socket, much.data(), much.size(), MSG_NOSIGNAL) > 0) {
        }
    });
    CHECK(contains(find("web", stage.path).error().text(), "has no end"));

    docker.set_manner([](int socket, const std::string&) { FakeDocker::stare(socket); });
    const auto begun = test::now();
    CHECK(contains(find("web", stage.path, 100ms).error().text(), "no answer within 100ms"));
    CHECK(since(begun) >= 100ms);
}

// ---- following

TEST_CASE("a follower tells how all are at the start, and then only what is new") {
    Stage stage;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    docker.set("db", 200, described("db", "{}", R"({"Running":false})"));
    auto follower = stage.follower({"web", "db", "nope", "not/a/name"});
    REQUIRE(eventually([&] { return stage.diary.size() == 4; }));
    CHECK(stage.diary.calls == 1);
    CHECK(stage.diary.last("web") == "203.0.113.2 ");
    CHECK(stage.diary.last("db") == "! container \"db\" is not running");
    CHECK(stage.diary.last("nope") == "none ! there is no container \"nope\"");
    CHECK(stage.diary.says("not/a/name", "can be no name"));
    REQUIRE(eventually([&] { return docker.listening() == 1; }));

    docker.set("web", "203.0.113.77");  // another address
    docker.tell_of("web", "connect");
    REQUIRE(eventually([&] { return stage.diary.last("web") == "203.0.113.77 "; }));
    docker.set("db", "203.0.113.3");  // starts
    docker.tell_of("db");
    REQUIRE(eventually([&] { return stage.diary.last("db") == "203.0.113.3 "; }));
    docker.set("nope", "203.0.113.4");  // comes to be
    docker.tell_of("nope", "create");
    REQUIRE(eventually([&] { return stage.diary.last("nope") == "203.0.113.4 "; }));
    docker.set("web", 404, R"({"message":"No such container: web"})");  // goes
    docker.tell_of("web", "destroy");
    REQUIRE(eventually([&] { return stage.diary.says("web", "none ! there is no"); }));
    CHECK(stage.diary.size() == 8);
    CHECK(docker.streams() == 1);
}

TEST_CASE("events that change nothing make no news, and events of others no questions") {
    Stage stage;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    auto follower = stage.follower({"web"});
    REQUIRE(eventually([&] { return stage.diary.size() == 1 && docker.listening() == 1; }));
    REQUIRE(docker.asked() == 1);
    for (int i = 0; i < 100; ++i) {
        docker.tell(R"({"Action":"start","Actor":{"ID":"0abc","Attributes":{"name":"db"}}})"
                    "\n");
        docker.tell("garbage\n\n");
        docker.tell_of("web", "exec_start: healthy?");
    }
    // In pieces, and several in one.
    docker.tell(R"({"Action":"start","Actor":{"Attributes":)");
    docker.tell(R"({"name":"web"}}})"
                "\n{}\n");
    REQUIRE(eventually([&] { return docker.asked() == 2; }));
    REQUIRE(eventually([&] { return docker.asked() == 3; }));  // once more, a second later
    CHECK(stage.diary.size() == 1);
}

TEST_CASE("a storm of events becomes a few questions") {
    Stage stage;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    auto follower = stage.follower({"web"});
    REQUIRE(eventually([&] { return stage.diary.size() == 1 && docker.listening() == 1; }));
    const auto begun = test::now();
    for (int i = 0; i < 5000; ++i) docker.tell_of("web", i % 2 ? "start" : "die");
    docker.set("web", "203.0.113.3");
    docker.tell_of("web");
    REQUIRE(eventually([&] { return stage.diary.last("web") == "203.0.113.3 "; }));
    CHECK(docker.asked() <= 3 + since(begun) / 100ms);
}

TEST_CASE("when events stop coming, everything is asked again") {
    Stage stage;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    docker.set("db", "203.0.113.3");
    auto follower = stage.follower({"web", "db"});
    REQUIRE(eventually([&] { return stage.diary.size() == 2 && docker.listening() == 1; }));
    docker.set("web", "203.0.113.20");  // and nobody says so
    docker.hang_up();
    REQUIRE(eventually([&] { return stage.diary.last("web") == "203.0.113.20 "; }));
    CHECK(eventually([&] { return docker.listening() == 1; }));
    CHECK(stage.diary.size() == 3);  // that the stream broke is no news
}

TEST_CASE("a daemon that goes is news once, what was known stays, and it is found again") {
    Stage stage;
    std::optional<FakeDocker> docker(std::in_place, stage.path);
    docker->set("web", "203.0.113.2");
    auto follower = stage.follower({"web", "db"});
    REQUIRE(eventually([&] { return stage.diary.size() == 2; }));
    docker->stop();
    REQUIRE(eventually([&] { return stage.diary.says("web", "! cannot ask the Docker API"); }));
    CHECK(stage.diary.says("web", "203.0.113.2 "));
    CHECK(stage.diary.says("db", "none ! cannot ask"));
    CHECK(stage.diary.says("db", "No such file or directory"));
    const auto told = stage.diary.size();
    auto computed = [] {
        timespec used{};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
    };
    const auto before = computed();
    std::this_thread::sleep_for(1s);
    CHECK(stage.diary.size() == told);
    // A thread that looks all the time would have taken what it gets.
    CHECK(computed() - before < 150ms);

    docker->set("web", "203.0.113.9");
    docker->start();
    REQUIRE(eventually([&] { return stage.diary.last("web") == "203.0.113.9 "; }));
    CHECK(eventually(
        [&] { return stage.diary.last("db") == "none ! there is no container \"db\""; }));
}

TEST_CASE("a daemon that hangs up at once is asked again after pauses that grow") {
    Stage stage;
    std::atomic<int> asked = 0;
    FakeDocker docker(stage.path);
    docker.set_manner([&](int, const std::string&) { ++asked; });
    const auto begun = test::now();
    auto follower = stage.follower({"web"});
    REQUIRE(eventually([&] { return stage.diary.says("web", "! cannot ask the Docker API"); }));
    std::this_thread::sleep_for(1s);
    // For events and for the container each time; the shortest pause is 200 ms.
    CHECK(asked <= 2 + 2 * (since(begun) / 200ms));
}

TEST_CASE("a daemon that may not be asked any more is news once, with a way out") {
    if (geteuid() != 0) SKIP_TEST("needs root, to become another user");
    Stage stage;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    std::filesystem::permissions(stage.directory.path(), std::filesystem::perms::all);
    std::filesystem::permissions(stage.path, std::filesystem::perms::all);
    std::optional<Follower> follower;
    std::thread([&] {
        // For this thread, and those that it starts.
        constexpr int nobody = 65534;
        if (syscall(SYS_setresuid, nobody, nobody, nobody) == 0)
            follower.emplace(std::vector<std::string>{"web"}, stage.path,
                             [&](std::vector<News> news) { stage.diary.write(std::move(news)); });
    }).join();
    prctl(PR_SET_DUMPABLE, 1);  // else a leak checker may not look
    REQUIRE(follower);
    REQUIRE(eventually([&] { return stage.diary.last("web") == "203.0.113.2 "; }));
    std::filesystem::permissions(stage.path, std::filesystem::perms::owner_all);
    docker.hang_up();
    REQUIRE(eventually([&] { return stage.diary.says("web", "Permission denied"); }));
    CHECK(stage.diary.says("web", "203.0.113.2 ! cannot ask"));
    CHECK(stage.diary.says("web", "set its `group` to the group of that socket"));
    std::this_thread::sleep_for(1s);
    CHECK(stage.diary.size() == 2);
    std::filesystem::permissions(stage.path, std::filesystem::perms::all);
    CHECK(eventually([&] { return stage.diary.last("web") == "203.0.113.2 "; }));
}

TEST_CASE("a daemon may come later than the follower") {
    Stage stage;
    auto follower = stage.follower({"web"});
    REQUIRE(eventually([&] { return stage.diary.says("web", "No such file or directory"); }));
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    CHECK(eventually([&] { return stage.diary.last("web") == "203.0.113.2 "; }));
}

TEST_CASE("one container that the daemon stumbles over does not hide the others") {
    Stage stage;
    FakeDocker docker(stage.path);
    docker.set("web", 500, R"({"message":"layer not known"})");
    docker.set("db", "203.0.113.3");
    auto follower = stage.follower({"web", "db"});
    REQUIRE(eventually([&] { return stage.diary.size() == 2; }));
    CHECK(stage.diary.says("web", "answers 500: layer not known"));
    CHECK(stage.diary.last("db") == "203.0.113.3 ");
}

TEST_CASE("a daemon without events is asked all the same") {
    Stage stage;
    std::atomic<int> refused = 0;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    docker.set_manner([&](int socket, const std::string& target) {
        if (!target.starts_with("/events")) return docker.answer(socket, target);
        ++refused;
        FakeDocker::say(
            socket, "HTTP/1.1 500 X\r\nContent-Length: 24\r\n\r\n{\"message\":\"no backend\"}\n");
    });
    auto follower = stage.follower({"web"});
    REQUIRE(eventually([&] { return stage.diary.last("web") == "203.0.113.2 "; }));
    std::this_thread::sleep_for(500ms);
    CHECK(refused == 1);
    CHECK(docker.asked() == 1);
}

TEST_CASE("a follower ends at once, whatever the daemon does") {
    Stage stage;
    std::atomic<int> asked = 0;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    const FakeDocker::Manner stare = [&](int socket, const std::string&) {
        ++asked;
        FakeDocker::stare(socket);
    };
    const FakeDocker::Manner pour = [&](int socket, const std::string&) {
        ++asked;
        FakeDocker::say(socket, "HTTP/1.1 200 OK\r\n\r\n");
        const std::string much(1 << 16, 'x');
        while (send(socket, much.data(), much.size(), MSG_NOSIGNAL) > 0) {
        }
    };
    const FakeDocker::Manner good = [&](int socket, const std::string& target) {
        ++asked;
        docker.answer(socket, target);
    };
    for (const auto& manner : {stare, pour, good}) {
        docker.set_manner(manner);
        asked = 0;
        std::optional<Follower> follower(std::in_place, std::vector<std::string>{"web"}, stage.path,
                                         [](const std::vector<News>&) {});
        REQUIRE(eventually([&] { return asked >= 2; }));
        const auto begun = test::now();
        follower.reset();
        CHECK(since(begun) < 2s);  // a question's patience is 10 s
    }
    docker.stop();
    const auto begun = test::now();
    stage.follower({"web"});  // ended before it has begun, and while it waits
    {
        auto follower = stage.follower({"web"});
        REQUIRE(eventually([&] { return stage.diary.size() > 0; }));
    }
    CHECK(since(begun) < 10s);
}

TEST_CASE("garbage in the place of events ends the stream, and nothing else") {
    Stage stage;
    std::atomic<int> streams = 0;
    FakeDocker docker(stage.path);
    docker.set("web", "203.0.113.2");
    docker.set_manner([&](int socket, const std::string& target) {
        if (!target.starts_with("/events") || ++streams > 2) return docker.answer(socket, target);
        FakeDocker::say(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        if (streams == 1) {
            FakeDocker::say(socket, "what is this?\r\n");
        } else {
            // A line without end.
            const std::string much = "100000\r\n" + std::string(1 << 20, 'x') + "\r\n";
            for (size_t at = 0; at < 4 * much.size();) {
                const auto from = at % much.size();
                const auto count =
                    send(socket, much.data() + from, much.size() - from, MSG_NOSIGNAL);
                if (count <= 0) break;
                at += static_cast<size_t>(count);
            }
        }
        FakeDocker::stare(socket);
    });
    auto follower = stage.follower({"web"});
    REQUIRE(eventually([&] { return docker.listening() == 1; }));  // the third time is good
    docker.set("web", "203.0.113.3");
    docker.tell_of("web");
    CHECK(eventually([&] { return stage.diary.last("web") == "203.0.113.3 "; }));
    CHECK(stage.diary.size() == 2);
}
