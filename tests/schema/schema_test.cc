// SPDX-License-Identifier: Apache-2.0
// packaging/targets.schema.json says to editors what the parser says to proxify. A schema cannot
// say everything (that two services share a port), so the two differ in one direction only: what
// the schema refuses, the parser refuses.
#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/format.h"
#include "config/config.h"
#include "config/fields.h"
#include "config/names.h"
#include "support/catch.h"
#include "support/json.h"
#include "support/log_lines.h"
#include "support/process.h"
#include "support/proxify_process.h"
#include "support/temp_dir.h"

using namespace proxify;
using namespace proxify::test;

namespace {

using Object = std::map<std::string, std::string>;

std::string schema_path() {
    return source_root() + "/packaging/targets.schema.json";
}

Object object(const std::string& text) {
    auto members = parse_json_object(text);
    if (!members) FAIL("no JSON object: " + text.substr(0, 200));
    return *members;
}

std::set<std::string> keys_of(const Object& object) {
    std::set<std::string> keys;
    for (const auto& [key, value] : object) keys.insert(key);
    return keys;
}

/// Where the schema has what messages call "[proxify]"; "" for the file itself.
std::string definition_of(std::string_view section) {
    if (section == "the file") return "";
    std::string name(section);
    std::erase_if(name, [](char c) { return c == '[' || c == ']'; });
    return name.starts_with("a ") ? name.substr(2) : name;  // "a target", "a filter"
}

/// Python with what the script needs: the one that comes first, or Debian's own.
std::string python() {
    for (std::string name : {"python3", "/usr/bin/python3"})
        if (test::run({.argv = {name, "-c", "import jsonschema, tomllib"}}).exit_code == 0)
            return name;
    return "";
}

#define NEEDS_PYTHON() \
    if (python().empty()) SKIP_TEST("needs Python 3.11 with the module jsonschema")

std::string run_script(std::vector<std::string> words, std::string input = "") {
    std::vector<std::string> argv{python(), source_root() + "/tests/schema/verdicts.py",
                                  schema_path()};
    argv.insert(argv.end(), words.begin(), words.end());
    Finished finished = test::run({.argv = argv, .input = std::move(input)}, 100s);
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    return finished.out;
}

/// "accepts", or "rejects" and why; one for each text.
std::vector<std::string> verdicts(const std::vector<std::string>& texts) {
    std::string input;
    for (const auto& text : texts) input += format("{}\n{}", text.size(), text);
    auto lines = lines_of(run_script({}, std::move(input)));
    REQUIRE(lines.size() == texts.size());
    return lines;
}

struct Tally {
    int both_accept = 0, both_reject = 0, only_parser_rejects = 0;
};

Tally check_direction(const std::vector<std::string>& texts) {
    const auto of_schema = verdicts(texts);
    Tally tally;
    for (size_t i = 0; i < texts.size(); ++i) {
        auto parsed = config::parse(texts[i], "targets.toml");
        const bool schema_accepts = of_schema[i] == "accepts";
        if (parsed && !schema_accepts) {
            INFO(texts[i]);
            FAIL_CHECK("the parser accepts this, the schema " << of_schema[i]);
        }
        ++(parsed           ? tally.both_accept
           : schema_accepts ? tally.only_parser_rejects
                            : tally.both_reject);
    }
    UNSCOPED_INFO("both accept " << tally.both_accept << ", both reject " << tally.both_reject
                                 << ", only the parser rejects " << tally.only_parser_rejects);
    return tally;
}

/// One service with these keys and whatever else it needs.
std::string service(std::string_view keys) {
    std::string text = "[[service]]\n";
    if (!keys.contains("name =")) text += "name = \"web\"\n";
    if (!keys.contains("ports")) text += "ports = [80]\n";
    if (!keys.contains("targets")) text += "targets = [\"10.0.0.1:80\"]\n";
    return text + std::string(keys) + "\n";
}

/// What stands in quotes in a source of C++, as the compiler reads it, more or less.
std::vector<std::string> literals_of(const std::string& source) {
    std::vector<std::string> literals;
    for (size_t i = 0; (i = source.find('"', i)) != std::string::npos;) {
        if (i > 0 && source[i - 1] == 'R' && source.substr(i, 2) == "\"(") {
            const size_t end = source.find(")\"", i);
            literals.push_back(source.substr(i + 2, end - i - 2));
            i = std::min(end, source.size() - 2) + 2;
            continue;
        }
        std::string text;
        for (++i; i < source.size() && source[i] != '"' && source[i] != '\n'; ++i) {
            const bool escaped = source[i] == '\\' && ++i < source.size();
            text += escaped && source[i] == 'n' ? '\n' : source[i];
        }
        ++i;
        literals.push_back(text);
    }
    return literals;
}

// ---- files at random

constexpr std::string_view good_lines[] = {
    "[proxify]",
    "listen = 9090",
    "default_service = 'a'",
    "workers = 3",
    "workers = 'auto'",
    "drain_timeout = '1m30s'",
    "resolve_interval = '5s'",
    "allow = '10.0.0.0/8'",
    "deny = ['10.1.0.0/16', '2001:db8::/32']",
    "user = 'carrier'",
    "group = 'pipes'",
    "[log]",
    "format = 'json'",
    "level = 'warn'",
    "[[service]]",
    "name = 'a'",
    "ports = [5001, '5300-5399']",
    "targets = ['127.0.0.1:9001', '[::1]:9002', { address = 'db.internal:9003', weight = 3, "
    "priority = 2, backup = true, max_connections = 5 }, '_http._tcp.web.internal']",
    "addresses = '203.0.113.0/24'",
    "balance = 'maglev'",
    "hash_balance_factor = 150",
    "tries = 7",
    "max_connections = 5000",
    "slow_start = '40s'",
    "panic = 51",
    "relay = 'copy'",
    "on_down = 'reset'",
    "when_down = 'pass'",
    "on_deny = 'drop'",
    "count_ports = true",
    "accept_proxy = ['198.51.100.0/24', '2001:db8::1']",
    "send_proxy = { version = 'v2', unique_id = true, tlvs = { 0xE0 = 'blue', 0xef = '' } }",
    "limits = { source_sessions = 5, source_rate = 6 }",
    "timeouts = { connect = '1s', idle = '2h', half_close = '3s' }",
    "queue = { size = 20, timeout = '700ms' }",
    "ejection = { failures = 9, early_resets = 8, time = '2s', max_time = '3s', max_share = 34 }",
    "health = { type = 'http', method = 'HEAD', path = '/x?y', host = 'h', status = [200, "
    "'300-302'], body = 'a+', tls = true, sni = 's', verify = true, rise = 4, fall = 5 }",
    "[[service]]",
    "name = 'b'",
    "ports = 443",
    "targets = '203.0.113.5:*'",
    "send_proxy = 'v1'",
    "health = { type = 'send', send = \"PING\\r\\n\", expect_hex = '2b 50', initial = 'down' }",
    "[[service]]",
    "name = 'c'",
    "ports = '444'",
    "targets = [{ address = '203.0.113.6:+1000' }]",
    "health = { type = 'tls', expiry_warning = '1h', interval = '10ms', fast_interval = '20ms' }",
    "[[service]]",
    "name = 'd'",
    "ports = ['445']",
    "targets = ['a.b.:1', 'c_d:65535']",
    "health = { type = 'exec', command = ['/bin/x', '', 'y'], port = 7, address = '2001:db8::1' }",
    "filters = [{ type = 'count', name = 'a-1', direction = 'to_client' }, { type = 'match', "
    "pattern = "
    "'a+', action = 'drop', delimiter = 'x', hold = '1s', head = '4KiB', on_error = 'close' }, { "
    "type "
    "= 'replace', find = 'a', with = '' }, { type = 'rate', bytes = '1MiB', burst = 5, per = "
    "'source' }]",
    "chunk_size = '64KiB'",
    "cache = { ttl = '1m', max_request = 5, max_response = '2KiB', max_size = '1GiB', delimiter = "
    "'x', request_timeout = '2s' }",
    "[[service]]",
    "name = 'e'",
    "ports = [446]",
    "targets = ['[::ffff:198.51.100.1]:80']",
    "target_tls = { verify = false, server_name = 'db.example', min_version = '1.3', alpn = "
    "['pg', 'h2'] }",
    "[service.health]",
    "down_interval = '1h1m1s1ms'",
    "timeout = '0h1ms'"};

constexpr std::string_view values[] = {"0",
                                       "1",
                                       "2",
                                       "16",
                                       "17",
                                       "80",
                                       "100",
                                       "101",
                                       "256",
                                       "257",
                                       "599",
                                       "600",
                                       "1000",
                                       "1001",
                                       "65535",
                                       "65536",
                                       "100000",
                                       "1000000",
                                       "1000001",
                                       "-1",
                                       "9223372036854775807",
                                       "0x50",
                                       "1.0",
                                       "1.5",
                                       "inf",
                                       "nan",
                                       "true",
                                       "false",
                                       "''",
                                       "'auto'",
                                       "'0s'",
                                       "'1ms'",
                                       "'9ms'",
                                       "'10ms'",
                                       "'5s'",
                                       "'1h30s'",
                                       "'8760h'",
                                       "'8761h'",
                                       "'1s1m'",
                                       "'5'",
                                       "'1d'",
                                       "'00s'",
                                       "'001s'",
                                       "'10.0.0.0/8'",
                                       "'10.0.0.1/8'",
                                       "'::/0'",
                                       "'2001:db8::/129'",
                                       "'10.0.0.1'",
                                       "'::1'",
                                       "'::ffff:1.2.3.4'",
                                       "'10.0.0.1:80'",
                                       "'10.0.0.1'",
                                       "'[::1]:80'",
                                       "'[::1%lo]:80'",
                                       "'::1:80'",
                                       "'a.b:80'",
                                       "'a b:80'",
                                       "'_a._tcp.b'",
                                       "'_a._tcp.b:80'",
                                       "'_a.b:80'",
                                       "'_._.a'",
                                       "'_a._udp.b'",
                                       "'x:*'",
                                       "'x:+1'",
                                       "'x:+0'",
                                       "'x:080'",
                                       "'http://a:80'",
                                       "'original'",
                                       "'5300-5399'",
                                       "'8-7'",
                                       "'0-1'",
                                       "'080'",
                                       "'tcp'",
                                       "'http'",
                                       "'send'",
                                       "'tls'",
                                       "'exec'",
                                       "'up'",
                                       "'down'",
                                       "'keep'",
                                       "'reset'",
                                       "'drop'",
                                       "'pass'",
                                       "'refuse'",
                                       "'accept'",
                                       "'copy'",
                                       "'text'",
                                       "'json'",
                                       "'debug'",
                                       "'off'",
                                       "'maglev'",
                                       "'first'",
                                       "'random'",
                                       "'source-hash'",
                                       "'GET'",
                                       "'get'",
                                       "'/'",
                                       "'/a b'",
                                       "'(a|b)'",
                                       "'(a'",
                                       "'50 49'",
                                       "'5'",
                                       "'200-399'",
                                       "'0200'",
                                       "'/bin/true'",
                                       "'bin/true'",
                                       "['/bin/true', 5]",
                                       "['x', '/y']",
                                       "[]",
                                       "[[]]",
                                       "[80]",
                                       "[80, '90-91']",
                                       "['10.0.0.1:80']",
                                       "[{ address = '10.0.0.1:80' }]",
                                       "{}",
                                       "{ type = 'tcp', send = 'x' }",
                                       "{ type = 'send' }",
                                       "{ type = 'exec' }",
                                       "{ type = 'http', sni = 'a' }",
                                       "{ type = 'http', verify = true, tls = false }",
                                       "{ type = 'send', send = 'a', send_hex = '00' }",
                                       "{ type = 'send', expect = 'a' }",
                                       "{ type = 'tls', verify = false, sni = '2001:db8::1' }",
                                       "{ size = 0 }",
                                       "{ idle = '1s' }",
                                       "{ failures = 1 }",
                                       "{ source_rate = 0 }",
                                       "[{ type = 'count' }]",
                                       "[{ type = 'log', head = '1KiB', level = 'debug' }]",
                                       "[{ type = 'match', pattern = 'a', delimiter = 'b' }]",
                                       "[{ type = 'limit_bytes', bytes = 0 }]",
                                       "{ ttl = '1s', delimiter = 'ab' }",
                                       "'64KiB'",
                                       "{ certificates = 'none.pem', client_ca = 'none.pem' }",
                                       "{ verify = false, crl = 'none.pem' }",
                                       "{ verify = false, min_version = '1.2' }",
                                       "{ address = '_a._tcp.b', weight = 1 }",
                                       "{ address = 'a:80', weight = 0 }",
                                       "1979-05-27",
                                       "00:00:05",
                                       "'\\n'",
                                       "\"a\\u0000b\"",
                                       "\"\\n\""};

class Writer {
  public:
    explicit Writer(unsigned seed) : random_(seed) {}

