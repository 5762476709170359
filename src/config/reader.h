// SPDX-License-Identifier: Apache-2.0
// TOML text as a tree of plain values, each with its place in the file, so that whoever gives the
// values a meaning can point at them. Nothing here knows what a service is.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace proxify::config {

/// A place in the file, counted from 1; columns count characters, not bytes.
struct Position {
    uint32_t line = 1;
    uint32_t column = 1;
    auto operator<=>(const Position&) const = default;
};

struct Value;
struct Member;
using Array = std::vector<Value>;
using Table = std::vector<Member>;
struct DateTime {};  ///< TOML has dates and times; no key of ours wants one

struct Value {
    Position at;
    std::variant<bool, int64_t, double, std::string, DateTime, Array, Table> is;

    template <class T>
    const T* as() const {
        return std::get_if<T>(&is);
    }
};

struct Member {
    std::string key;
    Position at;
    Value value;
};

/// Takes the text apart, or says where it stops being TOML; `name` stands for the file in errors.
Result<Table> read_toml(std::string_view text, const std::string& name);

}  // namespace proxify::config
