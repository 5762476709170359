// SPDX-License-Identifier: Apache-2.0
#include "cli/ask.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <ostream>
#include <thread>

#include "base/format.h"
#include "cli/show.h"
#include "config/config.h"
#include "http/client.h"

namespace proxify::cli {

namespace {

constexpr Duration patience = 15s;

/// What a proxify says that will not do it.
Error refusal(const http::Response& answer) {
    if (auto trouble = report::from_json<report::Trouble>(answer.body);
        trouble && !trouble->error.empty())
        return Error::of(trouble->error, trouble->hint);
    return Error::of(format("the running proxify answers with status {}", answer.status));
}

/// Of another file than the running one proxify is told what is in it: it may stand anywhere.
Result<http::Request> request_for_plan(const Options& options) {
    http::Request request{
        .method = "POST", .path = "/v1/reload", .query = {{"dry_run", "1"}}, .body = {}};
    if (!options.config_path) return request;
    std::ifstream file(*options.config_path, std::ios::binary);
    request.body.assign(std::istreambuf_iterator<char>(file), {});
    if (!file.good() && request.body.empty())
        return fail(Error::of("cannot read " + *options.config_path, "-c names the file to try"));
    request.query = {{"dry_run", "sent"}, {"name", *options.config_path}};
    return request;
}

Result<http::Request> request_for(const Options& options) {
    const auto& words = options.arguments;
    switch (options.command) {
        case Command::status:
            return http::Request{.path = "/v1/status"};
        case Command::services:
            return http::Request{.path = "/v1/services", .query = options.filters};
        case Command::targets:
            return http::Request{.path = "/v1/targets", .query = options.filters};
        case Command::sessions:
            return http::Request{.path = "/v1/sessions", .query = options.filters};
        case Command::ports:
            return http::Request{.path = "/v1/ports", .query = options.filters};
        case Command::steering:
            return http::Request{.path = "/v1/steering"};
        case Command::explain:
            return http::Request{.path = "/v1/explain",
                                 .query = {{"client", words[0]}, {"destination", words[1]}}};
        case Command::reload: {
            if (options.dry_run) return request_for_plan(options);
            http::Request request{.method = "POST", .path = "/v1/reload"};
            if (options.rollback_if_down)
                request.query["rollback_if_down_ms"] =
                    format("{}", *options.rollback_if_down / 1ms);
            return request;
        }
        case Command::drain:
            return http::Request{
                .method = "POST", .path = "/v1/drain", .query = {{"target", words[0]}}};
        case Command::undrain:
            return http::Request{
                .method = "POST", .path = "/v1/undrain", .query = {{"target", words[0]}}};
        case Command::set_weight:
            return http::Request{.method = "POST",
                                 .path = "/v1/set-weight",
                                 .query = {{"target", words[0]}, {"weight", words[1]}}};
        case Command::kill:
            return http::Request{
                .method = "POST", .path = "/v1/kill", .query = {{"session", words[0]}}};
        default:
            return http::Request{};
    }
}

template <class T>
Result<std::string> text_of(const std::string& body) {
    TRY_TO(value, report::from_json<T>(body));
    if constexpr (std::is_same_v<T, report::Targets>)
        return show(value, std::chrono::duration<double>(
                               std::chrono::system_clock::now().time_since_epoch())
                               .count());
    else
        return show(value);
}

Result<std::string> show_answer(const Options& options, const std::string& body) {
    switch (options.command) {
        case Command::status:
            return text_of<report::Status>(body);
        case Command::services:
            return text_of<report::Services>(body);
        case Command::targets:
            return text_of<report::Targets>(body);
        case Command::sessions:
            return text_of<report::Sessions>(body);
        case Command::ports:
            return text_of<report::Ports>(body);
        case Command::steering:
            return text_of<report::Steering>(body);
        case Command::explain:
            return text_of<report::Explanation>(body);
        case Command::reload:
            return options.dry_run ? text_of<report::Plan>(body) : text_of<report::Reload>(body);
        default:
            return text_of<report::Done>(body);
    }
}

/// Until it is known whether a reload stays.
Result<std::string> await_verdict(const std::string& socket, Duration time, std::string body) {
    const auto until = std::chrono::steady_clock::now() + time + 5s;
    TRY_TO(reload, report::from_json<report::Reload>(body));
    const auto number = reload.number;
    while (reload.state == "watching" && std::chrono::steady_clock::now() < until) {
        std::this_thread::sleep_for(100ms);
        TRY_TO(answer, answer_to(socket, {.path = "/v1/status"}, patience));
        TRY_TO(status, report::from_json<report::Status>(answer));
        reload = status.reload;
        if (reload.number == number) continue;
        reload.state = "replaced";
        reload.text = "another reload came while this one was watched: " + reload.text;
    }
    return report::to_json(reload);
}

bool has_failed(const Options& options, const std::string& body) {
    if (options.command != Command::reload || options.dry_run) return false;
    auto reload = report::from_json<report::Reload>(body);
    constexpr std::string_view failures[] = {"refused", "rolled-back", "replaced", "watching"};
    return !reload || std::ranges::find(failures, reload->state) != std::end(failures);
}

struct Answer {
    std::string text;
    int exit_code;
};

Result<Answer> ask_once(const Options& options, const std::string& socket) {
    TRY_TO(request, request_for(options));
    TRY_TO(body, answer_to(socket, request, patience));
    if (options.rollback_if_down && !options.dry_run) {
        TRY_TO(settled, await_verdict(socket, *options.rollback_if_down, std::move(body)));
        body = std::move(settled);
    }
    const int exit_code = has_failed(options, body) ? exit_failed : exit_done;
    if (options.json) return Answer{std::move(body), exit_code};
    TRY_TO(text, show_answer(options, body));
    return Answer{std::move(text), exit_code};
}

}  // namespace

Result<std::string> socket_of(const Options& options) {
    if (options.socket) return *options.socket;
    if (!options.config_path) return config::Admin{}.socket;
    TRY_TO(config, config::load(options.config()));
    if (config.admin.socket.empty())
        return fail(Error::of(options.config() + " says that there is no admin socket",
                              "name one with --socket, or in [admin]"));
    return config.admin.socket;
}

Result<std::string> answer_to(const std::string& socket, const http::Request& request,
                              Duration limit) {
    TRY_TO(answer, http::ask(socket, request, limit));
    if (answer.status != 200) return fail(refusal(answer));
    return std::move(answer.body);
}

int run_ask(const Options& options, std::ostream& out, std::ostream& err) {
    auto socket = socket_of(options);
    if (!socket) {
        err << socket.error().text() << '\n';
        return exit_failed;
    }
    const bool clears = options.watch && !options.json && isatty(STDOUT_FILENO);
    for (;;) {
        auto answer = ask_once(options, *socket);
        if (!answer) {
            err << answer.error().text() << '\n';
            return exit_failed;
        }
        out << (clears ? "\x1b[H\x1b[2J" : "") << answer->text << std::flush;
        if (!options.watch || !out) return answer->exit_code;
        std::this_thread::sleep_for(*options.watch);
        if (!clears && !options.json) out << '\n';
    }
}

}  // namespace proxify::cli
