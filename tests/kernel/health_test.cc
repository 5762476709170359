// SPDX-License-Identifier: Apache-2.0
// What each type of check finds out about real servers, and what bad ones cost it. When checks
// come is in tests/unit/health_test.cc, on a clock of its own.
#include <csignal>
#include <filesystem>

#include "base/format.h"
#include "support/kernel_test.h"

using namespace proxify::test;
using proxify::format;

namespace {

// A timeout that only those reach who are to: a busy machine is slow to answer.
constexpr auto quick = R"(interval = "50ms", timeout = "10s", rise = 2, fall = 2)";

/// A service of one target, checked in its own way.
struct Checked {
    std::string name;
    std::string target;
    std::string health;  ///< keys beside the intervals
    std::string intervals = quick;
};

/// A file of such services. Each is down until it was checked, so that "up" is something that a
/// check has found out.
std::string config_of(const std::vector<Checked>& services) {
    std::string text;
    int port = 5001;
    for (const auto& [name, target, health, intervals] : services)
        text += format(
            "[[service]]\nname = \"{}\"\nports = {}\ntargets = [\"{}\"]\n"
            "health = {{ {}, initial = \"down\", {} }}\n",
            name, port++, target, intervals, health);
    return text;
}

bool is_up(const Proxify& proxify, const std::string& name) {
    return find_line(proxify.log(), {" of service " + name + " is up"}).has_value();
}

/// None of them comes up while they are watched, for several intervals.
void stay_down(const Proxify& proxify, const std::vector<std::string>& names) {
    std::string up;
    eventually(
        [&] {
            for (const auto& name : names)
                if (is_up(proxify, name)) up = name;
            return !up.empty();
        },
        300ms);
    CHECK(up == "");
}

/// Why the log says that a target is down that counted as up before.
std::string reason_for_down(const Namespace& ns, const std::string& target,
                            const std::string& health, const std::string& intervals = quick) {
    auto proxify = Proxify::start(
        ns, {.config = format("[[service]]\nname = \"web\"\nports = 5900\ntargets = [\"{}\"]\n"
                              "health = {{ {}, {} }}\n",
                              target, intervals, health)});
    std::optional<std::string> line;
    if (!eventually([&] {
            return (line = find_line(proxify.log(), {"of service web is down: "})).has_value();
        }))
        return "it is not down: " + proxify.log();
    return line->substr(line->find("is down: ") + 9);
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

  private:
    Child child_;
};

void shell(const TempDir& directory, const std::string& line) {
    Finished done = run({.argv = {"sh", "-c", line}, .directory = directory.path()});
    INFO(line << "\n" << done.out << done.err);
    REQUIRE(done.exit_code == 0);
}

bool is_gone(const std::string& pid) {
    // Whoever adopts it may be slow to reap it: a zombie is gone enough.
    if (!std::filesystem::exists("/proc/" + pid)) return true;
    return read_file("/proc/" + pid + "/stat").contains(") Z ");
}

/// A key, and a certificate for "localhost" and 127.0.0.1 that it signs itself.
void make_certificate(const TempDir& directory, const std::string& name, const std::string& from,
                      const std::string& to) {
    write_file(
        directory / "ca.cnf",
        "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\n"
        "default_md = sha256\npolicy = p\nx509_extensions = e\n[p]\ncommonName = supplied\n"
        "[e]\nsubjectAltName = DNS:localhost,IP:127.0.0.1\nbasicConstraints = CA:TRUE\n");
    shell(directory,
          format(": > index.txt; openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
                 "-nodes -keyout {0}.key -out {0}.csr -subj /CN=localhost && "
                 "openssl ca -batch -config ca.cnf -selfsign -keyfile {0}.key -in {0}.csr "
                 "-out {0}.crt -notext -startdate {1} -enddate {2}",
                 name, from, to));
}

/// Answers whatever comes first with these bytes, and ends.
Handler say(std::string bytes) {
    return [bytes = std::move(bytes)](Stream& client) {
        if (client.receive(4096).empty()) return;
        client.send(bytes);
        client.finish();
        client.receive_all();
    };
}

}  // namespace

