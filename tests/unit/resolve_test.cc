// SPDX-License-Identifier: Apache-2.0
// What is known about names, what is asked when, and what a DNS message says. No socket, no clock.
#include <random>

#include "resolve/book.h"
#include "resolve/dns.h"
#include "resolve/message.h"
#include "support/catch.h"
#include "support/dns_message.h"

using namespace proxify;
using namespace proxify::resolve;

namespace {

const Time start{};
const Ip a = Ip::v4(198, 51, 100, 1), b = Ip::v4(198, 51, 100, 2), c = Ip::v4(198, 51, 100, 3);
const Ip six = *Ip::parse("2001:db8::1");

Question host(const std::string& name) {
    return {Kind::host, name};
}
Question service(const std::string& name) {
    return {Kind::service, name};
}

Answer addresses(std::vector<Ip> v4, std::optional<Duration> ttl = 60s, std::vector<Ip> v6 = {}) {
    return {.ttl = ttl, .v4 = std::move(v4), .v6 = std::move(v6)};
}
Answer records(std::vector<ServiceRecord> list, Duration ttl = 60s) {
    return {.ttl = ttl, .records = std::move(list)};
}
Answer failure(std::string why = "DNS did not answer in time") {
    return {.error = std::move(why)};
}

std::vector<Endpoint> plain(const std::vector<Ip>& ips) {
    std::vector<Endpoint> endpoints;
    for (const Ip& ip : ips) endpoints.push_back({.ip = ip});
    return endpoints;
}

/// Takes what is due, expects that it is this alone, and records the answer to it.
std::vector<Outcome> answer(Book& book, const Question& question, Answer answer, Time now) {
    auto due = book.take_due(now);
    REQUIRE(due == std::vector{question});
    return book.record(question, std::move(answer), now);
}

}  // namespace

// ---- when

TEST_CASE("an answer is good for its time to live, within a second and the interval") {
    struct Row {
        std::optional<Duration> ttl;
        Duration longest, pause;
    };
    for (auto [ttl, longest, pause] :
         {Row{5s, 30s, 5s}, Row{0s, 30s, 1s}, Row{999ms, 30s, 1s}, Row{1s, 30s, 1s},
          Row{1001ms, 30s, 1001ms}, Row{30s, 30s, 30s}, Row{31s, 30s, 30s}, Row{24h, 30s, 30s},
          Row{std::nullopt, 30s, 30s}, Row{0s, 100ms, 100ms}, Row{std::nullopt, 100ms, 100ms}}) {
        Schedule schedule(start);
        schedule.answered(start + 1h, ttl, longest);
        CHECK(schedule.due() - (start + 1h) == pause);
    }
}

TEST_CASE("after a failure it is asked again soon, then less and less often") {
    Schedule schedule(start);
    for (auto pause : {1s, 2s, 4s, 8s, 16s, 30s, 30s}) {
        schedule.failed(start, 30s);
        CHECK(schedule.due() - start == pause);
    }
    for (int i = 0; i < 100; ++i) schedule.failed(start, 24h * 365);
    CHECK(schedule.due() - start == 1s * (1 << 20));

    schedule.answered(start, 5s, 30s);
    schedule.failed(start, 30s);
    CHECK(schedule.due() - start == 1s);
    schedule.failed(start, 100ms);
    CHECK(schedule.due() - start == 100ms);
}

TEST_CASE("a name is asked for at once, then when its answer is no longer good") {
    Book book;
    book.follow({host("db.test")}, 30s, start);
    CHECK_FALSE(book.is_complete());
    CHECK(book.next_due() == start);
    answer(book, host("db.test"), addresses({a}, 5s), start);
    CHECK(book.is_complete());
    CHECK(book.next_due() == start + 5s);
    CHECK(book.take_due(start + 5s - 1ns).empty());
    answer(book, host("db.test"), addresses({a}, std::nullopt), start + 5s);
    CHECK(book.next_due() == start + 35s);
}

TEST_CASE("nothing is asked for twice at a time") {
    Book book;
    book.follow({host("db.test")}, 30s, start);
    CHECK(book.take_due(start).size() == 1);
    CHECK(book.take_due(start + 1h).empty());
    CHECK_FALSE(book.next_due());
}

