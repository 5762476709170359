// SPDX-License-Identifier: Apache-2.0
#include "cli/show.h"

#include "cli/table.h"
#include "support/catch.h"

using namespace proxify;
using cli::show;

TEST_CASE("a table is as wide as it must be, numbers to the right, and no blanks at the end") {
    cli::Table table({"NAME", ">COUNT", "WHY"});
    CHECK(table.empty());
    CHECK(table.text() == "NAME  COUNT  WHY\n");
    table.row({"a", "1", ""});
    table.row({"a longer one", "1234567", "because"});
    CHECK_FALSE(table.empty());
    CHECK(table.text() ==
          "NAME            COUNT  WHY\n"
          "a                   1\n"
          "a longer one  1234567  because\n");
}

TEST_CASE("letters of two bytes take one place, also beside others") {
    cli::Table table({"NAME", ">N", "B"});
    table.row({"h\xC3\xBCtte", "1", "x"});  // hütte
    table.row({"house", "22", "y"});
    CHECK(table.text() ==
          "NAME    N  B\n"
          "h\xC3\xBCtte   1  x\n"
          "house  22  y\n");
    CHECK(cli::labelled({{"a", "1"}, {"long", "2"}, {"", "3"}}) == "a     1\nlong  2\n      3\n");
}

TEST_CASE("times and sizes are two digits or so") {
    struct {
        double seconds;
        const char* text;
    } times[] = {{0, "0.0ms"},      {0.00004, "0.0ms"}, {0.0002, "0.2ms"},      {0.00994, "9.9ms"},
                 {0.00999, "10ms"}, {0.01, "10ms"},     {0.5, "500ms"},         {0.9999, "1.0s"},
                 {1, "1.0s"},       {9.94, "9.9s"},     {9.99, "10s"},          {10, "10s"},
                 {119, "119s"},     {120, "2m"},        {7199, "120m"},         {7200, "2h"},
                 {172799, "48h"},   {172800, "2d"},     {86400.0 * 400, "400d"}};
    for (auto [seconds, text] : times) {
        CAPTURE(seconds);
        CHECK(cli::short_time(seconds) == text);
    }
    CHECK(cli::short_time(std::optional<double>()) == "-");
    CHECK(cli::short_time(std::optional(0.5)) == "500ms");
    struct {
        uint64_t bytes;
        const char* text;
    } sizes[] = {{0, "0 B"},          {999, "999 B"},        {1000, "1.0 kB"},
                 {9949, "9.9 kB"},    {9950, "10 kB"},       {999'499, "999 kB"},
                 {999'500, "1.0 MB"}, {20'000'000, "20 MB"}, {~0ull, "18447 PB"}};
    for (auto [bytes, text] : sizes) {
        CAPTURE(bytes);
        CHECK(cli::short_bytes(bytes) == text);
    }
}

TEST_CASE("status is a few labelled lines, with what is wrong at the end") {
    report::Status status{.version = "0.1",
                          .pid = 42,
                          .uptime = 7300,
                          .state = "running",
                          .mode = "listening",
                          .config_path = "targets.toml",
                          .workers = 2,
                          .services = 1,
                          .targets = 3,
                          .targets_up = 2,
                          .ports = 5,
                          .sessions = 1,
                          .sessions_so_far = 9};
    CHECK(show(status) ==
          "proxify   0.1, pid 42, running for 2h\n"
          "mode      listening on each port\n"
          "config    targets.toml\n"
          "services  1, 0 down\n"
          "targets   3, 2 up\n"
          "ports     5\n"
          "sessions  1 now, 9 so far\n"
          "workers   2\n");
    status.listener_port = 8080;
    status.user = "proxify";
    status.reload = {.state = "refused", .text = "line\n\x1b[31mred", .warnings = {"careful"}};
    status.log_dropped = 1;
    status.is_behind = true;
    CHECK(show(status) ==
          "proxify   0.1, pid 42, running for 2h\n"
          "user      proxify\n"
          "mode      steering to the listener on port 8080\n"
          "config    targets.toml\n"
          "services  1, 0 down\n"
          "targets   3, 2 up\n"
          "ports     5\n"
          "sessions  1 now, 9 so far\n"
          "workers   2\n"
          "reload    refused: line\\x0A\\x1B[31mred\n"
          "          careful\n"
          "log       1 line dropped\n"
          "kernel    has not got the last change; the next reload tries again\n");
}

TEST_CASE("services, targets, sessions and ports are tables") {
    CHECK(show(report::Services{{{.name = "web",
                                  .state = "up",
                                  .ports = {"80", "443", "5000-5999", "7000", "8000", "9000"},
                                  .addresses = {"198.51.100.0/24"},
                                  .is_default = true,
                                  .targets = 3,
                                  .targets_up = 2,
                                  .sessions = 5,
                                  .sessions_max = 10,
                                  .waiting = 1,
                                  .sessions_so_far = 1000,
                                  .failures_so_far = 2,
                                  .bytes_to_target = 1500,
                                  .bytes_to_client = 20'000'000,
                                  .connect_p99 = 0.0012},
                                 {.name = "mail", .state = "down"}}}) ==
          "SERVICE  STATE   UP  SESSIONS  WAITING  SO FAR  FAILED  CONNECT P99      IN    OUT  "
          "PORTS\n"
          "web      up     2/3   5 of 10        1    1000       2        1.2ms  1.5 kB  20 MB  "
          "80, 443, 5000-5999, 7000 and 3 more at 198.51.100.0/24\n"
          "mail     down   0/0         0        0       0       0            -     0 B    0 B  "
          "-\n");
    // What elements have done follows, where a service has any.
    const report::Services with_elements{{{.name = "web",
                                           .state = "up",
                                           .elements = {{.name = "count",
                                                         .type = "count",
                                                         .direction = "to_target",
                                                         .chunks = 7,
                                                         .bytes = 28'000},
                                                        {.name = "no-secrets",
                                                         .type = "match",
                                                         .direction = "to_client",
                                                         .dropped = 1,
                                                         .changed = 2,
                                                         .closed = 3,
                                                         .failed = 4}}}}};
    const auto text = show(with_elements);
    CHECK(text.substr(text.find("\n\n")) ==
          "\n\n"
          "SERVICE  ELEMENT     DIRECTION  CHUNKS  BYTES  DROPPED  CHANGED  CLOSED  FAILED\n"
          "web      count       to_target       7  28 kB        -        -       -       -\n"
          "web      no-secrets  to_client       -      -        1        2       3       4\n");
    CHECK(show(report::Targets{{{.service = "web",
                                 .address = "127.0.0.1:9001",
                                 .state = "down",
                                 .reason = "refused",
                                 .since = 100.0,
                                 .weight = 3,
                                 .weight_of_file = 1,
                                 .priority = 2,
                                 .is_backup = true,
                                 .sessions = 1},
                                {.service = "web", .address = "127.0.0.1:9002", .state = "up"}}},
               160) ==
          "SERVICE  TARGET          STATE  FOR      WEIGHT  SESSIONS  SO FAR  FAILED  CONNECT  "
          "WHY\n"
          "web      127.0.0.1:9001  down   60s  3 (file 1)         1       0       0        -  "
          "backup, priority 2; refused\n"
          "web      127.0.0.1:9002  up       -           1         0       0       0        -\n");
    CHECK(show(report::Sessions{{{.id = 7,
                                  .service = "web",
                                  .client = "198.51.100.7:5",
                                  .original_dst = "127.0.0.1:80",
                                  .target = "127.0.0.1:9001",
                                  .state = "open",
                                  .age = 61,
                                  .to_target = 1,
                                  .to_client = 2000},
                                 {.id = 18, .client = "::1", .state = "waiting"}},
                                5}) ==
          "SESSION  SERVICE  CLIENT          DIALLED       TARGET          STATE      AGE  "
          "TO TARGET  TO CLIENT\n"
          "      7  web      198.51.100.7:5  127.0.0.1:80  127.0.0.1:9001  open       61s  "
          "      1 B     2.0 kB\n"
          "     18  -        ::1                           -               waiting  0.0ms  "
          "      0 B        0 B\n"
          "and 3 more\n");
    CHECK(show(report::Ports{{{"80", "web", {}, "config", {"nginx on 0.0.0.0:80"}},
                              {"8080", "", {"::1/128"}, "listener", {}}}}) ==
          "PORTS  SERVICE  AT           FROM      SHADOWS\n"
          "80     web      any address  config    nginx on 0.0.0.0:80\n"
          "8080   -        ::1/128      listener\n");
}

TEST_CASE("steering shows what has been counted, and nothing that has not") {
    report::Steering steering;
    CHECK(show(steering) == "steering is off: proxify runs without -b\n");
    steering = {.is_on = true,
                .program_id = 1,
                .link_id = 2,
                .proxy_ports_id = 3,
                .proxy_sock_id = 4,
                .listener_port = 8080,
                .ports = 5};
    const std::string head =
        "program   id 1, link id 2\n"
        "maps      proxy_ports id 3, proxy_sock id 4\n"
        "listener  port 8080\n"
        "ports     5\n\n";
    CHECK(show(steering) == head + "no connection has come yet\n");
    steering.services = {{"web", {{"assigned", "steered", 7}, {"denied", "not let in", 0}}},
                         {"", {{"assigned", "steered", 1}}}};
    steering.warnings = {"careful"};
    CHECK(show(steering) == head +
                                "SERVICE  ANSWER    COUNT  MEANING\n"
                                "web      assigned      7  steered\n"
                                "-        assigned      1  steered\n"
                                "warning: careful\n");
}

TEST_CASE("what came of an order is a sentence, with warnings below") {
    CHECK(show(report::Done{"session 1 is ended", {}}) == "session 1 is ended\n");
    CHECK(show(report::Done{"drained", {"nobody is left\x1b"}}) ==
          "drained\nwarning: nobody is left\\x1B\n");
    CHECK(show(report::Reload{.state = "kept", .text = "1 service", .warnings = {"careful"}}) ==
          "kept: 1 service\nwarning: careful\n");
    CHECK(show(report::Plan{}) == "nothing would change: the file says what is running\n");
    CHECK(show(report::Plan{{{"-", "service web", "2 sessions go on"}, {"+", "service x", ""}},
                            {"careful"}}) ==
          "- service web  (2 sessions go on)\n+ service x\nwarning: careful\n");
}
