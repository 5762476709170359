// SPDX-License-Identifier: Apache-2.0
#include "routing/snapshot.h"

#include "support/catch.h"

using namespace proxify;
using routing::Snapshot;

static const Time start{};

static config::Config parse(const std::string& text) {
    auto config = config::parse(text, "test.toml");
    REQUIRE(config);
    return *config;
}

static std::vector<Endpoint> no_names(const std::string&) {
    return {};
}

static std::shared_ptr<const Snapshot> build(const std::string& text,
                                             const Snapshot* before = nullptr, Time now = start,
                                             const Snapshot::Resolve& resolve = no_names) {
    return Snapshot::build(parse(text), resolve, before, now);
}

static Address at(uint16_t port) {
    return {Ip::v4(127, 0, 0, 1), port};
}

static std::string name_at(const Snapshot& snapshot, uint16_t port) {
    const auto& service = snapshot.find(at(port));
    return service ? service->name : "-";
}

static const std::string two_services = R"(
[[service]]
name = "web"
ports = [80, "100-102"]
targets = ["127.0.0.1:9001"]
[[service]]
name = "mail"
ports = [25]
targets = ["127.0.0.1:9002"]
)";

TEST_CASE("each port leads to the service that lists it, and its neighbours lead nowhere") {
    auto snapshot = build(two_services);
    struct Row {
        int port;
        const char* service;
    };
    for (auto [port, service] :
         {Row{80, "web"}, Row{79, "-"}, Row{81, "-"}, Row{99, "-"}, Row{100, "web"},
          Row{102, "web"}, Row{103, "-"}, Row{25, "mail"}, Row{65535, "-"}})
        CHECK(name_at(*snapshot, static_cast<uint16_t>(port)) == service);
    CHECK(snapshot->port_count() == 5);
}

TEST_CASE("a target with the same service and address is the same object after a reload") {
    auto before = build(two_services);
    auto after = build(R"(
[[service]]
name = "web"
ports = [81]
targets = ["127.0.0.1:9003", "127.0.0.1:9001"]
[[service]]
name = "post"
ports = [25]
targets = ["127.0.0.1:9002"]
)",
                       before.get());
    auto old_web = before->find(at(80))->pool.targets()[0];
    CHECK(after->find(at(81))->pool.targets()[1] == old_web);
    CHECK(after->find(at(81))->pool.targets()[0] != old_web);
    // Another service is another set of targets, even at the same address.
    CHECK(after->find(at(25))->pool.targets()[0] != before->find(at(25))->pool.targets()[0]);
}

TEST_CASE("a port that left the file keeps its service for a while, then it is forgotten") {
    auto before = build(two_services);
    auto after =
        build("[[service]]\nname = \"web\"\nports = [80]\ntargets = [\"127.0.0.1:9001\"]\n",
              before.get(), start);
    CHECK(name_at(*after, 25) == "-");
    REQUIRE(after->find_retired(at(25), start));
    CHECK(after->find_retired(at(25), start)->name == "mail");
    CHECK(after->find_retired(at(25), start + Snapshot::retirement));
    CHECK_FALSE(after->find_retired(at(25), start + Snapshot::retirement + 1ns));
    CHECK_FALSE(after->find_retired(at(26), start));

    SECTION("through later reloads too") {
        auto later =
            build("[[service]]\nname = \"web\"\nports = [80]\ntargets = [\"127.0.0.1:9009\"]\n",
                  after.get(), start + 1s);
        CHECK(later->find_retired(at(25), start + 1s)->name == "mail");
    }
    SECTION("unless the file has it again") {
        auto back = build(two_services, after.get(), start + 1s);
        CHECK(name_at(*back, 25) == "mail");
        CHECK_FALSE(back->find_retired(at(25), start + 1s));
    }
}

