// SPDX-License-Identifier: Apache-2.0
// nft(8), which reads and writes the rules of the network namespace that we are in. It takes
// CAP_NET_ADMIN. Each call waits until the program has ended.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "netfilter/rules.h"

namespace proxify::netfilter {

/// What is there now; none without a table of ours.
Result<std::optional<Rules>> current_rules();

/// Does all that a transaction says, or nothing.
Result<> run(const std::string& transaction);

}  // namespace proxify::netfilter
