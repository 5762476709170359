// SPDX-License-Identifier: Apache-2.0
// Worker: one thread with one loop, its listeners and the sessions they accept. Others talk to it
// by message (Loop::post); it shares nothing with them but atomic counters and snapshots.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/gauge.h"
#include "capture/arrival.h"
#include "io/listener.h"
#include "io/loop.h"
#include "routing/snapshot.h"
#include "session/session.h"
#include "stats/worker.h"
#include "telemetry/log.h"

namespace proxify::worker {

/// How much of the process's descriptors a worker may use.
struct Shares {
    size_t sessions_max = 1000;  ///< beyond it clients wait in the kernel's accept queue
    size_t pipes_max = 64;  ///< for bulk; each takes two descriptors and up to 256 KiB while in use
};

struct Options {
    uint64_t number = 0;  ///< what operators know it by
    Shares shares;
    std::atomic<uint64_t>& sessions_so_far;  ///< of all workers: sessions are numbered by it
    dial::Guard* guard = nullptr;
    /// Whether a port is in proxy_ports because somebody put it there by hand. Asked for
    /// retired ports only.
    std::function<bool(uint16_t port)> is_added_by_hand = [](uint16_t) { return false; };
    /// Called on the worker's thread.
    std::function<void(const routing::Service&, balance::Target&, balance::Trouble, uint32_t)>
        on_failing_target = {};
    std::optional<uint16_t> uncounted_port = {};  ///< see session::Surroundings
    capture::Origins* origins = nullptr;          ///< may be null
    tunnel::Id instance = {};                     ///< see session::Surroundings
};

class Worker {
  public:
    Worker(io::Ring ring, telemetry::Journal& log, Options options,
           std::shared_ptr<const routing::Snapshot> snapshot);
    ~Worker();

    /// Runs the loop on a thread of its own until drain() has ended everything; `on_end` is the
    /// last thing that thread does.
    void start(std::function<void()> on_end);
    void join();
    io::Loop& loop() { return loop_; }
    uint64_t number() const { return options_.number; }
    /// How it stands, but for the queues of its listeners. From any thread.
    stats::Worker stats() const;

    // Everything below runs on the worker's thread: post() it.

    void use(std::shared_ptr<const routing::Snapshot> snapshot) { snapshot_ = std::move(snapshot); }
    void use(Shares shares);
    void listen(io::Handle listener, capture::Door door);
    /// Serves what is in the queues of the listeners on `port`, then closes them.
    void stop_listening(uint16_t port);
    /// Stops accepting from one listener on `port` and leaves its queue as it is: `on_released`
    /// says that another worker may listen.
    void release(uint16_t port, io::Handle listener, std::move_only_function<void()> on_released);
    /// Without a listener: the loop ends with the last session.
    void retire() { loop_.stop(); }

    /// Resets every session that is joined to this target.
    void end_sessions_of(const balance::Target& target);

    /// Shows every session that is here to `visitor`, the newest first, a few in each turn of the
    /// loop: those with many are not kept waiting. The visitor may interrupt a session; it is
    /// destroyed when it has seen all, or when this worker ends before.
    void visit(std::function<void(session::Session&)> visitor);

    /// Accepts no more; sessions may finish until `deadline` has passed, then they are reset.
    /// The loop ends with the last of them.
    void drain(Duration deadline);

    size_t session_count() const { return session_count_; }

  private:
    struct Door {
        Door(io::Loop& loop, io::Handle handle, capture::Door door)
            : listener(loop, handle), room(loop), kind(door) {}
        io::Listener listener;
        io::Signal room;  ///< raised when a session ended while this door waited
        capture::Door kind;
        std::move_only_function<void()> on_released;
    };

    io::Task<> serve(std::shared_ptr<Door> door);
    io::Task<> hold(std::unique_ptr<session::Session> session);
    /// A walk along the list of sessions, which may end on the way.
    struct Visit {
        std::function<void(session::Session&)> visitor;
        session::Session* next = nullptr;
    };
    io::Task<> walk(std::unique_ptr<Visit> visit);
    io::Task<> end_drain(Duration deadline);
    void interrupt_each(Ending why, const balance::Target* only_of);
    uint64_t take_id() {
        return options_.sessions_so_far.fetch_add(1, std::memory_order_relaxed) + 1;
    }
    /// Nobody is here, and nobody can come: with a door, somebody may be in its queue.
    bool is_idle() const { return session_count_ == 0 && doors_open_ == 0; }

    io::Loop loop_;
    telemetry::Journal& log_;
    Options options_;
    std::shared_ptr<const routing::Snapshot> snapshot_;
    session::Surroundings around_;
    std::multimap<uint16_t, std::shared_ptr<Door>> doors_;  ///< by local port
    std::vector<std::shared_ptr<Door>> waiting_doors_;
    session::Session* sessions_ = nullptr;
    std::vector<Visit*> visits_;  ///< under way
    Gauge session_count_;
    Gauge sessions_max_;
    Gauge accept_pauses_;
    std::array<Gauge, capture::door_count> accepted_;  ///< by door
    size_t doors_open_ = 0;                            ///< with those that are being emptied
    bool draining_ = false;
    bool overdue_ = false;  ///< the deadline of the drain has passed
    io::Signal drained_{loop_};
    std::thread thread_;
};

}  // namespace proxify::worker
