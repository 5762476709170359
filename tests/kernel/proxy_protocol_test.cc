// SPDX-License-Identifier: Apache-2.0
// The PROXY protocol: from proxies in front, which are believed because they are configured, and to
// targets; with HAProxy, nginx and curl at the other end.
#include <algorithm>
#include <mutex>

#include "base/format.h"
#include "proxy_header/header.h"
#include "support/kernel_test.h"
#include "support/pattern.h"

using namespace proxify;
using namespace proxify::test;
using namespace std::string_literals;
using proxy_header::Ends;
using proxy_header::Header;
using proxy_header::Tlv;

namespace {

/// The proxy of these tests; whoever comes from 127.0.0.2 is a stranger.
const DialOptions from_proxy{.from = "127.0.0.9:0"}, from_stranger{.from = "127.0.0.2:0"};

/// Comes to port 5001, where those at 127.0.0.9 begin with a header.
std::string web(const std::string& more, const std::string& targets = R"(["127.0.0.1:9001"])") {
    return format(
        "[[service]]\nname = \"web\"\nports = [5001]\ntargets = {}\n"
        "accept_proxy = [\"127.0.0.9\"]\n{}\n",
        targets, more);
}

Header carrying(std::string_view source, std::string_view destination) {
    return {.ends = Ends{*Address::parse(source), *Address::parse(destination)}};
}

const Header somebody = carrying("203.0.113.7:51522", "198.51.100.1:443");

/// What came to a target before and with a line of the client.
class Ear {
  public:
    Handler handler() {
        return [this](Stream& client) {
            std::string all;
            while (!all.ends_with("hello\n")) {
                const std::string more = client.receive();
                if (more.empty()) return;
                all += more;
            }
            client.send("heard\n");
            client.receive_all();
            std::lock_guard hold(lock_);
            heard_.push_back(all);
        };
    }
    /// Of the client that was the `count`th.
    std::string heard(size_t count) {
        std::string last;
        eventually([&] {
            std::lock_guard hold(lock_);
            if (heard_.size() < count) return false;
            last = heard_[count - 1];
            return true;
        });
        return last;
    }

  private:
    std::mutex lock_;
    std::vector<std::string> heard_;
};

/// Says these bytes and a line, and gives what came back, or how it ended.
std::string say(const Namespace& ns, const std::string& first,
                const DialOptions& options = from_proxy, const std::string& to = "127.0.0.1:5001") {
    Stream client = Stream::dial(ns, to, options);
    try {
        client.send(first + "hello\n");
        client.finish();
    } catch (const StreamError&) {
        return "reset";  // it came before we had said anything
    }
    const Got got = client.receive_all();
    return got.bytes + (got.end == End::clean ? "" : to_text(got.end));
}

/// Whether one of so many sessions ended with these words; workers write their lines as they come.
bool has_ended(const Proxify& proxify, size_t count, std::string_view words) {
    return std::ranges::any_of(proxify.sessions(count), [&](const SessionLine& line) {
        return line.ending.ends_with(words);
    });
}

/// What HAProxy or nginx need is in a directory of their own.
class Program {
  public:
    Program(const Namespace& ns, std::vector<std::string> argv, const std::string& listens_on)
        : child_(Child::start({.argv = std::move(argv), .inside = &ns})) {
        if (!eventually(
                [&] { return listening(ns).contains(listens_on) || !child_.is_running(); }) ||
            !child_.is_running())
            FAIL("the server does not listen on " + listens_on + ": " + child_.out() +
                 child_.err());
    }

