// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace proxify {

/// Which way bytes go.
enum class Direction { to_target, to_client };

}  // namespace proxify
