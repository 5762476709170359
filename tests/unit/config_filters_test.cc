// SPDX-License-Identifier: Apache-2.0
// `filters`, `chunk_size` and `cache`: what a file can say of the bytes of a service, and what is
// wrong with it.
#include <sys/stat.h>
#include <unistd.h>

#include "base/format.h"
#include "config/config.h"
#include "config/words.h"
#include "support/catch.h"
#include "support/temp_dir.h"

using namespace proxify;
using namespace proxify::test;
using config::Element;
using config::ElementType;

namespace {

/// One service "web" with these keys.
std::string service(const std::string& keys) {
    return "[[service]]\nname = 'web'\nports = 80\ntargets = '198.51.100.1:80'\n" + keys + "\n";
}

config::Service accept(const std::string& keys, const std::string& file = "targets.toml") {
    CAPTURE(keys);
    auto config = config::parse(service(keys), file);
    if (!config) FAIL(config.error().text());
    return config->services.at(0);
}

std::string refusal(const std::string& keys, const std::string& file = "targets.toml") {
    CAPTURE(keys);
    auto config = config::parse(service(keys), file);
    REQUIRE_FALSE(config);
    return config.error().text();
}

/// `filters` with this one element.
std::string one(const std::string& keys) {
    return "filters = [{ " + keys + " }]";
}
Element element(const std::string& keys) {
    return accept(one(keys)).filters.at(0);
}

std::vector<std::string> names(const config::Service& service) {
    std::vector<std::string> names;
    for (const auto& element : service.filters) names.push_back(element.name);
    return names;
}

}  // namespace

TEST_CASE("each type of element is read with what it usually does", "[X-10]") {
    auto log = element("type = 'log'");
    CHECK(log.type == ElementType::log);
    CHECK(log.name == "log");
    CHECK(log.level == config::LogLevel::info);
    CHECK_FALSE(log.direction);
    CHECK(log.on_error == config::OnError::pass);
    CHECK(log.head == 0);
    CHECK(element("type = 'hexdump'").type == ElementType::hexdump);
    CHECK(element("type = 'count'").type == ElementType::count);
    auto match = element("type = 'match', pattern = 'secret'");
    CHECK(match.pattern->text() == "secret");
    CHECK(match.on_match == config::OnMatch::close);
    CHECK(match.delimiter.empty());
    CHECK(match.hold == 100ms);
    auto replace = element("type = 'replace', find = 'a', with = ''");
    CHECK(replace.find == "a");
    CHECK(replace.with.empty());
    auto rate = element("type = 'rate', bytes = '1MiB'");
    CHECK(rate.bytes == 1 << 20);
    CHECK(rate.burst == (1 << 20) / 10);
    CHECK(rate.per == config::RatePer::session);
    CHECK(element("type = 'rate', bytes = 100").burst == 4096);
    CHECK(element("type = 'limit_bytes', bytes = 5").bytes == 5);
    CHECK(accept("").filters.empty());
    CHECK(accept("filters = []").filters.empty());
}

TEST_CASE("an element with every key is read as it is written", "[X-10]") {
    auto match = element(
        "type = 'match', name = 'no.secrets_1-a', direction = 'to_client', on_error = 'close', "
        "head = '64KiB', pattern = 'a+', action = 'drop', delimiter = \"\\r\\n\", hold = '1s'");
    CHECK(match.name == "no.secrets_1-a");
    CHECK(match.direction == Direction::to_client);
    CHECK(match.on_error == config::OnError::close);
    CHECK(match.head == 65536);
    CHECK(match.on_match == config::OnMatch::drop);
    CHECK(match.delimiter == "\r\n");
    CHECK(match.hold == 1s);
    CHECK_FALSE(element("type = 'count', direction = 'both'").direction);
    CHECK(element("type = 'log', level = 'debug'").level == config::LogLevel::debug);
    auto rate = element("type = 'rate', bytes = 1000, burst = '2KiB', per = 'source'");
    CHECK(rate.burst == 2048);
    CHECK(rate.per == config::RatePer::source);
    CHECK(element("type = 'replace', find = \"\\u0000\", with = 'b'").find == std::string(1, '\0'));

    // The other way to write an array of tables.
    auto web = accept("[[service.filters]]\ntype = 'log'\n[[service.filters]]\ntype = 'count'\n");
    CHECK(names(web) == std::vector<std::string>{"log", "count"});
}

