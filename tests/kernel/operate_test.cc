// SPDX-License-Identifier: Apache-2.0
// What an operator asks of a running proxify and orders it to do, with the commands of the real
// program; its doors are in admin_test.cc.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "support/json.h"
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

using Kind = Json::Kind;

/// A service with literal targets on this host, that only clients find fault with.
std::string service(const std::string& name, const std::string& ports,
                    const std::vector<int>& targets, const std::string& keys = "health = false") {
    std::string list;
    for (int port : targets) list += "\"127.0.0.1:" + std::to_string(port) + "\", ";
    return "[[service]]\nname = \"" + name + "\"\nports = [" + ports + "]\ntargets = [" + list +
           "]\n" + keys + "\n";
}

std::string two_workers() {
    return "[proxify]\nworkers = 2\n";
}

struct Targets {
    explicit Targets(const Namespace& ns)
        : a(ns, "127.0.0.1:9001", answer("a")),
          b(ns, "127.0.0.1:9002", answer("b")),
          c(ns, "127.0.0.1:9003", answer("c")) {}
    Server a, b, c;
};

constexpr auto web_port = "127.0.0.1:5001";

std::map<std::string, int> answers(const Namespace& ns, int clients,
                                   const std::string& at = web_port) {
    std::map<std::string, int> answers;
    for (int i = 0; i < clients; ++i) ++answers[answered_by(ns, at)];
    return answers;
}

/// A client that has its answer, and stays.
Stream stay(const Namespace& ns, const std::string& at = web_port) {
    Stream client = Stream::dial(ns, at);
    client.send("?");
    client.receive_line();
    return client;
}

/// What the command prints; it is to succeed.
std::string said(const Proxify& proxify, std::vector<std::string> arguments) {
    std::string line;
    for (const auto& argument : arguments) line += " " + argument;
    Finished finished = proxify.ask(std::move(arguments));
    INFO("proxify" + line + "\n" + finished.out + finished.err);
    REQUIRE(finished.exit_code == 0);
    CHECK(finished.err.empty());
    return finished.out;
}

/// What it complains of; it is to fail with 1, a sentence and nothing else.
std::string refused(const Proxify& proxify, std::vector<std::string> arguments) {
    std::string line;
    for (const auto& argument : arguments) line += " " + argument;
    Finished finished = proxify.ask(std::move(arguments));
    INFO("proxify" + line + "\n" + finished.out + finished.err);
    CHECK(finished.exit_code == 1);
    CHECK(finished.out.empty());
    CHECK(finished.err.starts_with("error: "));
    return finished.err;
}

/// The log is written a moment after.
bool logged(const Proxify& proxify, const std::vector<std::string>& words) {
    return eventually([&] { return find_line(proxify.log(), words).has_value(); });
}

Json json(const Proxify& proxify, std::vector<std::string> arguments) {
    arguments.push_back("--json");
    auto text = said(proxify, std::move(arguments));
    CHECK(std::ranges::count(text, '\n') == 1);
    auto value = parse_json(text);
    INFO(text);
    REQUIRE(value);
    return *value;
}

/// The rows of a table in text, as words; the first is the titles.
std::vector<std::vector<std::string>> rows_of(const std::string& text) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& line : lines_of(text)) {
        std::istringstream words(line);
        rows.emplace_back(std::istream_iterator<std::string>(words),
                          std::istream_iterator<std::string>());
    }
    return rows;
}

/// The one of an array that has this value under `name`.
const Json& find(const Json& array, const std::string& name, const std::string& value) {
    for (const auto& item : array.items)
        if (item[name].text == value) return item;
    throw std::runtime_error("nothing with " + name + " " + value + " in " + array.text);
}

/// Whether an object has exactly these members, each of its kind; "?" behind one: null will do.
void check_shape(const Json& object, const std::map<std::string, Kind>& shape,
                 const std::set<std::string>& may_be_null = {}) {
    INFO(object.text);
    REQUIRE(object.kind == Kind::object);
    std::set<std::string> wanted, found;
    for (const auto& [name, kind] : shape) wanted.insert(name);
    for (const auto& [name, value] : object.members) found.insert(name);
    CHECK(found == wanted);
    for (const auto& [name, kind] : shape) {
        INFO(name);
        const auto& value = object[name];
        CHECK((value.kind == kind || (value.kind == Kind::null && may_be_null.contains(name))));
    }
}

std::string state_of(const Proxify& proxify, const std::string& target) {
    return find(json(proxify, {"targets"})["targets"], "address", target)["state"].text;
}

/// Saves a file again and again, so that proxify waits until it is quiet and does not apply it.
class KeepsSaving {
  public:
    KeepsSaving(std::string path, std::string text)
        : path_(std::move(path)), before_(read_file(path_)), text_(std::move(text)) {
        replace_file(path_, text_);
        thread_ = std::thread([this] {
            while (!enough_) {
                replace_file(path_, text_);
                std::this_thread::sleep_for(5ms);
            }
            replace_file(path_, before_);
        });
    }
    ~KeepsSaving() {
        enough_ = true;
        thread_.join();
    }

  private:
    std::string path_, before_, text_;
    std::atomic<bool> enough_ = false;
    std::thread thread_;
};

}  // namespace

// ---- nouns

