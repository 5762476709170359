// SPDX-License-Identifier: Apache-2.0
// What `proxify top` shows and does, with made-up answers and a made-up clock.
#include <optional>
#include <string>
#include <vector>

#include "base/format.h"
#include "cli/top_model.h"
#include "support/catch.h"

using namespace proxify;
using namespace proxify::cli;
using screen::Key;
using screen::Line;
using screen::Role;

namespace {

constexpr Time start{1000s};

Key key(std::string text) {
    return {.kind = Key::Kind::character, .text = std::move(text)};
}
constexpr auto up = Key::Kind::up, down = Key::Kind::down, page_down = Key::Kind::page_down,
               page_up = Key::Kind::page_up, home = Key::Kind::home, last = Key::Kind::end,
               enter = Key::Kind::enter, escape = Key::Kind::escape, tab = Key::Kind::tab,
               backspace = Key::Kind::backspace;

report::Status status() {
    return {.version = "0.1.0",
            .pid = 17,
            .started_at = 100,
            .uptime = 12000,
            .state = "running",
            .mode = "steering",
            .services = 3,
            .services_down = 1,
            .targets = 7,
            .targets_up = 5,
            .sessions = 1234,
            .sessions_so_far = 50000};
}

report::Service service(const std::string& name, uint64_t sessions) {
    return {.name = name,
            .state = "up",
            .ports = {"5001"},
            .balance = "round_robin",
            .when_down = "refuse",
            .targets = 2,
            .targets_up = 2,
            .sessions = sessions};
}

report::Target target(const std::string& address, uint64_t sessions) {
    return {.service = "web",
            .address = address,
            .written = address.substr(0, address.rfind(':')),
            .state = "up",
            .since = 940,
            .sessions = sessions};
}

report::Session session(uint64_t id, const std::string& to = "127.0.0.1:9001") {
    return {.id = id,
            .service = "web",
            .client = format("198.51.100.7:{}", 40000 + id),
            .original_dst = "203.0.113.1:5001",
            .target = to,
            .state = "open",
            .age = 1000.0 - static_cast<double>(id),
            .to_target = 100 * id,
            .to_client = 3'000'000};
}

report::Services three_services() {
    report::Services out{{service("web", 1200), service("mail", 34), service("db", 0)}};
    out.services[0].sessions_max = 1200;
    out.services[0].waiting = 17;
    out.services[0].sessions_so_far = 49'000;
    out.services[0].bytes_to_target = 10'000'000;
    out.services[0].bytes_to_client = 900'000'000;
    out.services[0].connect_p50 = 0.0004;
    out.services[0].connect_p99 = 0.0123;
    out.services[1].state = "panic";
    out.services[1].targets = 3;
    out.services[1].targets_up = 1;
    out.services[1].ports = {"25", "110", "143", "465", "587", "993-995"};
    out.services[2].state = "down";
    out.services[2].targets_up = 0;
    out.services[2].addresses = {"2001:db8::/32"};
    return out;
}

report::Targets three_targets() {
    report::Targets out{{target("127.0.0.1:9001", 12), target("127.0.0.1:902", 3),
                         target("[2001:db8::1]:9003", 0)}};
    out.targets[0].sessions_max = 100;
    out.targets[0].weight = 5;
    out.targets[0].weight_of_file = 1;
    out.targets[0].connect_mean = 0.0002;
    out.targets[1].state = "drained";
    out.targets[2].state = "down";
    out.targets[2].reason = "cannot connect: Connection refused";
    out.targets[2].is_backup = true;
    out.targets[2].failed_connects = 4;
    return out;
}

/// A `proxify top` in the hands of somebody, and a proxify that answers it.
struct Top {
    TopModel model{1s};
    Time now = start;
    report::Status status = ::status();
    report::Services services = three_services();
    report::Targets targets = three_targets();
    report::Sessions sessions{{session(1), session(2), session(3)}, 3};
    int columns = 80, rows = 24;

    Top() { answer(); }
    explicit Top(report::Services of) : services(std::move(of)) { answer(); }

