// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include "base/format.h"

namespace proxify {

std::string to_text(Duration duration) {
    if (duration == Duration::zero()) return "0s";
    std::string out = duration < Duration::zero() ? "-" : "";
    auto rest = duration < Duration::zero() ? -duration : duration;
    struct Unit {
        Duration size;
        const char* name;
    };
    for (auto [size, name] : {Unit{1h, "h"}, Unit{1min, "m"}, Unit{1s, "s"}, Unit{1ms, "ms"},
                              Unit{1us, "us"}, Unit{1ns, "ns"}}) {
        if (auto count = rest / size; count > 0) {
            out += format("{}{}", count, name);
            rest %= size;
        }
    }
    return out;
}

}  // namespace proxify
