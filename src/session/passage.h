// SPDX-License-Identifier: Apache-2.0
// Passage: what a session that came by a tunnel has beside the others.
#pragma once

#include "base/ending.h"
#include "tunnel/preface.h"

namespace proxify::session {

struct Passage {
    tunnel::Opening opening = {};
    bool is_open = false;                                  ///< the near end waits for an answer
    bool is_answered = false;                              ///< and has it
    tunnel::Answer refusal = tunnel::Answer::unreachable;  ///< what it hears if nothing comes of it
    Ending came = {};                                      ///< how the opening went
};

}  // namespace proxify::session
