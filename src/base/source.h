// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.h"

namespace proxify {

/// Whom limits and rates count a client as: an IPv4 address, or the first 64 bits of an IPv6 one,
/// since whoever has one of those has all.
inline Ip source_of(const Ip& client) {
    return client.is_v4 ? client : Prefix{client, 64}.network().ip;
}

}  // namespace proxify
