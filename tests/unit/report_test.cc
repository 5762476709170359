// SPDX-License-Identifier: Apache-2.0
#include "report/report.h"

#include "support/catch.h"
#include "support/json.h"

using namespace proxify;
using report::from_json;
using report::to_json;

namespace {

/// There and back, and there again: nothing is lost on the way.
template <class T>
void travels(const T& value) {
    const auto text = to_json(value);
    CAPTURE(text);
    CHECK(text.ends_with("}\n"));
    CHECK(text.find('\n') == text.size() - 1);
    CHECK(test::parse_json(text));
    auto read = from_json<T>(text);
    REQUIRE(read);
    CHECK(to_json(*read) == text);
    // And no field stays behind as it was born.
    CHECK(text != to_json(T{}));
}

/// Of an empty object everything is as it was born; what is unknown is passed over.
template <class T>
void is_lenient() {
    const auto born = to_json(T{});
    CHECK(to_json(from_json<T>("{}").value()) == born);
    CHECK(to_json(from_json<T>(R"({"unheard_of": [1, {"x": null}]})").value()) == born);
}

const report::Reload reload{
    .number = 7, .at = 1.5, .state = "applied", .text = "1 service", .warnings = {"one", "two"}};
const report::Counter counter{.name = "assigned", .meaning = "what \"it\" means", .value = ~0ull};
const report::Session session{.id = ~0ull,
                              .service = "web",
                              .client = "[2001:db8::1]:5",
                              .original_dst = "127.0.0.1:80",
                              .target = "127.0.0.1:9001",
                              .state = "open",
                              .age = 0.25,
                              .to_target = 1,
                              .to_client = ~0ull,
                              .worker = 3};

}  // namespace

TEST_CASE("every report is one line of JSON, and read back the same") {
    travels(reload);
    travels(report::Status{.version = "1",
                           .pid = 2,
                           .started_at = 3.5,
                           .uptime = 4.25,
                           .state = "running",
                           .mode = "steering",
                           .user = "nobody",
                           .config_path = "/etc/a b",
                           .listener_port = uint16_t{65535},
                           .workers = 5,
                           .services = 6,
                           .services_down = 7,
                           .targets = 8,
                           .targets_up = 9,
                           .ports = 10,
                           .sessions = 11,
                           .sessions_so_far = 12,
                           .log_dropped = 13,
                           .is_behind = true,
                           .reload = reload});
    const report::Element element{.name = "count-2",
                                  .type = "count",
                                  .direction = "to_client",
                                  .chunks = 1,
                                  .bytes = 2,
                                  .dropped = 3,
                                  .changed = 4,
                                  .closed = 5,
                                  .failed = 6};
    travels(element);
    const report::Service service{.name = "web",
                                  .state = "panic",
                                  .ports = {"1", "2-3"},
                                  .addresses = {"198.51.100.0/24"},
                                  .is_default = true,
                                  .balance = "maglev",
                                  .when_down = "drop",
                                  .targets = 1,
                                  .targets_up = 2,
                                  .sessions = 3,
                                  .sessions_max = 4,
                                  .waiting = 5,
                                  .sessions_so_far = 6,
                                  .failures_so_far = 7,
                                  .bytes_to_target = 8,
                                  .bytes_to_client = 9,
                                  .connect_p50 = 0.5,
                                  .connect_p99 = 0.75,
                                  .elements = {element}};
    travels(service);
    travels(report::Services{{service, service}});
    const report::Target target{.service = "web",
                                .address = "10.0.0.7:*",
                                .written = "name.example",
                                .state = "ejected",
                                .reason = "refused",
                                .since = 5.5,
                                .weight = 2,
                                .weight_of_file = 3,
                                .priority = 4,
                                .is_backup = true,
                                .sessions = 5,
                                .sessions_max = 6,
                                .sessions_so_far = 7,
                                .failed_connects = 8,
                                .bytes_to_target = 9,
                                .bytes_to_client = 10,
                                .connect_mean = 0.125,
                                .checks_good = 11,
                                .checks_bad = 12};
    travels(target);
    travels(report::Targets{{target}});
    travels(session);
    travels(report::Sessions{{session}, 99});
    const report::Port port{"5300-5399", "web", {"::/0"}, "hand", {"nginx on 127.0.0.1:80"}};
    travels(port);
    travels(report::Ports{{port}});
    travels(counter);
    travels(report::ServiceCounters{"web", {counter}});
    travels(report::Steering{true, 1, 2, 3, 4, 5, 6, {counter}, {{"web", {counter}}}, {"careful"}});
    const report::Change change{"~", "balance of service web", "sessions stay"};
    travels(change);
    travels(report::Plan{{change}, {"careful"}});
    travels(report::Done{"done", {"careful"}});
    travels(report::Trouble{"no", "try again"});
}

