// SPDX-License-Identifier: Apache-2.0
// Connections of TLS, ours with ours and with OpenSSL's own, over wires that are strings.
#include "tls/connection.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/format.h"
#include "support/catch.h"
#include "support/certificates.h"
#include "support/eventually.h"

using namespace proxify;
using namespace proxify::test;
using tls::ClientContext;
using tls::ClientSettings;
using tls::Connection;
using tls::Identity;
using tls::Pem;
using tls::ServerContext;
using tls::ServerSettings;
using tls::Version;

namespace {

Pem pem(std::string text, std::string name = "some.pem") {
    return {.name = std::move(name), .text = std::move(text)};
}

Identity identity(const Leaf& leaf) {
    return {.certificate = pem(leaf.certificate, "site.pem"), .key = pem(leaf.key, "site.key")};
}

/// One way of a wire. It may refuse, or take little at a time.
struct Way final : Wire {
    std::string bytes;
    size_t at_once = SIZE_MAX;  ///< most that it takes of what it is given
    bool refuses_every_other = false, is_blocked = false;
    int error = 0;
    size_t calls = 0;

    int send(std::span<const std::byte> given) override {
        ++calls;
        if (error != 0) return error;
        if (is_blocked) return -EAGAIN;
        if (refuses_every_other && (refused_ = !refused_)) return -EAGAIN;
        const size_t count = std::min(at_once, given.size());
        bytes.append(reinterpret_cast<const char*>(given.data()), count);
        return static_cast<int>(count);
    }

  private:
    bool refused_ = false;
};

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

/// One of the two who speak, and the wire that it speaks on.
struct Side {
    explicit Side(std::unique_ptr<Connection> made) : connection(std::move(made)) {}

    std::unique_ptr<Connection> connection;
    Way out = {};
    bool is_done = false;
    Codec::Opened last = Codec::Opened::hungry;  ///< how listen() ended

    /// Goes on with the first bytes of what came. False when it has failed.
    bool shake(std::string& from, size_t most = SIZE_MAX) {
        auto given = bytes_of(std::string_view(from).substr(0, most));
        const size_t before = given.size();
        const auto shaken = connection->shake_hands(given);
        from.erase(0, before - given.size());
        flush();
        is_done = shaken == Connection::Shaken::done;
        return shaken != Connection::Shaken::failed;
    }
    void flush() {
        for (int i = 0, error = -EAGAIN; error == -EAGAIN && !out.is_blocked; ++i) {
            REQUIRE(i < 100'000);
            error = connection->flush(out);
        }
    }
    /// All of it, however reluctant the wire.
    void say(std::string_view plain) {
        for (int i = 0; !plain.empty(); ++i) {
            REQUIRE(i < 1'000'000);
            const int sent = connection->send(bytes_of(plain), out);
            if (sent == -EAGAIN) continue;
            REQUIRE(sent > 0);
            plain.remove_prefix(static_cast<size_t>(sent));
        }
    }
    void end() {
        int error = -EAGAIN;
        for (int i = 0; error == -EAGAIN && i < 1000; ++i) error = connection->finish(out);
        REQUIRE(error == 0);
    }
    /// What can be made of what came, in pieces of so many bytes.
    std::string listen(std::string& from, size_t piece = SIZE_MAX) {
        std::string plain, room(32 << 10, '\0');
        for (;;) {
            auto given = bytes_of(std::string_view(from).substr(0, piece));
            const size_t before = given.size();
            size_t size = 0;
            last = connection->open(given, std::as_writable_bytes(std::span(room)), size);
            from.erase(0, before - given.size());
            if (last == Codec::Opened::bytes) plain += room.substr(0, size);
            if (last == Codec::Opened::hungry && from.empty()) return plain;
            if (last == Codec::Opened::ended || last == Codec::Opened::failed) return plain;
        }
    }
};

struct Pair {
    Side client, server;

    Pair(const ServerContext& servers, const ClientContext& clients, const std::string& name = {},
         std::string_view resume = {})
        : client(std::make_unique<Connection>(clients, name, resume)),
          server(std::make_unique<Connection>(servers)) {}

