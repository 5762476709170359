// SPDX-License-Identifier: Apache-2.0
// `proxify top` as a person uses it: in a terminal, with keys, beside a proxify with targets and
// sessions.
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <csignal>

#include "support/kernel_test.h"
#include "support/terminal.h"

using namespace proxify::test;

namespace {

constexpr auto two_services = R"(
[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:9001", "127.0.0.1:9002"]

[[service]]
name    = "mail"
ports   = [5002]
targets = ["127.0.0.1:9003"]
)";

constexpr auto enter = "\r", escape = "\x1b", arrow_down = "\x1bOB";

/// A proxify with three targets and two sessions of "web".
struct Running {
    explicit Running(const Namespace& where)
        : blue(where, "127.0.0.1:9001", echo()),
          green(where, "127.0.0.1:9002", echo()),
          post(where, "127.0.0.1:9003", echo()),
          proxify(Proxify::start(where, {.config = two_services, .flags = {"-b"}})) {
        for (auto* client : {&first, &second}) {
            *client = Stream::dial(where, "127.0.0.1:5001");
            (*client)->send("hello");
            (*client)->receive_exactly(5);
        }
    }
    std::vector<std::string> top(std::vector<std::string> more = {}) const {
        std::vector<std::string> out{proxify_binary(), "top", "--socket", proxify.socket()};
        out.insert(out.end(), more.begin(), more.end());
        return out;
    }
    /// What `proxify targets --json` says of one.
    std::string state_of(const std::string& target) const {
        const auto said = proxify.ask({"targets", "--json"}).out;
        const auto at = said.find("\"" + target + "\"");
        const auto from = at == std::string::npos ? at : said.find("\"state\":\"", at);
        if (from == std::string::npos) return "nowhere";
        return said.substr(from + 9, said.find('"', from + 9) - from - 9);
    }

    Server blue, green, post;
    Proxify proxify;
    std::optional<Stream> first, second;
};

}  // namespace

TEST_CASE("top shows services, and goes down to targets and sessions and back") {
    IN_NAMESPACE(ns);
    Running running(ns);
    Terminal top(running.top(), 80, 24);
    REQUIRE(top.shows("2 sessions  "));
    CHECK(top.lines()[0].starts_with("proxify "));
    CHECK(top.lines()[1] == "services (2)");
    CHECK(top.lines()[2].starts_with("SERVICE"));
    CHECK(top.lines()[3].starts_with("web "));
    CHECK(top.lines()[4].starts_with("mail "));
    CHECK(top.lines()[23].ends_with("q end"));
    REQUIRE(top.reversed().size() == 2);  // the head, and what is selected
    CHECK(top.reversed()[1].starts_with("web "));

    CHECK(top.shows(" new/s  "));  // there are rates once there have been two answers

    top.type(arrow_down);
    CHECK(eventually([&] { return top.reversed()[1].starts_with("mail "); }));
    top.type("k");
    CHECK(eventually([&] { return top.reversed()[1].starts_with("web "); }));
    top.type(enter);
    CHECK(top.shows("targets of web (2)"));
    CHECK(top.shows("\n127.0.0.1:9001 "));
    CHECK(top.shows("\n127.0.0.1:9002 "));
    top.type(enter);
    CHECK(top.shows("sessions of web with 127.0.0.1:900"));
    CHECK(top.shows(" (1)"));
    CHECK(top.shows(running.first->local().text()));
    top.type("q");
    CHECK(top.shows("targets of web (2)"));
    top.type("\t");
    CHECK(top.shows("sessions of web (2)"));
    CHECK(top.shows(running.second->local().text()));
    top.type(escape);
    CHECK(top.shows("targets of web (2)"));
    top.type("qq");
    CHECK(top.wait(5s) == 0);
    CHECK(top.is_restored());
}

