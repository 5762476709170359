// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cli/check.h"
#include "cli/options.h"
#include "report/report.h"
#include "support/catch.h"
#include "support/temp_dir.h"

using namespace proxify;
using cli::Options;
using enum cli::Options::Command;

static Result<Options> parse(const std::vector<std::string>& arguments) {
    std::vector<const char*> argv{"proxify"};
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    return cli::parse_options(static_cast<int>(argv.size()), argv.data());
}

static bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TEST_CASE("a right command line means what it says") {
    struct {
        std::vector<std::string> arguments;
        Options options;
    } rows[] = {
        {{}, {}},
        {{"--"}, {}},
        {{"-b"}, {.steer = true}},
        {{"-b", "-b"}, {.steer = true}},
        {{"-p", "9090"}, {.port = 9090}},
        {{"-p9090"}, {.port = 9090}},
        {{"-p=9090"}, {.port = 9090}},
        {{"-port", "9090"}, {.port = 9090}},
        {{"-port=9090"}, {.port = 9090}},
        {{"--port", "9090"}, {.port = 9090}},
        {{"--port=9090"}, {.port = 9090}},
        {{"-b", "-p", "1"}, {.steer = true, .port = 1}},
        {{"-bp", "65535"}, {.steer = true, .port = 65535}},
        {{"-c", "a.toml"}, {.config_path = "a.toml"}},
        {{"-ca.toml"}, {.config_path = "a.toml"}},
        {{"-c/etc/a.toml"}, {.config_path = "/etc/a.toml"}},
        {{"--config", "a.toml"}, {.config_path = "a.toml"}},
        {{"--config=a.toml"}, {.config_path = "a.toml"}},
        {{"-config=a.toml"}, {.config_path = "a.toml"}},
        {{"-c", "-b"}, {.config_path = "-b"}},
        {{"-c", "-help"}, {.config_path = "-help"}},
        {{"-c", "a b\n\xC3\xA4"}, {.config_path = "a b\n\xC3\xA4"}},
        {{"top"}, {.command = top}},
        {{"top", "--watch=5s"}, {.command = top, .watch = 5s}},
        {{"top", "--socket", "/s"}, {.command = top, .socket = "/s"}},
        {{"check"}, {.command = check}},
        {{"--", "check"}, {.command = check}},
        {{"check", "-c", "a.toml"}, {.command = check, .config_path = "a.toml"}},
        {{"-c", "a.toml", "check", "-b"},
         {.command = check, .steer = true, .config_path = "a.toml"}},
        {{"doctor", "-b", "-p", "80"}, {.command = doctor, .steer = true, .port = 80}},
        {{"--help"}, {.command = help}},
        {{"-h"}, {.command = help}},
        {{"-help"}, {.command = help}},
        {{"help"}, {.command = help}},
        {{"check", "--help"}, {.command = help}},
        {{"--version", "--help"}, {.command = help}},
        {{"--version"}, {.command = version}},
        {{"-version"}, {.command = version}},
        {{"version"}, {.command = version}},
    };
    for (const auto& [arguments, options] : rows) {
        CAPTURE(arguments);
        auto parsed = parse(arguments);
        REQUIRE(parsed);
        CHECK(*parsed == options);
    }
}

