// SPDX-License-Identifier: Apache-2.0
// Child: a program under test, started in a namespace, with everything it prints kept in memory.
// It never outlives the object, nor the thread that started it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "support/eventually.h"
#include "support/namespace.h"

namespace proxify::test {

struct Command {
    std::vector<std::string> argv = {};
    const Namespace* inside = nullptr;  ///< nullptr: where the test itself is
    std::string directory = {};
    std::string input = {};                      ///< all of its standard input
    std::vector<std::string> environment = {};   ///< "NAME=value", on top of the test's own
    std::optional<unsigned> open_files = {};     ///< `ulimit -n`
    std::optional<uid_t> user = {};              ///< and group, with no others
    std::vector<int> without_capabilities = {};  ///< taken away for good, as CAP_BPF
    std::optional<int> forbidden_call = {};      ///< seccomp answers it with EPERM, as SYS_bpf
    std::vector<std::pair<std::string, std::string>> mounts = {};  ///< {file, shown in place of}
};

/// How a program that ran to its end did.
struct Finished {
    int exit_code = -1;  ///< 128 and the signal's number when one ended it, as a shell says it
    std::string out, err;
};

class Child {
  public:
    static Child start(const Command& command);
    ~Child();
    Child(Child&& other) noexcept;
    Child& operator=(Child&&) = delete;

    pid_t pid() const { return pid_; }
    void signal(int number) const;
    /// Its exit code, once it has ended; nullopt when it still runs after `limit`.
    std::optional<int> wait(Millis limit);
    bool is_running() { return !wait(0ms); }

    std::string out() const;
    /// All of it, or what came after so many bytes.
    std::string err(size_t from = 0) const;

    int open_fds() const;
    size_t resident_bytes() const;
    /// User and system time of all its threads so far.
    Millis cpu_time() const;

  private:
    Child() = default;
    pid_t pid_ = -1;
    Fd pidfd_, out_, err_;
    std::optional<int> exit_code_;
};

/// Runs a program to its end. One that takes longer than `limit` is killed, which shows as 137.
Finished run(const Command& command, Millis limit = 20s);

/// The same for a line as a person types it, in a shell.
Finished run_line(const Namespace& inside, const std::string& line, Millis limit = 20s);

}  // namespace proxify::test
