// SPDX-License-Identifier: Apache-2.0
// What a test in tests/kernel begins with: the vocabulary, and a namespace of its own.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "support/catch.h"
#include "support/namespace.h"
#include "support/process.h"
#include "support/proxify_process.h"
#include "support/server.h"
#include "support/stream.h"
#include "support/temp_dir.h"

namespace proxify::test {

/// The exact thing that keeps this machine from running kernel tests; nullopt when nothing does.
std::optional<std::string> missing_for_proxify();

/// "needs the program nc", or nullopt when it is there.
std::optional<std::string> missing_program(const std::string& name);

/// With 127.0.0.1 and ::1, and ports 5000-5999 kept out of the source ports of clients.
Namespace new_namespace();

/// Where somebody listens in `where`, as ss shows it: "*:8080", "127.0.0.1:9001", each once.
std::set<std::string> listening(const Namespace& where);

inline constexpr uid_t nobody = 65534;

}  // namespace proxify::test

/// First line of a test: `name` is its namespace. Skips where there can be none.
#define IN_NAMESPACE(name)                                                          \
    if (auto missing = ::proxify::test::missing_for_proxify()) SKIP_TEST(*missing); \
    auto name = ::proxify::test::new_namespace()

#define NEEDS_PROGRAM(name) \
    if (auto missing = ::proxify::test::missing_program(name)) SKIP_TEST(*missing)
