// SPDX-License-Identifier: Apache-2.0
// Targets by name: what DNS says, how long that is good for, and what happens when it says
// something else, something foolish, or nothing.
#include "support/dns_server.h"
#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

/// One service "web" on port 5001 with these targets and more lines.
std::string web(const std::string& targets, const std::string& more = "") {
    return "[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\ntargets = " + targets +
           "\n" + more + "\n";
}

Proxify start(const Namespace& ns, const DnsServer& dns, const std::string& config) {
    Setup setup{.config = config, .flags = {"-b"}};
    setup.command.mounts = {dns.resolv_conf()};
    return Proxify::start(ns, std::move(setup));
}

std::string from(const Namespace& ns) {
    return answered_by(ns, "127.0.0.1:5001");
}

/// Who answers so many clients, and how often.
using Answers = std::map<std::string, int>;
Answers answers(const Namespace& ns, int count) {
    Answers answers;
    for (int i = 0; i < count; ++i) ++answers[from(ns)];
    return answers;
}

/// Two servers that say their names, at addresses that a name may have.
struct Two {
    explicit Two(const Namespace& ns) {
        ns.add_address("198.51.100.1/32");
        ns.add_address("198.51.100.2/32");
        a.emplace(ns, "198.51.100.1:9001", answer("A"));
        b.emplace(ns, "198.51.100.2:9001", answer("B"));
    }
    std::optional<Server> a, b;
};

}  // namespace

// ---- time to live

TEST_CASE("a name is asked for again when its time to live is over, not before") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    dns.set("short.example", {"198.51.100.1"}, 1);
    dns.set("long.example", {"198.51.100.1"}, 60);
    auto proxify = start(ns, dns, web(R"(["short.example:9001", "long.example:9001"])"));
    CHECK(from(ns) == "A");

    // The interval of 30 s would come too late for this.
    const Moment changed = now();
    dns.set("short.example", {"198.51.100.2"}, 1);
    dns.set("long.example", {"198.51.100.2"}, 60);
    CHECK(eventually([&] { return from(ns) == "B"; }));
    CHECK(now() - changed < 3s);
    CHECK(eventually([&] { return dns.questions("short.example", dns_a) >= 4; }));
    CHECK(dns.questions("long.example", dns_a) == 1);
    CHECK(dns.questions("long.example", dns_aaaa) == 1);
}

TEST_CASE("an alias is followed, and its own time to live counts too") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    dns.set("a.example", {"198.51.100.1"}, 60);
    dns.set("b.example", {"198.51.100.2"}, 60);
    dns.set_alias("www.example", "a.example", 1);
    auto proxify = start(ns, dns, web(R"(["www.example:9001"])"));
    CHECK(from(ns) == "A");
    dns.set_alias("www.example", "b.example", 1);
    CHECK(eventually([&] { return from(ns) == "B"; }));
}

TEST_CASE("an answer without any time to live is asked for once a second, no more often") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    dns.set("zero.example", {"198.51.100.1"}, 0);
    const Moment begin = now();
    auto proxify = start(ns, dns, web(R"(["zero.example:9001"])"));
    CHECK(from(ns) == "A");
    REQUIRE(eventually([&] { return dns.questions("zero.example", dns_a) >= 4; }));
    CHECK(now() - begin > 2900ms);
    CHECK(now() - begin < 6s);
}

TEST_CASE("the interval bounds a long time to live") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    dns.set("long.example", {"198.51.100.1"}, 86400);
    auto proxify = start(
        ns, dns, "[proxify]\nresolve_interval = \"100ms\"\n" + web(R"(["long.example:9001"])"));
    CHECK(eventually([&] { return dns.questions("long.example", dns_a) >= 5; }));
}

// ---- addresses that leave

