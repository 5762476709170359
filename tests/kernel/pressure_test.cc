// SPDX-License-Identifier: Apache-2.0
// A worker on the real io_uring with too little of everything: what it lacks makes clients wait in
// line, and costs none of them a byte.
#include <algorithm>
#include <future>
#include <latch>
#include <mutex>
#include <thread>

#include "metrics/metrics.h"
#include "support/exposition.h"
#include "support/kernel_test.h"
#include "support/pattern.h"
#include "worker/worker.h"

using namespace proxify;
using namespace proxify::test;

namespace {

class Records : public telemetry::Journal {
  public:
    void session(telemetry::SessionRecord&& record) override {
        std::lock_guard lock(mutex_);
        records_.push_back(std::move(record));
    }
    void write(telemetry::Level, const char*, std::string,
               std::vector<std::pair<const char*, std::string>>) override {}
    std::vector<telemetry::SessionRecord> all() {
        std::lock_guard lock(mutex_);
        return records_;
    }

  private:
    std::mutex mutex_;
    std::vector<telemetry::SessionRecord> records_;
};

/// One worker that listens on port 5001 inside a namespace, with a target at 127.0.0.1:9001.
class Bench {
  public:
    Bench(const Namespace& ns, io::Ring::Options ring, worker::Shares shares = {}) {
        auto config = config::parse(
            "[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\n"
            "targets = [\"127.0.0.1:9001\"]\n",
            "targets.toml");
        snapshot_ = routing::Snapshot::build(
            *config, [](const std::string&) { return std::vector<Endpoint>(); }, nullptr,
            std::chrono::steady_clock::now());
        ns.run([&] {
            worker_.emplace(*io::Ring::open(ring), records_,
                            worker::Options{.shares = shares, .sessions_so_far = sessions_},
                            snapshot_);
            listener_ = *worker_->loop().ring().listen({Ip{.bytes = {}, .is_v4 = false}, 5001}, {});
            worker_->start([] {});
            post([this] { worker_->listen(listener_, capture::Door::bound); });
        });
    }
    ~Bench() {
        post([this] { worker_->drain(0s); });
        worker_->join();
    }

    void post(io::Loop::Message message) { worker_->loop().post(std::move(message)); }
    /// Asks on the worker's thread.
    template <class T>
    T ask(std::function<T(worker::Worker&)> question) {
        std::promise<T> answer;
        post([&] { answer.set_value(question(*worker_)); });
        return answer.get_future().get();
    }
    std::vector<telemetry::SessionRecord> records() { return records_.all(); }
    /// As anybody may, while the worker works.
    Exposition page() {
        auto stats = worker_->stats();
        stats.accept_queue = worker_->loop().ring().accept_queue(listener_);
        return parse_exposition(metrics::render({.version = "test",
                                                 .started_at = {},
                                                 .reloaded_at = {},
                                                 .snapshot = snapshot_,
                                                 .workers = {stats}}));
    }

  private:
    Records records_;
    std::atomic<uint64_t> sessions_ = 0;
    std::shared_ptr<const routing::Snapshot> snapshot_;
    std::optional<worker::Worker> worker_;
    io::Handle listener_{};
};

/// Each sends its own bytes to an echo, and compares what comes back. How many were served well.
int exchange(const Namespace& ns, int clients, size_t size) {
    std::atomic<int> good = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i < clients; ++i)
        threads.emplace_back([&, i] {
            try {
                Pattern pattern(static_cast<uint64_t>(i));
                Stream client = Stream::dial(ns, "127.0.0.1:5001");
                std::jthread sender([&] {
                    try {
                        send_pattern(client, pattern, size);
                        client.finish();
                    } catch (const std::exception&) {
                        // then not all comes back either
                    }
                });
                receive_pattern(client, pattern, size);
                ++good;
            } catch (const std::exception&) {
            }
        });
    threads.clear();
    return good;
}

}  // namespace

