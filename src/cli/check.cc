// SPDX-License-Identifier: Apache-2.0
#include "cli/check.h"

#include <ostream>

#include "config/config.h"
#include "report/report.h"

namespace proxify::cli {

static Result<config::Config> load_as_run_would(const Options& options) {
    TRY_TO(config, config::load(options.config()));
    config.listen = options.port.value_or(config.listen);
    if (options.steer) TRY(config::check_listener_port(config, config.listen));
    return config;
}

static report::Checked checked(const Result<config::Config>& config) {
    if (!config) {
        std::string what = config.error().what;
        for (const auto& cause : config.error().causes) what += "\n" + cause;
        return {.error = what, .hint = config.error().hint};
    }
    report::Checked out{.is_good = true,
                        .error = {},
                        .hint = {},
                        .services = config->services.size(),
                        .text = config::describe(*config)};
    for (const auto& service : config->services) {
        out.targets += service.targets.size();
        out.ports += service.port_count();
    }
    return out;
}

int run_check(const Options& options, std::ostream& out, std::ostream& err) {
    auto config = load_as_run_would(options);
    if (options.json) {
        out << report::to_json(checked(config));
        return config ? exit_done : exit_failed;
    }
    if (!config) {
        err << config.error().text() << '\n';
        return exit_failed;
    }
    out << config::describe(*config);
    return exit_done;
}

}  // namespace proxify::cli
