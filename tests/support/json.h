// SPDX-License-Identifier: Apache-2.0
// Just enough JSON to hold proxify to its word that every log line is some.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace proxify::test {

/// The members of an object: strings without their quotes, everything else as it is written.
/// nullopt when `text` is not exactly one valid JSON object.
std::optional<std::map<std::string, std::string>> parse_json_object(std::string_view text);

}  // namespace proxify::test
