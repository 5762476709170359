// SPDX-License-Identifier: Apache-2.0
// Pipes: kernel pipes for bulk, lent and taken back. Bytes that nobody has to look at go from
// socket to socket through one of them (splice) and never enter user space. A pipe is lent only
// while bytes are in it, so a few serve many sessions; when there is none a session copies, as
// every session does at first.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/gauge.h"
#include "io/ring.h"
#include "io/timers.h"

namespace proxify::io {

class Pipes;

/// A pipe on loan. Goes back empty; with bytes still in it, it is closed.
class Pipe {
  public:
    Pipe() = default;
    Pipe(Pipe&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), ends_(other.ends_), level_(other.level_) {}
    Pipe& operator=(Pipe&&) = delete;
    ~Pipe();

    explicit operator bool() const { return owner_ != nullptr; }
    bool empty() const { return level_ == 0; }
    /// Bytes moved, or -errno; 0 is the end of the stream, or nothing: ask receive() which.
    int fill_from(Handle socket);
    int pour_into(Handle socket);

  private:
    friend class Pipes;
    Pipe(Pipes& owner, PipeEnds ends) : owner_(&owner), ends_(ends) {}
    Pipes* owner_ = nullptr;
    PipeEnds ends_{};
    size_t level_ = 0;  ///< bytes in it
};

class Pipes {
  public:
    Pipes(Ring& ring, Timers& timers) : ring_(ring), timers_(timers) {}
    Pipes(const Pipes&) = delete;
    ~Pipes();

    /// At most so many at a time; 0 for none.
    void set_count_max(size_t count) { count_max_.set(count); }
    bool any_to_lend() const { return !idle_.empty() || count_ < count_max_; }
    /// Empty when none is to be had; that is counted.
    Pipe borrow();

    // From any thread.
    uint64_t times_refused() const { return times_refused_; }
    uint64_t count() const { return count_; }
    uint64_t count_max() const { return count_max_; }
    uint64_t lent() const { return lent_; }

    /// Measured: from 64 to 256 KiB bulk gains by half, beyond that nothing.
    static constexpr size_t pipe_size = 256 * 1024;

  private:
    friend class Pipe;
    struct Tidying : Timer {
        explicit Tidying(Pipes& owner)
            : Timer([](Timer& timer) { static_cast<Tidying&>(timer).pipes.tidy(); }),
              pipes(owner) {}
        Pipes& pipes;
    };
    void give_back(PipeEnds ends);
    void tidy();

    Ring& ring_;
    Timers& timers_;
    Tidying tidying_{*this};
    std::vector<PipeEnds> idle_;  ///< the one used last is lent first: its pages are warm
    size_t spare_ = 0;            ///< so many were never needed since the last tidy()
    Gauge count_;                 ///< open, idle or lent
    Gauge count_max_;
    Gauge lent_;
    Gauge times_refused_;
};

}  // namespace proxify::io
