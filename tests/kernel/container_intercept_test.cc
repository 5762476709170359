// SPDX-License-Identifier: Apache-2.0
// `proxify intercept` among real containers: a target, a proxy, and others, each of which answers
// with its name.
#include <csignal>
#include <filesystem>
#include <functional>
#include <thread>

#include "containers/containers.h"
#include "support/kernel_test.h"
#include "support/log_lines.h"
#include "support/podman.h"

using namespace proxify;
using namespace proxify::test;

namespace {

struct Scene {
    explicit Scene(const Namespace& where) : host(where), podman(where) {
        podman.add_network("net", {"203.0.113.0/24"});
        std::filesystem::create_directory(clients);
    }

    /// Answers at these ports; gives its address.
    std::string start(const std::string& name, const std::vector<int>& ports) const {
        std::string line = "sleep 300";
        for (int port : ports) line = Podman::saying(name, port) + " & " + line;
        podman.start(name, "net", line);
        const auto address = address_of(name);
        for (int port : ports)
            REQUIRE(eventually([&] { return from_outside(address, port) == name; }));
        return address;
    }
    std::string address_of(const std::string& name) const {
        return containers::find(name, podman.host()).value().addresses.at(0).text();
    }

    /// Who answers a program of this host: one that is not in the cgroup in question.
    std::string from_outside(const std::string& ip, int port) const {
        return first_line(run_line(host, dialling(ip, port)));
    }
    /// One that is in it.
    std::string from_host(const std::string& ip, int port, int seconds = 5) const {
        return first_line(run_line(
            host, "echo 0 > " + clients + "/cgroup.procs; " + dialling(ip, port, seconds)));
    }
    /// One in a container, which is no child of the container's first process.
    std::string from_container(const std::string& name, const std::string& ip, int port) const {
        return first_line(podman.inside(name, dialling(ip, port)));
    }

    static std::string dialling(const std::string& ip, int port, int seconds = 5) {
        return "busybox nc -w " + std::to_string(seconds) + " " + ip + " " + std::to_string(port) +
               " < /dev/null";
    }
    static std::string first_line(const Finished& finished) {
        const auto line = finished.out.substr(0, finished.out.find('\n'));
        return line.empty() ? "nobody" : line;
    }

    const Namespace& host;
    Podman podman;
    const std::string clients = podman.cgroup() + "/clients";
};

Command intercept(const Scene& scene, const TempDir& directory,
                  std::vector<std::string> arguments) {
    Command command{.argv = {proxify_binary(), "intercept", "--cgroup", scene.podman.cgroup(),
                             "--socket", directory / "admin.sock"},
                    .inside = &scene.host,
                    .environment = {"DOCKER_HOST=" + scene.podman.host()}};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    return command;
}

/// `proxify intercept ARGUMENTS`, for as long as this lives.
class Interception {
  public:
    Interception(const Scene& scene, std::vector<std::string> arguments)
        : Interception([&](const TempDir& directory) {
              return intercept(scene, directory, std::move(arguments));
          }) {}
    /// The same by a file.
    Interception(const Scene& scene, const std::string& file)
        : Interception([&](const TempDir& directory) {
              return Command{
                  .argv = {proxify_binary(), "-c", file, "--socket", directory / "admin.sock"},
                  .inside = &scene.host,
                  .environment = {"DOCKER_HOST=" + scene.podman.host()}};
          }) {}
    explicit Interception(const std::function<Command(const TempDir&)>& command)
        : child_(Child::start(command(directory_))) {
        eventually([&] { return is_ready(log()) || !child_.is_running(); }, 30s);
        INFO(log());
        REQUIRE(is_ready(log()));
    }
    ~Interception() {
        child_.signal(SIGTERM);
        CHECK(child_.wait(20s) == 0);
        check_for_bugs(log());
    }
    std::string log() const { return child_.err(); }
    /// A line with all of this in it comes, or has come already.
    bool says(const std::vector<std::string>& parts) const {
        return eventually([&] {
            for (const auto& line : lines_of(log())) {
                size_t found = 0;
                for (const auto& part : parts) found += line.find(part) != line.npos;
                if (found == parts.size()) return true;
            }
            return false;
        });
    }

  private:
    TempDir directory_;
    Child child_;
};

}  // namespace

