// SPDX-License-Identifier: Apache-2.0
// Waiting in tests: for a condition, never for a while. Limits are generous, because they are only
// ever reached by a test that fails.
#pragma once

#include <chrono>
#include <thread>

namespace proxify::test {

using namespace std::chrono_literals;
using Millis = std::chrono::milliseconds;
using Moment = std::chrono::steady_clock::time_point;

inline Moment now() {
    return std::chrono::steady_clock::now();
}

/// For poll() and friends: what is left until `deadline`, rounded up, never negative.
inline int millis_until(Moment deadline) {
    auto left = std::chrono::ceil<Millis>(deadline - now()).count();
    return left < 0 ? 0 : static_cast<int>(left);
}

/// True as soon as `holds()` is; false when it never was within `limit`.
template <class Condition>
bool eventually(Condition holds, Millis limit = 10s) {
    for (Moment deadline = now() + limit; !holds(); std::this_thread::sleep_for(2ms))
        if (now() > deadline) return static_cast<bool>(holds());
    return true;
}

/// Sanitizers make everything slower and larger; bounds on memory and speed ask here by how much.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace proxify::test
