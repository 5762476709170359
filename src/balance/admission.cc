// SPDX-License-Identifier: Apache-2.0
#include "balance/admission.h"

#include "balance/pool.h"

namespace proxify::balance {

bool Admission::line_up(Waiter& waiter, const Pool& pool, const Asking& asking, size_t size) {
    std::lock_guard lock(line_lock_);
    if (waiting_.load(std::memory_order_relaxed) >= size) return false;
    waiter.pool_ = &pool;
    waiter.asking_ = &asking;
    waiter.is_in_line_ = true;
    waiter.previous_ = last_;
    pools_differ_ = last_ && (pools_differ_ || last_->pool_ != &pool);
    (last_ ? last_->next_ : first_) = &waiter;
    last_ = &waiter;
    waiting_.fetch_add(1, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    // From here on whoever gives a seat back sees us. Those given back before are seen now.
    serve();
    return true;
}

Choice Admission::step_out(Waiter& waiter) {
    std::lock_guard lock(line_lock_);
    if (waiter.is_in_line_) remove(waiter);
    return std::move(waiter.choice_);
}

void Admission::look_again() {
    std::lock_guard lock(line_lock_);
    serve();
}

/// From the first in line on. Somebody who was tried on a target already may find no room where
/// those behind find some; but where one who may have any target finds none, all behind do.
void Admission::serve() {
    const Pool* full = nullptr;
    bool differ = false;  // the pools of those who stay in line
    const Pool* of_last = nullptr;
    for (Waiter *waiter = first_, *next; waiter; waiter = next) {
        next = waiter->next_;
        if (waiter->pool_ != full) {
            Choice choice = waiter->pool_->choose(*waiter->asking_);
            if (!choice.is_full) {
                remove(*waiter);
                waiter->choice_ = std::move(choice);
                waiter->wake();
                continue;
            }
            if (waiter->asking_->tried.count() == 0) {
                if (!pools_differ_) return;
                full = waiter->pool_;
            }
        }
        differ = differ || (of_last && of_last != waiter->pool_);
        of_last = waiter->pool_;
    }
    // Else a line that is never empty would be walked whole for ever after a reload.
    pools_differ_ = differ;
}

void Admission::remove(Waiter& waiter) {
    (waiter.previous_ ? waiter.previous_->next_ : first_) = waiter.next_;
    (waiter.next_ ? waiter.next_->previous_ : last_) = waiter.previous_;
    waiter.is_in_line_ = false;
    waiting_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace proxify::balance