TEST_CASE("http checks of nginx: status, body, method, host", "[P-45]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("nginx");
    TempDir directory;
    write_file(directory / "nginx.conf", format(R"(
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
        listen 127.0.0.1:9001;
        location = /ok      {{ return 200 "all is well\n"; }}
        location = /moved   {{ return 302 /ok; }}
        location = /broken  {{ return 503 "all is well\n"; }}
        location = /asked   {{ return 200 "$request_method $host $http_user_agent\n"; }}
        location /          {{ return 404; }}
    }}
}}
)",
                                                directory.path().string()));
    Program nginx(ns, {"nginx", "-p", directory.path(), "-c", directory / "nginx.conf"},
                  "127.0.0.1:9001");
    const std::string at = "127.0.0.1:9001";
    const std::vector<Checked> good = {
        {"status", at, R"(type = "http", path = "/ok")"},
        {"moved", at, R"(type = "http", path = "/moved")"},
        {"lost", at, R"(type = "http", path = "/other", status = [200, 404])"},
        {"body", at, R"x(type = "http", path = "/ok", body = "all is (well|fine)")x"},
        {"head", at, R"(type = "http", path = "/ok", method = "HEAD")"},
        {"asked", at,
         R"(type = "http", path = "/asked", host = "www.example", body = "^GET www.example proxify\n$")"},
        {"by-address", at, R"(type = "http", path = "/asked", body = "^GET 127\\.0\\.0\\.1 ")"},
    };
    const std::vector<Checked> bad = {
        {"is-404", at, R"(type = "http", path = "/other")"},
        {"is-503", at, R"(type = "http", path = "/broken", body = "all is well")"},
        {"no-redirect", at, R"(type = "http", path = "/moved", status = "200-299")"},
        {"other-body", at, R"(type = "http", path = "/ok", body = "all is lost")"},
    };
    auto services = good;
    services.insert(services.end(), bad.begin(), bad.end());
    auto proxify = Proxify::start(ns, {.config = config_of(services)});
    for (const auto& [name, target, health, intervals] : good) {
        INFO(name);
        CHECK(eventually([&] { return is_up(proxify, name); }));
    }
    stay_down(proxify, {"is-404", "is-503", "no-redirect", "other-body"});

    CHECK(reason_for_down(ns, at, R"(type = "http", path = "/broken")") ==
          "check failed: status 503, expected 200-399");
    CHECK(reason_for_down(ns, at, R"(type = "http", path = "/ok", body = "all is lost")") ==
          R"(check failed: the body did not match "all is lost")");
}

TEST_CASE("checks leave no TIME_WAIT and no descriptor behind", "[P-45]") {
    IN_NAMESPACE(ns);
    Server server(ns, "127.0.0.1:9001", say("HTTP/1.1 200 OK\r\n\r\n220 hello"));
    Server mute(ns, "127.0.0.1:9002", stare());
    const std::string at = "127.0.0.1:9001";
    constexpr auto fast = R"(interval = "10ms", timeout = "100ms")";
    auto proxify =
        Proxify::start(ns, {.config = config_of({
                                {"a", at, R"(type = "http", body = "hello")", fast},
                                {"b", at, R"(type = "http", body = "never")", fast},
                                {"c", at, R"(type = "send", send = "x", expect = "220")", fast},
                                {"d", at, R"(type = "tls")", fast},
                                {"e", at, R"(type = "exec", command = "/bin/true")", fast},
                                {"f", "127.0.0.1:9002", R"(type = "http")", fast},
                                {"g", "127.0.0.1:9002", R"(type = "tls")", fast},
                            })});
    for (auto name : {"a", "c", "e"}) REQUIRE(eventually([&] { return is_up(proxify, name); }));
    const int before = proxify.process().open_fds();
    const int seen = server.connections();
    REQUIRE(eventually([&] { return server.connections() >= seen + 200; }));
    // Those under way have a few, so the number moves; it does not grow.
    CHECK(eventually([&] { return proxify.process().open_fds() <= before; }));
    Finished ss = run({.argv = {"ss", "-tanH", "state", "time-wait"}, .inside = &ns});
    CHECK(ss.out == "");
}

