// SPDX-License-Identifier: Apache-2.0
#include "runner/work.h"

#include <signal.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include "base/expect.h"
#include "base/format.h"
#include "common/wire.h"
#include "runner/arena.h"

namespace proxify::bench {

// ---- talking to the load

double number_in(const std::string& line, const std::string& name) {
    auto at = line.find("\"" + name + "\": ");
    expect(at != line.npos, "the load tells every figure that is asked for");
    at += name.size() + 4;
    double value = 0;
    std::from_chars(line.data() + at, line.data() + line.size(), value);
    return value;
}

static Patience patience_for(double seconds) {
    return Patience(static_cast<int>(seconds * 1000)) + 60s;
}

Result<std::string> run_load(Context& context, Stage& stage, std::vector<std::string> words,
                             const std::vector<std::string>& address) {
    words.insert(words.end(), address.begin(), address.end());
    words.insert(words.end(), {"--seconds", format("{}", context.timing.seconds), "--warm-up",
                               format("{}", context.timing.warm_up)});
    TRY_TO(line,
           stage.run_load(words, patience_for(context.timing.seconds + context.timing.warm_up)));
    if (number_in(line, "errors") == 0) return line;
    std::ifstream log(context.world.folder + "/load.log");
    std::string told((std::istreambuf_iterator<char>(log)), {});
    return fail(Error::of(format("the load saw {} errors", number_in(line, "errors")), told));
}

// ---- works over loopback

static Result<> ping(Context& context, const Work& work, const Subject& subject, size_t size,
                     int connections) {
    TRY_TO(stage, Stage::set(context.world, subject, {.pinned = work.pinned}));
    TRY_TO(line, run_load(context, stage,
                          {"ping", "--size", format("{}", size), "--connections",
                           format("{}", connections)},
                          stage.echo_address()));
    TRY(stage.strike());
    auto add = [&](const char* metric, double value) {
        context.results.add(work.rows[0], subject.id, metric, value);
    };
    add("rate", number_in(line, "rate"));
    add("cpu", number_in(line, "watched_cpu_s") / number_in(line, "exchanges"));
    add("p50", number_in(line, "p50_us"));
    add("p99", number_in(line, "p99_us"));
    add("p999", number_in(line, "p999_us"));
    return {};
}

static Result<> connect(Context& context, const Work& work, const Subject& subject) {
    TRY_TO(stage, Stage::set(context.world, subject, {.pinned = work.pinned}));
    TRY_TO(line,
           run_load(context, stage, {"connect", "--connections", "50"}, stage.echo_address()));
    TRY(stage.strike());
    auto add = [&](const char* metric, double value) {
        context.results.add(work.rows[0], subject.id, metric, value);
    };
    add("rate", number_in(line, "rate"));
    add("cpu", number_in(line, "watched_cpu_s") / number_in(line, "connections"));
    add("p50", number_in(line, "p50_us"));
    add("p99", number_in(line, "p99_us"));
    return {};
}

static Result<> bulk(Context& context, const Work& work, const Subject& subject, bool down, bool up,
                     int connections) {
    bool must_copy = work.group == "copy";
    if (must_copy && subject.program == Program::haproxy && subject.variant) return {};
    if (must_copy && subject.program == Program::proxify &&
        !proxify_takes(context.world, "service", "relay = \"copy\"")) {
        context.results.note(work.rows[0], subject.id, "no such setting");
        return {};
    }
    TRY_TO(stage,
           Stage::set(context.world, subject, {.pinned = work.pinned, .must_copy = must_copy}));
    std::vector<std::string> words{"bulk", "--connections", format("{}", connections)};
    if (down) words.push_back("--down");
    if (up) words.push_back("--up");
    TRY_TO(line, run_load(context, stage, words, stage.bulk_address()));
    TRY(stage.strike());
    if (number_in(line, "bytes") == 0)
        return fail(Error::of("no byte moved while it was measured"));
    context.results.add(work.rows[0], subject.id, "gbit", number_in(line, "gbit"));
    context.results.add(work.rows[0], subject.id, "cpu",
                        number_in(line, "watched_cpu_s") / (number_in(line, "bytes") * 1e-9));
    return {};
}

// ---- idle connections

constexpr int listed_sessions = 9000;
constexpr int idle_steps[] = {1000, 4000, 9000};

/// Memory is compared with what the same processes held before, but after some work: what is
/// needed once is no cost of a connection.
static Result<> idle(Context& context, const Work& work, const Subject& subject) {
    TRY_TO(stage, Stage::set(context.world, subject, {.pinned = work.pinned}));
    TRY(stage.run_load(
        [&] {
            std::vector<std::string> words{"ping", "--connections", "100", "--seconds",
                                           "0.2",  "--warm-up",     "0"};
            auto address = stage.echo_address();
            words.insert(words.end(), address.begin(), address.end());
            return words;
        }(),
        20s));
    TRY(rest(700ms));  // closed sockets are freed some time after they are closed
    double user_before = user_memory(stage.measured()), slabs_before = slab_bytes();

    std::vector<std::string> words{"idle", "--steps"};
    std::string steps;
    for (int step : idle_steps) steps += (steps.empty() ? "" : ",") + std::to_string(step);
    words.push_back(steps);
    auto address = stage.echo_address();
    words.insert(words.end(), address.begin(), address.end());
    TRY_TO(load, stage.start_load(words));
    for (size_t i = 0; i < std::size(idle_steps); ++i) {
        TRY_TO(line, load.read_line(60s));
        if (number_in(line, "errors") > 0) break;
        TRY(rest(300ms));
        double cpu_before = cpu_seconds(stage.measured());
        auto began = Clock::now();
        TRY(rest(Patience(static_cast<int>(context.timing.idle_seconds * 1000))));
        std::chrono::duration<double> passed = Clock::now() - began;
        auto add = [&](const char* metric, double value) {
            context.results.add(work.rows[i], subject.id, metric, value);
        };
        add("slabs", (slab_bytes() - slabs_before) / idle_steps[i]);
        if (!stage.is_direct()) {
            add("user", (user_memory(stage.measured()) - user_before) / idle_steps[i]);
            add("cpu", (cpu_seconds(stage.measured()) - cpu_before) / passed.count());
        }
        load.write_line();
    }
    // Each connection had to carry a message in the end.
    TRY_TO(last, load.read_line(60s));
    TRY(load.finish(10s));
    TRY(stage.strike());
    if (number_in(last, "errors") > 0 || number_in(last, "open") < idle_steps[2])
        return fail(Error::of(
            format("{} of {} idle connections worked", number_in(last, "open"), idle_steps[2])));
    return {};
}

// ---- an operator looks on

/// Clients of 50 connections, beside many that are idle: alone, and while somebody has all of them
/// listed again and again.
static Result<> listed(Context& context, const Work& work, const Subject& subject) {
    const std::string lister = lister_for(context.world, subject);
    if (lister.empty()) return {};
    TRY_TO(stage, Stage::set(context.world, subject, {.pinned = work.pinned}));
    std::vector<std::string> words{"idle", "--steps", format("{}", listed_sessions)};
    auto address = stage.echo_address();
    words.insert(words.end(), address.begin(), address.end());
    TRY_TO(crowd, stage.start_load(words));
    TRY_TO(line, crowd.read_line(60s));
    if (number_in(line, "errors") > 0)
        return fail(Error::of("not all of the idle connections came about"));
    std::optional<Process> beside;
    for (const Row& row : work.rows) {
        if (&row != &work.rows[0]) {
            TRY_TO(started, stage.start_beside(lister));
            beside = std::move(started);
        }
        TRY_TO(said,
               run_load(context, stage, {"ping", "--size", "64", "--connections", "50"}, address));
        for (const char* metric : {"rate", "p50_us", "p99_us", "p999_us"})
            context.results.add(row, subject.id, metric, number_in(said, metric));
        if (beside && !beside->is_alive())
            return fail(Error::of("whoever was to list the sessions has ended"));
    }
    beside.reset();
    crowd.write_line();
    TRY(crowd.read_line(60s));
    TRY(crowd.finish(10s));
    return stage.strike();
}

// ---- many ports

/// So many ports, the echo port among them: from 10000 up, then from 2000 up.
static std::vector<PortSpan> port_spans(int count) {
    std::vector<PortSpan> spans;
    int left = count - 1;
    constexpr PortSpan free_spans[] = {{10000, 62000},
                                       {2000, echo_port - 1},
                                       {echo_port + 1, steering_port - 1},
                                       {steering_port + 1, 9999}};
    for (auto span : free_spans) {
        int size = std::min(left, span.last - span.first + 1);
        if (size <= 0) break;
        spans.push_back({span.first, static_cast<uint16_t>(span.first + size - 1)});
        left -= size;
    }
    return spans;
}

static int listening_sockets() {
    int count = 0;
    for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        std::ifstream file(path);
        std::string line;
        while (std::getline(file, line)) {
            std::istringstream words(line);
            std::string number, local, remote, state;
            if (words >> number >> local >> remote >> state && state == "0A") ++count;
        }
    }
    return count;
}

