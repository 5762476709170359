// SPDX-License-Identifier: Apache-2.0
// What the real program counts of known traffic, and what it says would become of a client, held
// against what becomes of it. The parts have tests of their own: metrics_test.cc, explain_test.cc.
#include "base/format.h"
#include "support/exposition.h"
#include "support/json.h"
#include "support/kernel_test.h"

using namespace proxify::test;
using proxify::format;

namespace {

constexpr auto http_at = "127.0.0.1:9901";

std::string body_at(const Namespace& ns, const std::string& path) {
    Stream client = Stream::dial(ns, http_at);
    client.send(format("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", path, http_at));
    const std::string answer = client.receive_all().bytes;
    REQUIRE(answer.starts_with("HTTP/1.1 200 "));
    return answer.substr(answer.find("\r\n\r\n") + 4);
}

std::string outcome(const Proxify& proxify, const std::string& client, const std::string& to) {
    auto said = proxify.ask({"explain", client, to, "--json"});
    INFO(said.out << said.err);
    REQUIRE(said.exit_code == 0);
    return parse_json(said.out).value()["outcome"].text;
}

}  // namespace

TEST_CASE("metrics count known traffic for each service, port and target, and promtool agrees",
          "[P-43]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("promtool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    for (bool steer : {true, false}) {
        INFO("-b " << steer);
        auto proxify = Proxify::start(
            ns, {.config = format("[admin]\nhttp = \"{}\"\n[[service]]\nname = \"web\"\n"
                                  "ports = [5001, 5002]\ntargets = [\"127.0.0.1:9001\"]\n"
                                  "health = false\ncount_ports = true\n[[service]]\n"
                                  "name = \"dead\"\nports = 5003\ntargets = [\"127.0.0.1:9009\"]\n"
                                  "health = false\nejection = false\n",
                                  http_at),
                 .flags = steer ? std::vector<std::string>{"-b"} : std::vector<std::string>{}});
        CHECK(body_at(ns, "/healthz") == "ok\n");
        CHECK(body_at(ns, "/readyz") == "ready\n");
        for (int i = 0; i < 3; ++i) CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
        for (int i = 0; i < 2; ++i) CHECK(answered_by(ns, "127.0.0.1:5002") == "blue");
        CHECK(answered_by(ns, "127.0.0.1:5003") != "blue");
        proxify.sessions(6);

        const std::string page = body_at(ns, "/metrics");
        INFO(page);
        const auto all = parse_exposition(page);
        CHECK(all.at("proxify_sessions_total{service=\"web\"}") == 5);
        CHECK(all.at("proxify_sessions_total{service=\"dead\"}") == 1);
        CHECK(all.at("proxify_target_sessions_total{service=\"web\",target=\"127.0.0.1:9001\"}") ==
              5);
        CHECK(all.at("proxify_port_sessions_total{service=\"web\",port=\"5001\"}") == 3);
        CHECK(all.at("proxify_port_sessions_total{service=\"web\",port=\"5002\"}") == 2);
        CHECK(all.at("proxify_connect_duration_seconds_count{service=\"web\"}") == 5);
        CHECK(all.at("proxify_target_connect_failures_total{service=\"dead\",target="
                     "\"127.0.0.1:9009\",reason=\"refused\"}") == 1);
        CHECK(all.at("proxify_relayed_bytes_total{service=\"web\",direction=\"to_client\"}") > 0);
        CHECK(all.at("proxify_config_last_reload_successful") == 1);
        CHECK(all.has("proxify_kernel_lookups_total{answer=\"steered\"}") == steer);
        if (steer) {
            CHECK(all.at(
                      "proxify_service_kernel_lookups_total{service=\"web\",answer=\"steered\"}") ==
                  5);
            CHECK(all.at("proxify_port_kernel_steered_total{port=\"5001\"}") == 3);
        }
        const auto judged = run({.argv = {"promtool", "check", "metrics"}, .input = page});
        CHECK(judged.exit_code == 0);
        CHECK(judged.out + judged.err == "");

        // What the commands show is counted in the same places.
        auto target = parse_json(proxify.ask({"targets", "--service", "web", "--json"}).out);
        REQUIRE(target);
        CHECK((*target)["targets"].items[0]["sessions_so_far"].text == "5");
        auto dead = parse_json(proxify.ask({"services", "--service", "dead", "--json"}).out);
        REQUIRE(dead);
        CHECK((*dead)["services"].items[0]["failures_so_far"].text == "1");

        write_file(proxify.config_path(), "nonsense");
        CHECK(eventually([&] {
            return parse_exposition(body_at(ns, "/metrics"))
                       .at("proxify_config_last_reload_successful") == 0;
        }));
        CHECK(proxify.stop() == 0);
    }
}