    std::string file() {
        std::string text;
        const size_t keep = 50 + below(51);  // of a hundred lines
        const size_t faults = below(3);
        for (auto line : good_lines) {
            const bool is_needed = line.starts_with('[') || line.starts_with("name") ||
                                   line.starts_with("ports") || line.starts_with("targets");
            if (!is_needed && below(100) >= keep) continue;
            // Twice is no TOML.
            if (line == "workers = 'auto'" && text.contains("workers")) continue;
            std::string one(line);
            if (below(60) < faults) one = spoil(one);
            text += one + "\n";
        }
        if (faults == 2 && below(4) == 0) text[below(text.size())] = static_cast<char>(below(256));
        return text;
    }

  private:
    size_t below(size_t count) { return random_() % count; }
    template <class T>
    std::string any(const T& list) {
        return std::string(list[below(std::size(list))]);
    }
    /// Another value, another key, a value inside, or no line.
    std::string spoil(const std::string& line) {
        const auto equals = line.find(" = ");
        switch (below(8)) {
            case 0:
                return "";
            case 1: {
                const auto& section = *config::all_sections[below(config::all_sections.size())];
                return any(section.keys) + " = " + any(values);
            }
            case 2: {
                const auto quote = line.find('\''), end = line.find('\'', quote + 1);
                if (end == std::string::npos) return line;
                return line.substr(0, quote) + any(values) + line.substr(end + 1);
            }
            default:
                return equals == std::string::npos ? line
                                                   : line.substr(0, equals + 3) + any(values);
        }
    }
    std::mt19937 random_;
};

}  // namespace