TEST_CASE("chunks are of 4096 bytes unless the file says otherwise", "[X-16]") {
    CHECK(accept("").chunk_size == 4096);
    CHECK(accept("chunk_size = 1").chunk_size == 1);
    CHECK(accept("chunk_size = '64KiB'").chunk_size == 65536);
    CHECK(refusal("chunk_size = 0").contains("chunk_size: expected a size from 1B to 64KiB"));
    CHECK(refusal("chunk_size = 65537").contains("found 65537"));
}

TEST_CASE("sizes are bytes, or have a unit; units of other programs are told ours") {
    struct {
        const char* written;
        uint64_t bytes;
    } good[] = {{"512", 512},
                {"'512'", 512},
                {"'512B'", 512},
                {"'64KiB'", 64 << 10},
                {"'3MiB'", 3 << 20},
                {"'2GiB'", uint64_t{2} << 30},
                {"1", 1},
                {"'1024GiB'", 1ll << 40}};
    for (auto [written, bytes] : good)
        CHECK(element(format("type = 'limit_bytes', bytes = {}", written)).bytes == bytes);
    struct {
        const char *written, *what;
    } bad[] = {
        {"'64k'", "write \"64KiB\""},
        {"'64K'", "write \"64KiB\""},
        {"'64kb'", "write \"64KiB\""},
        {"'1m'", "write \"1MiB\""},
        {"'10 MB'", "write \"10MiB\""},
        {"'1MiB/s'", "write \"1MiB\""},
        {"'1 GiB'", "write \"1GiB\""},
        {"'7 b'", "write \"7B\""},
        {"'1mbit'", "expected a number of bytes such as \"512\", \"64KiB\""},
        {"''", "found \"\""},
        {"'-1'", "found \"-1\""},
        {"'1.5MiB'", "found \"1.5MiB\""},
        {"'99999999999999999999'", "found \"99999999999999999999\""},
        {"'9999999999GiB'", "expected a number of bytes"},
        {"-1", "expected a number of bytes, or a size such as \"64KiB\" or \"1MiB\", found -1"},
        {"1.5", "found 1.5"},
        {"true", "found true"},
        {"0", "expected a size from 1B to 1024GiB, found 0"},
        {"'0KiB'", "expected a size from 1B to 1024GiB"},
        {"'1025GiB'", "expected a size from 1B to 1024GiB, found \"1025GiB\""},
    };
    for (auto [written, what] : bad) {
        const auto error = refusal(one(format("type = 'limit_bytes', bytes = {}", written)));
        CAPTURE(error, what);
        CHECK(error.contains("targets.toml:5:"));
        CHECK(error.contains("filters.bytes: "));
        CHECK(error.contains(what));
    }
    CHECK(config::size_text(1536) == "1536B");
    CHECK(config::size_text(64 << 10) == "64KiB");
    CHECK(config::size_text(0) == "0B");
}

TEST_CASE("an element without a name is called after its type, and no two have the same name") {
    CHECK(names(accept("filters = [{ type = 'count' }, { type = 'log' }, { type = 'count' }, "
                       "{ type = 'count' }]")) ==
          std::vector<std::string>{"count", "log", "count-2", "count-3"});
    // A name that somebody has chosen is theirs, wherever it stands.
    CHECK(names(accept("filters = [{ type = 'count' }, { type = 'count' }, "
                       "{ type = 'log', name = 'count-2' }]")) ==
          std::vector<std::string>{"count", "count-3", "count-2"});
    CHECK(names(accept("filters = [{ type = 'count' }, { type = 'log', name = 'count' }]")) ==
          std::vector<std::string>{"count-2", "count"});

    const auto twice = refusal(
        "filters = [\n  { type = 'count', name = 'a' },\n  { type = 'log', name = 'a' }\n]");
    CAPTURE(twice);
    CHECK(twice.contains("targets.toml:7:26: filters.name: \"a\" is the name of another one"));
    CHECK(twice.contains("hint: give each its own, or leave both out"));
    // What is no name is complained of once.
    for (const char* name : {"''", "'a b'", "'a\\n'", "5", "'\xC3\xA4'"}) {
        const auto error = refusal(
            format("filters = [{{ type = 'count', name = {0} }}, {{ type = 'count' }}]", name));
        CAPTURE(error);
        CHECK(error.contains("filters.name: expected 1 to 64 letters, digits"));
        CHECK_FALSE(error.contains("mistakes"));
    }
    CHECK_FALSE(refusal("filters = [{ type = 'cuont', name = 'a' }, { type = 'x', name = 'a' }]")
                    .contains("the name of another"));
}

