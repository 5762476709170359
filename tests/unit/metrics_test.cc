// SPDX-License-Identifier: Apache-2.0
// A page of metrics, and what is written about metrics elsewhere: the docs and the dashboard.
#include "metrics/metrics.h"

#include <chrono>
#include <regex>
#include <set>

#include "base/format.h"
#include "filter/filters.h"
#include "support/catch.h"
#include "support/exposition.h"
#include "support/json.h"
#include "support/kernel_test.h"
#include "support/log_lines.h"
#include "tls/authority.h"

using namespace proxify;
using namespace proxify::test;
using metrics::Input;
using metrics::Type;

namespace {

std::shared_ptr<const routing::Snapshot> build(const std::string& text,
                                               const routing::Snapshot* before = nullptr) {
    auto config = config::parse(text, "test.toml");
    REQUIRE(config);
    return routing::Snapshot::build(
        *config, [](const std::string&) { return std::vector<Endpoint>(); }, before, Time());
}

const std::string two_services = R"(
[[service]]
name = "web"
ports = [80, "100-102"]
targets = ["198.51.100.1:9001", { address = "198.51.100.2:9001", max_connections = 10 }]
max_connections = 100
count_ports = true
filters = [{ type = "count" }, { type = "limit_bytes", bytes = 5, direction = "to_client" }]

[[service]]
name = "db"
ports = [5432]
targets = ["[2001:db8::1]:5432"]
cache = {}
)";

/// A third one, with TLS on both sides, and what it names.
struct WithTls {
    WithTls() {
        const auto ca = *tls::make_authority({.common_name = "Example authority"});
        const auto made = *tls::issue({{"ca.pem", ca.certificate}, {"ca.key", ca.key}},
                                      {.common_name = "", .names = {"www.example.org"}});
        ends = made.facts.not_after;
        write_file(dir / "ca.pem", ca.certificate);
        write_file(dir / "site.pem", made.certificate + made.key);
    }
    std::string service() const {
        return "[[service]]\nname = 'secret'\nports = [443]\ntargets = '198.51.100.3:443'\n"
               "tls = { certificates = '" +
               (dir / "site.pem") + "', client_ca = '" + (dir / "ca.pem") +
               "', allowed_names = ['a.example', 'b.example'] }\n"
               "target_tls = { verify = false, certificate = '" +
               (dir / "site.pem") + "' }\n";
    }
    TempDir dir;
    std::chrono::sys_seconds ends;
};

const WithTls& with_tls() {
    static const WithTls made;
    return made;
}

