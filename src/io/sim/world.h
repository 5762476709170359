// SPDX-License-Identifier: Apache-2.0
// World: a make-believe network behind io::Ring, with a clock that jumps to whatever happens next
// and every choice taken from one seed. Whole sessions run on it, thousands in a second, and a seed
// tells the same story each time.
//
// proxify is at the *near* end of each connection, a client or a target at the *far* end. Far ends
// are small state machines that follow a Script; they live in here and use no Ring. Bytes are
// counted, not kept: those that proxify reads are made when it does, those that it sends are
// checked on the spot (bytes.h). What the kernel promises is kept to: order within a connection and
// within an operation, one last event for each operation, received bytes before the reset that
// followed them, and that reset told once.
//
// Whatever proxify does that no correct program does (an operation started twice, a buffer
// given back twice, a wrong byte, a closed socket used) is written down as a bug of the run.
//
//     world.cc    time, events, operations and buffers: what Ring asks for
//     network.cc  connections: what lies between the two ends, and what far ends do
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "io/ring.h"
#include "io/sim/random.h"

namespace proxify::io::sim {

/// How likely each trouble is, each time that it could happen.
struct Faults {
    double late = 0;  ///< an event comes up to late_max after what it tells of
    Duration late_max = 1ms;
    double short_receive = 0;
    double short_send = 0;
    double short_move = 0;      ///< the network takes a part of what there is
    double send_refused = 0;    ///< -EAGAIN though there is room
    double multishot_ends = 0;  ///< after an event, for no reason
    double interrupted = 0;     ///< -EINTR or -EAGAIN ends a receive or an accept
    double no_buffers = 0;      ///< -ENOBUFS though there are some
    double no_accept = 0;       ///< -EMFILE when a connection is accepted
    double no_socket = 0;       ///< -EMFILE when one is opened
    double no_source = 0;       ///< -EADDRNOTAVAIL when one is bound
    double no_pipe = 0;         ///< -EPERM when one is opened
    double cancel_loses = 0;    ///< the operation ends with a result of its own
    double wake_for_nothing = 0;
    double clock_stands = 0;  ///< for up to 20 turns
    double slow_turns = 0;    ///< that take up to 2 ms, in which events gather
    double clock_jumps = 0;   ///< by up to 5 s: the process was stopped, the network was not
    Duration latency_max = 200us;

    static Faults drawn(Random& random);
};

/// What a far end does, from its first moment to its last.
struct Script {
    enum class Ends { when_said, after_peer, never };
    static constexpr uint64_t unlimited = UINT64_MAX;

    uint64_t says = 0;                  ///< so many bytes, at most
    bool echoes = false;                ///< says no more than it has heard
    Ends ends = Ends::when_said;        ///< when it says that it has said all
    bool closes = false;                ///< and hears nothing more from then on
    uint64_t hears = unlimited;         ///< stops reading after so many bytes
    uint64_t resets_after = unlimited;  ///< so many bytes, said and heard
    std::optional<Duration> resets_in;
    uint32_t step = 1024;  ///< bytes read and written at a time
    Duration pace = 10us;  ///< between two steps
    Duration first_pause{};
    uint32_t window = 4096;  ///< of each buffer of the connection

    /// Hears all, says all, and ends as it should.
    bool is_kind() const {
        return hears == unlimited && resets_after == unlimited && !resets_in && !closes &&
               ends != Ends::never;
    }
};

/// How connects to an address are answered, and by whom.
struct Door {
    enum class Answer { accepts, refuses, unreachable, silent };
    Answer answer = Answer::accepts;
    double refuses_some = 0;  ///< of those it would accept
    Duration delay_max{};
    std::function<Script(Random&)> script;
};

/// The bytes of one direction.
struct Flow {
    uint64_t id = 0;       ///< of the stream; of what proxify sends, as far as it has shown
    uint64_t written = 0;  ///< by the sender, into its kernel
    uint64_t arrived = 0;  ///< in the kernel of the receiver, who has acknowledged them
    uint64_t read = 0;     ///< by the receiver
    bool fin_written = false;
    bool fin_arrived = false;
    bool fin_read = false;
    uint64_t in_pipes = 0;             ///< of what was read
    Time arrived_at{};                 ///< when the last of it did
    bool moving = false;               ///< an event to move it is due
    bool cut = false;                  ///< what has not arrived never will
    std::vector<std::byte> kept = {};  ///< what was written, where proxify may change bytes
};

struct Connection {
    bool with_client = false;
    Time met_at{};
    uint32_t number = 0;
    Address near;  ///< for a client's: what it dialled
    Address far;
    Flow in;   ///< to proxify
    Flow out;  ///< from proxify
    /// The connection that it exchanges bytes with, known once two bytes went either way.
    Connection* pair = nullptr;

