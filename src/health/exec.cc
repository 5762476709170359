// SPDX-License-Identifier: Apache-2.0
// A program of the operator's own says whether a target is up: its exit status 0 says yes.
#include <cstring>

#include "base/format.h"
#include "health/checks.h"
#include "io/host.h"

namespace proxify::health {

using namespace io;

std::vector<std::string> environment_of(const Subject& subject) {
    return {"PROXIFY_SERVICE=" + subject.service, "PROXIFY_TARGET=" + subject.address.text(),
            "PROXIFY_ADDRESS=" + subject.address.ip.text(),
            format("PROXIFY_PORT={}", subject.address.port)};
}

Task<Outcome> check_exec(const config::ExecCheck& check, Probe& probe) {
    // Its time runs when it does, not while it waits for others.
    Turnstile::Visit visit(probe.common.programs);
    probe.interrupt = [&] { visit.give_up(); };
    bool is_in = co_await visit.enter();
    probe.interrupt = nullptr;
    if (!is_in) co_return failed_with(ECANCELED, probe);

    std::optional<Child> program;
    probe.begin();
    int error = Child::start(check.command, environment_of(probe.subject), program);
    if (dial::ran_out(error) || error == EAGAIN) co_return failed_with(error, probe);
    if (error)
        co_return Outcome::bad(
            format("check failed: cannot start {}: {}", check.command[0], std::strerror(error)));

    Readable ended(probe.common.loop, program->ended());
    probe.interrupt = [&] { program->kill(); };
    co_await ended;
    probe.interrupt = nullptr;
    auto [status, signal] = program->reap();
    if (probe.ended()) co_return failed_with(probe.ended(), probe);
    if (signal) co_return Outcome::bad(format("check failed: signal {}", signal));
    if (status) co_return Outcome::bad(format("check failed: exit status {}", status));
    co_return Outcome::good();
}

}  // namespace proxify::health
