// SPDX-License-Identifier: Apache-2.0
#include "tls/connection.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "base/expect.h"
#include "tls/openssl.h"

namespace proxify::tls {

/// More than this is never owed but to a peer that makes us talk and does not listen.
static constexpr size_t owed_max = 256 * 1024;
/// Plain bytes in one record.
static constexpr size_t record_max = 16 * 1024;

/// What OpenSSL takes for its transport: it reads what the connection has been given, and what it
/// writes goes onto the wire at once, or is owed. It takes everything.
struct Pipe {
    static int read(BIO* bio, char* out, size_t room, size_t* size) {
        auto& from = static_cast<Connection*>(BIO_get_data(bio))->came_;
        BIO_clear_retry_flags(bio);
        *size = std::min(room, from.size());
        if (*size == 0) {
            BIO_set_retry_read(bio);
            return 0;
        }
        std::memcpy(out, from.data(), *size);
        from = from.subspan(*size);
        return 1;
    }

    static int write(BIO* bio, const char* bytes, size_t count, size_t* taken) {
        auto& self = *static_cast<Connection*>(BIO_get_data(bio));
        BIO_clear_retry_flags(bio);
        if (!self.wire_) {
            self.owed_.append(bytes, count);
            *taken = count;
            return 1;
        }
        *taken = 0;
        while (*taken < count && self.owed_.empty()) {
            const int sent = self.wire_->send(
                {reinterpret_cast<const std::byte*>(bytes) + *taken, count - *taken});
            if (sent == -EAGAIN) break;
            if (sent < 0) {
                self.wire_error_ = sent;
                return 0;
            }
            *taken += static_cast<size_t>(sent);
        }
        // OpenSSL never learns that a wire is full: in the middle of a record it could not answer a
        // peer who wants other keys, and would give up.
        self.owed_.append(bytes + *taken, count - *taken);
        *taken = count;
        return 1;
    }

    static long control(BIO*, int command, long, void*) {
        return command == BIO_CTRL_FLUSH ? 1 : 0;
    }

    static const BIO_METHOD* method() {
        static const BIO_METHOD* const made = [] {
            BIO_METHOD* one = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
            BIO_meth_set_read_ex(one, read);
            BIO_meth_set_write_ex(one, write);
            BIO_meth_set_ctrl(one, control);
            return one;
        }();
        return made;
    }
};

void Connection::Free::operator()(ssl_st* ssl) const {
    SSL_free(ssl);
}

Connection::Connection(const ServerContext& context) : context_(context.shared_) {
    begin(SSL_new(context.shared_->contexts.front().get()));
    SSL_set_app_data(ssl_.get(), const_cast<ServerContext::Shared*>(context.shared_.get()));
    SSL_set_accept_state(ssl_.get());
}

Connection::Connection(const ClientContext& context, const std::string& name,
                       std::string_view resume)
    : context_(context.shared_), resume_(resume) {
    begin(SSL_new(context.shared_->context.get()));
    SSL* ssl = ssl_.get();
    SSL_set_app_data(ssl, const_cast<ClientContext::Shared*>(context.shared_.get()));
    SSL_set_connect_state(ssl);
    const bool is_ip = Ip::parse(name).has_value();
    if (!is_ip && !name.empty()) SSL_set_tlsext_host_name(ssl, name.c_str());
    if (context.shared_->verifies && !name.empty())
        expect((is_ip ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str())
                      : SSL_set1_host(ssl, name.c_str())) == 1,
               "the name to verify is set");
    if (resume_.empty()) return;
    SSL_set_ex_data(ssl, resume_index(), &resume_);
    std::lock_guard guard(context.shared_->lock);
    auto known = context.shared_->sessions.find(resume_);
    if (known != context.shared_->sessions.end() && !has_expired(known->second.get()))
        SSL_set_session(ssl, known->second.get());
}

Connection::~Connection() = default;

void Connection::begin(ssl_st* ssl) {
    expect(ssl != nullptr, "there is memory for a TLS connection");
    ssl_.reset(ssl);
    SSL_set_ex_data(ssl, refused_index(), &refused_);
    BIO* pipe = BIO_new(Pipe::method());
    BIO_set_data(pipe, this);
    BIO_set_init(pipe, 1);
    SSL_set_bio(ssl, pipe, pipe);  // owns it from here on
}