    /// Until both are done or one has failed; in pieces of so many bytes.
    bool shake(size_t piece = SIZE_MAX) {
        for (int i = 0; i < 100'000; ++i) {
            const bool goes_on = client.shake(server.out.bytes, piece);
            if (!server.shake(client.out.bytes, piece) || !goes_on) return false;
            if (client.is_done && server.is_done) {
                // What a server sends for the next time.
                client.listen(server.out.bytes);
                return true;
            }
        }
        FAIL("the handshake does not end");
        return false;
    }
    /// Who failed says why; of the other this is no more than an alert.
    std::string error() {
        shake();
        return server.connection->error();
    }
    std::string client_error() {
        shake();
        return client.connection->error();
    }
};

/// A peer that does what ours never would: OpenSSL as it is, of TLS 1.2 at most unless it is told.
class Foreign {
  public:
    /// A client.
    explicit Foreign(const std::string& ciphers = {}, int max_version = TLS1_2_VERSION)
        : Foreign(TLS_client_method(), max_version) {
        if (!ciphers.empty())
            REQUIRE(SSL_set_cipher_list(ssl(), (ciphers + ":@SECLEVEL=0").c_str()));
        SSL_set_connect_state(ssl());
    }
    static Foreign client_of_any(int version) {
        Foreign peer("ALL", version);
        SSL_set_min_proto_version(peer.ssl(), version);
        return peer;
    }
    static Foreign server(const Leaf& leaf) {
        Foreign peer(TLS_server_method(), TLS1_2_VERSION);
        BIO* pem = BIO_new_mem_buf(leaf.certificate.data(), -1);
        X509* certificate = PEM_read_bio_X509(pem, nullptr, nullptr, nullptr);
        BIO_free(pem);
        pem = BIO_new_mem_buf(leaf.key.data(), -1);
        EVP_PKEY* key = PEM_read_bio_PrivateKey(pem, nullptr, nullptr, nullptr);
        BIO_free(pem);
        REQUIRE(SSL_CTX_use_certificate(peer.context_.get(), certificate) == 1);
        REQUIRE(SSL_CTX_use_PrivateKey(peer.context_.get(), key) == 1);
        X509_free(certificate);
        EVP_PKEY_free(key);
        return peer.another();
    }
    /// The same server for another client.
    Foreign another() {
        SSL_CTX_up_ref(context_.get());
        Foreign peer(context_.get());
        SSL_set_accept_state(peer.ssl());
        return peer;
    }

    SSL* ssl() { return ssl_.get(); }
    void ask_for(const std::string& name) { SSL_set_tlsext_host_name(ssl(), name.c_str()); }
    void resume(SSL_SESSION* session) { SSL_set_session(ssl(), session); }

    /// Until both are done or one has failed.
    bool shake(Side& with) {
        for (int i = 0; i < 100; ++i) {
            const int result = SSL_do_handshake(ssl());
            const bool waits = SSL_get_error(ssl(), result) == SSL_ERROR_WANT_READ;
            ERR_clear_error();
            std::string said = take();
            if (!said.empty() || !with.is_done)
                if (!with.shake(said)) return false;
            give(with.out.bytes);
            if (result == 1 && with.is_done) return true;
            if (result != 1 && !waits) return false;
        }
        FAIL("the handshake does not end");
        return false;
    }
    /// What it has to say.
    std::string take() {
        BIO* out = SSL_get_wbio(ssl());
        std::string bytes(BIO_ctrl_pending(out), '\0');
        if (!bytes.empty()) BIO_read(out, bytes.data(), static_cast<int>(bytes.size()));
        return bytes;
    }
    void give(std::string& bytes) {
        if (!bytes.empty())
            BIO_write(SSL_get_rbio(ssl()), bytes.data(), static_cast<int>(bytes.size()));
        bytes.clear();
    }
    std::string read() {
        std::string text(32 << 10, '\0');
        size_t size = 0;
        std::string all;
        while (SSL_read_ex(ssl(), text.data(), text.size(), &size) == 1)
            all += text.substr(0, size);
        ERR_clear_error();
        return all;
    }
    void say(const std::string& text) {
        REQUIRE(SSL_write(ssl(), text.data(), static_cast<int>(text.size())) ==
                static_cast<int>(text.size()));
    }
    std::string fingerprint() {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned size = 0;
        X509_digest(SSL_get0_peer_certificate(ssl()), EVP_sha256(), digest, &size);
        std::string text;
        for (unsigned i = 0; i < size; ++i) text += format("{:02x}", digest[i]);
        return text;
    }

