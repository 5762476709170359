// SPDX-License-Identifier: Apache-2.0
// The only file of this room that knows nlohmann/json, and where what it throws ends.
#include "report/report.h"

#include <nlohmann/json.hpp>

#include "base/format.h"

using Json = nlohmann::ordered_json;

/// An absent value is null.
template <class T>
struct nlohmann::adl_serializer<std::optional<T>> {
    template <class J>
    static void to_json(J& json, const std::optional<T>& value) {
        if (value)
            json = *value;
        else
            json = nullptr;
    }
    template <class J>
    static void from_json(const J& json, std::optional<T>& value) {
        value = json.is_null() ? std::optional<T>() : json.template get<T>();
    }
};

namespace proxify::report {

// The macro writes both directions for ordered_json when its first argument is this.
#define JSON_FIELD_TO(name) json[#name] = value.name;
#define JSON_FIELD_FROM(name) \
    if (auto found = json.find(#name); found != json.end()) found->get_to(value.name);
#define DESCRIBE(Type, ...)                                                     \
    static void to_json(Json& json, const Type& value) {                        \
        json = Json::object();                                                  \
        NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(JSON_FIELD_TO, __VA_ARGS__))   \
    }                                                                           \
    static void from_json(const Json& json, Type& value) {                      \
        json.get_ref<const Json::object_t&>(); /* throws for anything else */   \
        NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(JSON_FIELD_FROM, __VA_ARGS__)) \
    }                                                                           \
    template <>                                                                 \
    std::string to_json(const Type& value) {                                    \
        return write(value);                                                    \
    }                                                                           \
    template <>                                                                 \
    Result<Type> from_json<Type>(std::string_view text) {                       \
        return read<Type>(text);                                                \
    }

/// Text of clients or files may be no UTF-8: what is not becomes a replacement character.
template <class T>
static std::string write(const T& value) {
    Json json;
    to_json(json, value);
    return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

template <class T>
static Result<T> read(std::string_view text) {
    try {
        auto json = Json::parse(text);
        if (!json.is_object()) return fail(Error::of("the answer is no JSON object"));
        T value;
        from_json(json, value);
        return value;
    } catch (const Json::exception& error) {
        return fail(Error::of(format("the answer cannot be understood: {}", error.what()),
                              "the running proxify may be of another version"));
    }
}

DESCRIBE(Reload, number, at, state, text, warnings)
DESCRIBE(Status, version, pid, started_at, uptime, state, mode, captures, user, config_path,
         listener_port, workers, services, services_down, targets, targets_up, ports, sessions,
         sessions_so_far, log_dropped, is_behind, reload)
DESCRIBE(Element, name, type, direction, chunks, bytes, dropped, changed, closed, failed)
DESCRIBE(Service, name, state, ports, addresses, is_default, balance, when_down, targets,
         targets_up, sessions, sessions_max, waiting, sessions_so_far, failures_so_far,
         bytes_to_target, bytes_to_client, connect_p50, connect_p99, elements)
DESCRIBE(Services, services)
DESCRIBE(Target, service, address, written, state, reason, since, weight, weight_of_file, priority,
         is_backup, sessions, sessions_max, sessions_so_far, failed_connects, bytes_to_target,
         bytes_to_client, connect_mean, checks_good, checks_bad)
DESCRIBE(Targets, targets)
DESCRIBE(Session, id, service, client, original_dst, target, state, age, to_target, to_client,
         worker)
DESCRIBE(Sessions, sessions, matching)
DESCRIBE(Port, ports, service, addresses, origin, shadows)
DESCRIBE(Ports, ports)
DESCRIBE(Counter, name, meaning, value)
DESCRIBE(ServiceCounters, service, counters)
DESCRIBE(Steering, is_on, program_id, link_id, proxy_ports_id, proxy_sock_id, listener_port, ports,
         counters, services, warnings)
DESCRIBE(Change, sign, what, effect)
DESCRIBE(Plan, changes, warnings)
DESCRIBE(Done, text, warnings)
DESCRIBE(Step, stage, finding, decides)
DESCRIBE(Candidate, target, order, states, reason)
DESCRIBE(Explanation, client, destination, steps, candidates, is_one_draw, service, outcome, target,
         client_sees)
DESCRIBE(Finding, severity, topic, what, remedy)
DESCRIBE(Findings, findings, worst)
DESCRIBE(Checked, is_good, error, hint, services, targets, ports, text)
DESCRIBE(Redirect, port, arriving, leaving)
DESCRIBE(Redirects, redirects, mark)
DESCRIBE(Trouble, error, hint)

}  // namespace proxify::report
