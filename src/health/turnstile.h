// SPDX-License-Identifier: Apache-2.0
// Turnstile: lets so many in at a time; the others wait in line.
#pragma once

#include <deque>

#include "io/loop.h"

namespace proxify::health {

class Turnstile : private io::Timer {
  public:
    Turnstile(io::Loop& loop, size_t places)
        : Timer([](Timer& timer) { static_cast<Turnstile&>(timer).admit(); }),
          loop_(loop),
          free_(places) {}
    ~Turnstile() { loop_.timers().disarm(*this); }

    /// One that wants to be in. It leaves when it goes.
    class Visit {
      public:
        explicit Visit(Turnstile& turnstile) : turnstile_(turnstile), turn_(turnstile.loop_) {}
        Visit(const Visit&) = delete;
        ~Visit();
        /// Waits for its turn; gives whether it came before give_up(). Awaited once.
        io::Task<bool> enter();
        void give_up();

      private:
        friend class Turnstile;
        Turnstile& turnstile_;
        io::Signal turn_;
        bool is_in_ = false;
    };

  private:
    /// A timer's work and nobody else's, so that those who leave at once after they came, one after
    /// the other, do not stand on each other's stacks.
    void admit();

    io::Loop& loop_;
    size_t free_;
    std::deque<Visit*> line_;
};

}  // namespace proxify::health
