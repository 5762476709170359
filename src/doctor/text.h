// SPDX-License-Identifier: Apache-2.0
// Findings for eyes: aligned, wrapped, the worst at the end, where a person looks first.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "doctor/finding.h"

namespace proxify::doctor {

struct Look {
    size_t columns = 80;
    bool colours = false;
};

/// With a last line that sums up. A command in backticks is never broken, so that it can be copied.
std::string as_text(std::span<const Finding> findings, const Start& start, Look look);

}  // namespace proxify::doctor
