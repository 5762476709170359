// SPDX-License-Identifier: Apache-2.0
#include "io/pipes.h"

#include <algorithm>

namespace proxify::io {

Pipe::~Pipe() {
    if (!owner_) return;
    --owner_->lent_;
    if (empty()) {
        owner_->give_back(ends_);
    } else {
        owner_->ring_.close_pipe(ends_);
        --owner_->count_;
    }
}

int Pipe::fill_from(Handle socket) {
    int moved = owner_->ring_.splice_in(socket, ends_, Pipes::pipe_size);
    if (moved > 0) level_ += static_cast<size_t>(moved);
    return moved;
}

int Pipe::pour_into(Handle socket) {
    int moved = owner_->ring_.splice_out(ends_, socket, level_);
    if (moved > 0) level_ -= static_cast<size_t>(moved);
    return moved;
}

Pipes::~Pipes() {
    timers_.disarm(tidying_);
    for (auto ends : idle_) ring_.close_pipe(ends);
}

void Pipes::give_back(PipeEnds ends) {
    idle_.push_back(ends);
    if (!tidying_.armed()) timers_.arm(tidying_, ring_.now() + 1s);
}

/// Closes those that nobody has needed for a second: they cost descriptors.
void Pipes::tidy() {
    for (size_t i = 0; i < spare_; ++i) ring_.close_pipe(idle_[i]);
    idle_.erase(idle_.begin(), idle_.begin() + static_cast<std::ptrdiff_t>(spare_));
    count_ -= spare_;
    spare_ = idle_.size();
    if (!idle_.empty()) timers_.arm(tidying_, ring_.now() + 1s);
}

Pipe Pipes::borrow() {
    if (!idle_.empty()) {
        auto ends = idle_.back();
        idle_.pop_back();
        spare_ = std::min(spare_, idle_.size());
        ++lent_;
        return {*this, ends};
    }
    PipeEnds ends;
    if (count_ >= count_max_ || ring_.open_pipe(pipe_size, ends) < 0) {
        ++times_refused_;
        // The kernel gives an ordinary user a few large pipes only: more are not asked for again.
        count_max_.set(count_);
        return {};
    }
    ++count_;
    ++lent_;
    return {*this, ends};
}

}  // namespace proxify::io
