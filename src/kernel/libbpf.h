// SPDX-License-Identifier: Apache-2.0
// What loading programs with libbpf takes, whichever program it is: libbpf's own words kept off
// stderr, and made part of an Error where nobody foresaw what went wrong.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace proxify::kernel {

/// libbpf prints to stderr while it works. From the first of these on it is silent; what it says to
/// the thread of the one that lives is kept.
class LibbpfEar {
  public:
    LibbpfEar();
    ~LibbpfEar();
    LibbpfEar(const LibbpfEar&) = delete;
    const std::string& heard() const { return heard_; }

  private:
    std::string heard_;
    std::string* before_ = nullptr;  ///< of the one around this
};

/// "cannot load WHAT", and why: `reason` if there is one, else what libbpf and the verifier said.
Error load_error(int error_number, std::string_view what, const std::string& reason,
                 const std::string& heard);

/// What lets the calling thread use bpf(), or why it may not although it has the capabilities.
std::string permission_hint();

}  // namespace proxify::kernel
