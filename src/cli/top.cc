// SPDX-License-Identifier: Apache-2.0
// The screen and the keys are this thread's; what is asked of proxify is asked by another one, so
// that keys work while proxify takes its time.
#include "cli/top.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <optional>
#include <ostream>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "base/fd.h"
#include "base/format.h"
#include "cli/ask.h"
#include "cli/top_model.h"
#include "screen/screen.h"

namespace proxify::cli {

namespace {

/// Who looks at a screen sees at once that an answer is late, and an answer to an order may be.
constexpr Duration patience_of_eyes = 3s, patience_of_orders = 10s;

Time now() {
    return std::chrono::steady_clock::now();
}

double wall_clock() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

template <class T>
Result<T> look(const std::string& socket, const http::Request& request) {
    TRY_TO(body, answer_to(socket, request, patience_of_eyes));
    return report::from_json<T>(body);
}

Result<Answer> find_out(const std::string& socket, const Question& question) {
    Answer out{.question = question};
    TRY_TO(status, look<report::Status>(socket, {.path = "/v1/status"}));
    out.status = std::move(status);
    const auto request = request_for(question);
    switch (question.page) {
        case Page::services: {
            TRY_TO(services, look<report::Services>(socket, request));
            out.services = std::move(services);
            break;
        }
        case Page::targets: {
            TRY_TO(targets, look<report::Targets>(socket, request));
            out.targets = std::move(targets);
            break;
        }
        case Page::sessions: {
            TRY_TO(sessions, look<report::Sessions>(socket, request));
            out.sessions = std::move(sessions);
            break;
        }
    }
    out.at = now();
    out.wall = wall_clock();
    return out;
}

Result<report::Done> carry_out(const std::string& socket, const Order& order) {
    TRY_TO(body, answer_to(socket, request_for(order), patience_of_orders));
    return report::from_json<report::Done>(body);
}

/// A thread that asks, one thing after the other, and what came of it.
class Asker {
  public:
    using Task = std::variant<Question, Order>;
    using Outcome = std::variant<Result<Answer>, Result<report::Done>>;

    explicit Asker(std::string socket)
        : socket_(std::move(socket)),
          bell_(Fd::adopt(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))),
          thread_([this](const std::stop_token& stop) { work(stop); }) {}

    void ask(Task task) {
        std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
        wake_.notify_one();
    }
    /// Everything that was asked has come back.
    bool is_idle() {
        std::lock_guard lock(mutex_);
        return tasks_.empty() && outcomes_.empty() && !is_busy_;
    }
    /// Can be read once there are outcomes.
    int bell() const { return bell_.get(); }
    std::vector<Outcome> outcomes() {
        uint64_t rings = 0;
        if (read(bell_.get(), &rings, sizeof rings) < 0) return {};
        std::lock_guard lock(mutex_);
        return std::exchange(outcomes_, {});
    }

  private:
    Outcome outcome_of(const Task& task) const {
        if (auto* order = std::get_if<Order>(&task)) return carry_out(socket_, *order);
        return find_out(socket_, std::get<Question>(task));
    }
    void work(const std::stop_token& stop) {
        for (;;) {
            std::unique_lock lock(mutex_);
            if (!wake_.wait(lock, stop, [this] { return !tasks_.empty(); })) return;
            Task task = std::move(tasks_.front());
            tasks_.erase(tasks_.begin());
            is_busy_ = true;
            lock.unlock();
            Outcome outcome = outcome_of(task);
            lock.lock();
            is_busy_ = false;
            outcomes_.push_back(std::move(outcome));
            const uint64_t one = 1;
            if (write(bell_.get(), &one, sizeof one) < 0) return;
        }
    }

    const std::string socket_;
    Fd bell_;
    std::mutex mutex_;
    std::condition_variable_any wake_;
    std::vector<Task> tasks_;
    std::vector<Outcome> outcomes_;
    bool is_busy_ = false;
    std::jthread thread_;  ///< last: it uses the others, and is joined before they go
};

/// Gives the signal that ended it, or 0.
Result<int> watch(const std::string& socket, Duration interval) {
    TopModel model(interval);
    // A proxify that is not there at all is said at once, and in full.
    TRY_TO(first, find_out(socket, *model.next_question(now())));
    model.take(first);

    screen::hold_signals();
    Asker asker(socket);
    TRY_TO(terminal, screen::Screen::open());
    while (!model.is_over()) {
        if (asker.is_idle())
            if (auto question = model.next_question(now())) asker.ask(*std::move(question));
        terminal.draw(model.draw(terminal.columns(), terminal.rows(), now()));

        // While an answer is awaited there is no next question; the bell ends the wait.
        const auto event = terminal.wait(asker.is_idle() ? model.pause(now()) : 1s, asker.bell());
        if (event.is_over) return event.signal;
        for (const auto& key : event.keys)
            if (auto order = model.handle(key)) asker.ask(*std::move(order));
        for (auto& outcome : asker.outcomes()) {
            if (auto* done = std::get_if<Result<report::Done>>(&outcome)) {
                model.take_outcome(*done);
                continue;
            }
            auto& answer = std::get<Result<Answer>>(outcome);
            if (answer)
                model.take(*answer);
            else
                model.take_failure(answer.error(), now());
        }
    }
    return 0;
}

int complain(const Error& error, std::ostream& err) {
    err << error.text() << '\n';
    return exit_failed;
}

}  // namespace

int run_top(const Options& options, std::ostream& err) {
    if (!screen::is_terminal())
        return complain(
            Error::of("proxify top needs a terminal to draw on, and one to read keys from",
                      "`proxify services --watch` shows the same as lines"),
            err);
    auto socket = socket_of(options);
    if (!socket) return complain(socket.error(), err);
    Result<int> ended = 0;
    try {
        ended = watch(*socket, options.watch.value_or(1s));
    } catch (const std::exception& error) {
        // The terminal has been given back on the way here.
        return complain(Error::of(format("proxify top stopped: {}", error.what())), err);
    }
    if (!ended) return complain(ended.error(), err);
    if (*ended == 0) return exit_done;
    // Whoever started this is to see what ended it.
    std::signal(*ended, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, *ended);
    raise(*ended);
    sigprocmask(SIG_UNBLOCK, &set, nullptr);
    return exit_failed;
}

}  // namespace proxify::cli
