// SPDX-License-Identifier: Apache-2.0
#include "sim/scenario.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <set>
#include <unordered_map>

#include "base/format.h"
#include "health/health.h"
#include "io/sim/bytes.h"
#include "sim/elements.h"
#include "worker/worker.h"

namespace proxify::test {

using namespace io;
using namespace io::sim;

namespace {

constexpr uint16_t steering_port = 8080;
/// How long after the deadline of a drain the last session may still deliver what it took.
constexpr Duration last_bytes_max = 2s;

class Kept : public telemetry::Journal {
  public:
    explicit Kept(World& world) : world_(world) {}
    void session(telemetry::SessionRecord&& record) override {
        if (world_.tracing())
            world_.note(format("session {} of {} ends {} {}: to_target={} to_client={} tried={}",
                               record.id, record.client.text(), record.ending.letters(),
                               record.ending.reason, record.to_target, record.to_client,
                               record.tried));
        records.push_back(std::move(record));
        ended_at.push_back(world_.now());
        truly_ended_at.push_back(world_.true_time());
    }
    void write(telemetry::Level, const char* event, std::string message,
               std::vector<std::pair<const char*, std::string>>) override {
        if (world_.tracing()) world_.note(format("{}: {}", event, message));
    }
    std::vector<telemetry::SessionRecord> records;
    std::vector<Time> ended_at;        ///< one for each record, as proxify was told
    std::vector<Time> truly_ended_at;  ///< as it was

  private:
    World& world_;
};

/// Knows which sources were let through, and that each was forgotten.
class CountingGuard : public dial::Guard {
  public:
    CountingGuard(const std::set<uint16_t>& steered, const std::map<uint16_t, Handle>& own)
        : steered_(steered), own_(own) {}
    Way way_to(uint16_t port) const override {
        return steered_.contains(port) ? Way::steered : own_.contains(port) ? Way::own : Way::open;
    }
    bool let_through(const Address& source) override { return sources.insert(source).second; }
    void forget(const Address& source) override { sources.erase(source); }
    std::set<Address> sources;

  private:
    const std::set<uint16_t>& steered_;
    const std::map<uint16_t, Handle>& own_;
};

/// If the process dies in a run, its last words say which run it was.
uint64_t seed_running = 0;

void say_how_to_replay() {
    std::fprintf(stderr, "replay: ./dev sim %llu\n", static_cast<unsigned long long>(seed_running));
}

void on_abort(int) {
    say_how_to_replay();
    std::signal(SIGABRT, SIG_DFL);
    std::raise(SIGABRT);
}

std::set<uint16_t> ports_of(const config::Config& config) {
    std::set<uint16_t> ports;
    for (const auto& service : config.services)
        for (auto [first, last] : service.ports)
            for (int port = first; port <= last; ++port) ports.insert(static_cast<uint16_t>(port));
    return ports;
}

/// What was decided while the worker lived, and when.
struct Past {
    struct Used {
        std::shared_ptr<const routing::Snapshot> snapshot;
        Time from;  ///< as the world has it
    };
    std::vector<Used> snapshots;
    Time drained_from = Time::max();  ///< as proxify was told
    Time drained_at{};                ///< as it was
    Time ended_at{};
    bool forgot_all_sources = false;
};

/// The worker and what control/ does around it, on one thread.
class Life {
  public:
    Life(const Plan& plan, World& world, Kept& kept)
        : plan_(plan),
          world_(world),
          guard_(steered_, own_),
          snapshot_(build(plan.config, nullptr)),
          worker_(*Ring::open(plan.ring), kept, worker_options(), snapshot_),
          health_(worker_.loop(), kept, &guard_,
                  [this](const routing::Service& service, const balance::Target& target,
                         health::Change change) {
                      if (change == health::Change::down &&
                          service.spec.on_down == config::OnDown::reset)
                          worker_.loop().post([this, &target] { worker_.end_sessions_of(target); });
                  }) {
        world_.let_through = [this](const Address& source) {
            return guard_.sources.contains(source);
        };
        for (const auto& [ip, door] : plan_.targets) world_.put_target(ip, door);

        if (plan_.steered) {
            worker_.listen(listen_on(steering_port), door());
            for (uint16_t port : ports_of(plan_.config)) steer(port);
            for (uint16_t port : plan_.added_by_hand) steer(port);
        } else {
            for (uint16_t port : ports_of(plan_.config)) worker_.listen(listen_on(port), door());
        }
        health_.follow(*snapshot_);

        const Time start = world_.now();
        for (const auto& client : plan_.clients)
            world_.add_client(start + client.when, {Ip::v4(203, 0, 113, 1), client.port},
                              client.script);
        for (const auto& reload : plan_.reloads)
            on_worker(start + reload.when,
                      [this, &reload] { when_settled([this, &reload] { apply(reload.config); }); });
        for (const auto& change : plan_.answers)
            world_.at(start + change.when,
                      [this, &change] { world_.target(change.target).answer = change.answer; });
        for (const auto& change : plan_.states)
            on_worker(start + change.when, [this, &change] { set_state(change); });
        for (const auto& look : plan_.looks)
            on_worker(start + look.when, [this, &look] { look.at(*snapshot_); });
        for (Duration when : plan_.handovers)
            on_worker(start + when, [this] { when_settled([this] { hand_over(); }); });
        on_worker(start + plan_.drain_at, [this] { when_settled([this] { drain(); }); });
    }