TEST_CASE("all addresses of a name are targets, each once, and a name without one has none yet") {
    const std::string text = R"(
[[service]]
name = "db"
ports = [5432]
targets = ["db.test:1", "198.51.100.2:1", "unknown.test:1"]
)";
    auto resolve = [](const std::string& host) {
        return host == "db.test" ? std::vector{Endpoint{Ip::v4(198, 51, 100, 1)},
                                               Endpoint{Ip::v4(198, 51, 100, 2)}}
                                 : std::vector<Endpoint>{};
    };
    auto snapshot = build(text, nullptr, start, resolve);
    std::vector<std::string> targets;
    for (const auto& target : snapshot->find(at(5432))->pool.targets())
        targets.push_back(target->text);
    CHECK(targets == std::vector<std::string>{"198.51.100.1:1", "198.51.100.2:1"});
}

TEST_CASE("the default service is the one the file names") {
    CHECK_FALSE(build(two_services)->default_service());
    auto snapshot = build("[proxify]\ndefault_service = \"mail\"\n" + two_services);
    REQUIRE(snapshot->default_service());
    CHECK(snapshot->default_service()->name == "mail");
}

TEST_CASE("what is kept of answers outlives a reload that changes neither rules nor targets",
          "[P-49]") {
    auto with = [](const std::string& cache, const std::string& target = "127.0.0.1:9001") {
        return "[[service]]\nname = \"web\"\nports = [80]\ntargets = [\"" + target + "\"]\n" +
               cache;
    };
    auto cache_of = [](const auto& snapshot) { return snapshot->find(at(80))->cache; };
    CHECK_FALSE(cache_of(build(with(""))));
    const auto first = build(with("cache = {}"));
    REQUIRE(cache_of(first));
    CHECK(cache_of(build(with("cache = {}\ntries = 2"), first.get())) == cache_of(first));
    for (const auto& text :
         {with("cache = { ttl = \"1s\" }"), with("cache = {}", "127.0.0.1:9002")}) {
        const auto changed = build(text, first.get());
        CHECK(cache_of(changed) != cache_of(first));
        CHECK(cache_of(changed)->stats() == cache_of(first)->stats());
    }
    CHECK_FALSE(cache_of(build(with(""), first.get())));
}

TEST_CASE("a service keeps its line through reloads, and new limits hold for old snapshots too") {
    auto file = [](const std::string& service, const std::string& of_target) {
        return "[[service]]\nname = \"web\"\nports = [80]\n" + service +
               "\ntargets = [{ address = \"127.0.0.1:9001\"" + of_target + " }]\n";
    };
    auto before = build(file("max_connections = 2", ", max_connections = 1, priority = 3"));
    const auto& pool = before->find(at(80))->pool;
    const balance::Tried nobody;
    const balance::Asking anybody{.client = {}, .random = 0, .tried = nobody};
    auto first = pool.take(anybody);
    CHECK(first.seat);
    CHECK(pool.take(anybody).is_full);  // the target is
    auto after = build(file("max_connections = 2", ""), before.get());
    const auto& new_pool = after->find(at(80))->pool;
    CHECK(&new_pool.admission() == &pool.admission());
    CHECK(new_pool.admission().sessions() == 1);
    auto second = pool.take(anybody);
    CHECK(second.seat);
    CHECK(new_pool.take(anybody).is_full);  // the service is
    auto last = build(file("", ""), after.get());
    CHECK(pool.take(anybody).seat);
    CHECK(&build(two_services)->find(at(80))->pool.admission() != &pool.admission());
}

