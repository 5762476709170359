// SPDX-License-Identifier: Apache-2.0
#include "control/doors.h"

#include <algorithm>

namespace proxify::control {

Doors::Doors(io::Loop& loop, telemetry::Journal& log) : loop_(loop), log_(log) {}

Doors::~Doors() = default;

static const config::Capture* capture_of(const config::Config& config, config::CaptureType type) {
    auto found = std::ranges::find(config.captures, type, &config::Capture::type);
    return found == config.captures.end() ? nullptr : &*found;
}

Result<> Doors::open(const config::Config& config, const ListenerOn&) {
    TRY(check_change(config));
    return open_connect(config, /*patience=*/2s);
}

Result<> Doors::check_change(const config::Config& config) const {
    if (capture_of(config, config::CaptureType::ingress))
        return fail(Error::of("captures of type ingress are not available yet"));
    if (const auto* capture = capture_of(config, config::CaptureType::connect))
        TRY(intercept::Interceptor::check(*capture));
    return {};
}

Result<> Doors::apply(const config::Config& config, const ListenerOn&) {
    return apply_connect(config);
}

void Doors::close() {
    close_connect();
}

std::optional<Address> Doors::take(const Address& client, const Address& local) {
    std::vector<std::shared_ptr<intercept::Interceptor>> all;
    {
        std::lock_guard lock(interceptors_lock_);
        all = interceptors_;
    }
    for (const auto& one : all)
        if (auto original = one->take_original_dst(client, local)) return original;
    return std::nullopt;
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

Result<> Doors::open_connect(const config::Config& config, Duration patience) {
    const auto* capture = capture_of(config, config::CaptureType::connect);
    if (!capture) return {};
    TRY_TO(opened, intercept::Interceptor::open(*capture, mark_of(config), patience, log_));
    connect_ = std::make_shared<Connect>(loop_, std::move(opened));
    // The one before may have captured a connection that waits in our queue, but none before it.
    std::lock_guard lock(interceptors_lock_);
    if (interceptors_.size() > 1) interceptors_.pop_back();
    interceptors_.insert(interceptors_.begin(), connect_->interceptor);
    return {};
}

Result<> Doors::apply_connect(const config::Config& config) {
    const auto* capture = capture_of(config, config::CaptureType::connect);
    if (!capture) {
        close_connect();
        return {};
    }
    const bool is_new = !connect_ || !connect_->interceptor->can_become(*capture);
    if (is_new) {
        close_connect();
        TRY(open_connect(config, /*patience=*/200ms));
    }
    auto& interceptor = *connect_->interceptor;
    if (interceptor.is_capturing()) return interceptor.become(*capture, mark_of(config));
    TRY(interceptor.start());
    loop_.spawn(watch(connect_));
    return {};
}

void Doors::close_connect() {
    if (!connect_) return;
    connect_->interceptor->stop();
    connect_->readable.cancel();
    connect_.reset();
}

}  // namespace proxify::control
