// SPDX-License-Identifier: Apache-2.0
// Process: a program of the bench, its children included, from start to end.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace proxify::bench {

using namespace std::chrono_literals;
using Patience = std::chrono::milliseconds;

struct Command {
    std::vector<std::string> words;
    std::vector<int> cores;  ///< where it may run; empty: anywhere
    std::string log;         ///< file for its standard error, and output unless that is read
    bool talks = false;      ///< we read its output and write its input
    std::vector<int> keeps;  ///< descriptors that it inherits under the same numbers
    int network = -1;        ///< network namespace it runs in; negative: ours
    std::string cgroup;      ///< folder of the cgroup it runs in; empty: ours
};

class Process {
  public:
    static Result<Process> start(const Command& command);
    Process(Process&&) noexcept;
    Process& operator=(Process&&) noexcept;
    /// Kills it and all its descendants, if it was not stopped before.
    ~Process();

    int pid() const { return pid_; }
    /// It and its descendants.
    std::vector<int> family() const;
    bool is_alive();

    Result<std::string> read_line(Patience patience);
    void write_line();
    void signal(int number) const;
    /// Waits for its end; fails if that does not come, or is not exit code 0.
    Result<> finish(Patience patience);
    /// SIGTERM, and waits until it and its descendants are gone. Fails if that takes too long.
    Result<> stop(Patience patience = 5s);

  private:
    explicit Process(std::string name) : name_(std::move(name)) {}
    bool reap(bool wait);
    Error error(const std::string& what) const;

    std::string name_;
    std::string log_;
    int pid_ = -1;
    int status_ = 0;
    Fd output_;
    Fd input_;
    std::string unread_;
};

/// What a program and its children hold in memory of their own, in bytes: the proportional share
/// (Pss) of /proc/PID/smaps_rollup, added up.
double user_memory(const std::vector<int>& pids);
/// CPU time so far, in seconds.
double cpu_seconds(const std::vector<int>& pids);
int open_descriptors(int pid);

/// Sleeps, unless interrupted.
Result<> rest(Patience duration);

}  // namespace proxify::bench
