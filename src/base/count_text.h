// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/format.h"

namespace proxify {

/// "1 port", "5 ports"; "2 prefixes" with "es" for `plural`.
inline std::string count_text(uint64_t count, std::string_view noun,
                              std::string_view plural = "s") {
    return format("{} {}{}", count, noun, count == 1 ? "" : plural);
}

}  // namespace proxify