    /// False when nothing was asked.
    bool answer() {
        auto question = model.next_question(now);
        if (!question) return false;
        model.take({*question, now, 1000 + std::chrono::duration<double>(now - start).count(),
                    status, services, targets, sessions});
        return true;
    }
    void pass(Duration time) {
        now += time;
        answer();
    }
    std::optional<Order> press(const Key& pressed) {
        auto order = model.handle(pressed);
        answer();
        return order;
    }
    std::optional<Order> press(Key::Kind kind) { return press(Key{.kind = kind, .text = {}}); }
    std::optional<Order> press(const char* letters) {
        std::optional<Order> order;
        for (const char* c = letters; *c; ++c) order = press(key(std::string(1, *c)));
        return order;
    }

    /// What there is to see; every line fits, and there are as many as there are rows.
    std::vector<std::string> lines() {
        std::vector<std::string> out;
        for (const auto& line : drawn()) out.push_back(line.text());
        return out;
    }
    std::vector<Line> drawn() {
        auto out = model.draw(columns, rows, now);
        CHECK(out.size() == static_cast<size_t>(rows));
        for (const auto& line : out) {
            INFO(line.text());
            CHECK(screen::width_of(line.text()) <= static_cast<size_t>(columns));
            CHECK(screen::shown(line.text()) == line.text());
        }
        return out;
    }
    std::string text() {
        std::string out;
        for (auto line : lines()) {
            line.erase(line.find_last_not_of(' ') + 1);
            out += line + "\n";
        }
        return out;
    }
    /// The same with how many empty lines follow each other, instead of them.
    std::string picture() {
        std::string out;
        int empty = 0;
        for (auto line : lines()) {
            line.erase(line.find_last_not_of(' ') + 1);
            if (line.empty()) {
                ++empty;
                continue;
            }
            if (empty > 0) out += format("({} empty)\n", empty);
            empty = 0;
            out += line + "\n";
        }
        return out;
    }
    bool shows(std::string_view words) { return text().contains(words); }
    /// The line that is selected, and its first word.
    std::string selected() {
        int count = 0;
        std::string out;
        for (const auto& line : drawn())
            if (line.is_reverse && ++count == 2) out = line.text();
        return out.substr(0, out.find(' ', out.find_first_not_of(' ')));
    }
    /// The first words of the rows.
    std::vector<std::string> order() {
        std::vector<std::string> out;
        const auto all = lines();
        for (size_t i = 3; i + 3 < all.size(); ++i) {
            const auto from = all[i].find_first_not_of(' ');
            if (from != std::string::npos)
                out.push_back(all[i].substr(from, all[i].find(' ', from) - from));
        }
        return out;
    }
};

using Words = std::vector<std::string>;

}  // namespace

// ---- what it looks like

TEST_CASE("services in 80x24") {
    Top top;
    top.services.services[0].sessions_so_far += 120;
    top.services.services[0].failures_so_far += 3;
    top.services.services[0].bytes_to_client += 20'000'000;
    top.status.sessions_so_far += 130;
    top.pass(2s);
    CHECK(top.picture() == R"(proxify 0.1.0  up 3h  1234 sessions  65 new/s  1 of 3 services down
services (3)
SERVICE  STATE     UP  SESSIONS v  WAITING  NEW/S  FAIL/S    P99    IN/S   OUT/S
web      up       2/2   1200/1200       17     60     1.5   12ms     0 B   10 MB
mail     panic    1/3          34        0      0       0      -     0 B     0 B
db       down     0/2           0        0      0       0      -     0 B     0 B
(16 empty)
web: ports 5001, round_robin, 17 waiting, connects p50 0.4ms, p99 12ms
Enter targets  Tab sessions  s sort  r reverse  / filter  p pause  ? help  q end
)");
}

TEST_CASE("services in 40x10") {
    Top top;
    top.columns = 40, top.rows = 10;
    CHECK(top.picture() == R"(1234 sessions  1 of 3 services down
services (3)
SERVICE STATE    UP SESSIONS v NEW/S
web     up      2/2  1200/1200     -
mail    panic   1/3         34     -
db      down    0/2          0     -
(2 empty)
web: ports 5001, rou~p50 0.4ms, p99 12ms
Enter targets  s sort  ? help  q end
)");
}

