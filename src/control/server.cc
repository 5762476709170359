// SPDX-License-Identifier: Apache-2.0
#include "control/server.h"

#include <algorithm>
#include <csignal>
#include <latch>
#include <random>

#include "base/format.h"
#include "config/certificates.h"
#include "control/changes.h"
#include "control/reports.h"
#include "control/text.h"

namespace proxify::control {

using namespace io;
using steering::PortSet;

namespace {

using steering::ports_of;

constexpr Ip any_address{.bytes = {}, .is_v4 = false};

/// Descriptors kept free for health checks, a reload, operators and whatever the libraries need.
constexpr size_t spare_fds = 24;

std::vector<resolve::Question> names_of(const config::Config& config) {
    std::vector<resolve::Question> names;
    for (const auto& service : config.services)
        for (const auto& target : service.targets)
            if (!target.ip)
                names.push_back(
                    {target.srv ? resolve::Kind::service : resolve::Kind::host, target.host});
    std::ranges::sort(names);
    auto [first, last] = std::ranges::unique(names);
    names.erase(first, last);
    return names;
}

telemetry::Format log_format(const config::Config& config) {
    return config.log.format == config::LogFormat::json ? telemetry::Format::json
                                                        : telemetry::Format::text;
}

telemetry::Level log_level(const config::Config& config) {
    switch (config.log.level) {
        case config::LogLevel::debug:
            return telemetry::Level::debug;
        case config::LogLevel::info:
            return telemetry::Level::info;
        case config::LogLevel::warn:
            return telemetry::Level::warn;
        case config::LogLevel::error:
            return telemetry::Level::error;
        case config::LogLevel::off:
            break;
    }
    return telemetry::Level::off;
}

size_t worker_count(const config::Config& config) {
    return config.workers.value_or(count_cores());
}

PortSet ports_of(const std::map<uint16_t, config::CaptureType>& captured) {
    PortSet ports;
    for (const auto& [port, type] : captured) ports.set(port);
    return ports;
}

bool is_transparent(const std::map<uint16_t, config::CaptureType>& captured, uint16_t port) {
    auto found = captured.find(port);
    return found != captured.end() && found->second == config::CaptureType::tproxy;
}

/// ", 2 captures"
std::string captures_text(const config::Config& config) {
    return config.captures.empty() ? "" : ", " + count_text(config.captures.size(), "capture");
}

/// Nobody else draws the same.
tunnel::Id draw_instance() {
    tunnel::Id id{};
    std::random_device device;
    for (auto& byte : id) byte = static_cast<uint8_t>(device());
    return id;
}

/// The least that none of them has.
uint64_t free_number(const std::vector<worker::Worker*>& workers) {
    uint64_t number = 0;
    while (std::ranges::find(workers, number, &worker::Worker::number) != workers.end()) ++number;
    return number;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::open(const Options& options) {
    kernel::keep_from_programs();
    TRY_TO(notifier, Notifier::from_environment());
    TRY_TO(config, load(options));
    std::optional<kernel::User> user;
    if (!config.user.empty()) {
        TRY_TO(found, kernel::find_user(config.user, config.group));
        TRY(kernel::prepare_to_become(found));
        user = std::move(found);
    }
    // Signals first: every thread that comes after has them blocked.
    TRY_TO(signals, Signals::open({SIGINT, SIGTERM, SIGHUP}));
    // The buffers are for answers to health checks.
    TRY_TO(
        ring,
        Ring::open({.entries = 256, .completions = 4096, .buffers = 8, .buffer_size = 16 * 1024}));
    std::unique_ptr<Server> server(new Server(options, config, std::move(ring), std::move(signals),
                                              std::move(user), std::move(notifier)));
    TRY(server->start(config));
    return server;
}

Server::Server(const Options& options, config::Config config, Ring ring, Signals signals,
               std::optional<kernel::User> user, Notifier notifier)
    : options_(options),
      user_(std::move(user)),
      notifier_(std::move(notifier)),
      log_(log_format(config), log_level(config)),
      loop_(std::move(ring)),
      signals_(std::move(signals)),
      signal_arrival_(loop_, signals_.handle()),
      instance_(draw_instance()),
      started_at_(loop_.now()),
      applied_at_(started_at_) {}

Server::~Server() = default;

/// The order is the one in which nobody is misled: what can fail comes first, ports
/// answer when there is somebody who knows where to send them.
Result<> Server::start(const config::Config& config) {
    if (!options_.config_text) {
        TRY_TO(file, FileWatch::open(files_of(config)));
        file_ = std::move(file);
    }

    resolver_.emplace([this](const resolve::Outcome& outcome) {
        loop_.post([this, outcome] { on_resolved(outcome); });
    });
    resolver_->follow(names_of(config), config.resolve_interval);
    // A name that takes longer is served as soon as it has an answer.
    resolver_->wait_for_first_answers(2s);
    snapshot_ = routing::Snapshot::build(
        config, [this](const std::string& host) { return resolver_->lookup(host); }, nullptr,
        loop_.now());

    open_desk(config.admin);
    TRY_TO(opened, options_.steer ? open_steered(options_.listen.value_or(config.listen), config)
                                  : open_bound(config));
    // Whoever is captured before there are workers waits in a queue, as with steering.
    use_captures(config);
    const auto listener_on = [&](uint16_t port) {
        return native(opened.listeners.at(port).front());
    };
    TRY(doors_.check(config));
    TRY(doors_.apply(config, listener_on, /*patience=*/2s));
    // The last that needs root has been done. Workers are who we are when they begin.
    TRY(become_user(opened.listeners, config));
    start_workers(std::move(opened.rings));
    hand_out(opened.listeners);
    desk_->start();
    log_.info("ready", format("ready: {}, {}", opened.text, count_text(workers_.size(), "worker")));

    health_.emplace(loop_, log_, &own_doors_,
                    [this](const routing::Service& service, const balance::Target& target,
                           health::Change change) { on_state_change(service, target, change); });
    health_->follow(*snapshot_);
    tell_kernel();
    notifier_.ready(status_line());
    return {};
}

void Server::open_desk(const config::Admin& admin) {
    if (!desk_) desk_.emplace(*this);
    for (const auto& closed : desk_->open(admin, user_ ? std::optional(user_->uid) : std::nullopt))
        log_.warn("admin_closed", "admin: " + one_line(closed));
}

capture::Door Server::door_on(uint16_t port) const {
    using config::CaptureType;
    auto found = captured_.find(port);
    if (found == captured_.end()) return steering_ ? capture::Door::steered : capture::Door::bound;
    switch (found->second) {
        case CaptureType::connect:
            return capture::Door::connect;
        case CaptureType::ingress:
            return capture::Door::ingress;
        case CaptureType::redirect:
            return capture::Door::redirect;
        case CaptureType::tproxy:
            return capture::Door::tproxy;
        case CaptureType::tunnel:
            break;
    }
    return capture::Door::tunnel;
}

Doors::ListenerOn Server::listener_on() const {
    return [this](uint16_t port) { return native(listeners_.at(port).front()); };
}

/// What is dialled from now on has the mark, before anything is caught that does not have it.
void Server::use_captures(const config::Config& config) {
    captured_ = config::capture_listeners(config);
    own_doors_.set_mark(config.captures.empty() ? 0 : config.mark);
    const bool by_rules = std::ranges::any_of(captured_, [](const auto& one) {
        using enum config::CaptureType;
        return one.second == redirect || one.second == tproxy;
    });
    if (!by_rules && !config.tunnel) return;
    if (by_rules && !std::exchange(told_of_marks_, true) && !kernel::may_set_marks())
        log_.warn("no_marks",
                  format("own connections cannot bear the mark {:#x}, which takes CAP_NET_ADMIN: "
                         "rules for what leaves this host must leave out uid {} instead",
                         config.mark, geteuid()));
    if (auto done = own_doors_.recognise(worker_count(config)); !done)
        log_.warn("loops_unseen", "own connections that rules bring back will not be recognised: " +
                                      one_line(done.error()));
}

kernel::Work Server::work_of(const config::Config& config) const {
    auto has_program = [](const config::Capture& capture) {
        return capture.type == config::CaptureType::connect ||
               capture.type == config::CaptureType::ingress;
    };
    return {.steering_port = steering_port_,
            .sets_marks = !config.captures.empty() ||
                          std::ranges::any_of(config.services, &config::Service::transparent),
            .has_programs = std::ranges::any_of(config.captures, has_program)};
}

/// A moment later, so that whoever asked for the reload that moves it has an answer.
Task<> Server::move_desk() {
    co_await loop_.sleep(100ms);
    if (leaving_) co_return;
    open_desk(snapshot_->config().admin);
}

Result<Server::Opened> Server::open_steered(uint16_t port, const config::Config& config) {
    TRY(config::check_listener_port(config, port));
    const PortSet ports = ports_of(config);
    TRY_TO(rings, open_rings(worker_count(config)));
    const auto captured = config::capture_listeners(config);
    listens_at_ = config::capture_addresses(config);
    TRY_TO(all, bind_ports(ports_of(captured), captured, rings.size()));
    auto bound = listen(port, rings.size(), /*is_transparent=*/false);
    if (!bound) {
        close_all(all);
        return fail(std::move(bound).error());
    }
    auto& listeners = all[port] = std::move(*bound);
    // One member stands for the group: the kernel spreads connections over all of them.
    auto steering = steering::Steering::start(native(listeners.front()), config);
    if (!steering) {
        close_all(all);
        return fail(std::move(steering).error());
    }
    steering_ = std::move(*steering);
    steering_port_ = port;
    own_doors_.use(*steering_);

    for (const auto& warning : steering_->warnings()) log_.warn("steering_warning", warning);
    if (auto ids = steering_->ids())
        log_.info(
            "steering",
            format(
                "steering: program {} id {}, link id {}, maps proxy_ports id {}, proxy_sock id {}",
                kernel::steering_program_name, ids->program, ids->link, ids->proxy_ports,
                ids->proxy_sock));
    return Opened{.rings = std::move(rings),
                  .listeners = std::move(all),
                  .text = format("{} with {} steered to the listener on port {}{}",
                                 count_text(config.services.size(), "service"),
                                 count_text(ports.count(), "port"), port, captures_text(config))};
}

Result<Server::Opened> Server::open_bound(const config::Config& config) {
    TRY_TO(rings, open_rings(worker_count(config)));
    const auto captured = config::capture_listeners(config);
    listens_at_ = config::capture_addresses(config);
    TRY_TO(listeners, bind_ports(ports_of(config) | ports_of(captured), captured, rings.size()));
    auto text =
        format("{} listening on {}{}", count_text(config.services.size(), "service"),
               count_text(listeners.size() - captured.size(), "port"), captures_text(config));
    return Opened{std::move(rings), std::move(listeners), std::move(text)};
}

/// What a reload needs later is kept, and what it will not have is said now.
Result<> Server::become_user(const Listeners& listeners, const config::Config& config) {
    if (!user_) return {};
    if (kernel::is_user(*user_)) {
        log_.info("user", format("user: runs as {} since its start, with the capabilities that it "
                                 "was given",
                                 user_->name));
        return {};
    }
    for (const auto& [port, group] : listeners)
        for (Handle listener : group) TRY(kernel::give_socket(native(listener), *user_));
    if (steering_) {
        TRY_TO(sink, steering_->open_sink());  // a service may want it later
        TRY(kernel::give_socket(sink, *user_));
    }
    raise_fd_limit();
    TRY_TO(kept, kernel::become(*user_, kernel::needed_for_reload(work_of(config))));
    log_.info("user", format("user: runs as {} (uid {}, gid {}) from here on and keeps {}",
                             user_->name, user_->uid, user_->gid,
                             kept.empty() ? "no capability" : kernel::join_with_and(kept)));

    if (auto again = load(); !again)
        log_.warn("user_cannot_read",
                  format("user: {} cannot read the file, so a reload will be refused: {}",
                         user_->name, one_line(again.error())));
    if (!file_) return {};
    TRY_TO(file, FileWatch::open(files_of(config)));
    file_ = std::move(file);
    if (file_->is_blind())
        log_.warn("user_cannot_watch",
                  format("user: {} may not watch a directory on the way to {}: a change is "
                         "noticed on SIGHUP only",
                         user_->name, options_.config_path));
    return {};
}

Result<std::vector<Ring>> Server::open_rings(size_t count) {
    std::vector<Ring> rings;
    while (rings.size() < count) {
        TRY_TO(ring, Ring::open({}));
        rings.push_back(std::move(ring));
    }
    return rings;
}

/// Pipes may take a sixteenth of the descriptors. A session has two sockets; beyond what the limit
/// allows, clients wait in the kernel's queue.
worker::Shares Server::shares_for(size_t worker_count) const {
    const size_t limit = raise_fd_limit();
    const size_t taken = fds_taken_ + spare_fds + snapshot_->services().size();
    const size_t room = (limit > taken ? limit - taken : 0) / worker_count;
    const size_t pipes_max = std::min<size_t>(room / 32, 64);
    return {.sessions_max = std::max<size_t>((room - 2 * pipes_max) / 2, 1),
            .pipes_max = pipes_max};
}

/// Beside those that run already.
void Server::start_workers(std::vector<Ring> rings) {
    if (workers_.empty()) fds_taken_ = count_open_fds();
    const auto shares = shares_for(workers_.size() + rings.size());
    for (auto& ring : rings) {
        worker::Options options{
            .number = free_number(everyone()),
            .shares = shares,
            .sessions_so_far = sessions_so_far_,
            .guard = &own_doors_,
            .is_added_by_hand =
                [this](uint16_t port) { return steering_ && steering_->is_added_by_hand(port); },
            .on_failing_target =
                [this](const routing::Service& service, const balance::Target& target,
                       balance::Trouble trouble, uint32_t in_a_row) {
                    loop_.post([this, name = service.name, which = &target, trouble, in_a_row] {
                        if (!leaving_) health_->suspect(name, which, trouble, in_a_row);
                    });
                },
            .uncounted_port = steering_port_,
            .origins = &doors_,
            .instance = instance_,
        };
        workers_.push_back(
            std::make_unique<worker::Worker>(std::move(ring), log_, std::move(options), snapshot_));
        ++workers_running_;
        auto* worker = workers_.back().get();
        worker->start([this, worker] { loop_.post([this, worker] { on_worker_end(worker); }); });
    }
}

/// The last of them ends everything else.
void Server::on_worker_end(const worker::Worker* worker) {
    std::erase_if(retired_, [&](const auto& retired) { return retired.get() == worker; });
    if (--workers_running_ > 0) return;
    health_->stop();
    signal_arrival_.cancel();
    if (file_change_) file_change_->cancel();
    no_more_status_.raise();
    no_more_watchdog_.raise();
    no_more_certificates_.raise();
    loop_.stop();
}

/// Starts workers on `rings`, or retires some, and deals the listeners out anew, with `more` for
/// the groups that have too few. No client is lost: a listener that changes hands keeps its queue,
/// and with fewer workers each has several listeners on one port.
void Server::set_worker_count(size_t count, std::vector<Ring> rings, const Listeners& more) {
    const size_t before = workers_.size();
    fds_taken_ += 2 * rings.size();
    for (const auto& [port, group] : more) fds_taken_ += group.size();
    start_workers(std::move(rings));

    struct Move {
        worker::Worker *from, *to;
        uint16_t port;
        Handle listener;
    };
    std::vector<Move> moves;
    for (const auto& [port, group] : listeners_)
        for (size_t i = 0; i < group.size(); ++i)
            if (i % before != i % count)
                moves.push_back(
                    {workers_[i % before].get(), workers_[i % count].get(), port, group[i]});
    std::latch moved(static_cast<ptrdiff_t>(moves.size()));
    for (const auto& move : moves)
        move.from->loop().post([this, move, &moved] {
            move.from->release(move.port, move.listener, [this, move, &moved] {
                move.to->loop().post([this, move, &moved] {
                    move.to->listen(move.listener, door_on(move.port));
                    moved.count_down();
                });
            });
        });
    moved.wait();

    for (; workers_.size() > count; workers_.pop_back()) {
        auto* worker = retired_.emplace_back(std::move(workers_.back())).get();
        worker->loop().post([worker] { worker->retire(); });
    }
    for (auto& worker : workers_)
        worker->loop().post(
            [worker = worker.get(), shares = shares_for(count)] { worker->use(shares); });
    hand_out(more);
}

/// Deals out new listeners, each behind those that its group has already.
void Server::hand_out(const Listeners& listeners) {
    for (const auto& [port, added] : listeners) own_doors_.set_listening(port, true);
    for (const auto& [port, added] : listeners) {
        auto& group = listeners_[port];
        for (Handle listener : added) {
            auto* worker = workers_[group.size() % workers_.size()].get();
            group.push_back(listener);
            worker->loop().post(
                [worker, listener, door = door_on(port)] { worker->listen(listener, door); });
        }
    }
}

void Server::close_all(const Listeners& listeners) {
    for (const auto& [port, group] : listeners)
        for (Handle listener : group) loop_.ring().close(listener);
}

/// So many listeners on one port, or none. They share it, even a single one: more may join it.
Result<std::vector<Handle>> Server::listen(uint16_t port, size_t count, bool is_transparent) {
    Ring& ring = loop_.ring();
    const auto only = listens_at_.find(port);
    const Address at{only == listens_at_.end() ? any_address : only->second, port};
    if (!listeners_.contains(port)) {
        // Any process of this user may join a group of listeners, so a second proxify would take
        // half of the first one's clients without an error: look first, as one who shares with
        // nobody.
        TRY_TO(look, ring.listen(at, {.only_bind = true}));
        ring.close(look);
    }
    std::vector<Handle> group;
    while (group.size() < count) {
        auto listener = ring.listen(at, {.share_port = true, .transparent = is_transparent});
        if (!listener) {
            for (Handle other : group) ring.close(other);
            return fail(std::move(listener).error());
        }
        group.push_back(*listener);
    }
    return group;
}

/// All of the ports, or none.
Result<Server::Listeners> Server::bind_ports(const PortSet& ports, const Captured& captured,
                                             size_t count) {
    const size_t limit = raise_fd_limit();
    const size_t needed = ports.count() * count + count_open_fds() + spare_fds + 2;
    if (needed > limit)
        return fail(Error::of(
            format("cannot listen on {} ports: that takes {} file descriptors and {} are allowed",
                   ports.count(), needed, limit),
            "use -b, which steers any number of ports to one listener; or raise `ulimit -n`"));
    Listeners listeners;
    for (uint16_t port : steering::to_list(ports)) {
        auto group = listen(port, count, is_transparent(captured, port));
        if (!group) {
            close_all(listeners);
            return fail(std::move(group).error());
        }
        listeners[port] = std::move(*group);
    }
    return listeners;
}

/// What the groups lack for so many workers, but for ports that are to go; or nothing.
Result<Server::Listeners> Server::widen_groups(size_t count, const PortSet& but_for) {
    Listeners more;
    for (const auto& [port, group] : listeners_) {
        if (but_for[port] || group.size() >= count) continue;
        auto added = listen(port, count - group.size(), is_transparent(captured_, port));
        if (!added) {
            close_all(more);
            return fail(std::move(added).error());
        }
        more[port] = std::move(*added);
    }
    return more;
}

void Server::run() {
    loop_.spawn(heed_signals());
    if (file_) loop_.spawn(heed_file());
    if (notifier_.is_heard()) loop_.spawn(tell_status());
    if (notifier_.watchdog()) loop_.spawn(tell_alive(*notifier_.watchdog()));
    loop_.spawn(watch_certificates());
    loop_.run();
    desk_.reset();
    for (auto& worker : workers_) worker->join();
    log_.info("bye", "bye: all sessions have ended");
}

Task<> Server::heed_signals() {
    while (co_await signal_arrival_) {
        while (auto number = signals_.next()) {
            if (*number == SIGHUP)
                reload(/*was_asked_for=*/true);
            else if (!leaving_)
                leave();
            else
                end_at_once();
        }
    }
}

/// The kernel takes back what we have, as nothing of ours is pinned; but programs that check would
/// go on.
void Server::end_at_once() {
    health_->stop();
    desk_.reset();
    std::_Exit(0);
}

Task<> Server::heed_file() {
    file_change_.emplace(loop_, file_->handle());
    while (co_await *file_change_) {
        if (!file_->changed()) continue;
        // Until it has been quiet for a moment: an editor may not be done.
        do {
            co_await loop_.sleep(50ms);
        } while (file_->changed());
        reload(/*was_asked_for=*/false);
    }
}

Result<config::Config> Server::load(const Options& options) {
    TRY_TO(config, options.config_text ? config::parse(*options.config_text, "the command line")
                                       : config::load(options.config_path));
    if (options.socket) config.admin.socket = *options.socket;
    return config;
}

report::Reload Server::reload(bool was_asked_for) {
    if (leaving_) return last_reload_;
    auto config = load();
    // Word of an edit may come after the edit was applied by order, and taken back.
    if (!was_asked_for && config && taken_back_ == *config) return last_reload_;
    notifier_.reloading();
    Undo undo{snapshot_->config(), share_now(), {}, loop_.now(), {}};
    auto applied = config ? apply(*config) : Result<std::string>(fail(std::move(config).error()));
    notifier_.ready(status_line());
    report::Reload done{.number = last_reload_.number, .at = wall_clock(loop_.now(), loop_.now())};
    if (!applied) {
        done.state = "refused";
        done.text = one_line(applied.error());
        if (done.text != last_refusal_ || was_asked_for)
            log_.error("reload_refused", "reload: refused, the running config stays: " + done.text);
        last_refusal_ = done.text;
    } else if (applied->empty()) {
        last_refusal_.clear();
        applied_at_ = loop_.now();
        done.state = "unchanged";
        done.text = "nothing to do: the file says what is running";
        if (was_asked_for) log_.info("reload_unchanged", "reload: " + done.text);
    } else {
        last_refusal_.clear();
        applied_at_ = loop_.now();
        ++done.number;
        done.state = "applied";
        done.text = *applied;
        log_.info("reload_applied", "reload: applied: " + done.text);
        done.warnings = warnings_of(*snapshot_);
        for (const auto& warning : done.warnings) log_.warn("service_down", "reload: " + warning);
        tell_of_certificates();
        undo.after = share_now();
        undo.done = done;
        undo_ = std::move(undo);
        taken_back_.reset();
    }
    // What is being watched is not forgotten over a reload that changed nothing.
    if (done.state == "applied" || last_reload_.state != "watching") last_reload_ = done;
    something_changed_.raise();
    return done;
}

/// Whether a running proxify can become this at all.
Result<> Server::check_change(const config::Config& config) const {
    const auto& before = snapshot_->config();
    if (config.user != before.user || config.group != before.group)
        return fail(Error::of("user or group changed, which a running proxify cannot do",
                              "restart proxify to change it"));
    TRY(doors_.check(config));
    for (const auto& [port, type] : config::capture_listeners(config))
        if (auto had = captured_.find(port); had != captured_.end() && had->second != type)
            return fail(Error::of(
                format("the capture on port {} has another type now, which a running proxify "
                       "cannot do",
                       port),
                "give it another port, or restart proxify"));
    const auto addresses = config::capture_addresses(config);
    for (const auto& [port, type] : captured_)
        if (const auto then = listens_at_.find(port), now = addresses.find(port);
            config::capture_listeners(config).contains(port) &&
            ((then == listens_at_.end()) != (now == addresses.end()) ||
             (now != addresses.end() && now->second != then->second)))
            return fail(Error::of(
                format("the capture on port {} has another address now, which a running proxify "
                       "cannot do",
                       port),
                "give it another port, or restart proxify"));
    if (!options_.steer) {
        const PortSet moving = (ports_of(before) & ports_of(config::capture_listeners(config))) |
                               (ports_of(captured_) & ports_of(config));
        if (moving.any())
            return fail(Error::of(
                format("port {} would change between a service and a [[capture]], which a running "
                       "proxify cannot do at once",
                       steering::to_list(moving).front()),
                "take it out of the one, reload, then put it into the other; or restart proxify"));
        return {};
    }
    const uint16_t running = before.listen;
    if (config.listen != running && !options_.listen)
        return fail(
            Error::of(format("listen changed from {} to {}, which a running proxify cannot do",
                             running, config.listen),
                      "restart proxify to change it"));
    return config::check_listener_port(config, options_.listen.value_or(config.listen));
}

/// Makes a checked config the running one, or changes nothing. Says what changed; "" for nothing.
Result<std::string> Server::apply(const config::Config& config) {
    const config::Config before = snapshot_->config();
    if (config == before && !steering_is_behind_ && !doors_are_behind_) return std::string();
    TRY(check_change(config));
    const PortSet had = ports_of(before), want = ports_of(config);
    const PortSet added = want & ~had, removed = had & ~want;
    const auto captured = config::capture_listeners(config);
    const PortSet captured_had = ports_of(captured_), captured_want = ports_of(captured);
    // With steering the ports of services have no listeners of their own.
    const PortSet opening = (captured_want & ~captured_had) | (steering_ ? PortSet() : added);
    const PortSet closing = (captured_had & ~captured_want) | (steering_ ? PortSet() : removed);

    // What can fail comes before anything is changed.
    std::erase_if(listens_at_, [&](const auto& one) { return !captured_.contains(one.first); });
    listens_at_.merge(config::capture_addresses(config));
    const size_t workers_had = workers_.size(), workers_wanted = worker_count(config);
    TRY_TO(rings, open_rings(workers_wanted > workers_had ? workers_wanted - workers_had : 0));
    TRY_TO(more, widen_groups(workers_wanted, closing));
    auto listeners = bind_ports(opening, captured, workers_wanted);
    if (!listeners) {
        close_all(more);
        return fail(std::move(listeners).error());
    }

    log_.set(log_format(config), log_level(config));
    auto names = names_of(config);
    bool new_names = names != names_of(before);
    resolver_->follow(names, config.resolve_interval);
    if (new_names) resolver_->wait_for_first_answers(200ms);

    if (config.admin != before.admin) loop_.spawn(move_desk());

    // The workers know the new services before a new port leads to it, and keeps the old ones
    // for connections on their way from a port that is being removed.
    use_captures(config);
    publish(config);
    if (workers_wanted != workers_had) set_worker_count(workers_wanted, std::move(rings), more);
    hand_out(*listeners);
    auto captures = doors_.apply(config, listener_on(), /*patience=*/200ms);
    doors_are_behind_ = !captures;
    if (!captures)
        log_.error("capture_failed",
                   "capture: " + one_line(captures.error()) + "; the next reload tries again");
    if (steering_) {
        auto steered = steering_->apply(config);
        steering_is_behind_ = !steered;
        if (!steered)
            log_.error("steering_failed",
                       "steering: " + one_line(steered.error()) + "; the next reload tries again");
        tell_kernel();
        for (const auto& warning : steering_->shadow_warnings(added))
            log_.warn("steering_warning", warning);
    }
    for (uint16_t port : steering::to_list(closing)) {
        listeners_.erase(port);
        own_doors_.set_listening(port, false);
        for (auto& worker : workers_)
            worker->loop().post([worker = worker.get(), port] { worker->stop_listening(port); });
    }
    auto applied = format("{}, {} added, {} removed", count_text(config.services.size(), "service"),
                          count_text(added.count(), "port"), count_text(removed.count(), "port"));
    if (workers_wanted != workers_had) applied += ", " + count_text(workers_wanted, "worker");
    return applied;
}

/// What a change of is noticed: the file, and the scripts and certificates that it names.
std::vector<std::string> Server::files_of(const config::Config& config) const {
    std::vector<std::string> files{options_.config_path};
    for (const auto& service : config.services)
        for (const auto& element : service.filters)
            if (!element.script.empty()) files.push_back(element.script);
    for (const tls::Pem* pem : config::pems_of(config)) files.push_back(pem->name);
    std::ranges::sort(files);
    files.erase(std::ranges::unique(files).begin(), files.end());
    return files;
}

/// Builds a snapshot and waits until every worker uses it.
void Server::publish(config::Config config) {
    const auto before = snapshot_;
    if (file_) file_->follow(files_of(config));
    snapshot_ = routing::Snapshot::build(
        std::move(config), [this](const std::string& host) { return resolver_->lookup(host); },
        snapshot_.get(), loop_.now(), orders_);
    std::latch used(static_cast<ptrdiff_t>(workers_.size()));
    for (auto& worker : workers_)
        worker->loop().post([this, worker = worker.get(), &used] {
            worker->use(snapshot_);
            used.count_down();
        });
    used.wait();
    if (health_) health_->follow(*snapshot_);
    tell_kernel();
    tell_who_left(*before);
}

/// A service without a target that is up is refused, dropped or passed on by the kernel itself.
void Server::tell_kernel(const routing::Service& service) {
    if (!steering_ || leaving_) return;
    if (auto told = steering_->set_down(service.name, !service.pool.any_available()); !told)
        log_.error("steering_failed", "steering: " + one_line(told.error()));
}

void Server::tell_kernel() {
    for (const auto& service : snapshot_->services())
        if (service) tell_kernel(*service);
}

void Server::on_state_change(const routing::Service& service, const balance::Target& target,
                             health::Change change) {
    tell_kernel(service);
    // By message: whoever watches may change the config, and this may be in the midst of that.
    loop_.post([this] { something_changed_.raise(); });
    // A target that is down has sessions in a panic; an ejection, or the end of one, ends none.
    if (change != health::Change::down || service.spec.on_down != config::OnDown::reset) return;
    auto down = service.pool.find(&target);
    if (!down) return;
    for (auto* workers : {&workers_, &retired_})
        for (auto& worker : *workers)
            worker->loop().post([worker = worker.get(), down] { worker->end_sessions_of(*down); });
}

/// Targets that the running snapshot has no more. No worker picks them any longer; sessions that
/// have one go on.
void Server::tell_who_left(const routing::Snapshot& before) {
    for (const auto& service : snapshot_->services()) {
        if (!service) continue;
        for (const auto& one : service->left) {
            auto target = one.lock();
            const bool left_now = std::ranges::any_of(before.services(), [&](const auto& old) {
                return old && old->name == service->name &&
                       std::ranges::find(old->pool.targets(), target) != old->pool.targets().end();
            });
            if (!target || !left_now) continue;
            const auto sessions = target->sessions.load(std::memory_order_relaxed);
            log_.write(sessions == 0 ? telemetry::Level::debug : telemetry::Level::info,
                       "target_left",
                       format("target {} of service {} has left; {}", target->text, service->name,
                              sessions == 0 ? "it had no sessions"
                                            : "it keeps " + count_text(sessions, "session")),
                       {{"service", service->name},
                        {"target", target->text},
                        {"sessions", std::to_string(sessions)}});
        }
    }
}

void Server::on_resolved(const resolve::Outcome& outcome) {
    if (leaving_) return;
    const auto& [name, endpoints, before, error, error_changed] = outcome;
    if (error_changed && !error.empty())
        log_.write(telemetry::Level::warn, "resolve_failed",
                   format("resolve: {}: {}; {}", name, error,
                          endpoints.empty() ? "it has no address yet" : "its last addresses stay"),
                   {{"name", name}, {"reason", error}});
    if (outcome.endpoints_changed() || (error_changed && error.empty())) {
        const std::string list = resolve::to_text(endpoints);
        log_.write(telemetry::Level::info, "resolved", format("resolve: {} is {}", name, list),
                   {{"name", name},
                    {"addresses", list},
                    {"joined", resolve::to_text(resolve::without(endpoints, before))},
                    {"left", resolve::to_text(resolve::without(before, endpoints))}});
    }
    // Once for all that is in the mail: at the start that is every name of the file.
    if (!outcome.endpoints_changed() || std::exchange(names_moved_, true)) return;
    loop_.post([this] {
        names_moved_ = false;
        if (!leaving_) publish(snapshot_->config());
    });
}

/// For a service manager's one line.
std::string Server::status_line() const {
    size_t services = 0, down = 0, sessions = 0;
    for (const auto& service : snapshot_->services()) {
        if (!service) continue;
        ++services;
        down += !service->pool.any_available();
        for (const auto& target : service->pool.targets())
            sessions += target->sessions.load(std::memory_order_relaxed);
        for (const auto& left : service->left)
            if (auto target = left.lock())
                sessions += target->sessions.load(std::memory_order_relaxed);
    }
    return format("{}{}{}; {}; {}", leaving_ ? "draining: " : "", count_text(services, "service"),
                  down > 0 ? format(", {} down", down) : "",
                  count_text(snapshot_->port_count(), "port"), count_text(sessions, "session"));
}

/// What has changed, once a second at most.
Task<> Server::tell_status() {
    for (std::string told; !co_await no_more_status_.wait(1s);)
        if (auto now = status_line(); now != told && notifier_.status(now)) told = std::move(now);
}

/// Which of them will be no good soon, or are not now.
void Server::tell_of_certificates() {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    for (const auto& one : config::certificates_of(snapshot_->config()))
        if (auto trouble = config::date_trouble(one, now))
            log_.warn("certificate", "tls: " + trouble->text);
}

Task<> Server::watch_certificates() {
    do tell_of_certificates();
    while (!co_await no_more_certificates_.wait(24h));
}

/// Twice in the time that the manager waits, as long as all workers turn. A proxify that leaves is
/// not watched any more, and its workers end one by one.
Task<> Server::tell_alive(Duration limit) {
    RollCall roll;
    do {
        std::vector<RollCall::Post> everybody;
        for (auto* workers : {&workers_, &retired_})
            for (auto& worker : *workers)
                everybody.push_back([&loop = worker->loop()](Loop::Message message) {
                    loop.post(std::move(message));
                });
        if (leaving_ || roll.all_answered(everybody)) notifier_.alive();
    } while (!co_await no_more_watchdog_.wait(limit / 2));
}

/// Steering ends first, so that nobody new is led here; then the queue is served and sessions may
/// finish. The end of the last worker ends the rest: on_worker_end().
void Server::leave() {
    leaving_ = true;
    something_changed_.raise();
    const Duration deadline = snapshot_->config().drain;
    log_.info("draining", format("draining: no new connections; sessions may finish for {}",
                                 to_text(deadline)));
    notifier_.stopping(status_line());
    if (steering_) steering_->end();
    doors_.close();
    for (auto* workers : {&workers_, &retired_})
        for (auto& worker : *workers)
            worker->loop().post([worker = worker.get(), deadline] { worker->drain(deadline); });
}

}  // namespace proxify::control