void Connection::note_failure() {
    has_failed_ = true;
    is_about_certificate_ = tls::is_about_certificate();
    error_ = words_of_failure(ssl_.get());
}

Connection::Shaken Connection::shake_hands(std::span<const std::byte>& wire) {
    if (has_failed_) return Shaken::failed;
    ERR_clear_error();
    came_ = wire;
    const int result = SSL_do_handshake(ssl_.get());
    wire = std::exchange(came_, {});
    if (result == 1) return Shaken::done;
    if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ && owed_.size() <= owed_max)
        return Shaken::hungry;
    note_failure();
    return Shaken::failed;
}

int Connection::flush(Wire& wire) {
    while (!owed_.empty()) {
        const int sent = wire.send(std::as_bytes(std::span(owed_)));
        if (sent < 0) return sent;
        owed_.erase(0, static_cast<size_t>(sent));
    }
    if (owed_.capacity() > 1024) owed_ = {};  // a handshake's, and none comes again
    return 0;
}

const char* Connection::version() const {
    return SSL_get_version(ssl_.get());
}

const char* Connection::cipher() const {
    return SSL_get_cipher_name(ssl_.get());
}

bool Connection::is_resumed() const {
    return SSL_session_reused(ssl_.get()) == 1;
}

std::string Connection::alpn() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return {reinterpret_cast<const char*>(name), size};
}

std::string Connection::server_name() const {
    const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
    return name ? name : "";
}

std::optional<CertificateFacts> Connection::peer() const {
    X509* certificate = SSL_get0_peer_certificate(ssl_.get());
    if (!certificate) return std::nullopt;
    return facts_of(certificate);
}

Codec::Opened Connection::open(std::span<const std::byte>& wire, std::span<std::byte> room,
                               size_t& size) {
    size = 0;
    if (has_failed_) return Opened::failed;
    ERR_clear_error();
    came_ = wire;
    Opened opened = Opened::hungry;
    // As many records as there are, while one more is sure to fit.
    while (room.size() - size >= open_min) {
        size_t count = 0;
        if (SSL_read_ex(ssl_.get(), room.data() + size, room.size() - size, &count) == 1) {
            size += count;
            continue;
        }
        const int error = SSL_get_error(ssl_.get(), 0);
        if (error == SSL_ERROR_ZERO_RETURN) {
            opened = Opened::ended;
        } else if (error != SSL_ERROR_WANT_READ || owed_.size() > owed_max) {
            note_failure();
            opened = Opened::failed;
        }
        break;
    }
    wire = std::exchange(came_, {});
    return size > 0 ? Opened::bytes : opened;
}

int Connection::send(std::span<const std::byte> plain, Wire& wire) {
    if (const int error = flush(wire); error < 0) return error;
    if (has_failed_) return -EPIPE;
    if (plain.empty()) return 0;
    // What was owed until now had come before, and comes again.
    size_t taken = std::min(std::exchange(encoded_, 0), plain.size());
    ERR_clear_error();
    int error = 0;
    while (taken < plain.size() && error == 0) {
        const auto rest = plain.subspan(taken + encoded_);
        // Two records go with one call; a single one goes out of OpenSSL's own buffer.
        const bool one_more = encoded_ == 0 && rest.size() > record_max;
        if (one_more) owed_.reserve(2 * record_max + 256);
        wire_ = one_more ? nullptr : &wire;
        size_t count = 0;  // of one record
        if (SSL_write_ex(ssl_.get(), rest.data(), rest.size(), &count) != 1) {
            error = std::exchange(wire_error_, 0);
            if (error == 0) {
                note_failure();
                error = -EPIPE;
            }
            break;
        }
        encoded_ += count;
        if (one_more) continue;
        error = flush(wire);
        if (error == 0) taken += std::exchange(encoded_, 0);
    }
    wire_ = nullptr;
    return taken > 0 ? static_cast<int>(taken) : error;
}

int Connection::finish(Wire& wire) {
    if (!has_finished_ && !has_failed_) {
        ERR_clear_error();
        SSL_shutdown(ssl_.get());
        ERR_clear_error();
        has_finished_ = true;
    }
    return flush(wire);
}

}  // namespace proxify::tls