TEST_CASE("the schema has the keys that the parser has, and no others") {
    const Object root = object(read_file(schema_path()));
    const Object definitions = object(root.at("definitions"));

    std::set<std::string> sections;
    for (const auto* section : config::all_sections) {
        const auto name = definition_of(section->name);
        INFO(section->name);
        REQUIRE((name.empty() || definitions.contains(name)));
        const Object about = name.empty() ? root : object(definitions.at(name));
        const auto keys = keys_of(object(about.at("properties")));
        CHECK(keys == std::set<std::string>(section->keys.begin(), section->keys.end()));
        CHECK(about.at("additionalProperties") == "false");
        sections.insert(name);
    }
    for (const auto& [name, about] : definitions)
        if (object(about).contains("properties")) CHECK(sections.contains(name));
}

TEST_CASE("every key has a description") {
    const Object root = object(read_file(schema_path()));
    const Object definitions = object(root.at("definitions"));
    for (const auto& [name, about] : definitions) {
        const Object members = object(about);
        if (!members.contains("properties")) continue;
        for (const auto& [key, value] : object(members.at("properties"))) {
            INFO(name << "." << key);
            Object property = object(value);
            if (property.contains("$ref"))
                property = object(
                    definitions.at(property["$ref"].substr(std::string("#/definitions/").size())));
            CHECK(property["description"].size() > 10);
        }
    }
}

