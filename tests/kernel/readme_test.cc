// SPDX-License-Identifier: Apache-2.0
// What the README and docs/architecture.md tell people to type and to look for, done as written.
#include <algorithm>
#include <csignal>

#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

/// The line of the README that contains `part`, without prompt and sudo, as it goes into a shell.
std::string command_from_readme(const std::string& part) {
    for (std::string line : lines_of(read_file(source_root() + "/README.md"))) {
        if (!line.starts_with("    $ ") || !line.contains(part)) continue;
        line.erase(0, 6);
        if (size_t comment = line.find("  #"); comment != line.npos) line.erase(comment);
        if (line.starts_with("sudo ")) line.erase(0, 5);
        return line;
    }
    FAIL("no line of the README has \"" << part << "\"");
    return {};
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
    const size_t at = text.find(what);
    if (at == text.npos) FAIL("no \"" << what << "\" in " << text);
    return text.replace(at, what.size(), with);
}

}  // namespace

TEST_CASE("the README's commands do what it says, from start to link",
          "[P-09][P-26][P-27][P-28][P-29]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("nc");
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", echo());
    Server green(ns, "[::1]:9002", echo());
    Server red(ns, "127.0.0.1:9003", echo());

    const std::string start = command_from_readme("./proxify -b -p 8080");
    CHECK(start == "./proxify -b -p 8080 -c targets.toml");
    auto proxify = Proxify::start(ns, {.config = read_file(source_root() + "/targets.toml"),
                                       .flags = {"-b", "-p", "8080", "-c", "targets.toml"}});
    const KernelIds ids = proxify.ids();

    const std::string ask = command_from_readme("nc -N -4 localhost 5001");
    Finished nc = run_line(ns, ask);
    INFO(ask << "\n" << nc.out << nc.err);
    CHECK(nc.out == "hello there general kenobi\n");
    CHECK(nc.exit_code == 0);

    const std::string list = command_from_readme("bpftool map");
    CHECK(list == "bpftool map");
    Finished maps = run_line(ns, list);
    CHECK(find_line(maps.out, {std::to_string(ids.proxy_ports) + ": hash", "name proxy_ports"}));
    CHECK(find_line(maps.out, {std::to_string(ids.proxy_sock) + ": sockmap", "name proxy_sock"}));

    const std::string id = std::to_string(ids.proxy_ports);
    Finished dump = run_line(ns, replaced(command_from_readme("bpftool map dump"), "ID", id));
    INFO(dump.out << dump.err);
    CHECK(dump.exit_code == 0);
    CHECK(find_line(dump.out, {"key: 89 13", "value: 00"}));

    Finished update = run_line(ns, replaced(command_from_readme("bpftool map update"), "ID", id));
    INFO(update.out << update.err);
    CHECK(update.exit_code == 0);
    Finished seven = run_line(ns, command_from_readme("nc -N -4 localhost 7"));
    CHECK(seven.out == "hello there general kenobi\n");

    Finished link = run_line(ns, command_from_readme("bpftool link"));
    CHECK(find_line(link.out,
                    {std::to_string(ids.link) + ": netns", "prog " + std::to_string(ids.program)}));
    CHECK(proxify.stop() == 0);
}

TEST_CASE("the shipped targets.toml runs without -b too, as the README says", "[P-08][P-09]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("nc");
    Server blue(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, {.config = read_file(source_root() + "/targets.toml")});
    Finished nc = run_line(ns, command_from_readme("nc -N -4 localhost 5001"));
    CHECK(nc.out == "hello there general kenobi\n");
}

TEST_CASE("docs/architecture.md calls program, maps and link what bpftool calls them", "[P-41]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    auto proxify = Proxify::start(ns, {.config = R"(
[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:9001"]
)",
                                       .flags = {"-b"}});
    const std::string text = read_file(source_root() + "/docs/architecture.md");
    const KernelIds ids = proxify.ids();

    Finished program = run_line(ns, "bpftool prog show id " + std::to_string(ids.program));
    INFO(program.out);
    CHECK(program.out.contains("proxify_steer"));
    CHECK(text.contains("proxify_steer"));
    CHECK(text.contains("sk_lookup"));
    CHECK(text.contains("netns"));

    // Every map of the program, by its own list.
    const size_t list = program.out.find("map_ids ");
    REQUIRE(list != std::string::npos);
    std::string map_ids = program.out.substr(list + 8);
    map_ids = map_ids.substr(0, map_ids.find_first_of(" \n"));
    std::ranges::replace(map_ids, ',', '\n');
    int named = 0;
    for (const auto& map : lines_of(map_ids)) {
        const std::string shown = run_line(ns, "bpftool map show id " + map).out;
        const size_t at = shown.find("name ");
        REQUIRE(at != std::string::npos);
        const std::string name = shown.substr(at + 5, shown.find(' ', at + 5) - at - 5);
        // Not the compiler's own sections, such as steer.rodata.
        if (name.contains('.')) continue;
        INFO("map " << name);
        CHECK(text.contains("`" + name + "`"));
        ++named;
    }
    CHECK(named >= 3);
}

TEST_CASE("files that docs/architecture.md names exist", "[P-41]") {
    const std::string text = read_file(source_root() + "/docs/architecture.md");
    int found = 0;
    for (const char* folder : {"src/", "bpf/", "tests/"}) {
        const std::string opening = std::string("`") + folder;
        for (size_t at = 0; (at = text.find(opening, at)) != text.npos;) {
            const size_t end = text.find('`', ++at);
            const std::string path = text.substr(at, end - at);
            INFO(path);
            CHECK(std::filesystem::exists(source_root() + "/" + path));
            at = end;
            ++found;
        }
    }
    CHECK(found > 5);
}

TEST_CASE("CI runs what people run, and nothing cleverer", "[P-42]") {
    const std::string ci = read_file(source_root() + "/.ci/run");
    CHECK(ci.contains("exec ./dev test\n"));
    CHECK(read_file(source_root() + "/.github/workflows/ci.yml").contains(".ci/run"));
    CHECK(read_file(source_root() + "/Makefile").contains("./dev"));
}