TEST_CASE("what is wrong with an element is said where it is written, with a way out") {
    struct {
        std::string keys, what, hint;
    } rows[] = {
        // no element at all
        {"filters = 'count'", "5:11: filters: expected an array of at most 32 elements", ""},
        {"filters = { type = 'count' }", "5:11: filters: expected an array",
         "put it in brackets: filters = [{ ... }], or [[service.filters]]"},
        {"[service.filters]\ntype = 'count'", "filters: expected an array", "[[service.filters]]"},
        {"filters = ['count']",
         "5:12: filters: expected a table like { type = \"count\" }, found \"count\"",
         "write { type = \"count\" }"},
        {"filters = [5]", "filters: expected a table like", ""},
        {"filters = [[{ type = 'count' }]]", "found an array", ""},
        {one(""), "5:12: filters.type: the element has none", "add one, such as type = \"count\""},
        {one("pattern = 'x'"), "filters.type: the element has none", "such as"},
        // the type
        {one("type = 5"), "filters.type: expected \"log\", \"hexdump\"", ""},
        {one("type = 'cuont'"), "or \"lua\", found \"cuont\"", "did you mean \"count\"?"},
        {one("type = 'limit-bytes'"), "found", "did you mean \"limit_bytes\"?"},
        {one("type = 'regex'"), "found", "did you mean \"match\"?"},
        {one("type = 'sub_filter'"), "found", "did you mean \"replace\"?"},
        {one("type = 'bwlim-out'"), "found", "did you mean \"rate\"?"},
        {one("type = 'rate-limit'"), "found", "did you mean \"rate\"?"},
        {one("type = 'trace'"), "found", "did you mean \"hexdump\"?"},
        // keys
        {one("type = 'count', nmae = 'a'"), "5:30: unknown key \"nmae\" in a filter",
         "did you mean \"name\"?"},
        {one("type = 'count', when_down = 'drop'"), "unknown key \"when_down\"",
         "belongs in [[service]]"},
        {one("type = 'count', zzzzzzzzz = 1"), "unknown key",
         "a filter can have type, name, direction"},
        {"pattern = 'x'", "unknown key \"pattern\" in [[service]]", "belongs in a filter"},
        {one("type = 'count', pattern = 'x'"),
         "5:30: filters.pattern: means nothing to an element of type \"count\"",
         "take it out; it is for \"match\""},
        {one("type = 'log', hold = '1s'"), "filters.hold: means nothing",
         "it is for \"replace\" and \"match\""},
        {one("type = 'rate', bytes = 1, head = 5"), "filters.head: means nothing", "\"lua\""},
        {one("type = 'limit_bytes', bytes = 1, per = 'source'"), "filters.per: means nothing",
         "\"rate\""},
        // for all types
        {one("type = 'count', direction = 'response'"),
         "filters.direction: expected \"both\", \"to_target\" or \"to_client\"",
         "did you mean \"to_client\"?"},
        {one("type = 'count', direction = 'request'"), "found", "did you mean \"to_target\"?"},
        {one("type = 'count', direction = 'to-client'"), "found", "did you mean \"to_client\"?"},
        {one("type = 'count', direction = true"), "found true", ""},
        {one("type = 'count', on_error = 'drop'"),
         "filters.on_error: expected \"pass\" or \"close\"", ""},
        {one("type = 'count', on_error = 'ignore'"), "found", "did you mean \"pass\"?"},
        {one("type = 'log', head = 0"), "filters.head: expected a size from 1B", ""},
        {one("type = 'log', level = 'warn'"),
         "filters.level: expected \"debug\" or \"info\", found \"warn\"", ""},
        // match
        {one("type = 'match'"), "5:12: filters.pattern: the element has none",
         "add a regular expression: pattern = \"secret\""},
        {one("type = 'match', pattern = ''"), "expected a string of 1 to 4096 bytes", ""},
        {one("type = 'match', pattern = ['a']"), "found an array", ""},
        {one("type = 'match', pattern = 'a', action = 'deny'"),
         "filters.action: expected \"close\" or \"drop\"", "did you mean \"close\"?"},
        {one("type = 'match', pattern = 'a', delimiter = 'x'"),
         "filters.delimiter: ends what action = \"drop\" drops",
         "take it out, or write action = \"drop\""},
        {one("type = 'match', pattern = 'a', action = 'drop', delimiter = ''"),
         "expected a string of 1 to 64 bytes", ""},
        {one("type = 'match', pattern = 'a', hold = 5"), "filters.hold: expected a duration",
         "write \"5s\" or \"5ms\""},
        {one("type = 'match', pattern = 'a', hold = '0s'"), "a duration from 1ms", ""},
        // replace
        {one("type = 'replace', with = 'a'"), "filters.find: the element has none",
         "find = \"a\", with = \"b\""},
        {one("type = 'replace', find = 'a'"), "filters.with: the element has none",
         "with = \"\" takes out what is found"},
        {one("type = 'replace', find = '', with = 'a'"), "filters.find: expected a string of 1",
         ""},
        {one("type = 'replace', find = 'a', with = 5"),
         "filters.with: expected a string of at most 65536 bytes, found 5", ""},
        {one("type = 'replace', find = 'a', with = '" + std::string(65537, 'x') + "'"),
         "expected a string of at most 65536 bytes", ""},
        // rate, limit_bytes
        {one("type = 'rate'"), "filters.bytes: the element has none",
         "how many may pass in a second: bytes = \"1MiB\""},
        {one("type = 'rate', bytes = '10mb'"), "filters.bytes: expected a number of bytes",
         "write \"10MiB\""},
        {one("type = 'rate', bytes = 5, burst = 0"), "filters.burst: expected a size from 1B", ""},
        {one("type = 'rate', bytes = 5, per = 'ip'"),
         "filters.per: expected \"session\", \"source\" or \"service\"",
         "did you mean \"source\"?"},
        {one("type = 'limit_bytes'"), "filters.bytes: the element has none", "how many may pass"},
        // lua
        {one("type = 'lua'"), "filters.script: the element has none",
         "add the path of a file: script = \"upper.lua\""},
        {one("type = 'lua', script = ''"), "filters.script: expected a string", ""},
        {one("type = 'lua', script = \"a\\u0000b\""), "expected the path of a file", ""},
        {one("type = 'lua', script = 'none.lua', memory = '4KiB'"),
         "filters.memory: expected a size from 64KiB to 64MiB", ""},
        {one("type = 'lua', script = 'none.lua', memory = '65MiB'"),
         "filters.memory: expected a size from 64KiB to 64MiB", ""},
        {one("type = 'lua', script = 'none.lua', instructions = 999"),
         "filters.instructions: expected a number from 1000 to 1000000000", ""},
        // chunk_size
        {"chunk_size = '4k'", "5:14: chunk_size: expected a number of bytes", "write \"4KiB\""},
        {"chunk_size = [1]", "chunk_size: expected a number of bytes", ""},
    };
    for (const auto& [keys, what, hint] : rows) {
        const auto error = refusal(keys);
        CAPTURE(error, what, hint);
        CHECK(error.contains("targets.toml:"));
        CHECK(error.contains(what));
        if (!hint.empty()) {
            CHECK(error.contains("hint: "));
            CHECK(error.contains(hint));
        }
    }
    std::string many;
    for (int i = 0; i < 32; ++i) many += "{ type = 'count' }, ";
    CHECK(accept("filters = [" + many + "]").filters.size() == 32);
    CHECK(refusal("filters = [" + many + "{ type = 'log' }]")
              .contains("an array of at most 32 elements"));
}