TEST_CASE("services in 200x60") {
    Top top;
    top.columns = 200, top.rows = 60;
    CHECK(top.picture() ==
          R"(proxify 0.1.0  up 3h  1234 sessions  1 of 3 services down  5/7 targets up
services (3)
SERVICE  STATE     UP  SESSIONS v  WAITING  NEW/S  FAIL/S    P50    P99    IN/S   OUT/S  SO FAR  PORTS
web      up       2/2   1200/1200       17      -       -  0.4ms   12ms       -       -   49000  5001
mail     panic    1/3          34        0      -       -      -      -       -       -       0  25,110,143,465,587,993-995
db       down     0/2           0        0      -       -      -      -       -       -       0  5001
(52 empty)
web: ports 5001, round_robin, 17 waiting, connects p50 0.4ms, p99 12ms
Enter targets  Tab sessions  s sort  r reverse  / filter  p pause  ? help  q end
)");
}

TEST_CASE("targets in 80x24") {
    Top top;
    top.press(enter);
    top.press(down);
    top.press(down);
    top.pass(1s);
    CHECK(top.picture() == R"(proxify 0.1.0  up 3h  1234 sessions  0 new/s  1 of 3 services down
targets of web (3)
TARGET             STATE    FOR SESSIONS v NEW/S FAIL/S CONNECT   IN/S  OUT/S
127.0.0.1:9001     up       61s     12/100     0      0   0.2ms    0 B    0 B
127.0.0.1:902      drained  61s          3     0      0       -    0 B    0 B
[2001:db8::1]:9003 down     61s          0     0      0       -    0 B    0 B
(15 empty)
[2001:db8::1]:9003: down for 61s, backup, cannot connect: Connection refused, 4
failed connects so far
Enter sessions  d drain  u undrain  s sort  r reverse  / filter  ? help  q back
)");
}

TEST_CASE("sessions in 80x24") {
    Top top;
    top.press(tab);
    top.sessions.sessions[2].to_client += 5'000'000;
    top.pass(1s);
    CHECK(top.picture() == R"(proxify 0.1.0  up 3h  1234 sessions  0 new/s  1 of 3 services down
sessions of web (3)
SESSION CLIENT             TARGET         STATE AGE v    OUT   IN/S  OUT/S
      1 198.51.100.7:40001 127.0.0.1:9001 open    17m 3.0 MB    0 B    0 B
      2 198.51.100.7:40002 127.0.0.1:9001 open    17m 3.0 MB    0 B    0 B
      3 198.51.100.7:40003 127.0.0.1:9001 open    17m 8.0 MB    0 B 5.0 MB
(15 empty)
session 1: 198.51.100.7:40001 dialled 203.0.113.1:5001, open to 127.0.0.1:9001,
worker 0
K end session  s sort  r reverse  / filter  p pause  ? help  q back
)");
}

TEST_CASE("the sessions of one target do not say its name in each line") {
    Top top;
    top.press(enter);
    top.press(enter);
    CHECK(top.shows("sessions of web with 127.0.0.1:9001 (3)"));
    CHECK_FALSE(top.shows("TARGET"));
    for (size_t i = 0; i < session_columns().size(); ++i) {
        top.press("s");  // nor is there a way to sort by it
        CHECK((top.shows(" v") || top.shows(" ^")));
    }
}

TEST_CASE("what is bad is red, what is uneasy yellow, and what is selected reverse") {
    Top top;
    const auto lines = top.drawn();
    auto role_of = [&](size_t line, const std::string& text) -> std::optional<Role> {
        for (const auto& span : lines[line].spans)
            if (span.text.starts_with(text)) return span.role;
        return {};
    };
    CHECK(role_of(0, "1 of 3 services down") == Role::bad);
    CHECK(role_of(3, "up") == Role::good);
    CHECK(role_of(4, "panic") == Role::caution);
    CHECK(role_of(5, "down") == Role::bad);
    CHECK(lines[2].is_reverse);
    CHECK(lines[3].is_reverse);
    CHECK_FALSE(lines[4].is_reverse);
}

TEST_CASE("every size is filled and none is exceeded") {
    Top top;
    top.services.services.push_back(service(std::string(64, 'n'), 7));
    top.pass(1s);
    for (int page = 0; page < 3; ++page) {
        for (const char* what : {"", "/", "\x1b", "d", "n", "K", "n", "?", "?", "x"}) {
            if (*what == '\x1b')
                top.press(escape);
            else
                top.press(what);
            for (int columns : {0, 1, 2, 7, 20, 39, 79, 80, 81, 300})
                for (int rows : {0, 1, 2, 3, 4, 5, 9, 10, 19, 20, 24, 100}) {
                    top.columns = columns, top.rows = rows;
                    top.drawn();
                }
        }
        top.press(enter);
    }
}

