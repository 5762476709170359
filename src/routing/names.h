// SPDX-License-Identifier: Apache-2.0
// Names: services that share a port, by the name that a TLS client asks for. Immutable once built.
#pragma once

#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"

namespace proxify::routing {

struct Service;

class Names {
  public:
    using Shared = std::shared_ptr<const Service>;

    /// No two of them have the same name, and one at most has none.
    explicit Names(std::vector<Shared> services);
    Names(const Names&) = delete;

    /// Whose the name is, in letters of any case and with a dot at its end or without; "" for
    /// a client that asks for none. The name itself comes before a "*" in place of its first label,
    /// and that before the service without names. Null when nobody has it.
    const Shared& find(std::string_view name) const;

    const std::vector<Shared>& services() const { return services_; }
    /// How long a client may take to say it: as long as the most patient of them grants for shaking
    /// hands.
    Duration patience() const { return patience_; }

  private:
    std::vector<Shared> services_;
    /// The keys are the services' own words, "*.example.org" among them.
    std::unordered_map<std::string_view, const Shared*> by_name_;
    const Shared* nameless_;
    Duration patience_{};
};

}  // namespace proxify::routing