TEST_CASE("status says in a few lines how it is, and the same as JSON") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(
        ns, {.config = two_workers() + service("web", "5001, '5010-5012'", {9001, 9002}) +
                       service("mail", "25", {9003}),
             .flags = {"-b", "-p", "8088"}});
    Stream open = stay(ns);
    CHECK(answers(ns, 2).size() == 2);
    REQUIRE(proxify.sessions(2).size() == 2);

    const auto pid = std::to_string(proxify.process().pid());
    auto text = said(proxify, {"status"});
    INFO(text);
    for (auto words : std::initializer_list<std::vector<std::string>>{
             {"proxify ", "pid " + pid, "running for"},
             {"mode ", "steering to the listener on port 8088"},
             {"config ", "targets.toml"},
             {"services ", "2, 0 down"},
             {"targets ", "3, 3 up"},
             {"ports ", "5"},
             {"sessions ", "1 now, 3 so far"},
             {"workers ", "2"}})
        CHECK(find_line(text, words));
    CHECK_FALSE(find_line(text, {"reload"}));

    auto status = json(proxify, {"status"});
    check_shape(status, {{"version", Kind::string},       {"pid", Kind::number},
                         {"started_at", Kind::number},    {"uptime", Kind::number},
                         {"state", Kind::string},         {"mode", Kind::string},
                         {"user", Kind::string},          {"captures", Kind::array},
                         {"config_path", Kind::string},   {"listener_port", Kind::number},
                         {"workers", Kind::number},       {"services", Kind::number},
                         {"services_down", Kind::number}, {"targets", Kind::number},
                         {"targets_up", Kind::number},    {"ports", Kind::number},
                         {"sessions", Kind::number},      {"sessions_so_far", Kind::number},
                         {"log_dropped", Kind::number},   {"is_behind", Kind::boolean},
                         {"reload", Kind::object}});
    check_shape(status["reload"], {{"number", Kind::number},
                                   {"at", Kind::number},
                                   {"state", Kind::string},
                                   {"text", Kind::string},
                                   {"warnings", Kind::array}});
    CHECK(status["pid"].text == pid);
    CHECK(status["state"].text == "running");
    CHECK(status["mode"].text == "steering");
    CHECK(status["listener_port"].text == "8088");
    CHECK(status["sessions"].text == "1");
    CHECK(status["reload"]["state"].text == "none");
    CHECK(std::abs(std::stod(status["started_at"].text) + std::stod(status["uptime"].text) -
                   static_cast<double>(time(nullptr))) < 5);
}

TEST_CASE("services and targets are tables, of one service where that is asked for") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(
        ns, {.config = "[proxify]\ndefault_service = \"mail\"\n" +
                       service("web", "5001, '5010-5012'", {9001, 9002},
                               "health = false\nbalance = \"first\"\nmax_connections = 7") +
                       service("mail", "25", {9003},
                               "health = false\nwhen_down = \"drop\"\n"
                               "addresses = [\"127.0.0.0/8\"]"),
             .flags = {"-b"}});
    Stream open = stay(ns);

    auto rows = rows_of(said(proxify, {"services"}));
    REQUIRE(rows.size() == 3);
    CHECK(rows[0] == std::vector<std::string>{"SERVICE", "STATE", "UP", "SESSIONS", "WAITING", "SO",
                                              "FAR", "FAILED", "CONNECT", "P99", "IN", "OUT",
                                              "PORTS"});
    CHECK(std::vector(rows[1].begin(), rows[1].begin() + 6) ==
          std::vector<std::string>{"web", "up", "2/2", "1", "of", "7"});
    CHECK(rows[2][0] == "mail");
    CHECK(rows_of(said(proxify, {"services", "--service", "mail"})).size() == 2);

    auto services = json(proxify, {"services"})["services"];
    REQUIRE(services.items.size() == 2);
    for (const auto& one : services.items)
        check_shape(one,
                    {{"name", Kind::string},
                     {"state", Kind::string},
                     {"ports", Kind::array},
                     {"addresses", Kind::array},
                     {"is_default", Kind::boolean},
                     {"balance", Kind::string},
                     {"when_down", Kind::string},
                     {"targets", Kind::number},
                     {"targets_up", Kind::number},
                     {"sessions", Kind::number},
                     {"sessions_max", Kind::number},
                     {"waiting", Kind::number},
                     {"sessions_so_far", Kind::number},
                     {"failures_so_far", Kind::number},
                     {"bytes_to_target", Kind::number},
                     {"bytes_to_client", Kind::number},
                     {"connect_p50", Kind::number},
                     {"connect_p99", Kind::number},
                     {"elements", Kind::array}},
                    {"connect_p50", "connect_p99"});
    const auto& web = find(services, "name", "web");
    CHECK(web["ports"].text == R"(["5001","5010-5012"])");
    CHECK(web["balance"].text == "first");
    CHECK(web["sessions"].text == "1");
    const auto& mail = find(services, "name", "mail");
    CHECK(mail["addresses"].text == R"(["127.0.0.0/8"])");
    CHECK(mail["is_default"].text == "true");
    CHECK(mail["when_down"].text == "drop");

    rows = rows_of(said(proxify, {"targets"}));
    REQUIRE(rows.size() == 4);
    CHECK(rows[0] == std::vector<std::string>{"SERVICE", "TARGET", "STATE", "FOR", "WEIGHT",
                                              "SESSIONS", "SO", "FAR", "FAILED", "CONNECT", "WHY"});
    CHECK(std::vector(rows[1].begin(), rows[1].begin() + 6) ==
          std::vector<std::string>{"web", "127.0.0.1:9001", "up", "-", "1", "1"});
    auto targets_json = json(proxify, {"targets", "--service=web"})["targets"];
    REQUIRE(targets_json.items.size() == 2);
    for (const auto& one : targets_json.items)
        check_shape(one,
                    {{"service", Kind::string},
                     {"address", Kind::string},
                     {"written", Kind::string},
                     {"state", Kind::string},
                     {"reason", Kind::string},
                     {"since", Kind::number},
                     {"weight", Kind::number},
                     {"weight_of_file", Kind::number},
                     {"priority", Kind::number},
                     {"is_backup", Kind::boolean},
                     {"sessions", Kind::number},
                     {"sessions_max", Kind::number},
                     {"sessions_so_far", Kind::number},
                     {"failed_connects", Kind::number},
                     {"bytes_to_target", Kind::number},
                     {"bytes_to_client", Kind::number},
                     {"connect_mean", Kind::number},
                     {"checks_good", Kind::number},
                     {"checks_bad", Kind::number}},
                    {"since", "weight_of_file", "connect_mean"});

    for (const char* noun : {"services", "targets", "ports"}) {
        auto trouble = refused(proxify, {noun, "--service", "wbe"});
        CHECK(find_line(trouble, {"there is no service \"wbe\""}));
        CHECK(find_line(trouble, {"hint:", "`proxify services` lists them"}));
    }
}

