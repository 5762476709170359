// SPDX-License-Identifier: Apache-2.0
// The words that targets.toml has for choices, for those who read them and those who print them.
#pragma once

#include <string_view>
#include <utility>

#include "config/config.h"

namespace proxify::config {

template <class T>
using Name = std::pair<std::string_view, T>;

inline constexpr Name<Balance> balance_names[] = {
    {"round-robin", Balance::round_robin}, {"least-connections", Balance::least_connections},
    {"random", Balance::random},           {"source-hash", Balance::source_hash},
    {"maglev", Balance::maglev},           {"first", Balance::first}};

inline constexpr Name<CheckType> check_type_names[] = {{"tcp", CheckType::tcp},
                                                       {"http", CheckType::http},
                                                       {"send", CheckType::send},
                                                       {"tls", CheckType::tls},
                                                       {"exec", CheckType::exec}};

/// What a target counts as before it was checked.
inline constexpr Name<bool> initial_names[] = {{"up", true}, {"down", false}};

inline constexpr Name<int> proxy_version_names[] = {{"v1", 1}, {"v2", 2}};

inline constexpr Name<RelayMode> relay_names[] = {{"auto", RelayMode::automatic},
                                                  {"copy", RelayMode::copy}};

inline constexpr Name<ElementType> element_type_names[] = {
    {"log", ElementType::log},
    {"hexdump", ElementType::hexdump},
    {"count", ElementType::count},
    {"match", ElementType::match},
    {"replace", ElementType::replace},
    {"rate", ElementType::rate},
    {"limit_bytes", ElementType::limit_bytes},
    {"lua", ElementType::lua}};

inline constexpr Name<std::optional<Direction>> direction_names[] = {
    {"both", std::nullopt},
    {"to_target", Direction::to_target},
    {"to_client", Direction::to_client}};

inline constexpr Name<OnError> on_error_names[] = {{"pass", OnError::pass},
                                                   {"close", OnError::close}};

inline constexpr Name<OnMatch> on_match_names[] = {{"close", OnMatch::close},
                                                   {"drop", OnMatch::drop}};

inline constexpr Name<RatePer> rate_per_names[] = {
    {"session", RatePer::session}, {"source", RatePer::source}, {"service", RatePer::service}};

inline constexpr Name<WhenDown> when_down_names[] = {{"refuse", WhenDown::refuse},
                                                     {"drop", WhenDown::drop},
                                                     {"pass", WhenDown::pass},
                                                     {"accept", WhenDown::accept}};

inline constexpr Name<OnDeny> on_deny_names[] = {{"refuse", OnDeny::refuse},
                                                 {"drop", OnDeny::drop}};

inline constexpr Name<OnDown> on_down_names[] = {{"keep", OnDown::keep}, {"reset", OnDown::reset}};

inline constexpr Name<CaptureType> capture_type_names[] = {{"connect", CaptureType::connect},
                                                           {"ingress", CaptureType::ingress},
                                                           {"redirect", CaptureType::redirect},
                                                           {"tproxy", CaptureType::tproxy},
                                                           {"tunnel", CaptureType::tunnel}};

inline constexpr Name<Fallback> fallback_names[] = {{"refuse", Fallback::refuse},
                                                    {"plain", Fallback::plain}};

inline constexpr Name<TcHook> tc_hook_names[] = {
    {"auto", TcHook::automatic}, {"tcx", TcHook::tcx}, {"clsact", TcHook::clsact}};

inline constexpr Name<LogFormat> log_format_names[] = {{"text", LogFormat::text},
                                                       {"json", LogFormat::json}};

inline constexpr Name<LogLevel> log_level_names[] = {{"debug", LogLevel::debug},
                                                     {"info", LogLevel::info},
                                                     {"warn", LogLevel::warn},
                                                     {"error", LogLevel::error},
                                                     {"off", LogLevel::off}};

template <class T, size_t n>
constexpr std::string_view name_of(T value, const Name<T> (&names)[n]) {
    for (const auto& [name, meaning] : names)
        if (meaning == value) return name;
    return {};
}

}  // namespace proxify::config