TEST_CASE("send checks: words that come and go, and servers that speak first", "[P-45]") {
    IN_NAMESPACE(ns);
    Server repeats(ns, "127.0.0.1:9001", echo());
    Server greets(ns, "127.0.0.1:9002", greet("220 mail.example ESMTP"));
    Server ends(ns, "127.0.0.1:9003", [](Stream&) {});
    const std::string at = "127.0.0.1:9001", mail = "127.0.0.1:9002";
    auto proxify = Proxify::start(
        ns, {.config = config_of({
                 {"echo", at, R"(type = "send", send = "PING\r\n", expect = "ING\r")"},
                 {"hex", at, R"(type = "send", send_hex = "00 ff 0d", expect_hex = "ff0d")"},
                 {"regex", at, R"(type = "send", send = "v12", expect_regex = "^v[0-9]+$")"},
                 {"blind", at, R"(type = "send", send = "x")"},
                 {"mail", mail, R"(type = "send", expect = "220 ")"},
                 {"other", at, R"(type = "send", send = "PING", expect = "PONG")"},
                 {"not-mail", mail, R"(type = "send", expect_regex = "^554")"},
             })});
    for (auto name : {"echo", "hex", "regex", "blind", "mail"}) {
        INFO(name);
        CHECK(eventually([&] { return is_up(proxify, name); }));
    }
    stay_down(proxify, {"other", "not-mail"});

    constexpr auto hasty = R"(interval = "50ms", timeout = "1s")";
    CHECK(reason_for_down(ns, at, R"(type = "send", send = "PING", expect = "PONG")", hasty) ==
          R"(check failed: the answer did not contain "PONG")");
    CHECK(reason_for_down(ns, mail, R"(type = "send", expect_regex = "^554")", hasty) ==
          R"(check failed: the answer did not match "^554")");
    CHECK(reason_for_down(ns, "127.0.0.1:9003", R"(type = "send", expect = "220")") ==
          R"(check failed: the answer did not contain "220")");
    CHECK(reason_for_down(ns, at, R"(type = "send", expect = "220")", hasty) ==
          "no answer to a check within 1s");
}

TEST_CASE("tls checks of a real server: handshake, verified or not, and a certificate that ends",
          "[P-45]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("openssl");
    TempDir directory;
    make_certificate(directory, "good", "20200101000000Z", "20991231000000Z");
    make_certificate(directory, "old", "20200101000000Z", "20200201000000Z");
    auto serve = [&](const std::string& name, const std::string& port) {
        return Program(ns,
                       {"openssl", "s_server", "-accept", "127.0.0.1:" + port, "-cert",
                        directory / (name + ".crt"), "-key", directory / (name + ".key"), "-www"},
                       "127.0.0.1:" + port);
    };
    Program good = serve("good", "9001"), old = serve("old", "9002");
    Server plain(ns, "127.0.0.1:9003", say("HTTP/1.1 400 Bad Request\r\n\r\n"));
    Server mute(ns, "127.0.0.1:9004", stare());
    Server ends(ns, "127.0.0.1:9005", [](Stream& client) { client.receive(4096); });
    Server resets(ns, "127.0.0.1:9006", [](Stream& client) {
        client.receive(1);
        client.reset();
    });

    Setup setup{
        .config = config_of({
            {"any", "127.0.0.1:9001", R"(type = "tls")"},
            {"by-address", "127.0.0.1:9001", R"(type = "tls", verify = true)"},
            {"by-name", "127.0.0.1:9001", R"(type = "tls", sni = "localhost", verify = true)"},
            {"https", "127.0.0.1:9001", R"(type = "http", tls = true, body = "s_server")"},
            {"expired", "127.0.0.1:9002", R"(type = "tls")"},
            {"other-name", "127.0.0.1:9001",
             R"(type = "tls", sni = "other.example", verify = true)"},
            {"expired-verified", "127.0.0.1:9002", R"(type = "tls", verify = true)"},
        })};
    shell(directory, "cat good.crt old.crt > both.crt");
    setup.command.environment = {"SSL_CERT_FILE=" + directory / "both.crt"};
    auto proxify = Proxify::start(ns, std::move(setup));
    for (auto name : {"any", "by-address", "by-name", "https", "expired"}) {
        INFO(name);
        CHECK(eventually([&] { return is_up(proxify, name); }));
    }
    stay_down(proxify, {"other-name", "expired-verified"});
    // Once, though it was checked several times.
    CHECK(count_lines(proxify.log(),
                      {"the certificate of target 127.0.0.1:9002 of service expired ended "}) == 1);
    CHECK(count_lines(proxify.log(), {"the certificate of target 127.0.0.1:9001"}) == 0);

    constexpr auto hasty = R"(interval = "50ms", timeout = "100ms")";
    CHECK(reason_for_down(ns, "127.0.0.1:9001", R"(type = "tls", verify = true)") ==
          "TLS handshake failed: self-signed certificate");
    CHECK(reason_for_down(ns, "127.0.0.1:9003", R"(type = "tls")") ==
          "TLS handshake failed: wrong version number");
    CHECK(reason_for_down(ns, "127.0.0.1:9004", R"(type = "tls")", hasty) ==
          "no answer to a check within 100ms");
    CHECK(reason_for_down(ns, "127.0.0.1:9005", R"(type = "tls")") ==
          "TLS handshake failed: the target ended the connection");
    CHECK(reason_for_down(ns, "127.0.0.1:9006", R"(type = "tls")") ==
          "TLS handshake failed: the target reset the connection");
}