TEST_CASE("what goes to a container reaches the proxy instead [B-02] [B-06] [B-07] [B-08] [B-25]") {
    IN_NAMESPACE(host);
    NEEDS_CONTAINERS();
    Scene scene(host);
    const auto target = scene.start("target-server", {80, 81});
    const auto other = scene.start("other", {80});
    const auto proxy = scene.start("proxy", {8888});
    scene.start("client", {});
    // A proxy that goes on to the target, in a process of its own for each client.
    scene.podman({"exec", "--detach", "proxy", "sh", "-c",
                  Podman::saying("proxy to $(" + Scene::dialling(target, 81) + ")", 9999)});
    REQUIRE(
        eventually([&] { return scene.from_outside(proxy, 9999) == "proxy to target-server"; }));

    CHECK(scene.from_host(target, 80) == "target-server");
    {
        INFO("any port");
        Interception running(
            scene, {"--container", "target-server", "--proxy", proxy + ":8888", "--show-events"});
        CHECK(scene.from_host(target, 80) == "proxy");
        CHECK(scene.from_host(target, 81) == "proxy");
        CHECK(scene.from_host(target, 7) == "proxy");  // where nobody listens
        CHECK(scene.from_container("client", target, 80) == "proxy");
        CHECK(scene.from_host(other, 80) == "other");
        CHECK(scene.from_host(proxy, 8888) == "proxy");
        CHECK(scene.from_outside(target, 80) == "target-server");  // not in the cgroup
        CHECK(running.says({"original_dst=" + target + ":81", "sent_to=" + proxy + ":8888",
                            "container=target-server"}));
        INFO(running.log());
        CHECK(running.log().find("original_dst=" + other) == std::string::npos);
    }
    CHECK(scene.from_host(target, 80) == "target-server");
    {
        INFO("what the proxy itself dials is left alone");
        Interception running(scene, {"--container", "target-server", "--proxy", proxy + ":9999"});
        CHECK(scene.from_host(target, 80) == "proxy to target-server");
        CHECK(scene.from_container("client", target, 81) == "proxy to target-server");
    }
    {
        INFO("one port");
        Interception running(scene,
                             {"--container", "target-server:80", "--proxy", proxy + ":8888"});
        CHECK(scene.from_host(target, 80) == "proxy");
        CHECK(scene.from_host(target, 81) == "target-server");
    }
    {
        INFO("no proxy: nothing is redirected, everything is told");
        Interception running(scene, {"--container", "target-server", "--show-events"});
        CHECK(scene.from_host(target, 80) == "target-server");
        CHECK(scene.from_container("client", target, 81) == "target-server");
        CHECK(scene.from_host(other, 80) == "other");
        CHECK(running.says({"original_dst=" + target + ":80", "seen", "container=target-server"}));
        CHECK(running.says({"original_dst=" + target + ":81", "seen", "from=\"container "}));
        INFO(running.log());
        CHECK(running.log().find("original_dst=" + other) == std::string::npos);
    }
}

TEST_CASE("what a container's processes dial is intercepted, and nobody else's [B-16] [B-24]") {
    IN_NAMESPACE(host);
    NEEDS_CONTAINERS();
    Scene scene(host);
    const auto target = scene.start("target-server", {80});
    const auto proxy = scene.start("proxy", {8888});
    scene.start("client", {});
    scene.start("other", {});

    Interception running(
        scene, {"--from-container", "client", "--proxy", proxy + ":8888", "--show-events"});
    CHECK(scene.from_container("client", target, 80) == "proxy");
    // However far below the container's first process.
    CHECK(Scene::first_line(scene.podman.inside(
              "client", "sh -c 'sh -c \"" + Scene::dialling(target, 80) + "; true\"; true'")) ==
          "proxy");
    CHECK(scene.from_container("other", target, 80) == "target-server");
    CHECK(scene.from_host(target, 80) == "target-server");
    CHECK(running.says({"from=client", "original_dst=" + target + ":80", "sent_to=" + proxy}));

    // In its next life it has another process, and a new cgroup in the place of the old.
    scene.podman({"restart", "--time", "0", "client"});
    CHECK(eventually([&] { return scene.from_container("client", target, 80) == "proxy"; }));
    CHECK(scene.from_container("other", target, 80) == "target-server");
}

TEST_CASE("a container that changes is followed while it is intercepted [B-26]") {
    IN_NAMESPACE(host);
    NEEDS_CONTAINERS();
    Scene scene(host);
    scene.podman.add_network("second", {"198.51.100.0/24"});
    const auto target = scene.start("target-server", {80});
    const auto proxy = scene.start("proxy", {8888});

    Interception running(
        scene, {"--container", "target-server", "--proxy", proxy + ":8888", "--show-events"});
    CHECK(scene.from_host(target, 80) == "proxy");

    scene.podman({"network", "connect", "second", "target-server"});
    CHECK(eventually([&] { return scene.from_host("198.51.100.2", 80) == "proxy"; }));
    CHECK(scene.from_host(target, 80) == "proxy");
    CHECK(running.says({"container target-server: runs at 198.51.100.2, " + target}));

    scene.podman({"network", "disconnect", "net", "target-server"});
    // Its former address is nobody's, and may be another's soon.
    CHECK(eventually([&] { return scene.from_host(target, 80, 1) == "nobody"; }));
    CHECK(scene.from_host("198.51.100.2", 80) == "proxy");

    // A daemon that is updated takes nothing away.
    scene.podman.stop_daemon();
    CHECK(running.says({"cannot ask the Docker API"}));
    CHECK(scene.from_host("198.51.100.2", 80) == "proxy");
    scene.podman.start_daemon();

    scene.podman({"stop", "--time", "0", "target-server"});
    CHECK(running.says({"\"target-server\" is not running"}));
    CHECK(eventually([&] { return scene.from_host("198.51.100.2", 80, 1) == "nobody"; }));
    scene.podman({"start", "target-server"});
    CHECK(eventually(
        [&] { return scene.from_host(scene.address_of("target-server"), 80) == "proxy"; }));
}

