// SPDX-License-Identifier: Apache-2.0
// `proxify` with captures of type "ingress", as its users meet it: remote clients over a veth pair,
// interfaces that come and go, edits, signals.
#include <fcntl.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "base/format.h"
#include "kernel/wire.h"
#include "support/kernel_test.h"
#include "support/log_lines.h"
#include "support/pattern.h"

using namespace proxify;
using namespace proxify::test;

namespace {

std::string mapping(int port, int to_port, const std::string& more = {}) {
    return format("[[capture]]\ntype = \"ingress\"\nports = [{}]\nto_port = {}\n{}\n", port,
                  to_port, more);
}

std::string from_client(const Wire& wire, const std::string& to) {
    return answered_by(wire.client, to, {.limit = 5s});
}

int count(const std::string& text, const std::string& part) {
    int found = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++found;
    return found;
}

/// Filters of ours at an interface, ingress and egress.
std::pair<int, int> filters(const Namespace& where, const std::string& interface) {
    auto of = [&](const char* direction) {
        auto show = run_line(where, "tc filter show dev " + interface + " " + direction);
        return count(show.out, "handle 0x2035 proxify_");
    };
    return {of("ingress"), of("egress")};
}

using Pair = std::pair<int, int>;

#define NEEDS_INGRESS() \
    if (auto missing = ::proxify::test::missing_for_proxify()) SKIP_TEST(*missing)

}  // namespace

TEST_CASE("[T-01] the object file loads with bpftool alone") {
    NEEDS_INGRESS();
    const auto object =
        std::filesystem::path(proxify_binary()).parent_path().parent_path() / "bpf/ingress.bpf.o";
    if (!std::filesystem::exists(object)) SKIP_TEST("needs " + object.string());
    auto loaded = run({.argv = {"unshare", "-m", "sh", "-c",
                                "mount -t bpf bpf /sys/fs/bpf && PATH=$PATH:/usr/sbin bpftool prog "
                                "loadall " +
                                    object.string() + " /sys/fs/bpf/in && ls /sys/fs/bpf/in"}});
    INFO(loaded.err);
    CHECK(loaded.exit_code == 0);
    for (const char* name :
         {"proxify_ingress", "proxify_egress", "proxify_in_l3", "proxify_out_l3"})
        CHECK(loaded.out.find(name) != std::string::npos);
}

TEST_CASE("[T-02] without privileges it says which ones are missing") {
    NEEDS_INGRESS();
    Wire wire;
    auto refused =
        Proxify::refuse(wire.host, {.config = mapping(8000, 9000), .command = {.user = nobody}});
    CHECK(refused.exit_code != 0);
    INFO(refused.err);
    CHECK(refused.err.find("CAP_BPF") != std::string::npos);
    CHECK(refused.err.find("hint:") != std::string::npos);
}