TEST_CASE("of services on one port the longest prefix around the dialled address wins") {
    auto service = [](const std::string& name, const std::string& more) {
        return "[[service]]\nname = '" + name + "'\nports = 80\ntargets = '127.0.0.1:1'\n" + more +
               "\n";
    };
    const auto wide = service("wide", "addresses = ['10.0.0.0/8', '2001:db8::/32']");
    const auto near = service("near", "addresses = ['10.1.2.0/24', '2001:db8::1']");
    auto name_of = [](const std::shared_ptr<const routing::Service>& found) {
        return found ? found->name : "-";
    };
    auto name_of_dialled = [&](const Snapshot& snapshot, const char* ip) {
        return name_of(snapshot.find({*Ip::parse(ip), 80}));
    };
    auto before = build(wide + near);
    CHECK(before->has_port(80));
    CHECK_FALSE(before->has_port(81));
    CHECK(name_of_dialled(*before, "10.1.1.255") == "wide");
    CHECK(name_of_dialled(*before, "10.1.2.0") == "near");
    CHECK(name_of_dialled(*before, "2001:db8::1") == "near");
    CHECK(name_of_dialled(*before, "2001:db8::2") == "wide");
    CHECK(name_of_dialled(*before, "11.0.0.0") == "-");
    CHECK(name_of_dialled(*build(wide + near + service("rest", "")), "11.0.0.0") == "rest");

    // Who waits in the queue of an address that has just left is served all the same.
    auto after = build(near, before.get());
    CHECK(name_of_dialled(*after, "10.1.1.255") == "-");
    CHECK(name_of(after->find_retired({*Ip::parse("10.1.1.255"), 80}, start)) == "wide");
    CHECK_FALSE(after->find_retired({*Ip::parse("11.0.0.0"), 80}, start));
    auto rest = build(service("rest", ""), after.get());
    CHECK_FALSE(rest->find_retired({*Ip::parse("10.1.1.255"), 80}, start));  // it has a service
    auto gone =
        build("[[service]]\nname = 'x'\nports = 81\ntargets = '127.0.0.1:1'\n", before.get());
    CHECK(name_of(gone->find_retired({*Ip::parse("10.1.2.0"), 80}, start)) == "near");
}

// ---- what DNS says

namespace {

const std::string srv_service = R"(
[[service]]
name = "web"
ports = [80]
targets = ["127.0.0.1:1", "_http._tcp.web.test"]
)";

Snapshot::Resolve always(std::vector<Endpoint> endpoints) {
    return [endpoints = std::move(endpoints)](const std::string&) { return endpoints; };
}

balance::Target* pick(const Snapshot& snapshot, const balance::Tried& tried = {}) {
    return snapshot.find(at(80))->pool.pick({.client = {}, .tried = tried}).target;
}

}  // namespace

TEST_CASE("SRV endpoints are targets with their ports and weights, the lowest priority first") {
    const Ip a = Ip::v4(198, 51, 100, 1), b = Ip::v4(198, 51, 100, 2);
    auto snapshot =
        build("[[service]]\nname = \"web\"\nports = [80]\ntargets = \"_http._tcp.web.test\"\n",
              nullptr, start, always({{a, 8001, 3, 0}, {b, 8002, 1, 0}, {a, 8003, 9, 1}}));
    std::map<std::string, int> picked;
    for (int i = 0; i < 8; ++i) ++picked[pick(*snapshot)->text];
    CHECK(picked == std::map<std::string, int>{{"198.51.100.1:8001", 6}, {"198.51.100.2:8002", 2}});

    snapshot->find(at(80))->pool.targets()[0]->set_up(false, start);
    CHECK(pick(*snapshot)->text == "198.51.100.2:8002");
    snapshot->find(at(80))->pool.targets()[1]->set_up(false, start);
    CHECK(pick(*snapshot)->text == "198.51.100.1:8003");
}

TEST_CASE("an endpoint without a port is none of an SRV name, nor the other way round") {
    auto plain = always({{.ip = Ip::v4(198, 51, 100, 1)}});
    auto with_port = always({{.ip = Ip::v4(198, 51, 100, 1), .port = 80}});
    CHECK(build(srv_service, nullptr, start, plain)->find(at(80))->pool.targets().size() == 1);
    CHECK(build(srv_service, nullptr, start, with_port)->find(at(80))->pool.targets().size() == 2);
    const std::string named =
        "[[service]]\nname = \"web\"\nports = [80]\ntargets = \"web.test:1\"\n";
    CHECK(build(named, nullptr, start, with_port)->find(at(80))->pool.targets().empty());
}

