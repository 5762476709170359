// SPDX-License-Identifier: Apache-2.0
// The certificates that a file names, and what their dates mean today.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace proxify::config {

struct NamedCertificate {
    std::string whose;  ///< "tls of service web", "tls.client_ca of ...", "[tunnel]"
    std::string file;
    tls::CertificateFacts facts;
};

/// Of each file the first one; that is the one which it is about.
std::vector<NamedCertificate> certificates_of(const Config& config);

/// The files with private keys, each once.
std::vector<std::string> keys_of(const Config& config);

/// People need some days to renew one.
constexpr std::chrono::days expiry_warning{14};

struct DateTrouble {
    bool is_now;       ///< it is no good already, or not yet
    std::string text;  ///< a sentence
};
/// Nothing while all is well.
std::optional<DateTrouble> date_trouble(const NamedCertificate& certificate,
                                        std::chrono::sys_seconds now);

}  // namespace proxify::config
