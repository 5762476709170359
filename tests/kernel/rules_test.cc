// SPDX-License-Identifier: Apache-2.0
// `proxify redirect rules`: what it writes, what it leaves alone, and what it says where it cannot.
#include <linux/capability.h>

#include <regex>

#include "road.h"

using namespace proxify::test;

namespace {

Finished rules(const Namespace& ns, std::vector<std::string> arguments, Command command = {}) {
    command.argv = {proxify_binary(), "redirect", "rules"};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.inside = &ns;
    return run(command);
}

/// What it prints when it does what was asked.
std::string done(const Namespace& ns, std::vector<std::string> arguments) {
    auto finished = rules(ns, std::move(arguments));
    INFO(finished.out << finished.err);
    REQUIRE(finished.exit_code == 0);
    return finished.out;
}

/// All rules that are not ours, without the counters that packets move.
std::string rules_of_others(const Namespace& ns) {
    auto all = must(ns,
                    "for t in iptables ip6tables; do $t-legacy-save; $t-nft-save; done; "
                    "for t in $(nft list tables | grep -v 'inet proxify$' | tr ' ' ,); do "
                    "nft list $(echo $t | tr , ' '); done");
    return std::regex_replace(all, std::regex("# (Generated|Completed).*"), "");
}

bool has_table(const Namespace& ns) {
    return must(ns, "nft list tables").contains("table inet proxify\n");
}

}  // namespace

TEST_CASE("rules are there once, however often they are added, and others stay as they are",
          "[X-24]") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    for (const std::string tool :
         {"iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"})
        must(ns, tool + " -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-port 1234 && " +
                     tool + " -t nat -A OUTPUT -p tcp --dport 99 -j ACCEPT && " + tool +
                     " -A INPUT -p tcp --dport 98 -j DROP");
    must(ns,
         "nft 'add table inet other; add chain inet other c { type filter hook input priority "
         "0; }; add rule inet other c tcp dport 97 drop'");
    const auto before = rules_of_others(ns);
    REQUIRE(before.contains("dport 97"));

    CHECK(done(ns, {"show"}) == "no port is redirected\n");
    CHECK_FALSE(has_table(ns));
    const auto shown = done(ns, {"add", "--ports", "8080,8081", "--to", "15002"});
    CHECK(shown ==
          "PORT  ARRIVING  LEAVING\n"
          "8080     15002    15002\n"
          "8081     15002    15002\n"
          "What carries the mark 0x2035 leaves as it is.\n");
    const auto once = must(ns, "nft list table inet proxify");
    for (int i = 0; i < 3; ++i)
        CHECK(done(ns, {"add", "--ports", "8080,8081", "--to", "15002"}) == shown);
    CHECK(must(ns, "nft list table inet proxify") == once);
    CHECK(done(ns, {"show"}) == shown);
    CHECK(rules_of_others(ns) == before);

    CHECK(done(ns, {"add", "--ports", "443", "--to", "15006", "--only", "arriving"}) ==
          "PORT  ARRIVING  LEAVING\n"
          " 443     15006        -\n"
          "8080     15002    15002\n"
          "8081     15002    15002\n"
          "What carries the mark 0x2035 leaves as it is.\n");
    CHECK(done(ns, {"add", "--ports", "8081", "--to", "15006", "--mark", "0x35/0xff"})
              .contains("8081     15006    15006\nWhat carries the mark 0x35/0xff"));
    CHECK(done(ns, {"show", "--json"}) ==
          R"({"redirects":[{"port":443,"arriving":15006,"leaving":null},)"
          R"({"port":8080,"arriving":15002,"leaving":15002},)"
          R"({"port":8081,"arriving":15006,"leaving":15006}],"mark":"0x35/0xff"})"
          "\n");

    CHECK(done(ns, {"remove", "--ports", "8080,9999"}).contains("8081"));
    CHECK(has_table(ns));
    CHECK(done(ns, {"remove", "--ports", "443,8081"}) == "no port is redirected\n");
    CHECK_FALSE(has_table(ns));
    for (int i = 0; i < 2; ++i) CHECK(done(ns, {"remove"}) == "no port is redirected\n");
    done(ns, {"add", "--ports", "1-2000", "--to", "15002"});
    CHECK(done(ns, {"remove"}) == "no port is redirected\n");
    CHECK_FALSE(has_table(ns));
    CHECK(rules_of_others(ns) == before);
}

TEST_CASE("a rule that somebody took out is back after the next addition") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    done(ns, {"add", "--ports", "8080", "--to", "15002"});
    const auto whole = must(ns, "nft list table inet proxify");
    must(ns, "nft flush chain inet proxify output");
    done(ns, {"add", "--ports", "8080", "--to", "15002"});
    CHECK(must(ns, "nft list table inet proxify") == whole);
    must(ns, "nft 'flush map inet proxify leaving'");
    done(ns, {"add", "--ports", "8080", "--to", "15002"});
    CHECK(must(ns, "nft list table inet proxify") == whole);
    must(ns, "nft 'flush ruleset; add table inet proxify'");
    CHECK(done(ns, {"show"}) == "no port is redirected\n");
    CHECK(done(ns, {"remove"}) == "no port is redirected\n");
    CHECK_FALSE(has_table(ns));
}