TEST_CASE("an address that leaves keeps its connections and gets no new ones") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    ns.add_address("198.51.100.1/32");
    ns.add_address("198.51.100.2/32");
    Server a(ns, "198.51.100.1:9001", echo());
    Server b(ns, "198.51.100.2:9001", echo());
    dns.set("moving.example", {"198.51.100.1"});
    auto proxify = start(ns, dns, web(R"(["moving.example:9001"])"));
    Stream old = Stream::dial(ns, "127.0.0.1:5001");
    old.send("before\n");
    CHECK(old.receive_line() == "before\n");
    CHECK(a.open() == 1);

    dns.set("moving.example", {"198.51.100.2"});
    const std::string left = "target 198.51.100.1:9001 of service web has left; it keeps 1 session";
    REQUIRE(eventually([&] { return count_lines(proxify.log(), {left}) == 1; }));
    CHECK(count_lines(proxify.log(), {"resolve: moving.example is 198.51.100.2"}) == 1);
    for (int i = 0; i < 10; ++i) {
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        client.send("new\n");
        CHECK(client.receive_line() == "new\n");
    }
    CHECK(a.connections() == 1);
    CHECK(b.connections() == 10);
    old.send("still here\n");
    CHECK(old.receive_line() == "still here\n");

    // Back again it is the same target: when it leaves once more, its old session counts.
    dns.set("moving.example", {"198.51.100.1"});
    std::optional<Stream> young;
    REQUIRE(eventually([&] {
        young.emplace(Stream::dial(ns, "127.0.0.1:5001"));
        young->send("again\n");
        return young->receive_line() == "again\n" && a.connections() == 2;
    }));
    dns.set("moving.example", {"198.51.100.2"});
    CHECK(eventually([&] {
        return count_lines(proxify.log(), {"198.51.100.1:9001", "it keeps 2 sessions"}) == 1;
    }));
    old.send("to the end\n");
    CHECK(old.receive_line() == "to the end\n");
    old.finish();
    CHECK(old.receive_all().end == End::clean);
}

// ---- services

TEST_CASE("SRV records give ports, weights and priorities") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    ns.add_address("198.51.100.1/32");
    ns.add_address("198.51.100.2/32");
    ns.add_address("2001:db8::3/128");
    Server a(ns, "198.51.100.1:9001", answer("A"));
    std::optional<Server> b(std::in_place, ns, "198.51.100.2:9002", answer("B"));
    Server c(ns, "[2001:db8::3]:9003", answer("C"));
    dns.set("a.example", {"198.51.100.1"});
    dns.set("b.example", {"198.51.100.2"});
    dns.set("c.example", {"2001:db8::3"});
    const std::string name = "_http._tcp.web.example";
    dns.set_services(
        name,
        {{10, 30, 9001, "a.example"}, {10, 10, 9002, "b.example"}, {20, 10, 9003, "c.example"}});
    auto proxify = start(ns, dns, web("[\"" + name + "\"]"));
    CHECK(answers(ns, 8) == Answers{{"A", 6}, {"B", 2}});
    CHECK(eventually([&] {
        return count_lines(proxify.log(),
                           {"resolve: " + name +
                            " is 198.51.100.1:9001 (weight 30), 198.51.100.2:9002 (weight 10), "
                            "[2001:db8::3]:9003 (weight 10, priority 1)"}) == 1;
    }));

    SECTION("other weights are taken over") {
        dns.set_services(name, {{10, 10, 9001, "a.example"}, {10, 30, 9002, "b.example"}});
        REQUIRE(eventually(
            [&] { return count_lines(proxify.log(), {"198.51.100.2:9002 (weight 30)"}) == 1; }));
        CHECK(eventually([&] { return answers(ns, 8) == Answers{{"A", 2}, {"B", 6}}; }));
    }
    SECTION("a host that moves is followed, though the records stay as they are") {
        dns.set("a.example", {"198.51.100.2"});
        Server moved(ns, "198.51.100.2:9001", answer("moved"));
        REQUIRE(eventually([&] { return from(ns) == "moved"; }));
        CHECK(eventually([&] { return answers(ns, 8) == Answers{{"moved", 6}, {"B", 2}}; }));
    }
    SECTION("the higher number is for when the lower ones are down") {
        // A is not there at all now, so its clients are tried on B, and without B on C.
        dns.set_services(name, {{10, 10, 9009, "a.example"},
                                {10, 10, 9002, "b.example"},
                                {20, 10, 9003, "c.example"}});
        REQUIRE(eventually(
            [&] { return count_lines(proxify.log(), {"198.51.100.1:9009 (weight 10)"}) == 1; }));
        CHECK(eventually([&] { return answers(ns, 6) == Answers{{"B", 6}}; }));
        b.reset();
        CHECK(eventually([&] { return answers(ns, 6) == Answers{{"C", 6}}; }));
    }
    SECTION("records that go away leave the last ones") {
        dns.forget(name);
        REQUIRE(eventually([&] {
            return count_lines(proxify.log(), {name + ": no such name; its last addresses stay"}) ==
                   1;
        }));
        CHECK(answers(ns, 8) == Answers{{"A", 6}, {"B", 2}});
    }
}

