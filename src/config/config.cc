// SPDX-License-Identifier: Apache-2.0
// From targets.toml to a Config, in three steps: the text becomes a tree (reader), each section of
// the tree becomes its part of a Draft, and then the draft is judged as a whole: is a port in two
// services, does the default service exist. A wrong value is noted and reading goes on, so that one
// look at the file finds everything. Only a file without a single problem becomes a Config.
#include "config/config.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <unordered_map>

#include "base/fd.h"
#include "base/format.h"
#include "base/nearest.h"
#include "config/problems.h"
#include "config/reader.h"
#include "config/words.h"

namespace proxify::config {
namespace {

/// A service as far as it could be read, and where its parts are written.
struct DraftService {
    Service service;
    std::vector<Position> ports_at;    ///< one for each of service.ports
    std::vector<Position> targets_at;  ///< one for each of service.targets
    Position name_at;
    std::optional<Position> no_ports_at;  ///< nothing is listed, and nothing was misread either
};

struct Draft {
    Config config;  ///< without services and default_service, which come from below
    std::vector<DraftService> services;
    std::optional<Position> listen_at;
    std::string default_service;  ///< empty when not given
    Position default_service_at;
};

// ---- what may be written where

using Keys = std::span<const std::string_view>;

struct Section {
    std::string_view name;  ///< as messages call it
    Keys keys;
    Keys later;  ///< keys that have a meaning in the design, but not yet in the program
};

constexpr std::string_view file_keys[] = {"proxify", "log", "service"};
constexpr std::string_view file_later[] = {"capture"};
constexpr std::string_view proxify_keys[] = {"listen", "default_service", "workers",
                                             "drain_timeout", "resolve_interval"};
constexpr std::string_view log_keys[] = {"format", "level"};
constexpr std::string_view service_keys[] = {"name",   "ports",    "targets", "balance",
                                             "health", "timeouts", "tries",   "relay"};
constexpr std::string_view service_later[] = {"addresses"};
constexpr std::string_view target_keys[] = {"address", "weight", "backup"};
constexpr std::string_view health_keys[] = {"type", "interval", "timeout", "rise", "fall", "port"};
constexpr std::string_view timeouts_keys[] = {"connect", "idle", "half_close"};

constexpr Section file_section{"the file", file_keys, file_later};
constexpr Section proxify_section{"[proxify]", proxify_keys, {}};
constexpr Section log_section{"[log]", log_keys, {}};
constexpr Section service_section{"[[service]]", service_keys, service_later};
constexpr Section target_section{"a target", target_keys, {}};
constexpr Section health_section{"health", health_keys, {}};
constexpr Section timeouts_section{"timeouts", timeouts_keys, {}};

constexpr Section sections[] = {file_section,   proxify_section, log_section,     service_section,
                                target_section, health_section,  timeouts_section};

constexpr std::pair<std::string_view, Balance> balance_words[] = {
    {"round-robin", Balance::round_robin}, {"least-connections", Balance::least_connections},
    {"random", Balance::random},           {"source-hash", Balance::source_hash},
    {"maglev", Balance::maglev},           {"first", Balance::first}};

constexpr Duration year = 24h * 365;

struct Bounds {
    Duration least = 1ms;
    Duration most = year;
};

struct Counts {
    int least, most;
};

// ---- reading sections

class Reading {
  public:
    explicit Reading(Problems& problems) : problems_(problems) {}
    Draft read(const Table& file);

  private:
    void read_proxify(const Table& table);
    void read_log(const Table& table);
    void read_services(const Value& value);
    void read_service(const Value& value, const Table& table);
    std::string read_service_name(const Value& value, const Table& table);
    void read_port_list(const Value& value, DraftService& draft);
    void read_port(const Value& value, DraftService& draft);
    void read_target_list(const Value& value, DraftService& draft);
    void read_one_target(const Value& value, DraftService& draft);
    void read_health(const Value& value, HealthSpec& health);
    void read_timeouts(const Value& value, Timeouts& timeouts);

    /// Complains about every key that `section` does not have.
    void check_keys(const Table& table, const Section& section);
    /// For keys that have one possible word so far.
    void require_word(const Value& value, std::string_view label, std::string_view word);
    /// The table at `key`, or nothing; complains when it is something else.
    const Table* section_at(const Table& parent, std::string_view key);

