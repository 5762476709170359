// SPDX-License-Identifier: Apache-2.0
// What a capture means for the kernel, given what is known of its containers. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/address.h"
#include "config/config.h"
#include "kernel/connect_program.h"

namespace proxify::intercept {

/// What proxify's own sockets are marked with.
struct OwnMark {
    uint32_t value = 0;
    uint32_t mask = 0xffffffff;
};

/// Addresses of containers, by the name that the capture gives them. One that is not there, or does
/// not run, has none.
using Addresses = std::map<std::string, std::vector<Ip>>;

kernel::ConnectHooks hooks_of(const config::Capture& capture);
kernel::ConnectSettings settings_of(const config::Capture& capture, OwnMark mark);

/// Under which number each container is counted. A name keeps its number, wherever in whichever
/// list it stands later: what was counted is never another's.
class Numbers {
  public:
    /// From 1 on, in the order in which they are asked for. There are fewer numbers than there may
    /// be names: the last ones share one.
    uint32_t of(const std::string& name);
    /// Empty for a number that nobody has.
    std::string name(uint32_t number) const;
    /// The highest number that somebody has.
    uint32_t last() const { return static_cast<uint32_t>(names_.size()); }

  private:
    std::map<std::string, uint32_t> numbers_;
    std::vector<std::string> names_;  ///< of 1, 2, ...
};

/// Sorted, each once. A container's is counted under its number, all else under 0.
std::vector<kernel::ConnectDestination> destinations_of(const config::Capture& capture,
                                                        const Addresses& addresses,
                                                        Numbers& numbers);

/// All containers that the capture names, each once.
std::vector<std::string> containers_of(const config::Capture& capture);

/// How to come from `have` to `want`, which are sorted: what is added and removed. A destination
/// whose number changes is added only.
struct DestinationChanges {
    std::vector<kernel::ConnectDestination> add, remove;
};
DestinationChanges changes(const std::vector<kernel::ConnectDestination>& have,
                           const std::vector<kernel::ConnectDestination>& want);

}  // namespace proxify::intercept
