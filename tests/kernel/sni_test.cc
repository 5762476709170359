// SPDX-License-Identifier: Apache-2.0
// Services that share a port, told apart by the name in a TLS client's hello.
#include <cerrno>
#include <map>

#include "support/client_hello.h"
#include "support/kernel_test.h"

using namespace proxify::test;
using namespace client_hello;

namespace {

std::string service(const std::string& name, const std::string& target, const std::string& more) {
    return "[[service]]\nname = \"" + name + "\"\nports = [5443]\nhealth = false\ntargets = [\"" +
           target + "\"]\n" + more + "\n";
}

std::string three_services(const std::string& of_www = "www.example.org") {
    return service("www", "127.0.0.1:9001", "sni = [\"" + of_www + "\"]") +
           service("shops", "127.0.0.1:9002", "sni = [\"*.shop.example.org\"]") +
           service("rest", "127.0.0.1:9003", "");
}

std::vector<std::string> flags(bool steered) {
    return steered ? std::vector<std::string>{"-b"} : std::vector<std::string>{};
}

std::string hello(const std::string& name) {
    return records(message(name.empty() ? std::string() : named(name)));
}

/// Who answers a client that asks for this name, or how it fares: "reset".
std::string answered(const Namespace& ns, const std::string& hello) {
    Stream client = Stream::dial(ns, "127.0.0.1:5443");
    try {
        client.send(hello);
        client.finish();
    } catch (const StreamError& error) {
        // It may be told before it has said all.
        if (error.number != ENOTCONN && error.number != EPIPE && error.number != ECONNRESET) throw;
        return "reset";
    }
    const Got got = client.receive_all();
    if (got.end == End::reset) return "reset";
    return got.bytes.substr(0, got.bytes.find('\n'));
}

/// A TLS server of other people's, and its certificate, which nobody else has.
struct TlsTarget {
    TlsTarget(const Namespace& ns, const TempDir& directory, const std::string& name,
              const std::string& port)
        : certificate(directory / (port + ".pem")),
          child(start(ns, certificate, directory / (port + ".key"), name, port)) {}

    static Child start(const Namespace& ns, const std::string& certificate, const std::string& key,
                       const std::string& name, const std::string& port) {
        const Finished made =
            run({.argv = {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                          "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=" + name,
                          "-addext", "subjectAltName=DNS:" + name, "-keyout", key, "-out",
                          certificate}});
        if (made.exit_code != 0) FAIL(made.err);
        return Child::start({.argv = {"openssl", "s_server", "-accept", "127.0.0.1:" + port,
                                      "-cert", certificate, "-key", key, "-www", "-quiet"},
                             .inside = &ns});
    }

    std::string certificate;
    Child child;
};

}  // namespace

TEST_CASE("three services share a port, and the name that a client asks for decides", "[P-47]") {
    const bool steered = GENERATE(true, false);
    CAPTURE(steered);
    IN_NAMESPACE(ns);
    Server www(ns, "127.0.0.1:9001", answer("www")), shops(ns, "127.0.0.1:9002", answer("shops")),
        rest(ns, "127.0.0.1:9003", answer("rest"));
    auto proxify = Proxify::start(ns, {.config = three_services(), .flags = flags(steered)});
    CHECK(answered(ns, hello("www.example.org")) == "www");
    CHECK(answered(ns, hello("WWW.Example.Org")) == "www");
    CHECK(answered(ns, hello("a.shop.example.org")) == "shops");
    CHECK(answered(ns, hello("a.b.shop.example.org")) == "rest");
    CHECK(answered(ns, hello("other.example")) == "rest");
    CHECK(answered(ns, hello("")) == "rest");

    // Two workers may end theirs in either order.
    std::map<std::string, int> count;
    for (const auto& session : proxify.sessions(6)) ++count[session.service];
    CHECK(count == std::map<std::string, int>{{"www", 2}, {"shops", 1}, {"rest", 3}});
    const auto services = proxify.ask({"services", "--json"}).out;
    INFO(services);
    CHECK(services.find("by name") == std::string::npos);
}

