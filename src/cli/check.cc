// SPDX-License-Identifier: Apache-2.0
#include "cli/check.h"

#include <ostream>

#include "config/config.h"

namespace proxify::cli {

static Result<config::Config> load_as_run_would(const Options& options) {
    TRY_TO(config, config::load(options.config()));
    config.listen = options.port.value_or(config.listen);
    if (options.steer) TRY(config::check_listener_port(config, config.listen));
    return config;
}

int run_check(const Options& options, std::ostream& out, std::ostream& err) {
    auto config = load_as_run_would(options);
    if (!config) {
        err << config.error().text() << '\n';
        return exit_failed;
    }
    out << config::describe(*config);
    return exit_done;
}

}  // namespace proxify::cli