TEST_CASE("a target that left is the same when it returns, as long as somebody holds it") {
    const auto here = always({{.ip = Ip::v4(198, 51, 100, 1), .port = 80}});
    const auto gone = always({{.ip = Ip::v4(198, 51, 100, 2), .port = 80}});
    auto snapshot = build(srv_service, nullptr, start, here);
    auto target = snapshot->find(at(80))->pool.targets()[1];
    for (int i = 0; i < 3; ++i) snapshot = build(srv_service, snapshot.get(), start, gone);
    REQUIRE(snapshot->find(at(80))->left.size() == 1);
    CHECK(snapshot->find(at(80))->left[0].lock() == target);

    SECTION("somebody does") {
        snapshot = build(srv_service, snapshot.get(), start, here);
        CHECK(snapshot->find(at(80))->pool.targets()[1] == target);
        CHECK(snapshot->find(at(80))->left.size() == 1);  // the other one, of a moment ago
    }
    SECTION("nobody does") {
        target = nullptr;
        snapshot = build(srv_service, snapshot.get(), start, gone);
        CHECK(snapshot->find(at(80))->left.empty());
    }
}

TEST_CASE("a route says which service a connection gets, and how that was found") {
    using By = routing::Route::By;
    const std::string before_text = R"(
[proxify]
default_service = "web"
[[service]]
name = "web"
ports = [80]
targets = ["127.0.0.1:9001"]
[[service]]
name = "gone"
ports = [90, 91]
targets = ["127.0.0.1:9002"]
[[service]]
name = "narrow"
ports = [91]
addresses = ["127.0.0.2"]
targets = ["127.0.0.1:9003"]
[[service]]
name = "near"
ports = [92]
addresses = ["127.0.0.2"]
targets = ["127.0.0.1:9003"]
)";
    auto before = build(before_text);
    auto after = build(R"(
[proxify]
default_service = "web"
[[service]]
name = "web"
ports = [80]
targets = ["127.0.0.1:9001"]
[[service]]
name = "near"
ports = [92]
addresses = ["127.0.0.2"]
targets = ["127.0.0.1:9003"]
)",
                       before.get());
    auto bare =
        build("[[service]]\nname = \"web\"\nports = [80]\ntargets = [\"127.0.0.1:9001\"]\n");
    const Address narrow{Ip::v4(127, 0, 0, 2), 91}, near{Ip::v4(127, 0, 0, 2), 92};
    struct Row {
        const char* claim;
        const Snapshot& snapshot;
        Address dialled;
        bool is_steered, is_by_hand;
        const char* service;
        By by;
        Duration later = 0s;
    };
    const Row rows[] = {
        {"a listed port", *after, at(80), true, false, "web", By::listed},
        {"the same without steering", *after, at(80), false, false, "web", By::listed},
        {"an address of its own", *after, near, true, false, "near", By::listed},
        {"another address of that port", *after, at(92), true, false, "-", By::nobody},
        {"the same without steering", *after, at(92), false, false, "-", By::nobody},
        {"the listener's own port", *after, at(8080), true, false, "web", By::otherwise},
        {"a port that nobody listens on", *after, at(8080), false, false, "-", By::nobody},
        {"a port that has left", *after, at(90), true, false, "gone", By::retired},
        {"the same without steering", *after, at(90), false, false, "gone", By::retired},
        {"one that has left, at its address", *after, narrow, true, false, "narrow", By::retired},
        {"one that has left and is there by hand", *after, at(90), true, true, "web",
         By::otherwise},
        {"a port that left long ago", *after, at(90), true, false, "web", By::otherwise,
         Snapshot::retirement + 1s},
        {"one by hand, and no default service", *bare, at(7), true, true, "-", By::nobody},
    };
    for (const auto& row : rows) {
        INFO(row.claim);
        auto [service, by] = row.snapshot.route(row.dialled, row.is_steered, start + row.later,
                                                [&](uint16_t) { return row.is_by_hand; });
        CHECK((service ? service->name : "-") == row.service);
        CHECK(by == row.by);
    }
}

