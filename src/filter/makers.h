// SPDX-License-Identifier: Apache-2.0
// The elements that are built in, by type; each has a file of its own.
#pragma once

#include <memory>

#include "config/config.h"
#include "filter/element.h"
#include "stats/element.h"

namespace proxify::filter {

std::shared_ptr<const Maker> make_log(const config::Element& spec);
std::shared_ptr<const Maker> make_hexdump(const config::Element& spec);
std::shared_ptr<const Maker> make_count(std::shared_ptr<stats::Element> stats);
std::shared_ptr<const Maker> make_replace(const config::Element& spec);
std::shared_ptr<const Maker> make_rate(const config::Element& spec);
std::shared_ptr<const Maker> make_limit_bytes(const config::Element& spec);
std::shared_ptr<const Maker> make_match(const config::Element& spec);

}  // namespace proxify::filter
