// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "config/config.h"
#include "support/catch.h"

using namespace proxify;
using namespace std::string_literals;

static Result<config::Config> parse(const std::string& keys) {
    return config::parse(
        "[[service]]\nname = \"web\"\nports = [80]\ntargets = [\"10.0.0.1:80\"]\n" + keys + "\n",
        "targets.toml");
}

static config::Cache cache_of(const std::string& keys) {
    CAPTURE(keys);
    auto config = parse(keys);
    if (!config) FAIL(config.error().text());
    return config->services[0].cache.value();
}

static std::string refusal(const std::string& keys) {
    CAPTURE(keys);
    auto config = parse(keys);
    REQUIRE_FALSE(config);
    return config.error().text();
}

static bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TEST_CASE("a service has no cache unless it is written, and then all of it has defaults",
          "[P-49]") {
    CHECK_FALSE(parse("")->services[0].cache);
    const auto cache = cache_of("cache = {}");
    CHECK(cache == config::Cache{});
    CHECK(cache.ttl == 10s);
    CHECK(cache.max_request == 4096);
    CHECK(cache.max_response == 1 << 20);
    CHECK(cache.max_size == 64 << 20);
    CHECK(cache.delimiter.empty());
    CHECK(cache.request_timeout == 1s);
}

TEST_CASE("every key of a cache is read", "[P-49]") {
    const auto cache = cache_of(
        R"(cache = { ttl = "1m", max_request = 7, max_response = "2KiB", max_size = "3MiB", )"
        R"(delimiter = "\r\n", request_timeout = "20ms" })");
    CHECK(cache == config::Cache{1min, 7, 2048, 3 << 20, "\r\n", 20ms});
}

TEST_CASE("a small cache keeps no answer that is larger than itself", "[P-49]") {
    CHECK(cache_of(R"(cache = { max_size = "100KiB" })").max_response == 100 << 10);
}

TEST_CASE("a cache that could not work is refused with its reason", "[P-49]") {
    CHECK(contains(refusal(R"(cache = { max_response = "2MiB", max_size = "1MiB" })"),
                   "cache.max_response: 2MiB is more than cache.max_size, 1MiB"));
    CHECK(contains(refusal(R"(cache = { max_request = "2KiB", max_size = "1KiB" })"),
                   "cache.max_request: 2KiB is more than cache.max_size, 1KiB"));
    CHECK(contains(refusal("transparent = true\ncache = {}"), "take out cache or transparent"));
    CHECK(contains(refusal("cache = true"), "a table like { ttl = \"10s\" }"));
    CHECK(contains(refusal("cache = { tll = \"1s\" }"), "did you mean"));
    CHECK(contains(refusal("cache = { ttl = \"0s\" }"), "cache.ttl"));
}
