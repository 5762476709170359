// SPDX-License-Identifier: Apache-2.0
// TestCgroup: a folder of the host's cgroup2 tree, to attach programs to and to put processes in.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

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

/// The folder where cgroup2 is mounted; throws Missing where it is not.
std::string cgroup2_folder();

}  // namespace proxify::test