    // The far end.
    Script script;
    bool met = false;  ///< the two ends were connected
    bool far_open = false;
    bool far_closed = false;  ///< it listens no more: bytes are answered with a reset
    bool far_reset = false;   ///< it reset the connection
    bool refused = false;
    bool saw_fin = false;
    bool saw_reset = false;
    bool act_due = false;

    // The near end: proxify's socket.
    Handle socket = Handle::none;
    bool connected = false;
    bool accepted = false;
    bool unknown_peer = false;  ///< it had been reset before proxify asked who it is
    bool dead = false;          ///< the far end's reset has arrived, while the socket was open
    bool near_closed = false;
    Time closed_at{};
    bool near_reset = false;
    bool reset_on_close = false;
    bool shutdown_failed = false;  ///< proxify was told then that it is dead
    int error = 0;                 ///< told once, by whichever call comes first
    Completion* receiving = nullptr;
    Completion* connecting = nullptr;
    Completion* writable = nullptr;
    Completion* readable = nullptr;
    bool receives_once = false;

    std::string text() const;
};

class World {
  public:
    World(uint64_t seed, const Faults& faults, bool tracing = false);
    World(const World&) = delete;
    ~World();
    /// The one that a Ring opened on this thread belongs to.
    static World& current();

    // What a test sets up and looks at.

    void put_target(const Ip& ip, Door door) { doors_[ip] = std::move(door); }
    Door& target(const Ip& ip) { return doors_[ip]; }
    Connection& add_client(Time when, const Address& to, const Script& script);
    /// Runs something at a moment: what is not in a script. It runs inside wait(), so it posts.
    void at(Time when, std::function<void()> call);
    /// SYNs to `port` go to the listener on `listener`, as sk_lookup has it; 0 ends that.
    void steer(uint16_t port, uint16_t listener);
    /// Asked about the source of each dial to a steered port of this host.
    std::function<bool(const Address& source)> let_through = [](const Address&) { return false; };
    /// What proxify sends is not what it has read: kept, to be looked at afterwards, instead of
    /// checked on the spot. The first eight bytes of each stream stay as they are.
    bool may_change_bytes = false;
    /// Lets everything arrive that is under way, after proxify has ended.
    void settle();

    const std::deque<Connection>& connections() const { return connections_; }
    const std::vector<std::string>& bugs() const { return bugs_; }
    size_t open_sockets() const { return open_sockets_; }
    size_t buffers_home() const { return home_.size(); }
    uint64_t bytes_parked_max() const { return parked_max_; }
    Duration jumped() const { return jumped_; }
    uint64_t turns() const { return turns_; }
    /// Differs between two runs that differ in any event.
    uint64_t digest() const { return digest_; }
    Random& dice() { return dice_; }
    bool tracing() const { return tracing_; }
    /// A line of the trace; ask tracing() first.
    void note(const std::string& line) const;

    // What Ring asks for; see there.

    void open_ring(const Ring::Options& options);
    void wait(Time until);
    bool next(Completion*& completion, Event& event);
    void wake() { woken_ = true; }
    Time now() const { return now_; }
    /// What a clock that never stands would say.
    Time true_time() const { return time_; }

    void accept(Handle listener, Completion& completion);
    void receive(Handle socket, bool once, Completion& completion);
    void connect(Handle socket, const Address& to, Completion& completion);
    void wait_writable(Handle socket, Completion& completion);
    void wait_readable(Handle socket, Completion& completion);
    void cancel(Completion& completion);

    std::byte* buffer(uint16_t id);
    void provide(uint16_t id);

    int open_stream(bool v4);
    Result<Handle> listen(const Address& at, const ListenOptions& options);
    int accept_now(Handle listener);
    unsigned accept_queue(Handle listener);
    int bind(Handle socket, const Address& at);
    int send_now(Handle socket, std::span<const std::byte> bytes);
    int shutdown_write(Handle socket);
    int open_pipe(size_t size, PipeEnds& ends);
    void close_pipe(PipeEnds ends);
    int splice_in(Handle socket, PipeEnds pipe, size_t count);
    int splice_out(PipeEnds pipe, Handle socket, size_t count);
    int unacknowledged(Handle socket);
    void reset_on_close(Handle socket);
    void close(Handle socket);
    bool is_connected(Handle socket);
    Address local_address(Handle socket);
    Address peer_address(Handle socket);

