// SPDX-License-Identifier: Apache-2.0
// TLS with clients and with targets: the real program between other people's.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <csignal>

#include "base/format.h"
#include "support/certificates.h"
#include "support/kernel_test.h"
#include "support/pattern.h"
#include "support/told.h"

using namespace proxify::test;

namespace {

using proxify::format;

/// Files that many tests need: ca.pem, site.pem (for www.example.org and 127.0.0.1), other-ca.pem.
struct Files : TempDir {
    Authority ca{"test CA"}, other_ca{"other CA"};
    Leaf site = ca.leaf({.cn = "www.example.org",
                         .names = {"DNS:www.example.org", "DNS:localhost", "IP:127.0.0.1"}});

    Files() {
        put("ca.pem", ca.certificate());
        put("other-ca.pem", other_ca.certificate());
        put("site.pem", site.both());
    }
    void put(const std::string& name, const std::string& text) const {
        write_file(*this / name, text);
    }
    /// A pem file with a certificate and its key; its name.
    std::string put(const std::string& name, const Leaf& leaf) const {
        put(name, leaf.both());
        return *this / name;
    }
};

/// A service with TLS on port 5001 and a target at 127.0.0.1:9001.
std::string with_tls(const Files& files, const std::string& keys = "",
                     const std::string& more = "") {
    return format(
        "[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\n"
        "targets = [\"127.0.0.1:9001\"]\n"
        "tls = {{ certificates = \"{}\"{}{} }}\n{}\n",
        files / "site.pem", keys.empty() ? "" : ", ", keys, more);
}

/// The same the other way round: plain on port 5001, TLS with the target.
std::string with_target_tls(const std::string& keys, const std::string& more = "",
                            const std::string& targets = R"("127.0.0.1:9001")") {
    return format(
        "[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\n"
        "targets = [{}]\ntarget_tls = {{ {} }}\n{}\n",
        targets, keys, more);
}

/// Answers whatever comes first with a line, and ends.
Handler reply(std::string line) {
    return [line = std::move(line) + "\n"](Stream& client) {
        if (client.receive(4096).empty()) return;
        client.send(line);
        client.finish();
        client.receive_all();
    };
}

/// What s_client hears after it has said "x", and its own words.
std::string s_client(const Namespace& ns, const Files& files, const std::string& arguments = "") {
    return run_line(ns, format("cd {}; echo x | timeout 20 openssl s_client -quiet -connect "
                               "127.0.0.1:5001 {} 2>&1",
                               files.path().string(), arguments))
        .out;
}

/// A program of the host as a server, in a namespace.
class Program {
  public:
    Program(const Namespace& ns, std::vector<std::string> argv, const std::string& listens_on)
        : child_(Child::start({.argv = std::move(argv), .inside = &ns})) {
        if (!eventually(
                [&] { return listening(ns).contains(listens_on) || !child_.is_running(); }) ||
            !child_.is_running())
            FAIL("the server does not listen on " + listens_on + ": " + child_.err());
    }
    Child& child() { return child_; }

  private:
    Child child_;
};

/// s_server, which sends each line back the wrong way round.
Program s_server(const Namespace& ns, const Files& files, const std::string& leaf, int port,
                 std::vector<std::string> more = {}) {
    const std::string at = format("127.0.0.1:{}", port), file = files / leaf;
    std::vector<std::string> argv = {"openssl", "s_server", "-accept", at,     "-cert",
                                     file,      "-key",     file,      "-rev", "-quiet"};
    argv.insert(argv.end(), more.begin(), more.end());
    return Program(ns, std::move(argv), at);
}

/// The answer of such a server through port 5001; how it ended when there is none.
std::string turned_round(const Namespace& ns) {
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    try {
        client.send("olleh\n");
        return client.receive_line();
    } catch (const StreamError&) {
        return "none";
    }
}

/// A client of TLS whose every byte is ours to send.
class Client {
  public:
    explicit Client(Stream stream, int max_version = TLS1_3_VERSION)
        : stream_(std::move(stream)), context_(SSL_CTX_new(TLS_client_method())) {
        SSL_CTX_set_max_proto_version(context_.get(), max_version);
        ssl_.reset(SSL_new(context_.get()));
        BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
        BIO_set_mem_eof_return(in, -1);
        SSL_set_bio(ssl_.get(), in, out);
        SSL_set_connect_state(ssl_.get());
        SSL_set_tlsext_host_name(ssl_.get(), "www.example.org");
    }