  private:
    Child child_;
};

Program haproxy(const Namespace& ns, const TempDir& directory, const std::string& config,
                const std::string& listens_on) {
    write_file(directory / "haproxy.cfg",
               "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n"
               "  timeout server 30s\n  timeout check 1s\n" +
                   config);
    return {ns, {"haproxy", "-db", "-f", directory / "haproxy.cfg"}, listens_on};
}

/// nginx, which says in an answer what a PROXY header has told it, on port 9002; and which tells
/// of its clients, who come to port 7003.
Program nginx(const Namespace& ns, const TempDir& directory) {
    write_file(directory / "nginx.conf", format(R"(
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
master_process off;
pid {0}/pid;
error_log {0}/error.log;
events {{}}
http {{
    access_log {0}/access.log;
    client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0};
    uwsgi_temp_path {0}; scgi_temp_path {0};
    server {{
        listen 127.0.0.1:9002 proxy_protocol;
        location / {{ return 200 "$proxy_protocol_addr:$proxy_protocol_port to $proxy_protocol_server_addr:$proxy_protocol_server_port\n"; }}
    }}
}}
stream {{
    server {{ listen 127.0.0.1:7003; proxy_bind 127.0.0.9; proxy_pass 127.0.0.1:5001; proxy_protocol on; }}
}}
)",
                                                directory.path().string()));
    return {
        ns, {"nginx", "-p", directory.path(), "-c", directory / "nginx.conf"}, "127.0.0.1:9002"};
}

/// A key and a certificate that it signs itself, for a CN.
void make_certificate(const TempDir& directory, const std::string& name, const std::string& cn) {
    const auto made = run(
        {.argv = {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                  "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=" + cn,
                  "-keyout", directory / (name + ".key"), "-out", directory / (name + ".crt")}});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
}

std::string tls_of(const TempDir& directory, const std::string& more = "") {
    return format("tls = {{ certificates = \"{}\", key = \"{}\"{} }}\n", directory / "site.crt",
                  directory / "site.key", more);
}

proxy_header::Parsed read(std::string_view bytes) {
    return proxy_header::parse(std::as_bytes(std::span(bytes)));
}

std::optional<std::string> value_of(const Header& header, uint8_t type) {
    for (const auto& tlv : header.tlvs)
        if (tlv.type == type) return tlv.value;
    return std::nullopt;
}

}  // namespace

TEST_CASE("a header of a configured source says who the client is, however it is cut",
          "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    Ear ear;
    Server target(ns, "127.0.0.1:9001", ear.handler());
    for (const std::vector<std::string>& flags : {std::vector<std::string>{}, {"-b"}}) {
        auto proxify = Proxify::start(ns, {.config = web("health = false"), .flags = flags});
        size_t sessions = 0;
        static size_t heard = 0;
        for (const Header& header :
             {somebody, carrying("[2001:db8::7]:51522", "[2001:db8::1]:443")})
            for (const auto& text :
                 {proxy_header::version_1(header), proxy_header::version_2(header)}) {
                CAPTURE(text);
                CHECK(say(ns, text) == "heard\n");
                CHECK(ear.heard(++heard) == "hello\n");
                auto session = proxify.sessions(++sessions).back();
                CHECK(session.client == header.ends->source.text());
                CHECK(session.original_dst == header.ends->destination.text());
                CHECK(session.line.contains(" via=127.0.0.9:"));
                CHECK(session.to_target == 6);

                Stream client = Stream::dial(ns, "127.0.0.1:5001", from_proxy);
                for (char byte : text + "hello\n") {
                    client.send(std::string_view(&byte, 1));
                    REQUIRE(client.is_delivered());
                }
                CHECK(client.receive_line() == "heard\n");
                client.close();
                CHECK(ear.heard(++heard) == "hello\n");
                session = proxify.sessions(++sessions).back();
                CHECK(session.client == header.ends->source.text());
            }
        CHECK(proxify.stop() == 0);
    }
}

TEST_CASE("LOCAL and unknown families leave the connection its own addresses", "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web("health = false")});
    size_t sessions = 0;
    const std::string unix_family = "\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"s + std::string(216, 'x');
    for (const auto& text :
         {"PROXY UNKNOWN\r\n"s, "PROXY UNKNOWN 203.0.113.7 198.51.100.1 1 2\r\n"s,
          proxy_header::version_2({.is_local = true}), proxy_header::version_2({}), unix_family}) {
        CHECK(say(ns, text) == "blue\n");
        const auto session = proxify.sessions(++sessions).back();
        CHECK(session.client.starts_with("127.0.0.9:"));
        CHECK(session.original_dst == "127.0.0.1:5001");
        CHECK(!session.line.contains("via="));
    }
}