TEST_CASE("ten thousand ports are led away by one order") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    Server server(ns, "127.0.0.1:15002", answer("listener"));
    done(ns, {"add", "--ports", "1-5000,10000-15001,15003-15010", "--to", "15002"});
    for (const std::string to : {"127.0.0.1:1", "127.0.0.1:15001", "127.0.0.1:15002"})
        CHECK(answered_by(ns, to, {.limit = 5s}) == "listener");
    CHECK(answered_by(ns, "127.0.0.1:5001", {.limit = 5s}) == "refused");
    done(ns, {"remove"});
    CHECK(answered_by(ns, "127.0.0.1:1", {.limit = 5s}) == "refused");
}

TEST_CASE("what carries the mark passes, and only that") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    Server listener(ns, "127.0.0.1:15002", answer("listener"));
    Server service(ns, "127.0.0.1:8080", answer("service"));
    done(ns, {"add", "--ports", "8080", "--to", "15002", "--mark", "0x30/0xf0"});
    auto with_mark = [&](int mark) {
        std::string heard;
        ns.run([&] {
            auto socket = proxify::Fd::adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            REQUIRE(setsockopt(socket.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0);
            sockaddr_storage to{};
            const auto size = proxify::Address::parse("127.0.0.1:8080")->to_sockaddr(to);
            REQUIRE(connect(socket.get(), reinterpret_cast<sockaddr*>(&to), size) == 0);
            auto client = Stream::adopt(std::move(socket));
            client.send("?");
            heard = client.receive_line();
        });
        return heard;
    };
    CHECK(with_mark(0x30) == "service\n");
    CHECK(with_mark(0x1235) == "service\n");
    CHECK(with_mark(0x2025) == "listener\n");
    CHECK(with_mark(0) == "listener\n");
}

TEST_CASE("what cannot be is said, with a way out, and nothing is done") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    struct {
        std::vector<std::string> arguments;
        int exit_code;
        std::string what;
    } rows[] = {
        {{}, 2, "add, remove or show"},
        {{"ad"}, 2, "add, remove or show"},
        {{"add"}, 2, "--ports"},
        {{"add", "--ports", "8080"}, 2, "--to"},
        {{"add", "--to", "15002"}, 2, "--ports"},
        {{"add", "--ports", "x", "--to", "15002"}, 2, "\"x\""},
        {{"add", "--ports", "8080", "--to", "0"}, 2, "\"0\""},
        {{"add", "--ports", "8080", "--to", "15002", "--mark", "0"}, 2, "--mark"},
        {{"add", "--ports", "8080", "--to", "15002", "--mark", "1/2"}, 2, "--mark"},
        {{"add", "--ports", "8080", "--to", "15002", "--only", "all"}, 2, "\"all\""},
        {{"remove", "--to", "15002"}, 2, "--to"},
        {{"show", "--ports", "80"}, 2, "--ports"},
        {{"add", "--ports", "15002", "--to", "15002"}, 1, "15002 would lead to 15002"},
        {{"add", "--ports", "15000-15010", "--to", "15002"}, 1, "15002"},
    };
    for (const auto& row : rows) {
        auto finished = rules(ns, row.arguments);
        CAPTURE(row.arguments, finished.err, finished.out);
        CHECK(finished.exit_code == row.exit_code);
        CHECK(finished.err.starts_with("error: "));
        CHECK(finished.err.contains(row.what));
        CHECK(finished.err.contains("hint: "));
        CHECK_FALSE(has_table(ns));
    }
}

TEST_CASE("without root, and without nft, it says what is missing") {
    IN_NAMESPACE(ns);
    NEEDS_NETFILTER();
    const std::vector<std::string> add = {"add", "--ports", "8080", "--to", "15002"};
    for (const auto& arguments : {add, {"show"}, {"remove"}}) {
        auto denied = rules(ns, arguments, {.without_capabilities = {CAP_NET_ADMIN}});
        CAPTURE(arguments, denied.err);
        CHECK(denied.exit_code == 1);
        CHECK(denied.err.contains("CAP_NET_ADMIN"));
    }
    TempDir directory;
    write_file(directory / "nothing", "");
    auto without = rules(ns, add,
                         {.environment = {"PATH=" + directory.path().string()},
                          .mounts = {{directory / "nothing", "/usr/sbin/nft"}}});
    INFO(without.err);
    CHECK(without.exit_code == 1);
    CHECK(without.err.contains("nft"));
    CHECK_FALSE(has_table(ns));
}