TEST_CASE("exec checks: the exit status, the environment, and nothing of ours", "[P-45]") {
    IN_NAMESPACE(ns);
    TempDir directory;
    const std::string script = directory / "check";
    write_file(script, R"(#!/bin/sh
set -e
cd ")" + directory.path().string() +
                           R"("
env > env.new; mv env.new env
ls -l /proc/$$/fd > fds.new; mv fds.new fds
test "$1" = "an argument"
)");
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    auto proxify = Proxify::start(
        ns,
        {.config = config_of({
             {"good", "[::1]:9001",
              format(R"(type = "exec", command = ["{}", "an argument"], port = 82)", script)},
             {"bad", "127.0.0.1:9001", format(R"(type = "exec", command = "{}")", script)},
             // A shell changes its signals now and then; cp does not.
             {"copies", "127.0.0.1:9001",
              format(R"(type = "exec", command = ["/bin/cp", "/proc/self/status", "{}/status"])",
                     directory.path().string()),
              R"(interval = "10m", timeout = "10s", rise = 1)"},
         })});
    for (auto name : {"good", "copies"}) REQUIRE(eventually([&] { return is_up(proxify, name); }));
    stay_down(proxify, {"bad"});
    proxify.reload(config_of(
        {{"good", "[::1]:9001",
          format(R"(type = "exec", command = ["{}", "an argument"], port = 82)", script)}}));
    REQUIRE(eventually([&] { return read_file(directory / "env").contains("SERVICE=good\n"); }));
    const std::string env = "\n" + read_file(directory / "env");
    for (auto line : {"\nPROXIFY_TARGET=[::1]:82\n", "\nPROXIFY_ADDRESS=::1\n",
                      "\nPROXIFY_PORT=82\n", "\nPATH="})
        CHECK(env.contains(line));
    CHECK(env.contains("\nPROXIFY_SERVICE=good\n"));

    // The shell itself has its script open, and fds.new in the place of its standard output.
    const std::string fds = read_file(directory / "fds");
    INFO(fds);
    CHECK(count_lines(fds, {" -> /dev/null"}) == 3);
    CHECK(count_lines(fds, {"socket:"}) + count_lines(fds, {"anon_inode:"}) +
              count_lines(fds, {"pipe:"}) + count_lines(fds, {"memfd"}) ==
          0);
    const std::string status = read_file(directory / "status");
    INFO(status);
    CHECK(status.contains("SigBlk:\t0000000000000000"));
    // glibc leaves its own two, 32 and 33, ignored.
    REQUIRE(status.contains("SigIgn:\t"));
    CHECK((std::stoull(status.substr(status.find("SigIgn:\t") + 8), nullptr, 16) & 0x7fffffff) ==
          0);

    CHECK(reason_for_down(ns, "127.0.0.1:9001",
                          R"(type = "exec", command = ["/bin/sh", "-c", "exit 2"])") ==
          "check failed: exit status 2");
    CHECK(reason_for_down(ns, "127.0.0.1:9001",
                          R"(type = "exec", command = ["/bin/sh", "-c", "kill -9 $$"])") ==
          "check failed: signal 9");
    CHECK(reason_for_down(ns, "127.0.0.1:9001", R"(type = "exec", command = "/no/such")") ==
          "check failed: cannot start /no/such: No such file or directory");
}

