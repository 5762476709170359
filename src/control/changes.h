// SPDX-License-Identifier: Apache-2.0
// What a reload would change, said before it is done.
#pragma once

#include "config/config.h"
#include "report/report.h"
#include "routing/snapshot.h"

namespace proxify::control {

/// The differences between what runs and `next`, and what they mean for live sessions. Empty when
/// there are none. Targets that are new are taken to be up.
report::Plan plan_change(const routing::Snapshot& running, const config::Config& next);

/// One sentence for each service that has no target that is up.
std::vector<std::string> warnings_of(const routing::Snapshot& snapshot);

}  // namespace proxify::control
