// SPDX-License-Identifier: Apache-2.0
#include "tls/chain.h"

#include "base/format.h"
#include "tls/openssl.h"

namespace proxify::tls {

std::optional<std::string> broken_chain(const Pem& certificates) {
    ERR_clear_error();
    OwnedBio bio(
        BIO_new_mem_buf(certificates.text.data(), static_cast<int>(certificates.text.size())));
    OwnedCertificate last(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    for (int number = 2; last; ++number) {
        OwnedCertificate next(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
        if (next && X509_check_issued(next.get(), last.get()) != X509_V_OK)
            return format("number {}, \"{}\", does not vouch for the one before it, \"{}\"", number,
                          facts_of(next.get()).subject, facts_of(last.get()).subject);
        last = std::move(next);
    }
    ERR_clear_error();
    return std::nullopt;
}

}  // namespace proxify::tls