TEST_CASE("when this host has no TLS the log says so, once, and targets keep their state",
          "[P-45]") {
    IN_NAMESPACE(ns);
    TempDir directory;
    // OpenSSL without any algorithm.
    write_file(
        directory / "openssl.cnf",
        "openssl_conf = all\n[all]\nproviders = some\n[some]\nnull = it\n[it]\nactivate = 1\n");
    Server target(ns, "127.0.0.1:9001", greet("target"));
    auto proxify = Proxify::start(
        ns,
        {.config = "[[service]]\nname = \"web\"\nports = 5001\ntargets = [\"127.0.0.1:9001\"]\n"
                   "health = { type = \"tls\", interval = \"10ms\" }\n"
                   "[[service]]\nname = \"other\"\nports = 5002\ntargets = [\"127.0.0.1:9001\"]\n"
                   "health = { type = \"http\", tls = true, interval = \"10ms\" }\n",
         .command = {.environment = {"OPENSSL_CONF=" + (directory / "openssl.cnf")}}});
    auto complaints = [&] {
        return std::ranges::count_if(lines_of(proxify.log()), [](const std::string& line) {
            return line.contains("checks over TLS say nothing: cannot set up TLS: ");
        });
    };
    CHECK(eventually([&] { return complaints() > 0; }));
    CHECK_FALSE(eventually([&] { return complaints() > 1; }, 300ms));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "target");
    CHECK(answered_by(ns, "127.0.0.1:5002") == "target");
}

TEST_CASE("a program that never ends is killed with all it has started, and reaped", "[P-45]") {
    IN_NAMESPACE(ns);
    TempDir directory;
    auto proxify = Proxify::start(
        ns, {.config = config_of({{"web", "127.0.0.1:9001",
                                   format(R"(type = "exec", command = ["/bin/sh", "-c", )"
                                          R"("sleep 1000 & echo $! >> {0}/pids; sleep 1000"])",
                                          directory.path().string()),
                                   R"(interval = "10ms", timeout = "100ms")"}})});
    auto pids = [&] {
        return std::filesystem::exists(directory / "pids") ? lines_of(read_file(directory / "pids"))
                                                           : std::vector<std::string>();
    };
    REQUIRE(eventually([&] { return pids().size() >= 5; }));
    const auto first = pids();
    for (size_t i = 0; i + 1 < first.size(); ++i)
        CHECK(eventually([&] { return is_gone(first[i]); }));
    // At most the one that runs now, and no zombies.
    const auto children =
        format("/proc/{0}/task/{0}/children", static_cast<int>(proxify.process().pid()));
    CHECK(eventually([&] { return lines_of(read_file(children)).size() <= 1; }));
    CHECK_FALSE(is_up(proxify, "web"));

    // Leaving does not wait for it.
    const Moment start = now();
    CHECK(proxify.stop() == 0);
    CHECK(now() - start < 5s);
    for (const auto& pid : pids()) CHECK(eventually([&] { return is_gone(pid); }));
}

TEST_CASE("a program that has left its process group is killed as well", "[P-45]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("perl");
    CHECK(reason_for_down(ns, "127.0.0.1:9001",
                          R"(type = "exec", command = ["/usr/bin/perl", "-e", )"
                          R"("setpgrp(0, getpgrp(getppid)) or exit 3; sleep 1000"])",
                          R"(interval = "50ms", timeout = "1s")") ==
          "no answer to a check within 1s");
}

