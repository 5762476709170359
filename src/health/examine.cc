// SPDX-License-Identifier: Apache-2.0
#include "health/checks.h"
#include "health/talk.h"

namespace proxify::health {

using namespace io;

namespace {

Task<Outcome> ask(Probe& probe, Talk& talk) {
    const auto& kind = probe.spec.check;
    if (auto* http = std::get_if<config::HttpCheck>(&kind))
        co_return co_await check_http(*http, probe, talk);
    if (auto* send = std::get_if<config::SendCheck>(&kind))
        co_return co_await check_send(*send, probe, talk);
    if (auto* tls = std::get_if<config::TlsCheck>(&kind))
        co_return co_await check_tls(*tls, probe, talk);
    co_return co_await check_tcp(probe, talk);
}

}  // namespace

Task<Outcome> examine(Probe& probe) {
    if (auto* exec = std::get_if<config::ExecCheck>(&probe.spec.check))
        co_return co_await check_exec(*exec, probe);
    probe.begin();
    Talk talk(probe);
    Outcome outcome = co_await ask(probe, talk);
    co_await talk.end();
    co_return outcome;
}

}  // namespace proxify::health