TEST_CASE("so many names at a time, and those that have waited longest first") {
    Book book;
    std::vector<Question> names;
    for (size_t i = 0; i < 2 * Book::asking_max; ++i)
        names.push_back(host("host" + std::to_string(1000 + i) + ".test"));
    book.follow(names, 30s, start);
    auto first = book.take_due(start);
    CHECK(first.size() == Book::asking_max);
    CHECK(book.take_due(start).empty());
    CHECK_FALSE(book.next_due());  // only an answer makes room

    book.record(first[0], addresses({a}, 1s), start);
    CHECK(book.next_due() == start);
    // The one that was answered is due again, and stands behind those that never had their turn.
    auto next = book.take_due(start + 10s);
    REQUIRE(next.size() == 1);
    CHECK(next[0] == names[Book::asking_max]);
}

TEST_CASE("a new interval counts for names that are known already") {
    Book book;
    book.follow({host("db.test")}, 1h, start);
    answer(book, host("db.test"), addresses({a}, 30min), start);
    book.follow({host("db.test")}, 10s, start + 1s);
    CHECK(book.next_due() == start + 11s);
    book.follow({host("db.test")}, 1h, start + 2s);
    CHECK(book.next_due() == start + 11s);
}

TEST_CASE("a question that was dropped on the way is asked again, and nobody hears of it") {
    Book book;
    book.follow({host("db.test")}, 30s, start);
    CHECK(answer(book, host("db.test"), {.was_dropped = true}, start).empty());
    CHECK_FALSE(book.is_complete());
    CHECK(answer(book, host("db.test"), addresses({a}), start).size() == 1);
}

// ---- what

TEST_CASE("the last good answer stays when asking fails, and each change is told once") {
    Book book;
    book.follow({host("db.test")}, 30s, start);
    Time now = start;

    auto told = answer(book, host("db.test"), failure(), now);
    REQUIRE(told.size() == 1);
    CHECK(told[0].error_changed);
    CHECK_FALSE(told[0].endpoints_changed());
    CHECK(answer(book, host("db.test"), failure(), now += 1s).empty());

    told = answer(book, host("db.test"), addresses({b, a}, 1s), now += 2s);
    REQUIRE(told.size() == 1);
    CHECK(told[0].error.empty());
    CHECK(told[0].error_changed);
    CHECK(told[0].endpoints_changed());
    CHECK(told[0].endpoints == plain({a, b}));
    CHECK(answer(book, host("db.test"), addresses({a, b}, 1s), now += 1s).empty());

    told = answer(book, host("db.test"), failure(), now += 1s);
    REQUIRE(told.size() == 1);
    CHECK(told[0].endpoints == plain({a, b}));
    CHECK_FALSE(told[0].endpoints_changed());
    CHECK(book.lookup("db.test") == plain({a, b}));

    // Another reason is news, for it may be what somebody is looking for.
    told = answer(book, host("db.test"), failure("no such name"), now += 1s);
    REQUIRE(told.size() == 1);
    CHECK(told[0].error == "no such name");

    told = answer(book, host("db.test"), addresses({c}, 1s), now += 2s);
    REQUIRE(told.size() == 1);
    CHECK(told[0].endpoints == plain({c}));
    CHECK(told[0].before == plain({a, b}));
}

TEST_CASE("one family of addresses stays when only the other can be asked for") {
    Book book;
    book.follow({host("db.test")}, 30s, start);
    answer(book, host("db.test"), addresses({a}, 1s, {six}), start);
    CHECK(book.lookup("db.test") == plain({six, a}));
    answer(book, host("db.test"), {.ttl = 1s, .v4 = {{b}}}, start + 1s);
    CHECK(book.lookup("db.test") == plain({six, b}));
    answer(book, host("db.test"), addresses({b}, 1s), start + 2s);
    CHECK(book.lookup("db.test") == plain({b}));
}

TEST_CASE("a name that nobody follows any more is forgotten, one that stays is kept") {
    Book book;
    book.follow({host("db.test"), host("web.test")}, 30s, start);
    for (const auto& question : book.take_due(start)) book.record(question, addresses({a}), start);
    book.follow({host("db.test")}, 30s, start);
    CHECK(book.lookup("web.test").empty());
    CHECK(book.lookup("db.test") == plain({a}));

    // An answer that comes too late makes room all the same, and nothing else.
    book.follow({host("mail.test")}, 30s, start);
    REQUIRE(book.take_due(start).size() == 1);
    book.follow({}, 30s, start);
    CHECK(book.record(host("mail.test"), addresses({a}), start).empty());
    CHECK(book.lookup("mail.test").empty());
}

