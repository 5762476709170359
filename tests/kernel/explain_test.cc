// SPDX-License-Identifier: Apache-2.0
// Explanations held against what happens: random configurations on a real kernel, with a real
// worker and real targets, and real clients who find out. Whatever is drawn comes from the seed of
// a test.
#include "explain/explain.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <mutex>
#include <random>
#include <set>

#include "base/format.h"
#include "kernel/host.h"
#include "kernel/listeners.h"
#include "steering/steering.h"
#include "support/server.h"
#include "worker/worker.h"

using namespace proxify;
using namespace proxify::test;
using explain::Explanation;
using explain::Outcome;

namespace {

constexpr uint16_t listener_port = 8080;

class Random {
  public:
    explicit Random(uint64_t seed) : engine_(seed) {}
    uint64_t next() { return engine_(); }
    /// 0 to `count` - 1.
    size_t below(size_t count) { return engine_() % count; }
    bool chance(unsigned percent) { return below(100) < percent; }
    template <class Many>
    const auto& of(const Many& many) {
        return *std::next(std::begin(many), static_cast<ptrdiff_t>(below(std::size(many))));
    }

  private:
    std::mt19937_64 engine_;
};

class Records : public telemetry::Journal {
  public:
    void session(telemetry::SessionRecord&& record) override {
        std::lock_guard lock(mutex_);
        records_.push_back(std::move(record));
    }
    void write(telemetry::Level, const char*, std::string,
               std::vector<std::pair<const char*, std::string>>) override {}
    std::optional<telemetry::SessionRecord> of(const Address& client) {
        std::lock_guard lock(mutex_);
        for (const auto& record : records_)
            if (record.client == client) return record;
        return std::nullopt;
    }

  private:
    std::mutex mutex_;
    std::vector<telemetry::SessionRecord> records_;
};

/// As control/ has them.
struct Doors : dial::Guard {
    Way way_to(uint16_t port) const override {
        if (listens.contains(port)) return Way::own;
        return steering && steering->steers(port) ? Way::steered : Way::open;
    }
    bool let_through(const Address& source) override { return steering->guard_dial(source); }
    void forget(const Address& source) override { steering->unguard_dial(source); }

    std::set<uint16_t> listens;
    steering::Steering* steering = nullptr;
};

/// Stands in line and does nothing else. It may have been tried on some targets already.
struct Patient : balance::Waiter {
    explicit Patient(const routing::Service& from, balance::Tried already = {})
        : service(from), tried(already) {
        is_in_line = service.pool.admission().line_up(*this, service.pool, asking, 1000);
    }
    ~Patient() override {
        if (is_in_line) service.pool.admission().step_out(*this);
    }
    void wake() override {}

