// SPDX-License-Identifier: Apache-2.0
#include "support/podman.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace proxify::test {

// $1: a directory for everything; $2: the name of a cgroup. What podman and CNI keep in /run,
// /var/lib and /dev/shm they keep in a mount namespace, which goes with its last process.
//
// Containers end by themselves after five minutes, should even this shell be killed.
static constexpr const char* keeper = R"sh(
dir=$1 cgroup=$2
cd "$dir" || exit
export HOME="$dir" CONTAINERS_CONF="$dir/containers.conf"
# What cleans up after `podman exec` would do so after five minutes.
printf '[engine]\nexit_command_delay = 0\n' > containers.conf
for place in /run /var/lib /dev/shm; do mount -t tmpfs none $place; done

# vfs copies what little there is, and works wherever the directory lies.
podman="podman --root $dir/root --runroot $dir/run --tmpdir $dir/tmp --storage-driver vfs
    --network-config-dir $dir/networks --runtime runc --cgroup-manager cgroupfs --events-backend file"
start() { $podman system service --time 0 "unix://$dir/docker.sock" & daemon=$!; }
stop() { kill "$daemon"; wait "$daemon"; rm -f docker.sock; }

mkdir -p image/bin image/tmp networks
cp "$(command -v busybox)" image/bin/busybox
for applet in $(busybox --list); do ln -s busybox "image/bin/$applet"; done
tar -C image -c . | $podman import - localhost/busybox
start
while read -r order; do
    case $order in
        start) start ;;
        stop) stop ;;
    esac
    echo "$order" >> done
done

$podman rm --all --force --time 0
stop
for folder in /sys/fs/cgroup/$cgroup /sys/fs/cgroup/*/$cgroup; do
    for try in 1 2 3 4 5 6 7 8 9 10; do
        [ -d "$folder" ] || break
        find "$folder" -name cgroup.procs -exec cat {} + | xargs -r kill -9
        find "$folder" -depth -type d -exec rmdir {} + && break
        sleep 0.1
    done
done
cd /
rm -rf "$dir"
)sh";

static constexpr Millis patience = 60s;

static std::string cgroup2_mount() {
    std::ifstream mounts("/proc/mounts");
    for (std::string line; std::getline(mounts, line);) {
        std::istringstream words(line);
        std::string device, place, kind;
        words >> device >> place >> kind;
        if (kind == "cgroup2") return place;
    }
    return {};
}

std::optional<std::string> missing_for_containers() {
    static const auto missing = []() -> std::optional<std::string> {
        for (const char* program : {"podman", "runc", "conmon", "busybox", "iptables", "unshare"})
            if (run({.argv = {"sh", "-c", std::string("command -v ") + program}}).exit_code != 0)
                return std::string("needs the program ") + program;
        if (run({.argv = {"sh", "-c", "ldd \"$(command -v busybox)\""}}).exit_code == 0)
            return "needs a static busybox (busybox-static)";
        if (cgroup2_mount().empty()) return "needs a mounted cgroup2";
        return std::nullopt;
    }();
    return missing;
}

static bool is_answering(const std::string& path) {
    auto socket = Fd::adopt(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un where{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(where.sun_path, sizeof where.sun_path - 1);
    return connect(socket.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0;
}

Podman::Podman(const Namespace& where) : socket_(directory_ / "docker.sock") {
    const std::string name = directory_.path().filename();
    cgroup_ = cgroup2_mount() + "/" + name;
    std::filesystem::create_directory(
        cgroup_);  // so that it can be used before there is a container

    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) throw std::runtime_error("pipe2");
    Fd from = Fd::adopt(ends[0]);
    orders_ = Fd::adopt(ends[1]);
    const std::string directory = directory_.path(), log = directory_ / "log";
    // A session of its own: neither Ctrl-C nor the end of a test that takes too long is for it.
    const char* words[] = {"unshare", "--mount",         "sh",         "-c",   keeper,
                           "sh",      directory.c_str(), name.c_str(), nullptr};
    where.run([&] {
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_adddup2(&files, from.get(), STDIN_FILENO);
        posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(),
                                         O_WRONLY | O_CREAT | O_APPEND, 0644);
        posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        const int error = posix_spawnp(&shell_, words[0], &files, &attributes,
                                       const_cast<char**>(words), environ);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&files);
        if (error != 0) throw std::runtime_error(std::string("unshare: ") + std::strerror(error));
    });
    if (!eventually([&] { return is_answering(socket_); }, patience))
        throw std::runtime_error("podman does not start: " + read_file(log));
}

Podman::~Podman() {
    orders_.close();
    if (!eventually([&] { return waitpid(shell_, nullptr, WNOHANG) != 0; }, patience)) {
        kill(shell_, SIGKILL);
        waitpid(shell_, nullptr, 0);
    }
}

std::string Podman::operator()(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"podman", "--remote", "--url", host()});
    auto finished =
        run({.argv = arguments, .environment = {"HOME=" + directory_.path().string()}}, patience);
    if (finished.exit_code == 0) return finished.out;
    std::string line;
    for (const auto& word : arguments) line += word + " ";
    throw std::runtime_error(line + "failed: " + finished.out + finished.err);
}

void Podman::add_network(const std::string& name, const std::vector<std::string>& subnets) const {
    std::vector<std::string> arguments{"network", "create"};
    for (const auto& subnet : subnets) {
        arguments.insert(arguments.end(), {"--subnet", subnet});
        if (subnet.find(':') != subnet.npos) arguments.push_back("--ipv6");
    }
    arguments.push_back(name);
    (*this)(arguments);
}

void Podman::start(const std::string& name, const std::string& network,
                   const std::string& line) const {
    // podman gives containers more of both than a process without CAP_SYS_RESOURCE may have.
    (*this)({"run", "--detach", "--name", name, "--network", network, "--timeout", "300",
             "--cgroup-parent", "/" + std::filesystem::path(cgroup_).filename().string(),
             "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1000:1000", "localhost/busybox",
             "sh", "-c", line});
}

std::string Podman::saying(const std::string& words, int port) {
    const auto file = "/tmp/say" + std::to_string(port);
    return "echo 'echo " + words + "' > " + file + "; nc -ll -p " + std::to_string(port) +
           " -e sh " + file;
}

Finished Podman::inside(const std::string& name, const std::string& line) const {
    return run({.argv = {"podman", "--remote", "--url", host(), "exec", name, "sh", "-c", line},
                .environment = {"HOME=" + directory_.path().string()}},
               patience);
}

void Podman::order(const std::string& line) const {
    std::error_code ignored;
    std::filesystem::remove(directory_ / "done", ignored);
    if (write(orders_.get(), (line + "\n").data(), line.size() + 1) < 0)
        throw std::runtime_error("the shell that keeps podman is gone");
    if (!eventually([&] { return std::filesystem::exists(directory_ / "done"); }, patience))
        throw std::runtime_error("podman does not " + line);
}

void Podman::stop_daemon() const {
    order("stop");
}

void Podman::start_daemon() const {
    order("start");
    if (!eventually([&] { return is_answering(socket_); }, patience))
        throw std::runtime_error("podman does not start again");
}

}  // namespace proxify::test