    Past live() {
        worker_.loop().run();
        past_.ended_at = world_.true_time();
        past_.forgot_all_sources = guard_.sources.empty();
        return std::move(past_);
    }

  private:
    worker::Options worker_options() {
        return {
            .shares = plan_.shares,
            .sessions_so_far = sessions_so_far_,
            .guard = &guard_,
            .is_added_by_hand =
                [this](uint16_t port) { return plan_.added_by_hand.contains(port); },
            .on_failing_target =
                [this](const routing::Service& service, balance::Target& target,
                       balance::Trouble trouble, uint32_t in_a_row) {
                    health_.suspect(service.name, &target, trouble, in_a_row);
                },
        };
    }

    std::shared_ptr<const routing::Snapshot> build(const config::Config& config,
                                                   const routing::Snapshot* before) {
        auto resolve = [this](const std::string& host) { return plan_.names.at(host); };
        past_.snapshots.push_back(
            {routing::Snapshot::build(config, resolve, before, world_.now()), world_.true_time()});
        return past_.snapshots.back().snapshot;
    }

    capture::Door door() const {
        return plan_.steered ? capture::Door::steered : capture::Door::bound;
    }

    Handle listen_on(uint16_t port) {
        Handle listener = *worker_.loop().ring().listen({Ip::v4(0, 0, 0, 0), port}, {});
        own_.emplace(port, listener);
        return listener;
    }

    /// As between two workers, when their number changes. What comes next waits for it, as
    /// control/ does.
    void hand_over() {
        if (past_.drained_from != Time::max()) return;
        moving_ = own_.size();
        for (auto [port, listener] : std::map(own_))
            worker_.release(port, listener, [this, listener] {
                worker_.listen(listener, door());
                if (--moving_ > 0) return;
                for (auto& act : std::exchange(waiting_, {})) when_settled(std::move(act));
            });
    }

    void when_settled(std::move_only_function<void()> act) {
        if (moving_ == 0)
            act();
        else
            waiting_.push_back(std::move(act));
    }

    void steer(uint16_t port) {
        world_.steer(port, steering_port);
        steered_.insert(port);
    }

    void unsteer(uint16_t port) {
        world_.steer(port, 0);
        steered_.erase(port);
    }

