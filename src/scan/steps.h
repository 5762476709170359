// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace proxify::scan {

/// How many characters and classes an expression comes to when its counted repeats are written out:
/// 6 for "(ab){1,3}". No less, but for what is not an expression; it may be more.
uint64_t steps_of(std::string_view expression);

}  // namespace proxify::scan
