// SPDX-License-Identifier: Apache-2.0
// Text formatting for every room. std::format is missing from libstdc++ 12, so this is fmt, and
// the only file that says so: when the compiler's own arrives, this file becomes one using-line.
#pragma once

#include <fmt/format.h>

namespace proxify {

using fmt::format;
using fmt::format_to;

}  // namespace proxify