  private:
    Foreign(const SSL_METHOD* method, int max_version) : Foreign(SSL_CTX_new(method)) {
        SSL_CTX_set_max_proto_version(context_.get(), max_version);
        SSL_set_max_proto_version(ssl(), max_version);
    }
    explicit Foreign(SSL_CTX* context) : context_(context), ssl_(SSL_new(context)) {
        BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
        BIO_set_mem_eof_return(in, -1);
        SSL_set_bio(ssl_.get(), in, out);
    }
    struct Free {
        void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
        void operator()(SSL* ssl) const { SSL_free(ssl); }
    };
    std::unique_ptr<SSL_CTX, Free> context_;
    std::unique_ptr<SSL, Free> ssl_;
};

ServerContext must(Result<ServerContext> opened) {
    if (!opened) FAIL(opened.error().text());
    return *std::move(opened);
}

ClientContext must(Result<ClientContext> opened) {
    if (!opened) FAIL(opened.error().text());
    return *std::move(opened);
}

const Authority& authority() {
    static const Authority one("test CA");
    return one;
}

const Leaf& site() {
    static const Leaf one =
        authority().leaf({.cn = "www.example.org", .names = {"DNS:www.example.org"}});
    return one;
}

ServerContext server_of(const Leaf& leaf) {
    return must(ServerContext::open({.identities = {identity(leaf)}}));
}

ClientContext trusting(const Authority& ca) {
    return must(ClientContext::open({.ca = pem(ca.certificate())}));
}

ClientContext client_of(const Leaf& leaf) {
    return must(
        ClientContext::open({.ca = pem(authority().certificate()), .identity = identity(leaf)}));
}

/// A server that asks its clients who they are.
ServerSettings asking(std::vector<std::string> allowed = {}) {
    return {.identities = {identity(site())},
            .client_ca = pem(authority().certificate()),
            .require_client_certificate = true,
            .allowed_names = std::move(allowed)};
}

/// An RSA key takes long to make.
const Leaf& rsa_site() {
    static const Leaf one =
        authority().leaf({.cn = "two", .names = {"DNS:two.example.org"}, .key = KeyKind::rsa});
    return one;
}

std::string some_text(size_t size) {
    std::string text(size, '\0');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 2654435761u) >> 13);
    return text;
}

std::string words_of(const Result<ServerContext>& opened) {
    return opened ? "it opens" : opened.error().what;
}

}  // namespace

TEST_CASE("two connections agree on TLS 1.3, or 1.2, and say on what", "[P-47]") {
    Pair newest(server_of(site()), trusting(authority()), "www.example.org");
    REQUIRE(newest.shake());
    CHECK(std::string(newest.server.connection->version()) == "TLSv1.3");
    CHECK(std::string(newest.client.connection->cipher()).starts_with("TLS_"));
    CHECK(newest.server.connection->server_name() == "www.example.org");
    CHECK_FALSE(newest.server.connection->peer());
    REQUIRE(newest.client.connection->peer());
    CHECK(newest.client.connection->peer()->fingerprint == site().fingerprint);

    Pair strict(must(ServerContext::open(
                    {.identities = {identity(site())}, .min_version = Version::tls_1_3})),
                trusting(authority()), "www.example.org");
    CHECK(strict.shake());
}

TEST_CASE("bytes arrive over every kind of wire, both ways", "[P-47]") {
    struct Kind {
        const char* name;
        size_t piece, at_once;
        bool refuses;
    };
    for (const auto& [name, piece, at_once, refuses] :
         {Kind{"all at once", SIZE_MAX, SIZE_MAX, false}, Kind{"byte by byte", 1, 1, false},
          Kind{"refusals", SIZE_MAX, 700, true}, Kind{"byte by byte, refusals", 3, 1, true}}) {
        INFO(name);
        Pair pair(server_of(site()), trusting(authority()), "www.example.org");
        for (Side* side : {&pair.client, &pair.server}) {
            side->out.at_once = at_once;
            side->out.refuses_every_other = refuses;
        }
        REQUIRE(pair.shake(piece));
        const std::string up = some_text(20'000), down = some_text(17'001);
        pair.client.say(up);
        pair.server.say(down);
        CHECK(pair.client.out.bytes.find(up.substr(0, 64)) == std::string::npos);
        CHECK(pair.server.listen(pair.client.out.bytes, piece) == up);
        CHECK(pair.client.listen(pair.server.out.bytes, piece) == down);
    }
}