    // These leave `out` alone when the key is absent or wrong.
    void read_duration_at(const Table&, std::string_view key, std::string_view label, Bounds,
                          Duration& out);
    void read_count_at(const Table&, std::string_view key, std::string_view label, Counts,
                       int& out);
    void read_flag_at(const Table&, std::string_view key, std::string_view label, bool& out);
    bool read_port_number(const Value& value, std::string_view label, uint16_t& out);
    template <class T, size_t n>
    void read_choice_at(const Table&, std::string_view key, std::string_view label,
                        const std::pair<std::string_view, T> (&choices)[n], T& out);

    void expected(const Value& found, std::string_view label, std::string_view what,
                  std::string hint = {});

    Problems& problems_;
    Draft draft_;
};

const Value* find(const Table& table, std::string_view key) {
    auto found = std::ranges::find(table, key, &Member::key);
    return found == table.end() ? nullptr : &found->value;
}

std::string listed(Keys words) {
    std::string out;
    for (auto word : words) out += (out.empty() ? "" : ", ") + std::string(word);
    return out;
}

bool contains(Keys words, std::string_view word) {
    return std::ranges::find(words, word) != words.end();
}

/// A value as a message shows it.
std::string shown(const Value& value) {
    if (auto* truth = value.as<bool>()) return *truth ? "true" : "false";
    if (auto* integer = value.as<int64_t>()) return std::to_string(*integer);
    if (auto* real = value.as<double>()) return format("{}", *real);
    if (auto* string = value.as<std::string>()) return quoted(*string);
    if (auto* array = value.as<Array>()) return array->empty() ? "an empty array" : "an array";
    if (value.as<Table>()) return "a table";
    return "a date or time";
}

/// A value that may stand alone or in an array.
std::span<const Value> one_or_many(const Value& value) {
    if (auto* array = value.as<Array>()) return *array;
    return {&value, 1};
}

Draft Reading::read(const Table& file) {
    check_keys(file, file_section);
    if (auto* table = section_at(file, "proxify")) read_proxify(*table);
    if (auto* table = section_at(file, "log")) read_log(*table);
    if (auto* services = find(file, "service")) read_services(*services);
    return std::move(draft_);
}

void Reading::read_proxify(const Table& table) {
    check_keys(table, proxify_section);
    if (auto* value = find(table, "listen")) {
        if (read_port_number(*value, "listen", draft_.config.listen)) draft_.listen_at = value->at;
    }
    if (auto* value = find(table, "default_service")) {
        auto* name = value->as<std::string>();
        if (!name || name->empty())
            expected(*value, "default_service", "the name of a service");
        else
            draft_.default_service = *name;
        draft_.default_service_at = value->at;
    }
    if (auto* value = find(table, "workers")) {
        auto* word = value->as<std::string>();
        int count = 0;
        if (!word || *word != "auto") {
            read_count_at(table, "workers", "workers", {1, 256}, count);
            if (count > 0) draft_.config.workers = static_cast<size_t>(count);
        }
    }
    read_duration_at(table, "drain_timeout", "drain_timeout", {}, draft_.config.drain);
    read_duration_at(table, "resolve_interval", "resolve_interval", {.least = 100ms},
                     draft_.config.resolve_interval);
}

void Reading::read_log(const Table& table) {
    check_keys(table, log_section);
    static constexpr std::pair<std::string_view, LogFormat> formats[] = {{"text", LogFormat::text},
                                                                         {"json", LogFormat::json}};
    static constexpr std::pair<std::string_view, LogLevel> levels[] = {{"debug", LogLevel::debug},
                                                                       {"info", LogLevel::info},
                                                                       {"warn", LogLevel::warn},
                                                                       {"error", LogLevel::error},
                                                                       {"off", LogLevel::off}};
    read_choice_at(table, "format", "log.format", formats, draft_.config.log.format);
    read_choice_at(table, "level", "log.level", levels, draft_.config.log.level);
}

void Reading::read_services(const Value& value) {
    constexpr auto hint = "begin each service with a line [[service]], in double brackets";
    auto* services = value.as<Array>();
    if (!services) return expected(value, "service", "[[service]] tables", hint);
    draft_.services.reserve(services->size());
    for (const auto& service : *services) {
        if (auto* table = service.as<Table>())
            read_service(service, *table);
        else
            expected(service, "service", "[[service]] tables", hint);
    }
}

void Reading::read_service(const Value& value, const Table& table) {
    check_keys(table, service_section);
    DraftService draft{.name_at = value.at};
    draft.service.name = read_service_name(value, table);
    if (auto* name = find(table, "name")) draft.name_at = name->at;

    if (auto* ports = find(table, "ports"))
        read_port_list(*ports, draft);
    else
        draft.no_ports_at = value.at;

    if (auto* targets = find(table, "targets"))
        read_target_list(*targets, draft);
    else
        problems_.add(value.at, "the service has no targets",
                      R"(add a line like targets = ["10.0.0.1:80"])");

    read_choice_at(table, "balance", "balance", balance_words, draft.service.balance);
    if (auto* health = find(table, "health")) read_health(*health, draft.service.health);
    if (auto* timeouts = find(table, "timeouts")) read_timeouts(*timeouts, draft.service.timeouts);
    read_count_at(table, "tries", "tries", {1, 100}, draft.service.tries);
    constexpr std::pair<std::string_view, RelayMode> modes[] = {{"auto", RelayMode::automatic},
                                                                {"copy", RelayMode::copy}};
    read_choice_at(table, "relay", "relay", modes, draft.service.relay);
    draft_.services.push_back(std::move(draft));
}

std::string Reading::read_service_name(const Value& value, const Table& table) {
    auto* name = find(table, "name");
    if (!name) {
        problems_.add(value.at, "the service has no name", R"(add a line like name = "web")");
        return {};
    }
    auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '.' || c == '-';
    };
    auto* text = name->as<std::string>();
    if (!text || text->empty() || text->size() > 64 || !std::ranges::all_of(*text, fits)) {
        expected(*name, "name", "1 to 64 letters, digits, \"_\", \".\" or \"-\"");
        return {};
    }
    return *text;
}

void Reading::read_port_list(const Value& value, DraftService& draft) {
    auto ports = one_or_many(value);
    if (ports.empty()) draft.no_ports_at = value.at;
    draft.service.ports.reserve(ports.size());
    draft.ports_at.reserve(ports.size());
    for (const auto& port : ports) read_port(port, draft);
}

void Reading::read_port(const Value& value, DraftService& draft) {
    std::optional<PortRange> range;
    if (auto* text = value.as<std::string>()) {
        auto understood = read_ports(*text);
        if (understood)
            range = *understood;
        else
            problems_.add(value.at, "ports: " + understood.error().text, understood.error().hint);
    } else if (auto* number = value.as<int64_t>(); number && *number >= 1 && *number <= 65535) {
        auto port = static_cast<uint16_t>(*number);
        range = PortRange{port, port};
    } else {
        expected(value, "ports", R"(a number from 1 to 65535 or a range like "5300-5399")");
    }
    if (!range) return;
    draft.service.ports.push_back(*range);
    draft.ports_at.push_back(value.at);
}

void Reading::read_target_list(const Value& value, DraftService& draft) {
    auto targets = one_or_many(value);
    if (targets.empty())
        expected(value, "targets", "at least one target", R"(write ["10.0.0.1:80"])");
    for (const auto& target : targets) read_one_target(target, draft);
}

void Reading::read_one_target(const Value& value, DraftService& draft) {
    const Value* address = &value;
    if (auto* table = value.as<Table>()) {
        check_keys(*table, target_section);
        address = find(*table, "address");
        if (!address)
            return problems_.add(value.at, "targets: the target has no address",
                                 R"(write { address = "10.0.0.1:80" })");
    }
    auto* text = address->as<std::string>();
    if (!text) return expected(*address, "targets", R"(a string like "10.0.0.1:80")");
    auto target = read_target(*text);
    if (!target)
        return problems_.add(address->at, "targets: " + target.error().text, target.error().hint);
    if (auto* table = value.as<Table>()) {
        read_count_at(*table, "weight", "weight", {0, 256}, target->weight);
        read_flag_at(*table, "backup", "backup", target->backup);
    }
    draft.service.targets.push_back(std::move(*target));
    draft.targets_at.push_back(address->at);
}

void Reading::read_health(const Value& value, HealthSpec& health) {
    if (auto* enabled = value.as<bool>()) {
        health.enabled = *enabled;
        return;
    }
    auto* table = value.as<Table>();
    if (!table) return expected(value, "health", "false or a table like { interval = \"2s\" }");
    check_keys(*table, health_section);
    if (auto* type = find(*table, "type")) require_word(*type, "health.type", "tcp");
    read_duration_at(*table, "interval", "health.interval", {.least = 10ms}, health.interval);
    read_duration_at(*table, "timeout", "health.timeout", {}, health.timeout);
    read_count_at(*table, "rise", "health.rise", {1, 100}, health.rise);
    read_count_at(*table, "fall", "health.fall", {1, 100}, health.fall);
    uint16_t port = 0;
    if (auto* at = find(*table, "port"); at && read_port_number(*at, "health.port", port))
        health.port = port;
}

void Reading::read_timeouts(const Value& value, Timeouts& timeouts) {
    auto* table = value.as<Table>();
    if (!table) return expected(value, "timeouts", "a table like { connect = \"5s\" }");
    check_keys(*table, timeouts_section);
    read_duration_at(*table, "connect", "timeouts.connect", {}, timeouts.connect);
    read_duration_at(*table, "idle", "timeouts.idle", {}, timeouts.idle);
    read_duration_at(*table, "half_close", "timeouts.half_close", {}, timeouts.half_close);
}

void Reading::check_keys(const Table& table, const Section& section) {
    for (const auto& [key, at, value] : table) {
        if (contains(section.keys, key)) continue;
        if (contains(section.later, key)) {
            problems_.add(at, format("{} is not available in this version", quoted(key)),
                          "take it out for now");
            continue;
        }
        auto home = std::ranges::find_if(
            sections, [&](const Section& other) { return contains(other.keys, key); });
        std::string hint;
        if (auto near = nearest(key, section.keys); !near.empty())
            hint = format("did you mean \"{}\"?", near);
        else if (home != std::end(sections))
            hint = format("\"{}\" belongs in {}", key, home->name);
        else
            hint = format("{} can have {}", section.name, listed(section.keys));
        problems_.add(at, format("unknown key {} in {}", quoted(key), section.name),
                      std::move(hint));
    }
}

const Table* Reading::section_at(const Table& parent, std::string_view key) {
    auto* value = find(parent, key);
    if (!value) return nullptr;
    auto* table = value->as<Table>();
    if (!table)
        expected(*value, key, "a table", format("write a line [{}], in single brackets", key));
    return table;
}

void Reading::read_duration_at(const Table& table, std::string_view key, std::string_view label,
                               Bounds bounds, Duration& out) {
    auto* value = find(table, key);
    if (!value) return;
    auto* text = value->as<std::string>();
    if (!text) {
        auto* number = value->as<int64_t>();
        return expected(
            *value, label, R"(a duration such as "250ms", "5s", "1m30s" or "1h")",
            number && *number > 0 ? format("write \"{}s\" or \"{}ms\"", *number, *number) : "");
    }
    auto duration = read_duration(*text);
    if (!duration)
        return problems_.add(value->at, format("{}: {}", label, duration.error().text),
                             duration.error().hint);
    if (*duration < bounds.least || *duration > bounds.most)
        return expected(*value, label,
                        format("a duration from {} to {} (365 days)", to_text(bounds.least),
                               to_text(bounds.most)));
    out = *duration;
}

void Reading::read_count_at(const Table& table, std::string_view key, std::string_view label,
                            Counts allowed, int& out) {
    auto* value = find(table, key);
    if (!value) return;
    auto* number = value->as<int64_t>();
    if (!number || *number < allowed.least || *number > allowed.most)
        return expected(*value, label,
                        format("a number from {} to {}", allowed.least, allowed.most));
    out = static_cast<int>(*number);
}

void Reading::read_flag_at(const Table& table, std::string_view key, std::string_view label,
                           bool& out) {
    auto* value = find(table, key);
    if (!value) return;
    if (auto* flag = value->as<bool>())
        out = *flag;
    else
        expected(*value, label, "true or false");
}

bool Reading::read_port_number(const Value& value, std::string_view label, uint16_t& out) {
    auto* number = value.as<int64_t>();
    if (!number || *number < 1 || *number > 65535) {
        expected(value, label, "a port number from 1 to 65535");
        return false;
    }
    out = static_cast<uint16_t>(*number);
    return true;
}

template <class T, size_t n>
void Reading::read_choice_at(const Table& table, std::string_view key, std::string_view label,
                             const std::pair<std::string_view, T> (&choices)[n], T& out) {
    auto* value = find(table, key);
    if (!value) return;
    auto* text = value->as<std::string>();
    std::string words;
    for (size_t i = 0; i < n; ++i) {
        auto& [word, meaning] = choices[i];
        if (text && *text == word) {
            out = meaning;
            return;
        }
        words += (i == 0 ? "" : i + 1 == n ? " or " : ", ") + quoted(word);
    }
    expected(*value, label, words);
}

void Reading::require_word(const Value& value, std::string_view label, std::string_view word) {
    auto* text = value.as<std::string>();
    if (!text || *text != word)
        expected(value, label, quoted(word), "nothing else is available in this version");
}

void Reading::expected(const Value& found, std::string_view label, std::string_view what,
                       std::string hint) {
    problems_.add(found.at, format("{}: expected {}, found {}", label, what, shown(found)),
                  std::move(hint));
}

// ---- judging the whole

std::string place(Position at) {
    return format("{}:{}", at.line, at.column);
}

void check_names(const Draft& draft, Problems& problems) {
    std::unordered_map<std::string_view, Position> seen;
    for (const auto& draft_service : draft.services) {
        const auto& name = draft_service.service.name;
        if (name.empty()) continue;  // it was already complained about
        auto [first, is_new] = seen.emplace(name, draft_service.name_at);
        if (!is_new)
            problems.add(draft_service.name_at,
                         format("name: \"{}\" is already the name of the service at {}", name,
                                place(first->second)));
    }
}

void check_default_service(const Draft& draft, Problems& problems) {
    if (draft.default_service.empty()) return;
    std::vector<std::string_view> names;
    for (const auto& draft_service : draft.services) names.push_back(draft_service.service.name);
    if (std::ranges::find(names, draft.default_service) != names.end()) return;
    auto near = nearest(draft.default_service, names);
    problems.add(draft.default_service_at,
                 format("default_service: no service is named {}", quoted(draft.default_service)),
                 near.empty() ? "" : format("did you mean \"{}\"?", near));
}

// Walks over all ports once, remembering who took each. Of an item that clashes only the first
// clashing port is reported, so that two overlapping ranges are one problem and not thousands.
void check_ports(const Draft& draft, Problems& problems) {
    struct Claim {
        const DraftService* by = nullptr;
        Position at;
    };
    std::vector<Claim> claims(65536);
    for (const auto& draft_service : draft.services) {
        const auto& service = draft_service.service;
        for (size_t i = 0; i < service.ports.size(); ++i) {
            auto at = draft_service.ports_at[i];
            for (uint32_t port = service.ports[i].first; port <= service.ports[i].last; ++port) {
                auto& claim = claims[port];
                if (!claim.by) {
                    claim = {&draft_service, at};
                    continue;
                }
                problems.add(
                    at, claim.by == &draft_service
                            ? format("ports: port {} is in this service twice, first at {}", port,
                                     place(claim.at))
                            : format("ports: port {} is already in service \"{}\", at {}", port,
                                     claim.by->service.name, place(claim.at)));
                break;
            }
        }
        if (draft_service.no_ports_at &&
            (service.name.empty() || service.name != draft.default_service))
            problems.add(*draft_service.no_ports_at,
                         "ports: the service has none, so nothing could reach it",
                         "list its ports, or name it as default_service in [proxify]");
    }
    // An unwritten `listen` is judged by check_listener_port(), once it is known that -b is wanted.
    auto& claim = claims[draft.config.listen];
    if (draft.listen_at && claim.by)
        problems.add(
            claim.at,
            format(
                "ports: service \"{}\" lists port {}, which is the listener's own (listen, at {})",
                claim.by->service.name, draft.config.listen, place(*draft.listen_at)),
            "take it out of ports, or choose another `listen`;\n"
            "what arrives at the listener's own port goes to default_service");
}

std::string lower(std::string text) {
    for (char& c : text) {
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    }
    return text;
}

void check_targets(const Draft& draft, Problems& problems) {
    for (const auto& draft_service : draft.services) {
        const auto& service = draft_service.service;
        PortRange highest{};
        for (auto range : service.ports) highest = highest.last < range.last ? range : highest;

        std::unordered_map<std::string, Position> seen;
        for (size_t i = 0; i < service.targets.size(); ++i) {
            const auto& target = service.targets[i];
            auto at = draft_service.targets_at[i];
            auto host = target.ip ? target.ip->text() : lower(target.host);
            auto same =
                format("{} {} {}", host, static_cast<int>(target.port.kind), target.port.value);
            auto [first, is_new] = seen.emplace(std::move(same), at);
            if (!is_new)
                problems.add(at, format("targets: {} is in this service twice, first at {}",
                                        quoted(target.text), place(first->second)));

            bool passes_end = target.port.kind == TargetPort::Kind::offset &&
                              highest.last + target.port.value > 65535;
            if (passes_end)
                problems.add(at, format("targets: {} would lead from port {} to {}, beyond 65535",
                                        quoted(target.text), highest.last,
                                        highest.last + target.port.value));
        }
    }
}

void check_whole(const Draft& draft, Problems& problems) {
    if (draft.services.empty() && problems.empty())
        problems.add({}, "there is no [[service]], so there is nothing to do",
                     "a service looks like this:\n[[service]]\nname = \"web\"\nports = [5001, "
                     "\"5300-5399\"]\ntargets = [\"10.0.0.1:80\"]");
    check_names(draft, problems);
    check_default_service(draft, problems);
    check_ports(draft, problems);
    check_targets(draft, problems);
}

Config to_config(Draft draft) {
    Config config = std::move(draft.config);
    config.services.reserve(draft.services.size());
    for (auto& draft_service : draft.services) {
        if (!draft.default_service.empty() && draft_service.service.name == draft.default_service)
            config.default_service = config.services.size();
        config.services.push_back(std::move(draft_service.service));
    }
    return config;
}

// A megabyte holds 60 000 ports, and 6 MB as many services. The tree of a file takes up to a
// hundred times its size, and a reload must not take the memory that a running proxify needs.
constexpr size_t file_bytes_max = 8 << 20;

Result<std::string> read_file(const std::string& path) {
    auto cannot = "cannot read " + path;
    auto fd = Fd::adopt(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        int error_number = errno;
        bool missing = error_number == ENOENT;
        return fail(Error::from_errno(
            error_number, cannot,
            missing ? "proxify reads ./targets.toml; another file is named with -c FILE" : ""));
    }
    struct stat info{};
    if (::fstat(fd.get(), &info) == 0 && S_ISREG(info.st_mode) &&
        info.st_size > ssize_t{file_bytes_max})
        return fail(Error::of(cannot + ": it is larger than 8 MiB"));

    std::string text;
    while (true) {
        constexpr size_t step = 1 << 16;
        auto had = text.size();
        text.resize(had + step);
        auto got = ::read(fd.get(), text.data() + had, step);
        int error_number = errno;
        text.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
        if (got == 0) return text;
        if (got < 0 && error_number != EINTR) return fail(Error::from_errno(error_number, cannot));
        if (text.size() > file_bytes_max)
            return fail(Error::of(cannot + ": it is larger than 8 MiB"));
    }
}

}  // namespace

Result<Config> load(const std::string& path) {
    TRY_TO(text, read_file(path));
    return parse(text, path);
}

Result<Config> parse(std::string_view text, const std::string& name) {
    TRY_TO(file, read_toml(text, name));
    Problems problems(name);
    auto draft = Reading(problems).read(file);
    check_whole(draft, problems);
    if (!problems.empty()) return fail(std::move(problems).to_error());
    // From here on every value is in its bounds and every reference leads somewhere.
    return to_config(std::move(draft));
}

Result<> check_listener_port(const Config& config, uint16_t listener_port) {
    for (const auto& service : config.services) {
        for (auto range : service.ports) {
            if (listener_port < range.first || listener_port > range.last) continue;
            return fail(
                Error::of(format("service \"{}\" lists port {}, which is the listener's own",
                                 service.name, listener_port),
                          "choose another listener with -p, or take the port out of the service;\n"
                          "what arrives at the listener's own port goes to default_service"));
        }
    }
    return {};
}

}  // namespace proxify::config
