// SPDX-License-Identifier: Apache-2.0
#include "load/link.h"

#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>

namespace proxify::bench {

/// Of plain bytes in one record.
static constexpr size_t record_max = 16 * 1024;

std::unique_ptr<Tls> Tls::make(const Options& options, Errors& errors) {
    return options.tls.empty() ? nullptr : std::make_unique<Tls>(options, errors);
}

Tls::Tls(const Options& options, Errors& errors)
    : errors_(errors),
      context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free),
      resumes_(options.resumes) {
    SSL_CTX* ctx = context_.get();
    if (!ctx) die("cannot set up TLS");
    if (options.tls != "1.2" && options.tls != "1.3") die("--tls: 1.2 or 1.3");
    const int version = options.tls == "1.2" ? TLS1_2_VERSION : TLS1_3_VERSION;
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    // One of each, so that all programs do the same work.
    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES256-GCM-SHA384");
    SSL_CTX_set1_groups_list(ctx, "X25519:P-256");  // the second for the certificate, in TLS 1.2
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // Some end the connection without the end of TLS; at the end of bulk the sums are compared.
    SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
    // One call for all that came, so that the load is not what limits.
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, bulk_chunk / 2);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_app_data(ctx, this);
    if (resumes_) SSL_CTX_sess_set_new_cb(ctx, keep);
}

/// The newest session is what all connections resume.
int Tls::keep(SSL* ssl, SSL_SESSION* session) {
    static_cast<Tls*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)))->session_.reset(session);
    return 1;
}

void Link::Free::operator()(SSL* ssl) const {
    // A session that had no end is one that OpenSSL does not resume again.
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
}

Link::Link(Fd fd, Tls* tls) : fd_(std::move(fd)), tls_(tls) {
    if (!tls || !fd_) return;
    ssl_.reset(SSL_new(tls->context_.get()));
    SSL_set_fd(ssl_.get(), fd_.get());
    SSL_set_connect_state(ssl_.get());
    asked_to_resume_ = tls->session_ != nullptr;
    if (!asked_to_resume_) return;
    // OpenSSL would have each ticket used once only, and there may be more seats than tickets.
    SSL_SESSION* copy = SSL_SESSION_dup(tls->session_.get());
    SSL_set_session(ssl_.get(), copy);
    SSL_SESSION_free(copy);
}

ssize_t Link::failed(int result) {
    switch (SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE:
            errno = EAGAIN;
            break;
        case SSL_ERROR_ZERO_RETURN:
            return 0;
        case SSL_ERROR_SYSCALL:
            if (errno == 0) errno = ECONNRESET;
            break;
        default:
            if (const char* words = ERR_reason_error_string(ERR_peek_error()))
                tls_->errors_.add(std::string("TLS: ") + words);
            errno = EPROTO;
    }
    return -1;
}

ssize_t Link::send(const void* bytes, size_t size) {
    if (!ssl_) return ::send(fd(), bytes, size, MSG_NOSIGNAL);
    ERR_clear_error();
    size_t taken = 0;
    while (taken < size) {
        size_t count = 0;
        if (SSL_write_ex(ssl_.get(), static_cast<const char*>(bytes) + taken, size - taken,
                         &count) == 1) {
            taken += count;
            owed_ = 0;
            continue;
        }
        const ssize_t result = failed(0);
        if (result < 0 && errno == EAGAIN && SSL_is_init_finished(ssl_.get()))
            owed_ = std::min(size - taken, record_max);
        return taken > 0 ? static_cast<ssize_t>(taken) : result;
    }
    return static_cast<ssize_t>(taken);
}

ssize_t Link::receive(void* room, size_t size) {
    if (!ssl_) return recv(fd(), room, size, 0);
    ERR_clear_error();
    size_t count = 0;
    if (SSL_read_ex(ssl_.get(), room, size, &count) != 1) return failed(0);
    if (!std::exchange(is_checked_, true) &&
        asked_to_resume_ != (SSL_session_reused(ssl_.get()) == 1))
        tls_->errors_.add("a session that was to be resumed was not");
    return static_cast<ssize_t>(count);
}

bool Link::finish() {
    if (ssl_) {
        ERR_clear_error();
        return SSL_shutdown(ssl_.get()) >= 0 || failed(-1) == 0 || errno != EAGAIN;
    }
    shutdown(fd(), SHUT_WR);
    return true;
}

void Link::close() {
    if (ssl_ && SSL_is_init_finished(ssl_.get())) finish();
    ssl_.reset();
    fd_.close();
}

}  // namespace proxify::bench
