// SPDX-License-Identifier: Apache-2.0
#include "io/sim/world.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/expect.h"
#include "base/format.h"
#include "io/sim/bytes.h"

namespace proxify::io::sim {

namespace {

thread_local World* current_world = nullptr;

constexpr int first_handle = 3;
/// A run takes some thousands; one that takes so many does not come to its end.
constexpr uint64_t turns_max = 2'000'000;
constexpr unsigned standing_turns_max = 20;
constexpr Duration jump_max = 5s;
constexpr Duration turn_max = 2us, slow_turn_max = 2ms;

constexpr const char* kind_names[] = {"accept", "receive", "connect", "wait_writable",
                                      "wait_readable"};

}  // namespace

/// Calm and vicious runs, and all between: each fault is either absent or has a likelihood of its
/// own.
Faults Faults::drawn(Random& random) {
    const double viciousness =
        random.chance(0.15) ? 0 : static_cast<double>(random.below(1000)) / 1000;
    auto maybe = [&](double most) {
        return random.chance(0.6)
                   ? most * viciousness * static_cast<double>(random.below(1000)) / 1000
                   : 0;
    };
    Faults faults;
    faults.late = maybe(1);
    faults.late_max = 1us + random.up_to(random.chance(0.1) ? Duration(50ms) : Duration(500us));
    faults.short_receive = maybe(0.9);
    faults.short_send = maybe(0.9);
    faults.short_move = maybe(0.7);
    faults.send_refused = maybe(0.5);
    faults.multishot_ends = maybe(0.6);
    faults.interrupted = maybe(0.3);
    faults.no_buffers = maybe(0.4);
    faults.no_accept = maybe(0.4);
    faults.no_socket = maybe(0.2);
    faults.no_source = maybe(0.2);
    faults.no_pipe = maybe(0.5);
    faults.cancel_loses = maybe(0.8);
    faults.wake_for_nothing = maybe(0.3);
    faults.clock_stands = maybe(0.02);
    faults.slow_turns = maybe(0.3);
    faults.clock_jumps = maybe(0.002);
    faults.latency_max = 1us + random.up_to(random.chance(0.2) ? Duration(40ms) : Duration(500us));
    return faults;
}

World::World(uint64_t seed, const Faults& faults, bool tracing)
    : seed_(seed), faults_(faults), tracing_(tracing), dice_(seed), time_(1h), now_(time_) {
    expect(!current_world, "a thread lives in one world at a time");
    current_world = this;
    operations_.reserve(256);
}

World::~World() {
    current_world = nullptr;
}

World& World::current() {
    expect(current_world, "a world is made before the ring in it");
    return *current_world;
}

void World::note(const std::string& line) const {
    std::printf("%12.6f  %s\n",
                std::chrono::duration<double>(time_.time_since_epoch() - 1h).count(), line.c_str());
}

void World::bug(std::string sentence) {
    if (tracing_) note("BUG: " + sentence);
    if (bugs_.size() < 20) bugs_.push_back(std::move(sentence));
}

void World::hang(const char* sentence) {
    for (const auto& earlier : bugs_) std::fprintf(stderr, "earlier: %s\n", earlier.c_str());
    std::fprintf(stderr, "hang: %s\n", sentence);
    std::abort();
}

// ---- time

void World::schedule(Duration delay, What what, uint32_t which) {
    happenings_.push_back({time_ + delay, happenings_made_++, what, which});
    std::push_heap(happenings_.begin(), happenings_.end(), std::greater());
}

void World::run_until(Time moment) {
    while (!happenings_.empty() && happenings_.front().when <= moment) {
        std::pop_heap(happenings_.begin(), happenings_.end(), std::greater());
        Happening happening = happenings_.back();
        happenings_.pop_back();
        time_ = std::max(time_, happening.when);
        run(happening);
    }
    time_ = std::max(time_, moment);
}

void World::run(const Happening& happening) {
    const uint32_t which = happening.which;
    switch (happening.what) {
        case What::client_dials:
            return client_dials(connections_[which]);
        case What::connect_answered:
            return connect_answered(connections_[which]);
        case What::moves_in:
            return moves_in(connections_[which]);
        case What::moves_out:
            return moves_out(connections_[which]);
        case What::far_acts:
            return far_acts(connections_[which]);
        case What::far_resets:
            return far_resets(connections_[which]);
        case What::reset_reaches_near:
            return reset_reaches_near(connections_[which]);
        case What::reset_reaches_far:
            return reset_reaches_far(connections_[which]);
        case What::event_comes:
            --operations_.at(late_[which].completion).events_due;
            ready_.push_back(late_[which]);
            late_free_.push_back(which);
            return;
        case What::call:
            return calls_[which]();
    }
}

void World::at(Time when, std::function<void()> call) {
    calls_.push_back(std::move(call));
    schedule(when - time_, What::call, static_cast<uint32_t>(calls_.size() - 1));
}

void World::settle() {
    while (!happenings_.empty()) run_until(happenings_.front().when);
}

void World::wait(Time until) {
    if (++turns_ > turns_max) hang("the run does not come to an end");
    submit();
    run_until(time_ + 1ns +
              dice_.up_to(dice_.chance(faults_.slow_turns) ? slow_turn_max : turn_max));
    if (dice_.chance(faults_.clock_jumps)) {
        Duration jump = dice_.up_to(jump_max);
        jumped_ += jump;
        if (tracing_) note(format("proxify is stopped for {}", to_text(jump)));
        run_until(time_ + jump);
    }
    if (!dice_.chance(faults_.wake_for_nothing)) {
        while (ready_.empty() && !woken_ && time_ < until) {
            if (happenings_.empty() && until == Time::max()) hang("nothing can ever happen again");
            run_until(happenings_.empty() ? until : std::min(until, happenings_.front().when));
        }
    }
    woken_ = false;

    if (clock_stands_for_ > 0) {
        --clock_stands_for_;
    } else {
        now_ = time_;
        if (dice_.chance(faults_.clock_stands))
            clock_stands_for_ = static_cast<unsigned>(dice_.between(1, standing_turns_max));
    }
}

bool World::next(Completion*& completion, Event& event) {
    if (ready_.empty()) return false;
    completion = ready_.front().completion;
    event = ready_.front().event;
    ready_.pop_front();
    auto found = operations_.find(completion);
    const Operation& operation = found->second;
    digest_ =
        mix(digest_ ^ (static_cast<uint64_t>(time_.time_since_epoch().count()) << 20) ^
            (operation.number << 8) ^ static_cast<uint64_t>(static_cast<uint32_t>(event.result)));
    if (tracing_)
        note(format("  {} {} on socket {}: {}{}", kind_names[static_cast<int>(operation.kind)],
                    operation.number, static_cast<int>(operation.socket),
                    event.result < 0 ? std::strerror(-event.result) : std::to_string(event.result),
                    event.more ? ", more" : ""));
    if (!event.more) {
        --sockets_[static_cast<size_t>(static_cast<int>(operation.socket) - first_handle)]
              .operations;
        operations_.erase(found);
    }
    return true;
}

// ---- sockets

World::Socket* World::find(Handle handle, const char* use) {
    auto index = static_cast<size_t>(static_cast<int>(handle) - first_handle);
    if (handle == Handle::none || index >= sockets_.size() || !sockets_[index].open) {
        bug(format("{} is asked for a closed socket, {}", use, static_cast<int>(handle)));
        return nullptr;
    }
    return &sockets_[index];
}

Connection* World::find_connection(Handle handle, const char* use) {
    Socket* socket = find(handle, use);
    if (socket && !socket->connection)
        bug(format("{} is asked for something else than a connection", use));
    return socket ? socket->connection : nullptr;
}

World::Listener* World::find_listener(Handle handle, const char* use) {
    Socket* socket = find(handle, use);
    if (socket && !socket->listener)
        bug(format("{} is asked for something else than a listener", use));
    return socket ? socket->listener : nullptr;
}

/// No number is used twice, so that no use of a closed socket goes unseen.
Handle World::new_socket(const Socket& socket) {
    sockets_.push_back(socket);
    ++open_sockets_;
    return static_cast<Handle>(first_handle + static_cast<int>(sockets_.size()) - 1);
}

int World::open_stream(bool v4) {
    if (dice_.chance(faults_.no_socket)) return -EMFILE;
    Connection& connection = new_connection(/* with_client= */ false);
    connection.near.ip.is_v4 = v4;
    connection.socket = new_socket({.connection = &connection});
    return static_cast<int>(connection.socket);
}

Result<Handle> World::listen(const Address& at, const ListenOptions& options) {
    for (const auto& other : listeners_)
        if (other.is_bound && other.at.port == at.port &&
            !(other.shares_port && options.share_port))
            return fail(Error::from_errno(EADDRINUSE, format("cannot listen on {}", at.text())));
    listeners_.push_back({.at = at,
                          .socket = Handle::none,
                          .shares_port = options.share_port,
                          .is_open = !options.only_bind,
                          .backlog = static_cast<size_t>(options.backlog),
                          .queue = {}});
    return listeners_.back().socket = new_socket({.listener = &listeners_.back()});
}

int World::accept_now(Handle handle) {
    Listener* listener = find_listener(handle, "accept_now");
    if (!listener) return -EBADF;
    if (dice_.chance(faults_.no_accept)) return -EMFILE;
    if (dice_.chance(faults_.interrupted)) return dice_.chance(0.5) ? -EINTR : -ECONNABORTED;
    if (listener->queue.empty()) return -EAGAIN;
    return static_cast<int>(accept_first(*listener));
}

unsigned World::accept_queue(Handle handle) {
    Listener* listener = find_listener(handle, "accept_queue");
    return listener ? static_cast<unsigned>(listener->queue.size()) : 0;
}

int World::bind(Handle handle, const Address& at) {
    Connection* connection = find_connection(handle, "bind");
    if (!connection) return -EBADF;
    if (!at.ip.is_loopback()) return -EADDRNOTAVAIL;  // no other address of a target is ours
    if (dice_.chance(faults_.no_source)) return -EADDRNOTAVAIL;
    connection->near = {at.ip, next_source_port_++};
    return 0;
}

/// Why nothing can be sent, if so.
int World::refuse_send(Connection& connection) {
    if (!connection.connected) bug("bytes are sent before there is a connection");
    if (connection.out.fin_written) bug("bytes are sent after the end was");
    if (connection.error != 0) return -std::exchange(connection.error, 0);
    if (connection.dead || connection.out.fin_written) return -EPIPE;
    if (room_to_send(connection) == 0 || dice_.chance(faults_.send_refused)) return -EAGAIN;
    return 0;
}

int World::send_now(Handle handle, std::span<const std::byte> bytes) {
    Connection* connection = find_connection(handle, "send_now");
    if (!connection) return -EBADF;
    if (bytes.empty()) bug("nothing is sent");
    if (int error = refuse_send(*connection); error < 0) return error;
    size_t count = std::min<size_t>(bytes.size(), room_to_send(*connection));
    if (dice_.chance(faults_.short_send)) count = dice_.between(1, count);
    check_sent(*connection, bytes.first(count));
    connection->out.written += count;
    if (tracing_) note(format("{}: {} bytes sent of {}", connection->text(), count, bytes.size()));
    keep_moving(*connection, connection->out);
    return static_cast<int>(count);
}

int World::shutdown_write(Handle handle) {
    Connection* connection = find_connection(handle, "shutdown_write");
    if (!connection) return -EBADF;
    if (connection->out.fin_written) bug("the end is sent twice");
    if (connection->dead || !connection->connected) {
        connection->shutdown_failed = true;
        return -ENOTCONN;
    }
    connection->out.fin_written = true;
    if (tracing_) note(connection->text() + ": the end sent");
    keep_moving(*connection, connection->out);
    return 0;
}

int World::open_pipe(size_t size, PipeEnds& ends) {
    if (dice_.chance(faults_.no_pipe)) return -EPERM;
    pipes_.push_back({.size = size});
    ends.read = new_socket({.pipe = &pipes_.back()});
    ends.write = new_socket({.pipe = &pipes_.back()});
    return 0;
}

World::Pipe* World::find_pipe(PipeEnds ends, const char* use) {
    Socket *read = find(ends.read, use), *write = find(ends.write, use);
    if (!read || !write) return nullptr;
    if (!read->pipe || read->pipe != write->pipe)
        bug(format("{} is asked for what is no pipe", use));
    return read->pipe;
}

void World::close_pipe(PipeEnds ends) {
    Pipe* pipe = find_pipe(ends, "close_pipe");
    if (!pipe) return;
    if (pipe->source) pipe->source->in.in_pipes -= pipe->count;
    for (Handle end : {ends.read, ends.write}) {
        find(end, "close_pipe")->open = false;
        --open_sockets_;
    }
}

int World::splice_in(Handle socket, PipeEnds ends, size_t most) {
    Connection* connection = find_connection(socket, "splice_in");
    Pipe* pipe = find_pipe(ends, "splice_in");
    if (!connection || !pipe) return -EBADF;
    if (connection->receiving) bug("a socket is spliced while it is received from");
    Flow& in = connection->in;
    if (in.arrived == in.read) {
        if (in.fin_arrived) return 0;
        // It takes the error away, as any call does that is told of it.
        if (connection->error != 0) return -std::exchange(connection->error, 0);
        return connection->dead ? 0 : -EAGAIN;
    }
    if (pipe->count == pipe->size) return -EAGAIN;
    uint64_t count = std::min<uint64_t>({in.arrived - in.read, most, pipe->size - pipe->count});
    if (dice_.chance(faults_.short_receive)) count = dice_.between(1, count);
    if (pipe->count == 0) {
        pipe->source = connection;
        pipe->offset = in.read;
    } else if (pipe->source != connection) {
        bug("bytes of two connections are in one pipe");
    }
    pipe->count += count;
    in.read += count;
    in.in_pipes += count;
    if (tracing_) note(format("{}: {} bytes into a pipe", connection->text(), count));
    keep_moving(*connection, in);
    return static_cast<int>(count);
}

int World::splice_out(PipeEnds ends, Handle socket, size_t most) {
    Connection* connection = find_connection(socket, "splice_out");
    Pipe* pipe = find_pipe(ends, "splice_out");
    if (!connection || !pipe) return -EBADF;
    if (pipe->count == 0) return -EAGAIN;
    if (int error = refuse_send(*connection); error < 0) return error;
    uint64_t count = std::min<uint64_t>({pipe->count, most, room_to_send(*connection)});
    if (dice_.chance(faults_.short_send)) count = dice_.between(1, count);
    check_spliced(*connection, *pipe->source, pipe->offset, count);
    connection->out.written += count;
    pipe->source->in.in_pipes -= count;
    pipe->offset += count;
    pipe->count -= count;
    if (tracing_) note(format("{}: {} bytes out of a pipe", connection->text(), count));
    keep_moving(*connection, connection->out);
    return static_cast<int>(count);
}

int World::unacknowledged(Handle handle) {
    Connection* connection = find_connection(handle, "unacknowledged");
    if (!connection) return 0;
    const Flow& out = connection->out;
    return static_cast<int>(out.written - out.arrived) +
           (out.fin_written && !out.fin_arrived ? 1 : 0);
}

void World::reset_on_close(Handle handle) {
    if (Connection* connection = find_connection(handle, "reset_on_close"))
        connection->reset_on_close = true;
}

void World::close(Handle handle) {
    Socket* socket = find(handle, "close");
    if (!socket) return;
    if (socket->operations > 0) bug("a socket is closed while the kernel holds an operation of it");
    socket->open = false;
    --open_sockets_;
    if (Listener* listener = socket->listener) {
        if (tracing_) note(format("listener {} closed", listener->at.text()));
        listener->is_open = listener->is_bound = false;
        if (!listener->queue.empty()) bug("a listener is closed while clients wait in its queue");
        for (Connection* waiting : listener->queue) near_resets(*waiting);
        return;
    }
    Connection& connection = *socket->connection;
    if (tracing_)
        note(connection.text() +
             (connection.reset_on_close ? ": closed, with a reset" : ": closed"));
    connection.near_closed = true;
    connection.closed_at = time_;
    if (!connection.connected || connection.dead) return;
    // Bytes that were not read are lost, and the other side is told so.
    if (connection.reset_on_close || connection.in.arrived > connection.in.read)
        return near_resets(connection);
    connection.out.fin_written = true;
    keep_moving(connection, connection.out);
}

Address World::local_address(Handle handle) {
    Socket* socket = find(handle, "local_address");
    if (!socket) return {};
    return socket->listener ? socket->listener->at : socket->connection->near;
}

bool World::is_connected(Handle handle) {
    Connection* connection = find_connection(handle, "is_connected");
    return connection && !connection->dead;
}

Address World::peer_address(Handle handle) {
    Connection* connection = find_connection(handle, "peer_address");
    if (!connection) return {};
    if (connection->dead) {
        connection->unknown_peer = true;
        return {.ip = {.bytes = {}, .is_v4 = false}, .port = 0};  // getpeername says ENOTCONN
    }
    return connection->far;
}

// ---- operations

void World::begin(Kind kind, Handle handle, Completion& completion) {
    Socket* socket = find(handle, kind_names[static_cast<int>(kind)]);
    if (!socket) return;
    auto [at, is_new] = operations_.try_emplace(
        &completion, Operation{.kind = kind, .socket = handle, .number = operations_begun_++});
    if (!is_new)
        return bug(format("{} begins while its completion is in flight",
                          kind_names[static_cast<int>(kind)]));
    ++socket->operations;
    submissions_.push_back({&completion, /* cancels= */ false, at->second.number});
}

void World::accept(Handle listener, Completion& completion) {
    if (find_listener(listener, "accept")) begin(Kind::accept, listener, completion);
}

void World::receive(Handle socket, bool once, Completion& completion) {
    Connection* connection = find_connection(socket, "receive");
    if (!connection) return;
    connection->receives_once = once;
    begin(Kind::receive, socket, completion);
}

void World::connect(Handle socket, const Address& to, Completion& completion) {
    Connection* connection = find_connection(socket, "connect");
    if (!connection) return;
    if (connection->far.port != 0) bug("a socket is connected twice");
    connection->far = to;
    begin(Kind::connect, socket, completion);
}

void World::wait_writable(Handle socket, Completion& completion) {
    if (find_connection(socket, "wait_writable")) begin(Kind::writable, socket, completion);
}

void World::wait_readable(Handle socket, Completion& completion) {
    if (find_connection(socket, "wait_readable")) begin(Kind::readable, socket, completion);
}

void World::cancel(Completion& completion) {
    auto found = operations_.find(&completion);
    if (found == operations_.end()) return bug("something is cancelled that is not in flight");
    submissions_.push_back({&completion, /* cancels= */ true, found->second.number});
}

void World::submit() {
    // Some of those who cancel many at once walk a map ordered by pointers. The order in which they
    // were begun keeps a seed's story the same in every process.
    for (auto from = submissions_.begin(); from != submissions_.end();) {
        auto to =
            std::find_if(from, submissions_.end(), [](const auto& each) { return !each.cancels; });
        std::sort(from, to, [](const auto& a, const auto& b) { return a.number < b.number; });
        from = to == submissions_.end() ? to : to + 1;
    }
    std::vector<Submission> submitted;
    submitted.swap(submissions_);
    for (auto [completion, cancels, number] : submitted) {
        auto found = operations_.find(completion);
        // A cancel that comes too late finds nothing, or another operation of the same owner.
        if (found == operations_.end() || found->second.number != number || found->second.over)
            continue;
        cancels ? end_early(*completion, found->second) : start(*completion, found->second);
    }
    submitted.clear();
    if (submissions_.empty()) submissions_.swap(submitted);  // keeps its memory
}

void World::start(Completion& completion, Operation& operation) {
    operation.started = true;
    Socket& socket = *find(operation.socket, "submit");
    if (operation.kind == Kind::accept) {
        if (std::exchange(socket.listener->accepting, &completion))
            bug("a listener has two accepts");
        return keep_accepting(*socket.listener, /* first= */ true);
    }
    Connection& connection = *socket.connection;
    Completion** slots[] = {nullptr, &connection.receiving, &connection.connecting,
                            &connection.writable, &connection.readable};
    if (std::exchange(*slots[static_cast<int>(operation.kind)], &completion))
        bug(format("a socket has two of {}", kind_names[static_cast<int>(operation.kind)]));
    switch (operation.kind) {
        case Kind::receive:
            return keep_receiving(connection, /* first= */ true);
        case Kind::connect:
            return dial_target(connection);
        case Kind::writable:
            return tell_writable(connection);
        case Kind::readable:
            return tell_readable(connection);
        case Kind::accept:
            return;
    }
}

/// A cancel: the operation ends now, unless its own end comes first.
void World::end_early(Completion& completion, Operation& operation) {
    Socket& socket = *find(operation.socket, "cancel");
    Connection* connection = socket.connection;
    if (dice_.chance(faults_.cancel_loses)) {
        if (operation.kind == Kind::receive && can_move(*connection, connection->in)) {
            move(*connection, connection->in);
            keep_receiving(*connection, /* first= */ false);
        } else if (operation.kind == Kind::connect) {
            connect_answered(*connection);
        } else if (operation.kind == Kind::writable) {
            finish(connection->writable, 4);
        }
        if (operation.over) return;
    }
    if (operation.kind == Kind::accept) return finish(socket.listener->accepting, -ECANCELED);
    for (auto* slot : {&connection->receiving, &connection->connecting, &connection->writable,
                       &connection->readable})
        if (*slot == &completion) finish(*slot, -ECANCELED);
}

/// Events of one operation keep their order; those of different operations overtake each other.
void World::post(Completion& completion, const Event& event) {
    Operation& operation = operations_.at(&completion);
    operation.over = !event.more;
    Time when = time_;
    if (dice_.chance(faults_.late)) when += dice_.up_to(faults_.late_max);
    when = std::max(when, operation.last_event);
    operation.last_event = when;
    if (when == time_ && operation.events_due == 0) {
        ready_.push_back({&completion, event});
        return;
    }
    ++operation.events_due;
    uint32_t place;
    if (late_free_.empty()) {
        place = static_cast<uint32_t>(late_.size());
        late_.push_back({&completion, event});
    } else {
        place = late_free_.back();
        late_free_.pop_back();
        late_[place] = {&completion, event};
    }
    schedule(when - time_, What::event_comes, place);
}

void World::finish(Completion*& slot, int result) {
    post(*std::exchange(slot, nullptr), {.result = result});
}

void World::keep_accepting(Listener& listener, bool first) {
    while (listener.accepting && (first || !listener.queue.empty())) {
        // The kernel takes a descriptor before it looks at the queue.
        if (dice_.chance(faults_.no_accept)) return finish(listener.accepting, -EMFILE);
        if (dice_.chance(faults_.interrupted))
            return finish(listener.accepting, dice_.chance(0.5) ? -EINTR : -ECONNABORTED);
        first = false;
        if (listener.queue.empty()) return;
        int accepted = static_cast<int>(accept_first(listener));
        if (dice_.chance(faults_.multishot_ends)) return finish(listener.accepting, accepted);
        post(*listener.accepting, {.result = accepted, .more = true});
    }
}

Handle World::accept_first(Listener& listener) {
    Connection& connection = *listener.queue.front();
    listener.queue.pop_front();
    connection.accepted = true;
    return connection.socket = new_socket({.connection = &connection});
}

void World::keep_receiving(Connection& connection, bool first) {
    Flow& in = connection.in;
    while (connection.receiving) {
        bool has_news = in.arrived > in.read || in.fin_arrived || connection.dead;
        if (!has_news && !first) return;
        first = false;
        // The kernel takes a buffer before it looks for bytes, so even an end needs one.
        if (home_.empty() || (has_news && dice_.chance(faults_.no_buffers)))
            return finish(connection.receiving, -ENOBUFS);
        if (!has_news) return;
        if (dice_.chance(faults_.interrupted))
            return finish(connection.receiving, dice_.chance(0.5) ? -EINTR : -EAGAIN);
        if (in.arrived == in.read) {
            // After the end there is nothing, not even a reset.
            in.fin_read = true;
            int error = in.fin_arrived ? 0 : std::exchange(connection.error, 0);
            return finish(connection.receiving, -error);
        }

        uint64_t count = std::min<uint64_t>(in.arrived - in.read, ring_options_.buffer_size);
        if (dice_.chance(faults_.short_receive)) count = dice_.between(1, count);
        uint16_t id = home_.front();
        home_.pop_front();
        buffers_[id] = BufferState::lent;
        fill_from_stream(in.id, in.read, {buffer(id), count});
        in.read += count;
        check_parked(connection);
        keep_moving(connection, in);
        bool goes_on = !connection.receives_once && !dice_.chance(faults_.multishot_ends);
        Completion& completion = *connection.receiving;
        if (!goes_on) connection.receiving = nullptr;
        post(completion, {.result = static_cast<int>(count),
                          .more = goes_on,
                          .more_waits = in.arrived > in.read,
                          .buffer = id});
    }
}

void World::tell_writable(Connection& connection) {
    // The kernel waits until a third of the buffer is free.
    if (connection.writable && (connection.dead || connection.out.fin_written ||
                                room_to_send(connection) * 3 >= connection.script.window))
        finish(connection.writable, 4);
}

void World::tell_readable(Connection& connection) {
    if (connection.readable && (connection.in.arrived > connection.in.read ||
                                connection.in.fin_arrived || connection.dead))
        finish(connection.readable, 1);
}

// ---- buffers

void World::open_ring(const Ring::Options& options) {
    expect(buffers_.empty(), "a world has one ring");
    ring_options_ = options;
    memory_.resize(size_t{options.buffers} * options.buffer_size);
    buffers_.resize(options.buffers);
    for (unsigned id = 0; id < options.buffers; ++id) home_.push_back(static_cast<uint16_t>(id));
}

std::byte* World::buffer(uint16_t id) {
    if (buffers_[id] != BufferState::lent) bug(format("buffer {} is used while it is home", id));
    return &memory_[size_t{id} * ring_options_.buffer_size];
}

void World::provide(uint16_t id) {
    if (id >= buffers_.size() || buffers_[id] != BufferState::lent)
        return bug(format("buffer {} comes home twice", id));
    // Whoever still reads from it finds something else.
    std::memset(buffer(id), 0xDB, std::min<size_t>(ring_options_.buffer_size, 64));
    buffers_[id] = BufferState::home;
    home_.push_back(id);
}

}  // namespace proxify::io::sim
