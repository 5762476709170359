// SPDX-License-Identifier: Apache-2.0
#include "io/host.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace proxify::io {

namespace fs = std::filesystem;

Result<Signals> Signals::open(std::initializer_list<int> numbers) {
    sigset_t set;
    sigemptyset(&set);
    for (int number : numbers) sigaddset(&set, number);
    if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0 || ::signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return fail(Error::from_errno(errno, "cannot block signals"));
    Fd fd = Fd::adopt(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    if (!fd)
        return fail(Error::from_errno(errno, "cannot listen for signals", "raise `ulimit -n`"));
    return Signals(std::move(fd));
}

std::optional<int> Signals::next() {
    signalfd_siginfo info;
    if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
}

Result<FileWatch> FileWatch::open(std::vector<std::string> paths) {
    Fd fd = Fd::adopt(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!fd)
        return fail(Error::from_errno(errno, "cannot watch for changes of " + paths.front(),
                                      "see sysctl fs.inotify.max_user_instances"));
    FileWatch watch(std::move(fd));
    watch.follow(std::move(paths));
    return watch;
}

void FileWatch::follow(std::vector<std::string> paths) {
    paths_ = std::move(paths);
    watch_paths();
}

void FileWatch::watch_paths() {
    watched_.clear();
    is_blind_ = false;
    for (const auto& path : paths_) watch_path(path);
}

/// Watches the directory of the file and, for each symlink on the way, of what it points to.
void FileWatch::watch_path(const fs::path& path) {
    fs::path step = fs::absolute(path).lexically_normal();
    std::error_code ignored;
    // Any part of the path may be a symlink (..data in a mounted ConfigMap is a directory), so
    // each is looked at in turn; at most as many as the kernel would follow.
    for (int links = 0; links < 40; ++links) {
        fs::path so_far;
        bool followed = false;
        for (auto part = step.begin(); part != step.end() && !followed; ++part) {
            fs::path parent = so_far;
            so_far /= *part;
            bool is_last = std::next(part) == step.end();
            bool is_link = fs::is_symlink(so_far, ignored);
            if (!is_link && !is_last) continue;
            int watch = inotify_add_watch(fd_.get(), parent.c_str(),
                                          IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR);
            if (watch >= 0) {
                watched_[watch].directory = parent;
                watched_[watch].names.insert(part->string());
            } else {
                is_blind_ = true;
            }
            if (!is_link) continue;
            fs::path next = fs::read_symlink(so_far, ignored);
            if (next.is_relative()) next = parent / next;
            for (auto rest = std::next(part); rest != step.end(); ++rest) next /= *rest;
            step = next.lexically_normal();
            followed = true;
        }
        if (!followed) return;
    }
}

bool FileWatch::changed() {
    bool concerned = false;
    alignas(inotify_event) char buffer[4096];
    for (;;) {
        ssize_t size = ::read(fd_.get(), buffer, sizeof buffer);
        if (size <= 0) break;
        for (char* at = buffer; at < buffer + size;) {
            auto* event = reinterpret_cast<inotify_event*>(at);
            at += sizeof *event + event->len;
            if (event->mask & IN_Q_OVERFLOW) concerned = true;
            auto watched = watched_.find(event->wd);
            if (watched == watched_.end() || event->len == 0 ||
                !watched->second.names.contains(event->name))
                continue;
            // A file that was only just created is still empty; a link, of either kind, is whole.
            if (event->mask & IN_CREATE) {
                struct stat info{};
                if (::lstat((watched->second.directory / event->name).c_str(), &info) != 0)
                    continue;
                if (!S_ISLNK(info.st_mode) && info.st_nlink < 2) continue;
            }
            concerned = true;
        }
    }
    if (concerned) watch_paths();
    return concerned;
}

namespace {

/// What posix_spawn is told of the state that a child begins in.
struct Beginning {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;

    Beginning() {
        posix_spawnattr_init(&attributes);
        posix_spawn_file_actions_init(&files);
        // We block some signals and ignore SIGPIPE, and both would be inherited.
        sigset_t none, all;
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setpgroup(&attributes, 0);
        posix_spawnattr_setflags(
            &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
        for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
            posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
        // All of ours are close-on-exec; those that we were started with may not be.
        posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    }
    Beginning(const Beginning&) = delete;
    ~Beginning() {
        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&attributes);
    }
};

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (const auto& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
    return pointers;
}

}  // namespace

int Child::start(const std::vector<std::string>& command,
                 const std::vector<std::string>& environment, std::optional<Child>& out) {
    auto arguments = pointers_to(command);
    arguments.push_back(nullptr);
    auto variables = pointers_to(environment);
    for (char** ours = environ; *ours; ++ours) variables.push_back(*ours);
    variables.push_back(nullptr);

    const Beginning beginning;
    pid_t pid = -1;
    if (int error = posix_spawn(&pid, arguments[0], &beginning.files, &beginning.attributes,
                                arguments.data(), variables.data()))
        return error;
    Fd ended = Fd::adopt(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    int error = ended ? 0 : errno;
    Child child(pid, std::move(ended));
    if (error == 0) out.emplace(std::move(child));
    return error;
}

Child::~Child() {
    if (pid_ < 0) return;
    kill();
    reap();
}

void Child::kill() {
    if (pid_ <= 0) return;
    // Until it is reaped the number is its own, and its group's. It may have left that group.
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
}

Child::End Child::reap() {
    // First only a look, so that its group is killed while it is still its own.
    siginfo_t info{};
    int waited;
    do waited = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
    while (waited < 0 && errno == EINTR);
    kill();
    do waited = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED);
    while (waited < 0 && errno == EINTR);
    pid_ = -1;
    if (info.si_code == CLD_EXITED) return {.status = info.si_status, .signal = 0};
    return {.status = 0, .signal = info.si_status};
}

size_t raise_fd_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        rlimit raised{limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    return limit.rlim_cur;
}

size_t count_cores() {
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
    return static_cast<size_t>(std::max(CPU_COUNT(&cores), 1));
}

size_t count_open_fds() {
    size_t count = 0;
    std::error_code error;
    for (auto it = fs::directory_iterator("/proc/self/fd", error); !error && it != fs::end(it);
         it.increment(error))
        ++count;
    return count > 0 ? count - 1 : 16;  // less the directory itself
}

}  // namespace proxify::io