    /// In segments of so many bytes; throws when it fails.
    void shake_hands(size_t piece = SIZE_MAX) {
        for (;;) {
            const int result = SSL_do_handshake(ssl_.get());
            const int error = SSL_get_error(ssl_.get(), result);
            flush(piece);
            if (result == 1) return;
            if (error != SSL_ERROR_WANT_READ) throw std::runtime_error("no handshake");
            hear();
        }
    }
    void send(std::string_view plain, size_t piece = SIZE_MAX) {
        if (SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size())) <= 0)
            throw std::runtime_error("cannot write");
        flush(piece);
    }
    /// With its end of TLS, and of TCP if asked.
    void finish(bool tcp) {
        SSL_shutdown(ssl_.get());
        flush(SIZE_MAX);
        if (tcp) stream_.finish();
    }
    std::string receive_exactly(size_t count) {
        std::string plain(count, '\0');
        for (size_t have = 0; have < count;) {
            size_t size = 0;
            if (SSL_read_ex(ssl_.get(), plain.data() + have, count - have, &size) == 1)
                have += size;
            else
                hear();
        }
        return plain;
    }
    /// Whether the other side says that nothing more comes.
    bool hears_end() {
        char byte = 0;
        size_t size = 0;
        while (SSL_read_ex(ssl_.get(), &byte, 1, &size) != 1) {
            if (SSL_get_error(ssl_.get(), 0) == SSL_ERROR_ZERO_RETURN) return true;
            hear();
        }
        return false;
    }
    std::string fingerprint() const {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned size = 0;
        X509_digest(SSL_get0_peer_certificate(ssl_.get()), EVP_sha256(), digest, &size);
        std::string text;
        for (unsigned i = 0; i < size; ++i) text += format("{:02x}", digest[i]);
        return text;
    }
    Stream& stream() { return stream_; }

  private:
    void hear() {
        const std::string bytes = stream_.receive();
        if (bytes.empty()) throw std::runtime_error("the stream ended without the end of TLS");
        BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
        ERR_clear_error();
    }
    void flush(size_t piece) {
        std::string bytes(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())), '\0');
        if (bytes.empty()) return;
        BIO_read(SSL_get_wbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
        for (size_t at = 0; at < bytes.size(); at += std::min(piece, bytes.size() - at))
            stream_.send(std::string_view(bytes).substr(at, piece));
    }

    struct Free {
        void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
        void operator()(SSL* ssl) const { SSL_free(ssl); }
    };
    Stream stream_;
    std::unique_ptr<SSL_CTX, Free> context_;
    std::unique_ptr<SSL, Free> ssl_;
};

/// How the last session ended, of so many.
std::string last_ending(const Proxify& proxify, size_t count) {
    return proxify.sessions(count).back().ending;
}

}  // namespace

TEST_CASE("clients of TLS 1.2 and 1.3 reach a plain target, and the log says what they speak",
          "[P-47]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("openssl");
    NEEDS_PROGRAM("curl");
    Files files;
    Server target(ns, "127.0.0.1:9001", reply("HTTP/1.0 200 OK\r\n\r\nblue"));
    auto proxify = Proxify::start(ns, {.config = with_tls(files)});
    constexpr auto verified =
        "-CAfile ca.pem -verify_return_error -verify_hostname www.example.org "
        "-servername www.example.org";
    for (const std::string version : {"-tls1_2", "-tls1_3"})
        CHECK(s_client(ns, files, format("{} {}", version, verified)).contains("blue"));
    auto sessions = proxify.sessions(2);
    CHECK(sessions[0].line.contains(" tls=TLSv1.2 "));
    CHECK(sessions[1].line.contains(" tls=TLSv1.3 "));
    CHECK(sessions[1].ending == "-- done");

    CHECK(run_line(ns, format("timeout 20 curl -sS --cacert {} --resolve "
                              "www.example.org:5001:127.0.0.1 https://www.example.org:5001/",
                              files / "ca.pem"))
              .out == "blue\n");
}

