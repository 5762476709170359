// SPDX-License-Identifier: Apache-2.0
// Chain: the elements of one session. Bytes on their way to the target go through them in the order
// of `filters`, bytes to the client in the reverse order, as through the filters of Envoy.
//
// Nothing here waits or touches a socket: relay/ gives bytes, takes what comes out, and is told
// when to come back.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "filter/element.h"
#include "filter/output.h"
#include "stats/element.h"

namespace proxify::filter {

/// An element at its place in a chain.
struct Link {
    std::unique_ptr<Element> element;
    std::string_view name;                  ///< in the log; outlives the chain
    uint64_t to_target = 0, to_client = 0;  ///< how much of each direction it is to see
    bool closes_on_error = false;
    stats::Element* stats = nullptr;  ///< may be null; outlives the chain
    bool has_failed = false;          ///< in either direction; it has been told
};

/// What a flow has come to.
struct Progress {
    enum class State {
        hungry,  ///< all of the input has been dealt with; after finish(), all there will ever be
        full,    ///< there is much to be sent; go on afterwards
        wait,    ///< go on at `until`, in a later turn in any case
        closed,  ///< an element has ended the session, and all that went on before has come out
    };
    State state = State::hungry;
    Time until{};
    const char* reason = "";        ///< of closed: a constant of the program
    std::string_view element = {};  ///< of closed: which one
};

/// One direction of a chain.
class Flow {
  public:
    /// Whom an element's failure is told; called for the first of each element.
    using OnFailure = std::function<void(std::string_view element, const std::string& error)>;

    Flow(Direction direction, size_t chunk_size, std::vector<Link*> links, OnFailure on_failure);

    /// Takes bytes from the front of `input` and adds to `out` what becomes of them. Bytes that
    /// were taken are needed until `out` has been sent or has kept them.
    Progress run(Bytes& input, Time now, Output& out);

    /// The input has ended: what elements keep back comes out.
    Progress finish(Time now, Output& out);

    /// When kept bytes are due, though nothing more came; Time::max() when there are none.
    Time holds_until() const;
    /// Lets go what is due.
    Progress release(Time now, Output& out);

    /// A stage before all others; nothing has come yet.
    void add_first(Link& link);

    /// Nobody wants to see more, and nothing is kept back: bytes may go by.
    bool is_sated() const { return hungry_ == 0 && !has_pending(); }
    /// Bytes wait between its elements: there is something to do without more of the input.
    bool has_pending() const;

  private:
    /// An element, and what waits before it: bytes that an earlier one has passed or made.
    struct Stage {
        Link* link;
        uint64_t left;  ///< that it is to see
        Buffer pending = {};
        size_t taken = 0;  ///< of pending
    };

    Progress go_on(Bytes& input, Time now, Output& out);
    size_t show(size_t index, Bytes source, bool is_input, Time now, Output& out);
    Answer ask(Stage& stage, Bytes bytes, Time now, Buffer& made);
    void judge(Stage& stage, Answer& answer, Time now);
    void close(const Stage& stage, const char* reason);
    void cut_off();
    void end(size_t index, Time now, Output& out);
    void hand_on(size_t index, Bytes made, Output& out);

    Direction direction_;
    size_t chunk_size_;
    std::vector<Stage> stages_;
    OnFailure on_failure_;
    size_t hungry_ = 0;  ///< stages that are to see more
    size_t first_ = 0;   ///< of the stages that go on after the end of the input
    size_t cut_ = 0;     ///< stages up to the one that has closed
    bool is_at_end_ = false;
    std::optional<Time> waits_until_;
    Progress closed_;  ///< what is said at the end
};

class Chain {
  public:
    Chain(size_t chunk_size, std::vector<Link> links, const Flow::OnFailure& on_failure);

    /// An element nearest to the target, which sees what comes from there; nothing has come yet.
    void watch_target(std::unique_ptr<Element> element, std::string_view name);

    Flow& flow(Direction direction) {
        return direction == Direction::to_target ? to_target_ : to_client_;
    }

  private:
    std::vector<Link> links_;
    std::unique_ptr<Link> nearest_target_;
    Flow to_target_, to_client_;
};

}  // namespace proxify::filter