TEST_CASE("a stranger's header is data, and a stranger needs none", "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    Ear ear;
    Server target(ns, "127.0.0.1:9001", ear.handler());
    auto proxify = Proxify::start(ns, {.config = web("health = false")});
    const auto text = proxy_header::version_1(somebody);
    CHECK(say(ns, text, from_stranger) == "heard\n");
    CHECK(ear.heard(1) == text + "hello\n");
    CHECK(say(ns, "", from_stranger) == "heard\n");
    CHECK(ear.heard(2) == "hello\n");
    for (const auto& session : proxify.sessions(2)) {
        CHECK(session.client.starts_with("127.0.0.2:"));
        CHECK(!session.line.contains("via="));
    }
}

TEST_CASE("from a configured source nothing but a good header leads to a target",
          "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web("health = false")});
    const auto good = proxy_header::version_2(somebody);
    auto with_checksum = somebody;
    with_checksum.tlvs = {{proxy_header::crc32c, "\1\2\3\4"}};
    struct Row {
        std::string bytes, ending;
    };
    const std::vector<Row> rows = {
        {"", "no good PROXY header: something else came"},
        {"GET / HTTP/1.1\r\n\r\n", "no good PROXY header: something else came"},
        {"PROXY TCP4 203.0.113.7 198.51.100.1 51522\r\n",
         "no good PROXY header: a port that is none"},
        {"PROXY TCP4 " + std::string(200, '1'),
         "no good PROXY header: a line of version 1 that does not end"},
        {good.substr(0, 14) + "\x20"s + good.substr(15) + std::string(9000, 'x'),
         "no good PROXY header: a header of more than 4096 bytes"},
        {proxy_header::version_2(with_checksum),
         "no good PROXY header: a checksum that does not fit"},
    };
    size_t sessions = 0;
    for (const auto& [bytes, ending] : rows) {
        CAPTURE(ending);
        CHECK(say(ns, bytes) == "reset");
        const auto session = proxify.sessions(++sessions).back();
        CHECK(session.ending.ends_with(ending));
        CHECK(session.client.starts_with("127.0.0.9:"));
        CHECK(session.tried == 0);
    }
    {
        Stream client = Stream::dial(ns, "127.0.0.1:5001", from_proxy);
        client.send(good.substr(0, good.size() - 1));
        client.finish();
        CHECK(client.receive_all().end == End::reset);
        CHECK(proxify.sessions(++sessions)
                  .back()
                  .ending.ends_with("gone before its PROXY header was whole"));
    }
    CHECK(target.connections() == 0);
    CHECK(say(ns, good) == "blue\n");
}

