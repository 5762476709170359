// SPDX-License-Identifier: Apache-2.0
#include "runner/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/format.h"
#include "runner/arena.h"

namespace proxify::bench {

using SteadyClock = std::chrono::steady_clock;

static bool enter_cgroup(const std::string& folder) {
    Fd file = Fd::adopt(open((folder + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    return file && write(file.get(), "0", 1) == 1;
}

static void become(const Command& command, int input, int output) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if ((command.network >= 0 && setns(command.network, CLONE_NEWNET) < 0) ||
        (!command.cgroup.empty() && !enter_cgroup(command.cgroup)))
        _exit(126);
    setpgid(0, 0);  // Ctrl-C is for the runner; it stops us in order
    if (!command.cores.empty()) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        for (int core : command.cores) CPU_SET(core, &cores);
        sched_setaffinity(0, sizeof cores, &cores);
    }
    int log = open(command.log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    int nothing = open("/dev/null", O_RDONLY);
    dup2(input >= 0 ? input : nothing, 0);
    dup2(output >= 0 ? output : log, 1);
    dup2(log, 2);
    for (int fd : command.keeps) fcntl(fd, F_SETFD, 0);
    ::signal(SIGPIPE, SIG_DFL);

    std::vector<char*> words;
    for (const auto& word : command.words) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    execvp(words[0], words.data());
    _exit(127);
}

Result<Process> Process::start(const Command& command) {
    Process process(std::filesystem::path(command.words.front()).filename());
    process.log_ = command.log;
    int to_child[2] = {-1, -1}, from_child[2] = {-1, -1};
    if (command.talks && (pipe2(to_child, O_CLOEXEC) < 0 || pipe2(from_child, O_CLOEXEC) < 0))
        return fail(Error::from_errno(errno, "cannot make pipes"));
    Fd child_input = Fd::adopt(to_child[0]), child_output = Fd::adopt(from_child[1]);
    process.input_ = Fd::adopt(to_child[1]);
    process.output_ = Fd::adopt(from_child[0]);

    process.pid_ = fork();
    if (process.pid_ < 0) return fail(Error::from_errno(errno, "cannot fork"));
    if (process.pid_ == 0) {
        become(command, child_input.get(), child_output.get());
    }
    return process;
}

Process::Process(Process&& other) noexcept {
    *this = std::move(other);
}

Process& Process::operator=(Process&& other) noexcept {
    std::swap(name_, other.name_);
    std::swap(log_, other.log_);
    std::swap(pid_, other.pid_);
    std::swap(status_, other.status_);
    std::swap(output_, other.output_);
    std::swap(input_, other.input_);
    std::swap(unread_, other.unread_);
    return *this;
}

Process::~Process() {
    if (pid_ < 0) return;
    for (int pid : family()) kill(pid, SIGKILL);
    reap(true);
}

std::vector<int> Process::family() const {
    if (pid_ < 0) return {};
    auto all = descendants(pid_);
    all.insert(all.begin(), pid_);
    return all;
}

/// True once it has ended.
bool Process::reap(bool wait) {
    if (pid_ < 0) return true;
    pid_t ended;
    do ended = waitpid(pid_, &status_, wait ? 0 : WNOHANG);
    while (ended < 0 && errno == EINTR);
    if (ended == 0) return false;
    pid_ = -1;
    return true;
}

bool Process::is_alive() {
    return !reap(false);
}

Error Process::error(const std::string& what) const {
    std::ifstream file(log_);
    std::string line, last;
    while (std::getline(file, line)) {
        if (!line.empty()) last += (last.empty() ? "" : "\n") + line;
    }
    constexpr size_t told_max = 2000;
    if (last.size() > told_max) last = "..." + last.substr(last.size() - told_max);
    return Error::of(format("{} {}", name_, what), last);
}

Result<std::string> Process::read_line(Patience patience) {
    auto until = SteadyClock::now() + patience;
    for (;;) {
        if (auto end = unread_.find('\n'); end != unread_.npos) {
            auto line = unread_.substr(0, end);
            unread_.erase(0, end + 1);
            return line;
        }
        if (is_interrupted()) return fail(interrupted_error());
        auto left = std::chrono::ceil<Patience>(until - SteadyClock::now());
        if (left <= 0ms) return fail(error("says nothing"));
        pollfd waiting{.fd = output_.get(), .events = POLLIN, .revents = 0};
        if (poll(&waiting, 1, static_cast<int>(left.count())) <= 0) continue;
        char buffer[4096];
        ssize_t got = read(output_.get(), buffer, sizeof buffer);
        if (got <= 0) return fail(error("ended early"));
        unread_.append(buffer, static_cast<size_t>(got));
    }
}

void Process::write_line() {
    [[maybe_unused]] ssize_t written = write(input_.get(), "\n", 1);
}

void Process::signal(int number) const {
    if (pid_ > 0) kill(pid_, number);
}

Result<> Process::finish(Patience patience) {
    auto until = SteadyClock::now() + patience;
    while (!reap(false)) {
        TRY(rest(2ms));
        if (SteadyClock::now() > until) return fail(error("does not end"));
    }
    if (status_ != 0)
        return fail(error(WIFSIGNALED(status_)
                              ? format("was ended by signal {}", WTERMSIG(status_))
                              : format("failed with exit code {}", WEXITSTATUS(status_))));
    return {};
}

Result<> Process::stop(Patience patience) {
    if (pid_ < 0) return {};
    if (reap(false)) return fail(error(format("had ended, status {}", status_)));
    auto all = family();
    kill(pid_, SIGTERM);
    auto until = SteadyClock::now() + patience;
    for (;;) {
        reap(false);
        // Children whose parent is gone are ours to bury: we are the first process here.
        for (int pid : all) {
            if (pid != pid_) waitpid(pid, nullptr, WNOHANG);
        }
        std::erase_if(all, [](int pid) { return kill(pid, 0) < 0; });
        if (pid_ < 0 && all.empty()) return {};
        if (SteadyClock::now() > until) break;
        usleep(1000);
    }
    for (int pid : all) kill(pid, SIGKILL);
    reap(true);
    return fail(error("did not leave after SIGTERM"));
}

// ---- what a process costs

double user_memory(const std::vector<int>& pids) {
    double sum = 0;
    for (int pid : pids) {
        std::ifstream file(format("/proc/{}/smaps_rollup", pid));
        std::string word;
        while (file >> word) {
            double kilobytes = 0;
            if (word == "Pss:" && file >> kilobytes) sum += kilobytes * 1024;
        }
    }
    return sum;
}

double cpu_seconds(const std::vector<int>& pids) {
    double sum = 0;
    for (int pid : pids) {
        clockid_t clock;
        timespec time{};
        if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &time) == 0)
            sum += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
    }
    return sum;
}

int open_descriptors(int pid) {
    std::error_code none;
    int count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator(format("/proc/{}/fd", pid), none))
        ++count;
    return count;
}

Result<> rest(Patience duration) {
    auto until = SteadyClock::now() + duration;
    for (;;) {
        if (is_interrupted()) return fail(interrupted_error());
        auto left = until - SteadyClock::now();
        if (left <= 0ns) return {};
        timespec time{.tv_sec = left / 1s, .tv_nsec = (left % 1s).count()};
        nanosleep(&time, nullptr);
    }
}

}  // namespace proxify::bench
