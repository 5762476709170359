// SPDX-License-Identifier: Apache-2.0
// The command line as a person meets it: the right words, the right exit code, and nothing half
// done after a mistake.
#include <linux/capability.h>

#include <csignal>

#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

constexpr auto one_service = R"(
[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:9001"]
)";

/// Runs proxify where the test is, as an ordinary user if that can be chosen, in `directory`.
Finished run_proxify(const TempDir& directory, std::vector<std::string> arguments) {
    Command command{.argv = {proxify_binary()}, .directory = directory.path()};
    if (geteuid() == 0) {
        std::filesystem::copy_file(proxify_binary(), directory / "the-program",
                                   std::filesystem::copy_options::skip_existing);
        command.argv = {directory / "the-program"};
        command.user = nobody;
    }
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    Finished finished = run(command);
    check_for_bugs(finished.err);
    return finished;
}

Finished check_config(const std::string& text) {
    TempDir directory;
    write_file(directory / "targets.toml", text);
    return run_proxify(directory, {"check"});
}

}  // namespace

TEST_CASE("the program is one file: copied elsewhere, it steers", "[P-01]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    TempDir elsewhere;
    std::filesystem::copy_file(proxify_binary(), elsewhere / "proxify");
    write_file(elsewhere / "targets.toml", one_service);

    Child copy = Child::start({.argv = {elsewhere / "proxify", "-b", "-c", "targets.toml"},
                               .inside = &ns,
                               .directory = elsewhere.path()});
    REQUIRE(eventually([&] { return is_ready(copy.err()) || !copy.is_running(); }));
    INFO(copy.err());
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
    copy.signal(SIGTERM);
    CHECK(copy.wait(15s) == 0);
}

TEST_CASE("it needs no library that a plain Debian lacks", "[P-01]") {
    NEEDS_PROGRAM("ldd");
    Finished ldd = run({.argv = {"ldd", proxify_binary()}});
    REQUIRE(ldd.exit_code == 0);
    std::string others;
    for (const auto& line : lines_of(ldd.out)) {
        // What dpkg, apt and ip themselves are linked with.
        bool is_plain = false;
        for (const char* plain : {"linux-vdso", "ld-linux", "libc.so", "libm.so", "libstdc++.so",
                                  "libgcc_s.so", "libresolv.so", "libelf.so", "libz.so"})
            is_plain |= line.contains(plain);
        if (!is_plain) others += line + "\n";
    }
    CHECK(others == "");
}

TEST_CASE("--help names -b and -p in an empty directory, without privileges", "[P-02]") {
    TempDir empty;
    Finished help = run_proxify(empty, {"--help"});
    INFO(help.out + help.err);
    CHECK(help.exit_code == 0);
    CHECK(find_line(help.out, {"-b", "enable bpf steering"}));
    CHECK(find_line(help.out, {"-p", "listener port for bpf steering (default 8080)"}));
    CHECK(help.err.empty());
}

TEST_CASE("wrong usage is one message with a hint and exit code 2", "[P-03]") {
    struct Row {
        std::vector<std::string> arguments;
        int exit_code;
    };
    const Row rows[] = {
        {{"--help"}, 0},
        {{"--version"}, 0},
        {{"--frobnicate"}, 2},
        {{"-x"}, 2},
        {{"-p"}, 2},
        {{"-p", "zero"}, 2},
        {{"-p", "0"}, 2},
        {{"-p", "65536"}, 2},
        {{"-p", "-1"}, 2},
        {{"-p", "80 80"}, 2},
        {{"-c"}, 2},
        {{"chekc"}, 2},
        {{"check", "too", "much"}, 2},
        {{"-b", "targets.toml"}, 2},
        {{"check", "-c", "does-not-exist.toml"}, 1},
    };
    TempDir directory;
    for (const Row& row : rows) {
        Finished finished = run_proxify(directory, row.arguments);
        std::string line;
        for (const auto& argument : row.arguments) line += " " + argument;
        INFO("proxify" + line + "\n" + finished.out + finished.err);
        CHECK(finished.exit_code == row.exit_code);
        if (row.exit_code == 2) {
            CHECK(count_lines(finished.err, {"error:"}) == 1);
            CHECK(find_line(finished.err, {"hint:"}));
            CHECK(finished.out.empty());
        }
    }
}

TEST_CASE("./targets.toml is read, and -c names another file", "[P-04]") {
    TempDir directory;
    write_file(directory / "targets.toml", one_service);
    write_file(directory / "other.toml", R"(
[[service]]
name    = "other"
ports   = [5002]
targets = ["127.0.0.1:9002"]
)");
    Finished here = run_proxify(directory, {"check"});
    INFO(here.out + here.err);
    CHECK(here.exit_code == 0);
    CHECK(find_line(here.out, {"web"}));
    CHECK(here.out.contains("5001"));

    Finished other = run_proxify(directory, {"check", "-c", "other.toml"});
    CHECK(other.exit_code == 0);
    CHECK(find_line(other.out, {"other"}));
    CHECK_FALSE(other.out.contains("5001"));
}