TEST_CASE("as a user containers are followed with the socket's group, and its lack is said once") {
    IN_NAMESPACE(host);
    NEEDS_CONTAINERS();
    Scene scene(host);
    const std::filesystem::path socket = scene.podman.socket();
    TempDir directory;
    for (const auto& folder : {socket.parent_path(), directory.path()})
        std::filesystem::permissions(folder, std::filesystem::perms(0755));
    REQUIRE(run({.argv = {"chown", "root:daemon", socket.string()}}).exit_code == 0);
    std::filesystem::permissions(socket, std::filesystem::perms(0660));
    for (const std::string group : {"", "group = \"daemon\"\n"}) {
        INFO(group);
        const std::string name = group.empty() ? "first" : "second";
        scene.start(name, {});
        const std::string file = directory / "targets.toml";
        write_file(file, "[proxify]\nuser = \"nobody\"\n" + group +
                             "[[capture]]\ntype = \"connect\"\nservice = \"outbound\"\n" +
                             "cgroup = \"" + scene.podman.cgroup() + "\"\ncontainers = [\"" + name +
                             "\"]\n[[service]]\nname = \"outbound\"\n" +
                             "targets = [\"original\"]\nhealth = false\n");
        Interception running(scene, file);
        CHECK(running.says({"container " + name + ": runs"}));
        scene.podman({"stop", "--time", "0", name});
        const std::string refusal = "Permission denied; where proxify has a `user`";
        if (group.empty())
            CHECK(running.says({"container " + name + ": cannot ask", refusal}));
        else
            CHECK(running.says({"container " + name + ": ", "is not running"}));
        std::this_thread::sleep_for(1s);
        INFO(running.log());
        CHECK(count_lines(running.log(), {refusal}) == (group.empty() ? 1 : 0));
    }
}

TEST_CASE("what cannot be intercepted is said in a sentence [B-05] [B-23]") {
    IN_NAMESPACE(host);
    NEEDS_CONTAINERS();
    Scene scene(host);
    TempDir directory;
    scene.start("target-server", {});
    scene.podman.start("halted", "net", "exit 0");
    scene.podman.start("hosted", "host", "sleep 300");
    auto trouble = [&](std::vector<std::string> arguments, const std::string& docker_host) {
        auto command = intercept(scene, directory, std::move(arguments));
        if (!docker_host.empty()) command.environment = {"DOCKER_HOST=" + docker_host};
        const auto finished = run(command);
        check_for_bugs(finished.err);
        return std::to_string(finished.exit_code) + " " + finished.err;
    };
    struct {
        std::vector<std::string> arguments;
        std::string docker_host;
        int exit_code;
        std::string says;
    } rows[] = {
        {{"--container", "nope"}, "", 1, "there is no container \"nope\""},
        {{"--from-container", "nope"}, "", 1, "there is no container \"nope\""},
        {{"--container", "halted"}, "", 1, "not run"},
        {{"--container", "hosted"}, "", 1, "\"hosted\" has no address of its own"},
        {{"--container", "target-server"},
         "unix:///nowhere.sock",
         1,
         "cannot ask the Docker API at /nowhere.sock: No such file or directory"},
        {{"--container", "target-server"},
         "tcp://127.0.0.1:2375",
         1,
         "tcp://127.0.0.1:2375 is not supported"},
        {{"--container", "target-server", "--runtime", "containerd"},
         "",
         2,
         "containerd is not supported yet"},
        {{"--container", "target-server", "--runtime", "other"}, "", 2, "podman"},
    };
    REQUIRE(eventually(
        [&] { return !containers::find("halted", scene.podman.host()).value().running; }));
    for (const auto& row : rows) {
        const auto said = trouble(row.arguments, row.docker_host);
        INFO(said);
        CHECK(said.starts_with(std::to_string(row.exit_code) + " error: "));
        CHECK(said.find(row.says) != std::string::npos);
    }
}
