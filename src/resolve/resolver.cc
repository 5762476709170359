// SPDX-License-Identifier: Apache-2.0
#include "resolve/resolver.h"

#include <netdb.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace proxify::resolve {

namespace {

struct Answer {
    std::vector<Ip> addresses;
    std::string error;
};

Answer ask(const std::string& name) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    if (int error = getaddrinfo(name.c_str(), nullptr, &hints, &list); error != 0)
        return {.addresses = {}, .error = gai_strerror(error)};
    Answer answer;
    for (auto* item = list; item; item = item->ai_next) {
        if (item->ai_family != AF_INET && item->ai_family != AF_INET6) continue;
        sockaddr_storage address{};
        std::memcpy(&address, item->ai_addr, item->ai_addrlen);
        answer.addresses.push_back(Address::from_sockaddr(address).ip);
    }
    freeaddrinfo(list);
    // Servers rotate their answers; an order of our own keeps a rotation from looking like news.
    std::ranges::sort(answer.addresses);
    auto [first, last] = std::ranges::unique(answer.addresses);
    answer.addresses.erase(first, last);
    return answer;
}

}  // namespace

struct Resolver::State {
    struct Known {
        std::vector<Ip> addresses;
        std::string error;
        bool asked = false;
    };
    OnOutcome on_outcome;
    mutable std::mutex lock;
    std::condition_variable changed;
    std::map<std::string, Known> names;
    Duration interval = 30s;
    bool has_news = false;  ///< the names or the interval are others
    bool closing = false;
};

static void resolve_forever(std::shared_ptr<Resolver::State> state);

Resolver::Resolver(OnOutcome on_outcome) : state_(std::make_shared<State>()) {
    state_->on_outcome = std::move(on_outcome);
    std::thread(resolve_forever, state_).detach();
}

Resolver::~Resolver() {
    std::lock_guard lock(state_->lock);
    state_->closing = true;
    state_->on_outcome = nullptr;
    state_->changed.notify_all();
}

void Resolver::follow(std::vector<std::string> names, Duration interval) {
    std::lock_guard lock(state_->lock);
    std::map<std::string, State::Known> followed;
    for (auto& name : names) {
        auto known = state_->names.find(name);
        followed[name] = known == state_->names.end() ? State::Known{} : known->second;
    }
    state_->names = std::move(followed);
    state_->interval = interval;
    state_->has_news = true;
    state_->changed.notify_all();
}

std::vector<Ip> Resolver::lookup(const std::string& name) const {
    std::lock_guard lock(state_->lock);
    auto known = state_->names.find(name);
    return known == state_->names.end() ? std::vector<Ip>{} : known->second.addresses;
}

void Resolver::wait_for_first_answers(Duration at_most) {
    std::unique_lock lock(state_->lock);
    state_->changed.wait_for(lock, at_most, [this] {
        return std::ranges::all_of(state_->names,
                                   [](const auto& name) { return name.second.asked; });
    });
}

static void resolve_forever(std::shared_ptr<Resolver::State> state) {
    std::unique_lock lock(state->lock);
    while (!state->closing) {
        // Names never asked for go first, alone; all of them when the interval is over.
        bool only_new = std::exchange(state->has_news, false);
        std::vector<std::string> names;
        for (const auto& [name, known] : state->names)
            if (!only_new || !known.asked) names.push_back(name);

        for (const auto& name : names) {
            lock.unlock();
            Answer answer = ask(name);
            lock.lock();
            auto known = state->names.find(name);
            if (known == state->names.end()) continue;
            bool failed = !answer.error.empty();
            bool changed = !known->second.asked || answer.error != known->second.error ||
                           (!failed && answer.addresses != known->second.addresses);
            if (!failed) known->second.addresses = answer.addresses;
            known->second.error = answer.error;
            known->second.asked = true;
            state->changed.notify_all();
            // Under the lock, so that nobody is called once the Resolver is gone.
            if (state->on_outcome)
                state->on_outcome({name, known->second.addresses, answer.error, changed});
        }
        state->changed.wait_for(lock, state->interval,
                                [&] { return state->has_news || state->closing; });
    }
}

}  // namespace proxify::resolve