TEST_CASE("all that is wrong with filters and a cache is said at once, each with its place") {
    const auto error = refusal(
        "filters = [\n"
        "  { type = 'match', pattern = 5 },\n"
        "  { type = 'rate', bytes = '1k', burts = 1 },\n"
        "  { type = 'lua', script = 'none.lua' },\n"
        "]\n"
        "chunk_size = 0\n"
        "cache = { ttl = 5 }");
    CAPTURE(error);
    CHECK(error.contains("targets.toml has 6 mistakes"));
    for (const char* what :
         {"targets.toml:6:31: filters.pattern: expected a string of 1 to 4096 bytes, found 5",
          "targets.toml:7:28: filters.bytes: expected a number of bytes",
          "targets.toml:7:34: unknown key \"burts\" in a filter",
          "targets.toml:8:3: filters.script: cannot read none.lua: No such file or directory",
          "targets.toml:10:14: chunk_size: expected a size",
          "targets.toml:11:17: cache.ttl: expected a duration"})
        CHECK(error.contains(what));
}

TEST_CASE("a script is read from beside the file that names it, or from where its path says") {
    TempDir dir, elsewhere;
    const std::string code = "return { to_target = function() end }\n";
    write_file(dir / "a.lua", code);
    write_file(elsewhere / "b.lua", code);
    const auto file = dir / "targets.toml";
    auto lua =
        accept(one("type = 'lua', script = 'a.lua', memory = '64KiB', instructions = 1000"), file)
            .filters.at(0);
    CHECK(lua.script == dir / "a.lua");
    CHECK(lua.code == code);
    CHECK(lua.memory == 65536);
    CHECK(lua.instructions == 1000);
    CHECK(accept(one(format("type = 'lua', script = '{}'", elsewhere / "b.lua")), file)
              .filters.at(0)
              .code == code);
    // Another text under the same path is another config.
    const auto before = config::parse(service(one("type = 'lua', script = 'a.lua'")), file);
    write_file(dir / "a.lua", code + "-- and more\n");
    const auto after = config::parse(service(one("type = 'lua', script = 'a.lua'")), file);
    REQUIRE(before);
    REQUIRE(after);
    CHECK_FALSE(*before == *after);
}

