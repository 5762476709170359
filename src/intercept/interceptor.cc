// SPDX-License-Identifier: Apache-2.0
#include "intercept/interceptor.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/count_text.h"
#include "base/expect.h"
#include "base/format.h"

namespace proxify::intercept {

/// Every process descends from it. It listens for those that are started on demand, and is proxify
/// itself in some containers; our own sockets are known by their mark all the same.
static constexpr int everybodys_ancestor = 1;

// ---- beginning

Result<> check_containers(const config::Capture& capture) {
    TRY(containers::check_runtime(capture.runtime));
    for (const auto& name : containers_of(capture)) {
        TRY_TO(container, containers::find(name, ""));
        if (!container.running)
            return fail(Error::of(format("the container {} does not run", name),
                                  format("start it: docker start {}", name)));
        const bool is_destination =
            std::ranges::find(capture.containers, name, &config::ContainerSpec::name) !=
            capture.containers.end();
        if (is_destination && container.addresses.empty())
            return fail(containers::without_addresses(container));
    }
    return {};
}

static uint32_t pid_namespace_of(const std::string& process) {
    struct stat about{};
    return stat(format("/proc/{}/ns/pid", process).c_str(), &about) == 0
               ? static_cast<uint32_t>(about.st_ino)
               : 0;
}

Result<> Interceptor::check(const config::Capture& capture) {
    if (!capture.cgroup.empty()) TRY(kernel::open_cgroup(capture.cgroup));
    return {};
}

Result<std::unique_ptr<Interceptor>> Interceptor::open(const config::Capture& capture, OwnMark mark,
                                                       Duration patience, telemetry::Journal& log) {
    constexpr auto what = "cannot capture connections of this host's programs";
    auto opened = [&]() -> Result<std::unique_ptr<Interceptor>> {
        TRY(containers::check_runtime(capture.runtime));
        TRY_TO(root_path, kernel::cgroup2_root());
        TRY_TO(root, kernel::open_cgroup(root_path));
        TRY_TO(attached, kernel::open_cgroup(capture.cgroup.empty() ? root_path : capture.cgroup));
        TRY_TO(program, kernel::ConnectProgram::load(hooks_of(capture)));
        std::unique_ptr<Interceptor> made(new Interceptor(
            capture, mark, std::move(program), std::move(root), std::move(attached), log));
        TRY(made->begin(patience));
        return made;
    }();
    if (!opened) return fail(std::move(opened).error().within(what));
    return opened;
}

static Fd new_timer() {
    return Fd::adopt(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
}

static void set_timer(const Fd& timer, Duration every) {
    const timespec pause{.tv_sec = every / 1s, .tv_nsec = (every % 1s).count()};
    const itimerspec times{.it_interval = pause, .it_value = pause};
    timerfd_settime(timer.get(), 0, &times, nullptr);
}

static bool has_rung(const Fd& timer) {
    uint64_t times = 0;
    return read(timer.get(), &times, sizeof times) == sizeof times;
}

Interceptor::Interceptor(config::Capture capture, OwnMark mark, kernel::ConnectProgram program,
                         kernel::Cgroup root, kernel::Cgroup attached, telemetry::Journal& log)
    : capture_(std::move(capture)),
      mark_(mark),
      log_(log),
      program_(std::move(program)),
      root_(std::move(root)),
      attached_(std::move(attached)),
      own_cgroup_(kernel::cgroup_of(getpid(), root_.path).value_or("")),
      own_pid_namespace_(pid_namespace_of("self")),
      mail_(Fd::adopt(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))),
      report_timer_(new_timer()),
      look_timer_(new_timer()),
      wakes_(Fd::adopt(epoll_create1(EPOLL_CLOEXEC))) {
    expect(mail_ && report_timer_ && look_timer_ && wakes_, "an interceptor gets its descriptors");
    for (int fd : {mail_.get(), report_timer_.get(), look_timer_.get(), program_.events_fd()}) {
        epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
        epoll_ctl(wakes_.get(), EPOLL_CTL_ADD, fd, &event);
    }
}

Interceptor::~Interceptor() = default;

Result<> Interceptor::begin(Duration patience) {
    if (capture_.proxy) {
        on_owner(look_for_owner(*capture_.proxy, root_.path));
        // Without an end of it, the proxy would be sent what it dials itself.
        if (owner_.is_listening && owner_.pids.empty() && capture_.exempt_cgroups.empty())
            return fail(Error::of(
                format("it cannot be seen whose the proxy at {} is, so that what it dials itself "
                       "would come back to it",
                       capture_.proxy->text()),
                "start proxify anew, as root: a capture with `proxy` may be in the file then, also "
                "with `user`;\nor name the proxy's cgroup in exempt_cgroups"));
        watch_owner();
    }
    TRY(tell_kernel());
    follow_containers();
    if (follower_) {
        // One that the daemon tells of later is captured from then on.
        pollfd mail{.fd = mail_.get(), .events = POLLIN, .revents = 0};
        poll(&mail, 1, static_cast<int>(patience / 1ms));
        process();
    }
    return {};
}

void Interceptor::put(std::function<void(Inbox&)> change) {
    {
        std::lock_guard lock(lock_);
        change(inbox_);
    }
    eventfd_write(mail_.get(), 1);
}

void Interceptor::watch_owner() {
    scout_.emplace(*capture_.proxy, root_.path, owner_, [this](ProxyOwner owner) {
        put([&](Inbox& inbox) { inbox.owner = std::move(owner); });
    });
}

void Interceptor::follow_containers() {
    follower_.reset();
    auto names = containers_of(capture_);
    if (names.empty()) return;
    follower_.emplace(std::move(names), "", [this](std::vector<containers::News> all) {
        std::vector<Learnt> learnt;
        for (auto& news : all) {
            Home home;
            if (news.container && news.container->running && news.container->pid > 0) {
                // A cgroup that is ours or everybody's says nothing; nor does our PID namespace.
                const int pid = news.container->pid;
                const auto path = kernel::cgroup_of(pid, root_.path).value_or("");
                if (!path.empty() && path != root_.path && path != own_cgroup_)
                    if (auto cgroup = kernel::open_cgroup(path)) home.cgroup = cgroup->id;
                home.pid_namespace = pid_namespace_of(std::to_string(pid));
                if (home.pid_namespace == own_pid_namespace_) home.pid_namespace = 0;
            }
            learnt.push_back({.news = std::move(news), .home = home});
        }
        put([&](Inbox& inbox) {
            for (auto& one : learnt) inbox.containers.push_back(std::move(one));
        });
    });
}

Result<> Interceptor::start() {
    process();  // what was learnt since open()
    TRY(tell_kernel());
    auto started = program_.attach(attached_.folder.get());
    if (!started)
        return fail(std::move(started).error().within(
            format("cannot capture connections of the cgroup {}", attached_.path)));
    is_capturing_ = true;
    arm_timers();
    if (auto ids = program_.ids())
        log_.info("capture",
                  format("connect: programs proxify_connect4 id {}, proxify_connect6 id {}, links "
                         "id {} and {} at {}, maps connections id {}, original_dsts id {}, "
                         "connect_to id {}",
                         ids->connect4_program, ids->connect6_program, ids->connect4_link,
                         ids->connect6_link, attached_.path, ids->connections, ids->original_dsts,
                         ids->destinations));
    return {};
}

void Interceptor::stop() {
    if (!std::exchange(is_capturing_, false)) return;
    program_.detach();
    process();
    scout_.reset();
    follower_.reset();
    arm_timers();
    write_report();
}

// ---- change

bool Interceptor::can_become(const config::Capture& capture) const {
    // Another proxy has to be found before anything is sent to it.
    return capture.cgroup == capture_.cgroup && capture.only_watch == capture_.only_watch &&
           capture.proxy == capture_.proxy;
}

Result<> Interceptor::become(const config::Capture& capture, OwnMark mark) {
    expect(can_become(capture), "a capture that is too different gets an interceptor of its own");
    const auto before = std::exchange(capture_, capture);
    mark_ = mark;
    if (containers_of(capture) != containers_of(before)) {
        follower_.reset();
        {
            std::lock_guard lock(lock_);
            inbox_.containers.clear();
        }
        const auto wanted = containers_of(capture);
        auto is_unwanted = [&](const auto& entry) {
            return std::ranges::find(wanted, entry.first) == wanted.end();
        };
        std::erase_if(addresses_, is_unwanted);
        std::erase_if(homes_, is_unwanted);
        follow_containers();
    }
    if (!is_capturing_) return {};  // start() will tell
    TRY(tell_kernel());
    arm_timers();
    return {};
}

/// Brings the maps to what is known now. If only destinations change, or only sources, what is new
/// is added before what is old goes: what is meant all the time is captured all the time. If both
/// do, that would for a moment capture what new sources dial at old destinations, which nobody
/// asked for; so then the old ones go first.
///
/// What has been written is known at each step, so that the next call can go on from an error.
Result<> Interceptor::tell_kernel() {
    std::vector<uint64_t> exempt;
    std::map<std::string, uint64_t> before;
    std::swap(before, exempt_);
    for (const auto& path : capture_.exempt_cgroups) {
        auto cgroup = kernel::open_cgroup(path);
        exempt_[path] = cgroup ? cgroup->id : 0;
        if (cgroup)
            exempt.push_back(cgroup->id);
        else if (auto known = before.find(path); known == before.end() || known->second != 0)
            log_.warn("cgroup", format("exempt_cgroups: {}; it is exempt when it is there",
                                       cgroup.error().what));
    }
    TRY(program_.set_exempt_cgroups(exempt));
    TRY(exempt_processes());

    auto settings = settings_of(capture_, mark_);
    settings.proxy_netns = proxy_netns_;
    settings.proxy_uid = proxy_uid_;

    std::vector<kernel::ConnectSource> sources;
    for (const auto& container : capture_.from_containers)
        if (auto home = homes_.find(container.name); home != homes_.end()) {
            using Kind = kernel::ConnectSource::Kind;
            if (home->second.cgroup != 0)
                sources.push_back({.kind = Kind::cgroup, .id = home->second.cgroup});
            else if (home->second.pid_namespace != 0)
                sources.push_back({.kind = Kind::pid_namespace, .id = home->second.pid_namespace});
        }
    const std::set<kernel::ConnectSource> wanted(sources.begin(), sources.end());
    const std::vector have(destinations_.begin(), destinations_.end());
    const auto [add, remove] = changes(have, destinations_of(capture_, addresses_, numbers_));
    const bool is_elsewhere = !add.empty() || !remove.empty() ||
                              settings.all_v4 != settings_.all_v4 ||
                              settings.all_v6 != settings_.all_v6;
    const bool is_of_others = wanted != sources_ || settings.from_sources != settings_.from_sources;
    if (is_elsewhere && is_of_others) {
        TRY(remove_sources_but(wanted));
        TRY(remove_destinations(remove));
        TRY(tell_settings(settings));
        TRY(add_destinations(add));
        TRY(add_sources(wanted));
    } else {
        TRY(add_sources(wanted));
        TRY(add_destinations(add));
        TRY(tell_settings(settings));
        TRY(remove_sources_but(wanted));
        TRY(remove_destinations(remove));
    }

    names_.clear();
    for (const auto& [name, home] : homes_)
        if (home != Home{}) names_.emplace(home, name);
    return {};
}

Result<> Interceptor::tell_settings(const kernel::ConnectSettings& settings) {
    TRY(program_.set(settings));
    settings_ = settings;
    return {};
}

Result<> Interceptor::add_sources(const std::set<kernel::ConnectSource>& sources) {
    for (const auto& one : sources) {
        if (sources_.contains(one)) continue;
        TRY(program_.add_sources({&one, 1}));
        sources_.insert(one);
    }
    return {};
}

Result<> Interceptor::remove_sources_but(const std::set<kernel::ConnectSource>& kept) {
    for (auto one = sources_.begin(); one != sources_.end();) {
        if (kept.contains(*one)) {
            ++one;
            continue;
        }
        TRY(program_.remove_sources({&*one, 1}));
        one = sources_.erase(one);
    }
    return {};
}

Result<> Interceptor::add_destinations(const std::vector<kernel::ConnectDestination>& added) {
    for (const auto& one : added) {
        TRY(program_.add_destinations({&one, 1}));
        // The number is no part of the key: there is at most one entry of this place.
        const auto before = destinations_.lower_bound({one.prefix, one.port, 0});
        if (before != destinations_.end() && before->prefix == one.prefix &&
            before->port == one.port)
            destinations_.erase(before);
        destinations_.insert(one);
    }
    return {};
}

Result<> Interceptor::remove_destinations(const std::vector<kernel::ConnectDestination>& removed) {
    for (const auto& one : removed) {
        TRY(program_.remove_destinations({&one, 1}));
        destinations_.erase(one);
    }
    return {};
}

Result<> Interceptor::exempt_processes() {
    std::vector<int> pids{getpid()};
    pids.insert(pids.end(), owner_.pids.begin(), owner_.pids.end());
    for (auto [pid, number] : newcomers_) pids.push_back(pid);
    std::erase(pids, everybodys_ancestor);
    return program_.set_exempt_processes(pids);
}

// ---- what happens

void Interceptor::process() {
    // First who began to listen: an owner that was found before that does not know of it.
    program_.drain([this](const kernel::ConnectEvent& event) { on_event(event); });

    eventfd_t ignored;
    eventfd_read(mail_.get(), &ignored);
    Inbox inbox;
    {
        std::lock_guard lock(lock_);
        inbox = std::exchange(inbox_, {});
    }
    for (const auto& learnt : inbox.containers) on_container(learnt);
    if (inbox.owner) on_owner(std::move(*inbox.owner));
    if (!inbox.containers.empty() || inbox.owner)
        if (auto told = tell_kernel(); !told)
            log_.error("connect_failed", "connect: " + told.error().what);

    if (has_rung(look_timer_)) {
        has_looked_ = false;
        look_at_cgroups();
    }
    if (has_rung(report_timer_)) write_report();
}

void Interceptor::on_event(const kernel::ConnectEvent& event) {
    const auto& connection = event.connection;
    if (event.kind == kernel::ConnectEvent::Kind::listened) {
        if (!scout_) return;
        ++listened_;
        if (connection.pid > 0) newcomers_[connection.pid] = listened_;
        scout_->look_again(listened_, connection.pid);
        return;
    }
    auto line = line_of(connection, source_text(connection), cgroup_text(connection.cgroup),
                        numbers_.name(connection.number));
    log_.write(telemetry::Level::info, "connect", std::move(line.message), std::move(line.fields));
}

void Interceptor::on_container(const Learnt& learnt) {
    const auto& [news, home] = learnt;
    const bool runs = news.container && news.container->running;
    auto before =
        std::exchange(addresses_[news.name], runs ? news.container->addresses : std::vector<Ip>());
    if (runs)
        homes_[news.name] = home;
    else
        homes_.erase(news.name);
    if (news.error) {
        log_.warn("container", format("container {}: {}", news.name, news.error->what));
        return;
    }
    std::string where;
    for (const Ip& ip : addresses_[news.name]) where += (where.empty() ? " at " : ", ") + ip.text();
    log_.info("container", format("container {}: runs{}", news.name, where));

    auto is_named = [&](const std::vector<config::ContainerSpec>& list) {
        return std::ranges::find(list, news.name, &config::ContainerSpec::name) != list.end();
    };
    if (is_named(capture_.containers) && news.container->addresses.empty())
        log_.warn("container", containers::without_addresses(*news.container).what);
    if (is_named(capture_.from_containers) && home == Home{})
        log_.warn("container",
                  format("container {}: its processes cannot be told from others, for it shares "
                         "cgroup and PID namespace with the host; nothing of it is captured",
                         news.name));
}

void Interceptor::on_owner(ProxyOwner owner) {
    std::erase_if(newcomers_, [&](const auto& entry) { return entry.second <= owner.asked; });
    const auto before = std::exchange(owner_, std::move(owner));
    const auto proxy = capture_.proxy->text();
    if (!owner_.pids.empty()) {
        if (owner_.netns != 0) proxy_netns_ = owner_.netns;
        proxy_uid_ = owner_.uid;
    }
    if (!owner_.is_sure && owner_.pids.empty() && (before.is_sure || !before.pids.empty()))
        log_.warn("proxy",
                  format("it cannot be seen who listens at {}, for proxify may not look at "
                         "other users' processes: until root or the proxy's user begins to "
                         "listen there, nobody is left alone",
                         proxy));
    else if (!owner_.is_sure && before.is_sure && before.pids == owner_.pids)
        log_.info("proxy", format("proxify may not look at other users' processes any more: the "
                                  "proxy at {} stays {} until it ends",
                                  proxy, owner_.name));
    if (owner_.is_sure && owner_.pids.empty() && (!before.pids.empty() || !is_capturing_))
        log_.warn("proxy", format("nobody on this host listens at {}: if the proxy is not on "
                                  "another one, clients will be refused",
                                  proxy));
    if (!owner_.pids.empty() && owner_.pids != before.pids)
        log_.info("proxy",
                  format("the proxy at {} is {}; what it dials is left alone", proxy, owner_.name));
    if (owner_.pids == std::set{everybodys_ancestor} && before.pids != owner_.pids)
        log_.warn("proxy", format("process 1 listens at {}: as all processes descend from it, what "
                                  "it dials is not left alone; name cgroups in exempt_cgroups",
                                  proxy));
    // Where it lives, it may ask for original destinations.
    const bool is_below =
        owner_.cgroup == attached_.path || owner_.cgroup.starts_with(attached_.path + "/");
    const auto& where = owner_.cgroup.empty() || is_below ? attached_.path : owner_.cgroup;
    if (where == answering_in_) return;
    auto cgroup = kernel::open_cgroup(where);
    auto done = cgroup ? program_.answer_in(cgroup->folder.get())
                       : Result<>(std::unexpected(std::move(cgroup).error()));
    if (done)
        answering_in_ = where;
    else
        log_.warn("proxy", "SO_ORIGINAL_DST is not answered: " + done.error().what);
}

/// A service that is started again gets a cgroup of the same name, and it is another one.
void Interceptor::look_at_cgroups() {
    auto id_of = [](const std::string& path) {
        auto cgroup = kernel::open_cgroup(path);
        return cgroup ? cgroup->id : 0;
    };
    const bool is_other = std::ranges::any_of(
        exempt_, [&](const auto& entry) { return id_of(entry.first) != entry.second; });
    if (is_other)
        if (auto told = tell_kernel(); !told)
            log_.error("connect_failed", "connect: " + told.error().what);

    auto now = kernel::open_cgroup(attached_.path);
    if (!now || now->id == attached_.id) return;
    program_.detach();
    answering_in_.clear();
    if (auto again = program_.attach(now->folder.get()); !again) {
        // Tried again at the next look, and said once.
        if (std::exchange(failed_in_, now->id) != now->id)
            log_.error("connect_failed", "connect: " + again.error().what);
        return;
    }
    attached_ = std::move(*now);
    if (capture_.proxy) on_owner(owner_);
    log_.info("cgroup", format("the cgroup {} was made anew, and is captured", attached_.path));
}

// ---- what is said

/// "/user.slice"; empty for one that is gone, and "unknown" for one that is not
/// found where the kernel may not be asked.
std::string Interceptor::cgroup_text(uint64_t id) {
    if (auto known = cgroup_texts_.find(id); known != cgroup_texts_.end()) return known->second;
    constexpr size_t texts_max = 4096;
    if (cgroup_texts_.size() >= texts_max) cgroup_texts_.clear();
    auto below_root = [&](std::string path) {
        if (path.starts_with(root_.path)) path.erase(0, root_.path.size());
        return path.empty() ? "/" : path;
    };
    if (auto path = kernel::cgroup_path(id, root_.folder.get())) {
        // One that is gone has no path, and its id is never another's.
        return cgroup_texts_[id] = path->empty() && id != root_.id ? "" : below_root(*path);
    }
    // Whoever may not ask looks at all of them, now and then.
    if (!std::exchange(has_looked_, true))
        for (auto& [one, path] : kernel::all_cgroups(root_.path))
            cgroup_texts_[one] = below_root(path);
    auto found = cgroup_texts_.find(id);
    return found == cgroup_texts_.end() ? "unknown" : found->second;
}

std::string Interceptor::source_text(const kernel::FollowedConnection& connection) {
    auto own = own_cgroup_;
    if (own.starts_with(root_.path)) own.erase(0, root_.path.size());
    return whose({.cgroup = connection.cgroup, .pid_namespace = connection.pid_namespace},
                 cgroup_text(connection.cgroup), own.empty() ? "/" : own, own_pid_namespace_,
                 names_);
}

Result<Report> Interceptor::report() {
    Report report;
    TRY_TO(counters, program_.counters());
    TRY_TO(open, program_.connections());
    TRY_TO(by_container, counts_by_container());
    report.by_container = std::move(by_container);
    for (const auto& counter : counters) {
        if (counter.name == "redirected")
            report.redirected = counter.value;
        else if (counter.name == "seen")
            report.seen = counter.value;
        else if (counter.name.starts_with("passed_"))
            report.left_alone += counter.value;
    }
    report.counters = std::move(counters);
    report.open = open.size();
    for (const auto& one : open) {
        ++report.by_state[state_text(one.state)];
        auto cgroup = cgroup_text(one.cgroup);
        ++report.by_cgroup[cgroup.empty() ? "a cgroup that is gone" : cgroup];
        ++report.by_netns[one.netns == program_.netns() ? "proxify's" : format("{}", one.netns)];
        ++report.by_source[source_text(one)];
    }
    return report;
}

Result<std::map<std::string, uint64_t>> Interceptor::counts_by_container() const {
    TRY_TO(numbers, program_.counts_by_number());
    std::map<std::string, uint64_t> counts;
    for (uint32_t i = 1; i <= numbers_.last(); ++i) counts[numbers_.name(i)] = numbers[i];
    return counts;
}

void Interceptor::write_report() {
    auto now = report();
    if (!now) return log_.warn("report", "no report: " + now.error().what);
    for (auto& line : lines_of(*now))
        log_.write(telemetry::Level::info, "report", std::move(line.message),
                   std::move(line.fields));
}

void Interceptor::arm_timers() {
    set_timer(report_timer_, is_capturing_ ? capture_.report_every : Duration{});
    const bool looks_at_cgroups = !capture_.cgroup.empty() || !capture_.exempt_cgroups.empty() ||
                                  capture_.events || capture_.report_every > Duration{};
    set_timer(look_timer_, is_capturing_ && looks_at_cgroups ? Duration(500ms) : Duration{});
}

}  // namespace proxify::intercept
