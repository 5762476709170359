// SPDX-License-Identifier: Apache-2.0
// Page: what a section of a document tells people to type, done as written, from the top to its
// end.
//
// A block of toml or lua is a file, named by the comment in its first line. A console block has
// commands behind "$ ", each with what it prints below it. One that ends with "&" goes on until the
// section is done; others are tried again until they print what the page says, for a while.
#pragma once

#include <string>

#include "support/namespace.h"

namespace proxify::test {

struct Place {
    const Namespace& inside;
    std::string echo_server;  ///< what build/tests/echo is
};

/// Fails the running test case at the first command that prints something else.
void follow_page(const Place& place, const std::string& document, const std::string& heading);

}  // namespace proxify::test