TEST_CASE("a target that is down is shown with the reason, and for how long") {
    IN_NAMESPACE(ns);
    Server a(ns, "127.0.0.1:9001", answer("a"));
    auto proxify =
        Proxify::start(ns, {.config = service("web", "5001", {9001, 9002},
                                              "[service.health]\ninterval = \"50ms\"\nfall = 1"),
                            .flags = {"-b"}});
    REQUIRE(eventually([&] { return state_of(proxify, "127.0.0.1:9002") == "down"; }));
    auto target = find(json(proxify, {"targets"})["targets"], "address", "127.0.0.1:9002");
    CHECK(target["reason"].text != "");
    CHECK(std::stod(target["since"].text) > 1e9);
    CHECK(find_line(said(proxify, {"targets"}), {"127.0.0.1:9002", "down", target["reason"].text}));
    CHECK(find_line(said(proxify, {"status"}), {"targets", "2, 1 up"}));
    CHECK(json(proxify, {"status"})["services_down"].text == "0");
}

TEST_CASE("sessions are listed the oldest first, and picked by service, client and target") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    ns.add_address("198.51.100.7/32");
    auto proxify =
        Proxify::start(ns, {.config = two_workers() + service("web", "5001", {9001, 9002}) +
                                      service("mail", "5025", {9003}),
                            .flags = {"-b"}});
    std::vector<Stream> clients;
    for (int i = 0; i < 6; ++i) clients.push_back(stay(ns));
    clients.push_back(stay(ns, "127.0.0.1:5025"));
    clients.push_back(Stream::dial(ns, web_port, {.from = "198.51.100.7:0"}));
    clients.back().send("?");
    clients.back().receive_line();

    auto list = json(proxify, {"sessions"});
    check_shape(list, {{"sessions", Kind::array}, {"matching", Kind::number}});
    CHECK(list["matching"].text == "8");
    REQUIRE(list["sessions"].items.size() == 8);
    uint64_t before = 0;
    std::set<std::string> workers;
    for (const auto& one : list["sessions"].items) {
        check_shape(one, {{"id", Kind::number},
                          {"service", Kind::string},
                          {"client", Kind::string},
                          {"original_dst", Kind::string},
                          {"target", Kind::string},
                          {"state", Kind::string},
                          {"age", Kind::number},
                          {"to_target", Kind::number},
                          {"to_client", Kind::number},
                          {"worker", Kind::number}});
        CHECK(std::stoull(one["id"].text) > before);
        before = std::stoull(one["id"].text);
        CHECK(one["state"].text == "open");
        CHECK(one["to_target"].text == "1");
        CHECK(one["to_client"].text == "2");
        workers.insert(one["worker"].text);
    }
    CHECK(std::ranges::includes(std::set<std::string>{"0", "1"}, workers));
    CHECK(list["sessions"].items[0]["client"].text == clients[0].local().text());
    CHECK(list["sessions"].items[0]["original_dst"].text == web_port);

    auto count = [&](std::vector<std::string> filter) {
        filter.insert(filter.begin(), "sessions");
        auto found = json(proxify, filter);
        // The same as text: a title and a row for each.
        CHECK(rows_of(said(proxify, filter)).size() ==
              found["sessions"].items.size() + 1 +
                  (found["matching"].text != std::to_string(found["sessions"].items.size())));
        return found["sessions"].items.size();
    };
    CHECK(count({"--service", "mail"}) == 1);
    CHECK(count({"--service", "web"}) == 7);
    CHECK(count({"--service", "none"}) == 0);
    CHECK(count({"--target", "127.0.0.1:9003"}) == 1);
    CHECK(count({"--target", "127.0.0.1:9001"}) + count({"--target", "127.0.0.1:9002"}) == 7);
    CHECK(count({"--client", "198.51.100.7"}) == 1);
    CHECK(count({"--client", clients[3].local().text()}) == 1);
    CHECK(count({"--client", "127.0.0.1", "--service", "web"}) == 6);
    CHECK(count({"--limit", "3"}) == 3);
    CHECK(count({"--limit", "0"}) == 0);
    CHECK(json(proxify, {"sessions", "--limit=3"})["matching"].text == "8");
    CHECK(find_line(said(proxify, {"sessions", "--limit=3"}), {"and 5 more"}));

    clients.clear();
    // Not by count(): it asks twice, and a session may end in between.
    CHECK(eventually([&] { return json(proxify, {"sessions"})["sessions"].items.empty(); }));
    CHECK(count({}) == 0);
}

TEST_CASE("ports are shown with whom they lead to and where they come from") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Targets targets(ns);
    Server shadowed(ns, "127.0.0.1:5001", answer("local"));
    auto proxify = Proxify::start(
        ns, {.config = "[proxify]\ndefault_service = \"mail\"\n" +
                       service("web", "5001, '5010-5012'", {9001}) + service("mail", "25", {9003}),
             .flags = {"-b", "-p", "8088"}});
    // 6000, in the host's order.
    REQUIRE(run_line(ns, "bpftool map update id " + std::to_string(proxify.ids().proxy_ports) +
                             " key 0x70 0x17 value 0x00")
                .exit_code == 0);
    auto ports = json(proxify, {"ports"})["ports"];
    for (const auto& one : ports.items)
        check_shape(one, {{"ports", Kind::string},
                          {"service", Kind::string},
                          {"addresses", Kind::array},
                          {"origin", Kind::string},
                          {"shadows", Kind::array}});
    CHECK(find(ports, "ports", "5010-5012")["service"].text == "web");
    CHECK(find(ports, "ports", "25")["service"].text == "mail");
    CHECK(find(ports, "ports", "8088")["origin"].text == "listener");
    CHECK(find(ports, "ports", "6000")["origin"].text == "hand");
    CHECK(find(ports, "ports", "6000")["service"].text == "mail");
    CHECK(find(ports, "ports", "5001")["shadows"].items.size() == 1);
    CHECK(find_line(said(proxify, {"ports"}), {"5001", "web", "config", "127.0.0.1:5001"}));
    CHECK(json(proxify, {"ports", "--service", "web"})["ports"].items.size() == 2);
}