TEST_CASE("a completion queue of 8 carries 100 clients without losing an event", "[P-18]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    Bench bench(ns, {.entries = 4, .completions = 8, .buffers = 16, .buffer_size = 512});
    CHECK(exchange(ns, 100, 64 * 1024) == 100);
    CHECK(eventually([&] { return bench.records().size() == 100; }));
    CHECK(bench.page().at(R"(proxify_worker_completion_overflows_total{worker="0"})") > 0);
}

TEST_CASE("two receive buffers serve 100 clients, and the waits are counted", "[P-18]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    Bench bench(ns, {.entries = 64, .completions = 1024, .buffers = 2, .buffer_size = 512});
    CHECK(exchange(ns, 100, 64 * 1024) == 100);
    CHECK(bench.ask<uint64_t>([](auto& worker) { return worker.loop().times_starved(); }) > 0);
    CHECK(eventually([&] { return bench.records().size() == 100; }));
    for (const auto& record : bench.records()) {
        CHECK(record.to_target == 64 * 1024);
        CHECK(record.to_client == 64 * 1024);
        CHECK(record.ending.is_normal());
    }
}

TEST_CASE("clients who queue while a worker is busy are served, in the order they came", "[P-18]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", answer("web"));
    Bench bench(ns, {.entries = 64, .completions = 1024, .buffers = 16, .buffer_size = 512});
    std::latch busy(1);
    bench.post([&] { busy.wait(); });
    std::vector<Stream> clients;
    std::vector<std::string> came;
    for (int i = 0; i < 400; ++i) {
        clients.push_back(Stream::dial(ns, "127.0.0.1:5001"));
        came.push_back(clients.back().local().text());
        clients.back().send("?");
    }
    busy.count_down();
    for (auto& client : clients) CHECK(client.receive_line() == "web\n");
    clients.clear();
    REQUIRE(eventually([&] { return bench.records().size() == 400; }));
    auto records = bench.records();
    std::ranges::sort(records, {}, [](const auto& record) { return record.id; });
    std::vector<std::string> served;
    for (const auto& record : records) served.push_back(record.client.text());
    CHECK(served == came);
}

