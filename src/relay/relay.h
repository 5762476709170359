// SPDX-License-Identifier: Apache-2.0
// Relay: moves bytes between a client and a target, both ways at once, until both have finished
// or something ends it.
//
// Each direction is a pump: receive, send on, again. One that cannot send puts its source on hold
// until the slow side can take more, so memory stays bounded and TCP tells the fast side to
// wait. The end of one direction is passed on as such (half-close) while the other goes on.
#pragma once

#include <cstdint>
#include <span>

#include "base/clock.h"
#include "base/ending.h"
#include "filter/chain.h"
#include "io/stream.h"
#include "stats/bytes.h"

namespace proxify::relay {

struct Options {
    Duration idle;        ///< no byte either way
    Duration half_close;  ///< the same, once one side has finished sending
    bool may_splice;      ///< false: every byte comes through a buffer of ours
    stats::Meter meter = {};
    filter::Chain* chain = nullptr;  ///< what bytes go through; null when the service has none
    /// Goes to the target before all else: what was read of the client, and has come through the
    /// chain. Outlives the relay.
    std::span<const std::byte> first = {};
};

/// Waits until the peer has what was sent to it, but not for long: a close with a reset would throw
/// away what send() took but the network has not delivered.
[[gnu::noinline]] io::Task<> flush(io::Loop& loop, io::Stream& stream);

class Relay {
  public:
    Relay(io::Loop& loop, io::Stream& client, io::Stream& target, Options options);

    /// Runs to the end. Both streams are quiet then, and what must be a reset will be one.
    io::Task<Ending> run();

    /// Ends it from outside, soon.
    void interrupt(Ending why);

    /// Whether nothing has gone wrong so far.
    bool is_well() const { return ending_.is_normal(); }
    /// The element that has ended it; empty when none has.
    std::string_view ended_by() const { return ended_by_; }

    // Bytes so far, as they were sent on.
    uint64_t to_target() const { return to_target_.bytes; }
    uint64_t to_client() const { return to_client_.bytes; }

  private:
    enum class Side { client, target };
    struct IdleTimer : io::Timer {
        explicit IdleTimer(Relay& owner)
            : Timer([](Timer& timer) { static_cast<IdleTimer&>(timer).relay.check_idle(); }),
              relay(owner) {}
        Relay& relay;
    };

    /// What went one way, and from when on the meter is to hear of it: one comparison for each
    /// chunk.
    struct Way {
        uint64_t bytes = 0;
        uint64_t report_at = report_each;
    };
    /// A session that goes on for days shows in the statistics meanwhile.
    static constexpr uint64_t report_each = 1 << 20;

    io::Task<> start(Side from_side);
    io::Task<> start_pump(Side from_side);
    [[gnu::noinline]] io::Task<> send_first();
    io::Task<> pump(Side from_side);
    /// The same through the elements that look at what goes this way.
    [[gnu::noinline]] io::Task<> pump_through(Side from_side, filter::Flow& flow);
    [[gnu::noinline]] io::Task<> wait(Side from_side, io::Received& received, Time until);
    void end_by(const filter::Progress& progress);
    /// Moves bulk until it is none any more. False when this direction is at its end.
    [[gnu::noinline]] io::Task<bool> pour(Side from_side);
    [[nodiscard]] bool finish(Side side);  ///< it has sent all it will
    void gone(Side side, int error);       ///< it reset the connection, or vanished
    void stop();
    void check_idle();
    Duration idle_limit() const;
    io::Stream& stream(Side side) { return side == Side::client ? client_ : target_; }
    static Side other(Side side) { return side == Side::client ? Side::target : Side::client; }

    Way& way_from(Side side) { return side == Side::client ? to_target_ : to_client_; }
    void count(Way& way, int bytes) {
        way.bytes += static_cast<uint64_t>(bytes);
        if (way.bytes >= way.report_at) [[unlikely]]
            report();
    }
    void report();

    io::Loop& loop_;
    io::Stream& client_;
    io::Stream& target_;
    Options options_;
    IdleTimer idle_timer_{*this};
    // Touched for each message, so they share a cache line.
    Time last_activity_;
    Way to_target_;
    Way to_client_;
    Ending ending_;
    bool client_finished_ = false;  ///< it has sent all it will
    bool target_finished_ = false;
    bool client_reset_ = false;  ///< it is gone, with what was in flight
    bool target_reset_ = false;
    std::string_view ended_by_;
    io::Sleep* waiting_[2] = {};  ///< of each pump that an element has told to wait
};

}  // namespace proxify::relay
