// SPDX-License-Identifier: Apache-2.0
// Fd: one file descriptor, one owner. Scope ends it.
#pragma once

#include <unistd.h>

#include <utility>

namespace proxify {

class Fd {
  public:
    Fd() = default;
    /// Takes ownership of `raw`; a negative number is no descriptor.
    static Fd adopt(int raw) { return Fd(raw); }

    Fd(Fd&& other) noexcept : raw_(std::exchange(other.raw_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~Fd() {
        if (raw_ >= 0) ::close(raw_);
    }

    explicit operator bool() const { return raw_ >= 0; }
    int get() const { return raw_; }
    /// Gives ownership to the caller.
    [[nodiscard]] int release() { return std::exchange(raw_, -1); }
    void close() { Fd(std::move(*this)); }

  private:
    explicit Fd(int raw) : raw_(raw) {}
    int raw_ = -1;
};

}  // namespace proxify