TEST_CASE("with room for two sessions forty clients are served two at a time", "[P-21]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    Bench bench(ns, {.entries = 64, .completions = 1024, .buffers = 16, .buffer_size = 512},
                {.sessions_max = 2, .pipes_max = 0});
    CHECK(exchange(ns, 40, 100'000) == 40);
    CHECK(eventually([&] { return bench.records().size() == 40; }));
    CHECK(eventually([&] {
        return bench.ask<size_t>([](auto& worker) { return worker.session_count(); }) == 0;
    }));
}

TEST_CASE(
    "a page of metrics says exactly what a hundred clients did, and may be asked for meanwhile",
    "[P-43]") {
    IN_NAMESPACE(ns);
    std::optional<Server> target(std::in_place, ns, "127.0.0.1:9001", echo());
    Bench bench(ns, {.entries = 64, .completions = 1024, .buffers = 2, .buffer_size = 512},
                {.sessions_max = 20, .pipes_max = 2});
    const std::string web = R"({service="web"})";
    const std::string blue = R"({service="web",target="127.0.0.1:9001"})";
    std::atomic<bool> done = false;
    uint64_t pages = 0;
    bool only_grows = true;
    std::jthread scraper([&] {
        for (double before = 0; !done; ++pages) {
            const auto page = bench.page();
            const double now = page.at("proxify_sessions_total" + web);
            only_grows = only_grows && now >= before;
            before = now;
        }
    });
    CHECK(exchange(ns, 100, 64 * 1024) == 100);
    CHECK(eventually([&] { return bench.records().size() == 100; }));
    done = true;
    scraper.join();
    CHECK(pages > 0);
    CHECK(only_grows);

    // Everybody is turned away from here on.
    target.reset();
    for (int i = 0; i < 5; ++i) Stream::dial(ns, "127.0.0.1:5001").receive_all();
    CHECK(eventually([&] { return bench.records().size() == 105; }));

    const auto page = bench.page();
    const double bytes = 100 * 64 * 1024;
    for (
        const auto& [sample, value] : std::map<std::string, double>{
            {"proxify_sessions_total" + web, 105},
            {"proxify_active_sessions" + web, 0},
            {R"(proxify_session_endings_total{service="web",ending="--",reason="done"})", 100},
            {R"(proxify_session_endings_total{service="web",ending="TC",reason="refused"})", 5},
            {R"(proxify_relayed_bytes_total{service="web",direction="to_target"})", bytes},
            {R"(proxify_relayed_bytes_total{service="web",direction="to_client"})", bytes},
            {"proxify_connect_duration_seconds_count" + web, 100},
            {"proxify_session_duration_seconds_count" + web, 105},
            {"proxify_target_sessions_total" + blue, 100},
            {"proxify_target_seats_taken" + blue, 0},
            {"proxify_target_connect_duration_seconds_count" + blue, 100},
            {R"(proxify_target_connect_failures_total{service="web",target="127.0.0.1:9001",reason="refused"})",
             5},
            {R"(proxify_worker_sessions{worker="0"})", 0},
            {R"(proxify_worker_sessions_limit{worker="0"})", 20},
            {R"(proxify_worker_receive_buffers{worker="0"})", 2},
            {R"(proxify_worker_pipes_lent{worker="0"})", 0},
        }) {
        INFO(sample);
        CHECK(page.at(sample) == value);
    }
    CHECK(page.at(R"(proxify_worker_buffer_waits_total{worker="0"})") > 0);
    CHECK(page.at(R"(proxify_worker_accept_pauses_total{worker="0"})") > 0);
    const double longest = std::chrono::duration<double>(
                               std::ranges::max(bench.records(), {},
                                                [](const auto& record) { return record.duration; })
                                   .duration)
                               .count();
    const double all = page.at("proxify_session_duration_seconds_sum" + web);
    CHECK(all >= longest - 1e-6);
    CHECK(all <= 105 * (longest + 1e-6));
}

TEST_CASE("clients whom a worker has no room for show in the kernel's queue", "[P-43]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    Bench bench(ns, {.entries = 64, .completions = 1024, .buffers = 16, .buffer_size = 512},
                {.sessions_max = 2, .pipes_max = 0});
    const std::string queue = R"(proxify_worker_accept_queue_clients{worker="0"})";
    CHECK(bench.page().at(queue) == 0);
    std::vector<Stream> clients;
    for (int i = 0; i < 10; ++i) clients.push_back(Stream::dial(ns, "127.0.0.1:5001"));
    CHECK(eventually([&] { return bench.page().at(queue) > 0; }));
    CHECK(eventually([&] {
        const auto page = bench.page();
        return page.at(queue) + page.at(R"(proxify_worker_sessions{worker="0"})") == 10;
    }));
    clients.clear();
    CHECK(eventually([&] { return bench.page().at(queue) == 0; }));
}

TEST_CASE("who walks along hundreds of sessions lets others in between") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    Bench bench(ns, {});
    std::vector<Stream> clients;
    for (int i = 0; i < 300; ++i) {
        clients.push_back(Stream::dial(ns, "127.0.0.1:5001"));
        clients.back().send("x");
        CHECK(clients.back().receive_exactly(1) == "x");
    }
    std::atomic<int> seen = 0, seen_in_between = 0;
    bench.ask<bool>([&](worker::Worker& worker) {
        worker.visit([&](session::Session&) {
            if (++seen == 1) bench.post([&] { seen_in_between = seen.load(); });
        });
        return true;
    });
    CHECK(eventually([&] { return seen == 300; }));
    CHECK(eventually([&] { return seen_in_between > 0; }));
    CHECK(seen_in_between < 300);
}