TEST_CASE("a filter shows what has its words, and Esc clears it") {
    IN_NAMESPACE(ns);
    Running running(ns);
    Terminal top(running.top(), 80, 24);
    REQUIRE(top.shows("\nmail "));
    top.type("/MA");
    CHECK(top.shows("filter: MA_"));
    CHECK(top.shows_no("\nweb "));
    top.type(enter);
    CHECK(top.shows("services (1 of 2)"));
    top.type(escape);
    CHECK(top.shows("services (2)"));
    CHECK(top.shows("\nweb "));
}

TEST_CASE("d drains the selected target after y, and after nothing else") {
    IN_NAMESPACE(ns);
    Running running(ns);
    Terminal top(running.top(), 80, 24);
    REQUIRE(top.shows("\nweb "));
    top.type(enter);
    REQUIRE(top.shows("\n127.0.0.1:9002 "));
    top.type("/9002\r");
    REQUIRE(top.shows("targets of web (1 of 2)"));

    for (const char* no : {"n", enter, escape, "d"}) {
        top.type("d");
        REQUIRE(top.shows("drain 127.0.0.1:9002 of web? it has 1 session  [y/N]"));
        top.type(no);
        REQUIRE(top.shows("nothing is changed"));
        CHECK(running.state_of("127.0.0.1:9002") == "up");
        top.type("j");
        REQUIRE(top.shows_no("nothing is changed"));
    }
    top.type("dy");
    REQUIRE(top.shows("127.0.0.1:9002 of service web gets no new sessions"));
    CHECK(running.state_of("127.0.0.1:9002") == "drained");
    CHECK(running.state_of("127.0.0.1:9001") == "up");
    CHECK(eventually([&] { return top.reversed().back().contains(" drained "); }));
    running.second->send("still here");
    CHECK(running.second->receive_exactly(10) == "still here");

    top.type("u");
    REQUIRE(top.shows("give 127.0.0.1:9002 of web new sessions again?"));
    top.type("y");
    REQUIRE(top.shows("gets new sessions again"));
    CHECK(running.state_of("127.0.0.1:9002") == "up");
}

TEST_CASE("K ends the selected session after y") {
    IN_NAMESPACE(ns);
    Running running(ns);
    Terminal top(running.top(), 80, 24);
    REQUIRE(top.shows("\nweb "));
    top.type("\t");
    REQUIRE(top.shows("sessions of web (2)"));
    top.type("K");
    REQUIRE(top.shows("end session 1 of " + running.first->local().text() + "?  [y/N]"));
    top.type("y");
    REQUIRE(top.shows("session 1 is ended"));
    CHECK(running.first->receive_all().end == End::reset);
    CHECK(top.shows("sessions of web (1)"));
    running.second->send("still here");
    CHECK(running.second->receive_exactly(10) == "still here");
}

TEST_CASE("the screen follows the size of its terminal") {
    IN_NAMESPACE(ns);
    Running running(ns);
    Terminal top(running.top(), 80, 24);
    REQUIRE(top.shows("\nmail "));
    for (auto [columns, rows] : {std::pair{132, 40}, {40, 10}, {10, 3}, {1, 1}, {80, 24}}) {
        top.resize(columns, rows);
        INFO(columns << "x" << rows);
        if (columns >= 40)
            CHECK(eventually([&] {
                const auto lines = top.lines();
                return lines.back().ends_with("q end") && lines[2].starts_with("SERVICE") &&
                       lines[4].starts_with("mail ");
            }));
    }
    CHECK(top.shows(" 2 sessions "));
}

TEST_CASE("when proxify goes away top says so, and finds the one that comes after") {
    IN_NAMESPACE(ns);
    Running running(ns);
    Terminal top(running.top({"--watch=100ms"}), 80, 24);
    REQUIRE(top.shows("\nmail "));
    const auto socket = running.proxify.socket();
    running.proxify.process().signal(SIGKILL);
    REQUIRE(running.proxify.process().wait(5s));
    CHECK(top.shows("no answer for "));
    CHECK(top.shows("trying again: "));
    CHECK(top.shows("\nmail "));
    top.type("j");  // keys work as before
    CHECK(eventually([&] { return top.reversed()[1].starts_with("mail "); }));

    auto next = Proxify::start(ns, {.config = two_services, .flags = {"-b", "--socket", socket}});
    CHECK(top.shows_no("no answer for "));
    CHECK(top.shows("0 sessions"));
    top.type("q");
    CHECK(top.wait(5s) == 0);
    CHECK(top.is_restored());
}