TEST_CASE("a script that cannot be read is refused, and never waited for") {
    TempDir dir;
    const auto file = dir / "targets.toml";
    auto said = [&](const std::string& script) {
        const auto error = refusal(one(format("type = 'lua', script = '{}'", script)), file);
        CHECK(error.contains(":5:12: filters.script: cannot read "));
        return error;
    };
    CHECK(said("none.lua").contains("No such file or directory"));
    CHECK(said("none.lua").contains("hint: a relative path begins in the folder of the file"));
    REQUIRE(::mkdir((dir / "folder").c_str(), 0755) == 0);
    CHECK(said("folder").contains("it is a directory"));
    CHECK(said("folder").contains("hint: name a file that holds it"));
    REQUIRE(::mkfifo((dir / "fifo").c_str(), 0600) == 0);
    CHECK(said("fifo").contains("it is no regular file"));
    CHECK(said("/dev/zero").contains("it is no regular file"));
    write_file(dir / "long.lua", std::string((8 << 20) + 1, ' '));
    CHECK(said("long.lua").contains("it is larger than 8 MiB"));
    write_file(dir / "secret.lua", "-- says nothing\n");
    REQUIRE(::chmod((dir / "secret.lua").c_str(), 0) == 0);
    if (::geteuid() != 0) CHECK(said("secret.lua").contains("Permission denied"));
}

TEST_CASE("a cache is off unless it is written, and read as it is written", "[P-49]") {
    CHECK_FALSE(accept("").cache);
    CHECK(accept("cache = {}").cache == config::Cache{});
    auto cache = accept(
        "cache = { ttl = '1m', max_request = 100, max_response = '2KiB', max_size = '1GiB', "
        "delimiter = \"\\r\\n\", request_timeout = '250ms' }");
    CHECK(cache.cache == config::Cache{.ttl = 1min,
                                       .max_request = 100,
                                       .max_response = 2048,
                                       .max_size = 1 << 30,
                                       .delimiter = "\r\n",
                                       .request_timeout = 250ms});
    CHECK(accept("[service.cache]\nttl = '5s'").cache->ttl == 5s);
}