TEST_CASE("explain says of a running proxify what then happens") {
    IN_NAMESPACE(ns);
    ns.add_address("198.51.100.66/32");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Server local(ns, "127.0.0.1:5003", answer("local"));
    for (bool steer : {true, false}) {
        INFO("-b " << steer);
        auto proxify = Proxify::start(
            ns, {.config = format("[[service]]\nname = \"web\"\nports = 5001\n"
                                  "targets = [\"127.0.0.1:9001\"]\ndeny = [\"198.51.100.66\"]\n"
                                  "health = {{ interval = \"50ms\" }}\n[[service]]\n"
                                  "name = \"dead\"\nports = {}\ntargets = [\"127.0.0.1:9009\"]\n"
                                  "when_down = \"{}\"\nhealth = {{ interval = \"50ms\" }}\n",
                                  steer ? 5003 : 5004, steer ? "pass" : "refuse"),
                 .flags = steer ? std::vector<std::string>{"-b"} : std::vector<std::string>{}});
        REQUIRE(eventually(
            [&] { return find_line(proxify.log(), {"of service dead is down"}).has_value(); }));
        CHECK(outcome(proxify, "127.0.0.1", "127.0.0.1:5001") == "joined");
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
        CHECK(outcome(proxify, "198.51.100.66", "127.0.0.1:5001") ==
              (steer ? "refused" : "reset-after-accept"));
        if (steer) {
            CHECK(outcome(proxify, "127.0.0.1", "127.0.0.1:5003") == "passed-to-local-listener");
            CHECK(answered_by(ns, "127.0.0.1:5003") == "local");
        } else {
            CHECK(outcome(proxify, "127.0.0.1", "127.0.0.1:5004") == "reset-after-accept");
        }
        CHECK(outcome(proxify, "127.0.0.1", "127.0.0.1:5999") == "refused-by-nobody-listening");
        CHECK(answered_by(ns, "127.0.0.1:5999") == "refused");

        // An order is part of it.
        CHECK(proxify.ask({"drain", "127.0.0.1:9001"}).exit_code == 0);
        CHECK(outcome(proxify, "127.0.0.1", "127.0.0.1:5001") ==
              (steer ? "refused" : "reset-after-accept"));
        CHECK(answered_by(ns, "127.0.0.1:5001") != "blue");
        CHECK(proxify.ask({"undrain", "127.0.0.1:9001"}).exit_code == 0);
        CHECK(outcome(proxify, "127.0.0.1", "127.0.0.1:5001") == "joined");

        auto text = proxify.ask({"explain", "127.0.0.1", "127.0.0.1:5001"});
        CHECK(find_line(text.out, {"the client sees: ", "joined to 127.0.0.1:9001"}));
        auto mixed = proxify.ask({"explain", "127.0.0.1", "[::1]:5001"});
        CHECK(mixed.exit_code == 1);
        CHECK(mixed.err.starts_with("error: "));
        CHECK(proxify.ask({"explain", "nobody", "127.0.0.1:5001"}).exit_code == 1);
        CHECK(proxify.stop() == 0);
    }
}