TEST_CASE("a service is known when its hosts are, with their ports, weights and priorities") {
    Book book;
    const auto name = "_http._tcp.web.test";
    book.follow({service(name)}, 30s, start);
    CHECK(
        answer(book, service(name),
               records({{10, 60, "a.test.", 80}, {10, 20, "b.test.", 81}, {20, 5, "c.test.", 82}}),
               start)
            .empty());
    CHECK_FALSE(book.is_complete());
    auto due = book.take_due(start);
    REQUIRE(due == std::vector{host("a.test."), host("b.test."), host("c.test.")});
    CHECK(book.record(due[2], addresses({c}), start).empty());
    CHECK(book.record(due[1], addresses({b}, 60s, {six}), start).empty());
    auto told = book.record(due[0], addresses({a}), start);
    REQUIRE(told.size() == 1);
    CHECK(told[0].endpoints ==
          std::vector<Endpoint>{{six, 81, 20, 0}, {a, 80, 60, 0}, {b, 81, 20, 0}, {c, 82, 5, 1}});
    CHECK(book.is_complete());
    CHECK(book.lookup(name) == told[0].endpoints);
}

TEST_CASE("records and hosts of a service live each their own time") {
    Book book;
    const auto name = "_http._tcp.web.test";
    book.follow({service(name)}, 30s, start);
    answer(book, service(name), records({{0, 1, "a.test.", 80}}, 20s), start);
    answer(book, host("a.test."), addresses({a}, 5s), start);
    auto told = answer(book, host("a.test."), addresses({b}, 30s), start + 5s);
    REQUIRE(told.size() == 1);
    CHECK(told[0].endpoints == std::vector<Endpoint>{{b, 80, 1, 0}});
    CHECK(book.next_due() == start + 20s);

    SECTION("a new host counts as soon as its address is known, and the old one until then") {
        CHECK(answer(book, service(name), records({{0, 1, "c.test.", 90}}, 20s), start + 20s)
                  .empty());
        CHECK(book.lookup(name) == std::vector<Endpoint>{{b, 80, 1, 0}});
        told = answer(book, host("c.test."), addresses({c}, 30s), start + 20s);
        REQUIRE(told.size() == 1);
        CHECK(told[0].endpoints == std::vector<Endpoint>{{c, 90, 1, 0}});
        CHECK(told[0].before == std::vector<Endpoint>{{b, 80, 1, 0}});
    }
    SECTION("records whose hosts nobody knows change nothing, but are complained about") {
        answer(book, service(name), records({{0, 1, "c.test.", 90}}, 20s), start + 20s);
        told = answer(book, host("c.test."), failure("no such name"), start + 20s);
        REQUIRE(told.size() == 1);
        CHECK(told[0].error == "c.test: no such name");
        CHECK(book.lookup(name) == std::vector<Endpoint>{{b, 80, 1, 0}});
    }
    SECTION("a host that fails keeps its last address, the others go on") {
        answer(book, service(name), records({{0, 1, "a.test.", 80}, {0, 1, "c.test.", 90}}, 60s),
               start + 20s);
        told = answer(book, host("c.test."), addresses({c}, 2s), start + 20s);
        REQUIRE(told.size() == 1);
        told = answer(book, host("c.test."), failure(), start + 22s);
        REQUIRE(told.size() == 1);
        CHECK(told[0].error == "c.test: DNS did not answer in time");
        CHECK(told[0].endpoints == std::vector<Endpoint>{{b, 80, 1, 0}, {c, 90, 1, 0}});
    }
    SECTION("a failure of the records changes nothing") {
        told = answer(book, service(name), failure("no such name"), start + 20s);
        REQUIRE(told.size() == 1);
        CHECK(told[0].endpoints == std::vector<Endpoint>{{b, 80, 1, 0}});
    }
}

TEST_CASE("a host that two services share, and that is followed by itself, is one question") {
    Book book;
    const std::vector names{service("_a._tcp.test"), service("_b._tcp.test")};
    book.follow(names, 30s, start);
    for (const auto& question : book.take_due(start))
        book.record(question, records({{0, 1, "db.test.", 80}}), start);
    auto told = answer(book, host("db.test."), addresses({a}), start);
    CHECK(told.size() == 2);
}