TEST_CASE("what is missing is as it was born, what is unknown is passed over, null is absent") {
    is_lenient<report::Reload>();
    is_lenient<report::Status>();
    is_lenient<report::Services>();
    is_lenient<report::Targets>();
    is_lenient<report::Sessions>();
    is_lenient<report::Ports>();
    is_lenient<report::Steering>();
    is_lenient<report::Plan>();
    is_lenient<report::Done>();
    is_lenient<report::Trouble>();
    CHECK(to_json(report::Status{}).find(R"("listener_port":null)") != std::string::npos);
    CHECK_FALSE(from_json<report::Status>(R"({"listener_port": null})")->listener_port);
    CHECK(from_json<report::Status>(R"({"listener_port": 80})")->listener_port == 80);
    CHECK(from_json<report::Target>("{}")->weight == 1);
}

TEST_CASE("bytes that are no UTF-8 become replacement characters, and control bytes escapes") {
    auto text = to_json(report::Done{"a\xff\xc3(\x01\"\n", {}});
    CHECK(text.find("a\xEF\xBF\xBD\xEF\xBF\xBD(\\u0001\\\"\\n") != std::string::npos);
    REQUIRE(test::parse_json(text));
    CHECK(from_json<report::Done>(text)->text == "a\xEF\xBF\xBD\xEF\xBF\xBD(\x01\"\n");
}

TEST_CASE("what is no such report is an error, and never more than that") {
    for (const std::string& text : {std::string(),
                                    std::string("null"),
                                    std::string("[]"),
                                    std::string("5"),
                                    std::string("\"text\""),
                                    std::string("{"),
                                    std::string("{}{}"),
                                    std::string("{\"pid\":"),
                                    std::string("{\"pid\": \"one\"}"),
                                    std::string("{\"pid\": {}}"),
                                    std::string("{\"reload\": []}"),
                                    std::string("{\"reload\": {\"warnings\": {}}}"),
                                    std::string("{\"reload\": {\"warnings\": [1]}}"),
                                    std::string("{\"state\": null}"),
                                    std::string("{\"is_behind\": 1}"),
                                    std::string("{\"uptime\": 1e999}"),
                                    std::string("{\"state\": \"\xff\"}"),
                                    std::string("\0{}", 3),
                                    std::string(100'000, '['),
                                    std::string(100'000, '[') + std::string(100'000, ']')}) {
        CAPTURE(text.substr(0, 60));
        auto read = from_json<report::Status>(text);
        REQUIRE_FALSE(read);
        CHECK(read.error().what.starts_with("the answer "));
        CHECK(read.error().text().size() < 1000);
    }
}

TEST_CASE("a hundred thousand sessions are written and read back") {
    report::Sessions sessions{std::vector(100'000, session), 200'000};
    auto read = from_json<report::Sessions>(to_json(sessions));
    REQUIRE(read);
    CHECK(read->sessions.size() == 100'000);
    CHECK(read->matching == 200'000);
}