TEST_CASE("[T-05] [T-09] [T-10] [T-11] mappings follow the file, and flows outlive edits") {
    NEEDS_INGRESS();
    Wire wire;
    Both one(wire.host, 8000, answer("8000")), two(wire.host, 8443, answer("8443"));
    Both proxy(wire.host, 9000, echo()), other(wire.host, 9443, answer("9443"));
    Both third(wire.host, 9001, answer("9001"));
    auto proxify = Proxify::start(wire.host, {.config = mapping(8000, 9000) + mapping(8443, 9443)});
    CHECK(count_lines(proxify.log(), {"port 8000 leads to port 9000"}) == 1);
    CHECK(count_lines(proxify.log(), {"port 8443 leads to port 9443"}) == 1);
    CHECK(from_client(wire, "198.51.100.1:8443") == "9443");
    CHECK(from_client(wire, "[2001:db8::1]:8443") == "9443");
    CHECK(answered_by(wire.host, "127.0.0.1:8000") == "8000");  // T-08
    auto flow = Stream::dial(wire.client, "198.51.100.1:8000");
    flow.send("one");
    CHECK(flow.receive_exactly(3) == "one");

    // Changed, removed and added, whichever way the edit is made.
    replace_file(proxify.config_path(), mapping(8000, 9001) + mapping(8001, 9443));
    CHECK(eventually([&] { return from_client(wire, "198.51.100.1:8000") == "9001"; }));
    CHECK(eventually([&] { return from_client(wire, "198.51.100.1:8443") == "8443"; }));
    CHECK(eventually([&] { return from_client(wire, "198.51.100.1:8001") == "9443"; }));
    auto logged = [&](const char* what) {
        return eventually([&] { return count_lines(proxify.log(), {what}) == 1; });
    };
    CHECK(logged("port 8000 leads to port 9001"));
    CHECK(logged("port 8443 is not captured any more"));
    flow.send("two");
    CHECK(flow.receive_exactly(3) == "two");

    write_file(proxify.config_path(), "[[capture]]\ntype = \"ingress\"\nports = [99999]\n");
    CHECK(eventually([&] { return reloads_refused(proxify.log()) == 1; }));
    CHECK(from_client(wire, "198.51.100.1:8000") == "9001");
    write_file(proxify.config_path(), mapping(8000, 9443));
    CHECK(eventually([&] { return from_client(wire, "198.51.100.1:8000") == "9443"; }));
    CHECK(eventually([&] { return from_client(wire, "198.51.100.1:8001") == "refused"; }));
    flow.send("three");
    CHECK(flow.receive_exactly(5) == "three");
    CHECK(proxify.stop() == 0);
    CHECK(from_client(wire, "198.51.100.1:8000") == "8000");
}

TEST_CASE("a listener of ours knows what was dialled, and \"original\" goes on to it") {
    NEEDS_INGRESS();
    Wire wire;
    Both backend(wire.host, 8000, answer("backend"));
    auto proxify = Proxify::start(wire.host, {.config = R"(
[[capture]]
type = "ingress"
ports = [8000, 8001]
listen = 15004
service = "through"
[[service]]
name = "through"
targets = ["original"]
health = false
)"});
    for (const char* to : {"198.51.100.1:8000", "[2001:db8::1]:8000"})
        CHECK(from_client(wire, to) == "backend");
    auto sessions = proxify.sessions(2);
    CHECK(sessions[0].original_dst == "198.51.100.1:8000");
    CHECK(sessions[0].client.starts_with("198.51.100.7:"));
    CHECK(sessions[0].target == "198.51.100.1:8000");
    CHECK(sessions[1].original_dst == "[2001:db8::1]:8000");
    CHECK(answered_by(wire.host, "127.0.0.1:8000") == "backend");
}

TEST_CASE("captured ports and steered ones stand side by side") {
    NEEDS_INGRESS();
    Wire wire;
    wire.host.reserve_ports(5000, 5999);
    Both backend(wire.host, 8000, answer("backend")), proxy(wire.host, 9000, answer("proxy"));
    Server target(wire.host, "127.0.0.1:9101", answer("target"));
    const std::string config = R"(
[[capture]]
type = "ingress"
ports = [8000]
listen = 15004
service = "through"
[[service]]
name = "through"
targets = ["original"]
health = false
[[service]]
name = "steered"
ports = [5001]
targets = ["127.0.0.1:9101"]
)";
    auto proxify =
        Proxify::start(wire.host, {.config = mapping(8001, 9000) + config, .flags = {"-b"}});
    CHECK(from_client(wire, "198.51.100.1:5001") == "target");
    CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
    CHECK(from_client(wire, "198.51.100.1:8001") == "proxy");
    CHECK(answered_by(wire.host, "127.0.0.1:5001") == "target");
    CHECK(answered_by(wire.host, "127.0.0.1:8000") == "backend");
    CHECK(proxify.sessions(3).size() == 3);
    auto explained = proxify.ask({"explain", "198.51.100.7:20000", "198.51.100.1:5001"});
    CHECK(explained.out.find("another sk_lookup program") == std::string::npos);
    proxify.reload(mapping(8002, 9000) + config);
    CHECK(from_client(wire, "198.51.100.1:8002") == "proxy");
    CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
}