static Result<> ports(Context& context, const Work& work, const Subject& subject, int count) {
    // Whoever binds each port needs a descriptor for each; some are left for connections.
    bool binds = subject.program != Program::none &&
                 !(subject.program == Program::proxify && subject.variant);
    int most = context.world.descriptors_max - 2000;
    int configured = binds ? std::min(count, most) : count;
    if (subject.program == Program::none) configured = 1;
    if (binds && configured < count)
        context.results.note(
            work.rows[0], subject.id,
            format("{} ports: {} descriptors at most", configured, context.world.descriptors_max));

    Setup setup{.pinned = work.pinned,
                .has_bulk = false,
                .extra_ports = port_spans(configured),
                .ephemeral_ports = "62100 65535"};
    TRY_TO(stage, Stage::set(context.world, subject, setup));
    auto add = [&](const char* metric, double value) {
        context.results.add(work.rows[0], subject.id, metric, value);
    };
    if (!stage.is_direct()) {
        TRY(rest(300ms));
        add("start", stage.start_seconds());
        add("memory", user_memory(stage.measured()));
        int descriptors = 0;
        for (int pid : stage.measured()) descriptors = std::max(descriptors, open_descriptors(pid));
        add("fds", descriptors);
        add("listening", listening_sockets() - 2);  // the target's
    }
    std::vector<std::string> words{"ports", "--count", format("{}", context.timing.port_samples)};
    auto address = stage.echo_address();
    if (configured > 1) {
        auto first = setup.extra_ports.front();
        address = {"--address",   "127.0.0.1",
                   "--addresses", "16",
                   "--port",      format("{}", first.first),
                   "--last-port", format("{}", first.last)};
    }
    TRY_TO(line, run_load(context, stage, words, address));
    TRY(stage.strike());
    add("connect", number_in(line, "connect_p50_us"));
    return {};
}

