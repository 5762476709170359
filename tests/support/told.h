// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>
#include <optional>
#include <stdexcept>

#include "support/eventually.h"

namespace proxify::test {

/// What a handler, in its thread, tells the test, which waits for it.
template <class T>
class Told {
  public:
    void tell(T value) {
        std::lock_guard lock(mutex_);
        value_ = std::move(value);
    }
    T get() {
        if (!eventually([&] { return has_value(); }, 30s))
            throw std::runtime_error("the target had nothing to tell within 30 s");
        std::lock_guard lock(mutex_);
        return *value_;
    }

  private:
    bool has_value() {
        std::lock_guard lock(mutex_);
        return value_.has_value();
    }
    std::mutex mutex_;
    std::optional<T> value_;
};

}  // namespace proxify::test