    const routing::Service& service;
    balance::Tried tried;
    balance::Asking asking{.client = {}, .tried = tried};
    bool is_in_line;
};

Fd listen_as_proxify(const Namespace& inside, uint16_t port) {
    Fd fd;
    inside.run([&] {
        fd = Fd::adopt(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        sockaddr_in6 at{.sin6_family = AF_INET6, .sin6_port = htons(port)};
        const int off = 0, on = 1;
        setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
        REQUIRE(listen(fd.get(), 1024) == 0);
    });
    return fd;
}

config::Config parsed(const std::string& text) {
    auto config = config::parse(text, "targets.toml");
    if (!config) FAIL(config.error().text());
    return *config;
}

const std::string first_config =
    "[[service]]\nname = \"a\"\nports = [5000]\nhealth = false\non_deny = \"drop\"\n"
    "targets = [\"127.0.0.1:9001\"]\n";

/// A proxify of one worker without health checks, in a namespace with other listeners, with or
/// without steering.
class House {
  public:
    explicit House(bool steers) {
        inside.reserve_ports(5000, 5999);
        for (const char* address : {"198.51.100.1/24", "203.0.113.1/24", "2001:db8::1/128",
                                    "2001:db8::3/128", "2001:db8:1::1/128", "2001:db8:1::2/128"})
            inside.add_address(address);
        for (const char* target :
             {"127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003", "[::1]:9004"})
            targets_.emplace_back(inside, target, answer(target));
        // Steered ports may have local listeners as well; without steering proxify could not
        // listen.
        if (steers)
            for (const char* local :
                 {"0.0.0.0:5002", "[::]:5003", "203.0.113.1:5004", "[2001:db8:1::1]:5004"})
                locals_.emplace_back(inside, local, answer("local"));
        locals_.emplace_back(inside, "0.0.0.0:5010", answer("local"));
        locals_.emplace_back(inside, "203.0.113.1:5011", answer("local"));

        const auto config = parsed(first_config);
        snapshot_ = routing::Snapshot::build(config, names, nullptr, now());
        Fd listener;
        if (steers) {
            listener = listen_as_proxify(inside, listener_port);
            doors.listens.insert(listener_port);
            inside.run([&] {
                steering_.emplace(value_of(steering::Steering::start(listener.get(), config)));
            });
            doors.steering = &*steering_;
            // The sink is open now. BPF_PROG_RUN knows nothing of groups, so this one ends.
            const int off = 0;
            setsockopt(listener.get(), SOL_SOCKET, SO_REUSEPORT, &off, sizeof off);
        }
        inside.run([&] {
            worker_.emplace(
                *io::Ring::open({.entries = 64, .completions = 1024, .buffers = 16}), records,
                worker::Options{
                    .sessions_so_far = sessions_,
                    .guard = &doors,
                    .is_added_by_hand =
                        [this](uint16_t port) {
                            return steering_ && steering_->is_added_by_hand(port);
                        },
                    .uncounted_port = steers ? std::optional(listener_port) : std::nullopt},
                snapshot_);
            worker_->start([] {});
        });
        if (steers)
            ask<int>([&](auto& worker) {
                worker.listen(static_cast<io::Handle>(listener.release()), capture::Door::steered);
                return 0;
            });
        else
            bind(config);
    }
    ~House() {
        calm();
        worker_->loop().post([this] { worker_->drain(0s); });
        worker_->join();
    }

    /// Makes this the running config, as control/ does.
    void use(const config::Config& config) {
        snapshot_ = routing::Snapshot::build(config, names, snapshot_.get(), now());
        for (const auto& service : snapshot_->services())
            if (service)
                for (const auto& target : service->pool.targets()) target->is_local = true;
        ask<int>([&](auto& worker) { return worker.use(snapshot_), 0; });
        if (steering_)
            value_of(steering_->apply(config));
        else
            bind(config);
    }

    /// Targets come and go, clients come and stay.
    void stir(Random& random) {
        for (const auto& service : snapshot_->services()) {
            if (!service) continue;
            for (const auto& target : service->pool.targets()) {
                if (random.chance(25)) target->set_up(false, now());
                if (random.chance(10)) target->set_ejected(true, now());
                if (random.chance(15)) {
                    target->set_up(false, now());
                    target->set_up(true, now() - random.below(1200) * 1s);
                }
            }
            if (random.chance(10)) service->pool.admission().set_panic(true);
            const balance::Tried nobody;
            for (size_t i = random.below(4); i > 0; --i)
                if (auto choice = service->pool.take({.client = Ip::v4(10, 0, 0, 1),
                                                      .random = random.next(),
                                                      .tried = nobody,
                                                      .now = now()});
                    choice.seat)
                    seats_.push_back(std::move(choice.seat));
            if (service->sources && random.chance(40))
                service->sources->enter(Ip::v4(198, 51, 100, 5), {.sessions = 2}, now(),
                                        places_.emplace_back());
            if (random.chance(15)) patients_.emplace_back(*service, some_of(random, service->pool));
        }
        if (!steering_) return;
        for (const auto& service : snapshot_->services())
            if (service)
                value_of(steering_->set_down(service->name, !service->pool.any_available()));
        if (random.chance(30)) type(random.chance(70), random.of(ports()));
    }

    static balance::Tried some_of(Random& random, const balance::Pool& pool) {
        balance::Tried tried;
        for (const auto& target : pool.targets())
            if (random.chance(50)) tried.add(*target);
        return tried;
    }

    /// Its targets go down.
    void lose(const std::string& name) {
        for (const auto& service : snapshot_->services())
            if (service && service->name == name)
                for (const auto& target : service->pool.targets()) target->set_up(false, now());
        value_of(steering_->set_down(name, true));
    }

    /// Back to a host where nothing has happened.
    void calm() {
        patients_.clear();
        seats_.clear();
        places_.clear();
        for (const auto& service : snapshot_->services()) {
            if (!service) continue;
            service->pool.admission().set_panic(false);
            for (const auto& target : service->pool.targets()) {
                target->set_up(true, now());
                target->set_ejected(false, now());
                target->back_since = balance::Target::never_out;
            }
        }
        for (auto [port, was_added] : std::exchange(typed_, {})) type(!was_added, port);
        typed_.clear();
    }

    Result<Explanation> explain(const explain::Question& question, uint64_t random) {
        Result<Explanation> out = fail(Error::of("nothing was asked"));
        inside.run([&] {
            out = explain::explain(
                question, {.snapshot = *snapshot_,
                           .steering = steering_ ? &*steering_ : nullptr,
                           .listener_port = steering_ ? std::optional(listener_port) : std::nullopt,
                           .doors = doors,
                           .is_here = is_here,
                           .now = now(),
                           .random = random});
        });
        return out;
    }

    /// No session is left but those that are held.
    bool is_quiet() {
        return eventually(
            [&] { return ask<size_t>([](auto& worker) { return worker.session_count(); }) == 0; });
    }

    const steering::Steering& steering() const { return *steering_; }
    const routing::Snapshot& snapshot() const { return *snapshot_; }
    /// What a target says to who dialled `port`; "" when nobody is there.
    std::string answers(const std::string& target, uint16_t port) const {
        if (target == "127.0.0.2:*")
            return steering_ && (port == 5002 || port == 5010) ? "local" : "";
        bool is_here = std::ranges::find(targets_, target, &Server::address) != targets_.end();
        return is_here ? target : "";
    }

    static const std::vector<uint16_t>& ports() {
        static const std::vector<uint16_t> all{5000, 5001, 5002, 5003, 5004, 5005,
                                               5006, 5007, 5010, 5011, 8080};
        return all;
    }

    Namespace inside = Namespace::create();
    Records records;
    Doors doors;

  private:
    static bool is_here(const Ip& ip) { return ip != Ip::v4(203, 0, 113, 99); }
    static std::vector<Endpoint> names(const std::string&) { return {}; }

    template <class T>
    T ask(std::function<T(worker::Worker&)> question) {
        std::promise<T> answer;
        worker_->loop().post([&] { answer.set_value(question(*worker_)); });
        return answer.get_future().get();
    }

    /// What a person types into proxy_ports.
    void type(bool adds, uint16_t port) {
        auto map = Fd::adopt(bpf_map_get_fd_by_id(value_of(steering_->ids()).proxy_ports));
        const uint8_t value = 0;
        const bool changed = adds ? bpf_map_update_elem(map.get(), &port, &value, BPF_NOEXIST) == 0
                                  : bpf_map_delete_elem(map.get(), &port) == 0;
        if (changed) typed_.emplace_back(port, adds);
    }

    void bind(const config::Config& config) {
        const auto want = steering::ports_of(config);
        for (uint16_t port : std::set(doors.listens))
            if (!want[port]) {
                doors.listens.erase(port);
                ask<int>([&](auto& worker) { return worker.stop_listening(port), 0; });
                // Until the socket is closed a client may still come in.
                REQUIRE(eventually([&] { return !can_dial(port); }));
            }
        for (uint16_t port : steering::to_list(want))
            if (doors.listens.insert(port).second) {
                Fd listener = listen_as_proxify(inside, port);
                ask<int>([&](auto& worker) {
                    worker.listen(static_cast<io::Handle>(listener.release()),
                                  capture::Door::bound);
                    return 0;
                });
            }
    }
    bool can_dial(uint16_t port) const {
        return Stream::dial_error(inside, "127.0.0.1:" + std::to_string(port)) == 0;
    }

    std::list<Server> targets_, locals_;
    std::atomic<uint64_t> sessions_ = 0;
    std::shared_ptr<const routing::Snapshot> snapshot_;
    std::optional<steering::Steering> steering_;
    std::optional<worker::Worker> worker_;
    std::vector<balance::Seat> seats_;
    std::list<access::Sources::Place> places_;
    std::list<Patient> patients_;
    std::vector<std::pair<uint16_t, bool>> typed_;
};

// ---- what is drawn

std::string quoted(const std::string& text) {
    return "\"" + text + "\"";
}

std::string some_of(Random& random, std::vector<std::string> words, size_t most) {
    std::set<std::string> drawn;
    for (size_t i = 1 + random.below(most); i > 0; --i) drawn.insert(quoted(random.of(words)));
    std::string list;
    for (const auto& word : drawn) list += (list.empty() ? "" : ", ") + word;
    return "[" + list + "]";
}

std::string draw_access(Random& random) {
    const std::vector<std::string> allowed{"198.51.100.0/24", "198.51.100.4", "198.51.100.2/31",
                                           "2001:db8::/32"},
        denied{"198.51.100.0/30", "198.51.100.5", "198.51.100.0/28", "2001:db8::3"};
    std::string text;
    if (random.chance(15)) text += "allow = " + some_of(random, allowed, 3) + "\n";
    if (random.chance(25)) text += "deny = " + some_of(random, denied, 2) + "\n";
    return text;
}

std::string draw_target(Random& random, bool steers) {
    static const std::vector<std::string> live{"127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003",
                                               "[::1]:9004"},
        odd{"127.0.0.1:9008", "127.0.0.1:9009", "127.0.0.1:8080", "127.0.0.2:*",
            "127.0.0.1:+60530"};
    std::string address = random.chance(80) ? random.of(live) : random.of(odd);
    // Without steering a target at the dialled port is proxify itself.
    if (!steers && address == "127.0.0.1:8080") address = "127.0.0.1:5000";
    std::string text = "{ address = " + quoted(address);
    if (random.chance(30)) text += ", weight = " + std::to_string(random.below(4));
    if (random.chance(15)) text += ", backup = true";
    if (random.chance(15)) text += ", priority = 1";
    if (random.chance(25)) text += ", max_connections = " + std::to_string(1 + random.below(2));
    return text + " }";
}

std::string draw_service(Random& random, const std::string& name, bool steers) {
    auto number = [&](size_t most) { return std::to_string(1 + random.below(most)); };
    std::string text = "[[service]]\nname = " + quoted(name) + "\nhealth = false\nports = [";
    std::set<uint16_t> ports;
    for (size_t i = 1 + random.below(3); i > 0; --i)
        ports.insert(static_cast<uint16_t>(5000 + random.below(8)));
    for (uint16_t port : ports) text += (port == *ports.begin() ? "" : ", ") + std::to_string(port);
    text += "]\n";
    if (random.chance(25))
        text += "addresses = " +
                some_of(random,
                        {"203.0.113.0/24", "203.0.113.1", "203.0.113.2/31", "2001:db8:1::/64",
                         "2001:db8:1::1"},
                        2) +
                "\n";
    std::set<std::string> targets;
    for (size_t i = 1 + random.below(4); i > 0; --i) targets.insert(draw_target(random, steers));
    text += "targets = [";
    for (const auto& target : targets) text += (target == *targets.begin() ? "" : ", ") + target;
    text += "]\n";

    static const std::vector<std::string> policies{
        "round-robin", "round-robin", "least-connections", "random", "source-hash",
        "maglev",      "first"};
    const auto& policy = random.of(policies);
    text += "balance = " + quoted(policy) + "\n";
    if ((policy == "source-hash" || policy == "maglev") && random.chance(30))
        text += "hash_balance_factor = 125\n";
    if (random.chance(15)) text += "slow_start = \"1000s\"\n";
    text += draw_access(random);
    if (random.chance(20)) text += "on_deny = \"drop\"\n";
    const std::string when = random.of(
        std::vector<std::string>{"refuse", "refuse", "pass", "pass", "accept", "accept", "drop"});
    text += "when_down = " + quoted(when) + "\n";
    if (random.chance(15)) text += "max_connections = " + number(3) + "\n";
    text += "queue = { size = " + std::to_string(random.below(3)) + ", timeout = \"25ms\" }\n";
    text += "tries = " + number(4) + "\n";
    if (random.chance(15))
        text += "limits = { source_rate = " + number(2) + " }\n";
    else if (random.chance(15))
        text += "limits = { source_sessions = " + number(2) + " }\n";
    return text;
}

/// Drawn again until it is one that proxify would take.
std::pair<std::string, config::Config> draw_config(Random& random, bool steers) {
    for (;;) {
        std::string services;
        std::vector<std::string> names{"a", "b", "c", "d"};
        names.resize(1 + random.below(4));
        for (const auto& name : names) services += draw_service(random, name, steers);
        std::string text = "[proxify]\n" + draw_access(random);
        if (random.chance(50)) text += "default_service = " + quoted(random.of(names)) + "\n";
        text += services;
        if (auto config = config::parse(text, "targets.toml")) return {text, *config};
    }
}

explain::Question draw_question(Random& random, const routing::Snapshot& snapshot,
                                uint16_t client_port) {
    static const std::vector<std::string> v4{"203.0.113.1", "203.0.113.2", "203.0.113.3"},
        v6{"2001:db8:1::1", "2001:db8:1::2"}, clients{"2001:db8::1", "2001:db8::3"};
    uint16_t port = random.of(House::ports());
    const auto& written =
        snapshot.config().services[random.below(snapshot.config().services.size())];
    if (random.chance(70)) port = random.of(written.ports).first;
    if (random.chance(20))
        return {{*Ip::parse(random.of(clients)), client_port}, {*Ip::parse(random.of(v6)), port}};
    return {{Ip::v4(198, 51, 100, static_cast<uint8_t>(1 + random.below(6))), client_port},
            {*Ip::parse(random.of(v4)), port}};
}

// ---- what happens

/// The targets that are tried, in order.
std::vector<std::string> order_of(const Explanation& explanation) {
    std::vector<std::string> order;
    for (const auto& candidate : explanation.candidates)
        if (candidate.order > 0) order.push_back(candidate.target);
    return order;
}

/// Where lots are drawn, any target that may be used is one that answers, or one that is dead.
bool is_possible_draw(const House& house, const Explanation& foretold, uint16_t dialled,
                      const std::string& answer) {
    return std::ranges::any_of(foretold.candidates, [&](const auto& candidate) {
        const bool is_used =
            candidate.order > 0 || candidate.reason.starts_with("a client is tried");
        const auto says = house.answers(candidate.target, dialled);
        return is_used && answer == (says.empty() ? "reset" : says);
    });
}

/// One client, and how it fared; compared with what was foretold. "" when they agree.
std::string contradiction(House& house, const explain::Question& question,
                          const Explanation& foretold) {
    const bool is_silent = foretold.outcome == Outcome::dropped;
    const auto answer =
        answered_by(house.inside, question.destination.text(),
                    {.limit = is_silent ? 30ms : 5s, .from = question.client.text()});
    const bool gets_in = foretold.outcome == Outcome::joined ||
                         foretold.outcome == Outcome::queued ||
                         foretold.outcome == Outcome::reset_after_accept;
    std::optional<telemetry::SessionRecord> record;
    if (gets_in) eventually([&] { return bool(record = house.records.of(question.client)); }, 5s);
    if (!house.is_quiet()) return "a session does not end";
    auto differs = [&](const std::string& what) {
        return format("{}: answered \"{}\", record {}", what, answer,
                      record ? format("service {} target {} tried {} queued {} ending {}",
                                      record->service ? *record->service : "-",
                                      record->target ? record->target->text() : "-", record->tried,
                                      to_text(record->queued), record->ending.reason)
                             : "none");
    };
    if (!gets_in && house.records.of(question.client)) return differs("it got in");

    switch (foretold.outcome) {
        case Outcome::refused:
        case Outcome::refused_by_the_host:
            return answer == "refused" ? "" : differs("not refused");
        case Outcome::dropped:
            return answer == "nobody" ? "" : differs("not dropped");
        case Outcome::local_listener:
            return answer == "local" ? "" : differs("not the local listener");
        default:
            break;
    }
    if (!record) return differs("it did not get in");
    if ((record->service ? *record->service : "") != foretold.service)
        return differs("another service");
    const auto order = order_of(foretold);
    if (foretold.outcome == Outcome::queued) {
        const bool waited =
            record->queued > 0s && answer == "reset" &&
            std::string_view(record->ending.reason) == "waited too long in the queue";
        const bool tried = record->tried == static_cast<int>(order.size());
        return waited && tried ? "" : differs("not queued");
    }
    const auto dialled = question.destination.port;
    if (foretold.is_one_draw && !order.empty())
        return is_possible_draw(house, foretold, dialled, answer) ? "" : differs("no such draw");
    if (foretold.outcome == Outcome::reset_after_accept) {
        const bool tried = record->tried == static_cast<int>(order.size());
        return answer == "reset" && record->queued == 0s && tried ? "" : differs("not just reset");
    }

    // Joined, to the first of the order that is alive; or all are dead, and nobody has noticed.
    const auto to = *Address::parse(foretold.target);
    if (house.doors.listens.contains(to.port) && to.ip.is_loopback())
        return differs("joined to proxify itself");
    for (size_t i = 0; i < order.size(); ++i) {
        const auto expected = house.answers(order[i], dialled);
        if (expected.empty()) continue;
        const bool is_it = answer == expected && record->tried == static_cast<int>(i) + 1;
        return is_it ? "" : differs(format("not {}, number {} of the order", order[i], i + 1));
    }
    const bool all_tried = record->tried == static_cast<int>(order.size());
    return answer == "reset" && all_tried ? "" : differs("joined, where all are dead");
}

std::string told(const Explanation& explanation) {
    std::string text =
        format("{} to {}: {}, service \"{}\", {}\n", explanation.question.client.text(),
               explanation.question.destination.text(), to_text(explanation.outcome),
               explanation.service, explanation.client_sees);
    for (const auto& step : explanation.steps)
        text += format("  {} {}: {}\n", step.decides ? "*" : " ", step.stage, step.finding);
    for (const auto& candidate : explanation.candidates) {
        text += format("    {} {} [", candidate.order, candidate.target);
        for (const auto& state : candidate.states) text += state + ",";
        text += format("] {}\n", candidate.reason);
    }
    return text;
}

/// Asks for an explanation, sends the client, compares. Where a rate is limited its clock may tick
/// in between; but not twice.
void compare(House& house, Random& random, const explain::Question& question,
             std::map<Outcome, int>& seen) {
    const auto foretold = value_of(house.explain(question, random.next()));
    const auto again = value_of(house.explain(question, random.next()));
    INFO(told(foretold));
    if (!foretold.is_one_draw) {
        CHECK(again.outcome == foretold.outcome);
        CHECK(order_of(again) == order_of(foretold));
    }
    CHECK(std::ranges::count_if(foretold.steps, &explain::Step::decides) == 1);
    CHECK_FALSE(foretold.client_sees.empty());
    ++seen[foretold.outcome];

    auto wrong = contradiction(house, question, foretold);
    const bool has_rate =
        std::ranges::any_of(house.snapshot().config().services,
                            [](const auto& service) { return service.limits.source_rate > 0; });
    if (!wrong.empty() && has_rate) {
        auto later = question;
        later.client.port = static_cast<uint16_t>(later.client.port + 10000);
        wrong = contradiction(house, later, value_of(house.explain(later, random.next())));
    }
    CHECK(wrong == "");
}

/// What the program itself does with such a SYN, by BPF_PROG_RUN: it counts, and uses up rates.
kernel::Landing run_program(const steering::Steering& steering, const explain::Question& question) {
    auto program = Fd::adopt(bpf_prog_get_fd_by_id(value_of(steering.ids()).program));
    const auto& [client, destination] = question;
    bpf_sk_lookup lookup{};
    lookup.family = client.ip.is_v4 ? AF_INET : AF_INET6;
    lookup.protocol = IPPROTO_TCP;
    lookup.remote_port = htons(client.port);
    lookup.local_port = destination.port;
    std::memcpy(client.ip.is_v4 ? &lookup.remote_ip4 : lookup.remote_ip6, client.ip.bytes.data(),
                client.ip.is_v4 ? 4 : 16);
    std::memcpy(client.ip.is_v4 ? &lookup.local_ip4 : lookup.local_ip6, destination.ip.bytes.data(),
                client.ip.is_v4 ? 4 : 16);
    LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &lookup, .ctx_out = &lookup,
                .ctx_size_in = sizeof lookup, .ctx_size_out = sizeof lookup);
    REQUIRE(bpf_prog_test_run_opts(program.get(), &run) == 0);
    if (run.retval != SK_PASS) return kernel::Landing::nowhere;
    if (lookup.cookie == 0) return kernel::Landing::host;
    auto listener = Fd::adopt(bpf_map_get_fd_by_id(value_of(steering.ids()).proxy_sock));
    uint32_t slot = 0;
    uint64_t cookie = 0;
    REQUIRE(bpf_map_lookup_elem(listener.get(), &slot, &cookie) == 0);
    return cookie == lookup.cookie ? kernel::Landing::listener : kernel::Landing::sink;
}

using Counted = std::map<std::string, uint64_t>;

Counted counted(const steering::Steering& steering) {
    Counted out;
    for (const auto& counter : value_of(steering.counters()))
        if (counter.value > 0) out[std::string(counter.name)] = counter.value;
    return out;
}

/// Against the program, which then counts what was foretold, for the service that was.
void compare_with_program(House& house, const explain::Question& question, Counted& seen) {
    const auto& steering = house.steering();
    const auto before = counted(steering);
    auto explained = value_of(steering.explain(question.client, question.destination));
    CHECK(counted(steering) == before);
    auto landing = run_program(steering, question);
    auto expected = before;
    if (explained.outcome != "not_ours") ++expected[std::string(explained.outcome)];
    if (counted(steering) != expected && explained.outcome == "limited")
        return;  // its clock ticked
    INFO(question.client.text() << " to " << question.destination.text() << ": "
                                << explained.outcome);
    CHECK(counted(steering) == expected);
    CHECK(landing == explained.landing);
    ++seen[std::string(explained.outcome)];
}

}  // namespace