TEST_CASE("a full wire takes nothing twice and loses nothing, whatever comes meanwhile", "[P-47]") {
    Pair pair(server_of(site()), trusting(authority()), "www.example.org");
    REQUIRE(pair.shake());
    const std::string up = some_text(50'000);
    std::string_view left = up;
    // The wire takes a part of a record and no more; meanwhile the other side speaks.
    pair.client.out.at_once = 10;
    pair.client.out.refuses_every_other = true;
    std::string heard;
    for (size_t round = 0; !left.empty(); ++round) {
        const int sent = pair.client.connection->send(bytes_of(left), pair.client.out);
        if (sent > 0) left.remove_prefix(static_cast<size_t>(sent));
        if (sent < 0) REQUIRE(sent == -EAGAIN);
        pair.server.say("x");
        heard += pair.client.listen(pair.server.out.bytes);
        REQUIRE(heard.size() == round + 1);
    }
    CHECK(pair.server.listen(pair.client.out.bytes) == up);
}

TEST_CASE("a chunk of a stream goes onto the wire with one call", "[P-47]") {
    Pair pair(server_of(site()), trusting(authority()), "www.example.org");
    REQUIRE(pair.shake());
    // One record, two of them, and one more than two.
    for (const auto& [size, calls] : {std::pair<size_t, size_t>{64, 1},
                                      {16 * 1024, 1},
                                      {16 * 1024 + 1, 1},
                                      {32 * 1024, 1},
                                      {33 * 1024, 2}}) {
        pair.client.out.calls = 0;
        const std::string text = some_text(size);
        CHECK(pair.client.connection->send(bytes_of(text), pair.client.out) ==
              static_cast<int>(size));
        CHECK(pair.client.out.calls == calls);
        CHECK(pair.server.listen(pair.client.out.bytes) == text);
    }
}

TEST_CASE("a wire that breaks in the middle of two records is the error of who sends", "[P-47]") {
    Pair pair(server_of(site()), trusting(authority()), "www.example.org");
    REQUIRE(pair.shake());
    const std::string text = some_text(32 * 1024);
    pair.client.out.at_once = 20'000;
    pair.client.out.refuses_every_other = true;
    CHECK(pair.client.connection->send(bytes_of(text), pair.client.out) == -EAGAIN);
    pair.client.out.error = -ECONNRESET;
    CHECK(pair.client.connection->send(bytes_of(text), pair.client.out) == -ECONNRESET);
}

TEST_CASE("a wire that breaks is the error of who sends", "[P-47]") {
    Pair pair(server_of(site()), trusting(authority()), "www.example.org");
    REQUIRE(pair.shake());
    pair.client.out.error = -ECONNRESET;
    CHECK(pair.client.connection->send(bytes_of("lost"), pair.client.out) == -ECONNRESET);
}

TEST_CASE("each side ends by itself, and what the other says then still arrives", "[P-47]") {
    Pair pair(server_of(site()), trusting(authority()), "www.example.org");
    REQUIRE(pair.shake());
    pair.client.say("the question");
    pair.client.out.refuses_every_other = true;
    pair.client.end();
    CHECK(pair.client.connection->has_finished());
    CHECK(pair.server.listen(pair.client.out.bytes) == "the question");
    CHECK(pair.server.last == Codec::Opened::ended);
    CHECK_FALSE(pair.server.connection->has_finished());
    const std::string answer = some_text(40'000);
    pair.server.say(answer);
    pair.server.end();
    CHECK(pair.client.listen(pair.server.out.bytes) == answer);
    CHECK(pair.client.last == Codec::Opened::ended);
}

TEST_CASE("an end before all of a record has come is none", "[P-47]") {
    Pair pair(server_of(site()), trusting(authority()), "www.example.org");
    REQUIRE(pair.shake());
    pair.client.say("half of it");
    pair.client.out.bytes.pop_back();
    CHECK(pair.server.listen(pair.client.out.bytes).empty());
    CHECK(pair.server.last == Codec::Opened::hungry);
}

TEST_CASE("a byte that was changed on the way ends it, and the other hears of it", "[P-47]") {
    Pair pair(server_of(site()), trusting(authority()), "www.example.org");
    REQUIRE(pair.shake());
    pair.client.say("good");
    CHECK(pair.server.listen(pair.client.out.bytes) == "good");
    pair.client.say("pay 10 to Alice");
    pair.client.out.bytes[pair.client.out.bytes.size() - 3] ^= 1;
    CHECK(pair.server.listen(pair.client.out.bytes).empty());
    CHECK(pair.server.last == Codec::Opened::failed);
    CHECK(pair.server.connection->error() == "decryption failed or bad record mac");
    // The alert goes out, and after it nothing does.
    CHECK(pair.server.connection->send({}, pair.server.out) == -EPIPE);
    CHECK(pair.server.connection->send(bytes_of("more"), pair.server.out) == -EPIPE);
    CHECK(pair.client.listen(pair.server.out.bytes).empty());
    CHECK(pair.client.last == Codec::Opened::failed);
    CHECK(pair.client.connection->error().contains("alert bad record mac"));
}

TEST_CASE("what is no TLS is a failure in words, at once", "[P-47]") {
    for (const auto& [said, words] :
         std::map<std::string, std::string>{{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http request"},
                                            {"SSH-2.0-OpenSSH_9.2\r\n", "wrong version number"},
                                            {std::string(64, '\0'), "wrong version number"},
                                            {std::string(64, '\xff'), "wrong version number"}}) {
        INFO(said);
        Side server(std::make_unique<Connection>(server_of(site())));
        std::string given = said;
        CHECK_FALSE(server.shake(given));
        CHECK(server.connection->error() == words);
        given = "more";
        CHECK_FALSE(server.shake(given));
        CHECK(server.connection->error() == words);
    }
}

TEST_CASE("the later connections to a server resume what the first agreed on", "[P-47]") {
    const ServerContext servers = server_of(site());
    const ClientContext clients = trusting(authority());
    auto is_resumed = [&](const ServerContext& with, const std::string& key) {
        Pair pair(with, clients, "www.example.org", key);
        REQUIRE(pair.shake());
        CHECK(pair.server.connection->is_resumed() == pair.client.connection->is_resumed());
        pair.client.say("hello again");
        CHECK(pair.server.listen(pair.client.out.bytes) == "hello again");
        for (Side* side : {&pair.client, &pair.server}) side->end();
        return pair.client.connection->is_resumed();
    };
    CHECK_FALSE(is_resumed(servers, "a"));
    CHECK(is_resumed(servers, "a"));
    CHECK(is_resumed(servers, "a"));
    CHECK_FALSE(is_resumed(servers, "b"));
    CHECK_FALSE(is_resumed(servers, ""));
    CHECK_FALSE(is_resumed(servers, ""));
    // A server with other keys does not know what was agreed on, and shakes hands anew.
    CHECK_FALSE(is_resumed(server_of(site()), "a"));
}

TEST_CASE("TLS 1.2 is resumed as well, by clients of ours and of others", "[P-47]") {
    const ServerContext servers = server_of(site());
    Foreign first, later;
    {
        Side server(std::make_unique<Connection>(servers));
        REQUIRE(first.shake(server));
        CHECK(std::string(server.connection->version()) == "TLSv1.2");
        CHECK_FALSE(server.connection->is_resumed());
    }
    Side server(std::make_unique<Connection>(servers));
    later.resume(SSL_get0_session(first.ssl()));
    REQUIRE(later.shake(server));
    CHECK(server.connection->is_resumed());

    const ClientContext clients = trusting(authority());
    Foreign one = Foreign::server(site());
    for (const bool is_resumed : {false, true}) {
        Foreign peer = one.another();
        Side client(std::make_unique<Connection>(clients, "www.example.org", "a"));
        REQUIRE(peer.shake(client));
        CHECK(std::string(client.connection->version()) == "TLSv1.2");
        CHECK(client.connection->is_resumed() == is_resumed);
        client.end();
    }
}

TEST_CASE("nothing older than TLS 1.2 is spoken, with 1.3 at least nothing older than that",
          "[P-47]") {
    for (const int version : {TLS1_VERSION, TLS1_1_VERSION}) {
        Foreign old = Foreign::client_of_any(version);
        Side server(std::make_unique<Connection>(server_of(site())));
        CHECK_FALSE(old.shake(server));
        CHECK(server.connection->error() == "unsupported protocol");
    }
    Foreign old;
    Side server(std::make_unique<Connection>(must(
        ServerContext::open({.identities = {identity(site())}, .min_version = Version::tls_1_3}))));
    CHECK_FALSE(old.shake(server));
    CHECK(server.connection->error() == "unsupported protocol");
}

TEST_CASE("who wants to shake hands again is told that it will not be, and goes on", "[P-47]") {
    Foreign client;
    Side server(std::make_unique<Connection>(server_of(site())));
    REQUIRE(client.shake(server));
    SSL_renegotiate(client.ssl());
    SSL_do_handshake(client.ssl());
    std::string said = client.take();
    REQUIRE_FALSE(said.empty());
    CHECK(server.listen(said).empty());
    CHECK(server.last == Codec::Opened::hungry);
    // Without a word of the server's own.
    CHECK(server.connection->send({}, server.out) == 0);
    CHECK_FALSE(server.out.bytes.empty());
    client.give(server.out.bytes);
    client.read();
    CHECK(std::string(server.connection->version()) == "TLSv1.2");
}

TEST_CASE("keys that are to change in the middle of a full wire change, and nothing is lost",
          "[P-47]") {
    Foreign client("", TLS1_3_VERSION);
    Side server(std::make_unique<Connection>(server_of(site())));
    REQUIRE(client.shake(server));
    client.read();
    const std::string answer = some_text(200'000);
    std::string_view left = answer;
    std::string heard;
    for (int round = 0; !left.empty(); ++round) {
        // A part of a record is on its way when the client asks for other keys.
        server.out.is_blocked = false;
        server.out.at_once = 5'000;
        server.out.refuses_every_other = true;
        const int sent = server.connection->send(bytes_of(left), server.out);
        if (sent > 0) left.remove_prefix(static_cast<size_t>(sent));
        REQUIRE(round < 1000);
        REQUIRE(SSL_key_update(client.ssl(), SSL_KEY_UPDATE_REQUESTED) == 1);
        client.say("k");
        std::string said = client.take();
        const std::string asked = server.listen(said);
        INFO(server.connection->error());
        REQUIRE(server.last == Codec::Opened::hungry);
        REQUIRE(asked == "k");
        client.give(server.out.bytes);
        heard += client.read();
    }
    server.out.refuses_every_other = false;
    CHECK(server.connection->send({}, server.out) == 0);
    client.give(server.out.bytes);
    heard += client.read();
    CHECK(heard == answer);
}

TEST_CASE("the certificate is the one for the name that the client asks for", "[P-47]") {
    const Leaf www = authority().leaf({.cn = "www", .names = {"DNS:www.example.org"}});
    const Leaf any =
        authority().leaf({.cn = "any", .names = {"DNS:*.example.org", "DNS:example.net"}});
    const ServerContext servers =
        must(ServerContext::open({.identities = {identity(site()), identity(any), identity(www)}}));
    const ClientContext clients = must(ClientContext::open(/*verify=*/false));
    auto shown_to = [&](const std::string& name) {
        Pair pair(servers, clients, name);
        REQUIRE(pair.shake());
        return pair.client.connection->peer()->fingerprint;
    };
    CHECK(shown_to("www.example.org") == site().fingerprint);  // the first that has the name
    CHECK(shown_to("mail.example.org") == any.fingerprint);
    CHECK(shown_to("MAIL.Example.ORG") == any.fingerprint);
    CHECK(shown_to("example.net") == any.fingerprint);
    CHECK(shown_to("a.mail.example.org") == site().fingerprint);  // one label only
    CHECK(shown_to("example.org") == site().fingerprint);
    CHECK(shown_to("") == site().fingerprint);
    CHECK(shown_to("127.0.0.1") == site().fingerprint);
    REQUIRE(servers.certificates().size() == 3);
    CHECK(servers.certificates()[1].names ==
          std::vector<std::string>{"*.example.org", "example.net", "any"});
}

TEST_CASE("of certificates for the same names a client gets the kind that it understands",
          "[P-47]") {
    const Leaf ec = authority().leaf({.cn = "two", .names = {"DNS:two.example.org"}});
    const Leaf& rsa = rsa_site();
    const ServerContext servers =
        must(ServerContext::open({.identities = {identity(site()), identity(ec), identity(rsa)}}));
    auto shown_to = [&](const std::string& ciphers) {
        Foreign client(ciphers);
        client.ask_for("two.example.org");
        Side server(std::make_unique<Connection>(servers));
        REQUIRE(client.shake(server));
        return client.fingerprint();
    };
    CHECK(shown_to("ECDHE-RSA-AES128-GCM-SHA256") == rsa.fingerprint);
    CHECK(shown_to("ECDHE-ECDSA-AES128-GCM-SHA256") == ec.fingerprint);
}

TEST_CASE("ciphers without forward secrecy or of old kinds are refused", "[P-47]") {
    const Leaf& rsa = rsa_site();
    for (const std::string cipher : {"AES128-GCM-SHA256", "AES256-SHA", "ECDHE-RSA-AES256-SHA",
                                     "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES256-SHA256"}) {
        INFO(cipher);
        Foreign client(cipher);
        Side server(std::make_unique<Connection>(server_of(rsa)));
        CHECK_FALSE(client.shake(server));
        CHECK(server.connection->error() == "no shared cipher");
    }
    for (const std::string cipher :
         {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"}) {
        INFO(cipher);
        Foreign client(cipher);
        Side server(std::make_unique<Connection>(server_of(rsa)));
        CHECK(client.shake(server));
    }
}

TEST_CASE("a protocol is chosen in the order of the server's list, and none is a failure",
          "[P-47]") {
    const ServerContext servers =
        must(ServerContext::open({.identities = {identity(site())}, .alpn = {"h2", "http/1.1"}}));
    auto chosen = [&](std::vector<std::string> offered) {
        Pair pair(servers,
                  must(ClientContext::open({.verify = false, .alpn = std::move(offered)})));
        if (!pair.shake()) return "failed: " + pair.server.connection->error();
        CHECK(pair.client.connection->alpn() == pair.server.connection->alpn());
        return pair.client.connection->alpn();
    };
    CHECK(chosen({"http/1.1", "h2"}) == "h2");
    CHECK(chosen({"http/1.1"}) == "http/1.1");
    CHECK(chosen({}) == "");
    CHECK(chosen({"smtp"}) == "failed: no application protocol");
}

TEST_CASE("a server is believed only with a good certificate for its name", "[P-47]") {
    const Authority other("other CA");
    const Leaf expired =
        authority().leaf({.names = {"DNS:www.example.org"}, .begins = -48h, .ends = -1h});
    const Leaf early = authority().leaf({.names = {"DNS:www.example.org"}, .begins = 1h});
    const Leaf address = authority().leaf({.names = {"IP:127.0.0.1", "IP:2001:db8::1"}});
    const Leaf by_cn = authority().leaf({.cn = "www.example.org"});
    auto with = [](const Leaf& leaf, const std::string& name, const Authority& ca = authority()) {
        Pair pair(server_of(leaf), trusting(ca), name);
        return pair.client_error();
    };
    CHECK(with(site(), "www.example.org") == "");
    CHECK(with(site(), "") == "");
    CHECK(with(site(), "example.org") == "hostname mismatch");
    CHECK(with(site(), "127.0.0.1") == "IP address mismatch");
    CHECK(with(address, "127.0.0.1") == "");
    CHECK(with(address, "2001:db8::1") == "");
    CHECK(with(address, "127.0.0.2") == "IP address mismatch");
    CHECK(with(by_cn, "www.example.org") == "");
    CHECK(with(expired, "www.example.org") == "certificate has expired");
    CHECK(with(early, "www.example.org") == "certificate is not yet valid");
    CHECK(with(site(), "www.example.org", other) == "unable to get local issuer certificate");

    // Whoever asks for no proof takes them all.
    for (const Leaf* leaf : {&expired, &early, &site()}) {
        Pair pair(server_of(*leaf), must(ClientContext::open(/*verify=*/false)), "other.example");
        CHECK(pair.shake());
    }
    // Beside its name, it may have to be one of some.
    Pair pinned(server_of(site()),
                must(ClientContext::open({.ca = pem(authority().certificate()),
                                          .allowed_names = {"sha256:" + by_cn.fingerprint}})),
                "www.example.org");
    CHECK(pinned.client_error() == "none of the certificate's names is allowed");
    Pair revoked(server_of(site()),
                 must(ClientContext::open({.ca = pem(authority().certificate()),
                                           .crl = pem(authority().revoke({&site()}))})),
                 "www.example.org");
    CHECK(revoked.client_error() == "certificate revoked");
}

TEST_CASE("a client is let in only with a good certificate, and the failure says what is wrong",
          "[P-48]") {
    const Authority other("other CA");
    auto with = [&](const ClientContext& clients, ServerSettings settings = asking()) {
        Pair pair(must(ServerContext::open(settings)), clients, "www.example.org");
        return pair.error();
    };
    const Leaf alice = authority().leaf({.cn = "alice"});
    const Leaf bob = authority().leaf({.cn = "bob"});
    CHECK(with(client_of(alice)) == "");
    CHECK(with(trusting(authority())) == "peer did not return a certificate");
    CHECK(with(client_of(other.leaf({.cn = "mallory"}))) ==
          "unable to get local issuer certificate");
    CHECK(with(client_of(authority().leaf({.cn = "old", .begins = -48h, .ends = -1h}))) ==
          "certificate has expired");
    CHECK(with(client_of(authority().leaf({.cn = "new", .begins = 1h}))) ==
          "certificate is not yet valid");

    ServerSettings revoking = asking();
    revoking.crl = pem(authority().revoke({&bob}));
    CHECK(with(client_of(alice), revoking) == "");
    Pair refused(must(ServerContext::open(revoking)), client_of(bob), "www.example.org");
    CHECK_FALSE(refused.shake());
    REQUIRE(refused.server.connection->refused());
    CHECK(refused.server.connection->refused()->fingerprint == bob.fingerprint);
    CHECK(with(client_of(bob), revoking) == "certificate revoked");

    // Who need not have one, still must not have a bad one.
    ServerSettings optional = asking();
    optional.require_client_certificate = false;
    CHECK(with(trusting(authority()), optional) == "");
    CHECK(with(client_of(other.leaf({.cn = "mallory"})), optional) ==
          "unable to get local issuer certificate");

    // Through one that stands between, when the client shows that too.
    const Authority between = authority().intermediate("between");
    Leaf far = between.leaf({.cn = "far"});
    CHECK(with(client_of(far)) == "unable to get local issuer certificate");
    far.certificate += between.certificate();
    CHECK(with(client_of(far)) == "");
}

TEST_CASE("a client's certificate is allowed by each of its names, and by its fingerprint",
          "[P-48]") {
    const Leaf alice =
        authority().leaf({.cn = "Alice",
                          .names = {"DNS:Alice.example.org", "IP:198.51.100.7", "IP:2001:db8::7",
                                    "URI:spiffe://example.org/alice", "email:alice@example.org"}});
    auto with = [&](const std::string& allowed) {
        Pair pair(must(ServerContext::open(asking({"nobody", allowed}))), client_of(alice),
                  "www.example.org");
        return pair.error();
    };
    for (const std::string good :
         {"Alice", "alice.example.org", "ALICE.example.org", "198.51.100.7", "2001:db8::7",
          "spiffe://example.org/alice", "alice@example.org"}) {
        INFO(good);
        CHECK(with(good) == "");
    }
    CHECK(with("sha256:" + alice.fingerprint) == "");
    std::string large = alice.fingerprint;
    std::ranges::transform(large, large.begin(), [](unsigned char c) { return std::toupper(c); });
    CHECK(with("sha256:" + large) == "");
    for (const std::string bad : {"Bob", "example.org", "198.51.100.8", "spiffe://example.org/",
                                  "sha256:00", "*.example.org"}) {
        INFO(bad);
        CHECK(with(bad) == "none of the certificate's names is allowed");
    }
}

TEST_CASE("who a client is, is known after a resumption as well", "[P-48]") {
    const Leaf alice = authority().leaf({.cn = "alice"});
    const ServerContext servers = must(ServerContext::open(asking({"alice"})));
    const ClientContext clients = client_of(alice);
    for (const bool is_resumed : {false, true}) {
        Pair pair(servers, clients, "www.example.org", "a");
        REQUIRE(pair.shake());
        CHECK(pair.server.connection->is_resumed() == is_resumed);
        REQUIRE(pair.server.connection->peer());
        CHECK(pair.server.connection->peer()->names == std::vector<std::string>{"alice"});
        for (Side* side : {&pair.client, &pair.server}) side->end();
    }
    // Where it is not allowed any more, what was agreed on before is worth nothing.
    Pair later(must(ServerContext::open(asking({"bob"}))), clients, "www.example.org", "a");
    CHECK(later.error() == "none of the certificate's names is allowed");
    // Of whom that was said, is known; what they claim is no identity.
    REQUIRE(later.server.connection->refused());
    CHECK(later.server.connection->refused()->subject == "CN = alice");
}

TEST_CASE("who comes again and again is known no longer than the certificate is good", "[P-48]") {
    const Leaf brief = authority().leaf({.cn = "alice", .ends = std::chrono::seconds(2)});
    const ServerContext servers = must(ServerContext::open(asking({})));
    const ClientContext clients = client_of(brief);
    size_t resumed = 0;
    // Each time with what was agreed on the last time. The certificate's end is a matter of the
    // real clock.
    const bool is_refused = eventually([&] {
        Pair pair(servers, clients, "www.example.org", "a");
        if (!pair.shake()) return pair.server.connection->error() == "certificate has expired";
        resumed += pair.server.connection->is_resumed();
        for (Side* side : {&pair.client, &pair.server}) side->end();
        return false;
    });
    CHECK(is_refused);
    CHECK(resumed > 0);
}

TEST_CASE("a certificate is allowed by its names as they are, and DNS has no large letters",
          "[P-48]") {
    const Leaf alice = authority().leaf({.cn = "alice", .names = {"URI:spiffe://a/b"}});
    for (const std::string bad : {"Alice", "SPIFFE://a/b"}) {
        INFO(bad);
        Pair pair(must(ServerContext::open(asking({bad}))), client_of(alice), "www.example.org");
        CHECK(pair.error() == "none of the certificate's names is allowed");
    }
}

TEST_CASE("a file that is no good is named, with what is wrong in it", "[P-47]") {
    const Leaf& leaf = site();
    auto opened = [](Identity one) {
        return ServerContext::open({.identities = {std::move(one)}});
    };
    CHECK(words_of(opened({pem("", "site.pem"), pem(leaf.key)})) ==
          "site.pem: no certificate can be read from it: no start line");
    CHECK(words_of(opened({pem(leaf.key, "site.pem"), pem(leaf.key)})) ==
          "site.pem: no certificate can be read from it: no start line");
    CHECK(words_of(opened({pem(leaf.certificate), pem("", "site.key")}))
              .starts_with("site.key: no private key can be read from it: "));
    const Leaf other = authority().leaf();
    CHECK(words_of(opened({pem(leaf.certificate, "site.pem"), pem(other.key, "site.key")})) ==
          "site.key: the key is not the one of the certificate in site.pem");
    std::string cut = leaf.certificate;
    cut.resize(cut.size() / 2);
    CHECK(words_of(opened({pem(cut, "site.pem"), pem(leaf.key)}))
              .starts_with("site.pem: no certificate can be read from it: "));

    ServerSettings settings = asking();
    settings.client_ca = pem("no", "ca.pem");
    CHECK(words_of(ServerContext::open(settings)) ==
          "ca.pem: no certificate of an authority can be read from it: no start line");
    settings = asking();
    settings.crl = pem(authority().certificate(), "crl.pem");
    CHECK(words_of(ServerContext::open(settings)) ==
          "crl.pem: no list of revoked certificates can be read from it: no start line");
    // Half of a file of several is not taken for all of it.
    settings = asking();
    settings.client_ca = pem(authority().certificate() + cut, "ca.pem");
    CHECK(words_of(ServerContext::open(settings))
              .starts_with("ca.pem: a certificate of an authority cannot be read: "));
    CHECK(words_of(opened({pem(leaf.certificate + cut, "site.pem"), pem(leaf.key)}))
              .starts_with("site.pem: a certificate of the chain cannot be read: "));
}
