// SPDX-License-Identifier: Apache-2.0
#include "support/proxify_process.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

#include "support/catch.h"

namespace proxify::test {

std::string proxify_binary() {
    const char* other = std::getenv("PROXIFY_BINARY");
    return other ? other : PROXIFY_BINARY;
}

std::string source_root() {
    return PROXIFY_SOURCE_ROOT;
}

void check_for_bugs(const std::string& log) {
    for (const char* sign : {"Sanitizer", "runtime error:", "proxify: bug:"}) {
        INFO(log);
        CHECK(log.find(sign) == std::string::npos);
    }
}

// A copy of the program in the test's own directory: an ordinary user has to be able to reach it.
static std::string reachable_binary(const TempDir& directory, const Command& command) {
    if (!command.user) return proxify_binary();
    std::filesystem::copy_file(proxify_binary(), directory / "proxify");
    return directory / "proxify";
}

static Child launch(const Namespace& where, const TempDir& directory, Setup setup) {
    Command command = std::move(setup.command);
    command.argv = {reachable_binary(directory, command)};
    command.argv.insert(command.argv.end(), setup.flags.begin(), setup.flags.end());
    // One of its own, for a start: tests run side by side.
    const bool is_command = !setup.flags.empty() && !setup.flags.front().starts_with('-');
    if (!is_command && std::ranges::find(setup.flags, "--socket") == setup.flags.end()) {
        command.argv.push_back("--socket");
        command.argv.push_back(directory / "admin.sock");
    }
    command.inside = &where;
    command.directory = directory.path();
    write_file(directory / "targets.toml", setup.config);
    return Child::start(command);
}

Proxify Proxify::start(const Namespace& where, Setup setup) {
    TempDir directory;
    Child child = launch(where, directory, std::move(setup));
    eventually([&] { return is_ready(child.err()) || !child.is_running(); }, 30s);
    if (!is_ready(child.err()))
        throw std::runtime_error("proxify did not become ready:\n" + child.out() + child.err());
    std::string config_path = directory / "targets.toml";
    return Proxify(std::move(directory), std::move(config_path), std::move(child));
}

Finished Proxify::refuse(const Namespace& where, Setup setup) {
    TempDir directory;
    Child child = launch(where, directory, std::move(setup));
    auto code = child.wait(20s);
    Finished finished{.exit_code = code.value_or(-1), .out = child.out(), .err = child.err()};
    check_for_bugs(finished.err);
    return finished;
}

Finished Proxify::ask(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), proxify_binary());
    arguments.push_back("--socket");
    arguments.push_back(socket());
    return run({.argv = std::move(arguments)});
}

Proxify::~Proxify() {
    if (child_.pid() < 0) return;  // moved from
    // Sessions of a failed test may still be open; the second signal ends those at once.
    child_.signal(SIGTERM);
    if (!child_.wait(500ms)) child_.signal(SIGTERM);
    auto code = child_.wait(20s);
    if (!code) FAIL_CHECK("proxify did not end within 20 s of two SIGTERMs");
    check_for_bugs(log());
}

KernelIds Proxify::ids() const {
    auto ids = kernel_ids(log());
    if (!ids) throw std::runtime_error("no line about steering in the log:\n" + log());
    return *ids;
}

void Proxify::reload(const std::string& config) {
    const int before = reloads_applied(log());
    replace_file(config_path_, config);
    if (!eventually([&] { return reloads_applied(log()) > before; }))
        throw std::runtime_error("the new config was not applied:\n" + log());
}

int Proxify::stop(Millis limit) {
    child_.signal(SIGTERM);
    auto code = child_.wait(limit);
    if (!code) throw std::runtime_error("proxify did not end after SIGTERM:\n" + log());
    return *code;
}

std::vector<SessionLine> Proxify::sessions(size_t count, Millis limit) const {
    std::vector<SessionLine> ended;
    eventually([&] { return (ended = session_lines(log())).size() >= count; }, limit);
    if (ended.size() < count)
        throw std::runtime_error("expected " + std::to_string(count) +
                                 " sessions in the log, found " + std::to_string(ended.size()) +
                                 ":\n" + log());
    return ended;
}

}  // namespace proxify::test
