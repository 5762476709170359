// SPDX-License-Identifier: Apache-2.0
// Proxify: the real program, running with a targets.toml of the test's own.
#pragma once

#include <string>
#include <vector>

#include "support/log_lines.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace proxify::test {

struct Setup {
    std::string config;                   ///< the text of targets.toml
    std::vector<std::string> flags = {};  ///< "-b"
    Command command = {};                 ///< limits, user, mounts; the rest is filled in
};

class Proxify {
  public:
    /// Starts it and waits until it says that it is ready; throws with its log when it does not.
    static Proxify start(const Namespace& where, Setup setup);
    /// Runs it to its end, for a start that is to fail.
    static Finished refuse(const Namespace& where, Setup setup);

    /// Ends it if it still runs, and fails the test if a sanitizer or an expect() of its own found
    /// something.
    ~Proxify();
    Proxify(Proxify&&) = default;

    Child& process() { return child_; }
    std::string log() const { return child_.err(); }
    const std::string& config_path() const { return config_path_; }
    KernelIds ids() const;

    /// Its admin socket.
    std::string socket() const { return directory_ / "admin.sock"; }
    /// What `proxify ARGUMENTS`, as an operator types it, says of this one.
    Finished ask(std::vector<std::string> arguments) const;

    /// Writes a new targets.toml over the old one, and waits until it is in force.
    void reload(const std::string& config);
    /// SIGTERM, and the exit code. The drain deadline is 10 s unless the config says otherwise.
    int stop(Millis limit = 15s);
    /// The sessions that have ended, once there are at least `count`.
    std::vector<SessionLine> sessions(size_t count, Millis limit = 10s) const;

  private:
    Proxify(TempDir directory, std::string config_path, Child child)
        : directory_(std::move(directory)),
          config_path_(std::move(config_path)),
          child_(std::move(child)) {}

    TempDir directory_;
    std::string config_path_;
    Child child_;
};

/// The program that was built, and the root of the sources, as full paths.
std::string proxify_binary();
std::string source_root();

/// Fails the running test case if this log says that memory or arithmetic went wrong.
void check_for_bugs(const std::string& log);

}  // namespace proxify::test
