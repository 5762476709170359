// SPDX-License-Identifier: Apache-2.0
// What the control thread hears from the host beside sockets: signals, changes of a file, and the
// ends of programs that it started; and the host's limit on descriptors. Not part of the seam: a
// simulation has no host.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/ring.h"

namespace proxify::io {

/// Signals as something to read. Made before any other thread is, so that every thread has them
/// blocked. SIGPIPE is ignored: a send to a peer that is gone is an error number, not a death.
class Signals {
  public:
    static Result<Signals> open(std::initializer_list<int> numbers);
    Handle handle() const { return static_cast<Handle>(fd_.get()); }
    /// The next signal that came, without waiting.
    std::optional<int> next();

  private:
    explicit Signals(Fd fd) : fd_(std::move(fd)) {}
    Fd fd_;
};

/// Notices that one of some files may have other content, however it was edited: in place, by
/// rename, or by switching a symlink on the way to it. It watches directories, because an editor
/// that renames leaves a watch on the file itself behind on the old one.
class FileWatch {
  public:
    static Result<FileWatch> open(std::vector<std::string> paths);
    /// From now on these.
    void follow(std::vector<std::string> paths);
    Handle handle() const { return static_cast<Handle>(fd_.get()); }
    /// Reads what came in; whether any of it concerns a file. A file that is being written in
    /// place concerns us when it is closed, not before.
    bool changed();
    /// Some directory on the way cannot be watched: changes may go unnoticed.
    bool is_blind() const { return is_blind_; }

  private:
    explicit FileWatch(Fd fd) : fd_(std::move(fd)) {}
    void watch_paths();
    void watch_path(const std::filesystem::path& path);

    Fd fd_;
    std::vector<std::string> paths_;
    struct Watched {
        std::filesystem::path directory;
        std::set<std::string> names;  ///< those in it that are on the way to a file
    };
    std::map<int, Watched> watched_;  ///< by inotify's number for the directory
    bool is_blind_ = false;
};

/// A program that runs beside us, in a process group of its own. It has none of our descriptors,
/// signals as a shell would hand them over, and /dev/null for its three streams.
class Child {
  public:
    /// `command` is a full path and its arguments; `environment` ("NAME=value") is added to ours.
    /// Gives 0, or the errno of why nothing was started.
    static int start(const std::vector<std::string>& command,
                     const std::vector<std::string>& environment, std::optional<Child>& out);
    Child(Child&& other) noexcept
        : pid_(std::exchange(other.pid_, -1)), ended_(std::move(other.ended_)) {}
    /// Kills it if it still runs.
    ~Child();

    /// May be read from when it has ended.
    Handle ended() const { return static_cast<Handle>(ended_.get()); }
    /// It, and what it has started that is still in the process group it began with.
    void kill();

    struct End {
        int status = 0;  ///< what it gave to exit()
        int signal = 0;  ///< which ended it, or 0
    };
    /// Once it has ended. What it has left behind in its process group ends with it.
    End reap();

  private:
    Child(int pid, Fd ended) : pid_(pid), ended_(std::move(ended)) {}
    int pid_ = -1;
    Fd ended_;  ///< a pidfd
};

/// Raises the limit on descriptors as far as this user may, and gives it.
size_t raise_fd_limit();
/// How many cores this process may run on.
size_t count_cores();
/// How many descriptors the process has now.
size_t count_open_fds();

/// The number behind a handle, for kernel/, which puts a listener into a BPF map.
inline int native(Handle handle) {
    return static_cast<int>(handle);
}

}  // namespace proxify::io