TEST_CASE("the same place twice is one, with the better priority") {
    Book book;
    const auto name = "_http._tcp.web.test";
    book.follow({service(name)}, 30s, start);
    answer(book, service(name), records({{2, 9, "a.test.", 80}, {1, 3, "also-a.test.", 80}}),
           start);
    for (const auto& question : book.take_due(start)) book.record(question, addresses({a}), start);
    CHECK(book.lookup(name) == std::vector<Endpoint>{{a, 80, 3, 0}});
}

TEST_CASE("a name with thousands of addresses is cut short, always at the same place") {
    std::vector<Ip> ips;
    for (int i = 0; i < 2000; ++i)
        ips.push_back(Ip::v4(10, 0, static_cast<uint8_t>(i / 256), static_cast<uint8_t>(i % 256)));
    std::vector<Ip> reversed(ips.rbegin(), ips.rend());
    Book book;
    book.follow({host("db.test")}, 30s, start);
    answer(book, host("db.test"), addresses(ips, 1s), start);
    const auto endpoints = book.lookup("db.test");
    CHECK(endpoints.size() == Book::endpoints_max);
    CHECK(answer(book, host("db.test"), addresses(reversed, 1s), start + 1s).empty());
    CHECK(to_text(endpoints).ends_with("10.0.0.15 and 496 more"));
}

TEST_CASE("SRV weights become ours, in the same ratios where they can") {
    struct Row {
        std::vector<uint16_t> theirs;
        std::vector<uint32_t> ours;
    };
    for (const auto& [theirs, ours] : std::vector<Row>{{{}, {}},
                                                       {{0}, {1}},
                                                       {{0, 0}, {1, 1}},
                                                       {{7}, {7}},
                                                       {{1, 2, 3}, {1, 2, 3}},
                                                       {{256, 1}, {256, 1}},
                                                       {{1000, 5000}, {1, 5}},
                                                       {{65535, 65535}, {1, 1}},
                                                       {{65535, 1}, {256, 1}},
                                                       {{65535, 32768, 257}, {256, 128, 1}},
                                                       {{0, 1}, {1, 256}},
                                                       {{0, 10, 10}, {1, 250, 250}},
                                                       {{0, 1000, 3000}, {1, 85, 255}},
                                                       {{0, 200, 3}, {1, 200, 3}},
                                                       {{0, 65535, 1}, {1, 256, 1}}})
        CHECK(scale_weights(theirs) == ours);
}

TEST_CASE("endpoints in words") {
    CHECK(to_text(plain({})) == "");
    CHECK(to_text(plain({a, six})) == "198.51.100.1, 2001:db8::1");
    CHECK(to_text({{a, 80, 1, 0}, {six, 81, 3, 0}, {b, 82, 1, 1}, {c, 83, 2, 2}}) ==
          "198.51.100.1:80, [2001:db8::1]:81 (weight 3), 198.51.100.2:82 (priority 1), "
          "198.51.100.3:83 (weight 2, priority 2)");
    CHECK(without({{a, 80, 1, 0}, {b, 80, 1, 0}}, {{a, 80, 7, 1}}) ==
          std::vector<Endpoint>{{b, 80, 1, 0}});
}

// ---- which names are meant

TEST_CASE("short names are searched for in the domains of resolv.conf") {
    using Names = std::vector<std::string>;
    const Names search{"a.test", "b.test"};
    CHECK(candidates_for("db", 1, search) == Names{"db.a.test", "db.b.test", "db"});
    CHECK(candidates_for("db.x", 1, search) == Names{"db.x", "db.x.a.test", "db.x.b.test"});
    CHECK(candidates_for("db.x", 2, search) == Names{"db.x.a.test", "db.x.b.test", "db.x"});
    CHECK(candidates_for("db.x.", 2, search) == Names{"db.x."});
    CHECK(candidates_for("db", 1, {}) == Names{"db"});
    CHECK(candidates_for("db", 0, search) == Names{"db", "db.a.test", "db.b.test"});
}

// ---- messages

namespace {

std::optional<Reply> read(const std::string& message) {
    return read_reply({reinterpret_cast<const uint8_t*>(message.data()), message.size()});
}

using test::address_record;
using test::alias_record;
using test::DnsRecord;
using test::service_record;
using test::write_reply;

}  // namespace