// ---- when DNS does not answer, or not well

TEST_CASE("the last good answer stays, whatever becomes of DNS") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    dns.set("db.example", {"198.51.100.1"});
    auto proxify = start(ns, dns, web(R"(["db.example:9001"])"));
    REQUIRE(from(ns) == "A");

    struct Row {
        const char* what;
        Manner manner;
        const char* reason;
    };
    for (auto [what, manner, reason] :
         {Row{"SERVFAIL", Manner::servfail, "no DNS server could answer"},
          Row{"garbage", Manner::garbage, "the answer of DNS is malformed"},
          Row{"silence", Manner::silent, "DNS did not answer in time"}}) {
        INFO(what);
        dns.set_manner("db.example", manner);
        const std::string line = std::string("db.example: ") + reason + "; its last addresses stay";
        REQUIRE(eventually([&] { return count_lines(proxify.log(), {line}) == 1; }, 20s));
        CHECK(from(ns) == "A");

        // It is asked again by and by, and said once.
        const int asked = dns.questions();
        CHECK(eventually([&] { return dns.questions() >= asked + 2; }, 20s));
        CHECK(count_lines(proxify.log(), {line}) == 1);
        dns.set_manner("db.example", Manner::normal);
        dns.set("db.example", {"198.51.100.2"});
        REQUIRE(eventually([&] { return from(ns) == "B"; }, 40s));
        dns.set("db.example", {"198.51.100.1"});
        REQUIRE(eventually([&] { return from(ns) == "A"; }));
    }
    dns.forget("db.example");
    CHECK(eventually([&] {
        return count_lines(proxify.log(), {"db.example: no such name; its last addresses stay"});
    }));
    CHECK(from(ns) == "A");
}

TEST_CASE("a server that fails for IPv6 only takes no address away, nor keeps new ones back") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    ns.add_address("2001:db8::3/128");
    Server c(ns, "[2001:db8::3]:9001", answer("C"));
    dns.set("db.example", {"198.51.100.1", "2001:db8::3"});
    auto proxify = start(ns, dns, web(R"(["db.example:9001"])"));
    REQUIRE(eventually([&] { return answers(ns, 4) == Answers{{"A", 2}, {"C", 2}}; }));
    dns.set_manner("db.example", Manner::only_v4);
    dns.set("db.example", {"198.51.100.2"});
    CHECK(eventually([&] { return answers(ns, 4) == Answers{{"B", 2}, {"C", 2}}; }));
    dns.set_manner("db.example", Manner::normal);
    CHECK(eventually([&] { return answers(ns, 4) == Answers{{"B", 4}}; }));
}

TEST_CASE("one name that is never answered keeps no other one waiting, nor the end") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    dns.set_manner("mute.example", Manner::silent);
    dns.set("db.example", {"198.51.100.1"});
    auto proxify = start(ns, dns, web(R"(["mute.example:9001", "db.example:9001"])"));
    CHECK(from(ns) == "A");
    dns.set("db.example", {"198.51.100.2"});
    CHECK(eventually([&] { return from(ns) == "B"; }, 4s));
    CHECK(dns.questions("mute.example", dns_a) >= 1);

    const Moment begin = now();
    CHECK(proxify.stop() == 0);
    CHECK(now() - begin < 2s);
}