    void on_worker(Time when, std::move_only_function<void()> act) {
        auto shared = std::make_shared<std::move_only_function<void()>>(std::move(act));
        world_.at(when, [this, shared] { worker_.loop().post([shared] { (*shared)(); }); });
    }

    /// As a reload does it: what can fail comes first, and the worker knows a service before a port
    /// leads to it.
    void apply(const config::Config& config) {
        if (past_.drained_from != Time::max()) return;
        auto had = ports_of(snapshot_->config()), want = ports_of(config);
        std::map<uint16_t, Handle> listeners;
        for (uint16_t port : want) {
            if (had.contains(port) || plan_.steered) continue;
            // A listener that is being emptied may still have the port.
            auto listener = worker_.loop().ring().listen({Ip::v4(0, 0, 0, 0), port}, {});
            if (!listener) {
                for (auto [other, bound] : listeners) worker_.loop().ring().close(bound);
                return;
            }
            listeners[port] = *listener;
        }
        for (auto [port, listener] : listeners) own_[port] = listener;  // now that all are there
        if (world_.tracing())
            world_.note(
                format("reload: {} services, {} ports", config.services.size(), want.size()));
        snapshot_ = build(config, snapshot_.get());
        worker_.use(snapshot_);
        for (auto [port, listener] : listeners) worker_.listen(listener, door());
        for (uint16_t port : want)
            if (plan_.steered) steer(port);
        for (uint16_t port : had) {
            if (want.contains(port)) continue;
            own_.erase(port);
            if (!plan_.steered)
                worker_.stop_listening(port);
            else if (!plan_.added_by_hand.contains(port))
                unsteer(port);
        }
        health_.follow(*snapshot_);
    }

    void set_state(const Plan::NewState& change) {
        struct Place {
            const balance::Pool* pool;
            balance::Target* target;
        };
        std::vector<Place> targets;
        for (const auto& service : snapshot_->services())
            if (service)
                for (const auto& target : service->pool.targets())
                    targets.push_back({&service->pool, target.get()});
        auto [pool, target] = targets[change.target % targets.size()];
        if (target->set_up(change.up, worker_.loop().now())) pool->admission().notice_room();
    }

    void drain() {
        if (world_.tracing()) world_.note(format("drain, for {}", to_text(plan_.config.drain)));
        past_.drained_from = world_.now();
        past_.drained_at = world_.true_time();
        for (uint16_t port : std::set(steered_)) unsteer(port);
        health_.stop();
        worker_.drain(plan_.config.drain);
    }

    const Plan& plan_;
    World& world_;
    std::set<uint16_t> steered_;
    std::map<uint16_t, Handle> own_;  ///< ports that we listen on ourselves
    size_t moving_ = 0;               ///< listeners on their way from one worker to the next
    std::vector<std::move_only_function<void()>> waiting_;
    std::atomic<uint64_t> sessions_so_far_ = 0;
    CountingGuard guard_;
    Past past_;
    std::shared_ptr<const routing::Snapshot> snapshot_;
    worker::Worker worker_;
    health::Health health_;
};

/// What must be true after a run, whatever happened in it.
class Examination {
  public:
    Examination(const Plan& plan, const World& world, const Kept& kept, const Past& past)
        : plan_(plan),
          world_(world),
          kept_(kept),
          past_(past),
          deadline_(past.drained_from + plan.config.drain) {}

    std::vector<std::string> examine() {
        problems_ = world_.bugs();
        match_records();
        for (size_t i = 0; i < kept_.records.size(); ++i) {
            const Connection* client = client_of_[i];
            if (!client) continue;
            const auto& record = kept_.records[i];
            about_ = format("session {} ({} {}), client {}", record.id, record.ending.letters(),
                            record.ending.reason, client->number);
            const Connection* target = joined_to(*client, record);
            service_ = chain_of(record, kept_.truly_ended_at[i], *client, target);
            examine_session(record, kept_.ended_at[i], *client, target);
            examine_route(record, kept_.truly_ended_at[i], *client);
        }
        about_.clear();
        for (const auto& connection : world_.connections())
            if (!connection.with_client && !connection.pair)
                claim(connection.out.written < 2, "a target that serves nobody gets nothing");
        return std::move(problems_);
    }

