// SPDX-License-Identifier: Apache-2.0
// Link: what the works send and receive over, a socket as it is or TLS over one. TLS is OpenSSL's
// own way to use a socket, which is nobody's who is measured.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <memory>

#include "load/load.h"

namespace proxify::bench {

/// Our side of all TLS connections; null when there is to be none.
class Tls {
  public:
    static std::unique_ptr<Tls> make(const Options& options, Errors& errors);
    explicit Tls(const Options& options, Errors& errors);

  private:
    friend class Link;
    static int keep(SSL* ssl, SSL_SESSION* session);

    Errors& errors_;
    std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
    bool resumes_;
    std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)> session_{nullptr, SSL_SESSION_free};
};

class Link {
  public:
    Link() = default;
    Link(Fd fd, Tls* tls);

    explicit operator bool() const { return static_cast<bool>(fd_); }
    int fd() const { return fd_.get(); }

    // As send() and recv() of a socket that does not block, handshake included.

    ssize_t send(const void* bytes, size_t size);
    ssize_t receive(void* room, size_t size);
    /// More came than was received, and the socket may say nothing of it.
    bool has_waiting() const { return ssl_ && SSL_has_pending(ssl_.get()) == 1; }
    /// After EAGAIN: so many of the bytes are under way already, and have to come again.
    size_t owed() const { return owed_; }
    /// Says that nothing more comes. False when that has to be tried again.
    bool finish();
    void close();

  private:
    ssize_t failed(int result);

    struct Free {
        void operator()(SSL* ssl) const;
    };
    Fd fd_;
    Tls* tls_ = nullptr;
    std::unique_ptr<SSL, Free> ssl_;
    size_t owed_ = 0;
    bool asked_to_resume_ = false;
    bool is_checked_ = false;
};

}  // namespace proxify::bench