TEST_CASE(
    "a name of 64 letters is cut in its middle where it must be, and is there in full below") {
    const auto name = "a-service-" + std::string(44, 'x') + "-to-the-end";
    REQUIRE(name.size() == 65);
    Top top({{service(name.substr(1), 5), service("web", 3)}});
    CHECK(top.shows("-service-xx"));
    CHECK(top.shows("-end up "));
    CHECK(top.shows("~"));
    CHECK(top.shows("\n" + name.substr(1) + ": "));
    CHECK(top.shows("SESSIONS v"));
    CHECK(top.shows("OUT/S"));
    top.columns = 200;
    CHECK_FALSE(top.shows("~"));
    top.columns = 80;
    top.press(enter);
    CHECK(top.shows("targets of " + name.substr(1) + " (3)"));
    top.press("d");
    top.columns = 100;
    CHECK(top.shows("[y/N]"));
}

TEST_CASE("texts that would upset a terminal are made harmless") {
    Top top({{service("we\x1b[2Jb\r\n\t\x7f", 3),
              service("\xC2\x9B"
                      "31m\xE2\x80\xAEtxet",
                      2),
              service("\xFF\xC3", 1), service("m\xC3\xBCller \xE6\x97\xA5\xE6\x9C\xAC", 0)}});
    CHECK(top.shows("we?[2Jb????"));
    CHECK(top.shows("?31m?txet"));
    CHECK(top.shows("??  "));
    CHECK(top.shows("m\xC3\xBCller \xE6\x97\xA5\xE6\x9C\xAC"));
    // Wide letters take two columns each: what follows stands in line.
    const auto lines = top.lines();
    auto column = [&](const std::string& line) {
        return screen::width_of(line.substr(0, line.find(" up ")));
    };
    CHECK(column(lines[6]) == column(lines[3]));
    top.press(last);
    top.press(enter);
    CHECK(top.shows("targets of m\xC3\xBCller \xE6\x97\xA5\xE6\x9C\xAC"));
}

TEST_CASE("without services there is nothing to select, and nothing breaks") {
    Top top((report::Services()));
    CHECK(top.shows("services (0)"));
    CHECK(top.shows("there are none"));
    for (auto kind : {up, down, page_up, page_down, home, last, enter, tab, escape, backspace})
        top.press(kind);
    for (const char* letter : {"s", "r", "d", "u", "K", "/", "j", "k"}) top.press(letter);
    CHECK(top.shows("services (0)"));
}

