// SPDX-License-Identifier: Apache-2.0
#include "tls/client.h"

#include "base/address.h"
#include "base/expect.h"
#include "tls/openssl.h"

namespace proxify::tls {

void Client::Free::operator()(ssl_st* ssl) const {
    SSL_free(ssl);
}

Client::Client(const ClientContext& context, const std::string& name)
    : ssl_(SSL_new(context.shared_->context.get())) {
    expect(ssl_ != nullptr, "there is memory for a TLS connection");
    SSL_set_app_data(ssl_.get(), const_cast<ClientContext::Shared*>(context.shared_.get()));
    context_ = context.shared_;
    // What was fed and not yet read is "try again", never the end of the stream.
    BIO* from_peer = BIO_new(BIO_s_mem());
    BIO* to_peer = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(from_peer, -1);
    BIO_set_mem_eof_return(to_peer, -1);
    SSL_set_bio(ssl_.get(), from_peer, to_peer);  // owns both from here on
    SSL_set_connect_state(ssl_.get());

    if (Ip::parse(name)) {
        expect(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), name.c_str()) == 1,
               "the address to verify is set");
    } else if (!name.empty()) {
        SSL_set_tlsext_host_name(ssl_.get(), name.c_str());
        expect(SSL_set1_host(ssl_.get(), name.c_str()) == 1, "the name to verify is set");
    }
    go_on();
}

void Client::feed(std::string_view bytes) {
    if (state_ == State::failed) return;
    BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
    go_on();
}

std::string Client::take_to_peer() {
    BIO* to_peer = SSL_get_wbio(ssl_.get());
    std::string out(BIO_ctrl_pending(to_peer), '\0');
    if (!out.empty()) BIO_read(to_peer, out.data(), static_cast<int>(out.size()));
    return out;
}

void Client::write(std::string_view plain) {
    expect(state_ == State::open, "what is written goes over an open TLS connection");
    ERR_clear_error();
    if (SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size())) <= 0) note_failure();
}

std::string Client::take_plain() {
    return std::exchange(plain_, {});
}

std::optional<Duration> Client::certificate_ends_in() const {
    const X509* certificate = SSL_get0_peer_certificate(ssl_.get());
    if (!certificate) return std::nullopt;
    int days = 0, seconds = 0;
    if (ASN1_TIME_diff(&days, &seconds, /*from=now*/ nullptr, X509_get0_notAfter(certificate)) != 1)
        return std::nullopt;
    return days * 24h + std::chrono::seconds(seconds);
}

/// As far as what was fed leads.
void Client::go_on() {
    ERR_clear_error();
    if (state_ == State::shaking_hands) {
        int result = SSL_do_handshake(ssl_.get());
        if (result == 1)
            state_ = State::open;
        else if (SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ)
            return note_failure();
    }
    while (state_ == State::open) {
        char buffer[16 * 1024];
        size_t count = 0;
        if (SSL_read_ex(ssl_.get(), buffer, sizeof buffer, &count) == 1) {
            plain_.append(buffer, count);
            continue;
        }
        int error = SSL_get_error(ssl_.get(), 0);
        if (error == SSL_ERROR_WANT_READ) return;
        if (error != SSL_ERROR_ZERO_RETURN) return note_failure();
        state_ = State::ended;
    }
}

void Client::note_failure() {
    state_ = State::failed;
    error_ = words_of_failure(ssl_.get());
}

}  // namespace proxify::tls
