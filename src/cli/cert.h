// SPDX-License-Identifier: Apache-2.0
// `proxify cert`: an authority and certificates of one's own, as files.
#pragma once

#include <iosfwd>

#include "cli/options.h"
#include "tls/authority.h"

namespace proxify::cli {

struct CertOrder {
    std::string out;  ///< OUT.pem and OUT.key are made
    std::string ca;   ///< CA.pem and CA.key vouch for it; empty: it is an authority itself
    tls::Wanted wanted;
    bool force = false;  ///< what is there may be lost
};

/// Every failure is wrong usage: exit_usage.
Result<CertOrder> read_cert_order(const Options& options);

int run_cert(const Options& options, std::ostream& out, std::ostream& err);

}  // namespace proxify::cli
