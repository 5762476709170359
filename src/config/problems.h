// SPDX-License-Identifier: Apache-2.0
// Problems: everything that is wrong with one file, each with its place, so that a person can fix
// it in one go.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/reader.h"

namespace proxify::config {

class Problems {
  public:
    explicit Problems(std::string file) : file_(std::move(file)) {}

    void add(Position at, std::string what, std::string hint = {}) {
        ++count_;
        if (kept_.size() < kept_max) kept_.push_back({at, std::move(what), std::move(hint)});
    }

    bool empty() const { return count_ == 0; }

    /// The first of them in the order of the file, as one Error. There must be some.
    Error to_error() &&;

  private:
    struct Problem {
        Position at;
        std::string what;
        std::string hint;
    };
    /// A file can hold millions of mistakes, and nobody reads that many.
    static constexpr size_t kept_max = 1000;

    std::string file_;
    std::vector<Problem> kept_;
    size_t count_ = 0;
};

}  // namespace proxify::config