TEST_CASE("[T-03] [T-04] interfaces are hooked once each, whenever they come, and forgotten") {
    NEEDS_INGRESS();
    for (const char* hook : {"tcx", "clsact"}) {
        const bool is_clsact = std::string(hook) == "clsact";
        Wire wire;
        Both proxy(wire.host, 9000, answer("proxy"));
        auto proxify = Proxify::start(
            wire.host, {.config = mapping(8000, 9000, format("hook = \"{}\"", hook))});
        auto hooked = [&](const std::string& name) {
            return count_lines(proxify.log(), {"hooked " + name});
        };
        CHECK(hooked("eth0") >= 1);
        CHECK(hooked("lo") == 0);
        if (is_clsact) CHECK(filters(wire.host, "eth0") == Pair(1, 1));
        if (is_clsact) CHECK(filters(wire.host, "lo") == Pair(0, 0));

        auto second = Namespace::create();
        connect(second, "eth0", "203.0.113.7/24", "2001:db8:1::7/64", wire.host, "new0",
                "203.0.113.1/24", "2001:db8:1::1/64");
        CHECK(eventually(
            [&] { return answered_by(second, "203.0.113.1:8000", {.limit = 2s}) == "proxy"; }));
        CHECK(answered_by(second, "[2001:db8:1::1]:8000") == "proxy");
        for (int i = 0; i < 10; ++i) sh(wire.host, "ip link set new0 down && ip link set new0 up");
        sh(wire.host,
           "ip link set new0 down && ip link set new0 name other0 && ip link set other0 up");
        CHECK(eventually(
            [&] { return count_lines(proxify.log(), {"new0 is called other0 now"}) == 1; }));
        CHECK(answered_by(second, "203.0.113.1:8000") == "proxy");
        CHECK(hooked("new0") == 1);
        if (is_clsact) CHECK(filters(wire.host, "other0") == Pair(1, 1));

        // Into another namespace and back.
        sh(wire.host, "ip link set other0 netns " + path_of(second));
        CHECK(eventually([&] { return count_lines(proxify.log(), {"other0 is gone"}) == 1; }));
        if (is_clsact) CHECK(filters(second, "other0") == Pair(0, 0));
        sh(second, "ip link set other0 netns " + path_of(wire.host));
        CHECK(eventually([&] { return hooked("other0") == 1; }));
        sh(wire.host, "ip addr add 203.0.113.1/24 dev other0 && ip link set other0 up");
        CHECK(answered_by(second, "203.0.113.1:8000") == "proxy");

        sh(wire.host, "ip link del other0");
        CHECK(eventually([&] { return count_lines(proxify.log(), {"other0 is gone"}) == 2; }));
        // Forty that are there for a moment, and one that stays.
        sh(wire.host,
           "for i in $(seq 40); do ip link add v$i type veth peer name w$i; ip link del v$i; done");
        sh(wire.host, "ip link add stays type veth peer name stays2");
        CHECK(eventually([&] { return hooked("stays2") == 1; }));
        if (is_clsact) CHECK(filters(wire.host, "stays2") == Pair(1, 1));
        CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
        CHECK(proxify.stop() == 0);
        CHECK(filters(wire.host, "eth0") == Pair(0, 0));
        CHECK(sh(wire.host, "tc qdisc show dev eth0").find("clsact") == std::string::npos);
        INFO(proxify.log());
        CHECK(proxify.log().find("nothing is captured at") == std::string::npos);
    }
}

