// SPDX-License-Identifier: Apache-2.0
// TestCgroup: a folder of the host's cgroup2 tree, to attach programs to and to put processes in.
#pragma once

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "base/fd.h"
#include "support/namespace.h"

namespace proxify::test {

class TestCgroup {
  public:
    /// Below the root of the tree, or below another one. Throws Missing where there is no cgroup2.
    static TestCgroup create(const TestCgroup* parent = nullptr);
    TestCgroup(TestCgroup&& other) noexcept;
    /// Takes the folder away, once the processes in it are gone.
    ~TestCgroup();

    const std::string& path() const { return path_; }
    int fd() const { return fd_.get(); }
    uint64_t id() const;

    /// What `work` says in a new process inside of it and of `where`; "lost" when it crashed. It
    /// may use all that the test has, but nothing that it changes is seen by the test.
    std::string run(const Namespace& where, const std::function<std::string()>& work) const;
    /// The same, not waited for: gives the process, which ends with the thread that started it.
    pid_t start(const Namespace& where, const std::function<void()>& work) const;

    /// Words that a Command begins with to start inside of it.
    std::string shell_prefix() const { return "echo 0 > " + path_ + "/cgroup.procs && exec "; }

  private:
    TestCgroup() = default;
    std::string path_;
    Fd fd_;
};

/// A process that ends with its scope.
struct Process {
    explicit Process(pid_t started) : pid(started) {}
    Process(Process&& other) noexcept : pid(std::exchange(other.pid, -1)) {}
    ~Process() {
        if (pid <= 0) return;
        kill(pid, SIGKILL);
        waitpid(pid, nullptr, 0);
    }
    pid_t pid;
};

/// The folder where cgroup2 is mounted; throws Missing where it is not.
std::string cgroup2_folder();

}  // namespace proxify::test