TEST_CASE("who is slow with a header is not waited for, nor who is slow behind it with TLS",
          "[proxy_protocol][P-47]") {
    IN_NAMESPACE(ns);
    TempDir directory;
    make_certificate(directory, "site", "site.example");
    Server target(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(
        ns, {.config =
                 web("health = false\n" + tls_of(directory, R"(, handshake_timeout = "200ms")"))});
    Stream silent = Stream::dial(ns, "127.0.0.1:5001", from_proxy);
    CHECK(silent.receive_all().end == End::reset);
    CHECK(has_ended(proxify, 1, "no PROXY header in time"));
    Stream half = Stream::dial(ns, "127.0.0.1:5001", from_proxy);
    half.send("PROXY TCP4 ");
    CHECK(half.receive_all().end == End::reset);
    CHECK(has_ended(proxify, 2, "no PROXY header in time"));
    Stream whole = Stream::dial(ns, "127.0.0.1:5001", from_proxy);
    whole.send(proxy_header::version_1(somebody));
    CHECK(whole.receive_all().end == End::reset);
    const auto session = proxify.sessions(3).back();
    CHECK(session.ending.ends_with("no TLS handshake in time"));
    CHECK(session.client == "203.0.113.7:51522");
    CHECK(target.connections() == 0);
}

TEST_CASE("lists and limits of a service are about the client that a header names",
          "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", answer("blue"));
    for (const std::vector<std::string>& flags : {std::vector<std::string>{}, {"-b"}}) {
        auto proxify =
            Proxify::start(ns, {.config = web("health = false\nallow = [\"203.0.113.0/24\"]\n"
                                              "limits = { source_rate = 3, source_sessions = 2 }"),
                                .flags = flags});
        const auto of = [](const std::string& ip) {
            return proxy_header::version_2(carrying(ip + ":51522", "198.51.100.1:443"));
        };
        CHECK(say(ns, of("198.51.100.7")) == "reset");
        CHECK(has_ended(proxify, 1, "denied"));
        CHECK(say(ns, "", from_stranger) == "reset");
        CHECK(has_ended(proxify, 2, "denied"));
        // So many of one client, and of the proxy any number.
        for (int i = 1; i <= 10; ++i)
            CHECK(say(ns, of("203.0.113." + std::to_string(i))) == "blue\n");
        for (int i = 0; i < 3; ++i) CHECK(say(ns, of("203.0.113.77")) == "blue\n");
        CHECK(say(ns, of("203.0.113.77")) == "reset");
        CHECK(has_ended(proxify, 16, "too many connections of this source"));
        std::vector<Stream> held;
        for (int i = 0; i < 2; ++i) {
            held.push_back(Stream::dial(ns, "127.0.0.1:5001", from_proxy));
            held.back().send(of("203.0.113.88") + "x");
            CHECK(held.back().receive_line() == "blue\n");
        }
        CHECK(say(ns, of("203.0.113.88")) == "reset");
        CHECK(has_ended(proxify, 17, "too many sessions of this source"));
        held.clear();
        CHECK(proxify.stop() == 0);
    }
}

TEST_CASE("the list of all services is about whoever connects, and about whom a header names",
          "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", answer("blue"));
    for (const std::vector<std::string>& flags : {std::vector<std::string>{}, {"-b"}}) {
        auto proxify =
            Proxify::start(ns, {.config = "[proxify]\ndeny = [\"127.0.0.8\", \"203.0.113.66\"]\n" +
                                          web("health = false\n") +
                                          "[[service]]\nname = \"other\"\nports = [5002]\n"
                                          "targets = [\"127.0.0.1:9001\"]\nhealth = false\n"
                                          "accept_proxy = [\"127.0.0.8\"]\n",
                                .flags = flags});
        CHECK(say(ns, proxy_header::version_1(somebody)) == "blue\n");
        CHECK(say(ns, proxy_header::version_1(
                          carrying("203.0.113.66:51522", "198.51.100.1:443"))) == "reset");
        const DialOptions denied{.from = "127.0.0.8:0"};
        CHECK(answered_by(ns, "127.0.0.1:5002", denied) == (flags.empty() ? "reset" : "refused"));
        CHECK(proxify.stop() == 0);
    }
}

TEST_CASE("targets that follow the client go where the header says that it aimed",
          "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    Server same(ns, "127.0.0.1:6001", answer("same")),
        original(ns, "127.0.0.3:6002", answer("original"));
    auto proxify = Proxify::start(
        ns, {.config = web("health = false", R"(["127.0.0.1:*"])") +
                       "[[service]]\nname = \"far\"\nports = [5002]\ntargets = [\"original\"]\n"
                       "health = false\naccept_proxy = [\"127.0.0.9\"]\n"});
    CHECK(say(ns, proxy_header::version_2(carrying("203.0.113.7:1", "198.51.100.1:6001"))) ==
          "same\n");
    const auto aimed = proxy_header::version_2(carrying("203.0.113.7:1", "127.0.0.3:6002"));
    CHECK(say(ns, aimed, from_proxy, "127.0.0.1:5002") == "original\n");
    // Not into one of our own doors, whoever says so.
    const auto loop = proxy_header::version_2(carrying("203.0.113.7:1", "127.0.0.1:5002"));
    CHECK(say(ns, loop, from_proxy, "127.0.0.1:5002") == "reset");
    CHECK(has_ended(proxify, 3, "the target is proxify itself"));
}