TEST_CASE("how often a source connects is counted here only where the kernel does not") {
    auto snapshot = build(R"(
[[service]]
name = "web"
ports = [80]
targets = ["127.0.0.1:9001"]
limits = { source_sessions = 3, source_rate = 5 }
)");
    const auto& service = *snapshot->find(at(80));
    using access::SourceLimits;
    CHECK(service.limits_at(80, std::nullopt) == SourceLimits{.sessions = 3, .rate = 5});
    CHECK(service.limits_at(80, uint16_t{8080}) == SourceLimits{.sessions = 3, .rate = 0});
    CHECK(service.limits_at(8080, uint16_t{8080}) == SourceLimits{.sessions = 3, .rate = 5});
}

TEST_CASE("what a capture took goes to its service, or to the one whose port was aimed at") {
    const std::string captures = R"(
[[service]]
name = "out"
targets = ["original"]
[[capture]]
type = "redirect"
service = "out"
ports = [15002]
[[capture]]
type = "tproxy"
ports = [15006]
)";
    auto name_of = [](const routing::Route& route) {
        return route.service ? route.service->name : "-";
    };
    auto snapshot = build(two_services + captures);
    CHECK(name_of(snapshot->route_captured(15002, at(80), start)) == "out");
    CHECK(name_of(snapshot->route_captured(15002, at(9999), start)) == "out");
    CHECK(name_of(snapshot->route_captured(15006, at(25), start)) == "mail");
    CHECK(name_of(snapshot->route_captured(15006, at(9999), start)) == "-");
    auto with_default = build("[proxify]\ndefault_service = 'web'\n" + two_services + captures);
    CHECK(name_of(with_default->route_captured(15006, at(9999), start)) == "web");
}

TEST_CASE("who waits at the listener of a capture that is removed still finds its service") {
    const std::string out = "[[service]]\nname = 'out'\ntargets = ['original']\nports = 7\n";
    const std::string capture =
        "[[capture]]\ntype = 'redirect'\nservice = 'out'\nports = [15002, 15006]\n";
    auto name_of = [](const routing::Route& route) {
        return route.service ? route.service->name : "-";
    };
    auto before = build(out + capture);
    auto after = build(out, before.get(), start + 1s);
    CHECK(name_of(after->route_captured(15002, at(9999), start + 2s)) == "out");
    auto later = build(out + "slow_start = '1s'\n", after.get(), start + 3s);
    CHECK(name_of(later->route_captured(15006, at(9999), start + 4s)) == "out");
    CHECK(name_of(later->route_captured(15006, at(9999), start + 1s + Snapshot::retirement)) ==
          "-");

    // One that stays without a service of its own goes by the port that was aimed at.
    auto unnamed = build(out + "[[capture]]\ntype = 'redirect'\n", before.get(), start + 1s);
    CHECK(name_of(unnamed->route_captured(15002, at(9999), start + 2s)) == "-");
    CHECK(name_of(unnamed->route_captured(15002, at(7), start + 2s)) == "out");
}

namespace {

/// Where a client that asks for `name` goes; "-" for nowhere.
std::string asked(const std::shared_ptr<const routing::Service>& way, std::string_view name) {
    if (!way) return "no way";
    if (!way->names) return "no names, but " + way->name;
    const auto& service = way->names->find(name);
    return service ? service->name : "-";
}

const std::string shared_port = R"(
[[service]]
name = "www"
ports = [443, 444]
sni = ["www.example.org", "*.example.org"]
targets = ["127.0.0.1:9001"]
[[service]]
name = "deep"
ports = 443
sni = ["*.b.example.org", "mail.example.org", "localhost"]
targets = ["127.0.0.1:9002"]
[[service]]
name = "rest"
ports = [443, 445]
targets = ["127.0.0.1:9003"]
)";

}  // namespace