TEST_CASE("ten thousand targets scroll") {
    Top top;
    top.targets.targets.clear();
    for (uint64_t i = 0; i < 10'000; ++i)
        top.targets.targets.push_back(target(format("198.51.100.1:{}", 10'000 + i), 20'000 - i));
    top.press(enter);
    CHECK(top.shows("targets of web (10000)"));
    CHECK(top.order().front() == "198.51.100.1:10000");
    CHECK(top.order().size() == 18);
    for (int i = 0; i < 17; ++i) top.press(down);
    CHECK(top.order().front() == "198.51.100.1:10000");
    CHECK(top.selected() == "198.51.100.1:10017");
    top.press(down);
    CHECK(top.order().front() == "198.51.100.1:10001");
    CHECK(top.selected() == "198.51.100.1:10018");
    top.press(page_down);
    CHECK(top.selected() == "198.51.100.1:10036");
    top.press(page_up);
    CHECK(top.selected() == "198.51.100.1:10018");
    top.press(last);
    CHECK(top.order().back() == "198.51.100.1:19999");
    CHECK(top.order().size() == 18);
    top.press(down);
    CHECK(top.selected() == "198.51.100.1:19999");
    top.rows = 60;
    CHECK(top.order().size() == 54);
    top.press(home);
    CHECK(top.selected() == "198.51.100.1:10000");
    CHECK(top.order().front() == "198.51.100.1:10000");
}

// ---- numbers

TEST_CASE("rates are what lies between two answers") {
    Top top;
    top.press(enter);
    CHECK(top.shows("      -      -"));  // one answer makes no rate
    top.targets.targets[0].sessions_so_far += 50;
    top.targets.targets[0].failed_connects += 1;
    top.targets.targets[0].bytes_to_target += 3'000;
    top.targets.targets[0].bytes_to_client += 4'000'000;
    top.pass(2s);
    CHECK(top.lines()[3].contains("    25    0.5   0.2ms 1.5 kB 2.0 MB"));
    top.pass(1s);
    CHECK(top.lines()[3].contains("     0      0   0.2ms    0 B    0 B"));
}

TEST_CASE("an answer that came early, because of a key, makes no wild rate") {
    Top top;
    top.press(enter);
    top.targets.targets[0].sessions_so_far += 100;
    top.pass(1s);
    top.targets.targets[0].sessions_so_far += 10;
    top.now += 10ms;
    top.press("p");
    top.press("p");  // asks at once
    CHECK(top.lines()[3].contains("   109 "));
}

TEST_CASE("where counting began anew there is no rate") {
    Top top;
    top.services.services[0].sessions_so_far = 10;
    top.pass(1s);
    CHECK(top.lines()[3].contains(" -       0 "));

    top.status.pid = 18;
    top.status.sessions_so_far += 1'000'000;
    top.pass(1s);
    CHECK_FALSE(top.lines()[0].contains("new/s"));
    CHECK(top.lines()[3].contains(" -       - "));
    top.pass(1s);
    CHECK(top.lines()[0].contains("0 new/s"));

    // When it began is not told quite the same each time.
    top.status.started_at += 0.01;
    top.pass(1s);
    CHECK(top.lines()[0].contains("0 new/s"));
    top.status.started_at += 5;
    top.pass(1s);
    CHECK_FALSE(top.lines()[0].contains("new/s"));
}

TEST_CASE("rates are short") {
    CHECK(short_rate(0) == "0");
    CHECK(short_rate(0.01) == "<0.1");
    CHECK(short_rate(0.05) == "0.1");
    CHECK(short_rate(9.94) == "9.9");
    CHECK(short_rate(9.95) == "10");
    CHECK(short_rate(999.4) == "999");
    CHECK(short_rate(999.5) == "1.0k");
    CHECK(short_rate(34'567) == "35k");
    CHECK(short_rate(1e7) == "10M");
}

// ---- keys

TEST_CASE(
    "s sorts by the next column, numbers from the largest, texts from the first; r reverses") {
    Top top;
    CHECK(top.order() == Words{"web", "mail", "db"});
    CHECK(top.shows("SESSIONS v"));
    top.press("r");
    CHECK(top.shows("SESSIONS ^"));
    CHECK(top.order() == Words{"db", "mail", "web"});
    for (size_t i = 3; i < service_columns().size(); ++i) top.press("s");
    CHECK(top.shows("SERVICE ^"));
    CHECK(top.order() == Words{"db", "mail", "web"});
    top.press("r");
    CHECK(top.order() == Words{"web", "mail", "db"});
    top.press("ss");
    CHECK(top.shows("UP v"));
    CHECK(top.order() == Words{"web", "mail", "db"});
}

TEST_CASE("what is unknown comes last, whichever way one sorts, and what is sorted by is shown") {
    Top top;
    top.columns = 40;
    for (int i = 0; i < 5; ++i) top.press("s");
    CHECK(top.shows("P99 v"));
    CHECK(top.order().front() == "web");
    top.press("r");
    CHECK(top.order().front() == "web");
}

TEST_CASE("numbers in a name count as numbers") {
    Top top;
    top.press(enter);
    while (!top.shows("TARGET ^")) top.press("s");
    CHECK(top.order() == Words{"127.0.0.1:902", "127.0.0.1:9001", "[2001:db8::1]:9003"});
    CHECK(is_before("a2", "a10"));
    CHECK_FALSE(is_before("a10", "a2"));
    CHECK(is_before("a", "a0"));
    CHECK_FALSE(is_before("a01", "a1"));
    CHECK_FALSE(is_before("a1", "a01"));
    CHECK(is_before("10.0.0.9:80", "10.0.0.10:80"));
}

TEST_CASE("what is selected stays selected, wherever it moves") {
    Top top;
    top.press("j");
    CHECK(top.selected() == "mail");
    top.services.services[1].sessions = 5000;
    top.pass(1s);
    CHECK(top.order().front() == "mail");
    CHECK(top.selected() == "mail");
    top.press("r");
    CHECK(top.selected() == "mail");
    // When it is gone, its neighbour takes its place.
    top.press("r");
    top.press(last);
    CHECK(top.selected() == "db");
    top.services.services.pop_back();
    top.pass(1s);
    CHECK(top.selected() == "web");
}

TEST_CASE("a filter lets through what has its words, in any letters") {
    Top top;
    top.press("/");
    CHECK(top.shows("filter: _"));
    top.press("A");
    CHECK(top.order() == Words{"mail"});
    CHECK(top.shows("services (1 of 3)"));
    CHECK(top.shows("filter \"A\""));
    top.press("q");  // a letter like others
    CHECK_FALSE(top.model.is_over());
    CHECK(top.shows("the filter lets nothing through"));
    top.press(backspace);
    top.press(backspace);
    CHECK(top.order().size() == 3);
    top.press("5001");
    CHECK(top.order() == Words{"web", "db"});
    top.press(enter);
    CHECK_FALSE(top.shows("filter:"));
    top.press(down);
    CHECK(top.selected() == "db");
    top.press(escape);
    CHECK(top.order().size() == 3);
    CHECK(top.selected() == "db");

    top.press("/");
    top.press(key("\xC3\xA4"));
    CHECK(top.shows("filter: \xC3\xA4_"));
    top.press(backspace);
    CHECK(top.shows("filter: _"));
    top.press("down");
    CHECK(top.order() == Words{"db"});
    top.press(escape);
    CHECK(top.order().size() == 3);
    CHECK_FALSE(top.shows("filter \""));
}

TEST_CASE("Enter leads down, q and Esc lead back to where one was, and q out of the first page") {
    Top top;
    for (auto& one : top.targets.targets) one.service = "mail";
    top.press("j");
    top.press(enter);
    CHECK(top.model.next_question(top.now + 1s) == Question{Page::targets, "mail", ""});
    CHECK(top.shows("targets of mail (3)"));
    top.press(down);
    top.press(enter);
    CHECK(top.shows("sessions of mail with 127.0.0.1:902"));
    top.press(enter);  // there is nothing further down
    CHECK(top.shows("sessions of mail with 127.0.0.1:902"));
    top.press("q");
    CHECK(top.selected() == "127.0.0.1:902");
    top.press(tab);
    CHECK(top.shows("sessions of mail ("));
    top.press(backspace);
    top.press(escape);
    CHECK(top.shows("services (3)"));
    CHECK(top.selected() == "mail");
    top.press(escape);
    top.press(backspace);
    CHECK(top.shows("q ends"));
    CHECK_FALSE(top.model.is_over());
    top.press("q");
    CHECK(top.model.is_over());
}

TEST_CASE("what is asked is what is looked at") {
    auto text = [](const http::Request& request) {
        return request.method + " " + http::target_of(request);
    };
    CHECK(text(request_for(Question{})) == "GET /v1/services");
    CHECK(text(request_for(Question{Page::targets, "web", ""})) == "GET /v1/targets?service=web");
    auto sessions = request_for(Question{Page::sessions, "web", "10.0.0.7:80"});
    CHECK(sessions.path == "/v1/sessions");
    CHECK(sessions.query.at("target") == "10.0.0.7:80");
    CHECK(sessions.query.at("service") == "web");
    CHECK(sessions.query.at("limit") == "2000");
    // Of a target that follows the client's port no session bears the very name.
    for (const char* many : {"10.0.0.7:*", "[2001:db8::1]:+1000"})
        CHECK_FALSE(request_for(Question{Page::sessions, "web", many}).query.contains("target"));
    CHECK(request_for(Order{Order::Kind::undrain, "web", "10.0.0.7:*", 0}).query.at("target") ==
          "web/10.0.0.7:*");
    CHECK(text(request_for(Order{Order::Kind::kill, "", "", 17})) == "POST /v1/kill?session=17");
}

TEST_CASE("sessions of a target that follows the client's port are those at its address") {
    Top top;
    top.targets.targets = {target("10.0.0.7:*", 2)};
    top.sessions = {{session(1, "10.0.0.7:5001"), session(2, "10.0.0.70:5001"),
                     session(3, "10.0.0.7:5002"), session(4, "")},
                    4};
    top.press(enter);
    top.press(enter);
    CHECK(top.order() == Words{"1", "3"});
}

TEST_CASE("of very many sessions it says that it has the oldest") {
    Top top;
    top.sessions.sessions.clear();
    for (uint64_t i = 1; i <= sessions_asked_for; ++i) top.sessions.sessions.push_back(session(i));
    top.sessions.matching = 34'567;
    top.press(tab);
    CHECK(top.shows("sessions of web (2000; the oldest of 34567)"));
}

// ---- orders

TEST_CASE("only y gives an order") {
    const Order wanted[] = {{Order::Kind::drain, "web", "127.0.0.1:9001", 0},
                            {Order::Kind::undrain, "web", "127.0.0.1:9001", 0},
                            {Order::Kind::kill, "", "", 1}};
    const std::string keys[] = {"d", "u", "K"};
    const std::string questions[] = {
        "drain 127.0.0.1:9001 of web? it has 12 sessions  [y/N]",
        "give 127.0.0.1:9001 of web new sessions again? it has 12 sessions  [y/N]",
        "end session 1 of 198.51.100.7:40001?  [y/N]"};
    for (size_t i = 0; i < 3; ++i) {
        Top top;
        top.press(enter);
        if (keys[i] == "K") top.press(tab);
        for (const Key& no : {key("n"), key("N"), key("d"), key("q"), key("/"), key("yy"),
                              Key{enter, {}}, Key{escape, {}}, Key{down, {}}, Key{tab, {}}}) {
            CHECK_FALSE(top.press(keys[i].c_str()));
            CHECK(top.lines().back() == questions[i]);
            CHECK_FALSE(top.press(no));
            CHECK(top.lines().back() == "nothing is changed");
        }
        for (const char* yes : {"y", "Y"}) {
            CHECK_FALSE(top.press(keys[i].c_str()));
            CHECK(top.press(yes) == wanted[i]);
            CHECK_FALSE(top.press("y"));
        }
    }
}

TEST_CASE("an order is for what was asked about, whatever has moved meanwhile") {
    Top top;
    top.press(enter);
    top.press("d");
    top.targets.targets[1].sessions = 1000;
    top.targets.targets.erase(top.targets.targets.begin());
    top.pass(1s);
    CHECK(top.selected() == "127.0.0.1:902");
    CHECK(top.shows("drain 127.0.0.1:9001 of web?"));
    CHECK(top.press("y") == Order{Order::Kind::drain, "web", "127.0.0.1:9001", 0});
}

TEST_CASE("a question keeps its [y/N] where the line is too short for it") {
    Top top({{service(std::string(64, 'n'), 5)}});
    top.targets.targets = {target("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535", 12)};
    top.targets.targets[0].service = std::string(64, 'n');
    top.press(enter);
    top.press("d");
    CHECK(top.shows("drain [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535"));
    CHECK(top.lines().back().ends_with("[y/N]"));
    top.columns = 40;
    CHECK(top.shows("drain [2001:db8"));
    CHECK(top.lines().back().ends_with("[y/N]"));
}

TEST_CASE("keys that need another page say which") {
    Top top;
    top.press("d");
    CHECK(top.shows("Enter shows those of a service"));
    top.press("K");
    CHECK(top.shows("Tab shows those of a service"));
    top.press(tab);
    top.press("u");
    CHECK(top.shows("q leads back"));
    top.press("x");
    CHECK(top.shows("x does nothing here; ? shows the keys"));
    top.press("?");
    CHECK(top.shows("drain the selected target"));
    top.press("q");  // only ends the help
    CHECK(top.shows("sessions of web"));
}

TEST_CASE("what came of an order is said until the next key, with its warnings") {
    Top top;
    top.press(enter);
    top.model.take_outcome(report::Done{"127.0.0.1:9001 gets no new sessions", {}});
    CHECK(top.lines().back() == "127.0.0.1:9001 gets no new sessions");
    CHECK(top.model.next_question(top.now));  // at once
    top.model.take_outcome(report::Done{"it is drained", {"service web has no target left"}});
    CHECK(top.shows("it is drained; service web has no target left"));
    top.model.take_outcome(
        fail(Error::of("there is no target \"x\"", "`proxify targets` lists them")));
    CHECK(top.shows("there is no target \"x\"; `proxify targets` lists them"));
    top.press("j");
    CHECK_FALSE(top.shows("there is no target"));
}

// ---- time

TEST_CASE(
    "it asks once in an interval, at once when one goes elsewhere, and not while it is paused") {
    TopModel model(5s);
    CHECK(model.next_question(start));
    CHECK_FALSE(model.next_question(start + 4999ms));
    CHECK(model.pause(start + 4500ms) == 500ms);
    CHECK(model.next_question(start + 5s));

    Top top;
    CHECK_FALSE(top.answer());
    top.press(enter);
    CHECK(top.shows("targets of web (3)"));
    top.press("p");
    CHECK(top.shows("paused"));
    top.targets.targets.pop_back();
    top.pass(1h);
    CHECK(top.shows("targets of web (3)"));
    CHECK(top.model.pause(top.now) > 0s);
    top.press("q");
    CHECK(top.shows("services (3)"));
    top.press(enter);
    CHECK(top.shows("targets of web (2)"));  // somewhere new there must be something to see
    top.press("p");
    CHECK_FALSE(top.shows("paused"));
}

TEST_CASE("an answer to what one has left meanwhile is not shown") {
    Top top;
    top.now += 1s;
    auto question = top.model.next_question(top.now);
    REQUIRE(question);
    top.model.handle({enter, {}});
    top.model.take({*question, top.now, 0, top.status, top.services, {}, {}});
    CHECK(top.shows("targets of web"));
    CHECK(top.shows("asking ..."));
    CHECK(top.answer());
    CHECK(top.shows("targets of web (3)"));
}

TEST_CASE(
    "when proxify is gone that is said, with the age of what is shown, and keys go on working") {
    Top top;
    for (int i = 0; i < 12; ++i) {
        top.now += 1s;
        REQUIRE(top.model.next_question(top.now));
        top.model.take_failure(Error::of("cannot ask the proxify at /s: Connection refused"),
                               top.now);
    }
    const auto lines = top.lines();
    CHECK(lines[0].starts_with("no answer for 11s, trying again: cannot ask the proxify at /s"));
    CHECK(top.drawn()[0].spans[0].role == Role::bad);
    CHECK(lines[1].ends_with("12s old"));
    CHECK(top.order().size() == 3);
    top.press("j");
    CHECK(top.selected() == "mail");
    top.now += 1s;
    CHECK(top.answer());
    CHECK(top.lines()[0].starts_with("proxify 0.1.0"));
    CHECK_FALSE(top.shows("old"));
}

TEST_CASE("a proxify that is leaving, or whose kernel is behind, says so") {
    Top top;
    top.status.state = "leaving";
    top.status.is_behind = true;
    top.columns = 120;
    top.pass(1s);
    CHECK(top.lines()[0].contains("  leaving  "));
    CHECK(top.lines()[0].contains("kernel is behind"));
    top.columns = 50;
    CHECK(top.lines()[0].contains("leaving"));
    CHECK(top.lines()[0].contains("1 of 3 services down"));
}

// ---- text

TEST_CASE("text is cut by columns, not by bytes") {
    using namespace screen;
    CHECK(width_of("m\xC3\xBCller") == 6);
    CHECK(width_of("\xE6\x97\xA5") == 2);
    CHECK(cut("m\xC3\xBCller", 6) == "m\xC3\xBCller");
    CHECK(cut("m\xC3\xBCller", 3) == "m\xC3\xBC~");
    CHECK(cut("\xE6\x97\xA5\xE6\x9C\xAC", 3) == "\xE6\x97\xA5~");
    CHECK(cut("\xE6\x97\xA5\xE6\x9C\xAC", 2) == "~");
    CHECK(cut("abc", 0).empty());
    CHECK(cut_middle("abcdefgh", 8) == "abcdefgh");
    CHECK(cut_middle("abcdefgh", 7) == "abc~fgh");
    CHECK(cut_middle("abcdefgh", 4) == "ab~h");
    CHECK(cut_middle("abcdefgh", 3) == "ab~");
    CHECK(shown("a\xCC\x81") == "a?");
    CHECK(shown("\xF0\x9F\x98\x80") == "\xF0\x9F\x98\x80");
    for (std::string text :
         {"m\xC3\xBCller \xE6\x97\xA5\xE6\x9C\xAC\xE6\x97\xA5\xE6\x9C\xAC", "abc"})
        for (size_t width = 0; width < 20; ++width) {
            CHECK(width_of(cut(text, width)) <= width);
            CHECK(width_of(cut_middle(text, width)) <= width);
            CHECK(shown(cut_middle(text, width)) == cut_middle(text, width));
        }
}
