// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>

#include "base/expect.h"
#include "base/format.h"
#include "io/sim/bytes.h"
#include "io/sim/world.h"

namespace proxify::io::sim {

/// How long the kernel repeats a SYN that nobody answers, and how soon.
static constexpr Duration syn_max = 127s;
static constexpr Duration syn_again = 1s;

std::string Connection::text() const {
    return format("{} {} ({})", with_client ? "client" : "target", number, far.text());
}

Connection& World::new_connection(bool with_client) {
    Connection& connection = connections_.emplace_back();
    connection.number = static_cast<uint32_t>(connections_.size() - 1);
    connection.with_client = with_client;
    return connection;
}

// ---- how connections come to be

Connection& World::add_client(Time when, const Address& to, const Script& script) {
    Connection& connection = new_connection(/* with_client= */ true);
    connection.near = to;
    // Every client has an address of its own, so that its record can be found.
    connection.far = {Ip::v4(198, 51, 100, static_cast<uint8_t>(connection.number >> 14)),
                      static_cast<uint16_t>(1024 + (connection.number & 0x3fff))};
    connection.script = script;
    schedule(when - time_, What::client_dials, connection.number);
    return connection;
}

void World::steer(uint16_t port, uint16_t listener) {
    if (listener != 0)
        steered_[port] = listener;
    else
        steered_.erase(port);
}

void World::client_dials(Connection& connection) {
    uint16_t port = connection.near.port;
    if (auto steered = steered_.find(port); steered != steered_.end()) port = steered->second;
    std::vector<Listener*> listeners;
    for (auto& listener : listeners_)
        if (listener.is_open && listener.at.port == port) listeners.push_back(&listener);
    if (listeners.empty()) {
        if (tracing_) note(format("{}: {} refused", connection.text(), connection.near.text()));
        connection.refused = true;
        return;
    }
    Listener& listener = *listeners[dice_.below(listeners.size())];
    if (listener.queue.size() >= listener.backlog)
        return schedule(syn_again, What::client_dials, connection.number);
    if (tracing_) note(format("{}: connected to {}", connection.text(), connection.near.text()));
    meet(connection);
    listener.queue.push_back(&connection);
    keep_accepting(listener, /* first= */ false);
}

void World::dial_target(Connection& connection) {
    const Address& to = connection.far;
    if (connection.near.port == 0)
        connection.near = {Ip::v4(203, 0, 113, 200), next_source_port_++};
    bool comes_back =
        to.ip.is_loopback() && steered_.contains(to.port) && !let_through(connection.near);
    if (comes_back) bug(format("a dial to {} comes in by our own door", to.text()));
    auto door = doors_.find(to.ip);
    Duration delay = latency() + latency();
    if (door != doors_.end()) {
        delay += dice_.up_to(door->second.delay_max);
        if (door->second.answer == Door::Answer::silent) delay = syn_max;
    }
    if (tracing_) note(connection.text() + ": dialled");
    schedule(delay, What::connect_answered, connection.number);
}

void World::connect_answered(Connection& connection) {
    if (connection.near_closed || connection.connected || connection.refused) return;
    auto door = doors_.find(connection.far.ip);
    auto answer = door == doors_.end() ? Door::Answer::refuses : door->second.answer;
    if (answer == Door::Answer::accepts && dice_.chance(door->second.refuses_some))
        answer = Door::Answer::refuses;
    int error = 0;
    switch (answer) {
        case Door::Answer::accepts:
            break;
        case Door::Answer::refuses:
            error = ECONNREFUSED;
            break;
        case Door::Answer::unreachable:
            error = EHOSTUNREACH;
            break;
        case Door::Answer::silent:
            error = ETIMEDOUT;
            break;
    }
    if (error != 0) {
        connection.refused = true;
    } else {
        connection.script = door->second.script(dice_);
        meet(connection);
    }
    if (tracing_)
        note(format("{}: {}", connection.text(), error != 0 ? "does not answer" : "accepts"));
    if (connection.connecting) finish(connection.connecting, -error);
}

void World::meet(Connection& connection) {
    connection.met_at = time_;
    connection.met = connection.connected = connection.far_open = true;
    connection.act_due = true;
    schedule(connection.script.first_pause, What::far_acts, connection.number);
    if (connection.script.resets_in)
        schedule(*connection.script.resets_in, What::far_resets, connection.number);
}

// ---- what lies between the ends

bool World::can_move(const Connection& connection, const Flow& flow) const {
    if (flow.cut || flow.fin_arrived) return false;
    if (flow.written == flow.arrived) return flow.fin_written;
    return flow.arrived - flow.read < connection.script.window;
}

void World::keep_moving(Connection& connection, Flow& flow) {
    if (flow.moving || !can_move(connection, flow)) return;
    flow.moving = true;
    schedule(latency(), &flow == &connection.in ? What::moves_in : What::moves_out,
             connection.number);
}

/// Brings what the receiver has room for, or a part of it; says whether any byte was among it.
bool World::move(Connection& connection, Flow& flow) {
    if (!can_move(connection, flow)) return false;
    uint64_t room = connection.script.window -
                    std::min<uint64_t>(flow.arrived - flow.read, connection.script.window);
    uint64_t count = std::min(flow.written - flow.arrived, room);
    if (count > 1 && dice_.chance(faults_.short_move)) count = dice_.between(1, count);
    flow.arrived += count;
    flow.arrived_at = time_;
    if (flow.arrived == flow.written && flow.fin_written) flow.fin_arrived = true;
    return count > 0;
}

void World::moves_in(Connection& connection) {
    connection.in.moving = false;
    if (connection.near_closed) {
        // Nobody is there to read it, and the far end has to learn that.
        if (move(connection, connection.in)) return near_resets(connection);
    } else {
        move(connection, connection.in);
        keep_receiving(connection, /* first= */ false);
        tell_readable(connection);
    }
    act_soon(connection);
    keep_moving(connection, connection.in);
}

void World::moves_out(Connection& connection) {
    connection.out.moving = false;
    if (connection.far_closed) {
        if (can_move(connection, connection.out) && connection.out.written > connection.out.arrived)
            return far_resets(connection);
    }
    move(connection, connection.out);
    act_soon(connection);
    tell_writable(connection);
    keep_moving(connection, connection.out);
}

void World::near_resets(Connection& connection) {
    connection.near_reset = true;
    connection.in.cut = connection.out.cut = true;
    schedule(latency(), What::reset_reaches_far, connection.number);
}

void World::reset_reaches_far(Connection& connection) {
    if (!connection.far_open) return;
    if (tracing_) note(connection.text() + ": sees a reset");
    connection.saw_reset = true;
    connection.far_open = false;
}

void World::reset_reaches_near(Connection& connection) {
    connection.in.cut = connection.out.cut = true;
    if (connection.near_closed || connection.dead) return;
    connection.dead = true;
    // In CLOSE_WAIT the kernel says EPIPE.
    connection.error =
        connection.in.fin_arrived && !connection.out.fin_written ? EPIPE : ECONNRESET;
    keep_receiving(connection, /* first= */ false);
    tell_writable(connection);
    tell_readable(connection);
}

// ---- what far ends do

void World::act_soon(Connection& connection) {
    if (!connection.far_open || std::exchange(connection.act_due, true)) return;
    schedule(connection.script.pace / 2 + dice_.up_to(connection.script.pace), What::far_acts,
             connection.number);
}

void World::far_acts(Connection& connection) {
    connection.act_due = false;
    if (!connection.far_open) return;
    const Script& script = connection.script;
    Flow &in = connection.in, &out = connection.out;

    uint64_t heard =
        std::min<uint64_t>(std::min(out.arrived, script.hears) - out.read, script.step);
    out.read += heard;
    if (heard > 0) keep_moving(connection, out);
    if (out.fin_arrived && out.read == out.arrived) connection.saw_fin = true;

    const uint64_t has_to_say = script.echoes ? std::min(script.says, out.read) : script.says;
    auto sayable = [&] {
        return std::min(has_to_say - in.written, script.window - (in.written - in.arrived));
    };
    if (uint64_t said = std::min<uint64_t>(sayable(), script.step); said > 0) {
        if (in.id == 0) {
            expect(streams_.size() < 65536, "two bytes name each stream of a run");
            in.id = (mix(seed_ ^ streams_.size()) & 0x7fffffffffff0000u) | streams_.size();
            if (may_change_bytes) in.id = (in.id & 0x007f7f7f7f7fffffu) | few_letters;
            // An id of zero is no id.
            if (in.id == 0) in.id = uint64_t{1} << 16;
            streams_.push_back(&connection);
        }
        in.written += said;
        keep_moving(connection, in);
    }
    if (in.written + out.read >= script.resets_after) return far_resets(connection);

    bool all_said = in.written == has_to_say &&
                    (!script.echoes || connection.saw_fin || in.written == script.says);
    bool may_end = script.ends == Script::Ends::when_said ||
                   (script.ends == Script::Ends::after_peer && connection.saw_fin);
    if (all_said && may_end && !in.fin_written) {
        if (tracing_) note(format("{}: has said all, {} bytes", connection.text(), in.written));
        in.fin_written = true;
        keep_moving(connection, in);
        if (script.closes) {
            connection.far_closed = true;
            if (out.arrived > out.read) return far_resets(connection);
            connection.far_open = false;
        }
    }
    if (in.fin_written && connection.saw_fin) connection.far_open = false;
    if (out.read < std::min(out.arrived, script.hears) ||
        (out.fin_arrived && !connection.saw_fin) || sayable() > 0) {
        if (out.read < script.hears || sayable() > 0) act_soon(connection);
    }
}

void World::far_resets(Connection& connection) {
    if (!connection.far_open && !connection.far_closed) return;
    if (connection.far_reset || connection.near_reset) return;
    if (tracing_) note(connection.text() + ": resets");
    connection.far_open = false;
    connection.far_reset = true;
    connection.out.cut = true;
    if (dice_.chance(0.5)) connection.in.cut = true;  // what it had still to send is thrown away
    schedule(latency(), What::reset_reaches_near, connection.number);
}

// ---- what proxify sends

uint64_t World::room_to_send(const Connection& connection) const {
    uint64_t used = connection.out.written - connection.out.arrived;
    return connection.script.window - std::min<uint64_t>(used, connection.script.window);
}

/// The first bytes of a stream say which one it is; the others must be its own.
void World::check_sent(Connection& connection, std::span<const std::byte> bytes) {
    Flow& out = connection.out;
    uint64_t at = out.written;
    if (may_change_bytes) out.kept.insert(out.kept.end(), bytes.begin(), bytes.end());
    for (; at < 8 && !bytes.empty(); bytes = bytes.subspan(1)) {
        out.id |= std::to_integer<uint64_t>(bytes.front()) << (8 * at);
        if (++at == 2) learn_pair(connection);
    }
    if (at < 2 || !connection.pair || may_change_bytes) return;
    const Flow& source = connection.pair->in;
    uint64_t known = at < 8 ? (uint64_t{1} << (8 * at)) - 1 : ~uint64_t{0};
    if (((out.id ^ source.id) & known) != 0 || !is_of_stream(source.id, at, bytes))
        bug(format("{} gets a wrong byte, at {} or after", connection.text(), out.written));
    if (at + bytes.size() > source.read)
        bug(format("{} gets bytes that nobody has read", connection.text()));
}

/// The same for bytes that came through a pipe: made only when it matters.
void World::check_spliced(Connection& connection, Connection& source, uint64_t offset,
                          uint64_t count) {
    if (connection.pair == &source && offset == connection.out.written && offset >= 8 &&
        !may_change_bytes)
        return;
    std::vector<std::byte> bytes(count);
    fill_from_stream(source.in.id, offset, bytes);
    check_sent(connection, bytes);
}

void World::learn_pair(Connection& connection) {
    uint64_t number = connection.out.id & 0xffff;
    Connection* source = number < streams_.size() ? streams_[number] : nullptr;
    if (!source || source->with_client == connection.with_client)
        return bug(connection.text() + " gets bytes of nobody");
    if ((connection.pair && connection.pair != source) ||
        (source->pair && source->pair != &connection))
        return bug(
            format("{} gets bytes of another session, from {}", connection.text(), source->text()));
    connection.pair = source;
    source->pair = &connection;
}

/// What proxify has read and not yet sent on must be bounded, however slow the other side is.
void World::check_parked(const Connection& source) {
    if (may_change_bytes) return;  // what was read says nothing of what is to be sent
    uint64_t parked =
        source.in.read - source.in.in_pipes - (source.pair ? source.pair->out.written : 0);
    parked_max_ = std::max(parked_max_, parked);
    uint64_t most = uint64_t{2} * ring_options_.buffers * ring_options_.buffer_size;
    if (parked > most) bug(format("{} has {} bytes parked", source.text(), parked));
}

}  // namespace proxify::io::sim
