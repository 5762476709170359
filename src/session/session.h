// SPDX-License-Identifier: Apache-2.0
// Session: one client joined to one target, from accept to close. carry() in session.cc is the
// life of a connection on one page.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "balance/pool.h"
#include "base/ending.h"
#include "capture/arrival.h"
#include "dial/dial.h"
#include "io/loop.h"
#include "io/stream.h"
#include "proxy_header/header.h"
#include "relay/relay.h"
#include "routing/snapshot.h"
#include "session/exchange.h"
#include "session/passage.h"
#include "stats/service.h"
#include "telemetry/log.h"

namespace proxify::hello {
class Reader;
}

namespace proxify::session {

/// What a session needs of the worker it lives on. Outlives every session.
struct Surroundings {
    io::Loop& loop;
    telemetry::Journal& log;
    std::shared_ptr<stats::Service> unserved;  ///< counts sessions without a service
    dial::Guard* guard = nullptr;              ///< knows our own doors; may be null
    /// A target keeps letting clients down, so often in a row by now: health/ should look.
    /// May be empty.
    std::function<void(const routing::Service&, balance::Target&, balance::Trouble, uint32_t)>
        on_failing_target;
    /// With steering the kernel turns away who connects too often, but for this port: the
    /// listener's own.
    std::optional<uint16_t> uncounted_port = {};
    const std::shared_ptr<const routing::Snapshot>* snapshot =
        nullptr;               ///< the worker's, as of now
    tunnel::Id instance = {};  ///< what tunnels know this process by
};

class Session {
  public:
    Session(Surroundings& around, uint64_t id, capture::Arrival arrival,
            std::shared_ptr<const routing::Service> service);

    /// Lives from accept to close, and hands its record to the log.
    io::Task<> live();

    /// Ends it from outside, soon: an operator, or the deadline of a drain.
    void interrupt(Ending why);
    /// Whether bytes go to and from this target.
    bool is_joined_to(const balance::Target& target) const {
        return relay_ && &seat_.target() == &target;
    }

    /// What it is doing, for operators.
    struct View {
        uint64_t id = 0;
        std::shared_ptr<const std::string> service;  ///< null when none was found
        Address client;
        Address original_dst;
        std::optional<Address> target;
        const char* state = "";  ///< "waiting", "connecting", "open"
        Duration age{};
        uint64_t to_target = 0, to_client = 0;  ///< bytes
    };
    View view() const;
    uint64_t id() const { return record_.id; }

    // Sessions of one worker stand in a list.
    Session* next = nullptr;
    Session* previous = nullptr;

  private:
    io::Task<Ending> carry();
    // What comes before bytes are relayed; greet.cc and introduce.cc.
    /// Meets a client who says something about itself first, and lets it in.
    [[gnu::noinline]] io::Task<Ending> greet();
    /// From a proxy: hears whom it carries.
    [[gnu::noinline]] io::Task<Ending> hear_header();
    [[gnu::noinline]] io::Task<Ending> shake_hands_with_client();
    /// Writes down what was agreed on with the client, if anything; gives its certificate.
    std::optional<tls::CertificateFacts> note_tls();
    // Where services share a port; ask_name.cc.
    [[gnu::noinline]] io::Task<Ending> ask_name();
    [[gnu::noinline]] io::Task<Ending> read_hello(hello::Reader& reader, Duration patience);
    /// From here on it is a session of this service, or of none, and counted as one.
    void belong_to(std::shared_ptr<const routing::Service> service);
    /// What its port leads to is shared, and it is not known yet whose it is.
    bool is_nobodys_yet() const { return service_ && service_->names; }
    /// Tells a target that was reached what it is to know first. Without an end before `until`,
    /// this is one.
    [[gnu::noinline]] io::Task<Ending> introduce(const balance::Target& target, Time until);
    // Where there is a tunnel; tunnel.cc.
    /// Opens it to where the client aimed, by a target that was reached. Without an end before
    /// `until`, this is one.
    [[gnu::noinline]] io::Task<Ending> enter_tunnel(Time until);
    /// Meets the near end of one, and finds out which service its client is for.
    [[gnu::noinline]] io::Task<Ending> leave_tunnel();
    Ending route_passage(const config::Tunnel& spec);
    /// False when the answer did not go out, or another has.
    bool answer_passage(tunnel::Answer answer);
    bool refuse_passage(const Ending& why);
    bool stays_here();
    [[gnu::noinline]] io::Task<Ending> send_header();
    proxy_header::Header header() const;
    [[gnu::noinline]] io::Task<Ending> shake_hands_with_target(const balance::Target& target);
    /// Whether this client may come in; a normal ending when it may.
    Ending let_in();
    void begin_chain();
    // Where the service has a cache; session/exchange.cc.
    class Recorder;
    /// Without a value the session goes on to a target.
    [[gnu::noinline]] io::Task<std::optional<Ending>> answer_from_cache();
    void begin_exchange();
    [[gnu::noinline]] io::Task<Ending> read_request(bool& is_whole);
    [[gnu::noinline]] io::Task<Ending> ask_cache(cache::Reply& reply, bool& has_waited);
    [[gnu::noinline]] io::Task<Ending> answer(cache::Answer answer);
    [[gnu::noinline]] io::Task<> pause(Time until);
    void count_answered(size_t bytes);
    // Frames that are only needed for a while are not to be merged into carry()'s, which an idle
    // session keeps: bytes for each connection count.
    [[gnu::noinline]] io::Task<Ending> connect_to_target();
    /// Waits at most `patience`, and takes from it what it took.
    [[gnu::noinline]] io::Task<Ending> wait_for_seat(const balance::Asking& asking,
                                                     balance::Choice& choice, Duration& patience);
    dial::Destination destination_of(const balance::Target& target, const Address& to);
    void learn(const Ending& ending);
    void count(balance::Target& target, balance::Trouble trouble);
    Ending refuse(Ending why);
    stats::Service& stats() { return service_ ? *service_->stats : *around_.unserved; }
    /// Of the dialled port; null where ports are not counted.
    stats::Port* port_stats();
    void count_begin();
    void count_connect(stats::Target& target, Duration took);
    stats::Meter meter();
    void count_end();

    Surroundings& around_;
    telemetry::SessionRecord record_;
    std::shared_ptr<const routing::Service> service_;
    Time opened_;
    uint16_t port_;  ///< that was dialled here, whatever a PROXY header says of the client
    bool is_captured_;
    bool is_uncounted_;  ///< the kernel has not looked how often this client connects
    bool knows_original_, may_be_ours_;  ///< see capture::Arrival
    bool enters_tunnel_ = false;         ///< what is being dialled is its far end
    balance::Seat seat_;  ///< before the sockets, which are closed when it is given back
    io::Stream client_;
    std::optional<io::Stream> target_;
    std::unique_ptr<access::Sources::Place> place_;  ///< where sources are limited
    /// Of a PROXY header that came, if targets are told; null for none.
    std::unique_ptr<std::vector<proxy_header::Tlv>> heard_;
    std::optional<Ending> interrupted_;
    std::unique_ptr<Exchange> exchange_;    ///< where the service has a cache
    std::unique_ptr<Passage> passage_;      ///< where the client came by a tunnel
    std::unique_ptr<filter::Chain> chain_;  ///< null when there is nothing to go through
    relay::Relay* relay_ = nullptr;
    io::Stream* shaking_hands_ = nullptr;  ///< which of ours, while it does
    io::Signal* turn_ = nullptr;           ///< of our place in a line, while we wait there
    dial::Attempt attempt_;                ///< behind what the moving of bytes looks at
};

}  // namespace proxify::session