/// Everything that a page can say is in it, each number another one.
Input full_input() {
    auto snapshot = build(two_services + with_tls().service());
    auto& secret = *snapshot->services()[3];
    secret.stats->client_tls.full.add(1);
    secret.stats->client_tls.resumed.add(2);
    secret.stats->client_tls.timed_out.add(3);
    secret.stats->client_tls.bad_certificate.add(4);
    secret.stats->client_tls.bad_protocol.add(5);
    secret.stats->client_tls.gone.add(6);
    secret.stats->target_tls.count_done("TLSv1.2", /*is_resumed=*/true);
    secret.stats->target_tls.count_done("TLSv1.3", /*is_resumed=*/true);
    secret.stats->target_tls.count_done("TLSv1.3", /*is_resumed=*/false);
    secret.allowed_clients[1]->add(7);
    const auto& web = *snapshot->services()[1];
    web.stats->sessions.add(10);
    for (int i = 0; i < 6; ++i) web.stats->endings.add({});
    web.stats->endings.add({Party::target, Stage::connect, "refused", ECONNREFUSED});
    web.stats->bytes.to_target.add(1001);
    web.stats->bytes.to_client.add(1002);
    for (Duration took : {Duration(80us), Duration(300us), Duration(300us), Duration(7s)})
        web.stats->connects.add(took);
    web.stats->durations.add(2s);
    web.stats->waits.add(20ms);
    auto& target = *web.pool.targets()[1];
    target.stats.connects.add(1500ms);
    target.stats.connects.add(500ms);
    target.stats.bytes.to_client.add(77);
    target.stats.count_failed_connect(ECONNREFUSED);
    target.stats.early_resets.add(4);
    target.stats.ejections.add(5);
    target.stats.good_checks.add(21);
    target.stats.bad_checks.add(22);
    target.stats.unknown_checks.add(23);
    target.set_up(false, Time());
    auto& count = web.filters->entries()[0].stats->of(Direction::to_target);
    count.chunks.add(81);
    count.bytes.add(82);
    auto& limit = web.filters->entries()[1].stats->of(Direction::to_client);
    limit.dropped.add(83);
    limit.changed.add(84);
    limit.closed.add(85);
    limit.failed.add(86);
    auto& port = web.port_stats->at(101);
    port.sessions.add(31);
    port.failed.add(32);
    port.connects.add(250ms);
    port.bytes.to_target.add(33);
    auto& cache = *snapshot->services()[2]->cache->stats();
    cache.hits.add(81);
    cache.shared.add(82);
    cache.misses.add(83);
    cache.passed.add(84);
    cache.cut_off.add(85);
    cache.too_long.add(86);
    cache.no_room.add(87);
    cache.empty.add(88);
    cache.asked_more.add(89);
    cache.evictions.add(90);
    cache.hit_bytes.add(91);
    cache.closed.add(92);
    snapshot->unserved()->sessions.add(2);
    snapshot->unserved()->endings.add({Party::policy, Stage::route, "no service", 0});

    using namespace std::chrono;
    return {
        .version = "1.2.3",
        .started_at = sys_days{2026y / January / 2} + 1500ms,
        .reloaded_at = sys_days{2026y / January / 3},
        .log_lines_dropped = 41,
        .snapshot = std::move(snapshot),
        .workers = {{.sessions = 51,
                     .sessions_max = 52,
                     .accept_queue = 62,
                     .accept_pauses = 53,
                     .buffers = 54,
                     .buffer_waits = 55,
                     .pipes = 56,
                     .pipes_lent = 57,
                     .pipes_max = 58,
                     .pipes_refused = 59,
                     .accepted = {{"steering", 63}, {"redirect", 64}},
                     .completion_overflows = 60},
                    {.number = 1, .sessions = 61}},
        .steering = metrics::Steering{.all = {{"steered", 71}, {"denied", 72}},
                                      .by_service = {{"web", {{"steered", 73}, {"denied", 74}}}},
                                      .by_port =
                                          [] {
                                              std::vector<uint64_t> counts(65536);
                                              counts[80] = 75;
                                              return counts;
                                          }()},
        .captures = {{"connect", {{"redirected", 76}, {"seen", 77}}, {{"web", 78}}}}};
}

/// Names in a text that look like ours: `proxify_` and more. A wildcard has none.
std::set<std::string> names_in(const std::string& text) {
    static const std::regex name("proxify_[a-z0-9_]+");
    std::set<std::string> names;
    for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at)
        names.insert(at->str());
    return names;
}

/// The names of all samples that a page can have.
std::set<std::string> sample_names() {
    std::set<std::string> names;
    for (const auto& family : metrics::families()) {
        const std::string name(family.name);
        if (family.type == Type::counter || family.type == Type::gauge) names.insert(name);
        if (family.type == Type::histogram) names.insert(name + "_bucket");
        if (family.type == Type::histogram || family.type == Type::summary)
            names.insert({name + "_sum", name + "_count"});
    }
    return names;
}

/// The label names of each family of a page, but for `le`.
std::map<std::string, std::set<std::string>> labels_of(const Exposition& page) {
    static const std::regex label(R"re([{,]([a-z_]+)=")re");
    std::map<std::string, std::set<std::string>> labels;
    for (const auto& [name, family] : page.families) {
        labels[name];
        for (const auto& [sample, value] : family.samples)
            for (std::sregex_iterator at(sample.begin(), sample.end(), label), end; at != end; ++at)
                if ((*at)[1] != "le") labels[name].insert((*at)[1]);
    }
    return labels;
}

