// SPDX-License-Identifier: Apache-2.0
// What the kernel says of an object of ours, for those files of this room that know libbpf.
#pragma once

#include <bpf/bpf.h>

#include <cerrno>
#include <string_view>

#include "base/format.h"
#include "base/result.h"

namespace proxify::kernel {

/// Every kind of object has an info struct, filled by one call; reading one's own descriptors
/// needs no capability.
template <class Info>
Result<Info> info_of(int fd, std::string_view what) {
    Info info{};
    uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
        return fail(Error::from_errno(errno, format("ask for the id of {}", what)));
    return info;
}

}  // namespace proxify::kernel