TEST_CASE("an explanation is what happens, on hundreds of random configurations") {
    NEEDS_KERNEL_ACCESS();
    House house(/*steers=*/true);
    Random random(20);
    std::map<Outcome, int> seen;
    Counted by_program;
    uint16_t client_port = 20000;
    for (int number = 0; number < 200; ++number) {
        const auto [text, config] = draw_config(random, true);
        INFO("configuration " << number << ":\n" << text);
        house.use(config);
        house.stir(random);
        for (int i = 0; i < 8; ++i)
            compare_with_program(house, draw_question(random, house.snapshot(), client_port++),
                                 by_program);
        for (int i = 0; i < 4; ++i)
            compare(house, random, draw_question(random, house.snapshot(), client_port++), seen);
        house.calm();
    }
    for (auto outcome :
         {Outcome::joined, Outcome::queued, Outcome::reset_after_accept, Outcome::refused,
          Outcome::dropped, Outcome::local_listener, Outcome::refused_by_the_host}) {
        INFO(to_text(outcome));
        std::printf("%s: %d\n", std::string(to_text(outcome)).c_str(), seen[outcome]);
        CHECK(seen[outcome] >= 3);
    }
    for (const char* outcome : {"not_ours", "steered", "denied", "limited", "refused_down",
                                "dropped_down", "passed_down", "passed_other_address"}) {
        INFO(outcome);
        std::printf("%s: %d\n", outcome, int(by_program[outcome]));
        CHECK(by_program[outcome] >= 3);
    }
}

