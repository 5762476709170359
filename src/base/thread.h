// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>

#include <thread>
#include <utility>

namespace proxify {

/// A thread that `top -H` and debuggers show under a name, of at most 15 letters.
template <class Body>
std::thread start_thread(const char* name, Body body) {
    return std::thread([name, body = std::move(body)]() mutable {
        pthread_setname_np(pthread_self(), name);
        body();
    });
}

}  // namespace proxify
