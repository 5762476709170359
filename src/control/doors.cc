// SPDX-License-Identifier: Apache-2.0
#include "control/doors.h"

#include <algorithm>

namespace proxify::control {

Doors::Doors(io::Loop& loop, telemetry::Journal& log) : loop_(loop), log_(log) {}

Doors::~Doors() = default;

static bool has_type(const config::Config& config, config::CaptureType type) {
    return std::ranges::find(config.captures, type, &config::Capture::type) !=
           config.captures.end();
}

Result<> Doors::open(const config::Config& config, const ListenerOn&) {
    return check_change(config);
}

Result<> Doors::check_change(const config::Config& config) const {
    if (has_type(config, config::CaptureType::connect) ||
        has_type(config, config::CaptureType::ingress))
        return fail(Error::of("captures of types connect and ingress are not available yet"));
    return {};
}

Result<> Doors::apply(const config::Config&, const ListenerOn&) {
    return {};
}

void Doors::close() {}

std::optional<Address> Doors::take(const Address&, const Address&) {
    return std::nullopt;
}

}  // namespace proxify::control