TEST_CASE("a proxify that stands still does not make top stand still") {
    IN_NAMESPACE(ns);
    Running running(ns);
    Terminal top(running.top({"--watch=100ms"}), 80, 24);
    REQUIRE(top.shows("\nmail "));
    running.proxify.process().signal(SIGSTOP);
    CHECK(top.shows(" old"));
    top.type("j");
    CHECK(eventually([&] { return top.reversed()[1].starts_with("mail "); }, 1s));
    CHECK(top.shows("no answer for "));
    running.proxify.process().signal(SIGCONT);
    CHECK(top.shows_no("no answer for "));
}

TEST_CASE("a signal ends top, and the terminal is as it was") {
    IN_NAMESPACE(ns);
    Running running(ns);
    for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) {
        Terminal top(running.top(), 80, 24);
        REQUIRE(top.shows("\nmail "));
        CHECK_FALSE(top.is_restored());
        top.signal(signal);
        CHECK(top.wait(5s) == 128 + signal);
        CHECK(top.is_restored());
    }
    Terminal top(running.top(), 80, 24);
    REQUIRE(top.shows("\nmail "));
    top.type("\x03");
    CHECK(top.wait(5s) == 128 + SIGINT);
    CHECK(top.is_restored());
}

TEST_CASE("what top cannot work with it says, with a way out") {
    IN_NAMESPACE(ns);
    Running running(ns);
    SECTION("no terminal") {
        auto finished = run({.argv = running.top()});
        CHECK(finished.exit_code == 1);
        CHECK(finished.out.empty());
        CHECK(find_line(finished.err, {"needs a terminal"}));
        CHECK(find_line(finished.err, {"hint:", "proxify services --watch"}));
    }
    SECTION("a terminal that nobody knows") {
        Terminal top(running.top(), 80, 24, {"TERM=no-such-terminal"});
        CHECK(top.wait(5s) == 1);
        CHECK(top.printed().contains("\"no-such-terminal\""));
        CHECK(top.printed().contains("hint: set TERM"));
        CHECK(top.is_restored());
    }
    SECTION("a socket whose line is full, and nobody lets in") {
        TempDir directory;
        sockaddr_un at{};
        at.sun_family = AF_UNIX;
        directory.path().string().append("/full").copy(at.sun_path, sizeof at.sun_path - 1);
        auto listener = proxify::Fd::adopt(socket(AF_UNIX, SOCK_STREAM, 0));
        const auto* address = reinterpret_cast<const sockaddr*>(&at);
        REQUIRE(bind(listener.get(), address, sizeof at) == 0);
        REQUIRE(listen(listener.get(), 0) == 0);
        std::vector<proxify::Fd> line;
        do line.push_back(proxify::Fd::adopt(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)));
        while (connect(line.back().get(), address, sizeof at) == 0);
        REQUIRE(errno == EAGAIN);
        Terminal top({proxify_binary(), "top", "--socket", at.sun_path}, 80, 24);
        CHECK(top.wait(15s) == 1);
        CHECK(top.printed().contains("does not answer within 3s"));
    }
    SECTION("no proxify") {
        Terminal top({proxify_binary(), "top", "--socket", "/nonexistent/admin.sock"}, 80, 24);
        CHECK(top.wait(5s) == 1);
        CHECK(top.printed().contains("/nonexistent/admin.sock"));
        CHECK(top.printed().contains("hint: is proxify running?"));
        CHECK(top.is_restored());
    }
}
