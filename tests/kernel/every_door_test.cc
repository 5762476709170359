// SPDX-License-Identifier: Apache-2.0
// All doors of one proxify at once: whichever way a connection comes, what it was aimed at is
// known.
#include "road.h"
#include "support/cgroup.h"

using namespace proxify::test;

namespace {

std::string every_door(const TestCgroup& cgroup) {
    return R"(
[[service]]
name    = "web"
ports   = [5001]
targets = ["127.0.0.1:9001"]
health  = false
[[service]]
name    = "outbound"
targets = ["original"]
health  = false
[[capture]]
type    = "connect"
cidr    = ["203.0.113.9:8080", "[2001:db8:2::9]:8080"]
service = "outbound"
cgroup  = ")" +
           cgroup.path() + R"("
[[capture]]
type    = "ingress"
ports   = [8000]
service = "outbound"
[[capture]]
type    = "redirect"
ports   = [15002]
service = "outbound"
[[capture]]
type    = "tproxy"
ports   = [15003]
service = "outbound"
)";
}

constexpr auto rules =
    "nft -f - <<'END'\n"
    "table inet doors {\n"
    "  chain nat {\n"
    "    type nat hook prerouting priority dstnat; policy accept;\n"
    "    tcp dport 8081 redirect to :15002\n"
    "  }\n"
    "  chain mangle {\n"
    "    type filter hook prerouting priority mangle; policy accept;\n"
    "    iifname client0 tcp dport 8082 tproxy to :15003 meta mark set 1 accept\n"
    "  }\n"
    "}\n"
    "END\n";

}  // namespace

TEST_CASE(
    "captured how, aimed at, answered by, original destination seen: every door, both families") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    const auto cgroup = TestCgroup::create();
    must(road.host, rules);
    for (const std::string ip : {"ip", "ip -6"})
        must(road.host, ip + " rule add fwmark 1 lookup 100 && " + ip +
                            " route add local default dev lo table 100");
    auto proxify = Proxify::start(road.host, {.config = every_door(cgroup), .flags = {"-b"}});
    Server steered(road.host, "127.0.0.1:9001", answer("steered"));

    enum class From { client, host };
    struct Row {
        const char* how;
        From from;
        std::string aimed;
        const Namespace* at;  ///< where a server stands; null where there is one
        std::string answered_by;
    };
    size_t sessions = 0;
    for (const auto& of : Road::families) {
        const Row rows[] = {
            {"", From::client, of.at(of.host_near_client, 5001), nullptr, "steered"},
            {"connect", From::host, of.at(of.target, 8080), &road.target, "dialled"},
            {"ingress", From::client, of.at(of.host_near_client, 8000), &road.host, "host"},
            {"redirect", From::client, of.at(of.target, 8081), &road.target, "redirected"},
            {"tproxy", From::client, of.at(of.target, 8082), &road.target, "diverted"},
        };
        for (const auto& row : rows) {
            CAPTURE(row.how, row.aimed, proxify.log());
            std::optional<Server> server;
            if (row.at) server.emplace(*row.at, row.aimed, answer(row.answered_by));
            auto ask = [&](const Namespace& from) {
                return answered_by(from, row.aimed, {.limit = 10s});
            };
            CHECK((row.from == From::client ? ask(road.client) : cgroup.run(road.host, [&] {
                      return ask(road.host);
                  })) == row.answered_by);
            const auto session = proxify.sessions(++sessions).back();
            CHECK(session.original_dst == row.aimed);
            CHECK(session.target == (row.at ? row.aimed : "127.0.0.1:9001"));
            CHECK(session.line.contains("door=") == (row.how[0] != '\0'));
            CHECK(session.line.contains(std::string("door=") + row.how) == (row.how[0] != '\0'));
            if (server) CHECK(server->connections() == 1);
        }
    }
    auto status = proxify.ask({"status"}).out;
    for (const char* capture :
         {"connect on 15001", "ingress on 15004", "redirect on 15002", "tproxy on 15003"})
        CHECK(status.contains(capture));
    CHECK(proxify.stop() == 0);
}