TEST_CASE("a second signal leaves no program behind that checks", "[P-45]") {
    IN_NAMESPACE(ns);
    TempDir directory;
    Server target(ns, "127.0.0.1:9001", greet("target"));
    auto proxify = Proxify::start(
        ns, {.config = format("[proxify]\ndrain_timeout = \"10m\"\n"
                              "[[service]]\nname = \"web\"\nports = 5001\n"
                              "targets = [\"127.0.0.1:9001\"]\n"
                              "health = {{ type = \"exec\", timeout = \"10m\", command = "
                              "[\"/bin/sh\", \"-c\", \"echo $$ > {0}/new && mv {0}/new {0}/pid; "
                              "sleep 1000\"] }}\n",
                              directory.path().string())});
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.receive_line();
    REQUIRE(eventually([&] { return std::filesystem::exists(directory / "pid"); }));
    const std::string pid = lines_of(read_file(directory / "pid")).at(0);
    proxify.process().signal(SIGTERM);
    REQUIRE(eventually([&] { return answered_by(ns, "127.0.0.1:5001") == "refused"; }));
    CHECK_FALSE(is_gone(pid));
    proxify.process().signal(SIGTERM);
    CHECK(proxify.process().wait(5s).has_value());
    CHECK(eventually([&] { return is_gone(pid); }));
}

TEST_CASE("no more than 32 programs run at a time, and each has its turn", "[P-45]") {
    IN_NAMESPACE(ns);
    TempDir directory;
    const std::string script = directory / "check";
    write_file(script, "#!/bin/sh\ncd '" + directory.path().string() + R"('
mkdir run.$$
ls -d run.* | wc -l >> counts
sleep 0.1
rmdir run.$$
)");
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    std::vector<Checked> services;
    for (int i = 0; i < 80; ++i)
        services.push_back({format("s{}", i), "127.0.0.1:9001",
                            format(R"(type = "exec", command = "{}")", script),
                            R"(interval = "10ms", timeout = "30s", rise = 1)"});
    auto proxify = Proxify::start(ns, {.config = config_of(services)});
    for (const auto& service : services)
        REQUIRE(eventually([&] { return is_up(proxify, service.name); }, 60s));
    int most = 0;
    for (const auto& count : lines_of(read_file(directory / "counts")))
        most = std::max(most, std::atoi(count.c_str()));
    CHECK(most <= 32);
    CHECK(most >= 8);
    CHECK(proxify.stop() == 0);
}

TEST_CASE("the address and the port that are checked may be others than the target's", "[P-45]") {
    IN_NAMESPACE(ns);
    ns.add_address("198.51.100.1/32");
    Server checked(ns, "198.51.100.1:9081", answer("checked"));
    Server target(ns, "127.0.0.1:9001", answer("target"));
    auto proxify = Proxify::start(
        ns, {.config = config_of({
                 {"elsewhere", "127.0.0.1:9001", R"(address = "198.51.100.1", port = 9081)"},
                 {"nowhere", "127.0.0.1:9001", R"(address = "198.51.100.1")"},
             }),
             .flags = {"-b"}});
    REQUIRE(eventually([&] { return is_up(proxify, "elsewhere"); }));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "target");
    stay_down(proxify, {"nowhere"});
    CHECK(answered_by(ns, "127.0.0.1:5002") == "refused");
}

TEST_CASE("a target that never answers is down by each type of check, in time", "[P-45]") {
    IN_NAMESPACE(ns);
    Server mute(ns, "127.0.0.1:9001", stare());
    BlackHole hole(ns, "127.0.0.1:9010");
    constexpr auto hasty = R"(interval = "50ms", timeout = "200ms")";
    for (auto health : {R"(type = "http")", R"(type = "send", expect = "x")", R"(type = "tls")",
                        R"(type = "exec", command = ["/bin/sleep", "1000"])"}) {
        INFO(health);
        const Moment start = now();
        CHECK(reason_for_down(ns, "127.0.0.1:9001", health, hasty) ==
              "no answer to a check within 200ms");
        CHECK(now() - start < 5s);
    }
    CHECK(reason_for_down(ns, "127.0.0.1:9010", R"(type = "http")", hasty) ==
          "no answer to a check within 200ms");
}