TEST_CASE("without steering an explanation is what happens as well") {
    NEEDS_KERNEL_ACCESS();
    House house(/*steers=*/false);
    Random random(21);
    std::map<Outcome, int> seen;
    uint16_t client_port = 20000;
    for (int number = 0; number < 80; ++number) {
        const auto [text, config] = draw_config(random, false);
        INFO("configuration " << number << ":\n" << text);
        house.use(config);
        house.stir(random);
        for (int i = 0; i < 4; ++i)
            compare(house, random, draw_question(random, house.snapshot(), client_port++), seen);
        house.calm();
    }
    for (auto outcome : {Outcome::joined, Outcome::queued, Outcome::reset_after_accept,
                         Outcome::local_listener, Outcome::refused_by_the_host}) {
        INFO(to_text(outcome));
        std::printf("%s: %d\n", std::string(to_text(outcome)).c_str(), seen[outcome]);
        CHECK(seen[outcome] >= 3);
    }
}

namespace {

std::vector<std::string> stages_of(const Explanation& explanation) {
    std::vector<std::string> stages;
    for (const auto& step : explanation.steps) stages.push_back(step.stage);
    return stages;
}

/// The sentence that decides.
std::string decision(const Explanation& explanation) {
    for (const auto& step : explanation.steps)
        if (step.decides) return step.stage + ": " + step.finding;
    return "nothing";
}

explain::Question asked(const char* client, const char* destination) {
    return {*Address::parse(client), *Address::parse(destination)};
}

/// What is said of one target.
std::string reason_of(const Explanation& explanation, const std::string& target) {
    for (const auto& candidate : explanation.candidates)
        if (candidate.target == target)
            return std::to_string(candidate.order) + ", " + candidate.reason;
    return "no such target";
}

const char* const house_rules = R"(
[proxify]
deny = ["198.51.100.0/28"]
[[service]]
name = "web"
ports = [5000]
health = false
balance = "first"
tries = 2
targets = [{ address = "127.0.0.1:9001", max_connections = 1 }, "127.0.0.1:9002", "127.0.0.1:9003",
           { address = "127.0.0.1:8080" }, { address = "127.0.0.1:9008", weight = 0 },
           { address = "127.0.0.1:9009", backup = true }]
[[service]]
name = "mail"
ports = [5002, 5006]
health = false
when_down = "pass"
targets = "127.0.0.1:9001"
[[service]]
name = "one"
ports = [5001]
health = false
limits = { source_sessions = 1 }
allow = "198.51.100.0/24"
targets = { address = "127.0.0.1:9001", max_connections = 1 }
queue = { size = 1, timeout = "5s" }
)";

}  // namespace

