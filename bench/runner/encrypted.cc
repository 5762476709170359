// SPDX-License-Identifier: Apache-2.0
// TLS: clients that speak it come to a target that does not. All programs have the same
// certificate (ECDSA, P-256), and the load allows one version, one cipher and one group only, so
// all do the same work. There is no *direct*: the target speaks no TLS.
#include <filesystem>

#include "base/format.h"
#include "runner/work.h"

namespace proxify::bench {

namespace {

/// Made once in a run. The key and the certificate are in one file.
Result<std::string> certificate_of(const World& world) {
    auto path = world.folder + "/bench.pem";
    if (std::filesystem::exists(path)) return path;
    TRY_TO(shell, Process::start(
                      {.words = {"/bin/sh", "-ec",
                                 format("openssl req -x509 -newkey ec -pkeyopt "
                                        "ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bench "
                                        "-addext subjectAltName=DNS:bench -keyout {0}.new -out "
                                        "{0}.leaf\ncat {0}.leaf >>{0}.new\nmv {0}.new {0}",
                                        path)},
                       .log = world.folder + "/openssl.log"}));
    TRY(shell.finish(10s));
    return path;
}

bool takes_part(Context& context, const Work& work, const Subject& who,
                const std::string& certificate) {
    if (who.program == Program::none || (who.program == Program::haproxy && who.variant))
        return false;
    if (who.program != Program::proxify ||
        proxify_takes(context.world, "service", tls_key(certificate)))
        return true;
    context.results.note(work.rows[0], who.id, "no such setting");
    return false;
}

Result<> shake_hands(Context& context, const Work& work, const Subject& who, const char* version,
                     bool resumes) {
    TRY_TO(certificate, certificate_of(context.world));
    if (!takes_part(context, work, who, certificate)) return {};
    TRY_TO(stage,
           Stage::set(context.world, who, {.pinned = work.pinned, .certificate = certificate}));
    std::vector<std::string> words{"connect", "--connections", "50", "--tls", version};
    if (resumes) words.push_back("--resume");
    TRY_TO(line, run_load(context, stage, words, stage.echo_address()));
    TRY(stage.strike());
    auto add = [&](const char* metric, double value) {
        context.results.add(work.rows[0], who.id, metric, value);
    };
    add("rate", number_in(line, "rate"));
    add("cpu", number_in(line, "watched_cpu_s") / number_in(line, "connections"));
    add("p50", number_in(line, "p50_us"));
    add("p99", number_in(line, "p99_us"));
    return {};
}

Result<> exchange(Context& context, const Work& work, const Subject& who, int connections) {
    TRY_TO(certificate, certificate_of(context.world));
    if (!takes_part(context, work, who, certificate)) return {};
    TRY_TO(stage,
           Stage::set(context.world, who, {.pinned = work.pinned, .certificate = certificate}));
    TRY_TO(line, run_load(context, stage,
                          {"ping", "--size", "64", "--connections", format("{}", connections),
                           "--tls", "1.3"},
                          stage.echo_address()));
    TRY(stage.strike());
    auto add = [&](const char* metric, double value) {
        context.results.add(work.rows[0], who.id, metric, value);
    };
    add("rate", number_in(line, "rate"));
    add("cpu", number_in(line, "watched_cpu_s") / number_in(line, "exchanges"));
    add("p50", number_in(line, "p50_us"));
    add("p99", number_in(line, "p99_us"));
    return {};
}

Result<> carry(Context& context, const Work& work, const Subject& who, bool down, int connections) {
    TRY_TO(certificate, certificate_of(context.world));
    if (!takes_part(context, work, who, certificate)) return {};
    TRY_TO(stage,
           Stage::set(context.world, who, {.pinned = work.pinned, .certificate = certificate}));
    TRY_TO(line, run_load(context, stage,
                          {"bulk", "--connections", format("{}", connections), "--tls", "1.3",
                           down ? "--down" : "--up"},
                          stage.bulk_address()));
    TRY(stage.strike());
    if (number_in(line, "bytes") == 0)
        return fail(Error::of("no byte moved while it was measured"));
    context.results.add(work.rows[0], who.id, "gbit", number_in(line, "gbit"));
    context.results.add(work.rows[0], who.id, "cpu",
                        number_in(line, "watched_cpu_s") / (number_in(line, "bytes") * 1e-9));
    return {};
}

}  // namespace

void add_encrypted(std::vector<Work>& works) {
    const std::string group = "tls";
    for (const char* version : {"1.3", "1.2"}) {
        for (bool resumes : {false, true}) {
            works.push_back(
                {group,
                 true,
                 {{format("tls-{}-{}", resumes ? "resumed" : "full", version), "tls-handshake",
                   format("TLS {}, {}", version, resumes ? "resumed" : "full")}},
                 [=](Context& context, const Work& work, const Subject& who) {
                     return shake_hands(context, work, who, version, resumes);
                 }});
        }
    }
    for (int connections : {1, 50}) {
        works.push_back(
            {group,
             true,
             {{format("tls-ping-{}", connections), "tls-ping",
               format("64 B, {} connection{}", connections, connections == 1 ? "" : "s")}},
             [=](Context& context, const Work& work, const Subject& who) {
                 return exchange(context, work, who, connections);
             }});
    }
    for (bool down : {true, false}) {
        for (int connections : {1, 4}) {
            works.push_back({group,
                             true,
                             {{format("tls-{}-{}", down ? "down" : "up", connections), "tls-bulk",
                               format("{}, {} connection{}", down ? "down" : "up", connections,
                                      connections == 1 ? "" : "s")}},
                             [=](Context& context, const Work& work, const Subject& who) {
                                 return carry(context, work, who, down, connections);
                             }});
        }
    }
}

}  // namespace proxify::bench