TEST_CASE("interfaces that are named may come later, and others are left alone") {
    NEEDS_INGRESS();
    Wire wire;
    Both one(wire.host, 8000, answer("8000")), two(wire.host, 8001, answer("8001"));
    Both proxy(wire.host, 9000, answer("proxy"));
    auto proxify = Proxify::start(
        wire.host, {.config = mapping(8000, 9000, "interfaces = [\"new0\"]") +
                              mapping(8001, 9000, "interfaces = [\"eth0\", \"new1\"]")});
    CHECK(count_lines(proxify.log(), {"there is no interface new0"}) == 1);
    CHECK(from_client(wire, "198.51.100.1:8000") == "8000");
    CHECK(from_client(wire, "198.51.100.1:8001") == "proxy");
    auto second = Namespace::create();
    connect(second, "eth0", "203.0.113.7/24", "2001:db8:1::7/64", wire.host, "new0",
            "203.0.113.1/24", "2001:db8:1::1/64");
    CHECK(eventually([&] { return answered_by(second, "203.0.113.1:8000") == "proxy"; }));
    CHECK(answered_by(second, "203.0.113.1:8001") == "8001");
    sh(wire.host, "ip link set new0 down && ip link set new0 name new1 && ip link set new1 up");
    CHECK(eventually([&] { return answered_by(second, "203.0.113.1:8001") == "proxy"; }));
    CHECK(answered_by(second, "203.0.113.1:8000") == "8000");
    proxify.reload(mapping(8000, 9000));
    CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
    CHECK(from_client(wire, "198.51.100.1:8001") == "8001");
}

TEST_CASE(
    "[T-12] [T-13] a proxify that was killed is followed by one that works and leaves nothing") {
    NEEDS_INGRESS();
    for (const char* hook : {"tcx", "clsact"}) {
        Wire wire;
        Both backend(wire.host, 8000, answer("backend")), proxy(wire.host, 9000, answer("proxy"));
        const Setup setup{.config = mapping(8000, 9000, format("hook = \"{}\"", hook))};
        {
            auto first = Proxify::start(wire.host, setup);
            CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
            auto second = Proxify::refuse(wire.host, setup);
            CHECK(second.exit_code != 0);
            CHECK(second.err.find("another proxify captures") != std::string::npos);
            CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
            first.process().signal(SIGKILL);
            CHECK(first.process().wait(5s) == 128 + SIGKILL);
        }
        for (int signal : {SIGINT, SIGTERM}) {
            auto next = Proxify::start(wire.host, setup);
            CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
            next.process().signal(signal);
            CHECK(next.process().wait(10s) == 0);
            CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
            CHECK(filters(wire.host, "eth0") == Pair(0, 0));
            CHECK(sh(wire.host, "tc qdisc show dev eth0").find("clsact") == std::string::npos);
        }
    }
}

TEST_CASE("[T-18] two hundred mappings at once") {
    NEEDS_INGRESS();
    Wire wire;
    Both proxy(wire.host, 9000, answer("proxy")), last(wire.host, 9199, answer("last"));
    std::string text;
    for (int i = 0; i < 200; ++i) text += mapping(8000 + i, 9000 + i);
    auto proxify = Proxify::start(wire.host, {.config = text});
    CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
    CHECK(from_client(wire, "198.51.100.1:8001") == "refused");
    CHECK(from_client(wire, "198.51.100.1:8199") == "last");
}

TEST_CASE("the command is that file: proxify ingress --map 8000:9000") {
    NEEDS_INGRESS();
    Wire wire;
    Both backend(wire.host, 8000, answer("backend")), proxy(wire.host, 9000, answer("proxy"));
    TempDir directory;
    auto command =
        Child::start({.argv = {proxify_binary(), "ingress", "--map", "8000:9000", "--map",
                               "8001:9000", "--socket", directory / "admin.sock"},
                      .inside = &wire.host});
    CHECK(eventually([&] { return is_ready(command.err()); }));
    INFO(command.err());
    CHECK(from_client(wire, "198.51.100.1:8000") == "proxy");
    CHECK(from_client(wire, "198.51.100.1:8001") == "proxy");
    command.signal(SIGTERM);
    CHECK(command.wait(10s) == 0);
    CHECK(from_client(wire, "198.51.100.1:8000") == "backend");
    CHECK(from_client(wire, "198.51.100.1:8001") == "refused");
}