TEST_CASE("old versions, weak ciphers and another handshake are refused, in words", "[P-47]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("openssl");
    Files files;
    files.put("site.pem", files.ca.leaf({.cn = "www.example.org", .key = KeyKind::rsa}));
    Server target(ns, "127.0.0.1:9001", reply("blue"));
    auto proxify = Proxify::start(ns, {.config = with_tls(files)});
    size_t count = 0;
    for (const auto& [arguments, detail] : std::vector<std::pair<std::string, std::string>>{
             {"-tls1 -cipher ALL:@SECLEVEL=0", "unsupported protocol"},
             {"-tls1_1 -cipher ALL:@SECLEVEL=0", "unsupported protocol"},
             {"-tls1_2 -cipher AES128-SHA", "no shared cipher"},
             {"-tls1_2 -cipher AES256-GCM-SHA384", "no shared cipher"},
             {"-tls1_2 -cipher ECDHE-RSA-AES128-SHA", "no shared cipher"}}) {
        INFO(arguments);
        // The client hears why, too.
        CHECK(s_client(ns, files, arguments).contains("alert"));
        CHECK(last_ending(proxify, ++count) == "CH the TLS handshake failed: " + detail);
    }
    CHECK(target.connections() == 0);
    // Typed into a session that runs, R asks for another handshake.
    const Finished again =
        run_line(ns, "echo R | timeout 20 openssl s_client -tls1_2 -connect 127.0.0.1:5001 2>&1");
    CHECK(again.out.contains("no renegotiation"));
    CHECK(s_client(ns, files).contains("blue"));
}

TEST_CASE("a handshake may come byte by byte, and what is none ends at once", "[P-47]") {
    IN_NAMESPACE(ns);
    Files files;
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, {.config = with_tls(files)});
    size_t count = 0;
    for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        Client client(Stream::dial(ns, "127.0.0.1:5001"), version);
        client.shake_hands(1);
        client.send("slowly", 1);
        CHECK(client.receive_exactly(6) == "slowly");
        client.finish(/*tcp=*/true);
        CHECK(client.hears_end());
        CHECK(last_ending(proxify, ++count) == "-- done");
    }
    const std::string giant = std::string("\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03", 11) +
                              std::string(16384, 'x') + std::string("\x16\x03\x01\x40\x00", 5);
    for (const auto& [said, detail] : std::vector<std::pair<std::string, std::string>>{
             {"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n", "http request"},
             {"SSH-2.0-OpenSSH_9.2p1\r\n", "wrong version number"},
             {std::string(5000, '\xaa'), "wrong version number"},
             {giant, "excessive message size"}}) {
        INFO(detail);
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        client.send(said);
        CHECK(client.receive_all().end == End::reset);
        CHECK(last_ending(proxify, ++count) == "CH the TLS handshake failed: " + detail);
    }
    {
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        client.send("\x16\x03");
        client.finish();
        client.receive_all();
        CHECK(last_ending(proxify, ++count) == "CH gone during the TLS handshake");
    }
    CHECK(target.connections() == 2);
}