TEST_CASE("steering shows the numbers that bpftool knows, and what was counted") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(ns, {.config = service("web", "5001", {9001}), .flags = {"-b"}});
    CHECK(answers(ns, 3) == std::map<std::string, int>{{"a", 3}});
    auto steering = json(proxify, {"steering"});
    check_shape(steering, {{"is_on", Kind::boolean},
                           {"program_id", Kind::number},
                           {"link_id", Kind::number},
                           {"proxy_ports_id", Kind::number},
                           {"proxy_sock_id", Kind::number},
                           {"listener_port", Kind::number},
                           {"ports", Kind::number},
                           {"counters", Kind::array},
                           {"services", Kind::array},
                           {"warnings", Kind::array}});
    CHECK(steering["program_id"].text == std::to_string(proxify.ids().program));
    CHECK(steering["proxy_ports_id"].text == std::to_string(proxify.ids().proxy_ports));
    const auto& web = find(steering["services"], "service", "web");
    std::map<std::string, std::string> counted;
    for (const auto& counter : web["counters"].items) {
        check_shape(counter,
                    {{"name", Kind::string}, {"meaning", Kind::string}, {"value", Kind::number}});
        if (counter["value"].text != "0") counted[counter["name"].text] = counter["value"].text;
    }
    REQUIRE(counted.size() == 1);
    CHECK(counted.begin()->second == "3");
    CHECK(find_line(said(proxify, {"steering"}), {"web", counted.begin()->first, "3"}));
}

TEST_CASE("without -b, steering says that it is off, and status that each port is listened on") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(ns, {.config = service("web", "5001", {9001})});
    CHECK(said(proxify, {"steering"}) == "steering is off: proxify runs without -b\n");
    CHECK(json(proxify, {"steering"})["is_on"].text == "false");
    CHECK(json(proxify, {"status"})["listener_port"].kind == Kind::null);
    CHECK(find_line(said(proxify, {"status"}), {"mode", "listening on each port"}));
    CHECK(json(proxify, {"ports"})["ports"].items.size() == 1);
}

TEST_CASE("--watch shows new values again and again, on a terminal on a clear screen") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("script");
    Targets targets(ns);
    auto proxify = Proxify::start(ns, {.config = service("web", "5001", {9001}), .flags = {"-b"}});
    auto count = [](const std::string& text, const std::string& part) {
        int found = 0;
        for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++found;
        return found;
    };
    const std::string clear = "\x1b[H\x1b[2J";
    const std::vector<std::string> watch{proxify_binary(), "status", "--watch=100ms", "--socket",
                                         proxify.socket()};
    std::string line;
    for (const auto& word : watch) line += word + " ";

    TempDir directory;
    const std::string typescript = directory / "typescript";
    {
        Child terminal = Child::start({.argv = {"script", "-qfc", line, typescript}});
        auto screen = [&] {
            return std::filesystem::exists(typescript) ? read_file(typescript) : "";
        };
        REQUIRE(eventually([&] { return count(screen(), clear) >= 2; }));
        Stream open = stay(ns);
        CHECK(eventually([&] { return screen().contains("1 now, 1 so far"); }));
        // What is on the screen is cleared only when there is something new to show.
        CHECK(count(screen(), clear + "proxify") + 1 >= count(screen(), clear));
    }
    Child pipe = Child::start({.argv = watch});
    REQUIRE(eventually([&] { return count(pipe.out(), "so far") >= 2; }));
    CHECK_FALSE(pipe.out().contains('\x1b'));
    CHECK(count(pipe.out(), "\n\nproxify ") >= 1);

    auto as_json = watch;
    as_json.push_back("--json");
    Child lines = Child::start({.argv = as_json});
    REQUIRE(eventually([&] { return count(lines.out(), "\n") >= 3; }));
    for (const auto& object : lines_of(lines.out())) {
        auto parsed = parse_json(object);
        if (object != lines_of(lines.out()).back()) CHECK(parsed);
    }

    // It ends with what it watches.
    CHECK(proxify.stop() == 0);
    CHECK(lines.wait(10s) == 1);
    CHECK(find_line(lines.err(), {"error: cannot ask the proxify at"}));
}

// ---- orders for targets

TEST_CASE("a drained target gets no new session, and the one it has goes on") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    for (const std::vector<std::string>& flags : {std::vector<std::string>{"-b"}, {}}) {
        auto proxify = Proxify::start(
            ns, {.config = two_workers() + service("web", "5001", {9001, 9002}), .flags = flags});
        Stream on_a = stay(ns), on_b = stay(ns);
        CHECK(said(proxify, {"drain", "127.0.0.1:9001"}) ==
              "127.0.0.1:9001 of service web gets no new sessions; it has 1 session\n");
        CHECK(state_of(proxify, "127.0.0.1:9001") == "drained");
        CHECK(answers(ns, 8) == std::map<std::string, int>{{"b", 8}});
        CHECK(
            eventually([&] { return json(proxify, {"sessions"})["sessions"].items.size() == 2; }));
        on_a.finish();
        CHECK(on_a.receive_all().end == End::clean);
        on_b.finish();
        CHECK(on_b.receive_all().end == End::clean);

        CHECK(said(proxify, {"undrain", "web/127.0.0.1:9001"}) ==
              "127.0.0.1:9001 of service web gets new sessions again\n");
        CHECK(answers(ns, 8) == std::map<std::string, int>{{"a", 4}, {"b", 4}});
        CHECK(state_of(proxify, "127.0.0.1:9001") == "up");
    }
}

