// SPDX-License-Identifier: Apache-2.0
// Exchange: what a session of a service with a cache has beside the others.
#pragma once

#include <span>
#include <string>

#include "cache/store.h"

namespace proxify::session {

struct Exchange {
    std::string key;    ///< where the client aimed, as far as answers depend on it; the request
    size_t request_at;  ///< of key
    cache::Lead lead = {};
    // What it does without a target.
    bool is_reading = false;
    bool is_answering = false;

    size_t request_size() const { return key.size() - request_at; }
    std::span<const std::byte> request() const {
        return std::as_bytes(std::span(key)).subspan(request_at);
    }
};

}  // namespace proxify::session
