// SPDX-License-Identifier: Apache-2.0
// Real containers, asked for at podman's socket.
#include "containers/containers.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <mutex>
#include <sstream>

#include "containers/follower.h"
#include "support/kernel_test.h"
#include "support/podman.h"

using namespace proxify;
using namespace proxify::test;
using containers::Container;
using containers::Follower;
using containers::News;

namespace {

std::string addresses_of(const Container& container) {
    std::string text;
    for (const auto& ip : container.addresses) text += (text.empty() ? "" : " ") + ip.text();
    return text;
}

/// What was heard last of each.
struct Heard {
    void take(const std::vector<News>& news) {
        std::lock_guard guard(lock);
        for (const auto& entry : news) last[entry.name] = entry;
    }
    std::string about(const std::string& name) const {
        std::lock_guard guard(lock);
        const auto found = last.find(name);
        if (found == last.end()) return "nothing";
        const auto& [ignored, container, error] = found->second;
        std::string text = container ? addresses_of(*container) : "none";
        return text + (error ? " ! " + error->what : "");
    }
    int pid_of(const std::string& name) const {
        std::lock_guard guard(lock);
        const auto found = last.find(name);
        return found == last.end() || !found->second.container ? 0 : found->second.container->pid;
    }

    mutable std::mutex lock;
    std::map<std::string, News> last;
};

}  // namespace

TEST_CASE("a container is found with its addresses in all networks, and its process [B-05]") {
    IN_NAMESPACE(host);
    NEEDS_CONTAINERS();
    Podman podman(host);
    podman.add_network("one", {"203.0.113.0/24", "2001:db8:1::/64"});
    podman.add_network("two", {"198.51.100.0/24"});
    podman.start("web", "one,two", "sleep 300");
    podman.start("hosted", "host", "sleep 300");
    podman.start("halted", "one", "exit 0");

    auto web = containers::find("web", podman.host());
    REQUIRE(web);
    CHECK(web->running);
    CHECK(addresses_of(*web) == "198.51.100.2 203.0.113.2 2001:db8:1::2");
    CHECK(containers::find(web->id, podman.host()).value() == *web);
    CHECK(containers::find(web->id.substr(0, 12), podman.host()).value() == *web);
    CHECK_FALSE(containers::find(web->id.substr(0, 6), podman.host()));
    // Its process is where its cgroup says.
    CHECK(read_file("/proc/" + std::to_string(web->pid) + "/cgroup")
              .find("0::/" + std::filesystem::path(podman.cgroup()).filename().string() +
                    "/libpod-" + web->id) != std::string::npos);

    auto hosted = containers::find("hosted", podman.host());
    REQUIRE(hosted);
    CHECK(hosted->running);
    CHECK(hosted->addresses.empty());

    CHECK(eventually([&] {
        auto halted = containers::find("halted", podman.host());
        return halted && !halted->running && halted->addresses.empty() && halted->pid == 0;
    }));
    auto none = containers::find("nobody", podman.host());
    REQUIRE_FALSE(none);
    CHECK(none.error().what == "there is no container \"nobody\"");
}

TEST_CASE("a container is followed through its whole life, and past its daemon's [B-26]") {
    IN_NAMESPACE(host);
    NEEDS_CONTAINERS();
    Podman podman(host);
    podman.add_network("one", {"203.0.113.0/24"});
    podman.add_network("two", {"198.51.100.0/24"});
    Heard heard;
    Follower follower({"web"}, podman.host(),
                      [&](const std::vector<News>& news) { heard.take(news); });
    auto becomes = [&](const std::string& text) {
        const bool did = eventually([&] { return heard.about("web") == text; });
        CHECK(heard.about("web") == text);
        return did;
    };
    REQUIRE(becomes("none ! there is no container \"web\""));
    podman.start("web", "one", "sleep 300");
    REQUIRE(becomes("203.0.113.2"));
    podman({"network", "connect", "two", "web"});
    REQUIRE(becomes("198.51.100.2 203.0.113.2"));
    podman({"network", "disconnect", "one", "web"});
    REQUIRE(becomes("198.51.100.2"));

    const int pid = heard.pid_of("web");
    podman({"restart", "--time", "0", "web"});
    REQUIRE(eventually([&] { return heard.pid_of("web") > 0 && heard.pid_of("web") != pid; }));
    podman({"stop", "--time", "0", "web"});
    REQUIRE(becomes(" ! container \"web\" is not running"));
    podman({"start", "web"});
    REQUIRE(eventually([&] { return heard.about("web").starts_with("198.51.100."); }));

    const auto before = heard.about("web");
    podman.stop_daemon();
    REQUIRE(eventually([&] { return heard.about("web").starts_with(before + " ! cannot ask"); }));
    podman.start_daemon();
    REQUIRE(becomes(before));

    podman({"rename", "web", "old"});
    REQUIRE(becomes("none ! there is no container \"web\""));
    podman({"rename", "old", "web"});
    REQUIRE(becomes(before));
    podman({"rm", "--force", "--time", "0", "web"});
    REQUIRE(becomes("none ! there is no container \"web\""));
}

TEST_CASE("nothing is left of containers, however a test ends") {
    IN_NAMESPACE(host);
    NEEDS_CONTAINERS();
    // Whoever has the directory in its command line; and a container's own process.
    auto is_gone = [](const std::string& cgroup, const std::string& directory, int pid) {
        const auto who = run({.argv = {"pgrep", "-f", "--", directory}});
        return who.out.empty() && kill(pid, 0) < 0 && !std::filesystem::exists(cgroup) &&
               !std::filesystem::exists(directory);
    };
    std::string cgroup, directory;
    int pid = 0;
    {
        Podman podman(host);
        podman.start("web", "host", "sleep 300");
        cgroup = podman.cgroup();
        directory = std::filesystem::path(podman.socket()).parent_path();
        pid = containers::find("web", podman.host()).value().pid;
        REQUIRE_FALSE(is_gone(cgroup, directory, pid));
    }
    CHECK(is_gone(cgroup, directory, pid));

    // The same in a process that is killed.
    TempDir notes;
    const pid_t test = fork();
    if (test == 0) {
        try {
            Podman podman(host);
            podman.start("web", "host", "sleep 300");
            pid = containers::find("web", podman.host()).value().pid;
            replace_file(notes / "who",
                         podman.cgroup() + " " + podman.socket() + " " + std::to_string(pid));
        } catch (...) {
            _exit(1);
        }
        for (;;) pause();
    }
    REQUIRE(eventually([&] { return std::filesystem::exists(notes / "who"); }, 60s));
    std::istringstream(read_file(notes / "who")) >> cgroup >> directory >> pid;
    directory = std::filesystem::path(directory).parent_path();
    REQUIRE_FALSE(is_gone(cgroup, directory, pid));
    kill(test, SIGKILL);
    waitpid(test, nullptr, 0);
    CHECK(eventually([&] { return is_gone(cgroup, directory, pid); }, 60s));
}