TEST_CASE("when the last target is drained, clients are refused at once and the command warns") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(ns, {.config = service("web", "5001", {9001}), .flags = {"-b"}});
    Stream open = stay(ns);
    auto text = said(proxify, {"drain", "127.0.0.1:9001"});
    CHECK(find_line(text, {"warning: service web has no target that is up", "refuse"}));
    CHECK(logged(proxify, {"warn", "service web has no target"}));
    CHECK(Stream::dial_error(ns, web_port) == ECONNREFUSED);
    CHECK(json(proxify, {"services"})["services"].items[0]["state"].text == "down");
    CHECK(proxify.ask({"drain", "127.0.0.1:9001"}).exit_code == 0);  // again: the same

    said(proxify, {"undrain", "127.0.0.1:9001"});
    CHECK(answered_by(ns, web_port) == "a");
    open.send("!");
    open.finish();
    CHECK(open.receive_all().end == End::clean);
}

TEST_CASE("orders outlive reloads, until they are taken back") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    const auto config = service("web", "5001", {9001, 9002});
    auto proxify = Proxify::start(ns, {.config = config, .flags = {"-b"}});
    said(proxify, {"drain", "127.0.0.1:9001"});
    proxify.reload(config + service("mail", "5025", {9003}));
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"b", 6}});
    // The target goes, and comes back as what it was.
    proxify.reload(service("web", "5001", {9002}));
    proxify.reload(config);
    CHECK(state_of(proxify, "127.0.0.1:9001") == "drained");
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"b", 6}});
    said(proxify, {"undrain", "127.0.0.1:9001"});
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"a", 3}, {"b", 3}});
}

TEST_CASE("set-weight changes the shares at once, and \"file\" undoes it") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(
        ns, {.config = two_workers() + service("web", "5001", {9001, 9002}), .flags = {"-b"}});
    CHECK(said(proxify, {"set-weight", "127.0.0.1:9001", "3"}) ==
          "127.0.0.1:9001 of service web has weight 3\n");
    CHECK(answers(ns, 16) == std::map<std::string, int>{{"a", 12}, {"b", 4}});
    const auto shown = find(json(proxify, {"targets"})["targets"], "address", "127.0.0.1:9001");
    CHECK(shown["weight"].text == "3");
    CHECK(shown["weight_of_file"].text == "1");
    CHECK(find_line(said(proxify, {"targets"}), {"127.0.0.1:9001", "3 (file 1)"}));

    said(proxify, {"set-weight", "127.0.0.1:9001", "0"});
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"b", 6}});
    // A drain, and its end, leave the weight alone.
    said(proxify, {"set-weight", "127.0.0.1:9001", "256"});
    said(proxify, {"drain", "127.0.0.1:9001"});
    CHECK(answers(ns, 6) == std::map<std::string, int>{{"b", 6}});
    said(proxify, {"undrain", "127.0.0.1:9001"});
    CHECK(find(json(proxify, {"targets"})["targets"], "address", "127.0.0.1:9001")["weight"].text ==
          "256");

    CHECK(said(proxify, {"set-weight", "127.0.0.1:9001", "file"}) ==
          "127.0.0.1:9001 of service web has the weight that the file says\n");
    CHECK(answers(ns, 8) == std::map<std::string, int>{{"a", 4}, {"b", 4}});
    CHECK(find(json(proxify, {"targets"})["targets"], "address", "127.0.0.1:9001")["weight_of_file"]
              .kind == Kind::null);

    for (const char* absurd : {"257", "abc", "", "1.5", "99999999999999999999", " 1", "0x1"}) {
        auto trouble = refused(proxify, {"set-weight", "127.0.0.1:9001", absurd});
        CHECK(find_line(trouble, {"a weight is a number from 0 to 256"}));
    }
    Finished negative = proxify.ask({"set-weight", "127.0.0.1:9001", "-1"});
    CHECK(negative.exit_code == 2);  // as a flag it is wrong usage
    CHECK(proxify.ask({"set-weight", "127.0.0.1:9001", "--", "-1"}).exit_code != 0);
    CHECK(answers(ns, 8) == std::map<std::string, int>{{"a", 4}, {"b", 4}});
}

TEST_CASE("a target of two services is named with its service; one that is unknown is refused") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(
        ns, {.config = service("web", "5001", {9001, 9002}) + service("mail", "5025", {9001}),
             .flags = {"-b"}});
    auto trouble = refused(proxify, {"drain", "127.0.0.1:9001"});
    CHECK(find_line(trouble, {"\"127.0.0.1:9001\" is a target of several services: web, mail"}));
    CHECK(find_line(trouble, {"hint:", "web/127.0.0.1:9001"}));
    CHECK(state_of(proxify, "127.0.0.1:9001") == "up");
    said(proxify, {"drain", "mail/127.0.0.1:9001"});
    CHECK(Stream::dial_error(ns, "127.0.0.1:5025") == ECONNREFUSED);
    CHECK(answers(ns, 4) == std::map<std::string, int>{{"a", 2}, {"b", 2}});

    for (const char* unknown : {"127.0.0.1:9009", "mail/127.0.0.1:9002", "web/", "/", "", "web"}) {
        INFO(unknown);
        auto none = refused(proxify, {"drain", unknown});
        CHECK(find_line(none, {"there is no target"}));
        CHECK(find_line(none, {"hint:", "`proxify targets` lists them"}));
    }
}

// ---- kill

