// SPDX-License-Identifier: Apache-2.0
// Elements: what the chain of a service makes of a whole stream, worked out in the plainest way, to
// hold against what proxify made of it piece by piece.
#pragma once

#include <string>

#include "base/direction.h"
#include "config/config.h"

namespace proxify::test {

struct Made {
    std::string bytes;
    bool is_cut = false;  ///< an element ends the session after them
};

/// Of all that a side has said so far.
Made made_of(std::string stream, const config::Service& service, Direction direction);

/// Whether `sent` may have been made of `stream`; all of it, when it `is_all`.
bool may_be_made_of(const std::string& stream, const std::string& sent, bool is_all,
                    const config::Service& service, Direction direction);

/// An element of it may put off what could go on.
bool may_wait(const config::Service& service);

/// One that lets the beginning of something go when nothing more has come for so long.
inline constexpr Duration soon = 5ms;

}  // namespace proxify::test
