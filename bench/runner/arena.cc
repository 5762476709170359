// SPDX-License-Identifier: Apache-2.0
#include "runner/arena.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "base/fd.h"
#include "base/format.h"

namespace proxify::bench {

static volatile sig_atomic_t interrupted = 0;

bool is_interrupted() {
    return interrupted != 0;
}
Error interrupted_error() {
    return Error::of("interrupted");
}

static void watch_for_signals() {
    struct sigaction action{};
    action.sa_handler = [](int) { interrupted = 1; };  // without SA_RESTART: waits end early
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);
}

Result<int> in_arena(const std::function<int()>& body) {
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
        return fail(
            Error::from_errno(errno, "cannot make namespaces for the bench", "run it as root"));
    watch_for_signals();
    pid_t child = fork();
    if (child < 0) return fail(Error::from_errno(errno, "cannot fork"));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        // Only our own processes are seen from here on, and no mount of ours by others.
        if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) < 0) {
            perror("cannot mount /proc for the bench");
            _exit(1);
        }
        int code = body();
        fflush(nullptr);
        _exit(code);
    }
    // Ctrl-C reaches the child by itself; a SIGTERM comes to us alone.
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (is_interrupted()) kill(child, SIGTERM);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// ---- the network

static Result<> write_setting(const std::string& path, const std::string& value) {
    std::ofstream file(path);
    file << value << std::flush;
    if (!file)
        return fail(Error::from_errno(errno, format("cannot set {} to \"{}\"", path, value)));
    return {};
}

static Result<> raise_loopback() {
    Fd fd = Fd::adopt(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
    if (ioctl(fd.get(), SIOCSIFFLAGS, &request) < 0)
        return fail(Error::from_errno(errno, "cannot raise the loopback device"));
    return {};
}

Result<> enter_fresh_network(const NetworkOptions& options) {
    if (unshare(CLONE_NEWNET) < 0)
        return fail(Error::from_errno(errno, "cannot make a network namespace"));
    TRY(raise_loopback());
    const std::string ipv4 = "/proc/sys/net/ipv4/";
    if (!options.ephemeral_ports.empty())
        TRY(write_setting(ipv4 + "ip_local_port_range", options.ephemeral_ports));
    TRY(write_setting(ipv4 + "ip_local_reserved_ports", options.reserved_ports));
    // Every kernel has reno. A host's own choice may be bbr, which sends by timers: over loopback
    // they would be what is measured.
    TRY(write_setting(ipv4 + "tcp_congestion_control", "reno"));
    return {};
}

Result<Fd> make_network() {
    // A thread changes its namespace alone, and is gone afterwards.
    Result<Fd> made = Fd();
    std::thread([&] {
        if (auto entered = enter_fresh_network({}); !entered) {
            made = fail(entered.error());
            return;
        }
        made = Fd::adopt(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
        if (!*made) made = fail(Error::from_errno(errno, "cannot open a network namespace"));
    }).join();
    return made;
}

// ---- the cgroup

std::string cgroup2_root() {
    std::ifstream mounts("/proc/self/mounts");
    std::string line;
    while (std::getline(mounts, line)) {
        std::istringstream words(line);
        std::string device, folder, type;
        if (words >> device >> folder >> type && type == "cgroup2") return folder;
    }
    return {};
}

Result<Cgroup> Cgroup::make(const std::string& folder) {
    if (mkdir(folder.c_str(), 0755) < 0)
        return fail(Error::from_errno(errno, "cannot make the cgroup " + folder));
    return Cgroup(folder);
}

Result<> Cgroup::remove() {
    if (folder_.empty()) return {};
    // Who has just ended leaves it a moment later.
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (rmdir(folder_.c_str()) < 0 && errno != ENOENT) {
        if (errno != EBUSY || std::chrono::steady_clock::now() > until)
            return fail(Error::from_errno(errno, "cannot remove the cgroup " + folder_));
        usleep(1000);
    }
    folder_.clear();
    return {};
}

// ---- what /proc tells

static std::map<int, int> parents() {
    std::map<int, int> parent_of;
    DIR* folder = opendir("/proc");
    if (!folder) return parent_of;
    while (dirent* entry = readdir(folder)) {
        int pid = atoi(entry->d_name);
        if (pid <= 1) continue;
        std::ifstream file(format("/proc/{}/stat", pid));
        std::string text((std::istreambuf_iterator<char>(file)), {});
        auto end_of_name = text.rfind(')');
        int parent = 0;
        char state = 0;
        if (end_of_name != text.npos &&
            sscanf(text.c_str() + end_of_name + 1, " %c %d", &state, &parent) == 2)
            parent_of[pid] = parent;
    }
    closedir(folder);
    return parent_of;
}

std::vector<int> processes() {
    std::vector<int> all;
    for (auto [pid, parent] : parents()) all.push_back(pid);
    return all;
}

std::vector<int> descendants(int ancestor) {
    auto parent_of = parents();
    std::vector<int> found{ancestor};
    for (size_t i = 0; i < found.size(); ++i) {
        for (auto [pid, parent] : parent_of) {
            if (parent == found[i]) found.push_back(pid);
        }
    }
    found.erase(found.begin());
    return found;
}

MachineTime machine_time() {
    std::ifstream file("/proc/stat");
    std::string word;
    double user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, soft_irq = 0, stolen = 0;
    file >> word >> user >> nice >> system >> idle >> waiting >> irq >> soft_irq >> stolen;
    auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    return {.busy = (user + nice + system + irq + soft_irq) / ticks, .stolen = stolen / ticks};
}

double slab_bytes() {
    std::ifstream file("/proc/slabinfo");
    std::string line;
    double sum = 0;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::string name;
        double in_use = 0, total = 0, size = 0;
        if (words >> name >> in_use >> total >> size) sum += in_use * size;
    }
    return sum;
}

}  // namespace proxify::bench