TEST_CASE("an answer without end costs a check no more than another", "[P-45]") {
    IN_NAMESPACE(ns);
    std::atomic<uint64_t> sent = 0;
    auto endless = [&](std::string head) {
        return [&sent, head = std::move(head)](Stream& client) {
            client.receive(4096);
            client.send(head);
            pour(sent)(client);
        };
    };
    Server body(ns, "127.0.0.1:9001",
                endless("HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"));
    Server head(ns, "127.0.0.1:9002", endless("HTTP/1.1 200 OK\r\nX: "));
    Server early(ns, "127.0.0.1:9003", endless("HTTP/1.1 103 Early Hints\r\n\r\n"));
    auto proxify = Proxify::start(
        ns, {.config = config_of({
                 {"status", "127.0.0.1:9001", R"(type = "http")"},
                 {"body", "127.0.0.1:9001", R"(type = "http", body = "needle")"},
                 {"bomb", "127.0.0.1:9001", R"(type = "http", body = "(p+p+)+y")"},
                 {"words", "127.0.0.1:9001", R"(type = "send", send = "x", expect = "needle")"},
                 {"head", "127.0.0.1:9002", R"(type = "http")"},
                 {"early", "127.0.0.1:9003", R"(type = "http")"},
                 {"tls", "127.0.0.1:9001", R"(type = "tls")"},
             })});
    REQUIRE(eventually([&] { return is_up(proxify, "status"); }));
    const int before = body.connections();
    const uint64_t sent_before = sent;
    REQUIRE(eventually([&] { return body.connections() >= before + 40; }, 60s));
    stay_down(proxify, {"body", "bomb", "words", "head", "early", "tls"});
    // What the kernels on the way hold of each answer, and no more: 10 GB would not come through
    // in the time.
    const auto checks = static_cast<uint64_t>(body.connections() - before) * 3;
    CHECK((sent - sent_before) / checks < (16u << 20));
    CHECK(proxify.process().resident_bytes() < (sanitized ? 600u : 100u) << 20);

    CHECK(reason_for_down(ns, "127.0.0.1:9001", R"(type = "http", body = "needle")") ==
          R"(check failed: the first 64 KiB of the answer did not match "needle")");
    CHECK(reason_for_down(ns, "127.0.0.1:9002", R"(type = "http")") ==
          "check failed: the head of the answer has no end");
}

TEST_CASE("an answer that drips is judged when the time is up, and costs little", "[P-45]") {
    IN_NAMESPACE(ns);
    Server drips(ns, "127.0.0.1:9001", [](Stream& client) {
        client.receive(4096);
        client.send("HTTP/1.1 200 OK\r\n\r\n" + std::string(50'000, 'a'));
        for (;;) {
            client.send("a");
            std::this_thread::sleep_for(100us);
        }
    });
    Server live(ns, "127.0.0.1:9002", answer("live"));
    auto proxify = Proxify::start(
        ns, {.config = config_of({{"drips", "127.0.0.1:9001", R"(type = "http", body = "(a+a+)+y")",
                                   R"(interval = "10ms", timeout = "1s")"},
                                  {"live", "127.0.0.1:9002", R"(type = "tcp")"}})});
    REQUIRE(eventually([&] { return is_up(proxify, "live"); }));
    const auto before = proxify.process().cpu_time();
    REQUIRE(eventually([&] { return drips.connections() >= 3; }));
    const auto used = proxify.process().cpu_time() - before;
    INFO(used.count() << " ms");
    CHECK(used < (sanitized ? 3000ms : 500ms));
    CHECK(answered_by(ns, "127.0.0.1:5002") == "live");
    CHECK(reason_for_down(ns, "127.0.0.1:9001", R"(type = "http", body = "y")",
                          R"(interval = "50ms", timeout = "1s")") ==
          R"(check failed: the body did not match "y" within 1s)");
}

TEST_CASE("garbage is no answer, and nothing of it is logged", "[P-45]") {
    IN_NAMESPACE(ns);
    Server garbage(ns, "127.0.0.1:9001", say(std::string("\0\xff\x1b[31mred\r\n\r\n", 15)));
    for (auto [health, reason] :
         {std::pair{R"(type = "http")", "check failed: the answer is not HTTP/1"},
          std::pair{R"(type = "tls")", "TLS handshake failed: "},
          std::pair{R"(type = "send", send = "x", expect = "y")",
                    R"(check failed: the answer did not contain "y")"}}) {
        const auto found = reason_for_down(ns, "127.0.0.1:9001", health);
        INFO(found);
        CHECK(found.starts_with(reason));
        CHECK_FALSE(found.contains("red"));
    }
}