TEST_CASE("of services that share a port the name decides, in full before one with a star",
          "[P-47]") {
    auto snapshot = build(shared_port);
    struct Row {
        std::string name, service;
    };
    for (const auto& [name, service] :
         {Row{"www.example.org", "www"}, Row{"WWW.Example.ORG", "www"},
          Row{"www.example.org.", "www"}, Row{"a.example.org", "www"},
          Row{"mail.example.org", "deep"}, Row{"localhost", "deep"}, Row{"b.example.org", "www"},
          Row{"a.b.example.org", "deep"}, Row{"x.a.b.example.org", "rest"},
          Row{"a.c.example.org", "rest"}, Row{"example.org", "rest"}, Row{".example.org", "rest"},
          Row{"*.example.org", "www"}, Row{"org", "rest"}, Row{"", "rest"}, Row{".", "rest"},
          Row{"198.51.100.7", "rest"}, Row{std::string(255, 'a'), "rest"},
          Row{std::string(243, 'a') + ".example.org", "www"}}) {
        CAPTURE(name);
        CHECK(asked(snapshot->find(at(443)), name) == service);
    }
    // Alone on a port, a service with names still takes these only; one without is as ever.
    CHECK(asked(snapshot->find(at(444)), "www.example.org") == "www");
    CHECK(asked(snapshot->find(at(444)), "localhost") == "-");
    CHECK(asked(snapshot->find(at(444)), "") == "-");
    CHECK(name_at(*snapshot, 445) == "rest");
    CHECK_FALSE(snapshot->find(at(445))->names);
    CHECK(snapshot->services().size() == 4);
}

TEST_CASE("the dialled address decides before the name does", "[P-47]") {
    auto snapshot = build(R"(
[[service]]
name = "here-a"
ports = 443
addresses = ["127.0.0.0/8"]
sni = "a.example"
targets = ["127.0.0.1:9001"]
[[service]]
name = "everywhere-b"
ports = 443
sni = "b.example"
targets = ["127.0.0.1:9002"]
[[service]]
name = "here-c"
ports = 443
addresses = ["127.0.0.0/8", "198.51.100.7"]
sni = "c.example"
targets = ["127.0.0.1:9003"]
)");
    const auto& here = snapshot->find(at(443));
    CHECK(asked(here, "a.example") == "here-a");
    CHECK(asked(here, "b.example") == "-");
    CHECK(asked(here, "c.example") == "here-c");
    const auto& there = snapshot->find({Ip::v4(198, 51, 100, 7), 443});
    CHECK(asked(there, "a.example") == "-");
    CHECK(asked(there, "c.example") == "here-c");
    CHECK(asked(snapshot->find({Ip::v4(203, 0, 113, 7), 443}), "b.example") == "everywhere-b");
}

TEST_CASE("who came while services shared a port still finds them after it was removed", "[P-47]") {
    auto before = build(shared_port);
    auto after = build(two_services, before.get());
    CHECK_FALSE(after->find(at(443)));
    CHECK(asked(after->find_retired(at(443), start), "a.b.example.org") == "deep");
    CHECK(asked(after->find_retired(at(443), start), "other.example") == "rest");
}

TEST_CASE("the default service, and that of a capture, takes its own names only", "[P-47]") {
    auto snapshot = build("[proxify]\ndefault_service = \"www\"\n" + shared_port +
                          "[[capture]]\ntype = \"redirect\"\nservice = \"deep\"\n");
    CHECK(snapshot->default_service()->name == "www");
    const auto by_hand = snapshot->route(at(7), true, start, [](uint16_t) { return true; });
    CHECK(asked(by_hand.service, "www.example.org") == "www");
    CHECK(asked(by_hand.service, "localhost") == "-");
    const auto captured = snapshot->route_captured(15002, at(7), start);
    CHECK(asked(captured.service, "localhost") == "deep");
    CHECK(asked(captured.service, "www.example.org") == "-");
}