TEST_CASE("wrong usage is one message with a hint") {
    struct {
        std::vector<std::string> arguments;
        std::string what, hint;
    } rows[] = {
        {{"-x"}, "unknown flag \"-x\"", "try proxify --help"},
        {{"-bx"}, "unknown flag \"-x\"", "try proxify --help"},
        {{"-b=1"}, "unknown flag \"-b=1\"", "try proxify --help"},
        {{"-"}, "unknown flag \"-\"", "try proxify --help"},
        {{"--"
          "\x1b[31m"},
         "unknown flag \"--\\x1B[31m\"",
         "try proxify --help"},
        {{"--prot", "80"}, "unknown flag \"--prot\"", "did you mean --port?"},
        {{"--confg=a"}, "unknown flag \"--confg=a\"", "did you mean --config?"},
        {{"--hlep"}, "unknown flag \"--hlep\"", "did you mean --help?"},
        {{"-hxe"}, "unknown flag \"-x\"", "try proxify --help"},
        {{"-p"}, "cannot understand the command line", "try proxify --help"},
        {{"--config"}, "cannot understand the command line", "try proxify --help"},
        {{"--help=no"}, "cannot understand the command line", "try proxify --help"},
        {{"-p", "0"},
         "--port: expected a number from 1 to 65535, found \"0\"",
         "try proxify --help"},
        {{"-p", "65536"}, "found \"65536\"", "try proxify --help"},
        {{"-p", "99999999999999999999"}, "found \"99999999999999999999\"", "try proxify --help"},
        {{"-p", "-1"}, "found \"-1\"", "try proxify --help"},
        {{"-p", "-b"}, "found \"-b\"", "try proxify --help"},
        {{"-p", "80x"}, "found \"80x\"", "try proxify --help"},
        {{"-p", ""}, "found \"\"", "try proxify --help"},
        {{"-p="}, "found \"\"", "try proxify --help"},
        {{"-p", "1", "--port", "2"}, "--port is given twice", "try proxify --help"},
        {{"-c", "a", "-c", "b"}, "--config is given twice", "try proxify --help"},
        {{"-c", ""}, "--config names no file", "try proxify --help"},
        {{""}, "unknown command \"\"", "try proxify --help"},
        {{"run"}, "unknown command \"run\"", "try proxify --help"},
        {{"chekc"}, "unknown command \"chekc\"", "did you mean check?"},
        {{"a.toml"}, "unknown command \"a.toml\"", "name the file with -c a.toml"},
        {{"top", "--json"}, "--json means nothing to top", "try proxify --help"},
        {{"check", "a.toml"},
         "check takes no argument, found \"a.toml\"",
         "name the file with -c FILE"},
        {{"doctor", "a.toml"},
         "doctor takes no argument, found \"a.toml\"",
         "name the file with -c FILE"},
        {{"docter"}, "unknown command \"docter\"", "did you mean doctor?"},
        {{"--", "-b"}, "unknown flag \"-b\"", "try proxify --help"},
        {{"-" + std::string(120000, 'x')}, "unknown flag", "try proxify --help"},
        {{"--" + std::string(120000, 'x')}, "unknown flag", "try proxify --help"},
    };
    for (const auto& [arguments, what, hint] : rows) {
        CAPTURE(arguments);
        auto parsed = parse(arguments);
        REQUIRE_FALSE(parsed);
        CAPTURE(parsed.error().text());
        CHECK(contains(parsed.error().text(), what));
        CHECK(contains(parsed.error().hint, hint));
    }
}

TEST_CASE("no arguments at all, not even a program name, is a run") {
    const char* argv[] = {nullptr};
    CHECK(cli::parse_options(0, argv).value() == Options{});
}

TEST_CASE("the help shows -b and -p as people know them") {
    auto help = cli::help_text();
    CHECK(contains(help, "enable bpf steering"));
    CHECK(contains(help, "listener port for bpf steering (default 8080)"));
    CHECK(contains(help, "  check "));
    CHECK(contains(help, "  doctor "));
    CHECK(help.ends_with(".\n"));
    for (auto flag : {"-b ", "-p, --port PORT", "-c, --config FILE", "-h, --help", "--version"})
        CHECK(contains(help, flag));
}

TEST_CASE("the version is one line") {
    auto text = cli::version_text();
    CHECK(text.starts_with("proxify "));
    CHECK(text.find('\n') == text.size() - 1);
}

namespace {
struct Checked {
    int exit_code;
    std::string out, err;
};
}  // namespace

static Checked check_file(const std::string& text, Options options = {}) {
    test::TempDir dir;
    options.config_path = dir / "targets.toml";
    std::ofstream(options.config()) << text;
    std::ostringstream out, err;
    int exit_code = cli::run_check(options, out, err);
    return {exit_code, out.str(), err.str()};
}

TEST_CASE("check prints what would run and ends with 0") {
    auto checked = check_file("service = [{ name = 'web', ports = 80, targets = '10.0.0.1:80' }]");
    CHECK(checked.exit_code == 0);
    CHECK(contains(checked.out, "service web\n  ports     80\n  targets   10.0.0.1:80\n"));
    CHECK(checked.err.empty());
}