    /// Connections to targets that were there at the same time.
    size_t joined_max() const {
        std::vector<std::pair<Time, int>> steps;
        for (const auto& connection : world_.connections()) {
            if (connection.with_client || !connection.met) continue;
            steps.emplace_back(connection.met_at, 1);
            steps.emplace_back(connection.closed_at, -1);
        }
        std::ranges::sort(steps);  // at the same moment one goes before the next comes
        int now = 0, most = 0;
        for (auto [when, step] : steps) most = std::max(most, now += step);
        return static_cast<size_t>(most);
    }

    void claim(bool holds, const char* sentence) {
        if (!holds && problems_.size() < 20)
            problems_.push_back(about_.empty() ? sentence : format("{}: {}", about_, sentence));
    }

  private:
    /// Each accepted connection has one record, and each record is of an accepted connection.
    void match_records() {
        std::unordered_map<Address, const Connection*> known;
        std::vector<const Connection*> unknown;
        for (const auto& connection : world_.connections()) {
            if (!connection.with_client || !connection.accepted) continue;
            if (connection.unknown_peer)
                unknown.push_back(&connection);
            else
                known[connection.far] = &connection;
        }
        for (size_t i = 0; i < kept_.records.size(); ++i) {
            const auto& record = kept_.records[i];
            const Connection* client = nullptr;
            if (auto found = known.find(record.client); found != known.end()) {
                client = found->second;
                known.erase(found);
            } else {
                auto match = std::ranges::find_if(unknown, [&](const Connection* each) {
                    return each->near == record.original_dst &&
                           each->closed_at == kept_.truly_ended_at[i] &&
                           each->out.written == record.to_client &&
                           (each->pair ? each->pair->out.written == record.to_target &&
                                             each->pair->far == record.target
                                       : record.to_target < 2);
                });
                if (match != unknown.end()) {
                    client = *match;
                    unknown.erase(match);
                }
            }
            claim(client, "a record is of one accepted connection");
            client_of_.push_back(client);
        }
        claim(known.empty() && unknown.empty(), "each accepted connection has a record");
    }

    /// The target that a client was joined to. Without any bytes to tell, it is the one at the
    /// right address whose socket was closed at the same moment; there may be several, and then
    /// nobody knows.
    const Connection* joined_to(const Connection& client,
                                const telemetry::SessionRecord& record) const {
        if (client.pair || !record.target) return client.pair;
        const Connection* found = nullptr;
        for (const auto& other : world_.connections()) {
            if (other.with_client || other.pair || !other.met || other.far != record.target ||
                other.out.written != record.to_target)
                continue;
            if (other.closed_at != client.closed_at) continue;
            if (found) return nullptr;
            found = &other;
        }
        return found;
    }