TEST_CASE("[T-06] [T-20] nginx as the interceptor: its header in each response, kept alive") {
    NEEDS_INGRESS();
    NEEDS_PROGRAM("nginx");
    NEEDS_PROGRAM("curl");
    Wire wire;
    TempDir directory;
    write_file(directory / "nginx.conf", format(R"(
daemon off;
worker_processes 1;
pid {0}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
    uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
    upstream backend {{ server 127.0.0.1:8000; keepalive 8; }}
    server {{ listen 8000; listen [::]:8000; location / {{ return 200 "Hi"; }} }}
    server {{
        listen 9000; listen [::]:9000;
        location / {{
            proxy_http_version 1.1; proxy_set_header Connection "";
            add_header X-Interceptor "proxify"; proxy_pass http://backend;
        }}
    }}
}}
)",
                                                directory.path().string()));
    auto nginx =
        Child::start({.argv = {"nginx", "-p", directory.path(), "-c", directory / "nginx.conf"},
                      .inside = &wire.host});
    REQUIRE(eventually([&] { return listening(wire.host).contains("0.0.0.0:9000"); }));
    auto curl = [&](const Namespace& from, const std::string& url) {
        return run_line(from, "curl -sg -i --max-time 10 " + url).out;
    };
    const std::string there = "http://198.51.100.1:8000/", header = "X-Interceptor: proxify";
    CHECK(curl(wire.client, there).find(header) == std::string::npos);
    auto proxify = Proxify::start(wire.host, {.config = mapping(8000, 9000)});
    for (const auto& url : {there, std::string("http://[2001:db8::1]:8000/")}) {
        auto response = curl(wire.client, url);
        CHECK(response.find(header) != std::string::npos);
        CHECK(response.ends_with("Hi"));
    }
    CHECK(curl(wire.host, "http://127.0.0.1:8000/").find(header) == std::string::npos);
    // One connection for many requests.
    auto many =
        run_line(wire.client, "curl -s -o /dev/null -w '%{num_connects}\\n' '" + there + "[1-20]'");
    CHECK(count(many.out, "1\n") == 1);
    CHECK(count(many.out, "0\n") == 19);
    auto parallel = run_line(
        wire.client, "curl -s --parallel --parallel-immediate --parallel-max 100 -w '\\n' '" +
                         there + "[1-100]'");
    CHECK(count(parallel.out, "Hi") == 100);
    nginx.signal(SIGTERM);
    nginx.wait(5s);
}

TEST_CASE("[T-20] 1 GiB comes through an interceptor byte for byte, with checksums by the kernel") {
    NEEDS_INGRESS();
    NEEDS_PROGRAM("socat");
    Wire wire;
    const uint64_t size = sanitized ? 64 << 20 : 1 << 30;
    const Pattern pattern(7);
    Server backend(wire.host, "127.0.0.1:8000", [&](Stream& client) {
        client.receive_exactly(1);
        send_pattern(client, pattern, size);
        client.finish();
        client.receive_all();
    });
    auto socat = Child::start(
        {.argv = {"socat", "-b262144", "TCP4-LISTEN:9000,fork,reuseaddr", "TCP4:127.0.0.1:8000"},
         .inside = &wire.host});
    REQUIRE(eventually([&] { return listening(wire.host).contains("0.0.0.0:9000"); }));
    auto proxify = Proxify::start(wire.host, {.config = mapping(8000, 9000)});
    auto client = Stream::dial(wire.client, "198.51.100.1:8000");
    client.send("x");
    receive_pattern(client, pattern, size);
    CHECK(backend.connections() == 1);
    client.close();
    socat.signal(SIGTERM);
    socat.wait(5s);
}
