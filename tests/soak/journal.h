// SPDX-License-Identifier: Apache-2.0
// Journal: what proxify has written so far, each line read once, as it comes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/log_lines.h"
#include "support/process.h"

namespace proxify::test::soak {

class Journal {
  public:
    explicit Journal(const Child& proxify) : proxify_(proxify) {}

    /// The sessions that have ended since the last call.
    std::vector<SessionLine> read();

    int reloads_applied() const { return applied_; }
    int reloads_refused() const { return refused_; }
    const std::string& last_refusal() const { return last_refusal_; }
    std::optional<KernelIds> ids() const { return ids_; }
    /// What has no place in the log of a healthy run: a sanitizer's words, a warning about anything
    /// but a dead target. The first few of them.
    const std::vector<std::string>& strange() const { return strange_; }

  private:
    void heed(const std::string& line, std::vector<SessionLine>& sessions);

    const Child& proxify_;
    size_t read_ = 0;
    std::string rest_;  ///< a line that is not whole yet
    int applied_ = 0, refused_ = 0;
    std::string last_refusal_;
    std::optional<KernelIds> ids_;
    std::vector<std::string> strange_;
};

}  // namespace proxify::test::soak