TEST_CASE("an answer that is too long for a packet is asked for over TCP") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    std::vector<std::string> addresses;
    for (int i = 1; i <= 100; ++i) addresses.push_back("127.0.1." + std::to_string(i));
    dns.set("many.example", addresses);
    Server anywhere(ns, "0.0.0.0:9001", answer("one of them"));
    auto proxify = start(ns, dns, web(R"(["many.example:9001"])"));
    CHECK(from(ns) == "one of them");
    CHECK(dns.questions_over_tcp() > 0);
    CHECK(eventually([&] {
        return count_lines(proxify.log(),
                           {"resolve: many.example is 127.0.1.1, ", "and 84 more"}) == 1;
    }));
}

TEST_CASE("hundreds of names are asked for over one socket, some at a time") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    dns.set_manner(Manner::silent);
    std::string targets;
    for (int i = 0; i < 500; ++i) {
        const std::string name = "host" + std::to_string(i) + ".example";
        dns.set(name, {"198.51.100.1"}, 60);
        targets += "\"" + name + ":9001\",\n";
    }
    const Moment begin = now();
    auto proxify = start(ns, dns, web("[" + targets + "]"));
    const int fds = proxify.process().open_fds();
    REQUIRE(eventually([&] { return dns.questions() >= 128; }));
    CHECK(dns.sources() == 1);
    CHECK(proxify.process().open_fds() <= fds + 8);  // a file may be open for a moment
    // Those are given up after 7 seconds; until then nothing else is asked.
    const size_t different = dns.different_questions();
    if (now() - begin < 6s) CHECK(different == 128);

    dns.set_manner(Manner::normal);
    CHECK(eventually([&] { return from(ns) == "A"; }, 20s));
    CHECK(eventually(
        [&] { return count_lines(proxify.log(), {"resolve: host", "is 198.51.100.1"}) == 500; },
        30s));
    // A socket goes when no question is open, so that the next ones come from another port. A busy
    // machine has more such moments.
    CHECK(dns.sources() <= 50);
}

// ---- what decides beside DNS

TEST_CASE("/etc/hosts goes before DNS, and a host that it names is nobody else's business") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    TempDir directory;
    write_file(directory / "hosts",
               "198.51.100.1 db.example db\n198.51.100.2 db.example\n127.0.0.1 localhost\n");
    write_file(directory / "nsswitch.conf", "hosts: files mdns4_minimal [NOTFOUND=return] dns\n");
    dns.set("db.example", {"198.51.100.9"});
    Setup setup{
        .config = "[proxify]\nresolve_interval = \"100ms\"\n" + web(R"(["db.example:9001"])"),
        .flags = {"-b"}};
    setup.command.mounts = {dns.resolv_conf(),
                            {directory / "hosts", "/etc/hosts"},
                            {directory / "nsswitch.conf", "/etc/nsswitch.conf"}};
    auto proxify = Proxify::start(ns, std::move(setup));
    CHECK(answers(ns, 4) == Answers{{"A", 2}, {"B", 2}});
    CHECK(dns.questions() == 0);

    write_file(directory / "hosts", "198.51.100.2 db.example\n");
    CHECK(eventually([&] { return answers(ns, 4) == Answers{{"B", 4}}; }));
}

TEST_CASE("a resolv.conf that changes is heeded, and its search list too") {
    IN_NAMESPACE(ns);
    DnsServer dns(ns);
    Two two(ns);
    dns.set("db.inside.example", {"198.51.100.1"});
    TempDir directory;
    write_file(directory / "resolv.conf", "nameserver 127.0.0.9\n");
    Setup setup{.config = web(R"(["db:9001"])"), .flags = {"-b"}};
    setup.command.mounts = {{directory / "resolv.conf", "/etc/resolv.conf"}};
    auto proxify = Proxify::start(ns, std::move(setup));
    CHECK(from(ns) == "refused");
    CHECK(eventually([&] {
        return count_lines(proxify.log(), {"resolve: db: ", "it has no address yet"}) == 1;
    }));

    write_file(directory / "resolv.conf", "nameserver 127.0.0.1\nsearch inside.example\n");
    CHECK(eventually([&] { return from(ns) == "A"; }, 40s));
}
