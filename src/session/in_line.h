// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "io/loop.h"

namespace proxify::session {

/// A session's place in a line, of its service or of a cache. Word of its turn may be on its way
/// when the session has given up already, so the two share it.
template <class Waiter>
class InLine : public Waiter, public std::enable_shared_from_this<InLine<Waiter>> {
  public:
    explicit InLine(io::Loop& loop) : turn(loop), loop_(loop) {}
    void wake() override {
        loop_.post([self = this->shared_from_this()] { self->turn.raise(); });
    }
    io::Signal turn;

  private:
    io::Loop& loop_;
};

/// How often somebody in line is looked at: a client that is gone is to leave it. Only a reset
/// says so, since a client may finish sending long before it has its answer.
inline constexpr Duration look_interval = 500ms;

}  // namespace proxify::session