TEST_CASE("a client that says nothing has so long, and only so many shake hands at once",
          "[P-47]") {
    IN_NAMESPACE(ns);
    Files files;
    Server target(ns, "127.0.0.1:9001", echo());
    const std::string config = with_tls(files, R"(handshake_timeout = "1m", max_handshakes = 2)");
    auto proxify = Proxify::start(ns, {.config = config});
    Stream first = Stream::dial(ns, "127.0.0.1:5001"), second = Stream::dial(ns, "127.0.0.1:5001");
    auto open = [&] { return proxify.ask({"sessions"}).out; };
    REQUIRE(eventually([&] { return count_lines(open(), {"127.0.0.1:"}) == 2; }));
    Stream third = Stream::dial(ns, "127.0.0.1:5001");
    CHECK(third.receive_all().end == End::reset);
    CHECK(last_ending(proxify, 1) == "RH too many TLS handshakes at once");
    // They count after a reload as well, until they end.
    proxify.reload(with_tls(files, R"(handshake_timeout = "1s", max_handshakes = 2)"));
    Stream fourth = Stream::dial(ns, "127.0.0.1:5001");
    CHECK(fourth.receive_all().end == End::reset);
    first.close();
    proxify.sessions(3);
    // One place is free; who has shaken hands takes none.
    std::vector<Client> done;
    for (int i = 0; i < 3; ++i) {
        done.emplace_back(Stream::dial(ns, "127.0.0.1:5001"));
        done.back().shake_hands();
        done.back().send("hello");
        CHECK(done.back().receive_exactly(5) == "hello");
    }
    Stream silent = Stream::dial(ns, "127.0.0.1:5001");
    CHECK(silent.receive_all().end == End::reset);
    CHECK(last_ending(proxify, 4) == "cH no TLS handshake in time");
}

TEST_CASE("who is greeted and finds no target is told so, and proxify goes on", "[P-47]") {
    IN_NAMESPACE(ns);
    Files files;
    auto proxify = Proxify::start(ns, {.config = with_tls(files)});
    for (size_t count = 1; count <= 3; ++count) {
        Client client(Stream::dial(ns, "127.0.0.1:5001"));
        client.shake_hands();
        CHECK(client.stream().receive_all().end == End::reset);
        CHECK(last_ending(proxify, count).starts_with("TC refused"));
    }
}

TEST_CASE("clients need a good certificate, and the log says who came or what was wrong",
          "[P-48]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("openssl");
    Files files;
    const Leaf alice = files.ca.leaf({.cn = "alice"}), bob = files.ca.leaf({.cn = "bob"});
    const Leaf carol = files.ca.leaf({.cn = "carol"});
    files.put("alice.pem", alice);
    files.put("bob.pem", bob);
    files.put("carol.pem", carol);
    files.put("mallory.pem", files.other_ca.leaf({.cn = "alice"}));
    files.put("old.pem", files.ca.leaf({.cn = "alice", .begins = -48h, .ends = -1h}));
    files.put("new.pem", files.ca.leaf({.cn = "alice", .begins = 1h}));
    files.put("crl.pem", files.ca.revoke({&bob}));
    Server target(ns, "127.0.0.1:9001", reply("blue"));
    auto proxify = Proxify::start(
        ns, {.config = with_tls(files, format(R"(client_ca = "{}", crl = "{}", )"
                                              R"(require_client_certificate = true, )"
                                              R"(allowed_names = ["alice", "bob"])",
                                              files / "ca.pem", files / "crl.pem"))});
    size_t count = 0;
    for (const std::string version : {"-tls1_2", "-tls1_3"}) {
        CHECK(s_client(ns, files, version + " -cert alice.pem -key alice.pem").contains("blue"));
        auto session = proxify.sessions(++count).back();
        CHECK(session.line.contains(" identity=alice "));
        for (const auto& [who, detail] : std::vector<std::pair<std::string, std::string>>{
                 {"", "peer did not return a certificate"},
                 {"mallory", "unable to get local issuer certificate (CN = alice)"},
                 {"old", "certificate has expired (CN = alice)"},
                 {"new", "certificate is not yet valid (CN = alice)"},
                 {"bob", "certificate revoked (CN = bob)"},
                 {"carol", "none of the certificate's names is allowed (CN = carol)"}}) {
            INFO(version << " " << who << ": " << detail);
            const std::string shown = who.empty() ? "" : format(" -cert {0}.pem -key {0}.pem", who);
            const std::string heard = s_client(ns, files, version + shown);
            CHECK_FALSE(heard.contains("blue"));
            CHECK(heard.contains("alert"));
            CHECK(last_ending(proxify, ++count) == "CH the TLS handshake failed: " + detail);
        }
    }
    CHECK(target.connections() == 2);
}