TEST_CASE("a missing file is named", "[P-05]") {
    TempDir empty;
    for (const auto& arguments : {std::vector<std::string>{}, {"check"}, {"-c", "targets.toml"}}) {
        Finished finished = run_proxify(empty, arguments);
        INFO(finished.err);
        CHECK(finished.exit_code == 1);
        CHECK(finished.err.contains("targets.toml"));
        CHECK(finished.err.contains("No such file"));
    }
}

TEST_CASE("an invalid file is refused with its line and column, and nothing is applied", "[P-05]") {
    IN_NAMESPACE(ns);
    for (const char* flag : {"-b", "--"}) {
        std::vector<std::string> flags;
        if (flag == std::string("-b")) flags.push_back(flag);
        Finished refused = Proxify::refuse(ns, {.config = std::string(one_service) + R"(
[[service]]
name    = "db"
ports   = "many"
targets = ["127.0.0.1:9002"]
)",
                                                .flags = flags});
        INFO(refused.err);
        CHECK(refused.exit_code == 1);
        CHECK(refused.err.contains("targets.toml:9:"));
        CHECK(refused.err.contains("expected"));
        CHECK(listening(ns).empty());
    }
}

TEST_CASE("a port that is claimed twice is refused, and both places are named", "[P-06]") {
    SECTION("in two services") {
        Finished finished = check_config(std::string(one_service) + R"(
[[service]]
name    = "db"
ports   = ["4990-5010"]
targets = ["127.0.0.1:9002"]
)");
        INFO(finished.err);
        CHECK(finished.exit_code == 1);
        CHECK(finished.err.contains("5001"));
        CHECK(finished.err.contains("\"web\""));
        CHECK(finished.err.contains("targets.toml:9:12"));
        CHECK(finished.err.contains("4:12"));
    }
    SECTION("in one service") {
        Finished finished = check_config(R"(
[[service]]
name    = "web"
ports   = [
  5001,
  "5000-5100",
]
targets = ["127.0.0.1:9001"]
)");
        INFO(finished.err);
        CHECK(finished.exit_code == 1);
        CHECK(finished.err.contains("5001"));
        CHECK(finished.err.contains("targets.toml:6:3"));
        CHECK(finished.err.contains("5:3"));
    }
}

TEST_CASE("each kind of bad value has a clear error of its own", "[P-07]") {
    struct Row {
        const char* what;
        const char* ports;
        const char* targets;
        const char* more;
        std::vector<std::string> said;  ///< all of these; nothing: the file is good
    };
    const Row rows[] = {
        {"good", "[1, 65535]", R"(["127.0.0.1:1", "[::1]:65535", "db.internal:80"])", "", {}},
        {"ports that follow the client's",
         "[5001]",
         R"(["127.0.0.1:*", "127.0.0.2:+1000"])",
         "",
         {}},
        {"port 0", "[0]", R"(["127.0.0.1:9001"])", "", {"65535", "0"}},
        {"port 65536", "[65536]", R"(["127.0.0.1:9001"])", "", {"65535", "65536"}},
        {"a negative port", "[-1]", R"(["127.0.0.1:9001"])", "", {"-1"}},
        {"an inverted range", "[\"5100-5000\"]", R"(["127.0.0.1:9001"])", "", {"5100-5000"}},
        {"half a range", "[\"5100-\"]", R"(["127.0.0.1:9001"])", "", {"5100-"}},
        {"no targets", "[5001]", "[]", "", {"target"}},
        {"a target without a port", "[5001]", R"(["127.0.0.1"])", "", {"127.0.0.1", "port"}},
        {"a target's port 0", "[5001]", R"(["127.0.0.1:0"])", "", {"127.0.0.1:0"}},
        {"a sum beyond 65535", "[65000]", R"(["127.0.0.1:+1000"])", "", {"+1000", "65535"}},
        {"an IPv6 target without brackets", "[5001]", R"(["::1:9001"])", "", {"::1:9001", "["}},
        {"a target of a wrong type", "[5001]", "[9001]", "", {"9001"}},
        {"an unknown key", "[5001]", R"(["127.0.0.1:9001"])", "tires = 2", {"tires", "tries"}},
        {"a wrong type", "[5001]", R"(["127.0.0.1:9001"])", "tries = \"two\"", {"tries", "two"}},
        {"a bad duration",
         "[5001]",
         R"(["127.0.0.1:9001"])",
         "timeouts = { idle = \"5 parsecs\" }",
         {"idle", "5 parsecs"}},
        {"a duration without a unit",
         "[5001]",
         R"(["127.0.0.1:9001"])",
         "timeouts = { idle = 5 }",
         {"idle", "5"}},
    };
    for (const Row& row : rows) {
        Finished finished =
            check_config(std::string("[[service]]\nname = \"web\"\nports = ") + row.ports +
                         "\ntargets = " + row.targets + "\n" + row.more + "\n");
        INFO(row.what << "\n" << finished.out << finished.err);
        CHECK(finished.exit_code == (row.said.empty() ? 0 : 1));
        for (const auto& words : row.said) CHECK(finished.err.contains(words));
        if (!row.said.empty()) CHECK(finished.err.contains("targets.toml:"));
    }
}