std::string dashboard() {
    return read_file(source_root() + "/packaging/grafana-dashboard.json");
}

/// What the dashboard asks Prometheus for, as Prometheus gets it.
std::vector<std::string> queries_of(const std::string& text) {
    static const std::regex query(R"re("(expr|query|definition)": "(([^"\\]|\\.)*)")re");
    std::vector<std::string> queries;
    for (std::sregex_iterator at(text.begin(), text.end(), query), end; at != end; ++at) {
        std::string found = std::regex_replace((*at)[2].str(), std::regex(R"(\\(.))"), "$1");
        if (found == "prometheus") continue;  // the kind of datasource
        found = std::regex_replace(found, std::regex(R"(\$__rate_interval)"), "5m");
        found = std::regex_replace(found, std::regex(R"(\$[a-z_]+)"), ".*");
        queries.push_back(found);
    }
    return queries;
}

}  // namespace

TEST_CASE("a page says each number where it belongs") {
    const auto page = parse_exposition(metrics::render(full_input()));
    const std::map<std::string, double> expected{
        {R"(proxify_build_info{version="1.2.3"})", 1},
        {"proxify_start_time_seconds", 1767312001.5},
        {"proxify_config_last_reload_successful", 1},
        {"proxify_config_last_reload_success_timestamp_seconds", 1767398400},
        {"proxify_log_dropped_lines_total", 41},
        {R"(proxify_sessions_total{service="web"})", 10},
        {R"(proxify_sessions_total{service="db"})", 0},
        {R"x(proxify_sessions_total{service="(none)"})x", 2},
        {R"(proxify_active_sessions{service="web"})", 3},
        {R"x(proxify_active_sessions{service="(none)"})x", 1},
        {R"(proxify_session_endings_total{service="web",ending="--",reason="done"})", 6},
        {R"(proxify_session_endings_total{service="web",ending="TC",reason="refused"})", 1},
        {R"x(proxify_session_endings_total{service="(none)",ending="PN",reason="no service"})x", 1},
        {R"(proxify_relayed_bytes_total{service="web",direction="to_target"})", 1001},
        {R"(proxify_relayed_bytes_total{service="web",direction="to_client"})", 1002},
        {R"(proxify_seats_limit{service="web"})", 100},
        {R"(proxify_targets{service="web"})", 2},
        {R"(proxify_available_targets{service="web"})", 1},
        {R"(proxify_panic{service="web"})", 0},
        {R"(proxify_queued_clients{service="web"})", 0},
        {R"(proxify_queue_duration_seconds_count{service="web"})", 1},
        {R"(proxify_session_duration_seconds_sum{service="web"})", 2},
        {R"(proxify_target_up{service="web",target="198.51.100.1:9001"})", 1},
        {R"(proxify_target_up{service="web",target="198.51.100.2:9001"})", 0},
        {R"(proxify_target_available{service="web",target="198.51.100.2:9001"})", 0},
        {R"(proxify_target_ejected{service="web",target="198.51.100.2:9001"})", 0},
        {R"(proxify_target_up{service="db",target="[2001:db8::1]:5432"})", 1},
        {R"(proxify_target_sessions_total{service="web",target="198.51.100.2:9001"})", 2},
        {R"(proxify_target_seats_limit{service="web",target="198.51.100.2:9001"})", 10},
        {R"(proxify_target_connect_duration_seconds_sum{service="web",target="198.51.100.2:9001"})",
         2},
        {R"(proxify_target_connect_duration_seconds_count{service="web",target="198.51.100.2:9001"})",
         2},
        {R"(proxify_target_connect_failures_total{service="web",target="198.51.100.2:9001",reason="refused"})",
         1},
        {R"(proxify_target_connect_failures_total{service="web",target="198.51.100.2:9001",reason="timeout"})",
         0},
        {R"(proxify_target_relayed_bytes_total{service="web",target="198.51.100.2:9001",direction="to_client"})",
         77},
        {R"(proxify_target_early_resets_total{service="web",target="198.51.100.2:9001"})", 4},
        {R"(proxify_target_ejections_total{service="web",target="198.51.100.2:9001"})", 5},
        {R"(proxify_target_checks_total{service="web",target="198.51.100.2:9001",result="good"})",
         21},
        {R"(proxify_target_checks_total{service="web",target="198.51.100.2:9001",result="bad"})",
         22},
        {R"(proxify_target_checks_total{service="web",target="198.51.100.2:9001",result="unknown"})",
         23},
        {R"(proxify_element_chunks_total{service="web",element="count",direction="to_target"})",
         81},
        {R"(proxify_element_bytes_total{service="web",element="count",direction="to_target"})", 82},
        {R"(proxify_element_bytes_total{service="web",element="count",direction="to_client"})", 0},
        {R"(proxify_element_dropped_total{service="web",element="limit_bytes",direction="to_client"})",
         83},
        {R"(proxify_element_changed_total{service="web",element="limit_bytes",direction="to_client"})",
         84},
        {R"(proxify_element_closed_total{service="web",element="limit_bytes",direction="to_client"})",
         85},
        {R"(proxify_element_failed_total{service="web",element="limit_bytes",direction="to_client"})",
         86},
        {R"(proxify_port_sessions_total{service="web",port="101"})", 31},
        {R"(proxify_port_failed_sessions_total{service="web",port="101"})", 32},
        {R"(proxify_port_relayed_bytes_total{service="web",port="101",direction="to_target"})", 33},
        {R"(proxify_port_connect_duration_seconds_sum{service="web",port="101"})", 0.25},
        {R"(proxify_kernel_lookups_total{answer="denied"})", 72},
        {R"(proxify_service_kernel_lookups_total{service="web",answer="steered"})", 73},
        {R"(proxify_port_kernel_steered_total{port="80"})", 75},
        {R"(proxify_worker_sessions{worker="0"})", 51},
        {R"(proxify_worker_sessions{worker="1"})", 61},
        {R"(proxify_worker_sessions_limit{worker="0"})", 52},
        {R"(proxify_worker_accept_queue_clients{worker="0"})", 62},
        {R"(proxify_worker_accept_pauses_total{worker="0"})", 53},
        {R"(proxify_worker_receive_buffers{worker="0"})", 54},
        {R"(proxify_worker_buffer_waits_total{worker="0"})", 55},
        {R"(proxify_worker_pipes{worker="0"})", 56},
        {R"(proxify_worker_pipes_lent{worker="0"})", 57},
        {R"(proxify_worker_pipes_limit{worker="0"})", 58},
        {R"(proxify_worker_pipe_refusals_total{worker="0"})", 59},
        {R"(proxify_worker_completion_overflows_total{worker="0"})", 60},
    };
    for (const auto& [sample, value] : expected) {
        INFO(sample);
        CHECK(page.at(sample) == value);
    }
    // Where nobody can wait, and where nothing is limited, nothing is said about it.
    CHECK_FALSE(page.has(R"(proxify_queued_clients{service="db"})"));
    CHECK_FALSE(page.has(R"(proxify_seats_limit{service="db"})"));
    CHECK_FALSE(
        page.has(R"(proxify_target_seats_limit{service="web",target="198.51.100.1:9001"})"));
    CHECK_FALSE(page.has(R"(proxify_port_sessions_total{service="web",port="80"})"));
}

TEST_CASE("a page says what became of the sessions of a cache, and of nobody else's", "[P-49]") {
    const auto input = full_input();
    auto& store = *input.snapshot->services()[2]->cache;
    struct Nobody : cache::Waiter {
        void wake() override {}
    } nobody;
    auto reply = store.ask("question", nobody, Time());
    REQUIRE(reply.lead.add(std::as_bytes(std::span("answer", 6))));
    reply.lead.keep(Time());
    const auto page = parse_exposition(metrics::render(input));
    auto of_db = [&](const std::string& name, const std::string& more = "") {
        return page.at("proxify_cache_" + name + "{service=\"db\"" + more + "}");
    };
    CHECK(of_db("hits_total") == 81);
    CHECK(of_db("shared_total") == 82);
    CHECK(of_db("misses_total") == 83);
    CHECK(of_db("passed_total") == 84);
    CHECK(of_db("not_kept_total", ",reason=\"cut_off\"") == 85);
    CHECK(of_db("not_kept_total", ",reason=\"too_long\"") == 86);
    CHECK(of_db("not_kept_total", ",reason=\"no_room\"") == 87);
    CHECK(of_db("not_kept_total", ",reason=\"empty\"") == 88);
    CHECK(of_db("not_kept_total", ",reason=\"asked_more\"") == 89);
    CHECK(of_db("not_kept_total", ",reason=\"closed\"") == 92);
    CHECK(of_db("evictions_total") == 90);
    CHECK(of_db("hit_bytes_total") == 91);
    CHECK(of_db("bytes") == 8 + 6 + cache::Store::overhead);
    CHECK(of_db("entries") == 1);
    CHECK_FALSE(page.has("proxify_cache_hits_total{service=\"web\"}"));
}

TEST_CASE("a page says what came of TLS, with whom, and when certificates end", "[P-47][P-48]") {
    const auto page = parse_exposition(metrics::render(full_input()));
    auto handshakes = [&](const std::string& side, const std::string& result) {
        return page.at("proxify_tls_handshakes_total{service=\"secret\",side=\"" + side +
                       "\",result=\"" + result + "\"}");
    };
    CHECK(handshakes("client", "full") == 1);
    CHECK(handshakes("client", "resumed") == 2);
    CHECK(handshakes("client", "timeout") == 3);
    CHECK(handshakes("client", "certificate") == 4);
    CHECK(handshakes("client", "protocol") == 5);
    CHECK(handshakes("client", "gone") == 6);
    CHECK(handshakes("target", "full") == 1);
    CHECK(handshakes("target", "resumed") == 2);
    auto connections = [&](const std::string& version) {
        return page.at(
            "proxify_tls_connections_total{service=\"secret\",side=\"target\",version=\"" +
            version + "\"}");
    };
    CHECK(connections("1.2") == 1);
    CHECK(connections("1.3") == 2);
    CHECK(page.at(R"(proxify_tls_clients_total{service="secret",name="a.example"})") == 0);
    CHECK(page.at(R"(proxify_tls_clients_total{service="secret",name="b.example"})") == 7);
    for (const std::string side : {"client", "target"})
        CHECK(
            page.at("proxify_tls_certificate_expiry_timestamp_seconds{service=\"secret\",side=\"" +
                    side + "\",file=\"" + (with_tls().dir / "site.pem") + "\"}") ==
            static_cast<double>(with_tls().ends.time_since_epoch().count()));
    CHECK_FALSE(
        page.has(R"(proxify_tls_handshakes_total{service="web",side="client",result="full"})"));
}

TEST_CASE("clients of an allowed name are counted on over a reload that adds names", "[P-48]") {
    auto input = full_input();
    auto more =
        std::regex_replace(with_tls().service(), std::regex("'a.example', "), "'c.example', ");
    input.snapshot = build(two_services + more, input.snapshot.get());
    const auto page = parse_exposition(metrics::render(input));
    CHECK(page.at(R"(proxify_tls_clients_total{service="secret",name="b.example"})") == 7);
    CHECK(page.at(R"(proxify_tls_clients_total{service="secret",name="c.example"})") == 0);
    CHECK_FALSE(page.has(R"(proxify_tls_clients_total{service="secret",name="a.example"})"));
}

TEST_CASE("the buckets of a histogram only rise, and the last one is all") {
    const auto page = parse_exposition(metrics::render(full_input()));
    auto bucket = [&](const char* le) {
        return page.at(
            format(R"(proxify_connect_duration_seconds_bucket{{service="web",le="{}"}})", le));
    };
    CHECK(bucket("0.0001") == 1);
    CHECK(bucket("0.00025") == 1);
    CHECK(bucket("0.0005") == 3);
    CHECK(bucket("1") == 3);
    CHECK(bucket("5") == 3);
    CHECK(bucket("+Inf") == 4);
    CHECK(page.at(R"(proxify_connect_duration_seconds_count{service="web"})") == 4);
    CHECK(page.at(R"(proxify_connect_duration_seconds_sum{service="web"})") == Approx(7.00068));
}

TEST_CASE("a page has every family that there is, with its own words, and no other") {
    const auto page = parse_exposition(metrics::render(full_input()));
    std::set<std::string> said, can_be_said;
    for (const auto& [name, family] : page.families) said.insert(name);
    for (const auto& family : metrics::families()) {
        can_be_said.insert(std::string(family.name));
        INFO(family.name);
        REQUIRE(page.families.contains(std::string(family.name)));
        const auto& read = page.families.at(std::string(family.name));
        CHECK(read.help == family.help);
        CHECK(read.type == metrics::to_text(family.type));
        CHECK(read.help.ends_with('.'));
    }
    CHECK(said == can_be_said);
    CHECK(metrics::families().size() == can_be_said.size());
}

TEST_CASE("names follow Prometheus' conventions") {
    for (const auto& family : metrics::families()) {
        INFO(family.name);
        const std::string name(family.name);
        CHECK(std::regex_match(name, std::regex("proxify_[a-z]+(_[a-z]+)*")));
        CHECK(name.ends_with("_total") == (family.type == Type::counter));
        if (family.type == Type::histogram || family.type == Type::summary)
            CHECK(name.ends_with("_seconds"));
        for (const char* unit : {"_ms", "_milliseconds", "_kb", "_kib", "_megabytes", "_percent"})
            CHECK_FALSE(name.contains(unit));
    }
}

TEST_CASE("a label may hold anything") {
    CHECK(metrics::label("a", "plain") == R"(a="plain")");
    CHECK(metrics::label("a", "") == R"(a="")");
    CHECK(metrics::label("a", "say \"no\"\\\nmore") == R"(a="say \"no\"\\\nmore")");
    auto input = full_input();
    input.version = "1 \"x\\y\n";
    const auto page = parse_exposition(metrics::render(input));
    CHECK(page.has(R"(proxify_build_info{version="1 \"x\\y\n"})"));
}

TEST_CASE("without steering nothing is said about the kernel") {
    auto input = full_input();
    input.steering.reset();
    const auto page = parse_exposition(metrics::render(input));
    for (const auto& [name, family] : page.families) CHECK_FALSE(name.contains("kernel"));
}

TEST_CASE("a refused file shows, until another one is in force") {
    auto input = full_input();
    input.is_refused = true;
    CHECK(parse_exposition(metrics::render(input)).at("proxify_config_last_reload_successful") ==
          0);
}

TEST_CASE(
    "counts go on over a reload, of services, targets, ports and of clients without a service") {
    auto input = full_input();
    const auto before = parse_exposition(metrics::render(input));
    const auto old = input.snapshot;
    input.snapshot =
        build(two_services + with_tls().service() +
                  "[[service]]\nname = \"new\"\nports = [7]\ntargets = [\"198.51.100.9:1\"]\n",
              old.get());
    const auto after = parse_exposition(metrics::render(input));
    for (const auto& [name, family] : before.families)
        for (const auto& [sample, value] : family.samples) {
            INFO(sample);
            CHECK(after.at(sample) == value);
        }
    CHECK(after.at(R"(proxify_sessions_total{service="new"})") == 0);

    // Ports that nobody asks for any more take no memory, and begin anew when somebody does.
    auto quiet = std::regex_replace(two_services, std::regex("count_ports = true"), "");
    input.snapshot = build(quiet, input.snapshot.get());
    CHECK_FALSE(input.snapshot->services()[1]->port_stats);
    CHECK_FALSE(
        parse_exposition(metrics::render(input)).families.contains("proxify_port_sessions_total"));
}

TEST_CASE("a target that has left is counted as long as a session holds it, without a state") {
    auto input = full_input();
    auto gone = input.snapshot->services()[1]->pool.targets()[1];
    auto without = std::regex_replace(two_services, std::regex(R"(, \{ address.*\})"), "");
    input.snapshot = build(without, input.snapshot.get());
    const std::string total =
        R"(proxify_target_sessions_total{service="web",target="198.51.100.2:9001"})";
    auto page = parse_exposition(metrics::render(input));
    CHECK(page.at(total) == 2);
    CHECK_FALSE(page.has(R"(proxify_target_up{service="web",target="198.51.100.2:9001"})"));
    gone.reset();
    CHECK_FALSE(parse_exposition(metrics::render(input)).has(total));
}

TEST_CASE("a thousand services with two targets each take less than 7 MiB") {
    std::string text;
    for (int i = 1; i <= 1000; ++i)
        text += format(
            "[[service]]\nname = \"service-{0}\"\nports = [{0}]\n"
            "targets = [\"198.51.100.1:{0}\", \"198.51.100.2:{0}\"]\n",
            i);
    auto input = full_input();
    input.snapshot = build(text);
    const auto page = metrics::render(input);
    CHECK(page.size() < 7 << 20);
    CHECK(page.size() > 1 << 20);
}

TEST_CASE("of elements a page has the directions that they see, and what their type can do") {
    auto input = full_input();
    auto page = parse_exposition(metrics::render(input));
    size_t lines = 0;
    for (const auto& [name, family] : page.families)
        if (name.starts_with("proxify_element_")) lines += family.samples.size();
    CHECK(lines == 2 * 2 + 4);  // chunks and bytes of two ways; four of one
    CHECK_FALSE(page.has(
        R"(proxify_element_closed_total{service="web",element="limit_bytes",direction="to_target"})"));

    // Under another order and name nothing of an element is lost that is still there.
    auto other = std::regex_replace(
        two_services, std::regex(R"(filters = .*)"),
        R"(filters = [{ type = "limit_bytes", bytes = 6 }, { type = "count", name = "new" }])");
    input.snapshot = build(other, input.snapshot.get());
    page = parse_exposition(metrics::render(input));
    CHECK(
        page.at(
            R"(proxify_element_closed_total{service="web",element="limit_bytes",direction="to_client"})") ==
        85);
    CHECK(
        page.at(
            R"(proxify_element_chunks_total{service="web",element="new",direction="to_target"})") ==
        0);
    CHECK_FALSE(page.has(
        R"(proxify_element_chunks_total{service="web",element="count",direction="to_target"})"));

    input.snapshot = build(std::regex_replace(two_services, std::regex(R"(filters = .*)"), ""));
    for (const auto& [name, family] : parse_exposition(metrics::render(input)).families)
        CHECK_FALSE(name.starts_with("proxify_element_"));
}

TEST_CASE("promtool has nothing to say against a page") {
    NEEDS_PROGRAM("promtool");
    const auto page = metrics::render(full_input());
    const auto judged = run({.argv = {"promtool", "check", "metrics"}, .input = page});
    INFO(judged.out << judged.err);
    CHECK(judged.exit_code == 0);
    CHECK(judged.out.empty());
    CHECK(judged.err.empty());

    // And it would say so if there were.
    const auto bad = run({.argv = {"promtool", "check", "metrics"},
                          .input = "# HELP proxify_x_ms No.\n# TYPE proxify_x_ms counter\n"
                                   "proxify_x_ms 1\n"});
    CHECK(bad.exit_code != 0);
}

TEST_CASE("docs/metrics.md explains every metric, and no other") {
    const auto page = parse_exposition(metrics::render(full_input()));
    const auto labels = labels_of(page);
    // | `proxify_sessions_total` | counter | `service` | Sessions that began. |
    static const std::regex row(R"re(^\| `(proxify_[a-z_]+)` \| ([a-z]+) \| ([^|]*)\| (.*) \|$)re");
    static const std::regex quoted("`([a-z_]+)`");
    const std::string text = read_file(source_root() + "/docs/metrics.md");
    std::set<std::string> explained;
    for (const std::string& line : lines_of(text)) {
        std::smatch match;
        if (!std::regex_match(line, match, row)) continue;
        const std::string name = match[1], of = match[3];
        INFO(line);
        CHECK(explained.insert(name).second);
        REQUIRE(page.families.contains(name));
        CHECK(page.families.at(name).type == match[2]);
        std::set<std::string> written;
        for (std::sregex_iterator at(of.begin(), of.end(), quoted), end; at != end; ++at)
            written.insert((*at)[1]);
        CHECK(written == labels.at(name));
        CHECK(match[4].length() > 5);
    }
    for (const auto& family : metrics::families()) {
        INFO(family.name);
        CHECK(explained.contains(std::string(family.name)));
    }
    const auto samples = sample_names();
    for (const auto& name : names_in(text)) {
        INFO(name);
        CHECK((explained.contains(name) || samples.contains(name)));
    }
}

TEST_CASE("the dashboard is JSON that Grafana imports") {
    const auto members = parse_json_object(dashboard());
    REQUIRE(members);
    for (const char* name : {"title", "uid", "schemaVersion", "panels", "templating", "time"}) {
        INFO(name);
        CHECK(members->contains(name));
    }
    CHECK(std::stoi(members->at("schemaVersion")) >= 36);
    // An import makes an id of its own, and asks which datasource is meant.
    CHECK(members->at("id") == "null");
    CHECK(members->at("templating").contains(R"("type": "datasource")"));
    const std::string text = dashboard();
    static const std::regex source(R"re("uid": "([^"]*)")re");
    for (std::sregex_iterator at(text.begin(), text.end(), source), end; at != end; ++at)
        CHECK(((*at)[1] == "$datasource" || (*at)[1] == "proxify"));
    static const std::regex id(R"re("id": ([0-9]+))re");
    std::set<std::string> ids;
    for (std::sregex_iterator at(text.begin(), text.end(), id), end; at != end; ++at)
        CHECK(ids.insert((*at)[1]).second);
    CHECK(ids.size() >= 10);
}

TEST_CASE("the dashboard asks for metrics and labels that there are") {
    const auto queries = queries_of(dashboard());
    CHECK(queries.size() >= 15);
    const auto samples = sample_names();
    std::set<std::string> labels{"le", "instance", "job"};
    for (const auto& [name, of_family] : labels_of(parse_exposition(metrics::render(full_input()))))
        labels.insert(of_family.begin(), of_family.end());
    static const std::regex by(R"re(by \(([^)]*)\)|([a-z_]+)(=~?|!~|!=)")re");
    for (const auto& query : queries) {
        INFO(query);
        CHECK_FALSE(names_in(query).empty());
        for (const auto& name : names_in(query)) {
            INFO(name);
            CHECK(samples.contains(name));
        }
        for (std::sregex_iterator at(query.begin(), query.end(), by), end; at != end; ++at) {
            const std::string list = (*at)[1].matched ? (*at)[1].str() : (*at)[2].str();
            static const std::regex word("[a-z_]+");
            for (std::sregex_iterator of(list.begin(), list.end(), word); of != end; ++of) {
                INFO(of->str());
                CHECK(labels.contains(of->str()));
            }
        }
    }
    CHECK(names_in(dashboard()).size() > 20);
}

TEST_CASE("promtool understands what the dashboard asks") {
    NEEDS_PROGRAM("promtool");
    std::string rules = "groups:\n- name: dashboard\n  rules:\n";
    int count = 0;
    for (const auto& query : queries_of(dashboard())) {
        if (query.starts_with("label_values(")) continue;  // Grafana's own
        rules += format("  - record: panel:query{}\n    expr: |-\n      {}\n", ++count, query);
    }
    TempDir dir;
    const std::string path = dir / "rules.yml";
    write_file(path, rules);
    const auto judged = run({.argv = {"promtool", "check", "rules", path}});
    INFO(judged.out << judged.err);
    CHECK(judged.exit_code == 0);
    CHECK(judged.out.contains(format("{} rules found", count)));
}