TEST_CASE("a target is believed only with a good certificate for its name", "[P-47]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("openssl");
    Files files;
    files.put("expired.pem",
              files.ca.leaf({.names = {"IP:127.0.0.1"}, .begins = -48h, .ends = -1h}));
    files.put("other-name.pem", files.ca.leaf({.names = {"DNS:other.example"}}));
    files.put("foreign.pem", files.other_ca.leaf({.names = {"IP:127.0.0.1"}}));
    Program good = s_server(ns, files, "site.pem", 9001);
    Program expired = s_server(ns, files, "expired.pem", 9002);
    Program other_name = s_server(ns, files, "other-name.pem", 9003);
    Program foreign = s_server(ns, files, "foreign.pem", 9004);
    Server plain(ns, "127.0.0.1:9005", reply("plain"));
    const std::string ca = format(R"(ca = "{}")", files / "ca.pem");
    {
        auto proxify = Proxify::start(ns, {.config = with_target_tls(ca)});
        CHECK(turned_round(ns) == "hello\n");
        CHECK(last_ending(proxify, 1) == "-- done");
        size_t count = 1;
        for (const auto& [port, detail] : std::vector<std::pair<int, std::string>>{
                 {9002, "certificate has expired (CN = leaf)"},
                 {9003, "IP address mismatch (CN = leaf)"},
                 {9004, "unable to get local issuer certificate (CN = leaf)"},
                 {9005, "wrong version number"}}) {
            INFO(detail);
            proxify.reload(with_target_tls(ca, "", format("\"127.0.0.1:{}\"", port)));
            CHECK(turned_round(ns) == "none");
            CHECK(last_ending(proxify, ++count) == "TC the TLS handshake failed: " + detail);
        }
        // Those who say so get by without proof, or with another name.
        proxify.reload(with_target_tls("verify = false", "", R"("127.0.0.1:9004")"));
        CHECK(turned_round(ns) == "hello\n");
        proxify.reload(
            with_target_tls(ca + R"(, server_name = "other.example")", "", R"("127.0.0.1:9003")"));
        CHECK(turned_round(ns) == "hello\n");
    }
    // One that fails is followed by the next, and only then by the client's end.
    auto proxify = Proxify::start(
        ns, {.config = with_target_tls(
                 ca, "tries = 4\nbalance = \"first\"",
                 R"("127.0.0.1:9002", "127.0.0.1:9004", "127.0.0.1:9005", "127.0.0.1:9001")")});
    CHECK(turned_round(ns) == "hello\n");
    CHECK(proxify.sessions(1)[0].tried == 4);
}

TEST_CASE("a target that asks is shown our certificate, and one that says nothing is left",
          "[P-47]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("openssl");
    Files files;
    files.put("us.pem", files.ca.leaf({.cn = "us"}));
    Program asks = s_server(ns, files, "site.pem", 9001,
                            {"-Verify", "1", "-verify_return_error", "-CAfile", files / "ca.pem"});
    const std::string ca = format(R"(ca = "{}")", files / "ca.pem");
    auto proxify = Proxify::start(
        ns, {.config = with_target_tls(format(R"({}, certificate = "{}")", ca, files / "us.pem"))});
    CHECK(turned_round(ns) == "hello\n");
    CHECK(turned_round(ns) == "hello\n");  // with what was agreed on before
    Server mute(ns, "127.0.0.1:9002", stare());
    proxify.reload(
        with_target_tls(ca, "timeouts = { connect = \"300ms\" }", R"("127.0.0.1:9002")"));
    CHECK(turned_round(ns) == "none");
    CHECK(last_ending(proxify, 3) == "tC no TLS handshake in time");
}

