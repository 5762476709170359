// SPDX-License-Identifier: Apache-2.0
#include "support/process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <stdexcept>

#include "support/temp_dir.h"

namespace proxify::test {

// What a child prints goes to an anonymous file: it can never fill up and stall the child, and
// nobody has to read along.
static Fd anonymous_file(std::string_view content = {}) {
    auto file = Fd::adopt(memfd_create("proxify-test", MFD_CLOEXEC));
    if (!file) throw std::runtime_error(std::string("memfd_create: ") + std::strerror(errno));
    for (size_t at = 0; at < content.size();) {
        ssize_t count =
            pwrite(file.get(), content.data() + at, content.size() - at, static_cast<off_t>(at));
        if (count <= 0) throw std::runtime_error("cannot write an anonymous file");
        at += static_cast<size_t>(count);
    }
    return file;
}

static std::string text_from(const Fd& file, size_t from) {
    struct stat about{};
    fstat(file.get(), &about);
    const auto size = static_cast<size_t>(about.st_size);
    std::string text(size - std::min(from, size), '\0');
    ssize_t count = pread(file.get(), text.data(), text.size(), static_cast<off_t>(from));
    text.resize(count > 0 ? static_cast<size_t>(count) : 0);
    return text;
}

namespace {

// Everything that happens between fork and exec. The parent may have threads, so nothing here may
// allocate; what it needs was laid out before.
struct Launch {
    std::vector<char*> argv, envp;
    const Command* command;
    int in, out, err;

    [[noreturn]] void stop(const char* at) const {
        const char* why = strerrordesc_np(errno);
        for (const char* part : {"cannot start the child: ", at, ": ", why ? why : "?", "\n"})
            if (write(STDERR_FILENO, part, std::strlen(part)) < 0) break;
        _exit(127);
    }

    /// Answers one system call with EPERM, as the profile of a container does. The number is that
    /// of this machine's own table, the only one that the child will use.
    static bool forbid(int call) {
        sock_filter steps[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        sock_fprog filter{.len = std::size(steps), .filter = steps};
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
    }

    [[noreturn]] void go() const {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in, STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, nullptr);
        ::signal(SIGPIPE, SIG_DFL);

        if (command->inside && !command->inside->enter_in_child()) stop("setns");
        // A connection of the test's that stayed open in a child would never be seen to close.
        close_range(3, ~0u, 0);
        if (!command->mounts.empty()) {
            if (unshare(CLONE_NEWNS) < 0) stop("unshare");
            if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) stop("mount");
            for (const auto& [file, over] : command->mounts)
                if (mount(file.c_str(), over.c_str(), nullptr, MS_BIND, nullptr) < 0)
                    stop(over.c_str());
        }
        if (!command->directory.empty() && chdir(command->directory.c_str()) < 0) stop("chdir");
        if (command->open_files) {
            rlimit limit{*command->open_files, *command->open_files};
            if (setrlimit(RLIMIT_NOFILE, &limit) < 0) stop("setrlimit");
        }
        for (int capability : command->without_capabilities)
            if (prctl(PR_CAPBSET_DROP, capability) < 0) stop("PR_CAPBSET_DROP");
        if (command->user) {
            uid_t user = *command->user;
            if (setgroups(0, nullptr) < 0 || setgid(user) < 0 || setuid(user) < 0) stop("setuid");
            prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of user forgets it
        }
        if (command->forbidden_call && !forbid(*command->forbidden_call)) stop("seccomp");
        execvpe(argv[0], argv.data(), envp.data());
        stop(argv[0]);
    }
};

}  // namespace

Child Child::start(const Command& command) {
    Child child;
    Fd in = anonymous_file(command.input);
    child.out_ = anonymous_file();
    child.err_ = anonymous_file();

    Launch launch{.argv = {},
                  .envp = {},
                  .command = &command,
                  .in = in.get(),
                  .out = child.out_.get(),
                  .err = child.err_.get()};
    for (const auto& word : command.argv) launch.argv.push_back(const_cast<char*>(word.c_str()));
    launch.argv.push_back(nullptr);
    for (const auto& setting : command.environment)
        launch.envp.push_back(const_cast<char*>(setting.c_str()));
    for (char** setting = environ; *setting; ++setting) launch.envp.push_back(*setting);
    launch.envp.push_back(nullptr);

    child.pid_ = fork();
    if (child.pid_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (child.pid_ == 0) launch.go();
    child.pidfd_ = Fd::adopt(static_cast<int>(syscall(SYS_pidfd_open, child.pid_, 0)));
    return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)),
      exit_code_(other.exit_code_) {}

Child::~Child() {
    if (pid_ < 0 || exit_code_) return;
    signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
}

void Child::signal(int number) const {
    if (!exit_code_) kill(pid_, number);
}

std::optional<int> Child::wait(Millis limit) {
    if (exit_code_) return exit_code_;
    pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    for (Moment deadline = now() + limit; poll(&ended, 1, millis_until(deadline)) < 1;)
        if (now() >= deadline) return std::nullopt;
    int status = 0;
    if (waitpid(pid_, &status, 0) != pid_) return std::nullopt;
    exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return exit_code_;
}

std::string Child::out() const {
    return text_from(out_, 0);
}

std::string Child::err(size_t from) const {
    return text_from(err_, from);
}

static std::string proc(pid_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

int Child::open_fds() const {
    namespace fs = std::filesystem;
    return static_cast<int>(
        std::distance(fs::directory_iterator(proc(pid_, "fd")), fs::directory_iterator()));
}

size_t Child::resident_bytes() const {
    unsigned long size = 0, resident = 0;
    if (std::sscanf(read_file(proc(pid_, "statm")).c_str(), "%lu %lu", &size, &resident) != 2)
        throw std::runtime_error("cannot read the child's memory use");
    return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

Millis Child::cpu_time() const {
    // The second field is the program's name, in parentheses, and may contain anything.
    std::string stat = read_file(proc(pid_, "stat"));
    unsigned long user = 0, system = 0;
    if (std::sscanf(stat.c_str() + stat.rfind(')') + 1,
                    " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        throw std::runtime_error("cannot read the child's CPU time");
    return Millis((user + system) * 1000 / static_cast<unsigned long>(sysconf(_SC_CLK_TCK)));
}

Finished run(const Command& command, Millis limit) {
    Child child = Child::start(command);
    auto code = child.wait(limit);
    if (!code) {
        child.signal(SIGKILL);
        code = child.wait(10s);
    }
    return {.exit_code = code.value_or(-1), .out = child.out(), .err = child.err()};
}

Finished run_line(const Namespace& inside, const std::string& line, Millis limit) {
    return run({.argv = {"sh", "-c", line}, .inside = &inside}, limit);
}

}  // namespace proxify::test