TEST_CASE("a file that is not TOML, not text or endless is refused with its place", "[P-05]") {
    for (const std::string& text : {std::string("this is not toml"), std::string("[[service]\n"),
                                    std::string("\xFF\xFE\x00\x01", 4),
                                    "x = " + std::string(100'000, '['), std::string("a = \"")}) {
        Finished finished = check_config(text);
        INFO(finished.err);
        CHECK(finished.exit_code == 1);
        CHECK(finished.err.contains("targets.toml"));
    }
}

TEST_CASE("check says what would run, without privileges and without running it", "[P-04]") {
    Finished finished = check_config(one_service);
    INFO(finished.out + finished.err);
    CHECK(finished.exit_code == 0);
    CHECK(finished.out.contains("web"));
    CHECK(finished.out.contains("5001"));
    CHECK(finished.out.contains("127.0.0.1:9001"));
}

TEST_CASE("-b says which capability is missing", "[P-34]") {
    IN_NAMESPACE(ns);
    struct Row {
        const char* what;
        Command command;
        std::vector<std::string> named, not_named;
    };
    // In the kernel CAP_SYS_ADMIN stands in for either, so it has to go too.
    const Row rows[] = {
        {"an ordinary user", {.user = nobody}, {"CAP_BPF", "CAP_NET_ADMIN"}, {}},
        {"no CAP_NET_ADMIN",
         {.without_capabilities = {CAP_NET_ADMIN, CAP_SYS_ADMIN}},
         {"CAP_NET_ADMIN"},
         {"CAP_BPF"}},
        {"no CAP_BPF",
         {.without_capabilities = {CAP_BPF, CAP_SYS_ADMIN}},
         {"CAP_BPF"},
         {"CAP_NET_ADMIN"}},
    };
    for (const Row& row : rows) {
        Finished refused =
            Proxify::refuse(ns, {.config = one_service, .flags = {"-b"}, .command = row.command});
        INFO(row.what << "\n" << refused.err);
        CHECK(refused.exit_code == 1);
        const auto first = lines_of(refused.err).empty() ? "" : lines_of(refused.err).front();
        for (const auto& capability : row.named) CHECK(refused.err.contains(capability));
        for (const auto& capability : row.not_named) CHECK_FALSE(first.contains(capability));
        CHECK(find_line(refused.err, {"hint:"}));
        CHECK(listening(ns).empty());
    }
}

TEST_CASE("-b works without CAP_SYS_RESOURCE", "[P-34]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = one_service,
                                       .flags = {"-b"},
                                       .command = {.without_capabilities = {CAP_SYS_RESOURCE}}});
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
}

TEST_CASE("a busy listener port is named", "[P-35]") {
    IN_NAMESPACE(ns);
    Server other(ns, "127.0.0.1:8080", answer("other"));
    Finished refused = Proxify::refuse(ns, {.config = one_service, .flags = {"-b"}});
    INFO(refused.err);
    CHECK(refused.exit_code == 1);
    CHECK(refused.err.contains("8080"));
    CHECK(refused.err.contains("in use"));
    CHECK(answered_by(ns, "127.0.0.1:8080") == "other");
    CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
}

TEST_CASE("a busy service port is named, and no other is held", "[P-35]") {
    IN_NAMESPACE(ns);
    Server other(ns, "127.0.0.1:5002", answer("other"));
    Finished refused = Proxify::refuse(ns, {.config = R"(
[[service]]
name    = "web"
ports   = ["5001-5003"]
targets = ["127.0.0.1:9001"]
)"});
    INFO(refused.err);
    CHECK(refused.exit_code == 1);
    CHECK(refused.err.contains("5002"));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
}

TEST_CASE("a second proxify in the namespace is refused by name", "[P-35]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    SECTION("with -b, at another listener port: told the first one's link") {
        auto first = Proxify::start(ns, {.config = one_service, .flags = {"-b"}});
        Finished second =
            Proxify::refuse(ns, {.config = one_service, .flags = {"-b", "-p", "8081"}});
        INFO(second.err);
        CHECK(second.exit_code == 1);
        CHECK(second.err.contains("another proxify"));
        CHECK(second.err.contains("link id " + std::to_string(first.ids().link)));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
    }
    SECTION("without -b: told the port") {
        auto first = Proxify::start(ns, {.config = one_service});
        Finished second = Proxify::refuse(ns, {.config = one_service});
        INFO(second.err);
        CHECK(second.exit_code == 1);
        CHECK(second.err.contains("5001"));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
    }
}

TEST_CASE("in two namespaces, two of them do not meet", "[P-35]") {
    IN_NAMESPACE(ns);
    Namespace other_ns = new_namespace();
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Server green(other_ns, "127.0.0.1:9001", answer("green"));
    auto first = Proxify::start(ns, {.config = one_service, .flags = {"-b"}});
    auto second = Proxify::start(other_ns, {.config = one_service, .flags = {"-b"}});
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
    CHECK(answered_by(other_ns, "127.0.0.1:5001") == "green");
}