TEST_CASE("what is wrong with a cache is said where it is written, with a way out", "[P-49]") {
    struct {
        const char *cache, *what, *hint;
    } rows[] = {
        {"true", "5:9: cache: expected a table like { ttl = \"10s\" }, found true",
         "cache = {} keeps answers as usual"},
        {"false", "found false", "without the key nothing is kept: take it out"},
        {"'10s'", "found \"10s\"", "write { ttl = \"10s\" }"},
        {"[]", "found an empty array", ""},
        {"{ tll = '1s' }", "5:11: unknown key \"tll\" in cache", "did you mean \"ttl\"?"},
        {"{ find = 'a' }", "unknown key \"find\" in cache", "belongs in a filter"},
        {"{ max_size = '64m' }", "cache.max_size: expected a number of bytes", "write \"64MiB\""},
        {"{ max_size = 0 }", "cache.max_size: expected a size from 1B", ""},
        {"{ max_request = '2MiB' }", "cache.max_request: expected a size from 1B to 1MiB", ""},
        {"{ max_response = '2GiB' }", "cache.max_response: expected a size from 1B to 1GiB", ""},
        {"{ ttl = '0s' }", "cache.ttl: expected a duration from 1ms", ""},
        {"{ request_timeout = 2 }", "cache.request_timeout: expected a duration",
         "write \"2s\" or \"2ms\""},
        {"{ delimiter = '' }", "cache.delimiter: expected a string of 1 to 64 bytes", ""},
        {"{ delimiter = 5 }", "found 5", ""},
        {"{ max_request = 1, delimiter = 'ab' }",
         "5:40: cache.delimiter: is longer than cache.max_request, 1B",
         "no request that ends with it could be looked up"},
        {"{ max_response = '2MiB', max_size = '1MiB' }",
         "cache.max_response: 2MiB is more than cache.max_size, 1MiB",
         "no answer of that size could be kept"},
    };
    for (auto [cache, what, hint] : rows) {
        const auto error = refusal(format("cache = {}", cache));
        CAPTURE(error, what, hint);
        CHECK(error.contains("targets.toml:5:"));
        CHECK(error.contains(what));
        CHECK(error.contains(hint));
    }
}

TEST_CASE("filters are described in their order, one in a line, with what is not as usual") {
    TempDir dir;
    write_file(dir / "a.lua", "return { to_target = function() end }\n");
    auto config = config::parse(service(R"(
        chunk_size = "64KiB"
        cache = { delimiter = "\n", max_request = 5, max_response = 6, request_timeout = "2s" }
        filters = [
            { type = "match", pattern = "secret" },
            { type = "match", pattern = "a\nb", action = "drop", delimiter = "\r\n", hold = "1s" },
            { type = "replace", find = "a", with = "" },
            { type = "rate", bytes = "1MiB", burst = "4KiB", per = "source" },
            { type = "limit_bytes", bytes = 1000, direction = "to_target", on_error = "close" },
            { type = "log", name = "audit", head = 16, level = "debug" },
            { type = "lua", script = "a.lua", memory = "2MiB", instructions = 5000 },
            { type = "hexdump" },
            { type = "count" },
        ])"),
                                dir / "targets.toml");
    if (!config) FAIL(config.error().text());
    const auto text = config::describe(*config);
    INFO(text);
    CHECK(text.contains(
        "  filters   match \"secret\", close\n"
        "            match-2: match \"a\\x0Ab\", drop up to \"\\x0D\\x0A\", holds for 1s\n"
        "            replace \"a\" with \"\"\n"
        "            rate 1MiB/s per source, 4KiB at once\n"
        "            limit_bytes 1000B, to_target only, close on error\n"
        "            audit: log, level debug, the first 16B\n"
        "            lua " +
        (dir / "a.lua") +
        ", memory 2MiB, 5000 instructions\n"
        "            hexdump\n"
        "            count\n"
        "  chunks    of at most 64KiB\n"
        "  cache     answers for 10s, 64MiB in all; requests end with \"\\x0A\"; requests of at "
        "most 5B; answers of at most 6B; requests within 2s\n"));
    const auto plain = config::describe(*config::parse(service(""), "targets.toml"));
    for (const char* label : {"filters", "chunks", "cache"}) CHECK_FALSE(plain.contains(label));
}
