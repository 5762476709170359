// SPDX-License-Identifier: Apache-2.0
#include "io/timers.h"

namespace proxify::io {

void Timers::arm(Timer& timer, Time when) {
    bool later = timer.armed() && when > timer.when;
    timer.when = when;
    if (!timer.armed()) {
        heap_.push_back(&timer);
        put(timer, heap_.size() - 1);
    }
    later ? sift_down(timer.place) : sift_up(timer.place);
}

void Timers::disarm(Timer& timer) {
    if (!timer.armed()) return;
    size_t hole = timer.place;
    Timer* last = heap_.back();
    heap_.pop_back();
    timer.place = Timer::nowhere;
    if (last == &timer) return;
    put(*last, hole);
    sift_up(hole);
    sift_down(last->place);
}

void Timers::fire_due(Time now) {
    while (!heap_.empty() && heap_.front()->when <= now) {
        Timer& due = *heap_.front();
        disarm(due);
        due.fire(due);
    }
}

void Timers::put(Timer& timer, size_t place) {
    heap_[place] = &timer;
    timer.place = static_cast<uint32_t>(place);
}

void Timers::sift_up(size_t place) {
    Timer& moving = *heap_[place];
    while (place > 0) {
        size_t parent = (place - 1) / 2;
        if (heap_[parent]->when <= moving.when) break;
        put(*heap_[parent], place);
        place = parent;
    }
    put(moving, place);
}

void Timers::sift_down(size_t place) {
    Timer& moving = *heap_[place];
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= heap_.size()) break;
        if (child + 1 < heap_.size() && heap_[child + 1]->when < heap_[child]->when) ++child;
        if (moving.when <= heap_[child]->when) break;
        put(*heap_[child], place);
        place = child;
    }
    put(moving, place);
}

}  // namespace proxify::io