TEST_CASE("each step of an explanation says what decided, in words") {
    NEEDS_KERNEL_ACCESS();
    House house(/*steers=*/true);
    house.use(parsed(house_rules));
    auto explain = [&](const char* client, const char* destination) {
        return value_of(house.explain(asked(client, destination), 0));
    };
    auto& web = house.snapshot().find(*Address::parse("203.0.113.1:5000"))->pool;

    auto joined = explain("198.51.100.77:4000", "203.0.113.1:5000");
    CHECK(stages_of(joined) ==
          std::vector<std::string>{"steering", "access", "state", "listener", "service", "choice"});
    CHECK(joined.steps[1].finding ==
          "198.51.100.77: the list of all services does not name it; that of service web does not "
          "name it");
    CHECK(joined.client_sees == "the connection is accepted and joined to 127.0.0.1:9001");
    CHECK(decision(joined) ==
          "choice: 5 of 5 targets available; 1 with weight 0; first tries 127.0.0.1:9001, then "
          "127.0.0.1:9002");
    CHECK(reason_of(joined, "127.0.0.1:9002") ==
          "2, if those before it fail: it is the first as written");
    CHECK(reason_of(joined, "127.0.0.1:9003") == "0, a client is tried on 2 at most");
    CHECK(reason_of(joined, "127.0.0.1:9008") == "0, weight 0: it takes no new sessions");

    const balance::Tried nobody;
    auto seat = web.take({.client = {}, .tried = nobody});
    web.targets()[1]->set_up(false, now());
    web.targets()[2]->set_ejected(true, now());
    auto other = explain("198.51.100.77:4000", "203.0.113.1:5000");
    CHECK(reason_of(other, "127.0.0.1:9001") == "0, full");
    CHECK(other.candidates[1].states == std::vector<std::string>{"up", "full 1/1"});
    CHECK(reason_of(other, "127.0.0.1:9002") == "0, down, as health checks say");
    CHECK(reason_of(other, "127.0.0.1:9003") == "0, ejected, for it let clients down");
    CHECK(reason_of(other, "127.0.0.1:8080") ==
          "1, passed over at once, for that is proxify's own listener; it is the first as written");
    house.calm();

    auto denied = explain("198.51.100.7:4000", "203.0.113.1:5000");
    CHECK(denied.service == "web");
    CHECK(decision(denied) ==
          "access: 198.51.100.7: the list of all services denies 198.51.100.0/28; that of service "
          "web does not name it");
    CHECK(decision(explain("[2001:db8::1]:4000", "[2001:db8:1::1]:5001")) ==
          "access: 2001:db8::1: the list of all services does not name it; that of service one "
          "allows others by name only");

    auto nobody_there = explain("198.51.100.77:4000", "203.0.113.2:5011");
    CHECK(decision(nobody_there) == "listener: nobody listens on 203.0.113.2:5011");
    CHECK(nobody_there.service.empty());
    auto local = explain("198.51.100.77:4000", "203.0.113.1:5011");
    CHECK(local.client_sees == "whatever kernel-explain (pid " + std::to_string(getpid()) +
                                   ") on 203.0.113.1:5011 says");
    auto no_default = explain("198.51.100.77:4000", "203.0.113.1:8080");
    CHECK(decision(no_default) ==
          "service: no service has port 8080 at 203.0.113.1, and there is no default_service");

    auto elsewhere = explain("198.51.100.77:4000", "203.0.113.99:5000");
    CHECK(elsewhere.steps[0].stage == "host");
    CHECK(elsewhere.outcome == Outcome::joined);

    CHECK_FALSE(house.explain(asked("198.51.100.77:4000", "[2001:db8:1::1]:5001"), 0));
}

