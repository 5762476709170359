// SPDX-License-Identifier: Apache-2.0
#include "soak/soak.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <thread>

#include "base/format.h"
#include "soak/end.h"
#include "soak/journal.h"
#include "soak/plan.h"
#include "soak/reloads.h"
#include "soak/targets.h"
#include "soak/vitals.h"
#include "support/temp_dir.h"

namespace proxify::test::soak {
namespace {

constexpr size_t open_max = 300;
constexpr size_t problems_max = 20;
/// Nothing in a plan takes half as long.
constexpr Millis stuck_after = sanitized ? 240s : 120s;

struct Connection {
    Plan plan;
    Moment since;
    std::unique_ptr<End> client, target = nullptr;  ///< the target once it has heard the number
    const Target* at = nullptr;
    std::string client_address;
    std::optional<SessionLine> line = {};
    Moment over_since = Moment::max();  ///< no end is open

    bool client_cut() const { return client->has_cut(); }
    bool target_cut() const { return target && target->has_cut(); }
    /// No target can know whose it was.
    bool stayed_anonymous() const { return !target && client->sent() < End::introduction; }
};

/// A target's end that has not heard yet whose it is. Many are health checks.
struct Newcomer {
    Target* at;
    std::unique_ptr<End> end;
};

struct Counts {
    uint64_t begun = 0, whole = 0, cut = 0, refused = 0, turned_away = 0, bytes = 0,
             whole_bytes = 0;
    std::map<std::string, uint64_t> endings = {};
};

class Soak {
  public:
    explicit Soak(const Options& options);
    std::vector<std::string> go();

  private:
    // What happens.
    void begin_connections(Moment at);
    void begin(const Plan& plan, Moment at);
    void let_things_happen(Moment at);
    void kill(Target& target, bool with_its_connections, Millis absence, Moment at);
    void turn(Moment at);
    void accept_all(Target& target, Moment at);
    void introduce(Newcomer& newcomer);
    // What is looked at.
    void read_journal(Moment at);
    void match(SessionLine line);
    void judge_those_that_are_over(Moment at);
    void judge(Connection& connection);
    std::string judge_ending(const Connection& connection) const;
    std::string judge_bytes(const Connection& connection) const;
    bool was_let_down(const Connection& connection) const;
    void take_vitals(Moment at);
    void finish();
    void check_that_it_rests();

    void problem(std::string what) {
        ++problem_count_;
        if (problems_.size() < problems_max) problems_.push_back(std::move(what));
    }
    void tell(const std::string& line) {
        if (!options_.out) return;
        std::fputs((line + "\n").c_str(), options_.out);
        std::fflush(options_.out);
    }
    size_t open_connections() const {
        return static_cast<size_t>(std::ranges::count_if(connections_, [](const auto& each) {
            return each.second->over_since == Moment::max();
        }));
    }

    Options options_;
    Namespace ns_ = Namespace::create();
    TempDir directory_;
    Targets targets_{ns_};
    Reloads reloads_;
    std::optional<Child> proxify_;
    std::optional<Journal> journal_;

    Moment start_ = now();
    bool leaving_ = false;  ///< nothing new begins
    std::map<uint64_t, std::unique_ptr<Connection>> connections_;
    std::list<Newcomer> newcomers_;
    std::map<std::string, std::deque<uint64_t>>
        awaited_;  ///< by client and port, the numbers whose line is to come
    uint64_t next_number_ = 0, next_happening_ = 0;
    std::optional<Plan> next_plan_;
    Moment next_begin_{}, next_happening_at_{}, next_look_{}, next_vitals_{}, next_line_{};

