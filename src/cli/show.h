// SPDX-License-Identifier: Apache-2.0
// What a running proxify says of itself, as text for eyes. Pure.
#pragma once

#include <string>

#include "report/report.h"

namespace proxify::cli {

std::string show(const report::Status& status);
std::string show(const report::Services& services);
/// `now` in seconds since 1970, for how long ago something was.
std::string show(const report::Targets& targets, double now);
std::string show(const report::Sessions& sessions);
std::string show(const report::Ports& ports);
std::string show(const report::Steering& steering);
std::string show(const report::Explanation& explanation);
std::string show(const report::Reload& reload);
std::string show(const report::Plan& plan);
std::string show(const report::Done& done);

}  // namespace proxify::cli
