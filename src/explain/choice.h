// SPDX-License-Identifier: Apache-2.0
// The last part of the way: which targets a client would be tried on, and in which order.
#pragma once

#include "explain/explain.h"

namespace proxify::explain {

/// Adds the candidates, the step and how it ends.
void explain_choice(const routing::Service& service, const Scene& scene, Explanation& explanation);

}  // namespace proxify::explain