TEST_CASE("the bytes of a hello reach the target as they came, however they came", "[P-47]") {
    const bool steered = GENERATE(true, false);
    CAPTURE(steered);
    IN_NAMESPACE(ns);
    Server www(ns, "127.0.0.1:9001", echo());
    auto proxify =
        Proxify::start(ns, {.config = service("www", "127.0.0.1:9001", "sni = \"www.example.org\""),
                            .flags = flags(steered)});
    auto returned = [&](const std::string& bytes, size_t step) {
        Stream client = Stream::dial(ns, "127.0.0.1:5443");
        for (size_t at = 0; at < bytes.size(); at += step) client.send(bytes.substr(at, step));
        client.finish();
        return client.receive_all().bytes == bytes;
    };
    const auto captures = source_root() + "/tests/fuzz/corpus/client_hello/";
    for (const auto* real : {"openssl_tls13", "openssl_tls12", "openssl_split_records", "curl"}) {
        CAPTURE(real);
        const auto bytes = read_file(captures + real);
        CHECK(returned(bytes, bytes.size()));
        CHECK(returned(bytes, 1));
        CHECK(returned(bytes + "early data", 100));
    }
    const auto giant = message(padding(50'000) + named("www.example.org"));
    CHECK(returned(records(giant) + std::string(1'000'000, 'x'), 1 << 20));
    CHECK(returned(records(giant, 100), 1000));
    CHECK(returned(records(giant), 7000));
}

TEST_CASE("a client that asks for no service's name is reset, and so is one without TLS",
          "[P-47]") {
    const bool steered = GENERATE(true, false);
    CAPTURE(steered);
    IN_NAMESPACE(ns);
    Server www(ns, "127.0.0.1:9001", answer("www"));
    auto proxify =
        Proxify::start(ns, {.config = service("www", "127.0.0.1:9001", "sni = \"www.example.org\""),
                            .flags = flags(steered)});
    struct Row {
        std::string bytes, ending;
    };
    size_t count = 0;
    for (const auto& [bytes, ending] :
         {Row{hello("other.example"), "no service for this name: other.example"},
          Row{hello(""), "no service for this name: it asks for none"},
          Row{"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
              "no TLS hello: it does not begin as a handshake does"},
          Row{records(message(padding(65'450) + named("www.example.org"))),
              "no TLS hello: it is too long"},
          Row{hello("www.example.org").substr(0, 50), "no TLS hello: it ended before"},
          Row{"", "no TLS hello: it ended before"}}) {
        CAPTURE(ending);
        CHECK(answered(ns, bytes) == "reset");
        const auto session = proxify.sessions(++count).back();
        CHECK(session.line.find(ending) != std::string::npos);
        CHECK(session.service == "-");
    }
    CHECK(answered(ns, hello("www.example.org")) == "www");
    CHECK(www.connections() == 1);
}

TEST_CASE("openssl and curl meet the target's own certificate behind a shared port", "[P-47]") {
    const bool steered = GENERATE(true, false);
    CAPTURE(steered);
    NEEDS_PROGRAM("openssl");
    NEEDS_PROGRAM("curl");
    IN_NAMESPACE(ns);
    TempDir directory;
    const TlsTarget www(ns, directory, "www.example.org", "9001"),
        shop(ns, directory, "a.shop.example.org", "9002"),
        rest(ns, directory, "other.example", "9003");
    REQUIRE(eventually([&] {
        const auto open = listening(ns);
        return open.contains("127.0.0.1:9001") && open.contains("127.0.0.1:9002") &&
               open.contains("127.0.0.1:9003");
    }));
    auto proxify = Proxify::start(ns, {.config = three_services(), .flags = flags(steered)});
    for (const auto& [name, target] : {std::pair{std::string("www.example.org"), &www},
                                       {std::string("a.shop.example.org"), &shop},
                                       {std::string("other.example"), &rest}}) {
        CAPTURE(name);
        const auto curl =
            run({.argv = {"curl", "-sS", "--max-time", "10", "--cacert", target->certificate,
                          "--resolve", name + ":5443:127.0.0.1", "https://" + name + ":5443/"},
                 .inside = &ns});
        INFO(curl.err);
        CHECK(curl.exit_code == 0);
        CHECK(curl.out.find("s_server") != std::string::npos);
        for (const auto* version : {"-tls1_2", "-tls1_3"}) {
            const auto client =
                run({.argv = {"openssl", "s_client", "-connect", "127.0.0.1:5443", "-servername",
                              name, "-verify_hostname", name, "-verify_return_error", "-CAfile",
                              target->certificate, version},
                     .inside = &ns,
                     .input = "Q\n"});
            CHECK(client.exit_code == 0);
            CHECK(client.out.find("Verify return code: 0 (ok)") != std::string::npos);
        }
    }
    // The wrong one would have been noticed.
    CHECK(run({.argv = {"curl", "-sS", "--max-time", "10", "--cacert", www.certificate, "--resolve",
                        "other.example:5443:127.0.0.1", "https://other.example:5443/"},
               .inside = &ns})
              .exit_code != 0);
}

TEST_CASE("a service with sni and tls shakes hands itself, and waits so long for a hello",
          "[P-47]") {
    NEEDS_PROGRAM("openssl");
    NEEDS_PROGRAM("curl");
    IN_NAMESPACE(ns);
    TempDir directory;
    const TlsTarget own(ns, directory, "www.example.org", "9009");  // for its certificate
    Server plain(ns, "127.0.0.1:9001", [](Stream& client) {
        client.receive();
        client.send("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nplain");
        client.finish();
        client.receive_all();
    });
    auto proxify = Proxify::start(
        ns, {.config = service("www", "127.0.0.1:9001",
                               "sni = \"www.example.org\"\ntls = { certificates = \"" +
                                   own.certificate + "\", key = \"" + (directory / "9009.key") +
                                   "\", handshake_timeout = \"300ms\" }"),
             .flags = {"-b"}});
    const auto curl =
        run({.argv = {"curl", "-sS", "--max-time", "10", "--cacert", own.certificate, "--resolve",
                      "www.example.org:5443:127.0.0.1", "https://www.example.org:5443/"},
             .inside = &ns});
    INFO(curl.err);
    CHECK(curl.out == "plain");

    Stream silent = Stream::dial(ns, "127.0.0.1:5443");
    CHECK(silent.receive_all().end == End::reset);
    Stream slow = Stream::dial(ns, "127.0.0.1:5443");
    slow.send(hello("www.example.org").substr(0, 60));
    CHECK(slow.receive_all().end == End::reset);
    const auto sessions = proxify.sessions(3);
    CHECK(sessions[1].line.find("ending=cH no TLS hello in time") != std::string::npos);
    CHECK(sessions[2].line.find("ending=cH no TLS hello in time") != std::string::npos);
}

TEST_CASE("a reload moves a name to another service, and who came before goes by the old file",
          "[P-47]") {
    const bool steered = GENERATE(true, false);
    CAPTURE(steered);
    IN_NAMESPACE(ns);
    Server www(ns, "127.0.0.1:9001", answer("www")), shops(ns, "127.0.0.1:9002", answer("shops")),
        rest(ns, "127.0.0.1:9003", answer("rest"));
    auto proxify = Proxify::start(ns, {.config = three_services(), .flags = flags(steered)});
    CHECK(answered(ns, hello("www.example.org")) == "www");
    CHECK(answered(ns, hello("new.example.org")) == "rest");

    const auto words = hello("new.example.org");
    Stream early = Stream::dial(ns, "127.0.0.1:5443");
    early.send(words.substr(0, 20));
    REQUIRE(eventually([&] {
        const auto sessions = proxify.ask({"sessions", "--json"}).out;
        return sessions.find("\"connecting\"") != std::string::npos;
    }));
    proxify.reload(three_services("new.example.org"));
    CHECK(answered(ns, hello("www.example.org")) == "rest");
    CHECK(answered(ns, words) == "www");
    early.send(words.substr(20));
    CHECK(early.receive_line() == "rest\n");

    // From shared to a port of one service, and back.
    proxify.reload(service("www", "127.0.0.1:9001", ""));
    CHECK(answered(ns, "no TLS at all") == "www");
    proxify.reload(three_services());
    CHECK(answered(ns, hello("a.shop.example.org")) == "shops");
    CHECK(answered(ns, "no TLS at all") == "reset");
}

TEST_CASE("on a shared port each service's own list, rate and state hold once the name is known",
          "[P-47]") {
    const bool steered = GENERATE(true, false);
    CAPTURE(steered);
    IN_NAMESPACE(ns);
    ns.add_address("198.51.100.7/32");
    Server www(ns, "127.0.0.1:9001", answer("www")), rest(ns, "127.0.0.1:9003", answer("rest"));
    auto proxify = Proxify::start(
        ns, {.config = "[proxify]\ndeny = \"198.51.100.7\"\n" +
                       service("www", "127.0.0.1:9001", "sni = \"www.example.org\"") +
                       service("closed", "127.0.0.1:9001",
                               "sni = \"closed.example.org\"\ndeny = \"127.0.0.0/8\"") +
                       service("seldom", "127.0.0.1:9001",
                               "sni = \"seldom.example.org\"\nlimits = { source_rate = 1 }") +
                       service("dead", "127.0.0.1:9008",
                               "sni = \"dead.example.org\"\nwhen_down = \"drop\"") +
                       service("rest", "127.0.0.1:9003", "when_down = \"drop\""),
             .flags = flags(steered)});
    CHECK(answered(ns, hello("closed.example.org")) == "reset");
    CHECK(answered(ns, hello("dead.example.org")) == "reset");
    // At least two of them come within a second of each other.
    int turned_away = 0;
    for (int i = 0; i < 5; ++i) turned_away += answered(ns, hello("seldom.example.org")) == "reset";
    CHECK(turned_away >= 1);
    CHECK(answered(ns, hello("www.example.org")) == "www");
    CHECK(answered(ns, hello("else.example.org")) == "rest");
    const auto sessions = proxify.sessions(9);
    CHECK(sessions[0].service == "closed");
    CHECK(sessions[0].line.find("denied") != std::string::npos);
    CHECK(sessions[1].service == "dead");

    // The list of all services is asked before.
    const auto stranger = answered_by(ns, "127.0.0.1:5443", {.from = "198.51.100.7:0"});
    CHECK(stranger == (steered ? "refused" : "reset"));
}

TEST_CASE("explain says that the name decides, and the counters of shared ports have a row",
          "[P-47]") {
    const bool steered = GENERATE(true, false);
    CAPTURE(steered);
    IN_NAMESPACE(ns);
    Server www(ns, "127.0.0.1:9001", answer("www"));
    auto proxify = Proxify::start(ns, {.config = three_services(), .flags = flags(steered)});
    const auto said = proxify.ask({"explain", "127.0.0.1", "127.0.0.1:5443"}).out;
    INFO(said);
    CHECK(said.find("the name in the client's TLS hello decides: www (www.example.org), shops "
                    "(*.shop.example.org), rest (other names, and none)") != std::string::npos);
    if (steered) {
        CHECK(said.find("services share it by name") != std::string::npos);
        CHECK(answered(ns, hello("www.example.org")) == "www");
        const auto steering = proxify.ask({"steering", "--json"}).out;
        INFO(steering);
        CHECK(steering.find("\"by name\"") != std::string::npos);
    }
}