// ---- reload

static Result<> reload(Context& context, const Work& work, const Subject& subject) {
    if (subject.program == Program::none ||
        (subject.program == Program::proxify && !subject.variant) ||
        (subject.program == Program::haproxy && subject.variant))
        return {};
    const Setup without{.pinned = work.pinned, .extra_ports = {}, .ephemeral_ports = "20000 61000"};
    Setup with = without;
    with.extra_ports = {{10000, 19999}};
    TRY_TO(stage, Stage::set(context.world, subject, without));

    std::vector<std::string> words{"connect", "--connections", "10", "--seconds",
                                   "600",     "--warm-up",     "0"};
    auto address = stage.echo_address();
    words.insert(words.end(), address.begin(), address.end());
    TRY_TO(load, stage.start_load(words));
    TRY(rest(200ms));
    for (int i = 0; i < context.timing.reloads; ++i) {
        bool add_ports = i % 2 == 0;
        auto began = Clock::now();
        TRY(stage.reconfigure(add_ports ? with : without));
        auto wanted = add_ports ? Answer::echo : Answer::refused;
        while (ask(with.extra_ports[0].last) != wanted ||
               ask(with.extra_ports[0].first) != wanted) {
            TRY(rest(1ms));
            if (Clock::now() - began > 30s)
                return fail(
                    Error::of(format("reload {} of {} took no effect", i + 1, subject.title)));
        }
        context.results.add(work.rows[0], subject.id, "effect",
                            std::chrono::duration<double>(Clock::now() - began).count());
        TRY(rest(50ms));
    }
    load.signal(SIGTERM);
    TRY_TO(line, load.read_line(20s));
    TRY(load.finish(5s));
    TRY(stage.strike());

    auto add = [&](const char* metric, double value) {
        context.results.add(work.rows[0], subject.id, metric, value);
    };
    add("failed", number_in(line, "errors"));
    add("worst", number_in(line, "max_us"));
    add("rate", number_in(line, "rate"));
    auto effect = context.results.find(work.rows[0].id, subject.id, "effect");
    add("effect_max", effect->high);
    return {};
}

