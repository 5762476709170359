// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <unordered_set>

#include "base/address.h"
#include "base/clock.h"
#include "base/nearest.h"
#include "base/result.h"
#include "support/catch.h"

using namespace proxify;

TEST_CASE("an address prints as it is written") {
    for (std::string text : {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80",
                             "[::]:0", "[2001:db8::7]:65535"}) {
        CAPTURE(text);
        auto address = Address::parse(text);
        REQUIRE(address);
        CHECK(address->text() == text);
    }
}

TEST_CASE("what is not an address and a port is refused") {
    for (std::string text : {"",
                             ":",
                             "80",
                             "127.0.0.1",
                             "127.0.0.1:",
                             ":80",
                             "127.0.0.1:65536",
                             "127.0.0.1:-1",
                             "127.0.0.1:+1",
                             "127.0.0.1: 80",
                             "127.0.0.1:80 ",
                             "127.0.0:80",
                             "256.0.0.1:80",
                             "[127.0.0.1]:80",
                             "::1:80",
                             "[::1]",
                             "[::1:80",
                             "::1]:80",
                             "[]:80",
                             "localhost:80"}) {
        CAPTURE(text);
        CHECK_FALSE(Address::parse(text));
    }
    CHECK_FALSE(Ip::parse(std::string_view("127.0.0.1\0", 10)));
}

TEST_CASE("an IPv4 address written as IPv6 is the IPv4 address") {
    CHECK(Ip::parse("::ffff:10.0.0.7") == Ip::v4(10, 0, 0, 7));
    CHECK(Address::parse("[::ffff:10.0.0.7]:80") == Address::parse("10.0.0.7:80"));
    CHECK(Ip::parse("::ffff:10.0.0.7")->text() == "10.0.0.7");
}

TEST_CASE("loopback is 127.0.0.0/8 and ::1") {
    struct {
        const char* text;
        bool loopback;
    } rows[] = {{"126.255.255.255", false},
                {"127.0.0.0", true},
                {"127.255.255.255", true},
                {"128.0.0.0", false},
                {"::", false},
                {"::1", true},
                {"::2", false},
                {"::ffff:127.0.0.1", true}};
    for (auto [text, loopback] : rows) {
        CAPTURE(text);
        CHECK(Ip::parse(text)->is_loopback() == loopback);
    }
}

TEST_CASE("an address survives the journey through a sockaddr, in either family") {
    for (std::string text : {"10.0.0.7:5001", "[2001:db8::7]:5001"}) {
        for (bool as_v6 : {false, true}) {
            CAPTURE(text, as_v6);
            auto address = *Address::parse(text);
            sockaddr_storage storage{};
            auto length = address.to_sockaddr(storage, as_v6);
            bool is_v4 = address.ip.is_v4 && !as_v6;
            CHECK(storage.ss_family == (is_v4 ? AF_INET : AF_INET6));
            CHECK(length == (is_v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)));
            CHECK(Address::from_sockaddr(storage) == address);
        }
    }
}

TEST_CASE("addresses that differ in anything are different, and mostly hash differently") {
    std::unordered_set<Address> set;
    std::unordered_set<size_t> hashes;
    for (auto text :
         {"10.0.0.1:80", "10.0.0.1:81", "10.0.0.2:80", "[::1]:80", "[::2]:80", "[::1]:81"}) {
        set.insert(*Address::parse(text));
        hashes.insert(std::hash<Address>()(*Address::parse(text)));
    }
    CHECK(set.size() == 6);
    CHECK(hashes.size() == 6);
}