TEST_CASE("a target is told first who the client is and what it dialled", "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    Ear ear;
    Server target(ns, "127.0.0.1:9001", ear.handler());
    auto proxify = Proxify::start(ns, {.config = web("health = false\nsend_proxy = \"v1\"")});
    Stream client = Stream::dial(ns, "127.0.0.1:5001", from_stranger);
    client.send("hello\n");
    CHECK(client.receive_line() == "heard\n");
    const auto itself = client.local();
    client.close();
    CHECK(ear.heard(1) == format("PROXY TCP4 127.0.0.2 127.0.0.1 {} 5001\r\nhello\n", itself.port));
    CHECK(proxify.sessions(1).back().to_target == 6);

    proxify.reload(
        web("health = false\nsend_proxy = { version = \"v2\", unique_id = true, "
            "tlvs = { 0xE0 = \"blue\" } }"));
    CHECK(say(ns, "", from_stranger) == "heard\n");
    const auto told = read(ear.heard(2));
    REQUIRE(told.state == proxy_header::Parsed::State::complete);
    CHECK(told.header.ends->destination.text() == "127.0.0.1:5001");
    CHECK(value_of(told.header, 0xE0) == "blue");
    CHECK(proxify.sessions(2).back().line.contains(
        "session " + value_of(told.header, proxy_header::unique_id).value_or("?") + " "));
    CHECK(ear.heard(2).substr(told.size) == "hello\n");

    // What the proxy in front has said goes on, but for what is our own.
    Header heard = somebody;
    heard.tlvs = {{proxy_header::unique_id, "its-own"},
                  {proxy_header::authority, "www.example.org"},
                  {proxy_header::netns, "there"},
                  {0xE0, "red"},
                  {0xE1, std::string("\0\1", 2)}};
    CHECK(say(ns, proxy_header::version_2(heard)) == "heard\n");
    const auto passed = read(ear.heard(3)).header;
    CHECK(passed.ends == somebody.ends);
    CHECK(passed.tlvs == std::vector<Tlv>{{0xE0, "blue"},
                                          {proxy_header::unique_id, "its-own"},
                                          {proxy_header::authority, "www.example.org"},
                                          {0xE1, std::string("\0\1", 2)}});
}

TEST_CASE("HAProxy in front: send-proxy, send-proxy-v2, and its checks", "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("haproxy");
    NEEDS_PROGRAM("curl");
    TempDir directory;
    Server target(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web("health = false")});
    auto front = haproxy(ns, directory,
                         "listen one\n  bind 127.0.0.1:7001\n"
                         "  server s 127.0.0.1:5001 source 127.0.0.9 send-proxy\n"
                         "listen two\n  bind 127.0.0.1:7002\n"
                         "  server s 127.0.0.1:5001 source 127.0.0.9 send-proxy-v2 "
                         "proxy-v2-options crc32c,unique-id,authority check inter 50ms "
                         "check-send-proxy\n",
                         "127.0.0.1:7002");
    for (const char* to : {"127.0.0.1:7001", "127.0.0.1:7002"}) {
        Stream client = Stream::dial(ns, to, {.from = "127.0.0.77:0"});
        client.send("hello\n");
        CHECK(client.receive_line() == "blue\n");
        const auto itself = client.local().text();
        client.close();
        CHECK(eventually([&] {
            return find_line(proxify.log(),
                             {"client=" + itself, " via=127.0.0.9:", format("original_dst={}", to)})
                .has_value();
        }));
    }
    // A check is LOCAL, and a session like another.
    CHECK(eventually(
        [&] { return find_line(proxify.log(), {"client=127.0.0.9:", "tried=1"}).has_value(); }));
    CHECK(!find_line(proxify.log(), {"no good PROXY header"}));
}

