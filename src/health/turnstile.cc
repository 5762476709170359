// SPDX-License-Identifier: Apache-2.0
#include "health/turnstile.h"

namespace proxify::health {

io::Task<bool> Turnstile::Visit::enter() {
    if (turnstile_.free_ > 0 && turnstile_.line_.empty()) {
        --turnstile_.free_;
        is_in_ = true;
        co_return true;
    }
    turnstile_.line_.push_back(this);
    co_await turn_.wait();
    co_return is_in_;
}

void Turnstile::Visit::give_up() {
    if (std::erase(turnstile_.line_, this) > 0) turn_.raise();
}

Turnstile::Visit::~Visit() {
    if (!is_in_) return;
    ++turnstile_.free_;
    if (!turnstile_.line_.empty())
        turnstile_.loop_.timers().arm(turnstile_, turnstile_.loop_.now());
}

void Turnstile::admit() {
    while (free_ > 0 && !line_.empty()) {
        Visit* next = line_.front();
        line_.pop_front();
        --free_;
        next->is_in_ = true;
        next->turn_.raise();
    }
}

}  // namespace proxify::health
