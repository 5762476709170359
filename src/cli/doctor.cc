// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor.h"

#include <unistd.h>

#include <cstdlib>
#include <ostream>
#include <string_view>

#include "doctor/text.h"
#include "report/report.h"

namespace proxify::cli {

/// See no-color.org.
static bool wants_colours() {
    const char* forbidden = std::getenv("NO_COLOR");
    const char* terminal = std::getenv("TERM");
    return isatty(STDOUT_FILENO) && !(forbidden && *forbidden) && terminal &&
           std::string_view(terminal) != "dumb";
}

static std::string as_json(std::span<const doctor::Finding> findings) {
    report::Findings out{.worst = std::string(doctor::to_text(doctor::worst(findings)))};
    for (const auto& one : findings)
        out.findings.push_back(
            {std::string(doctor::to_text(one.severity)), one.topic, one.what, one.remedy});
    return report::to_json(out);
}

int run_doctor(const Options& options, std::ostream& out) {
    const doctor::Start start{
        .steer = options.steer, .listen = options.port, .config_path = options.config_path};
    const auto findings = doctor::diagnose(start);
    if (options.json)
        out << as_json(findings);
    else
        out << doctor::as_text(findings, start, {.colours = wants_colours()});
    switch (doctor::worst(findings)) {
        case doctor::Severity::ok:
        case doctor::Severity::note:
            return exit_done;
        case doctor::Severity::warning:
            return exit_warnings;
        case doctor::Severity::error:
            break;
    }
    return exit_failed;
}

}  // namespace proxify::cli