TEST_CASE("who finds no room is told why, and who waits already") {
    NEEDS_KERNEL_ACCESS();
    House house(/*steers=*/true);
    house.use(parsed(house_rules));
    auto explain = [&] {
        return value_of(house.explain(asked("198.51.100.77:4000", "203.0.113.1:5001"), 0));
    };
    const auto& one = *house.snapshot().find(*Address::parse("203.0.113.1:5001"));
    const balance::Tried nobody;
    auto seat = one.pool.take({.client = {}, .tried = nobody});
    auto queued = explain();
    CHECK(queued.outcome == Outcome::queued);
    CHECK(decision(queued) ==
          "choice: 1 of 1 target available: every target that serves is full, so it waits in the "
          "queue, up to 5s; 0 of 1 wait there before it");
    {
        Patient patient(one);
        auto turned_away = explain();
        CHECK(turned_away.outcome == Outcome::reset_after_accept);
        CHECK(decision(turned_away) ==
              "choice: 1 of 1 target available: other clients wait for a seat already, and the "
              "queue is full: 1 of 1 wait");
    }
    access::Sources::Place place;
    one.sources->enter(Ip::v4(198, 51, 100, 77), {.sessions = 1}, now(), place);
    auto many = explain();
    CHECK(decision(many) == "sessions: 198.51.100.77 has 1 of 1 sessions");
    CHECK(many.client_sees == "the connection is accepted, then reset");
}

