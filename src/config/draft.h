// SPDX-License-Identifier: Apache-2.0
// Draft: what a file says as far as it could be read, and where each part is written, so that
// judge() can point at it. Only a draft without a single problem becomes a Config.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/problems.h"
#include "config/reader.h"

namespace proxify::config {

/// Where each prefix of an Access is written.
struct AccessAt {
    std::vector<Position> allow, deny;
};

struct DraftService {
    Service service;
    std::vector<Position> ports_at;    ///< one for each of service.ports
    std::vector<Position> targets_at;  ///< one for each of service.targets
    std::vector<Position> addresses_at;
    AccessAt access_at;
    std::vector<Position> filters_at;  ///< one for each of service.filters
    Position tls_at, target_tls_at;
    std::vector<Position> sni_at;  ///< one for each of service.sni
    Position name_at;
    std::optional<Position> no_ports_at;  ///< nothing is listed, and nothing was misread either
};

struct DraftCapture {
    Capture capture;
    Position at;
    Position service_at;
    std::optional<Position> listen_at;  ///< or to_port
    std::vector<Position> ports_at;     ///< one for each of capture.ports
};

struct Draft {
    Config config;  ///< without services and default_service, which come from below
    std::vector<DraftService> services;
    std::vector<DraftCapture> captures;
    std::optional<Position> listen_at;
    AccessAt access_at;
    std::string default_service;  ///< empty when not given
    std::optional<Position> tunnel_at;
    Position default_service_at;
};

// Each reads one part of the file. What is wrong is noted in `problems`, and reading goes on.

Draft read_file_sections(const Table& file, Problems& problems);
DraftService read_service(const Value& value, const Table& table, Problems& problems);
DraftCapture read_capture(const Value& value, const Table& table, Problems& problems);
void read_filters(const Value& value, DraftService& draft, Problems& problems);
void read_tls(const Value& value, DraftService& draft, Problems& problems);
void read_target_tls(const Value& value, DraftService& draft, Problems& problems);
void read_tunnel(const Table& table, Draft& draft, Problems& problems);
void read_cache(const Value& value, Service& service, Problems& problems);
class Fields;
/// accept_proxy and send_proxy, and whether checks begin with a header too; after all else.
void read_proxy(Fields& fields, Service& service, Problems& problems);
void read_target_list(const Value& value, DraftService& draft, Problems& problems);
/// The keys in `health` that belong to one type of check, whose table is at `at`.
void read_check(CheckType type, Position at, Fields& fields, HealthSpec& health);
void read_health(const Value& value, HealthSpec& health, Problems& problems);

/// Judges the draft as a whole: is a port in two services, does the default service exist.
void judge(const Draft& draft, Problems& problems);

}  // namespace proxify::config