TEST_CASE("kill ends that session and no other, and the log says who did it") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(
        ns, {.config = two_workers() + service("web", "5001", {9001}), .flags = {"-b"}});
    Stream one = stay(ns), two = stay(ns), three = stay(ns);
    auto list = json(proxify, {"sessions"})["sessions"];
    auto id = find(list, "client", two.local().text())["id"].text;
    CHECK(said(proxify, {"kill", id}) == "session " + id + " is ended\n");
    CHECK(two.receive_all().end == End::reset);
    auto ended = proxify.sessions(1);
    CHECK(ended[0].ending == "OD killed");
    CHECK(ended[0].client == two.local().text());

    for (auto* other : {&one, &three}) {
        other->finish();
        CHECK(other->receive_all().end == End::clean);
    }
    for (const std::string& unknown : {id, std::string("18446744073709551615")})
        CHECK(find_line(refused(proxify, {"kill", unknown}), {"there is no session " + unknown}));
    for (const char* no_number : {"abc", "", "1x", "18446744073709551616"})
        CHECK(find_line(refused(proxify, {"kill", no_number}), {"named by its number"}));
}

TEST_CASE("a session that waits in line or for its target is killed there") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    BlackHole hole(ns, "127.0.0.1:9009");
    auto proxify =
        Proxify::start(ns, {.config = service("web", "5001", {9001},
                                              "health = false\nmax_connections = 1\n"
                                              "queue = { timeout = \"1m\" }") +
                                      service("hole", "5002", {9009},
                                              "health = false\ntimeouts = { connect = \"1m\" }"),
                            .flags = {"-b"}});
    Stream open = stay(ns);
    Stream in_line = Stream::dial(ns, web_port);
    Stream connecting = Stream::dial(ns, "127.0.0.1:5002");
    auto id_of = [&](const Stream& client, const std::string& state) {
        std::string id;
        eventually([&] {
            for (const auto& one : json(proxify, {"sessions"})["sessions"].items)
                if (one["client"].text == client.local().text() && one["state"].text == state)
                    id = one["id"].text;
            return !id.empty();
        });
        INFO(state);
        REQUIRE(id != "");
        return id;
    };
    const auto waiting = id_of(in_line, "waiting");
    CHECK(find(json(proxify, {"services"})["services"], "name", "web")["waiting"].text == "1");
    said(proxify, {"kill", waiting});
    CHECK(in_line.receive_all().end == End::reset);
    CHECK(proxify.sessions(1)[0].ending == "OQ killed");
    said(proxify, {"kill", id_of(connecting, "connecting")});
    CHECK(connecting.receive_all().end == End::reset);
    CHECK(proxify.sessions(2)[1].ending == "OC killed");
    open.finish();
    CHECK(open.receive_all().end == End::clean);
}

// ---- reload

TEST_CASE("reload says whether the file was applied, says the same, or is refused and why") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    const auto config = service("web", "5001", {9001});
    auto proxify = Proxify::start(ns, {.config = config, .flags = {"-b"}});
    CHECK(said(proxify, {"reload"}) == "unchanged: nothing to do: the file says what is running\n");

    proxify.reload(service("web", "5001, 5002", {9001}));
    auto status = json(proxify, {"status"})["reload"];
    CHECK(status["state"].text == "applied");
    CHECK(status["number"].text == "1");
    CHECK(find_line(said(proxify, {"status"}), {"reload", "applied: 1 service, 1 port added"}));

    {
        // Whoever asks before the edit was noticed is the one who gets it applied.
        KeepsSaving editor(proxify.config_path(), service("web", "5001, 5003", {9001}));
        CHECK(said(proxify, {"reload"}) == "applied: 1 service, 1 port added, 1 port removed\n");
        CHECK(answered_by(ns, "127.0.0.1:5003") == "a");
        CHECK(json(proxify, {"status"})["reload"]["number"].text == "2");
    }
    REQUIRE(eventually([&] { return reloads_applied(proxify.log()) == 3; }));

    KeepsSaving editor(proxify.config_path(), "[[service]]\nname = \"web\"\nprots = [1]\n");
    Finished broken = proxify.ask({"reload"});
    INFO(broken.out + broken.err);
    CHECK(broken.exit_code == 1);
    CHECK(find_line(broken.out, {"refused: ", "prots"}));
    auto refusal = parse_json(proxify.ask({"reload", "--json"}).out);
    REQUIRE(refusal);
    check_shape(*refusal, {{"number", Kind::number},
                           {"at", Kind::number},
                           {"state", Kind::string},
                           {"text", Kind::string},
                           {"warnings", Kind::array}});
    CHECK((*refusal)["state"].text == "refused");
    CHECK(proxify.ask({"reload", "--json"}).exit_code == 1);
    CHECK(answered_by(ns, web_port) == "a");
}

