// SPDX-License-Identifier: Apache-2.0
// The part of io/host.h that a room of the simulation calls: there is no host to start a program
// on.
#include <cerrno>

#include "io/host.h"

namespace proxify::io {

int Child::start(const std::vector<std::string>&, const std::vector<std::string>&,
                 std::optional<Child>&) {
    return ENOSYS;
}
Child::~Child() = default;
void Child::kill() {}
Child::End Child::reap() {
    return {};
}

}  // namespace proxify::io
