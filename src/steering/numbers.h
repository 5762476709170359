// SPDX-License-Identifier: Apache-2.0
// Numbers: each service has a number in the kernel's tables, the same as long as it is configured.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace proxify::steering {

class Numbers {
  public:
    /// Numbers for services that had none yet. Numbers still in use are not given out again before
    /// release_others(), so that no table entry can lead to the wrong service in between.
    /// Gives the new ones.
    std::vector<uint16_t> assign(std::span<const std::string> names);
    /// Takes back the numbers of all other services, and gives them.
    std::vector<uint16_t> release_others(std::span<const std::string> names);

    /// 0 for a service that has none: there is room for 65 535, which is as many as ports.
    uint16_t of(const std::string& name) const;
    /// "" when no service has it.
    std::string name_of(uint16_t number) const;

  private:
    std::map<std::string, uint16_t> numbers_;
    std::set<uint16_t> free_;
    uint32_t next_ = 1;  ///< never given out so far
};

}  // namespace proxify::steering
