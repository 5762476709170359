// SPDX-License-Identifier: Apache-2.0
// Connection: one end of a TLS connection, as a codec of a stream's bytes. It knows no socket and
// waits for nothing. TLS 1.2 is RFC 5246, TLS 1.3 is RFC 8446; OpenSSL does it.
//
// First hands are shaken: take what came, send what is owed, until done. Then it is a Codec.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/address.h"
#include "base/codec.h"
#include "tls/context.h"

struct ssl_st;
struct bio_st;

namespace proxify::tls {

class Connection final : public Codec {
  public:
    /// Our side of a client's connection.
    explicit Connection(const ServerContext& context);
    /// Our side of a connection to a server. `name` is the server's: sent along (SNI) unless it is
    /// an address, and what a verified certificate must be for; may be empty: then no name is
    /// verified. Of connections with the same `resume` the later ones resume what the earlier ones
    /// had agreed on; empty for none.
    Connection(const ClientContext& context, const std::string& name, std::string_view resume = {});
    Connection(const Connection&) = delete;
    ~Connection() override;

    enum class Shaken { hungry, done, failed };
    /// Goes on as far as `wire` leads, and takes from its front what that needed. What we have to
    /// say is owed from then on, after a failure too.
    Shaken shake_hands(std::span<const std::byte>& wire);
    /// Sends what is owed: 0 when nothing is left, -EAGAIN, or -errno.
    int flush(Wire& wire);

    /// "self-signed certificate", "no shared cipher". OpenSSL's words or ours, none of the peer's.
    const std::string& error() const { return error_; }
    /// Whether that is about a certificate, ours or the peer's.
    bool is_about_certificate() const { return is_about_certificate_; }

    // What was agreed on; once hands are shaken.

    const char* version() const;  ///< "TLSv1.3"
    const char* cipher() const;   ///< "TLS_AES_256_GCM_SHA384"
    bool is_resumed() const;
    std::string alpn() const;         ///< empty when there is none
    std::string server_name() const;  ///< the client's SNI; empty when it sent none
    /// Of the peer's certificate; nothing when it showed none.
    std::optional<CertificateFacts> peer() const;
    /// After a failure: the certificate that was no good, if it was one's fault. The peer's words.
    const std::optional<CertificateFacts>& refused() const { return refused_; }

    Opened open(std::span<const std::byte>& wire, std::span<std::byte> room, size_t& size) override;
    int send(std::span<const std::byte> plain, Wire& wire) override;
    int finish(Wire& wire) override;
    bool has_finished() const override { return has_finished_; }

  private:
    friend struct Pipe;  // what OpenSSL reads from and writes to; connection.cc
    void begin(ssl_st* ssl);
    void note_failure();

    struct Free {
        void operator()(ssl_st* ssl) const;
    };
    std::unique_ptr<ssl_st, Free> ssl_;
    std::shared_ptr<const void> context_;  ///< whose memory OpenSSL's callbacks use
    std::string resume_;
    std::string error_;
    std::optional<CertificateFacts> refused_;
    std::string owed_;                 ///< to the peer
    size_t encoded_ = 0;               ///< bytes in there of whoever will send them again
    std::span<const std::byte> came_;  ///< from the peer; while open() or shake_hands() runs
    Wire* wire_ = nullptr;             ///< for a single record; otherwise what is written is owed
    int wire_error_ = 0;               ///< of that wire
    bool has_finished_ = false;
    bool has_failed_ = false;
    bool is_about_certificate_ = false;
};

}  // namespace proxify::tls
