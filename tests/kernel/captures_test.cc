// SPDX-License-Identifier: Apache-2.0
// Captures in a file that is edited while proxify runs, whatever their type.
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

const std::string service =
    "[[service]]\nname = \"out\"\nports = [5001]\nhealth = false\n"
    "targets = [\"original\", \"127.0.0.1:9001\"]\n";

std::string redirect(const std::string& ports) {
    return "[[capture]]\ntype = \"redirect\"\nservice = \"out\"\nports = " + ports + "\n";
}

std::string at(int port) {
    return "127.0.0.1:" + std::to_string(port);
}

bool is_open(const Namespace& ns, const std::string& address) {
    return Stream::dial_error(ns, address) == 0;
}

}  // namespace

TEST_CASE("a capture comes, changes its ports and goes with a reload, and its sessions live on") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, {.config = service});
    CHECK_FALSE(is_open(ns, at(15002)));

    proxify.reload(service + redirect("[15002]"));
    auto kept = Stream::dial(ns, at(15002));
    kept.send("one");
    CHECK(kept.receive_exactly(3) == "one");
    proxify.reload(service + redirect("[15003]"));
    eventually([&] { return !is_open(ns, at(15002)); });
    CHECK(is_open(ns, at(15003)));
    proxify.reload(service);
    eventually([&] { return !is_open(ns, at(15003)); });

    kept.send("two");
    CHECK(kept.receive_exactly(3) == "two");
    auto status = proxify.ask({"status"});
    CHECK_FALSE(status.out.contains("captures"));
    kept.close();
    CHECK(proxify.stop() == 0);
}

TEST_CASE("a port does not change between a service and a capture in one reload") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, {.config = service});
    std::string moved = service + redirect("[5001]");
    moved.replace(moved.find("ports = [5001]\n"), 15, "");
    write_file(proxify.config_path(), moved);
    eventually([&] {
        return proxify.log().contains("port 5001 would change between a service and a [[capture]]");
    });
    CHECK(is_open(ns, at(5001)));

    // In two steps it does.
    std::string neither = service + redirect("[15002]");
    neither.replace(neither.find("ports = [5001]\n"), 15, "");
    proxify.reload(neither);
    eventually([&] { return !is_open(ns, at(5001)); });
    proxify.reload(moved);
    auto client = Stream::dial(ns, at(5001));
    client.send("here");
    CHECK(client.receive_exactly(4) == "here");
    CHECK(proxify.ask({"status"}).out.contains("redirect on 5001"));
}

TEST_CASE("a capture that cannot begin ends the start with a sentence, whatever it listens on") {
    IN_NAMESPACE(ns);
    const std::string ingress = "[[capture]]\ntype = \"ingress\"\nports = [8000]\nlisten = ";
    auto first = Proxify::start(ns, {.config = service + ingress + "15004\n"});
    std::string other = service;
    other.replace(other.find("5001"), 4, "5002");
    auto second = Proxify::refuse(ns, {.config = other + ingress + "15014\n"});
    INFO(second.err);
    CHECK(second.exit_code == 1);
    CHECK(second.err.contains("captures incoming connections"));
    CHECK_FALSE(is_open(ns, at(5002)));
    CHECK(first.stop() == 0);
}

TEST_CASE("a capture that cannot begin at a reload is tried again at the next one") {
    IN_NAMESPACE(ns);
    const std::string ingress = "[[capture]]\ntype = \"ingress\"\nports = [8000]\nlisten = ";
    auto first = Proxify::start(ns, {.config = service + ingress + "15004\n"});
    std::string other = service;
    other.replace(other.find("5001"), 4, "5002");
    auto second = Proxify::start(ns, {.config = other});
    write_file(second.config_path(), other + ingress + "15014\n");
    eventually([&] { return second.log().contains("the next reload tries again"); });
    CHECK(second.ask({"status"}).out.contains("has not got the last change"));

    CHECK(first.stop() == 0);
    auto again = second.ask({"reload"});
    INFO(again.out + again.err);
    CHECK(again.exit_code == 0);
    CHECK_FALSE(second.ask({"status"}).out.contains("has not got the last change"));
    CHECK(second.stop() == 0);
}