TEST_CASE("reload --dry-run says what would change, and changes nothing") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify = Proxify::start(
        ns, {.config = service("web", "5001, 5002", {9001, 9002}) + service("mail", "5025", {9003}),
             .flags = {"-b"}});
    CHECK(said(proxify, {"reload", "--dry-run"}) ==
          "nothing would change: the file says what is running\n");
    Stream web_open = stay(ns), mail_open = stay(ns, "127.0.0.1:5025");
    {
        KeepsSaving editor(
            proxify.config_path(),
            "[[service]]\nname = \"web\"\nports = [5001, \"5010-5012\"]\nhealth = false\n"
            "balance = \"random\"\ndeny = [\"198.51.100.0/24\"]\n"
            "targets = [{ address = \"127.0.0.1:9002\", weight = 5 }, \"127.0.0.1:9003\"]\n" +
                service("new", "5030", {9003}) +
                service("dark", "5040", {9004},
                        "[service.health]\ninitial = \"down\"\ninterval = \"1h\""));
        auto text = said(proxify, {"reload", "--dry-run"});
        INFO(text);
        CHECK(text ==
              "- service mail, ports 5025  (its session goes on)\n"
              "- ports 5002 of service web  (open connections stay)\n"
              "+ ports 5010-5012 of service web\n"
              "- target 127.0.0.1:9001 of service web  (it keeps 1 session)\n"
              "~ weight of target 127.0.0.1:9002 of service web: 1 -> 5\n"
              "+ target 127.0.0.1:9003 of service web\n"
              "~ deny of service web: + 198.51.100.0/24  (live sessions stay)\n"
              "~ balance of service web: as usual -> random\n"
              "+ service new, ports 5030\n"
              "+ target 127.0.0.1:9003 of service new\n"
              "+ service dark, ports 5040\n"
              "+ target 127.0.0.1:9004 of service dark\n"
              "warning: service dark would have no target that is up: its clients would be told "
              "so by when_down = \"refuse\"\n");
        auto plan = json(proxify, {"reload", "--dry-run"});
        check_shape(plan, {{"changes", Kind::array}, {"warnings", Kind::array}});
        CHECK(plan["changes"].items.size() == 12);
        for (const auto& change : plan["changes"].items)
            check_shape(change,
                        {{"sign", Kind::string}, {"what", Kind::string}, {"effect", Kind::string}});
    }
    {
        // A file that stands elsewhere.
        TempDir elsewhere;
        const auto path = elsewhere / "new.toml";
        CHECK(find_line(refused(proxify, {"reload", "--dry-run", "-c", path}), {"cannot read"}));
        write_file(path, service("web", "5001, 5002", {9001, 9002}));
        CHECK(said(proxify, {"reload", "--dry-run", "-c", path}) ==
              "- service mail, ports 5025  (its session goes on)\n");
        CHECK(json(proxify, {"reload", "--dry-run", "-c", path})["changes"].items.size() == 1);
        write_file(path, "service = 5\n");
        CHECK(find_line(refused(proxify, {"reload", "--dry-run", "-c", path}), {path + ":1:"}));
        // As large as a file gets.
        std::string many = "[[service]]\nname = \"web\"\nports = [\"1000-4999\"]\ntargets = [";
        for (int i = 0; i < 10'000; ++i)
            many += "\"10.0." + std::to_string(i / 250) + "." + std::to_string(i % 250) + ":80\", ";
        write_file(path, many + "]\n");
        CHECK(lines_of(said(proxify, {"reload", "--dry-run", "-c", path})).size() > 10'000);
    }
    {
        KeepsSaving editor(proxify.config_path(),
                           "[proxify]\nlisten = 8099\n" + service("web", "5001", {9001}));
        auto trouble = refused(proxify, {"reload", "--dry-run"});
        CHECK(find_line(trouble, {"listen changed from 8080 to 8099"}));
        CHECK(find_line(trouble, {"restart proxify"}));
    }
    {
        KeepsSaving editor(proxify.config_path(), "service = 5\n");
        CHECK(find_line(refused(proxify, {"reload", "--dry-run"}), {"service"}));
    }
    CHECK(reloads_applied(proxify.log()) == 0);
    CHECK(json(proxify, {"services"})["services"].items.size() == 2);
    CHECK(Stream::dial_error(ns, "127.0.0.1:5030") == ECONNREFUSED);
    for (auto* open : {&web_open, &mail_open}) {
        open->finish();
        CHECK(open->receive_all().end == End::clean);
    }
}

namespace {

const std::string quick_checks = "[service.health]\ninterval = \"50ms\"\nfall = 1\nrise = 1";

/// Saves the file, and asks for a reload that is taken back when it is no good. Whether the edit is
/// seen before the command comes, or by it, must make no difference.
Finished try_config(const Proxify& proxify, const std::string& config, bool seen_before,
                    const std::string& time = "2s") {
    const int before = reloads_applied(proxify.log());
    replace_file(proxify.config_path(), config);
    if (seen_before) eventually([&] { return reloads_applied(proxify.log()) > before; });
    return proxify.ask({"reload", "--rollback-if-down", time});
}

}  // namespace

TEST_CASE("a reload whose targets are dead is taken back, and traffic works again") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    for (bool seen_before : {true, false})
        for (const std::string& flag : {"-b", ""}) {
            INFO(flag << " " << seen_before);
            auto proxify = Proxify::start(
                ns, {.config = service("web", "5001", {9001}, quick_checks),
                     .flags = flag.empty() ? std::vector<std::string>{} : std::vector{flag}});
            Stream open = stay(ns);
            Finished done =
                try_config(proxify, service("web", "5002", {9009}, quick_checks), seen_before);
            INFO(done.out + done.err + proxify.log());
            CHECK(done.exit_code == 1);
            CHECK(find_line(done.out, {"rolled-back: service web has no target left that is up"}));
            CHECK(logged(proxify, {"error", "reload: service web has no target left",
                                   "the config from before is back"}));
            CHECK(answered_by(ns, web_port) == "a");
            CHECK(Stream::dial_error(ns, "127.0.0.1:5002") == ECONNREFUSED);
            CHECK(json(proxify, {"status"})["reload"]["state"].text == "rolled-back");
            open.finish();
            CHECK(open.receive_all().end == End::clean);

            // The file still says what was no good: saved again, it is not tried again; a good
            // one is taken.
            const int applied = reloads_applied(proxify.log());
            replace_file(proxify.config_path(), service("web", "5002", {9009}, quick_checks));
            proxify.reload(service("web", "5003", {9002}, quick_checks));
            CHECK(answered_by(ns, "127.0.0.1:5003") == "b");
            CHECK(reloads_applied(proxify.log()) == applied + 1);
        }
}