// ---- the list

static std::string counted(int count, const char* what) {
    auto number =
        count >= 10000 ? format("{} {:03}", count / 1000, count % 1000) : format("{}", count);
    return format("{} {}{}", number, what, count == 1 ? "" : "s");
}

static void add_traffic(std::vector<Work>& works, bool pinned) {
    std::string set = pinned ? "" : "free-";
    for (size_t size : {size_t{64}, size_t{16384}}) {
        for (int connections : {1, 50, 1000}) {
            works.push_back({"ping",
                             pinned,
                             {{format("{}ping-{}-{}", set, size, connections), "ping",
                               format("{}, {}", size == 64 ? "64 B" : "16 KiB",
                                      counted(connections, "connection")),
                               pinned}},
                             [=](Context& context, const Work& work, const Subject& who) {
                                 return ping(context, work, who, size, connections);
                             }});
        }
    }
    works.push_back(
        {"connect", pinned, {{set + "connect-50", "connect", "50 at a time", pinned}}, connect});
    for (const char* way : {"down", "up", "both"}) {
        bool down = std::string_view(way) != "up", up = std::string_view(way) != "down";
        for (int connections : {1, 4, 100}) {
            works.push_back({"bulk",
                             pinned,
                             {{format("{}bulk-{}-{}", set, way, connections), "bulk",
                               format("{}, {}", way, counted(connections, "connection")), pinned}},
                             [=](Context& context, const Work& work, const Subject& who) {
                                 return bulk(context, work, who, down, up, connections);
                             }});
        }
    }
}

std::vector<Work> all_works() {
    std::vector<Work> works;
    add_traffic(works, true);
    for (int connections : {4, 100}) {
        works.push_back({"copy",
                         true,
                         {{format("copy-down-{}", connections), "copy",
                           format("down, {}", counted(connections, "connection"))}},
                         [=](Context& context, const Work& work, const Subject& who) {
                             return bulk(context, work, who, true, false, connections);
                         }});
    }
    std::vector<Row> idle_rows;
    for (int step : idle_steps)
        idle_rows.push_back({format("idle-{}", step), "idle", counted(step, "connection")});
    works.push_back({"idle", true, idle_rows, idle});
    works.push_back({"listed",
                     true,
                     {{"listed-not", "listed", "nobody asks"},
                      {"listed-each-second", "listed", "all listed each second"}},
                     listed});
    for (int count : {1, 1000, 60000}) {
        works.push_back({"ports",
                         true,
                         {{format("ports-{}", count), "ports", counted(count, "port")}},
                         [=](Context& context, const Work& work, const Subject& who) {
                             return ports(context, work, who, count);
                         }});
    }
    works.push_back({"reload", true, {{"reload", "reload", "changes of 10 000 ports"}}, reload});
    add_doors(works);
    add_elements(works);
    add_encrypted(works);
    add_traffic(works, false);
    return works;
}

}  // namespace proxify::bench