TEST_CASE(
    "who can have what none of those in line may have is served at once, if the line has room") {
    NEEDS_KERNEL_ACCESS();
    House house(/*steers=*/true);
    const std::string text = R"(
[[service]]
name = "two"
ports = [5001]
health = false
balance = "first"
targets = [{ address = "127.0.0.1:9001", max_connections = 1 }, "127.0.0.1:9002"]
)";
    const std::pair<const char*, Outcome> rows[] = {
        {"queue = { size = 2, timeout = \"25ms\" }\n", Outcome::joined},
        {"queue = { size = 1, timeout = \"25ms\" }\n", Outcome::reset_after_accept}};
    for (const auto& [queue, outcome] : rows) {
        house.use(parsed(text + queue));
        const auto& two = *house.snapshot().find(*Address::parse("203.0.113.1:5001"));
        balance::Tried nobody, second;
        second.add(*two.pool.targets()[1]);
        auto seat = two.pool.take({.client = {}, .tried = nobody});
        Patient patient(two, second);
        REQUIRE(two.pool.admission().waiting() == 1);
        const auto port = outcome == Outcome::joined ? "4001" : "4002";
        const auto question =
            asked(("198.51.100.77:" + std::string(port)).c_str(), "203.0.113.1:5001");
        const auto foretold = value_of(house.explain(question, 0));
        INFO(told(foretold));
        CHECK(foretold.outcome == outcome);
        CHECK(contradiction(house, question, foretold) == "");
    }
}

