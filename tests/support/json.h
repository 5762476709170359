// SPDX-License-Identifier: Apache-2.0
// Just enough JSON to hold proxify to its word that every log line, and every answer, is some.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace proxify::test {

struct Json {
    enum class Kind { null, boolean, number, string, array, object };
    Kind kind = Kind::null;
    std::string text;  ///< as it is written, but for strings: those without their quotes
    std::vector<Json> items = {};
    std::map<std::string, Json> members = {};

    /// Throws when there is none.
    const Json& operator[](const std::string& name) const { return members.at(name); }
};
/// nullopt when `text` is not exactly one valid value.
std::optional<Json> parse_json(std::string_view text);

/// The members of an object: strings without their quotes, everything else as it is written.
/// nullopt when `text` is not exactly one valid JSON object.
std::optional<std::map<std::string, std::string>> parse_json_object(std::string_view text);

}  // namespace proxify::test
