// SPDX-License-Identifier: Apache-2.0
// Services that share a port, told apart by the name that a TLS client asks for.
#include <string>
#include <vector>

#include "config/config.h"
#include "support/catch.h"

using namespace proxify;

namespace {

std::string service(const std::string& name, const std::string& ports, const std::string& more) {
    return "[[service]]\nname = '" + name + "'\nports = [" + ports +
           "]\ntargets = ['10.0.0.1:80']\n" + more + "\n";
}

config::Config accept(const std::string& text) {
    CAPTURE(text);
    auto config = config::parse(text, "targets.toml");
    if (!config) FAIL(config.error().text());
    return *config;
}

std::string refusal(const std::string& text) {
    CAPTURE(text);
    auto config = config::parse(text, "targets.toml");
    REQUIRE_FALSE(config);
    return config.error().text();
}

bool contains(const std::string& text, std::string_view part) {
    INFO(text);
    return text.find(part) != std::string::npos;
}

size_t count(const std::string& text, std::string_view part) {
    size_t found = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++found;
    return found;
}

}  // namespace

TEST_CASE("names are read in lower case and without a dot at their end", "[P-47]") {
    auto config =
        accept(service("web", "443", "sni = ['WWW.Example.org.', '*.example.org', 'localhost']"));
    CHECK(config.services[0].sni ==
          std::vector<std::string>{"www.example.org", "*.example.org", "localhost"});
    CHECK(accept(service("web", "443", "sni = 'a.example'")).services[0].sni ==
          std::vector<std::string>{"a.example"});
    CHECK(accept(service("web", "443", "")).services[0].sni.empty());
}

TEST_CASE("what no client can ask for is refused as a name", "[P-47]") {
    for (auto [name, why] : {std::pair{"www.*.org", "has a * that is not its whole first label"},
                             {"*", "has a * that is not its whole first label"},
                             {"w*.example.org", "has a * that is not its whole first label"},
                             {"*.*.org", "has a * that is not its whole first label"},
                             {"198.51.100.7", "is an address, for which no client asks by name"},
                             {"2001:db8::7", "is an address, for which no client asks by name"},
                             {"", "is no name of a host"},
                             {"*.", "is no name of a host"},
                             {"a b", "is no name of a host"},
                             {"a..b", "is no name of a host"},
                             {"-a.example", "is no name of a host"}}) {
        CAPTURE(name);
        CHECK(contains(refusal(service("web", "443", "sni = ['" + std::string(name) + "']")),
                       "sni: \"" + std::string(name) + "\" " + why));
    }
    CHECK(contains(refusal(service("web", "443", "sni = [443]")),
                   "sni: expected a name like \"www.example.org\", found 443"));
    CHECK(contains(refusal(service("web", "443", "sni = []")), "found an empty array"));
    CHECK(contains(refusal(service("web", "443", "sni = ['a.example', 'A.example.']")),
                   "sni: \"a.example\" is in this service twice, first at 5:8"));
}

TEST_CASE("services share ports while their names differ, and one of them needs none", "[P-47]") {
    const auto config =
        accept(service("a", "443, '8000-8999'", "sni = ['a.example', '*.a.example']") +
               service("b", "443, '8500-9500'", "sni = 'b.example'") +
               service("rest", "443, 9000", "") + service("c", "443, 8700", "sni = '*.b.example'"));
    CHECK(config.services.size() == 4);
    // The same name on another port, or at another address, is another matter.
    accept(service("a", "443", "sni = 'a.example'") + service("b", "444", "sni = 'a.example'"));
    accept(service("a", "443", "sni = 'a.example'") +
           service("b", "443", "sni = 'a.example'\naddresses = ['198.51.100.7']"));
    accept(service("a", "443", "sni = 'a.example'\naddresses = ['198.51.100.7']") +
           service("b", "443", "sni = 'b.example'\naddresses = ['198.51.100.7', '203.0.113.7']"));
}

TEST_CASE("services that could not be told apart are refused with both places", "[P-47]") {
    CHECK(contains(refusal(service("a", "443", "sni = 'a.example'") +
                           service("b", "443", "sni = ['b.example', 'A.example']")),
                   "10:21: sni: \"a.example\" is already a name of service \"a\", and both have "
                   "port 443"));
    CHECK(contains(refusal(service("a", "443", "") + service("b", "443", "sni = 'b.example'") +
                           service("c", "443", "")),
                   "13:10: ports: port 443 is already in service \"a\", at 3:10, and neither has "
                   "an sni"));
    CHECK(contains(refusal(service("a", "443", "sni = 'a.example'") + service("b", "443", "") +
                           service("c", "443", "")),
                   "ports: port 443 is already in service \"b\", at 8:10"));
    CHECK(contains(refusal(service("a", "443, '400-500'", "sni = 'a.example'")),
                   "ports: port 443 is in this service twice, first at 3:10"));
    CHECK(contains(refusal(service("a", "443", "") + service("b", "443", "")),
                   "ports: port 443 is already in service \"a\", at 3:10"));
    CHECK(contains(refusal(service("a", "443", "sni = 'a.example'\naddresses = ['198.51.100.7']") +
                           service("b", "443", "sni = 'a.example'\naddresses = ['198.51.100.7']")),
                   "\"a.example\" is already a name of service \"a\""));
}

TEST_CASE("two ranges that clash are one problem, however many ports they share", "[P-47]") {
    const auto text = refusal(service("a", "'1-65535'", "sni = 'a.example'") +
                              service("b", "'1-65535'", "sni = 'a.example'"));
    CHECK(count(text, "already a name") == 1);
}

TEST_CASE("three sharers of a part of each other's ports are all told apart", "[P-47]") {
    // The set {a, c} comes after {a, b} has made {a, b, c}.
    CHECK(contains(
        refusal(service("a", "'1-3'", "sni = 'a.example'") +
                service("b", "2", "sni = 'b.example'") + service("c", "2, 3", "sni = 'c.example'") +
                service("d", "3", "sni = 'a.example'")),
        "\"a.example\" is already a name of service \"a\", and both have port 3"));
    accept(service("a", "'1-3'", "sni = 'a.example'") + service("b", "2", "sni = 'b.example'") +
           service("c", "2, 3", "sni = 'c.example'") + service("d", "3", "sni = 'b.example'"));
}

TEST_CASE("ten thousand names on every port are judged quickly enough", "[P-47]") {
    std::string text;
    for (int i = 0; i < 200; ++i) {
        std::string names;
        for (int j = 0; j < 50; ++j) names += "'n" + std::to_string(50 * i + j) + ".example', ";
        text += service("s" + std::to_string(i), "443, '8000-8009'", "sni = [" + names + "]");
    }
    CHECK(accept(text).services.size() == 200);
}

TEST_CASE("the names of a service are among its settings", "[P-47]") {
    auto shown = [](const std::string& sni) {
        for (const auto& [label, value] :
             config::settings_of(accept(service("web", "443", sni)).services[0]))
            if (label == "sni") return value;
        return std::string("-");
    };
    CHECK(shown("") == "-");
    CHECK(shown("sni = ['a.example', '*.b.example']") == "a.example, *.b.example");
    CHECK(shown("sni = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']") == "a, b, c, d and 5 more");
}