    void examine_session(const telemetry::SessionRecord& record, Time ended_at,
                         const Connection& client, const Connection* target) {
        const Ending& ending = record.ending;
        claim(record.original_dst == client.near, "the record knows what was dialled");
        claim(record.to_client == client.out.written,
              "to_client counts what was sent to the client");
        if (target) {
            claim(record.to_target == target->out.written,
                  "to_target counts what was sent to the target");
            claim(record.target == target->far, "the record names the target that was served");
        } else {
            // One byte does not say whose it is.
            claim(record.to_target < 2 && record.to_client < 2, "bytes go to somebody");
        }
        claim(record.duration <= ended_at.time_since_epoch(), "a duration is one");

        const bool relayed = ending.stage == Stage::data || ending.stage == Stage::last ||
                             ending.stage == Stage::filter || ending.is_normal();
        if (ending.is_normal()) {
            arrived_whole(client, target);
            if (target) arrived_whole(*target, &client);
        } else {
            claim(client.near_reset || client.dead || client.far_reset,
                  "an end that is not normal is a reset");
            if (target && relayed) {
                claim(target->near_reset || target->dead || target->far_reset,
                      "an end that is not normal is a reset");
                knows_what_it_missed(client, *target);
                knows_what_it_missed(*target, client);
            }
            if (!relayed)
                claim(client.out.written == 0, "who was never joined to a target gets no byte");
        }
        if (ending.party == Party::operator_)
            claim(ended_at >= deadline_, "the operator waits until the deadline");
        if (relayed && ending.party == Party::client)
            claim(client.far_reset, "a client that is blamed did reset");
        const bool was_down = ending.party == Party::target && ending.error == 0;
        if (relayed && ending.party == Party::target && target && !was_down)
            claim(target->far_reset, "a target that is blamed did reset");
        if (relayed && target && ended_at < deadline_) {
            if (ending.party == Party::target && !was_down) gets_the_last_bytes(client, *target);
            if (ending.party == Party::client) gets_the_last_bytes(*target, client);
        }
        bool was_cut_short = was_down || ending.party == Party::operator_ ||
                             ending.party == Party::silent_client ||
                             ending.party == Party::silent_target;
        const bool may_have_waited = service_ && may_wait(*service_);
        if (relayed && was_cut_short && target && !may_have_waited) {
            was_not_forgotten(client, *target);
            was_not_forgotten(*target, client);
        }
        if (ending.party == Party::resource && ending.stage != Stage::choose)
            claim(plan_.faults.no_socket > 0 || plan_.faults.no_source > 0,
                  "nothing runs out unless something is short");
    }

    /// The service as it was when the session began: its chain is the only one that both directions
    /// can have gone through. Null when nothing in the plan changes bytes, or none were moved.
    const config::Service* chain_of(const telemetry::SessionRecord& record, Time ended_at,
                                    const Connection& client, const Connection* target) {
        if (!world_.may_change_bytes || !target || !record.service) return nullptr;
        for (size_t i = 0; i < past_.snapshots.size(); ++i) {
            const auto& [snapshot, from] = past_.snapshots[i];
            // A port that leaves keeps its service until its listener has been emptied.
            const bool was_over = i + 1 < past_.snapshots.size() &&
                                  past_.snapshots[i + 1].from < client.met_at &&
                                  past_.snapshots[i + 1].snapshot->find(record.original_dst);
            if (was_over || from > ended_at) continue;
            for (const auto& service : snapshot->services())
                if (service && service->name == *record.service &&
                    may_have_gone_through(service->spec, record.ending, client, *target))
                    return &service->spec;
        }
        claim(false, "what is sent is what one chain makes of what was read");
        return nullptr;
    }

    /// An element ends the session when it has to, not otherwise, and what it let pass before is
    /// sent.
    static bool may_have_gone_through(const config::Service& service, const Ending& ending,
                                      const Connection& client, const Connection& target) {
        const std::string from_client = read_from(client), from_target = read_from(target);
        const std::string to_client = sent_to(client), to_target = sent_to(target);
        const Made all_to_target = made_of(from_client, service, Direction::to_target);
        const Made all_to_client = made_of(from_target, service, Direction::to_client);
        if (ending.is_normal() && (all_to_target.is_cut || all_to_client.is_cut)) return false;
        if (ending.stage == Stage::filter &&
            !(all_to_target.is_cut && to_target == all_to_target.bytes) &&
            !(all_to_client.is_cut && to_client == all_to_client.bytes))
            return false;
        const bool is_all = ending.is_normal();
        return may_be_made_of(from_client, to_target, is_all, service, Direction::to_target) &&
               may_be_made_of(from_target, to_client, is_all, service, Direction::to_client);
    }

