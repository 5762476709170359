// SPDX-License-Identifier: Apache-2.0
#include "control/doors.h"

#include <algorithm>

namespace proxify::control {

using namespace std::chrono_literals;

Doors::Doors(io::Loop& loop, telemetry::Journal& log) : loop_(loop), log_(log) {}

Doors::~Doors() = default;

static const config::Capture* capture_of(const config::Config& config, config::CaptureType type) {
    auto found = std::ranges::find(config.captures, type, &config::Capture::type);
    return found == config.captures.end() ? nullptr : &*found;
}

Result<> Doors::check(const config::Config& config) const {
    TRY(ingress::check(config));
    if (const auto* capture = capture_of(config, config::CaptureType::connect))
        TRY(intercept::Interceptor::check(*capture));
    return {};
}

Result<> Doors::apply(const config::Config& config, const ListenerOn& listener_on,
                      Duration patience) {
    // One that fails keeps nobody from the other.
    auto connect = apply_connect(config, patience);
    TRY(open_ingress(config));
    if (ingress_) TRY(ingress_->apply(config, listener_on));
    return connect;
}

void Doors::close() {
    close_connect();
    if (interfaces_changed_) interfaces_changed_->cancel();
    ingress_.reset();
}

std::optional<Address> Doors::take(const Address& client, const Address& local) {
    const auto all = interceptors_.load();
    if (!all) return std::nullopt;
    for (const auto& one : *all)
        if (auto original = one->take_original_dst(client, local)) return original;
    return std::nullopt;
}

std::vector<Doors::Counts> Doors::counts() const {
    std::vector<Counts> all;
    if (connect_) {
        const auto& one = *connect_->interceptor;
        if (auto answers = one.counters())
            all.push_back({"connect", std::move(*answers),
                           one.counts_by_container().value_or(std::map<std::string, uint64_t>())});
    }
    if (ingress_)
        if (auto answers = ingress_->counters()) all.push_back({"ingress", std::move(*answers)});
    return all;
}

// ---- connect

Doors::Connect::Connect(io::Loop& loop, std::shared_ptr<intercept::Interceptor> owned)
    : interceptor(std::move(owned)), readable(loop, static_cast<io::Handle>(interceptor->fd())) {}

io::Task<> Doors::watch(std::shared_ptr<Connect> connect) {
    while (co_await connect->readable) connect->interceptor->process();
}

static intercept::OwnMark mark_of(const config::Config& config) {
    return {.value = config.mark, .mask = config.mark_mask};
}

/// One that takes the place of another is at work before that one ends; if it cannot be, the other
/// goes on.
Result<> Doors::apply_connect(const config::Config& config, Duration patience) {
    const auto* capture = capture_of(config, config::CaptureType::connect);
    if (!capture) {
        close_connect();
        return {};
    }
    if (connect_ && connect_->interceptor->can_become(*capture))
        return connect_->interceptor->become(*capture, mark_of(config));

    TRY_TO(opened, intercept::Interceptor::open(*capture, mark_of(config), patience, log_));
    TRY(opened->start());
    close_connect();
    connect_ = std::make_shared<Connect>(loop_, std::move(opened));
    // The one before may have captured a connection that waits in our queue, but none before it.
    auto all = std::make_shared<Interceptors>(1, connect_->interceptor);
    if (const auto known = interceptors_.load()) all->push_back(known->front());
    interceptors_.store(std::move(all));
    // Not at once: a start that fails from here on has no loop that ends tasks.
    loop_.post([this, connect = connect_] { loop_.spawn(watch(connect)); });
    return {};
}

void Doors::close_connect() {
    if (!connect_) return;
    connect_->interceptor->stop();
    connect_->readable.cancel();
    connect_.reset();
}

// ---- interfaces

/// Once there is a capture; it stays when there is none any more, for what was captured goes on.
Result<> Doors::open_ingress(const config::Config& config) {
    if (ingress_ || !capture_of(config, config::CaptureType::ingress)) return {};
    TRY_TO(opened, ingress::Ingress::open(config, log_));
    ingress_ = std::move(opened);
    interfaces_changed_.emplace(loop_, static_cast<io::Handle>(ingress_->news_fd()));
    // A start that fails from here on has no loop that ends tasks.
    loop_.post([this] {
        if (ingress_) loop_.spawn(follow_interfaces());
    });
    return {};
}

io::Task<> Doors::follow_interfaces() {
    while (co_await *interfaces_changed_) {
        ingress_->follow();
        // Many changes at once are looked at together.
        co_await loop_.sleep(20ms);
        if (!ingress_) co_return;
    }
}

}  // namespace proxify::control