  private:
    struct Listener {
        Address at;
        Handle socket;
        bool shares_port;
        bool is_open;  ///< it listens, and is not just bound
        bool is_bound = true;
        size_t backlog;
        std::deque<Connection*> queue;
        Completion* accepting = nullptr;
    };
    struct Pipe {
        size_t size;
        Connection* source = nullptr;  ///< whose bytes are in it
        uint64_t offset = 0;           ///< of the first of them
        uint64_t count = 0;
    };
    struct Socket {
        Connection* connection = nullptr;  ///< one of the three
        Listener* listener = nullptr;
        Pipe* pipe = nullptr;
        bool open = true;
        int operations = 0;  ///< begun, and their last event not yet taken
    };
    struct Operation {
        enum class Kind : uint8_t { accept, receive, connect, writable, readable } kind;
        Handle socket;
        uint64_t number;       ///< in the order they were begun
        bool started = false;  ///< submitted; until then the kernel has not heard of it
        bool over = false;     ///< its last event is made
        uint32_t events_due = 0;
        Time last_event{};
    };
    struct Submission {
        Completion* completion;
        bool cancels;
        uint64_t number;
    };
    struct Ready {
        Completion* completion;
        Event event;
    };
    struct Happening {
        enum class What : uint8_t {
            client_dials,
            connect_answered,
            moves_in,
            moves_out,
            far_acts,
            far_resets,
            reset_reaches_near,
            reset_reaches_far,
            event_comes,
            call
        };
        Time when;
        uint64_t order;
        What what;
        uint32_t which;
        bool operator>(const Happening& other) const {
            return when != other.when ? when > other.when : order > other.order;
        }
    };
    enum class BufferState : uint8_t { home, lent };
    using What = Happening::What;
    using Kind = Operation::Kind;

    // world.cc
    void bug(std::string sentence);
    [[noreturn]] void hang(const char* sentence);
    void schedule(Duration delay, What what, uint32_t which);
    void run_until(Time moment);
    void run(const Happening& happening);
    Socket* find(Handle handle, const char* use);
    Connection* find_connection(Handle handle, const char* use);
    Listener* find_listener(Handle handle, const char* use);
    Pipe* find_pipe(PipeEnds ends, const char* use);
    Handle new_socket(const Socket& socket);
    int refuse_send(Connection& connection);
    void begin(Kind kind, Handle socket, Completion& completion);
    void submit();
    void start(Completion& completion, Operation& operation);
    void end_early(Completion& completion, Operation& operation);
    void post(Completion& completion, const Event& event);
    void finish(Completion*& slot, int result);
    void keep_accepting(Listener& listener, bool first);
    Handle accept_first(Listener& listener);
    void keep_receiving(Connection& connection, bool first);
    void tell_writable(Connection& connection);
    void tell_readable(Connection& connection);

    // network.cc
    Connection& new_connection(bool with_client);
    Duration latency() { return 1us + dice_.up_to(faults_.latency_max); }
    void client_dials(Connection& connection);
    void dial_target(Connection& connection);
    void connect_answered(Connection& connection);
    void meet(Connection& connection);
    void keep_moving(Connection& connection, Flow& flow);
    bool can_move(const Connection& connection, const Flow& flow) const;
    bool move(Connection& connection, Flow& flow);
    void moves_in(Connection& connection);
    void moves_out(Connection& connection);
    void act_soon(Connection& connection);
    void far_acts(Connection& connection);
    void far_resets(Connection& connection);
    void near_resets(Connection& connection);
    void reset_reaches_near(Connection& connection);
    void reset_reaches_far(Connection& connection);
    uint64_t room_to_send(const Connection& connection) const;
    void check_sent(Connection& connection, std::span<const std::byte> bytes);
    void check_spliced(Connection& connection, Connection& source, uint64_t offset, uint64_t count);
    void learn_pair(Connection& connection);
    void check_parked(const Connection& source);

    const uint64_t seed_;
    const Faults faults_;
    const bool tracing_;
    Random dice_;
    Time time_;  ///< of the world
    Time now_;   ///< as proxify is told
    Duration jumped_{};
    unsigned clock_stands_for_ = 0;  ///< turns
    bool woken_ = false;
    uint64_t turns_ = 0;
    uint64_t digest_ = 0;
    std::vector<std::string> bugs_;

    std::vector<Happening> happenings_;  ///< a heap, the earliest first
    uint64_t happenings_made_ = 0;
    std::vector<Ready> late_;  ///< events on their way; a Happening says which
    std::vector<uint32_t> late_free_;
    std::vector<std::function<void()>> calls_;

    std::deque<Socket> sockets_;
    size_t open_sockets_ = 0;
    std::deque<Listener> listeners_;
    std::deque<Pipe> pipes_;
    std::unordered_map<Completion*, Operation> operations_;
    uint64_t operations_begun_ = 0;
    std::vector<Submission> submissions_;
    std::deque<Ready> ready_;

    Ring::Options ring_options_;
    std::vector<std::byte> memory_;
    std::vector<BufferState> buffers_;
    std::deque<uint16_t> home_;
    uint64_t parked_max_ = 0;

    std::deque<Connection> connections_;
    std::vector<Connection*> streams_;  ///< by the number in a stream's first two bytes
    std::map<Ip, Door> doors_;
    std::map<uint16_t, uint16_t> steered_;
    uint16_t next_source_port_ = 32768;
};

}  // namespace proxify::io::sim