TEST_CASE("nginx and curl in front", "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("nginx");
    NEEDS_PROGRAM("curl");
    TempDir directory;
    auto server = nginx(ns, directory);
    auto proxify = Proxify::start(
        ns, {.config = web("send_proxy = \"v2\"\nhealth = { type = \"http\", initial = \"down\", "
                           "interval = \"20ms\", rise = 1 }",
                           R"(["127.0.0.1:9002"])")});
    // The check is told in a header too, or nginx would not answer it.
    CHECK(eventually([&] { return times_up(proxify.log(), "127.0.0.1:9002") == 1; }));
    const auto by_curl = run_line(
        ns,
        "curl -s --max-time 10 --interface 127.0.0.9 --haproxy-protocol http://127.0.0.1:5001/");
    CHECK(by_curl.out.starts_with("127.0.0.9:"));
    CHECK(by_curl.out.ends_with(" to 127.0.0.1:5001\n"));
    const auto by_nginx =
        run_line(ns, "curl -s --max-time 10 --interface 127.0.0.77 http://127.0.0.1:7003/");
    CHECK(by_nginx.out.starts_with("127.0.0.77:"));
    CHECK(by_nginx.out.ends_with(" to 127.0.0.1:7003\n"));
}

TEST_CASE("HAProxy and nginx behind, and checks that begin with a header", "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("haproxy");
    NEEDS_PROGRAM("nginx");
    NEEDS_PROGRAM("curl");
    TempDir directory, of_nginx;
    auto last = nginx(ns, of_nginx);
    // It tells nginx what it was told, so that we can read it.
    auto behind = haproxy(ns, directory,
                          "listen one\n  bind 127.0.0.1:9003 accept-proxy\n"
                          "  server s 127.0.0.1:9002 send-proxy-v2\n",
                          "127.0.0.1:9003");
    const std::string down = ", initial = \"down\"";
    auto service = [&](const std::string& name, int port, int target, const std::string& more,
                       const std::string& health) {
        return format(
            "[[service]]\nname = \"{}\"\nports = [{}]\ntargets = [\"127.0.0.1:{}\"]\n{}\n"
            "health = {{ type = \"http\", interval = \"20ms\", rise = 1{} }}\n",
            name, port, target, more, health);
    };
    auto proxify = Proxify::start(
        ns, {.config = service("h1", 5001, 9003, "send_proxy = \"v1\"", down) +
                       service("h2", 5002, 9003, "send_proxy = \"v2\"", down) +
                       service("n1", 5003, 9002, "send_proxy = \"v1\"", down) +
                       service("n2", 5004, 9002, "send_proxy = { unique_id = true }", down) +
                       service("off", 5005, 9002, "send_proxy = \"v2\"", ", send_proxy = false") +
                       service("port", 5006, 9001, "send_proxy = \"v2\"",
                               ", initial = \"down\", port = 9002, send_proxy = true")});
    for (int port = 5001; port <= 5004; ++port) {
        CAPTURE(port);
        Finished asked;
        CHECK(eventually([&] {
            asked = run_line(ns, format("curl -s --max-time 10 --interface 127.0.0.77 "
                                        "http://127.0.0.1:{}/",
                                        port));
            return asked.exit_code == 0;
        }));
        CHECK(asked.out.starts_with("127.0.0.77:"));
        CHECK(asked.out.ends_with(format(" to 127.0.0.1:{}\n", port)));
    }
    CHECK(eventually(
        [&] { return find_line(proxify.log(), {"of service off is down"}).has_value(); }));
    CHECK(eventually(
        [&] { return find_line(proxify.log(), {"of service port is up"}).has_value(); }));
}

