// SPDX-License-Identifier: Apache-2.0
#include "control/doors.h"

#include <algorithm>

namespace proxify::control {

using namespace std::chrono_literals;

Doors::Doors(io::Loop& loop, telemetry::Journal& log) : loop_(loop), log_(log) {}

Doors::~Doors() = default;

static bool has_type(const config::Config& config, config::CaptureType type) {
    return std::ranges::find(config.captures, type, &config::Capture::type) !=
           config.captures.end();
}

Result<> Doors::open(const config::Config& config, const ListenerOn&) {
    TRY(check_change(config));
    return open_ingress(config);
}

Result<> Doors::check_change(const config::Config& config) const {
    if (has_type(config, config::CaptureType::connect))
        return fail(Error::of("captures of type connect are not available yet"));
    TRY(ingress::check(config));
    return {};
}

Result<> Doors::apply(const config::Config& config, const ListenerOn& listener_on) {
    TRY(open_ingress(config));
    if (ingress_) TRY(ingress_->apply(config, listener_on));
    return {};
}

void Doors::close() {
    if (interfaces_changed_) interfaces_changed_->cancel();
    ingress_.reset();
}

// ---- interfaces

/// Once there is a capture; it stays when there is none any more, for what was captured goes on.
Result<> Doors::open_ingress(const config::Config& config) {
    if (ingress_ || !has_type(config, config::CaptureType::ingress)) return {};
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

std::optional<Address> Doors::take(const Address&, const Address&) {
    return std::nullopt;
}

}  // namespace proxify::control