TEST_CASE("the schema has the words that the parser has, in the same order") {
    const Object definitions = object(object(read_file(schema_path())).at("definitions"));
    auto words = [&](const std::string& section, const std::string& key) {
        auto properties = object(object(definitions.at(section)).at("properties"));
        return object(properties.at(key)).at("enum");
    };
    auto names = [](const auto& list) {
        std::string text;
        for (const auto& [name, meaning] : list)
            text += format("{}\"{}\"", text.empty() ? "" : ", ", name);
        return "[" + text + "]";
    };
    CHECK(words("log", "format") == names(config::log_format_names));
    CHECK(words("log", "level") == names(config::log_level_names));
    CHECK(words("service", "balance") == names(config::balance_names));
    CHECK(words("service", "relay") == names(config::relay_names));
    CHECK(words("service", "on_down") == names(config::on_down_names));
    CHECK(words("service", "when_down") == names(config::when_down_names));
    CHECK(words("service", "on_deny") == names(config::on_deny_names));
    CHECK(words("filter", "type") == names(config::element_type_names));
    CHECK(words("filter", "direction") == names(config::direction_names));
    CHECK(words("filter", "on_error") == names(config::on_error_names));
    CHECK(words("filter", "action") == names(config::on_match_names));
    CHECK(words("filter", "per") == names(config::rate_per_names));
    CHECK(words("health", "type") == names(config::check_type_names));
    CHECK(words("health", "initial") == names(config::initial_names));
}