TEST_CASE("a reply gives addresses and the smallest time to live") {
    auto reply =
        read(write_reply({7, "db.test", test::dns_a},
                         {address_record("db.test", b, 60), address_record("db.test", a, 5),
                          address_record("other.test", c, 1)}));
    REQUIRE(reply);
    CHECK(reply->addresses == std::vector{b, a});
    CHECK(reply->ttl == 5s);

    reply = read(write_reply({7, "db.test", test::dns_aaaa}, {address_record("db.test", six, 60),
                                                              address_record("db.test", a, 5)}));
    REQUIRE(reply);
    CHECK(reply->addresses == std::vector{six});
    CHECK(reply->ttl == 60s);
}

TEST_CASE("a time to live with its highest bit set is none") {
    auto reply = read(
        write_reply({7, "db.test", test::dns_a}, {address_record("db.test", a, 0x8000'0000u)}));
    REQUIRE(reply);
    CHECK(reply->ttl == 0s);
}

TEST_CASE("aliases are followed, in any order and letter case, and count for the time to live") {
    auto reply = read(
        write_reply({7, "WWW.test", test::dns_a},
                    {address_record("host.test", a, 60), alias_record("alias.test", "Host.Test", 3),
                     alias_record("www.test", "alias.test", 20)}));
    REQUIRE(reply);
    CHECK(reply->addresses == std::vector{a});
    CHECK(reply->ttl == 3s);

    reply =
        read(write_reply({7, "www.test", test::dns_a}, {alias_record("www.test", "other.test"),
                                                        alias_record("other.test", "www.test")}));
    REQUIRE(reply);
    CHECK(reply->is_empty());
}

TEST_CASE("a reply gives SRV records, but for those that lead nowhere") {
    const std::string name = "_http._tcp.web.test";
    auto reply = read(write_reply({7, name, test::dns_srv},
                                  {service_record(name, {10, 20, 8080, "A.web.test"}, 30),
                                   service_record(name, {0, 0, 0, "b.web.test"}, 30),
                                   service_record(name, {0, 0, 80, ""}, 30)}));
    REQUIRE(reply);
    CHECK(reply->records == std::vector<ServiceRecord>{{10, 20, "a.web.test.", 8080}});
    CHECK(reply->ttl == 30s);
}

TEST_CASE("what is malformed is refused as a whole") {
    const test::DnsQuestion question{7, "db.test", test::dns_a};
    auto with = [&](uint16_t type, std::string data) {
        return write_reply({7, "db.test", type}, {DnsRecord{"db.test", type, 1, std::move(data)}});
    };
    CHECK_FALSE(read(""));
    CHECK_FALSE(read(with(test::dns_a, "abc")));
    CHECK_FALSE(read(with(test::dns_a, "abcde")));
    CHECK_FALSE(read(with(test::dns_aaaa, "abcd")));
    CHECK_FALSE(read(with(test::dns_srv, "abcd")));
    CHECK_FALSE(read(with(test::dns_srv, std::string("\0\1\0\1\0\1\1a\0x", 11))));
    CHECK_FALSE(read(with(test::dns_srv, std::string("\0\1\0\1\0\1\xC0\x0C", 8).substr(0, 7))));
    CHECK_FALSE(read(with(test::dns_cname, "\x3F")));

    const std::string whole =
        write_reply(question, {alias_record("db.test", "x.test"), address_record("x.test", a)});
    REQUIRE(read(whole));
    for (size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(read(whole.substr(0, size)));

    std::string circle = with(test::dns_cname, std::string("\xC0\x25", 2));
    CHECK_FALSE(read(circle));  // a name that points at itself
}

TEST_CASE("no message whatsoever does harm") {
    const std::string name = "_http._tcp.web.test";
    const std::string whole =
        write_reply({7, name, test::dns_srv},
                    {alias_record(name, "x.test"), service_record("x.test", {1, 2, 3, "y.test"}),
                     service_record("x.test", {1, 2, 3, "z.test"}), address_record("y.test", a)});
    std::minstd_rand random(1);
    for (int i = 0; i < 20'000; ++i) {
        std::string bytes = whole;
        for (auto left = random() % 4 + 1; left-- > 0;)
            bytes[random() % bytes.size()] = static_cast<char>(random());
        auto reply = read(bytes);
        if (reply) CHECK(reply->records.size() <= 4);
    }
}