TEST_CASE("TLS behind a header, and a target that is told of the client's certificate",
          "[proxy_protocol][P-47][P-48]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("haproxy");
    NEEDS_PROGRAM("openssl");
    TempDir directory;
    make_certificate(directory, "site", "site.example");
    make_certificate(directory, "client", "alice");
    write_file(directory / "client.pem",
               read_file(directory / "client.crt") + read_file(directory / "client.key"));
    Ear ear;
    Server target(ns, "127.0.0.1:9001", ear.handler());
    auto proxify = Proxify::start(
        ns, {.config = web("health = false\nsend_proxy = { tls = true }\n" +
                           tls_of(directory, format(R"(, client_ca = "{}", alpn = ["h2"])",
                                                    directory / "client.crt")))});
    auto front = haproxy(ns, directory,
                         format("listen one\n  bind 127.0.0.1:7001\n  server s 127.0.0.1:5001 "
                                "source 127.0.0.9 send-proxy-v2 ssl verify none crt {} sni "
                                "str(www.example.org) alpn h2\n"
                                "listen two\n  bind 127.0.0.1:7002\n  server s 127.0.0.1:5001 "
                                "source 127.0.0.9 send-proxy ssl verify none\n",
                                directory / "client.pem"),
                         "127.0.0.1:7002");
    CHECK(say(ns, "", from_stranger, "127.0.0.1:7001") == "heard\n");
    const auto told = read(ear.heard(1)).header;
    REQUIRE(told.ends);
    CHECK(told.ends->source.ip.text() == "127.0.0.2");
    CHECK(told.ends->destination.text() == "127.0.0.1:7001");
    CHECK(value_of(told, proxy_header::alpn) == "h2");
    CHECK(value_of(told, proxy_header::authority) == "www.example.org");
    const auto ssl = value_of(told, proxy_header::ssl).value_or("");
    CHECK(
        ssl.starts_with("\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x05"
                        "alice\x23\0"s));

    CHECK(say(ns, "", from_stranger, "127.0.0.1:7002") == "heard\n");
    const auto without = read(ear.heard(2)).header;
    CHECK(value_of(without, proxy_header::ssl).value_or("").starts_with("\x01\0\0\0\1\x21"s));
    for (const auto& session : proxify.sessions(2)) {
        CHECK(session.client.starts_with("127.0.0.2:"));
        CHECK(session.line.contains(" tls=TLSv1.3"));
    }
}

TEST_CASE("megabytes come through two proxies and a header unchanged, both ways at once",
          "[proxy_protocol][P-15]") {
    IN_NAMESPACE(ns);
    constexpr uint64_t count = 64 << 20;
    const Pattern up(7), down(8);
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        std::thread writer([&] { send_pattern(client, down, count), client.finish(); });
        try {
            receive_pattern(client, up, count);
        } catch (const StreamError&) {
            client.reset();
        }
        writer.join();
    });
    for (const char* version : {"v1", "v2"}) {
        auto behind = Proxify::start(ns, {.config = "[[service]]\nname = \"behind\"\n"
                                                    "ports = [5002]\nhealth = false\n"
                                                    "targets = [\"127.0.0.1:9001\"]\n"
                                                    "accept_proxy = [\"127.0.0.1\"]\n"});
        auto front = Proxify::start(
            ns, {.config = format("[[service]]\nname = \"front\"\nports = [5001]\nhealth = false\n"
                                  "targets = [\"127.0.0.1:5002\"]\nsend_proxy = \"{}\"\n",
                                  version),
                 .flags = {"-b"}});
        Stream client = Stream::dial(ns, "127.0.0.1:5001", from_stranger);
        std::thread writer([&] { send_pattern(client, up, count), client.finish(); });
        CHECK_NOTHROW(receive_pattern(client, down, count));
        writer.join();
        const auto session = behind.sessions(1).back();
        CHECK(session.client == client.local().text());
        CHECK(session.ending.starts_with("--"));
        CHECK(session.line.contains("to_target=64.0MiB to_client=64.0MiB"));
    }
}

TEST_CASE("explain says from whom a header has to come", "[proxy_protocol]") {
    IN_NAMESPACE(ns);
    for (const std::vector<std::string>& flags : {std::vector<std::string>{}, {"-b"}}) {
        auto proxify = Proxify::start(
            ns, {.config = web("health = false\ndeny = [\"127.0.0.2\"]"), .flags = flags});
        const auto of_proxy = proxify.ask({"explain", "127.0.0.9:50000", "127.0.0.1:5001"});
        CHECK(of_proxy.out.contains("a PROXY header has to come first"));
        const auto of_stranger = proxify.ask({"explain", "127.0.0.2:50000", "127.0.0.1:5001"});
        CHECK(!of_stranger.out.contains("PROXY header"));
        CHECK(of_stranger.out.contains("that of service web denies 127.0.0.2"));
        CHECK(of_stranger.out.contains("accepted, then reset"));
        CHECK(answered_by(ns, "127.0.0.1:5001", from_stranger) == "reset");
        CHECK(proxify.stop() == 0);
    }
}