TEST_CASE("check says what is wrong and ends with 1") {
    auto checked = check_file("service = []");
    CHECK(checked.exit_code == 1);
    CHECK(checked.out.empty());
    CHECK(checked.err.starts_with("error: "));
    CHECK(checked.err.ends_with("\n"));

    std::ostringstream out, err;
    CHECK(cli::run_check({.config_path = "/nonexistent/targets.toml"}, out, err) == 1);
    CHECK(err.str() ==
          "error: cannot read /nonexistent/targets.toml: No such file or directory\n"
          "  hint: proxify reads ./targets.toml; another file is named with -c FILE\n");
}

TEST_CASE("check --json says the same to machines, with the same exit code") {
    auto good = check_file("service = [{ name = 'web', ports = '80-82', targets = '10.0.0.1:80' }]",
                           {.json = true});
    CHECK(good.exit_code == 0);
    auto said = report::from_json<report::Checked>(good.out);
    REQUIRE(said);
    CHECK(said->is_good);
    CHECK(said->ports == 3);
    CHECK(said->targets == 1);
    CHECK(contains(said->text, "service web\n"));

    auto bad = check_file("service = []", {.json = true});
    CHECK(bad.exit_code == 1);
    CHECK(bad.err.empty());
    said = report::from_json<report::Checked>(bad.out);
    REQUIRE(said);
    CHECK_FALSE(said->is_good);
    CHECK(said->error != "");
}

TEST_CASE("check takes -b and -p into account as a run would") {
    auto file = "service = [{ name = 'web', ports = '8079-8081', targets = '10.0.0.1:80' }]";
    CHECK(check_file(file).exit_code == 0);
    for (uint16_t port : {8079, 8080, 8081}) {
        CHECK(check_file(file, {.port = port}).exit_code == 0);
        auto checked = check_file(file, {.steer = true, .port = port});
        CHECK(checked.exit_code == 1);
        CHECK(contains(checked.err, "which is the listener's own"));
    }
    CHECK(check_file(file, {.steer = true}).exit_code == 1);  // 8080 is the default
    CHECK(check_file(file, {.steer = true, .port = 8078}).exit_code == 0);
    auto checked = check_file(file, {.steer = true, .port = 8082});
    CHECK(checked.exit_code == 0);
    CHECK(contains(checked.out, "port 8082"));
}

// ---- the tables

static std::vector<std::string> as_written(const cli::CommandInfo& command) {
    std::vector<std::string> out;
    if (!command.word.empty()) out.emplace_back(command.word);
    for (size_t i = 0; i < command.count; ++i) out.push_back("x" + std::to_string(i));
    return out;
}

static std::vector<std::string> as_written(const cli::FlagInfo& flag) {
    std::vector<std::string> out{(flag.name.size() > 1 ? "--" : "-") + std::string(flag.name)};
    if (flag.value.empty() || flag.value.starts_with('[')) return out;
    out.emplace_back(flag.value == "PORT"    ? "80"
                     : flag.value == "COUNT" ? "5"
                     : flag.value == "TIME"  ? "5s"
                                             : "x");
    return out;
}

TEST_CASE("every command is read with as many arguments as it takes, and with no others") {
    for (const auto& info : cli::all_commands()) {
        auto words = as_written(info);
        CAPTURE(words);
        auto parsed = parse(words);
        REQUIRE(parsed);
        CHECK(parsed->command == info.command);
        CHECK(parsed->arguments.size() == info.count);
        if (info.word.empty()) continue;
        words.push_back("more");
        CHECK_FALSE(parse(words));
        words.resize(words.size() - 2);
        if (info.count > 0) {
            auto less = parse(words);
            REQUIRE_FALSE(less);
            CHECK(contains(less.error().what, std::string(info.arguments)));
        }
    }
}

