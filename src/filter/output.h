// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "filter/element.h"

namespace proxify::filter {

/// What comes out at the end of a chain: as long as all of it stood side by side in the input it is
/// looked at there, and else copied.
class Output {
  public:
    /// Bytes of the input, which stay where they are until clear() or keep().
    void add_view(Bytes bytes) {
        if (bytes.empty()) return;
        if (copied_.empty() && view_.empty()) {
            view_ = bytes;
        } else if (copied_.empty() && view_.data() + view_.size() == bytes.data()) {
            view_ = {view_.data(), view_.size() + bytes.size()};
        } else {
            add(bytes);
        }
    }
    /// Bytes that may go away at once.
    void add(Bytes bytes) {
        if (bytes.empty()) return;
        keep();
        append(copied_, bytes);
    }
    /// The input goes away.
    void keep() {
        if (view_.empty()) return;
        if (copied_.empty()) sent_ = 0;
        append(copied_, std::exchange(view_, {}));
    }

    Bytes bytes() const { return view_.empty() ? Bytes(copied_).subspan(sent_) : view_; }
    size_t size() const { return bytes().size(); }
    bool empty() const { return size() == 0; }

    void consume(size_t count) {
        if (!view_.empty()) {
            view_ = view_.subspan(count);
        } else if ((sent_ += count) == copied_.size()) {
            // An idle session holds no memory for what it has sent.
            copied_ = {};
            sent_ = 0;
        }
    }

  private:
    Bytes view_;
    Buffer copied_;
    size_t sent_ = 0;  ///< of copied_
};

}  // namespace proxify::filter