TEST_CASE("nginx, HAProxy and stunnel are targets over TLS, and clients", "[P-47]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("nginx");
    NEEDS_PROGRAM("haproxy");
    NEEDS_PROGRAM("stunnel");
    NEEDS_PROGRAM("curl");
    Files files;
    const std::string pem = files / "site.pem", ca = files / "ca.pem";
    Server target(ns, "127.0.0.1:9001", reply("HTTP/1.0 200 OK\r\n\r\nblue"));
    // Each is a server with TLS (9101...) and a client with TLS of port 5001 (9201...).
    write_file(files / "nginx.conf", format(R"(
daemon off; master_process off; pid {0}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f;
    uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
    server {{
        listen 127.0.0.1:9101 ssl;
        ssl_certificate {1}; ssl_certificate_key {1};
        location / {{ proxy_pass http://127.0.0.1:9001; }}
    }}
    server {{
        listen 127.0.0.1:9201;
        location / {{
            proxy_pass https://127.0.0.1:5001;
            proxy_ssl_verify on; proxy_ssl_trusted_certificate {2};
            proxy_ssl_name www.example.org; proxy_ssl_server_name on;
        }}
    }}
}}
)",
                                            files.path().string(), pem, ca));
    write_file(files / "haproxy.cfg", format(R"(
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen server
    bind 127.0.0.1:9102 ssl crt {}
    server s 127.0.0.1:9001
listen client
    bind 127.0.0.1:9202
    server s 127.0.0.1:5001 ssl verify required ca-file {} sni str(www.example.org)
)",
                                             pem, ca));
    write_file(files / "stunnel.conf", format(R"(
foreground = yes
pid =
[server]
accept = 127.0.0.1:9103
connect = 127.0.0.1:9001
cert = {}
[client]
client = yes
accept = 127.0.0.1:9203
connect = 127.0.0.1:5001
verifyChain = yes
CAfile = {}
checkHost = www.example.org
sni = www.example.org
)",
                                              pem, ca));
    Program nginx(ns, {"nginx", "-c", files / "nginx.conf", "-p", files.path().string()},
                  "127.0.0.1:9201");
    Program haproxy(ns, {"haproxy", "-db", "-f", files / "haproxy.cfg"}, "127.0.0.1:9202");
    Program stunnel(ns, {"stunnel", files / "stunnel.conf"}, "127.0.0.1:9203");

    std::string config = with_tls(files);
    for (int i = 1; i <= 3; ++i)
        config += format(
            "[[service]]\nname = \"to{0}\"\nports = [530{0}]\nhealth = false\n"
            "targets = [\"127.0.0.1:910{0}\"]\ntarget_tls = {{ ca = \"{1}\" }}\n",
            i, ca);
    auto proxify = Proxify::start(ns, {.config = config});
    auto get = [&](int port) {
        return run_line(ns, format("timeout 20 curl -sS http://127.0.0.1:{}/ 2>&1", port)).out;
    };
    for (int port : {5301, 5302, 5303, 9201, 9202, 9203}) {
        INFO(port);
        CHECK(get(port) == "blue\n");
    }
    for (const auto& session : proxify.sessions(6)) CHECK(session.ending == "-- done");
}