TEST_CASE("a prefix holds the addresses that begin as it does, of its own family") {
    struct Row {
        std::string prefix, first, last, before, after;
    };
    const Row rows[] = {
        {"10.0.0.0/8", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"},
        {"198.51.100.64/26", "198.51.100.64", "198.51.100.127", "198.51.100.63", "198.51.100.128"},
        {"203.0.113.7", "203.0.113.7", "203.0.113.7", "203.0.113.6", "203.0.113.8"},
        {"2001:db8::/33", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff",
         "2001:db7::", "2001:db8:8000::"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.prefix);
        auto prefix = Prefix::parse(row.prefix);
        REQUIRE(prefix);
        CHECK(prefix->text() == row.prefix);
        CHECK(prefix->network() == *prefix);
        CHECK(prefix->last().text() == row.last);
        CHECK(prefix->contains(*Ip::parse(row.first)));
        CHECK(prefix->contains(*Ip::parse(row.last)));
        CHECK_FALSE(prefix->contains(*Ip::parse(row.before)));
        CHECK_FALSE(prefix->contains(*Ip::parse(row.after)));
    }
    CHECK(Prefix::parse("0.0.0.0/0")->contains(*Ip::parse("255.255.255.255")));
    CHECK_FALSE(Prefix::parse("0.0.0.0/0")->contains(*Ip::parse("::1")));
    CHECK_FALSE(Prefix::parse("::/0")->contains(*Ip::parse("10.0.0.1")));
    CHECK(Prefix::parse("10.1.2.3/8")->network().text() == "10.0.0.0/8");
}

TEST_CASE("what is not a prefix is refused") {
    for (std::string text :
         {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0/8",
          "::/129", "10.0.0.0/8 ", "10.0.0.0/8/8", "web/8"}) {
        CAPTURE(text);
        CHECK_FALSE(Prefix::parse(text));
    }
}

TEST_CASE("a duration prints in the units people write") {
    struct {
        Duration duration;
        std::string text;
    } rows[] = {{0s, "0s"},           {250ms, "250ms"},
                {999ms, "999ms"},     {1s, "1s"},
                {1001ms, "1s1ms"},    {59s, "59s"},
                {60s, "1m"},          {90s, "1m30s"},
                {1h, "1h"},           {1h + 1min + 1s + 1ms, "1h1m1s1ms"},
                {24h * 365, "8760h"}, {1us, "1us"},
                {1ns, "1ns"},         {-90s, "-1m30s"}};
    for (const auto& [duration, text] : rows) CHECK(to_text(duration) == text);
}

TEST_CASE("an error reads from the outside in, with the hint last") {
    auto error = Error::from_errno(EPERM, "while attaching", "run as root,\nor grant CAP_BPF");
    CHECK(error.text() ==
          "error: while attaching: Operation not permitted\n"
          "  hint: run as root,\n"
          "        or grant CAP_BPF");
    auto outer = std::move(error).within("cannot steer").within("cannot start");
    CHECK(outer.text() ==
          "error: cannot start\n"
          "  cannot steer\n"
          "  while attaching: Operation not permitted\n"
          "  hint: run as root,\n"
          "        or grant CAP_BPF");
    CHECK(Error::of("no").text() == "error: no");
}

static Result<int> half(int number) {
    if (number % 2) return fail(Error::of("odd"));
    return number / 2;
}

static Result<int> quarter(int number) {
    TRY_TO(once, half(number));
    TRY(half(once));
    return once / 2;
}

TEST_CASE("TRY passes a value on and a failure up") {
    CHECK(quarter(8).value() == 2);
    CHECK(quarter(3).error().what == "odd");
    CHECK(quarter(6).error().what == "odd");
}

TEST_CASE("the distance between words counts letters added, lost, changed and swapped") {
    struct {
        std::string_view from, to;
        size_t distance;
    } rows[] = {{"", "", 0},
                {"", "ab", 2},
                {"ports", "ports", 0},
                {"port", "ports", 1},
                {"prots", "ports", 1},
                {"pirts", "ports", 1},
                {"portss", "ports", 1},
                {"tragest", "targets", 2},
                {"abc", "xyz", 3}};
    for (auto [from, to, distance] : rows) {
        CAPTURE(from, to);
        CHECK(edit_distance(from, to) == distance);
        CHECK(edit_distance(to, from) == distance);
    }
}

TEST_CASE("only a close word is guessed at") {
    constexpr std::string_view known[] = {"ports", "targets", "health"};
    CHECK(nearest("prots", known) == "ports");
    CHECK(nearest("target", known) == "targets");
    CHECK(nearest("helth", known) == "health");
    CHECK(nearest("colour", known) == "");
    CHECK(nearest("", known) == "");
    CHECK(nearest(std::string(100000, 'p'), known) == "");
}
