// SPDX-License-Identifier: Apache-2.0
#include "support/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "support/eventually.h"

namespace proxify::test {

std::string cgroup2_folder() {
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);) {
        std::istringstream words(line);
        std::string device, folder, type;
        words >> device >> folder >> type;
        if (type == "cgroup2") return folder;
    }
    throw Missing("needs a cgroup2 tree, and none is mounted");
}

TestCgroup TestCgroup::create(const TestCgroup* parent) {
    static std::atomic<int> number = 0;
    TestCgroup made;
    made.path_ = (parent ? parent->path_ : cgroup2_folder()) + "/proxify-test-" +
                 std::to_string(getpid()) + "-" + std::to_string(++number);
    if (mkdir(made.path_.c_str(), 0755) != 0)
        throw Missing("needs a cgroup of its own, and mkdir " + made.path_ +
                      " says: " + std::strerror(errno));
    made.fd_ = Fd::adopt(open(made.path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return made;
}

TestCgroup::TestCgroup(TestCgroup&& other) noexcept
    : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)) {}

TestCgroup::~TestCgroup() {
    if (!path_.empty()) eventually([&] { return rmdir(path_.c_str()) == 0 || errno == ENOENT; });
}

uint64_t TestCgroup::id() const {
    struct stat about{};
    fstat(fd_.get(), &about);
    return about.st_ino;
}

static bool enter(const std::string& path) {
    auto file = Fd::adopt(open((path + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    return file && write(file.get(), "0", 1) == 1;
}

pid_t TestCgroup::start(const Namespace& where, const std::function<void()>& work) const {
    const pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
        if (enter(path_) && where.enter_in_child()) work();
    } catch (...) {
        _exit(1);
    }
    _exit(0);
}

std::string TestCgroup::run(const Namespace& where,
                            const std::function<std::string()>& work) const {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    auto out = Fd::adopt(ends[0]), in = Fd::adopt(ends[1]);
    const pid_t child = start(where, [&] {
        std::string said;
        try {
            said = work();
        } catch (const std::exception& error) {
            said = error.what();
        }
        if (write(in.get(), said.data(), said.size()) < 0) _exit(1);
    });
    in.close();
    std::string said;
    char buffer[4096];
    for (ssize_t size; (size = read(out.get(), buffer, sizeof buffer)) > 0;)
        said.append(buffer, static_cast<size_t>(size));
    int status = 0;
    waitpid(child, &status, 0);
    return status == 0 ? said : "lost";
}

}  // namespace proxify::test
