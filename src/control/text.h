// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>

#include "base/count_text.h"
#include "base/format.h"
#include "base/result.h"

namespace proxify::control {

/// An Error on one line, for the log.
inline std::string one_line(const Error& error) {
    std::string line = error.what;
    for (const auto& cause : error.causes) line += "; " + cause;
    if (!error.hint.empty()) line += " (hint: " + error.hint + ")";
    std::ranges::replace(line, '\n', ' ');
    return line;
}

}  // namespace proxify::control