TEST_CASE("a service that is down hands its clients to whoever listens") {
    NEEDS_KERNEL_ACCESS();
    House house(/*steers=*/true);
    house.use(parsed(house_rules));
    house.lose("mail");
    auto local = value_of(house.explain(asked("198.51.100.77:4000", "203.0.113.1:5002"), 0));
    CHECK(local.outcome == Outcome::local_listener);
    CHECK(local.steps[2].finding ==
          "0 of 1 targets of service mail are available, and when_down says pass: passed on, for "
          "no target is up");
    auto refused = value_of(house.explain(asked("198.51.100.77:4000", "203.0.113.1:5006"), 0));
    CHECK(refused.outcome == Outcome::refused_by_the_host);
}

TEST_CASE("the listener that is named is the one that answers, of whichever family it is") {
    NEEDS_KERNEL_ACCESS();
    auto inside = Namespace::create();
    std::vector<Fd> listeners;
    auto listen_on_v6 = [&](uint16_t port, int is_v6_only) {
        inside.run([&] {
            auto& fd = listeners.emplace_back(Fd::adopt(socket(AF_INET6, SOCK_STREAM, 0)));
            const sockaddr_in6 at{.sin6_family = AF_INET6, .sin6_port = htons(port)};
            setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &is_v6_only, sizeof is_v6_only);
            REQUIRE(bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
            REQUIRE(listen(fd.get(), 16) == 0);
        });
    };
    listen_on_v6(5001, 1);
    listen_on_v6(5002, 0);
    listeners.push_back(listen_at(inside, "0.0.0.0:5003"));
    listeners.push_back(listen_at(inside, "127.0.0.2:5004"));
    listeners.push_back(listen_at(inside, "[::1]:5004"));
    std::vector<kernel::Listening> found;
    inside.run([&] { found = value_of(kernel::tcp_listeners_here()); });
    CHECK(found.size() == 5);
    for (int port = 5000; port <= 5005; ++port)
        for (const char* ip : {"127.0.0.1:", "127.0.0.2:", "[::1]:"}) {
            const auto destination = ip + std::to_string(port);
            INFO(destination);
            const bool answers = Stream::dial_error(inside, destination) == 0;
            CHECK((kernel::find_listener(found, *Address::parse(destination)) != nullptr) ==
                  answers);
        }
}
