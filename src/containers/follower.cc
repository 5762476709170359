// SPDX-License-Identifier: Apache-2.0
// The events only say when to ask. What is so is always an answer to a question, asked after the
// stream of events is open, so that nothing falls between the two. An event may be lost all the
// same, or told a moment before what it tells of: so one question follows a second after it, and
// everything is asked again every half minute.
#include "containers/follower.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/clock.h"
#include "base/expect.h"
#include "base/thread.h"
#include "containers/daemon.h"
#include "containers/docker.h"
#include "http/client.h"

namespace proxify::containers {

namespace {

constexpr Duration patience = 10s;
constexpr Duration asked_again_after = 30s;
constexpr Duration asked_again_after_event = 1s;
/// A container that starts and dies in a circle is asked for ten times a second, not more.
constexpr Duration between_questions = 100ms;
constexpr Duration pause_min = 100ms;
constexpr Duration pause_max = 2s;
constexpr size_t line_size_max = size_t{1} << 20;

Time now() {
    return std::chrono::steady_clock::now();
}

struct Followed {
    Memory memory;
    Time asked = {};
    Time due = {};
    bool had_event = false;
};

/// All that the thread knows.
class Watch {
  public:
    Watch(const std::vector<std::string>& names, std::string host, Follower::OnNews on_news,
          int ending)
        : host_(std::move(host)), on_news_(std::move(on_news)), ending_(ending) {
        for (const auto& name : names) followed_.push_back({.memory = Memory(name)});
    }

    /// Until it shall end.
    void run();

  private:
    void follow();
    bool ask_due(const std::string& socket_path);
    bool hear(http::Call& events);
    void note(const Event& event);
    void record(std::optional<News> news);
    void record_for_all(const Error& error, const std::string& socket_path = {});
    void tell();
    /// False when it shall end.
    bool wait(Duration at_most, int events, bool* has_events = nullptr) const;

    std::string host_;
    Follower::OnNews on_news_;
    int ending_;
    std::vector<Followed> followed_;
    std::vector<News> untold_;
    std::string heard_;  ///< of the events, what is no whole line yet
};

void Watch::run() {
    Duration pause = pause_min;
    do {
        const Time begun = now();
        follow();
        pause = now() - begun > pause_max ? pause_min : std::min(2 * pause, pause_max);
    } while (wait(pause, -1));
}

/// For as long as the daemon is there.
void Watch::follow() {
    const auto socket_path = socket_of(host_);
    if (!socket_path) return record_for_all(socket_path.error());

    // From a second ago, because a daemon may answer a moment before it listens to its own events.
    const auto since = std::chrono::floor<std::chrono::seconds>(
        std::chrono::system_clock::now().time_since_epoch() - 1s);
    auto events = http::Call::open(*socket_path, ask_for_events(since.count()));
    if (!events) return record_for_all(cannot_ask(*socket_path, events.error().what), *socket_path);
    heard_.clear();
    // podman's header comes with the first event, so nobody waits for it.
    for (auto& followed : followed_) followed.due = now();

    for (bool is_open = true;;) {
        if (!ask_due(*socket_path)) return;
        Time due = now() + asked_again_after;
        for (const auto& followed : followed_) due = std::min(due, followed.due);
        bool has_events = false;
        if (!wait(due - now(), is_open ? events->fd() : -1, &has_events)) return;
        if (!has_events) continue;
        if (!hear(*events)) return;
        // Whoever has no events to tell is asked every half minute, and not for events again.
        if (events->is_complete() && events->status() == 200) return;
        is_open = !events->is_complete();
    }
}

/// False when nobody answers.
bool Watch::ask_due(const std::string& socket_path) {
    for (auto& followed : followed_) {
        if (followed.due > now()) continue;
        const auto& name = followed.memory.name();
        const auto request = ask_for(name);
        if (!request) {
            record(followed.memory.note(fail(request.error())));
        } else {
            const auto answer = ask(socket_path, *request, patience, ending_);
            if (!answer) {
                record_for_all(answer.error(), socket_path);
                return false;
            }
            record(followed.memory.note(read_container(name, *answer)));
        }
        followed.asked = now();
        followed.due =
            followed.asked + (std::exchange(followed.had_event, false) ? asked_again_after_event
                                                                       : asked_again_after);
    }
    tell();
    return true;
}

/// False when that was the end of it.
bool Watch::hear(http::Call& events) {
    if (!events.read()) return false;
    heard_ += std::exchange(events.body(), {});
    if (events.status() != 200) {
        heard_.clear();
        return true;
    }
    size_t begin = 0;
    for (size_t end; (end = heard_.find('\n', begin)) != heard_.npos; begin = end + 1)
        if (const auto event = read_event(std::string_view(heard_).substr(begin, end - begin)))
            note(*event);
    heard_.erase(0, begin);
    return heard_.size() <= line_size_max;
}

void Watch::note(const Event& event) {
    for (auto& followed : followed_) {
        if (!concerns(event, followed.memory.name(), followed.memory.known())) continue;
        followed.due = std::min(followed.due, std::max(now(), followed.asked + between_questions));
        followed.had_event = true;
    }
}

void Watch::record(std::optional<News> news) {
    if (news) untold_.push_back(*std::move(news));
}

void Watch::record_for_all(const Error& error, const std::string& socket_path) {
    pollfd ending{ending_, POLLIN, 0};
    if (poll(&ending, 1, 0) > 0) return;  // that is why nobody answered
    // A process that becomes another user may lose the right to ask.
    const bool is_refusal = !socket_path.empty() && is_forbidden(socket_path);
    for (auto& followed : followed_)
        record(is_refusal ? followed.memory.note_refusal(may_not_ask(socket_path), now())
                          : followed.memory.note(fail(error)));
    tell();
}

void Watch::tell() {
    if (!untold_.empty()) on_news_(std::exchange(untold_, {}));
}

bool Watch::wait(Duration at_most, int events, bool* has_events) const {
    pollfd sockets[] = {{ending_, POLLIN, 0}, {events, POLLIN, 0}};
    poll(sockets, std::size(sockets), milliseconds(at_most));
    if (has_events) *has_events = sockets[1].revents != 0;
    return sockets[0].revents == 0;
}

}  // namespace

Follower::Follower(std::vector<std::string> names, std::string host, OnNews on_news)
    : ending_(Fd::adopt(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))) {
    expect(static_cast<bool>(ending_), "the follower of containers gets an eventfd");
    thread_ = start_thread("containers", [watch = Watch(names, std::move(host), std::move(on_news),
                                                        ending_.get())]() mutable { watch.run(); });
}

Follower::~Follower() {
    eventfd_write(ending_.get(), 1);
    thread_.join();
}

}  // namespace proxify::containers
