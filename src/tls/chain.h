// SPDX-License-Identifier: Apache-2.0
// Whether the certificates of one file lead from each to the next.
#pragma once

#include <optional>
#include <string>

#include "tls/context.h"

namespace proxify::tls {

/// What is wrong, in words; nothing for a chain, and for one certificate alone.
std::optional<std::string> broken_chain(const Pem& certificates);

}  // namespace proxify::tls