    static std::string read_from(const Connection& connection) {
        std::string bytes(connection.in.read, '\0');
        fill_from_stream(connection.in.id, 0, std::as_writable_bytes(std::span(bytes)));
        return bytes;
    }
    static std::string sent_to(const Connection& connection) {
        const auto& kept = connection.out.kept;
        return {reinterpret_cast<const char*>(kept.data()), kept.size()};
    }

    /// Whether all that was read from one has been sent on, as its service would have it.
    bool has_all_of(const Connection& from, const Connection& to) const {
        if (!service_) return to.out.written == from.in.read;
        return may_be_made_of(read_from(from), sent_to(to), /*is_all=*/true, *service_,
                              from.with_client ? Direction::to_target : Direction::to_client);
    }

    /// After a normal end, all that `from` said was read and sent on, its end as well, and all
    /// arrived.
    void arrived_whole(const Connection& to, const Connection* from) {
        claim(!to.shutdown_failed, "a normal end is no end that could not be passed on");
        if (from) {
            claim(from->in.fin_arrived && from->in.read == from->in.written,
                  "a normal end has read all that was said");
            claim(has_all_of(*from, to), "a normal end has sent on all that was said");
        }
        if (to.far_reset || to.script.hears != Script::unlimited) return;  // it would not have it
        claim(to.out.fin_written && to.out.arrived == to.out.written,
              "a normal end has delivered all");
        claim(to.saw_fin || to.far_closed, "a normal end is seen by both sides");
        claim(!to.near_reset, "a normal end is no reset");
    }

    /// After any other end, who did not fail does not believe that all is well.
    void knows_what_it_missed(const Connection& to, const Connection& from) {
        if (to.far_reset || !to.saw_fin) return;
        bool had_all =
            from.in.fin_arrived && from.in.read == from.in.written && has_all_of(from, to);
        claim(had_all, "a clean end is seen only by who has everything");
    }

    /// Who is cut short has not been waiting for proxify: it was not told anything that could be
    /// sent on.
    void was_not_forgotten(const Connection& from, const Connection& to) {
        constexpr Duration long_enough = 300ms;
        bool is_waiting =
            from.in.arrived > from.in.read || (from.in.fin_arrived && !from.in.fin_read);
        Time waits_since =
            std::max({from.in.arrived_at, to.out.arrived_at, to.met_at, from.met_at});
        bool has_room = (to.out.written - to.out.arrived) * 2 < to.script.window;
        bool is_there = !from.dead && !to.dead && from.closed_at == to.closed_at;
        if (is_waiting && is_there && has_room && world_.jumped() == Duration(0))
            claim(from.closed_at - waits_since < long_enough, "nobody waits for proxify");
    }

    /// Who dialled a port is served by a service that the port has led to, if it led to one at all.
    void examine_route(const telemetry::SessionRecord& record, Time ended_at,
                       const Connection& client) {
        const uint16_t port = record.original_dst.port;
        bool was_known = false, may_be = false;
        for (size_t i = 0; i < past_.snapshots.size(); ++i) {
            const auto& snapshot = *past_.snapshots[i].snapshot;
            const Time from = past_.snapshots[i].from;
            if (from > ended_at) break;
            bool was_last =
                i + 1 == past_.snapshots.size() || past_.snapshots[i + 1].from > client.met_at;
            if (was_last && from <= client.met_at && snapshot.find(record.original_dst))
                was_known = true;
            for (const auto& service :
                 {snapshot.find(record.original_dst), snapshot.default_service()}) {
                if (!service || !record.service || service->name != *record.service) continue;
                bool has_target =
                    !record.target ||
                    std::ranges::any_of(service->pool.targets(), [&](const auto& target) {
                        return target->for_dialled(record.original_dst) == record.target;
                    });
                may_be |= has_target;
            }
        }
        // A port that was also added by hand stays steered when it leaves the file, to the default
        // service.
        if (was_known && !plan_.added_by_hand.contains(port))
            claim(record.service != nullptr, "who dialled a port that is known finds a service");
        if (record.service) claim(may_be, "nobody is served by another service's target");
    }