    Counts counts_;
    Vitals baseline_, vitals_;
    Series resident_, anonymous_;
    std::vector<std::string> problems_;
    size_t problem_count_ = 0;
};

Soak::Soak(const Options& options)
    : options_(options), reloads_(ns_, directory_ / "targets.toml", options.seed) {
    ns_.reserve_ports(5000, 12'000);
    proxify_.emplace(Child::start(
        {.argv = {options_.binary, "-b"}, .inside = &ns_, .directory = directory_.path()}));
    journal_.emplace(*proxify_);
    eventually([&] { return is_ready(proxify_->err()) || !proxify_->is_running(); }, 30s);
    if (!is_ready(proxify_->err()))
        throw std::runtime_error("proxify did not become ready:\n" + proxify_->out() +
                                 proxify_->err());
    journal_->read();
    baseline_ = vitals_ = Vitals::of(*proxify_);
    next_plan_ = Plan::drawn(options_.seed, 0);
}

// --- What happens.

void Soak::begin_connections(Moment at) {
    if (leaving_) return;
    size_t open = open_connections();
    for (; next_begin_ <= at && open < open_max; ++open) {
        begin(*next_plan_, at);
        next_plan_ = Plan::drawn(options_.seed, ++next_number_);
        // After a pause for want of room nothing is made up for.
        next_begin_ = std::max(next_begin_, at - 50ms) + next_plan_->delay;
    }
}

void Soak::begin(const Plan& plan, Moment at) {
    const PortState before = reloads_.state(plan.port);
    std::optional<Stream> stream;
    try {
        stream = Stream::dial(ns_, plan.address, {.receive_buffer = plan.client.receive_buffer});
    } catch (const StreamError& error) {
        // The kernel refuses for a service without a target, until checks have seen it again.
        const bool is_down =
            plan.family == Family::fragile && targets_.was_absent("127.0.0.1:9021", at - 5s);
        if (error.number != ECONNREFUSED || (before == PortState::open && !is_down))
            problem(format("connection {} to {}: {}, though the port is open", plan.number,
                           plan.address, error.what()));
        ++counts_.turned_away;
        return;
    }
    if (before == PortState::closed)
        problem(format("connection {} to {} was accepted, though the port is closed", plan.number,
                       plan.address));
    ++counts_.begun;

    auto connection = std::make_unique<Connection>(Connection{
        .plan = plan, .since = at, .client = std::make_unique<End>(std::move(*stream), "", at)});
    connection->client_address = connection->client->stream().local().text();
    Speech out, in;
    if (!plan.silent) {
        out = {.opening = {reinterpret_cast<const char*>(&plan.number), sizeof plan.number},
               .pattern = Pattern(options_.seed ^ (plan.number * 2 + 2)),
               .length = End::introduction + plan.up};
        if (plan.family == Family::greeted) in.opening = Targets::greeting();
        in.pattern = Pattern(options_.seed ^ (plan.number * 2 + 3));
        in.length = in.opening.size() + plan.down;
    }
    connection->client->assign(std::move(out), std::move(in), plan.client,
                               Random(options_.seed, ~(plan.number * 2)));
    connection->client->cut_if_due(at);
    awaited_[connection->client_address + " " + plan.address].push_back(plan.number);
    connections_.emplace(plan.number, std::move(connection));
}

void Soak::let_things_happen(Moment at) {
    targets_.open_doors_again(at);
    if (leaving_ || at < next_happening_at_) return;
    Random random(~options_.seed, next_happening_++);
    next_happening_at_ = at + Millis(random.between(100, 1500));
    const uint64_t kind = random.below(100);
    if (kind < 38)
        reloads_.edit_well(random);
    else if (kind < 48)
        reloads_.edit_badly(random);
    else if (kind < 53)
        proxify_->signal(SIGHUP);
    else if (kind < 70)
        reloads_.turn_a_port_by_hand(random, journal_->ids().value());
    else if (Target* victim = targets_.choose_victim(random.next()))
        kill(*victim, random.chance(60), Millis(random.between(20, 3000)), at);
}

/// Nobody listens there any more; its connections go on, or are reset.
void Soak::kill(Target& target, bool with_its_connections, Millis absence, Moment at) {
    // What is still in the queue would be reset by the kernel.
    accept_all(target, at);
    targets_.close_door(target, at, absence);
    if (!with_its_connections) return;
    for (auto& [number, connection] : connections_)
        if (connection->at == &target) connection->target->cut(Cut::How::reset);
    for (Newcomer& newcomer : newcomers_)
        if (newcomer.at == &target) newcomer.end->cut(Cut::How::reset);
}

void Soak::accept_all(Target& target, Moment at) {
    for (;;) {
        auto socket = Fd::adopt(
            accept4(target.listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (!socket) return;
        newcomers_.push_back(
            {&target, std::make_unique<End>(Stream::adopt(std::move(socket)),
                                            target.greets ? Targets::greeting() : "", at)});
    }
}

/// It has heard its number: from now on it has a part.
void Soak::introduce(Newcomer& newcomer) {
    const uint64_t number = *newcomer.end->number();
    auto found = connections_.find(number);
    if (found == connections_.end() || found->second->target) {
        problem(format("target {} was told the number {}, which nobody else said",
                       newcomer.at->address, number));
        newcomer.end->cut(Cut::How::reset);
        return;
    }
    Connection& connection = *found->second;
    const Plan& plan = connection.plan;
    Speech out{.opening = newcomer.at->greets ? Targets::greeting() : "",
               .pattern = Pattern(options_.seed ^ (number * 2 + 3))};
    out.length = out.opening.size() + plan.down;
    Speech in{.opening = {reinterpret_cast<const char*>(&number), sizeof number},
              .pattern = Pattern(options_.seed ^ (number * 2 + 2)),
              .length = End::introduction + plan.up};
    newcomer.end->assign(std::move(out), std::move(in), plan.target,
                         Random(options_.seed, ~(number * 2 + 1)));
    connection.target = std::move(newcomer.end);
    connection.at = newcomer.at;
}

/// One look at everything that may be ready.
void Soak::turn(Moment at) {
    static std::vector<pollfd> fds;
    static std::vector<End*> ends;
    fds.clear();
    ends.clear();
    for (Target& target : targets_.all())
        fds.push_back(
            {.fd = target.is_alive() ? target.listener.get() : -1, .events = POLLIN, .revents = 0});
    const size_t doors = fds.size();
    auto watch = [&](End* end) {
        if (!end) return;
        end->cut_if_due(at);
        const short events = end->events(at);
        if (events == 0) return;
        fds.push_back({.fd = end->fd(), .events = events, .revents = 0});
        ends.push_back(end);
    };
    for (auto& [number, connection] : connections_) {
        watch(connection->client.get());
        watch(connection->target.get());
    }
    for (Newcomer& newcomer : newcomers_) watch(newcomer.end.get());

    poll(fds.data(), fds.size(), 2);
    size_t door = 0;
    for (Target& target : targets_.all())
        if (fds[door++].revents) accept_all(target, at);
    for (size_t i = doors; i < fds.size(); ++i)
        if (fds[i].revents) ends[i - doors]->work(fds[i].revents, at);
    std::erase_if(newcomers_, [this](Newcomer& newcomer) {
        if (!newcomer.end->is_closed() && newcomer.end->number()) introduce(newcomer);
        return !newcomer.end || newcomer.end->is_closed();
    });
}

// --- What is looked at.

void Soak::read_journal(Moment at) {
    if (at < next_look_) return;
    next_look_ = at + 20ms;
    for (SessionLine& line : journal_->read()) match(std::move(line));
    std::vector<std::string> found;
    reloads_.look(*journal_, at, found);
    for (auto& what : found) problem(std::move(what));
    if (!proxify_->is_running())
        throw std::runtime_error("proxify has ended:\n" + proxify_->err().substr(0, 4000));
}

void Soak::match(SessionLine line) {
    auto found = awaited_.find(line.client + " " + line.original_dst);
    if (found == awaited_.end())
        return problem("a line for a connection that nobody made: " + line.line);
    Connection& connection = *connections_.at(found->second.front());
    connection.line = std::move(line);
    found->second.pop_front();
    if (found->second.empty()) awaited_.erase(found);
}

void Soak::judge_those_that_are_over(Moment at) {
    for (auto each = connections_.begin(); each != connections_.end();) {
        Connection& connection = *each->second;
        const bool is_over = connection.client->is_closed() &&
                             (!connection.target || connection.target->is_closed());
        if (!is_over) {
            connection.over_since = Moment::max();
            if (at - connection.since > stuck_after) {
                problem(format("connection {} to {} is stuck: client {}; target {}", each->first,
                               connection.plan.address, connection.client->text(),
                               connection.target ? connection.target->text() : "unknown"));
                connection.client->cut(Cut::How::reset);
                if (connection.target) connection.target->cut(Cut::How::reset);
            }
            ++each;
            continue;
        }
        if (connection.over_since == Moment::max()) connection.over_since = at;
        // The target may hear its number only now.
        const bool is_known = connection.target || connection.stayed_anonymous();
        if (connection.line && (is_known || at - connection.over_since > 2s)) {
            judge(connection);
            each = connections_.erase(each);
            continue;
        }
        ++each;
    }
}

void Soak::judge(Connection& connection) {
    const End& client = *connection.client;
    const End* target = connection.target.get();
    const std::string letters = connection.line->ending.substr(0, 2);
    ++counts_.endings[letters];
    counts_.bytes += client.received() + (target ? target->received() : 0);
    if (connection.client_cut() || connection.target_cut()) {
        ++counts_.cut;
    } else if (letters == "--") {
        ++counts_.whole;
        counts_.whole_bytes += client.sent() + (target ? target->sent() : 0);
    } else {
        ++counts_.refused;
    }

    for (const std::string& what :
         {client.problem().empty() ? "" : "client: " + client.problem(),
          target && !target->problem().empty() ? "target: " + target->problem() : "",
          judge_ending(connection), judge_bytes(connection)})
        if (!what.empty())
            problem(format("connection {} to {}: {}\n    client {}\n    target {}\n    {}",
                           connection.plan.number, connection.plan.address, what, client.text(),
                           target ? target->text() : "unknown", connection.line->line));
}

/// A target that it needed died, so nobody on either side has to have cut it.
bool Soak::was_let_down(const Connection& connection) const {
    if (connection.plan.family == Family::fragile)
        return targets_.was_absent("127.0.0.1:9021", connection.since);
    return targets_.was_absent(connection.line->target, connection.since);
}

/// Whether the log says what happened.
std::string Soak::judge_ending(const Connection& connection) const {
    const SessionLine& line = *connection.line;
    const End& client = *connection.client;
    const End* target = connection.target.get();
    if (const auto services = Reloads::services_of(connection.plan.family);
        std::ranges::find(services, line.service) == services.end())
        return "it was led to the wrong service";
    if (connection.at && line.target != connection.at->address)
        return "the log names another target";

    const char party = line.ending[0], stage = line.ending[1];
    if (party == '-') {
        const bool both_finished =
            client.has_finished() &&
            (target ? target->has_finished() : connection.stayed_anonymous());
        return both_finished ? "" : "the log calls it done";
    }
    if (party == 'C') return connection.client_cut() ? "" : "the log blames the client";
    if (party == 'T') {
        // Refusals are for services whose only target is gone.
        const bool is_refusal = stage == 'C' || stage == 'Q';
        if (is_refusal)
            return !target && connection.plan.family == Family::fragile && was_let_down(connection)
                       ? ""
                       : "it was refused";
        if (connection.target_cut() || (!target && was_let_down(connection))) return "";
        return "the log blames the target";
    }
    return "nobody in this play ends one like that";
}

/// Whether everybody got what the other side sent.
std::string Soak::judge_bytes(const Connection& connection) const {
    const SessionLine& line = *connection.line;
    const End& client = *connection.client;
    const End* target = connection.target.get();
    const bool is_whole =
        !connection.client_cut() && !connection.target_cut() && line.ending.starts_with("--");

    // A clean end says: this was all.
    const uint64_t from_target = target ? target->sent() : 0, from_client = client.sent();
    if (client.saw_end() && !(target ? target->has_finished() : connection.stayed_anonymous()))
        return "the client saw an end that the target did not send";
    if (client.saw_end() && target && client.received() != from_target)
        return "the client lost bytes before the end";
    if (target && target->saw_end() && !client.has_finished())
        return "the target saw an end that the client did not send";
    if (target && target->saw_end() && target->received() != from_client)
        return "the target lost bytes before the end";
    if (is_whole) {
        if (!client.saw_end()) return "the client saw no end";
        if (client.sent() != client.to_send()) return "the client could not send everything";
        if (target && !target->saw_end()) return "the target saw no end";
        if (target && target->sent() != target->to_send())
            return "the target could not send everything";
    }

    // The counts of the log are what was passed on.
    if (line.ending.starts_with("--") &&
        (line.to_target != from_client || (target && line.to_client != from_target)))
        return "the log counts other bytes than were sent";
    if (line.to_target > from_client) return "more went to the target than the client sent";
    if (target && line.to_client > from_target)
        return "more went to the client than the target sent";
    if (client.received() > line.to_client) return "the client got more than the log counts";
    if (target && target->received() > line.to_target)
        return "the target got more than the log counts";

    // After a cut, whoever stays and reads gets all that was passed on.
    const Plan& plan = connection.plan;
    const bool target_stays =
        target ? !target->has_cut() : !connection.stayed_anonymous() && !was_let_down(connection);
    const uint64_t at_target = target ? target->received() : 0;
    if (target_stays && !plan.target.is_slow() && at_target != line.to_target)
        return "the target got less than was passed on to it";
    if (!client.has_cut() && !plan.client.is_slow() && client.received() != line.to_client)
        return "the client got less than was passed on to it";
    return "";
}

void Soak::take_vitals(Moment at) {
    if (at >= next_vitals_) {
        next_vitals_ = at + 250ms;
        vitals_ = Vitals::of(*proxify_);
        resident_.add(vitals_.resident);
        anonymous_.add(vitals_.anonymous);
    }
    if (at < next_line_) return;
    if (next_line_ == Moment{})
        tell(format(
            "{:>6} {:>5} {:>8} {:>8} {:>7} {:>8} {:>8} {:>6} {:>8} {:>6} {:>7} {:>7} {:>5} {:>5}",
            "time", "open", "begun", "whole", "cut", "no entry", "GB", "edits", "bad ones",
            "deaths", "RSS", "anon", "socks", "pipes"));
    next_line_ = at + 10s;
    tell(
        format("{:>5}s {:>5} {:>8} {:>8} {:>7} {:>8} {:>8.2f} {:>6} {:>8} {:>6} {:>6.1f}M "
               "{:>6.1f}M {:>5} {:>5}",
               std::chrono::round<std::chrono::seconds>(at - start_).count(), open_connections(),
               counts_.begun, counts_.whole, counts_.cut, counts_.refused + counts_.turned_away,
               static_cast<double>(counts_.bytes) / 1e9, reloads_.applied(), reloads_.refused(),
               targets_.deaths(), static_cast<double>(vitals_.resident) / (1 << 20),
               static_cast<double>(vitals_.anonymous) / (1 << 20), vitals_.sockets, vitals_.pipes));
}

std::vector<std::string> Soak::go() {
    tell(
        format("seed {}; the same plan again: ./dev soak --seed {}", options_.seed, options_.seed));
    start_ = next_begin_ = now();
    next_happening_at_ = start_ + 300ms;
    Moment all_over = Moment::max();
    for (Moment at = start_; at < all_over; at = now()) {
        if (!leaving_ && at - start_ >= options_.duration) {
            leaving_ = true;
            for (Target& target : targets_.all())
                target.comes_back = std::min(target.comes_back, at);
        }
        begin_connections(at);
        let_things_happen(at);
        turn(at);
        read_journal(at);
        judge_those_that_are_over(at);
        take_vitals(at);
        if (leaving_ &&
            (connections_.empty() || at - start_ > options_.duration + stuck_after + 10s))
            all_over = at;
    }
    finish();
    return problems_;
}

/// Everybody has gone home.
void Soak::finish() {
    next_line_ = now();
    take_vitals(now());
    check_that_it_rests();

    proxify_->signal(SIGTERM);
    if (auto code = proxify_->wait(20s); code != 0)
        problem(code ? format("proxify ended with {}", *code)
                     : "proxify does not end after SIGTERM");
    for (SessionLine& line : journal_->read()) match(std::move(line));
    for (const auto& [number, connection] : connections_)
        problem(format("connection {} to {} has no line in the log: client {} {}; target {}",
                       number, connection->plan.address, connection->client_address,
                       connection->client->text(),
                       connection->target ? connection->target->text() : "unknown"));
    for (const auto& line : journal_->strange()) problem("strange words in the log: " + line);
    if (auto out = proxify_->out(); !out.empty())
        problem("strange words on standard output: " + out);

    std::string endings;
    for (const auto& [letters, count] : counts_.endings)
        endings += format(" {} {},", letters, count);
    tell(
        format("\n{} connections ({} whole with {} bytes, {} cut, {} refused), {} turned away at a "
               "closed port",
               counts_.begun, counts_.whole, counts_.whole_bytes, counts_.cut, counts_.refused,
               counts_.turned_away));
    tell(format("{} edits applied, {} refused, {} ports turned by hand, {} deaths of targets",
                reloads_.applied(), reloads_.refused(), reloads_.by_hand(), targets_.deaths()));
    tell(format("endings:{} in the log", endings));
    if (problem_count_ > problems_.size())
        problems_.push_back(format("and {} more", problem_count_ - problems_.size()));
    tell(problems_.empty() ? "passed: no byte lost, every ending explained, nothing left behind"
                           : "FAILED:");
    for (const auto& what : problems_) tell(format("  {}", what));
    if (!problems_.empty()) tell(format("seed {}", options_.seed));
}

void Soak::check_that_it_rests() {
    // Health checks open a socket for a moment, and pipes are kept for a second or two.
    auto is_back = [&] {
        vitals_ = Vitals::of(*proxify_);
        return vitals_.sockets <= baseline_.sockets && vitals_.other_fds <= baseline_.other_fds &&
               vitals_.pipes <= baseline_.pipes;
    };
    auto serve_for = [&](Millis time, const auto& until) {  // health checks must find somebody
        for (const Moment end = now() + time; now() < end && !until();
             std::this_thread::sleep_for(1ms))
            turn(now());
    };
    serve_for(10s, is_back);
    tell(format("\nfds at rest: {} sockets of {} before, {} others of {}, {} of pipes",
                vitals_.sockets, baseline_.sockets, vitals_.other_fds, baseline_.other_fds,
                vitals_.pipes));
    if (!is_back() && !is_back() && !is_back()) problem("descriptors are left behind");

    const Millis before = proxify_->cpu_time();
    serve_for(2s, [] { return false; });
    const Millis used = proxify_->cpu_time() - before;
    tell(format("CPU at rest: {} ms in 2 s, with health checks", used.count()));
    if (used > (sanitized ? 600ms : 100ms))
        problem(format("at rest it used {} ms of CPU in 2 s", used.count()));

    const size_t first = anonymous_.median_of_third(0), last = anonymous_.median_of_third(2);
    tell(format("RSS in MiB: {}", resident_.text()));
    tell(format("anonymous memory in MiB: {}; median of the thirds: {:.2f} {:.2f} {:.2f}",
                anonymous_.text(), static_cast<double>(first) / (1 << 20),
                static_cast<double>(anonymous_.median_of_third(1)) / (1 << 20),
                static_cast<double>(last) / (1 << 20)));
    // AddressSanitizer keeps what was freed for a while, on purpose.
    if (!sanitized && anonymous_.is_long_enough() && last > first + first / 10 + (2 << 20))
        problem("memory grows");
}

}  // namespace

std::vector<std::string> run(const Options& options) {
    Soak soak(options);
    return soak.go();
}

}  // namespace proxify::test::soak