TEST_CASE("each side may end first, and a server may speak first, over TLS on either side",
          "[P-47]") {
    IN_NAMESPACE(ns);
    Files files;
    // Plain to the first, TLS to the second, plain from there.
    Server target(ns, "127.0.0.1:9001", [](Stream& client) {
        client.send("220 welcome\n");
        Got got = client.receive_all();
        client.send(format("{} bytes, {}\n", got.bytes.size(), to_text(got.end)));
    });
    auto second = Proxify::start(ns, {.config = with_tls(files)});
    auto first = Proxify::start(
        ns, {.config = format("[[service]]\nname = \"out\"\nports = [5002]\nhealth = false\n"
                              "targets = [\"127.0.0.1:5001\"]\ntarget_tls = {{ ca = \"{}\" }}\n",
                              files / "ca.pem")});
    Stream client = Stream::dial(ns, "127.0.0.1:5002");
    CHECK(client.receive_line() == "220 welcome\n");
    client.send(std::string(100'000, 'x'));
    client.finish();
    CHECK(client.receive_line() == "100000 bytes, clean\n");
    CHECK(client.receive_all().end == End::clean);
    CHECK(last_ending(first, 1) == "-- done");
    CHECK(last_ending(second, 1) == "-- done");

    // The end of TLS without the end of TCP is an end; the end of TCP alone is none.
    Client own(Stream::dial(ns, "127.0.0.1:5001"));
    own.shake_hands();
    own.receive_exactly(12);
    own.send("some");
    own.finish(/*tcp=*/false);
    CHECK(own.receive_exactly(15) == "4 bytes, clean\n");
    CHECK(own.hears_end());
    own.stream().close();
    CHECK(last_ending(second, 2) == "-- done");
    Client cut(Stream::dial(ns, "127.0.0.1:5001"));
    cut.shake_hands();
    cut.receive_exactly(12);
    cut.stream().finish();
    CHECK(last_ending(second, 3) == "CD ended without the end of TLS");
}

TEST_CASE("256 MiB each way at once over TLS on both sides arrive byte for byte", "[P-47]") {
    IN_NAMESPACE(ns);
    Files files;
    const uint64_t size = uint64_t{sanitized ? 64 : 256} << 20;
    const Pattern up(1), down(2);
    Told<std::string> target_says;
    auto both_ways = [&](Stream& stream, const Pattern& out, const Pattern& in) -> std::string {
        std::string sending_failed, receiving_failed;
        std::thread sender([&] {
            try {
                send_pattern(stream, out, size);
                stream.finish();
            } catch (const std::exception& error) {
                sending_failed = error.what();
            }
        });
        try {
            receive_pattern(stream, in, size);
        } catch (const std::exception& error) {
            receiving_failed = error.what();
        }
        sender.join();
        return sending_failed + receiving_failed;
    };
    Server target(ns, "127.0.0.1:9001",
                  [&](Stream& client) { target_says.tell(both_ways(client, down, up)); });
    auto second = Proxify::start(ns, {.config = with_tls(files)});
    auto first = Proxify::start(
        ns, {.config = format("[[service]]\nname = \"out\"\nports = [5002]\nhealth = false\n"
                              "targets = [\"127.0.0.1:5001\"]\ntarget_tls = {{ ca = \"{}\" }}\n",
                              files / "ca.pem")});
    Stream client = Stream::dial(ns, "127.0.0.1:5002");
    CHECK(both_ways(client, up, down) == "");
    CHECK(target_says.get() == "");
    CHECK(last_ending(first, 1) == "-- done");
    CHECK(last_ending(second, 1) == "-- done");
}

TEST_CASE("a client that does not read costs a session its own memory, and little of it",
          "[P-47]") {
    IN_NAMESPACE(ns);
    Files files;
    std::atomic<uint64_t> sent = 0;
    Server target(ns, "127.0.0.1:9001", pour(sent));
    auto proxify = Proxify::start(ns, {.config = with_tls(files)});
    auto is_still = [&] {
        const uint64_t before = sent;
        return !eventually([&] { return sent != before; }, 500ms);
    };
    std::vector<Client> lazy;
    for (int i = 0; i < 20; ++i) {
        lazy.emplace_back(Stream::dial(ns, "127.0.0.1:5001", {.receive_buffer = 4096}));
        lazy.back().shake_hands();
    }
    REQUIRE(eventually(is_still, 30s));
    CHECK(proxify.process().resident_bytes() < (sanitized ? 600u : 80u) << 20);
    // And who says much and listens to nothing is not read without end either, nor is one who goes
    // on after its own end.
    Client flood(Stream::dial(ns, "127.0.0.1:5001"));
    flood.shake_hands();
    flood.finish(/*tcp=*/false);
    const std::string noise(1 << 20, 'n');
    uint64_t taken = 0;
    eventually(
        [&] {
            taken += flood.stream().send_some(noise);
            return false;
        },
        500ms);
    CHECK(taken < 40u << 20);
    CHECK(proxify.process().resident_bytes() < (sanitized ? 600u : 80u) << 20);
}

TEST_CASE("clients resume with what they were given, and not where the certificate has changed",
          "[P-47]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("openssl");
    Files files;
    Server target(ns, "127.0.0.1:9001", reply("blue"));
    auto proxify = Proxify::start(ns, {.config = with_tls(files)});
    auto ask = [&](const std::string& arguments) {
        // Not -quiet, which does not tell.
        return run_line(ns, format("cd {}; (echo x; cat) < /dev/null | timeout 20 openssl s_client "
                                   "-ign_eof -connect 127.0.0.1:5001 {} 2>&1",
                                   files.path().string(), arguments))
            .out;
    };
    for (const std::string version : {"-tls1_2", "-tls1_3"}) {
        INFO(version);
        CHECK(ask(version + " -sess_out session").contains("New, TLSv"));
        CHECK(ask(version + " -sess_in session").contains("Reused, TLSv"));
        files.put("site.pem", files.ca.leaf({.cn = "www.example.org"}));
        proxify.reload(with_tls(files) + "# again " + version + "\n");
        CHECK(ask(version + " -sess_in session").contains("New, TLSv"));
    }
}

TEST_CASE("a certificate that was replaced is shown to who comes later, and nobody is dropped",
          "[P-47]") {
    IN_NAMESPACE(ns);
    Files files;
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(ns, {.config = with_tls(files)});
    auto dial = [&] {
        Client client(Stream::dial(ns, "127.0.0.1:5001"));
        client.shake_hands();
        return client;
    };
    Client early = dial();
    CHECK(early.fingerprint() == files.site.fingerprint);
    const Leaf renewed = files.ca.leaf({.cn = "www.example.org"});
    replace_file(files / "site.pem", renewed.both());
    proxify.process().signal(SIGHUP);
    REQUIRE(eventually([&] { return dial().fingerprint() == renewed.fingerprint; }));
    early.send("still here");
    CHECK(early.receive_exactly(10) == "still here");
    // A bad one changes nothing.
    const int refused = reloads_refused(proxify.log());
    replace_file(files / "site.pem", renewed.certificate + files.site.key);
    proxify.process().signal(SIGHUP);
    REQUIRE(eventually([&] { return reloads_refused(proxify.log()) > refused; }));
    CHECK(find_line(proxify.log(), {"the key is not the one of the certificate"}));
    CHECK(dial().fingerprint() == renewed.fingerprint);
    early.send("and still");
    CHECK(early.receive_exactly(9) == "and still");
    early.finish(/*tcp=*/true);
    CHECK(early.hears_end());
}

TEST_CASE("elements and the cache see what is said, not what is on the wire", "[P-47]") {
    IN_NAMESPACE(ns);
    Files files;
    Server target(ns, "127.0.0.1:9001", reply("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nblue"));
    auto proxify = Proxify::start(
        ns, {.config = with_tls(files, "",
                                "filters = [{ type = \"match\", pattern = \"secret\", "
                                "action = \"close\" }]\n")});
    {
        Client client(Stream::dial(ns, "127.0.0.1:5001"));
        client.shake_hands();
        client.send("tell me the secret\n");
        client.stream().receive_all();
        CHECK(last_ending(proxify, 1).starts_with("PF "));
    }
    proxify.reload(with_tls(files, "", "cache = { ttl = \"1m\", delimiter = \"\\r\\n\\r\\n\" }\n"));
    const int before = target.connections();
    for (int i = 0; i < 3; ++i) {
        Client client(Stream::dial(ns, "127.0.0.1:5001"));
        client.shake_hands();
        client.send("GET / HTTP/1.0\r\nHost: www.example.org\r\n\r\n");
        CHECK(client.receive_exactly(15) == "HTTP/1.0 200 OK");
    }
    CHECK(target.connections() == before + 1);
}