    /// What arrived here before `gone` reset the connection reaches the one that stays.
    void gets_the_last_bytes(const Connection& stays, const Connection& gone) {
        const Script& script = stays.script;
        bool is_quick = script.is_kind() && script.pace <= 10ms && script.first_pause <= 200ms &&
                        script.window / script.step * script.pace <= 500ms;
        bool was_stopped = world_.jumped() > Duration(0);
        bool is_late = plan_.faults.late_max > 10ms;
        if (stays.far_reset || !is_quick || was_stopped || is_late) return;
        if (!is_patient(stays) || (service_ && may_wait(*service_))) return;
        claim(gone.in.read == gone.in.arrived, "what a side sent before its reset is read");
        claim(has_all_of(gone, stays), "what a side sent before its reset is sent on");
        claim(stays.out.arrived == stays.out.written,
              "what a side sent before its reset is delivered");
    }

    /// Whether no limit in time can have cut its session short.
    bool is_patient(const Connection&) const {
        return std::ranges::all_of(plan_.config.services,
                                   [](const auto& service) {
                                       return service.timeouts.idle >= 1h &&
                                              service.timeouts.half_close >= 30s;
                                   }) &&
               plan_.reloads.empty();
    }

    const Plan& plan_;
    const World& world_;
    const Kept& kept_;
    const Past& past_;
    const Time deadline_;
    std::vector<const Connection*> client_of_;  ///< of each record
    const config::Service* service_ = nullptr;  ///< of the session that is examined
    std::vector<std::string> problems_;
    std::string about_;
};

/// What was counted on the way is what the records say in the end.
class Audit {
  public:
    explicit Audit(const Past& past) {
        for (const auto& [snapshot, from] : past.snapshots) {
            services_.insert(snapshot->unserved().get());
            for (const auto& service : snapshot->services()) {
                if (!service) continue;
                services_.insert(service->stats.get());
                if (service->port_stats) ports_[service->name].insert(service->port_stats.get());
                for (const auto& target : service->pool.targets()) targets_.insert(target.get());
            }
        }
    }

    std::vector<std::string> compare(const std::vector<telemetry::SessionRecord>& records) {
        std::map<std::string, uint64_t> ended, counted;
        for (const auto& record : records) {
            const Stage stage = record.ending.stage;
            // Without a target a session has been answered from memory, or ended before.
            const bool was_joined =
                record.target && (stage == Stage::data || stage == Stage::last ||
                                  stage == Stage::filter || stage == Stage::done);
            ++ended["sessions"];
            ++ended["durations"];
            ++ended[format("{} {}", record.ending.letters(), record.ending.reason)];
            for (const char* place : {"service", "target"}) {
                ended[format("to_target at the {}", place)] += record.to_target;
                ended[format("to_client at the {}", place)] += record.to_client;
                ended[format("connects at the {}", place)] += was_joined;
            }
            if (!record.service || !ports_.contains(*record.service)) continue;
            const auto of_port = [&](const char* what) -> uint64_t& {
                return ended[format("{} on port {}", what, record.original_dst.port)];
            };
            ++of_port("sessions");
            of_port("failed") += !was_joined;
            of_port("connects") += was_joined;
            of_port("to_target") += record.to_target;
            of_port("to_client") += record.to_client;
        }
        for (const auto* service : services_) {
            counted["sessions"] += service->sessions.value();
            for (uint64_t count : service->durations.counts()) counted["durations"] += count;
            for (uint64_t count : service->connects.counts())
                counted["connects at the service"] += count;
            for (const auto& [letters, reason, count] : service->endings.list())
                counted[format("{} {}", letters, reason)] += count;
            counted["to_target at the service"] += service->bytes.to_target.value();
            counted["to_client at the service"] += service->bytes.to_client.value();
        }
        for (const auto* target : targets_) {
            counted["connects at the target"] += target->stats.connects.count.value();
            counted["to_target at the target"] += target->stats.bytes.to_target.value();
            counted["to_client at the target"] += target->stats.bytes.to_client.value();
        }
        for (const auto& [service, tables] : ports_)
            for (const auto* table : tables)
                table->for_each([&](uint16_t number, const stats::Port& port) {
                    const auto of_port = [&](const char* what) -> uint64_t& {
                        return counted[format("{} on port {}", what, number)];
                    };
                    of_port("sessions") += port.sessions.value();
                    of_port("failed") += port.failed.value();
                    of_port("connects") += port.connects.count.value();
                    of_port("to_target") += port.bytes.to_target.value();
                    of_port("to_client") += port.bytes.to_client.value();
                });

        std::vector<std::string> problems;
        for (const auto& [what, count] : counted) ended[what];  // 0, unless it is there
        for (const auto& [what, count] : ended)
            if (counted[what] != count)
                problems.push_back(format("statistics say {} of \"{}\", and it is {}",
                                          counted[what], what, count));
        return problems;
    }

