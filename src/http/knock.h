// SPDX-License-Identifier: Apache-2.0
// Connecting to a socket of the file system.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/fd.h"

namespace proxify::http {

struct Knock {
    Fd socket;      ///< connected, when nothing went wrong
    int error = 0;  ///< the errno; EAGAIN when somebody listens and has no time within `patience`
};

Knock knock(const std::string& path, Duration patience);

}  // namespace proxify::http
