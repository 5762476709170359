// SPDX-License-Identifier: Apache-2.0
// Certificates and keys: dates, chains, and who can read what is to be read by nobody else.
#include "base/format.h"
#include "config/certificates.h"
#include "doctor/findings.h"
#include "tls/chain.h"

namespace proxify::doctor {

void judge_certificates(const Host& host, const config::Config& config, Findings& findings) {
    const auto certificates = config::certificates_of(config);
    bool is_well = true;
    for (const auto& one : certificates) {
        auto trouble = config::date_trouble(one, host.now);
        if (!trouble) continue;
        is_well = false;
        findings.warn("certificates", trouble->text,
                      trouble->is_now && host.now < one.facts.not_before
                          ? "see whether the clock of this host is right: `date`"
                          : "renew it; proxify takes it over when the file changes");
    }
    for (const auto& file : host.open_keys) {
        is_well = false;
        findings.warn("certificates",
                      format("the private key in {} can be read by every user of this host", file),
                      format("`chmod o= {}`", file));
    }
    for (const auto& service : config.services) {
        auto check = [&](const tls::Identity& identity) {
            const auto broken = tls::broken_chain(identity.certificate);
            if (!broken) return;
            is_well = false;
            findings.note("certificates",
                          format("the certificates in {} are no chain: {}",
                                 identity.certificate.name, *broken),
                          "put first the certificate itself, then the one that vouches for it, "
                          "and so on");
        };
        if (service.tls)
            for (const auto& identity : service.tls->settings.identities) check(identity);
        if (service.target_tls && service.target_tls->settings.identity)
            check(*service.target_tls->settings.identity);
    }
    if (is_well && !certificates.empty())
        findings.ok("certificates", format("{}, good for at least {} more days",
                                           count_text(certificates.size(), "certificate"),
                                           config::expiry_warning.count()));
}

}  // namespace proxify::doctor