TEST_CASE("a reload whose targets never come up is taken back when its time is up") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    const auto down_at_first = quick_checks + "\ninitial = \"down\"";
    auto proxify = Proxify::start(
        ns, {.config = service("web", "5001", {9001}, down_at_first), .flags = {"-b"}});
    REQUIRE(eventually([&] { return answered_by(ns, web_port) == "a"; }));
    Finished good = try_config(proxify, service("web", "5001", {9002}, down_at_first), false, "1s");
    CHECK(good.exit_code == 0);
    CHECK(answered_by(ns, web_port) == "b");
    Finished bad = try_config(proxify, service("web", "5001", {9009}, down_at_first), false, "1s");
    INFO(bad.out + bad.err + proxify.log());
    CHECK(bad.exit_code == 1);
    CHECK(find_line(bad.out, {"rolled-back: "}));
    REQUIRE(eventually([&] { return answered_by(ns, web_port) == "b"; }));
}

TEST_CASE("a target that is drained while a reload is watched is no loss, and one that dies is") {
    IN_NAMESPACE(ns);
    std::optional<Targets> targets(std::in_place, ns);
    auto proxify = Proxify::start(
        ns, {.config = service("web", "5001", {9001, 9002}, quick_checks), .flags = {"-b"}});
    write_file(proxify.config_path(), service("web", "5001", {9001}, quick_checks));
    auto watched = Child::start({.argv = {proxify_binary(), "reload", "--rollback-if-down", "20s",
                                          "--socket", proxify.socket()}});
    auto state = [&] { return json(proxify, {"status"})["reload"]["state"].text; };
    REQUIRE(eventually([&] { return state() == "watching"; }));
    CHECK(said(proxify, {"drain", "127.0.0.1:9001"}) != "");
    // What has changed is looked at in the turns that these take.
    for (int i = 0; i < 5; ++i) CHECK(state() == "watching");
    CHECK(said(proxify, {"undrain", "127.0.0.1:9001"}) != "");
    targets.reset();
    CHECK(eventually([&] { return state() == "rolled-back"; }));
    CHECK(watched.wait(10s) == 1);
}

TEST_CASE("a reload that loses nothing is kept; so is one that removes a service") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    auto proxify =
        Proxify::start(ns, {.config = service("web", "5001", {9001}, quick_checks) +
                                      service("mail", "5025", {9001, 9002, 9003}, quick_checks),
                            .flags = {"-b"}});
    Finished done = try_config(proxify, service("web", "5001", {9002}, quick_checks), false, "1s");
    INFO(done.out + done.err + proxify.log());
    CHECK(done.exit_code == 0);
    CHECK(find_line(done.out, {"kept: 1 service"}));
    CHECK(logged(proxify, {"reload: kept, after 1s"}));
    CHECK(answered_by(ns, web_port) == "b");
    // Long ago: there is nothing left to watch.
    CHECK(said(proxify, {"reload", "--rollback-if-down", "100ms"}).starts_with("unchanged: "));
}

TEST_CASE("while a reload is watched, others come, are refused, or proxify is told to leave") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    const auto first = service("web", "5001", {9001}, quick_checks);
    auto proxify = Proxify::start(ns, {.config = first, .flags = {"-b"}});
    auto begin = [&](const std::string& config, const std::string& time) {
        replace_file(proxify.config_path(), config);
        Child command = Child::start({.argv = {proxify_binary(), "reload", "--rollback-if-down",
                                               time, "--socket", proxify.socket()}});
        REQUIRE(eventually(
            [&] { return json(proxify, {"status"})["reload"]["state"].text == "watching"; }));
        return command;
    };
    {
        // One that changes nothing, and one that is refused, leave the watch alone.
        Child watch = begin(service("web", "5001", {9002}, quick_checks), "3s");
        CHECK(said(proxify, {"reload"}).starts_with("unchanged: "));
        {
            KeepsSaving editor(proxify.config_path(), "nonsense");
            CHECK(proxify.ask({"reload"}).exit_code == 1);
        }
        CHECK(json(proxify, {"status"})["reload"]["state"].text == "watching");
        CHECK(watch.wait(10s) == 0);
        CHECK(watch.out().starts_with("kept: "));
    }
    {
        // One that takes its place ends it.
        Child watch = begin(service("web", "5001", {9003}, quick_checks), "1m");
        replace_file(proxify.config_path(), first);
        CHECK(watch.wait(10s) == 1);
        CHECK(watch.out().starts_with("replaced: another reload came"));
    }
    Child watch = begin(service("web", "5001", {9002}, quick_checks), "1m");
    const auto asked = now();
    CHECK(proxify.stop() == 0);
    CHECK(now() - asked < 10s);
    CHECK(watch.wait(10s) == 1);
}

// ---- leaving

TEST_CASE("while proxify leaves, sessions are listed and killed, and nothing else is changed") {
    IN_NAMESPACE(ns);
    Targets targets(ns);
    // Several workers: those without a session end at once.
    auto proxify =
        Proxify::start(ns, {.config = "[proxify]\nworkers = 4\ndrain_timeout = \"1m\"\n" +
                                      service("web", "5001", {9001, 9002}),
                            .flags = {"-b"}});
    Stream one = stay(ns);
    proxify.process().signal(SIGTERM);
    REQUIRE(eventually([&] { return json(proxify, {"status"})["state"].text == "leaving"; }));

    auto list = json(proxify, {"sessions"})["sessions"];
    REQUIRE(list.items.size() == 1);
    for (auto order : std::initializer_list<std::vector<std::string>>{
             {"drain", "127.0.0.1:9001"}, {"set-weight", "127.0.0.1:9001", "5"}, {"reload"}})
        CHECK(find_line(refused(proxify, order), {"proxify is leaving"}));
    CHECK(find_line(refused(proxify, {"kill", "999999"}), {"there is no session"}));
    CHECK(proxify.process().is_running());
    said(proxify, {"kill", list.items[0]["id"].text});
    CHECK(one.receive_all().end == End::reset);
    CHECK(proxify.process().wait(10s) == 0);
}
