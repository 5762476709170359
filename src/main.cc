// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/ask.h"
#include "cli/cert.h"
#include "cli/check.h"
#include "cli/completion.h"
#include "cli/doctor.h"
#include "cli/doors.h"
#include "cli/options.h"
#include "cli/rules.h"
#include "cli/top.h"
#include "config/config.h"
#include "control/server.h"
#include "intercept/interceptor.h"
#include "kernel/cgroups.h"

using namespace proxify;

/// Who types the name of a container that is not there wants to hear so. A proxify that runs all
/// the time waits until it is.
static Result<> find_containers(const std::string& text) {
    TRY_TO(config, config::parse(text, "the command line"));
    for (const auto& capture : config.captures) TRY(intercept::check_containers(capture));
    return {};
}

/// A mesh is for those who are here, in this cgroup as in this network namespace, unless another
/// scope is named: that of the whole host has to be asked for.
static Result<> find_scope(cli::Options& options) {
    if (options.filters.contains("cgroup") || options.lists.contains("cidr")) return {};
    TRY_TO(root, kernel::cgroup2_root());
    options.filters["cgroup"] = kernel::cgroup_of(getpid(), root).value_or(root);
    return {};
}

static int run(cli::Options options) {
    if (options.command == cli::Options::Command::mesh)
        if (auto found = find_scope(options); !found) {
            std::cerr << found.error().text() << '\n';
            return cli::exit_failed;
        }
    std::optional<std::string> text;
    if (cli::makes_config(options.command)) {
        auto made = cli::config_text(options);
        if (!made) {
            std::cerr << made.error().text() << '\n';
            return cli::exit_usage;
        }
        text = std::move(*made);
        if (auto found = find_containers(*text); !found) {
            std::cerr << found.error().text() << '\n';
            return cli::exit_failed;
        }
    }
    auto server = control::Server::open({.steer = options.steer,
                                         .config_path = options.config(),
                                         .config_text = std::move(text),
                                         .listen = options.port,
                                         .socket = options.socket,
                                         .version = std::string(cli::version())});
    if (!server) {
        std::cerr << server.error().text() << '\n';
        return cli::exit_failed;
    }
    (*server)->run();
    return cli::exit_done;
}

int main(int argc, char** argv) {
    auto options = cli::parse_options(argc, argv);
    if (!options) {
        std::cerr << options.error().text() << '\n';
        return cli::exit_usage;
    }
    switch (options->command) {
        case cli::Options::Command::help:
            std::cout << cli::help_text();
            return cli::exit_done;
        case cli::Options::Command::version:
            std::cout << cli::version_text();
            return cli::exit_done;
        case cli::Options::Command::check:
            return cli::run_check(*options, std::cout, std::cerr);
        case cli::Options::Command::doctor:
            return cli::run_doctor(*options, std::cout);
        case cli::Options::Command::cert:
            return cli::run_cert(*options, std::cout, std::cerr);
        case cli::Options::Command::completion:
            return cli::run_completion(*options, std::cout, std::cerr);
        case cli::Options::Command::top:
            return cli::run_top(*options, std::cerr);
        case cli::Options::Command::run:
        case cli::Options::Command::intercept:
        case cli::Options::Command::ingress:
        case cli::Options::Command::mesh:
            return run(*options);
        case cli::Options::Command::redirect:
            return cli::is_rules(*options) ? cli::run_rules(*options, std::cout, std::cerr)
                                           : run(*options);
        default:
            return cli::run_ask(*options, std::cout, std::cerr);
    }
}
