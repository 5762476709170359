// SPDX-License-Identifier: Apache-2.0
// List: which clients may come in. Of the prefixes that hold an address the longest decides; an
// address that none holds comes in unless anything is allowed by name. The program in the kernel
// keeps the same lists (bpf/contract.h); this one is asked where there is no such program, and for
// who did not come past it.
#pragma once

#include <span>

#include "base/prefix_map.h"

namespace proxify::access {

class List {
  public:
    /// Each prefix is a network (no bits beyond its length), and none is in both.
    List(std::span<const Prefix> allow, std::span<const Prefix> deny);

    bool admits(const Ip& client) const { return admitted_.at(client); }

  private:
    PrefixMap<bool> admitted_;
};

}  // namespace proxify::access