TEST_CASE("the schema's defaults are the program's") {
    NEEDS_PYTHON();
    const auto text = run_script({"defaults"});
    INFO(text);
    CHECK(text.contains("drain_timeout = "));
    CHECK(text.contains("max_share = "));
    CHECK(text.contains("request_timeout = "));
    auto written = config::parse(text, "targets.toml");
    if (!written) FAIL(written.error().text());
    auto unwritten = config::parse(service("ports = 5001") +
                                       "[[service]]\nname = \"other\"\nports = 5002\n"
                                       "targets = \"10.0.0.1:80\"\ncache = {}\n",
                                   "targets.toml");
    REQUIRE(unwritten);
    CHECK(config::describe(*written) == config::describe(*unwritten));
    CHECK(*written == *unwritten);
}

TEST_CASE("what a schema can refuse, both refuse") {
    NEEDS_PYTHON();
    const std::vector<std::string> keys{
        // what has to be there, and what cannot be
        "",
        "[proxify]",
        "service = []",
        "service = 5",
        "[service]",
        "[[service]]\nports = 80",
        "[[service]]\nname = 'a'\nports = 80",
        "[[service]]\ntargets = ['a:80']\nports = 80",
        service("prots = 80"),
        service("[log]\nlisten = 80"),
        service("[capture]"),
        service("[[capture]]"),
        service("[[capture]]\ntype = 'redirect'\nports = [0]"),
        service("[[capture]]\ntype = 'connect'\ncidr = ['10.0.0.0/8:0']"),
        service("[[capture]]\ntype = 'connect'\nruntime = 'containerd'"),
        "[[capture]]\ntype = 'connect'\nproxy = '10.0.0.1'",
        service("[proxify]\ntries = 3"),
        service("queue = { sizes = 3 }"),
        service("targets = { weight = 3 }"),
        service("[proxify]\ngroup = 'a'"),
        // the wrong type
        service("name = 5"),
        service("tries = '3'"),
        service("count_ports = 1"),
        service("health = 5"),
        service("health = []"),
        service("timeouts = '5s'"),
        service("slow_start = 5"),
        service("[proxify]\nlisten = '80'"),
        service("[proxify]\nlog = {}"),
        service("ports = true"),
        service("ports = 1979-05-27"),
        service("targets = 80"),
        service("allow = 10"),
        // out of bounds
        service("tries = 0"),
        service("tries = 17"),
        service("panic = 101"),
        service("ports = 0"),
        service("ports = 65536"),
        service("max_connections = 0"),
        service("queue = { size = -1 }"),
        service("hash_balance_factor = 100"),
        service("balance = 'maglev'\nhash_balance_factor = 100"),
        service("hash_balance_factor = 150"),
        service("[proxify]\nworkers = 257"),
        service("health = { rise = 101 }"),
        service("health = { port = 0 }"),
        service("health = { type = 'http', status = 99 }"),
        service("targets = []"),
        service("targets = { address = 'a:80', weight = 257 }"),
        service("limits = { source_rate = 1000001 }"),
        service("ejection = { failures = 0 }"),
        // not one of the words
        service("balance = 'fastest'"),
        service("on_down = 'drop'"),
        service("relay = 'splice'"),
        service("[log]\nlevel = 'trace'"),
        service("health = { type = 'ping' }"),
        service("[proxify]\nworkers = 'all'"),
        service("health = { initial = 'maybe' }"),
        // not of the form
        service("slow_start = '0s'"),
        service("slow_start = '5'"),
        service("slow_start = '1s1m'"),
        service("slow_start = ''"),
        service("slow_start = '1.5s'"),
        service("ports = '080'"),
        service("ports = '1-'"),
        service("targets = '10.0.0.1'"),
        service("targets = '::1:80'"),
        service("targets = 'http://a:80'"),
        service("targets = 'Original'"),
        service("targets = 'a:080'"),
        service("targets = '_a._tcp.b:80'"),
        service("allow = 'a.b'"),
        service("name = 'a b'"),
        service("name = ''"),
        service("[proxify]\nuser = ''"),
        service("health = { address = 'localhost' }"),
        // checks
        service("health = { send = 'x' }"),
        service("health = { type = 'tcp', command = '/x' }"),
        service("health = { type = 'tls', path = '/' }"),
        service("health = { type = 'send' }"),
        service("health = { type = 'send', send = 'a', send_hex = '00' }"),
        service("health = { type = 'send', expect = 'a', expect_regex = 'b' }"),
        service("health = { type = 'exec' }"),
        service("health = { type = 'exec', command = 'x' }"),
        service("health = { type = 'exec', command = [] }"),
        service("health = { type = 'exec', command = ['x', '/y'] }"),
        service("health = { type = 'http', sni = 'a' }"),
        service("health = { type = 'http', tls = false, verify = true }"),
        service("health = { type = 'http', method = 'get' }"),
        service("health = { type = 'http', path = 'x' }"),
        service("health = { type = 'send', send_hex = '5' }"),
        service("targets = { address = '_a._tcp.b', weight = 1 }"),
        // filters and caches
        service("filters = 'count'"),
        service("filters = ['count']"),
        service("[service.filters]\ntype = 'count'"),
        service("filters = [{}]"),
        service("filters = [{ type = 'cuont' }]"),
        service("filters = [{ type = 'count', name = 'a b' }]"),
        service("filters = [{ type = 'count', direction = 'in' }]"),
        service("filters = [{ type = 'count', on_error = 'drop' }]"),
        service("filters = [{ type = 'count', pattern = 'a' }]"),
        service("filters = [{ type = 'log', head = 0 }]"),
        service("filters = [{ type = 'log', head = '0KiB' }]"),
        service("filters = [{ type = 'log', head = '1k' }]"),
        service("filters = [{ type = 'log', level = 'warn' }]"),
        service("filters = [{ type = 'rate', bytes = 5, head = 5 }]"),
        service("filters = [{ type = 'match' }]"),
        service("filters = [{ type = 'match', pattern = 'a', delimiter = 'b' }]"),
        service("filters = [{ type = 'match', pattern = 'a', action = 'deny' }]"),
        service("filters = [{ type = 'replace', find = 'a' }]"),
        service("filters = [{ type = 'replace', find = '', with = '' }]"),
        service("filters = [{ type = 'rate' }]"),
        service("filters = [{ type = 'rate', bytes = -1 }]"),
        service("filters = [{ type = 'rate', bytes = 5, hold = '1s' }]"),
        service("filters = [{ type = 'limit_bytes', bytes = 5, per = 'source' }]"),
        service("filters = [{ type = 'lua' }]"),
        service("filters = [{ type = 'lua', script = 'a', instructions = 999 }]"),
        service("chunk_size = 0"),
        service("chunk_size = '4k'"),
        service("cache = true"),
        service("cache = { ttl = 5 }"),
        service("cache = { delimiter = '' }"),
        service("cache = { max_size = '1 MiB' }"),
        service("cache = { find = 'a' }"),
    };
    const auto of_schema = verdicts(keys);
    for (size_t i = 0; i < keys.size(); ++i) {
        INFO(keys[i]);
        CHECK_FALSE(config::parse(keys[i], "targets.toml"));
        CHECK(of_schema[i].starts_with("rejects /"));
    }
}