TEST_CASE("a flag is read by the commands that it means something to, and by no other") {
    for (const auto& info : cli::all_commands())
        for (const auto& flag : cli::all_flags()) {
            if (flag.name == "help" || flag.name == "version") continue;
            if (info.command == help || info.command == version) continue;
            auto words = as_written(info);
            for (const auto& word : as_written(flag)) words.push_back(word);
            CAPTURE(words);
            auto parsed = parse(words);
            bool known = std::ranges::find(info.flags, flag.name) != info.flags.end();
            CHECK(parsed.has_value() == known);
            if (!parsed) CHECK(contains(parsed.error().what, "means nothing to"));
            // Before the command as well.
            auto first = as_written(flag);
            for (const auto& word : as_written(info)) first.push_back(word);
            CHECK(parse(first).has_value() == known);
        }
}

TEST_CASE("what is asked of a running proxify is read") {
    struct {
        std::vector<std::string> arguments;
        Options options;
    } rows[] = {
        {{"status", "--watch"}, {.command = status, .watch = 1s}},
        {{"status", "--watch=5s"}, {.command = status, .watch = 5s}},
        {{"--watch=100ms", "status"}, {.command = status, .watch = 100ms}},
        {{"status", "-watch=2m", "-json"}, {.command = status, .json = true, .watch = 2min}},
        {{"--json", "status"}, {.command = status, .json = true}},
        {{"targets", "--service", "web"}, {.command = targets, .filters = {{"service", "web"}}}},
        {{"sessions", "--limit=5", "--client", "::1", "--target=a:1", "--service", "s"},
         {.command = sessions,
          .filters = {{"limit", "5"}, {"client", "::1"}, {"target", "a:1"}, {"service", "s"}}}},
        {{"reload", "--dry-run"}, {.command = reload, .dry_run = true}},
        {{"reload", "--rollback-if-down", "10s"}, {.command = reload, .rollback_if_down = 10s}},
        {{"drain", "web/[::1]:80"}, {.command = drain, .arguments = {"web/[::1]:80"}}},
        {{"set-weight", "a", "0"}, {.command = set_weight, .arguments = {"a", "0"}}},
        {{"kill", "7", "--socket", "/x"}, {.command = kill, .arguments = {"7"}, .socket = "/x"}},
    };
    for (const auto& [arguments, options] : rows) {
        CAPTURE(arguments);
        auto parsed = parse(arguments);
        REQUIRE(parsed);
        CHECK(*parsed == options);
    }
    struct {
        std::vector<std::string> arguments;
        std::string what;
    } wrong[] = {
        {{"status", "--watch", "5s"}, "status takes no argument, found \"5s\""},
        {{"status", "--watch=0s"}, "--watch: expected a time from 100ms to 24h"},
        {{"status", "--watch=99ms"}, "--watch: expected a time"},
        {{"status", "--watch=25h"}, "--watch: expected a time"},
        {{"status", "--watch=-1s"}, "--watch: expected a time"},
        {{"status", "--watch=5"}, "--watch: expected a time"},
        {{"status", "--watch="}, "--watch"},
        {{"status", "--watch=1s", "--watch=2s"}, "--watch is given twice"},
        {{"reload", "--rollback-if-down", "soon"}, "--rollback-if-down: expected a time"},
        {{"sessions", "--limit", "many"}, "--limit: expected a number, found \"many\""},
        {{"sessions", "--limit", "-1"}, "--limit: expected a number"},
        {{"sessions", "--limit="}, "--limit"},
        {{"sessions", "--limit", "9999999999"}, "--limit: expected a number"},
        {{"status", "--socket", ""}, "--socket names no file"},
        {{"-b", "--dry-run"}, "--dry-run means nothing to a start"},
        {{"status", "-b"}, "-b means nothing to status"},
    };
    for (const auto& [arguments, what] : wrong) {
        CAPTURE(arguments);
        auto parsed = parse(arguments);
        REQUIRE_FALSE(parsed);
        CHECK(contains(parsed.error().text(), what));
    }
}

TEST_CASE("the help has every command and every flag") {
    auto help = cli::help_text();
    for (const auto& command : cli::all_commands())
        CHECK(contains(help, "\n  " + std::string(command.word)));
    for (const auto& flag : cli::all_flags()) CHECK(contains(help, std::string(flag.name)));
    for (auto line = help.begin(); line != help.end();) {
        auto end = std::find(line, help.end(), '\n');
        CHECK(end - line <= 100);
        line = end + (end != help.end());
    }
}
