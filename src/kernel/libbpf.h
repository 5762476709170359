// SPDX-License-Identifier: Apache-2.0
// What all programs of this room have in common: libbpf is silent, and what it had to say goes into
// the Error when loading fails.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace proxify::kernel {

/// Calls `work`, which gives 0 or a negative errno as libbpf does, and keeps what libbpf says
/// meanwhile in this thread. Gives the errno.
int hear_libbpf(const std::function<int()>& work, std::string& said);

/// Why a program could not be loaded. `plain_reason` is a sentence where somebody foresaw it.
Error load_error(std::string what, int error_number, const std::string& said,
                 const std::string& plain_reason, const std::string& permission_hint);

}  // namespace proxify::kernel