TEST_CASE("what the unit tests and the examples show, the schema refuses only if the parser does") {
    NEEDS_PYTHON();
    std::vector<std::string> texts{read_file(source_root() + "/targets.toml")};
    for (const char* name :
         {"unit/config_test.cc", "unit/config_health_test.cc", "unit/config_filters_test.cc",
          "kernel/health_test.cc", "kernel/balance_test.cc", "kernel/guard_test.cc",
          "kernel/command_test.cc"})
        for (const auto& text : literals_of(read_file(source_root() + "/tests/" + name))) {
            if (text.size() < 3 || text.size() > 100'000) continue;
            texts.push_back(text);
            texts.push_back(service(text));
            texts.push_back(service("[proxify]\n" + text));
            texts.push_back(service("health = { " + text + " }"));
            texts.push_back(service("targets = { address = 'a:1'" + text + " }"));
            texts.push_back(service("filters = [{ " + text + " }]"));
            texts.push_back(service("cache = " + text));
        }
    const Tally tally = check_direction(texts);
    CHECK(tally.both_accept > 150);
    CHECK(tally.both_reject > 300);
}

TEST_CASE("of files at random the schema refuses only what the parser refuses") {
    NEEDS_PYTHON();
    std::vector<std::string> texts;
    for (unsigned seed = 1; seed <= 1500; ++seed) texts.push_back(Writer(seed).file());
    const Tally tally = check_direction(texts);
    CHECK(tally.both_accept > 200);
    CHECK(tally.both_reject > 200);
}