  private:
    // Each once, in whatever snapshots it is.
    std::set<const stats::Service*> services_;
    std::set<const balance::Target*> targets_;
    std::map<std::string, std::set<const stats::Ports*>> ports_;
};

}  // namespace

static bool has_elements(const Plan& plan) {
    auto has_some = [](const config::Config& config) {
        return std::ranges::any_of(config.services,
                                   [](const auto& service) { return !service.filters.empty(); });
    };
    return has_some(plan.config) || std::ranges::any_of(plan.reloads, [&](const auto& reload) {
               return has_some(reload.config);
           });
}

Outcome run(const Plan& plan, bool tracing) {
    seed_running = plan.seed;
    std::signal(SIGABRT, on_abort);
    World world(plan.seed, plan.faults, tracing);
    Kept kept(world);
    world.may_change_bytes = has_elements(plan);
    Past past = Life(plan, world, kept).live();
    const size_t open_sockets = world.open_sockets();
    world.settle();

    Examination examination(plan, world, kept, past);
    Outcome outcome;
    outcome.problems = examination.examine();
    std::ranges::copy(Audit(past).compare(kept.records), std::back_inserter(outcome.problems));
    auto claim = [&](bool holds, std::string sentence) {
        if (!holds) outcome.problems.push_back(std::move(sentence));
    };
    claim(open_sockets == 0, format("{} sockets are open at the end", open_sockets));
    claim(world.buffers_home() == plan.ring.buffers,
          format("{} of {} buffers are home at the end", world.buffers_home(), plan.ring.buffers));
    claim(past.forgot_all_sources, "sources were let through and not forgotten");
    for (const auto& [snapshot, from] : past.snapshots)
        for (const auto& service : snapshot->services())
            if (service) {
                const auto& admission = service->pool.admission();
                claim(admission.sessions() == 0,
                      format("service {} has sessions at the end", service->name));
                claim(admission.waiting() == 0,
                      format("somebody waits for service {} at the end", service->name));
                for (const auto& target : service->pool.targets())
                    claim(target->sessions == 0,
                          format("target {} has sessions at the end", target->text));
            }
    const Time latest =
        past.drained_at + plan.config.drain + last_bytes_max + 500ms + world.jumped();
    claim(past.ended_at <= latest,
          format("the drain took {} longer than its deadline", to_text(past.ended_at - latest)));

    outcome.joined_max = examination.joined_max();
    for (const auto& record : kept.records) {
        ++outcome.endings[record.ending.letters()];
        outcome.bytes += record.to_client + record.to_target;
    }
    outcome.records = std::move(kept.records);
    outcome.snapshot = past.snapshots.back().snapshot;
    outcome.bytes_parked_max = world.bytes_parked_max();
    outcome.turns = world.turns();
    outcome.digest = world.digest();
    return outcome;
}

}  // namespace proxify::test
