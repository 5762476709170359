// SPDX-License-Identifier: Apache-2.0
// Config: targets.toml, checked. A Config that exists is valid as a whole; a file is accepted
// whole or not at all. docs/targets.md describes the file for people.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/direction.h"
#include "base/result.h"
#include "pattern/pattern.h"
#include "scan/scan.h"
#include "tls/context.h"

namespace proxify::config {

/// Ports first..last, both included; 1 <= first <= last <= 65535.
struct PortRange {
    uint16_t first = 0;
    uint16_t last = 0;
    auto operator<=>(const PortRange&) const = default;
};

/// The port of a target: a number, or one that follows the port the client dialled. The target
/// "original" is where the client aimed, address and port; so is "tunnel", by way of the proxify
/// that has the tunnel's port there.
struct TargetPort {
    /// "host:80", "host:*", "host:+1000"
    enum class Kind { fixed, same, offset, original, tunnel };
    Kind kind = Kind::fixed;
    uint16_t value = 0;  ///< the port, unused, what is added, or the tunnel's port

    /// Where a client that dialled `dialled`, a port of the service, goes: the file was checked, so
    /// the sum is a port.
    uint16_t for_dialled(uint16_t dialled) const {
        if (kind == Kind::fixed) return value;
        return static_cast<uint16_t>(dialled + (kind == Kind::offset ? value : 0));
    }
    bool is_original() const { return kind == Kind::original || is_tunnel(); }
    bool is_tunnel() const { return kind == Kind::tunnel; }
    auto operator<=>(const TargetPort&) const = default;
};

/// One entry of `targets`: a literal address, a name that resolves to any number of them, or an SRV
/// name, whose records say port and weight too.
struct TargetSpec {
    std::string text;         ///< as written, "db.internal:9003"
    std::string host;         ///< without brackets and port
    std::optional<Ip> ip;     ///< set when host is a literal address
    TargetPort port;          ///< of an SRV name: nothing
    int weight = 1;           ///< its share of the sessions; 0 for none
    int priority = 0;         ///< lower ones are preferred
    bool backup = false;      ///< for when no other is to be had
    int max_connections = 0;  ///< sessions at once; 0 for no limit
    bool srv = false;         ///< host is "_http._tcp.name.example"
    bool operator==(const TargetSpec&) const = default;
};

/// How a target is chosen; docs/balancing.md describes each.
enum class Balance { round_robin, least_connections, random, source_hash, maglev, first };

/// Statuses first..last of an HTTP answer, both included.
struct StatusRange {
    int first = 200;
    int last = 399;
    bool operator==(const StatusRange&) const = default;
};

/// How a check speaks TLS.
struct TlsSpec {
    std::string name;     ///< of the target, for SNI and `verify`; empty: as the file names it
    bool verify = false;  ///< its certificate must be good; else any will do
    bool operator==(const TlsSpec&) const = default;
};

// The types of checks. Each begins with a TCP connect, but for a program.

struct TcpCheck {
    bool operator==(const TcpCheck&) const = default;
};

struct HttpCheck {
    std::string method = "GET";
    std::string path = "/";
    std::string host;  ///< empty: as the file names the target
    std::vector<StatusRange> statuses{StatusRange{}};
    std::optional<pattern::Pattern> body;  ///< must be found in it
    std::optional<TlsSpec> tls;
    bool operator==(const HttpCheck&) const = default;
};

/// Says something and waits for something; either may be left out.
struct SendCheck {
    std::string send;
    std::string expect;  ///< these bytes must come
    std::optional<pattern::Pattern> expect_pattern;
    bool operator==(const SendCheck&) const = default;
};

struct TlsCheck {
    TlsSpec tls;
    Duration expiry_warning = 14 * 24h;  ///< so long before the certificate ends, and after
    bool operator==(const TlsCheck&) const = default;
};

struct ExecCheck {
    std::vector<std::string> command;  ///< a full path, and arguments
    bool operator==(const ExecCheck&) const = default;
};

using Check = std::variant<TcpCheck, HttpCheck, SendCheck, TlsCheck, ExecCheck>;
/// The index of each.
enum class CheckType { tcp, http, send, tls, exec };

struct HealthSpec {
    bool enabled = true;
    Duration interval = 2s;
    Duration timeout = 1s;
    int rise = 2;                  ///< so many good checks in a row bring a target back
    int fall = 3;                  ///< so many bad ones take it out
    std::optional<uint16_t> port;  ///< checked instead of the target's own
    std::optional<Ip> address;     ///< the same
    std::optional<Duration> fast_interval = {};  ///< while some checks speak against the state
    std::optional<Duration> down_interval = {};  ///< while it is down
    bool initially_up = true;                    ///< before the first check
    int send_proxy = 0;  ///< the version of the PROXY header that comes first; 0 for none
    Check check = {};
    bool operator==(const HealthSpec&) const = default;
};

struct Timeouts {
    Duration connect = 5s;      ///< the budget for all tries of one client together
    Duration idle = 1h;         ///< no byte either way
    Duration half_close = 30s;  ///< the same, once one side has finished sending
    bool operator==(const Timeouts&) const = default;
};

/// What a client gets who may not come in, or who comes while no target is up. Without steering
/// each of them is a reset after the kernel has accepted.
enum class OnDeny { refuse, drop };
enum class WhenDown {
    refuse,  ///< a reset at once, as if nobody listened
    drop,    ///< no answer
    pass,    ///< the kernel looks further: a local listener on the port answers
    accept,  ///< accepted, then reset
};

/// Who may come in. Of the prefixes that hold an address the longest decides; an address that none
/// holds may come in unless something is allowed by name.
struct Access {
    std::vector<Prefix> allow, deny;
    bool operator==(const Access&) const = default;
};

/// For each source: an IPv4 address, or 64 bits of an IPv6 one.
struct Limits {
    int source_sessions = 0;  ///< at a time; 0 for any number
    int source_rate = 0;      ///< new ones in a second; 0 for any number
    bool operator==(const Limits&) const = default;
};

/// What takes a target out for a while because of what real clients met there.
struct Ejection {
    bool enabled = true;
    int failures = 5;      ///< connects of clients in a row
    int early_resets = 0;  ///< connections in a row that it reset before it sent a byte; 0 for any
    Duration time = 10s;   ///< the first one lasts so long, each later one so much longer
    Duration max_time = 5min;
    int max_share = 50;  ///< percent of the service's targets that may be out at once
    bool operator==(const Ejection&) const = default;
};

/// What becomes of the sessions of a target that goes down.
enum class OnDown { keep, reset };

/// Where clients wait for room, when max_connections leaves none.
struct Queue {
    int size = 1000;
    Duration timeout = 5s;
    bool operator==(const Queue&) const = default;
};

/// How bytes move: bulk through a pipe in the kernel, or all of them through buffers of ours.
enum class RelayMode { automatic, copy };

enum class LogFormat { text, json };
enum class LogLevel { debug, info, warn, error, off };

/// What a service may put on its byte streams; docs/elements.md describes each.
enum class ElementType { log, hexdump, count, match, replace, rate, limit_bytes, lua };

/// What becomes of bytes of which an element that failed has not said anything.
enum class OnError { pass, close };

/// What ends what: the session, or the bytes that hold the match.
enum class OnMatch { close, drop };

/// Those who share a rate.
enum class RatePer { session, source, service };

/// One of the `filters` of a service.
struct Element {
    ElementType type = ElementType::count;
    std::string name;                    ///< in logs and metrics; no two of a service have the same
    std::optional<Direction> direction;  ///< that it sees; unset for both
    OnError on_error = OnError::pass;
    uint64_t head = 0;  ///< it sees so many bytes of each way, and no more; 0 for all of them

    LogLevel level = LogLevel::info;       ///< log, hexdump
    std::optional<scan::Pattern> pattern;  ///< match: what is looked for; set for those
    OnMatch on_match = OnMatch::close;
    std::string delimiter;   ///< match: ends what is dropped as one; empty for chunks
    std::string find, with;  ///< replace
    Duration hold = 100ms;   ///< replace, match: how long the beginning of something may wait
    uint64_t bytes = 0;      ///< rate: in a second; limit_bytes: in all
    uint64_t burst = 0;      ///< rate: at once
    RatePer per = RatePer::session;
    std::string script;            ///< lua: its path
    std::string code;              ///< lua: what was read there
    uint64_t memory = 1 << 20;     ///< lua: bytes for each session
    int instructions = 1'000'000;  ///< lua: for each chunk
    bool operator==(const Element&) const = default;
};

/// Answers that are kept, of services whose clients ask once and are answered once.
struct Cache {
    Duration ttl = 10s;
    uint64_t max_request = 4096;      ///< bytes; a longer one is not looked up
    uint64_t max_response = 1 << 20;  ///< bytes; a longer one is not kept
    uint64_t max_size = 64 << 20;     ///< bytes of all that is kept
    std::string delimiter;            ///< ends a request; empty when the client's end does
    Duration request_timeout = 1s;    ///< a request that takes longer is not looked up
    bool operator==(const Cache&) const = default;
};

/// TLS with clients.
struct Tls {
    tls::ServerSettings settings;      ///< with what was read from the files it names
    Duration handshake_timeout = 10s;  ///< also for a PROXY header and what names the service
    int max_handshakes = 0;            ///< at once; 0 for any number
    bool operator==(const Tls&) const = default;
};

/// TLS with targets.
struct TargetTls {
    tls::ClientSettings settings;
    std::string server_name;  ///< empty: as the file names the target
    bool operator==(const TargetTls&) const = default;
};

/// What a target is told about the client, before all else.
struct SendProxy {
    int version = 2;
    struct Tlv {
        uint8_t type = 0;  ///< 0xE0 to 0xEF, which the protocol leaves to whoever wants them
        std::string value;
        bool operator==(const Tlv&) const = default;
    };
    std::vector<Tlv> tlvs;   ///< of version 2, as written
    bool unique_id = false;  ///< of version 2: the session's number
    bool tls = false;        ///< of version 2: what was agreed on with the client
    bool operator==(const SendProxy&) const = default;
};

inline constexpr int weight_max = 256;

/// A client who has met so many dead targets is better told than kept.
inline constexpr int tries_max = 16;

struct Service {
    std::string name;
    std::vector<PortRange> ports;   ///< as written; may be empty when it is the default_service
    std::vector<Prefix> addresses;  ///< local ones that it is dialled at; none for all
    std::vector<TargetSpec> targets;
    Balance balance = Balance::round_robin;
    HealthSpec health;
    Timeouts timeouts;
    int max_connections = 0;  ///< sessions at once, of all targets together; 0 for no limit
    Queue queue;
    Duration slow_start{};        ///< how long a target that came back gets less than its share
    int hash_balance_factor = 0;  ///< percent of the average that a target may have; 0 for any
    Ejection ejection;
    int panic = 0;  ///< below so many percent of targets up, all are used; 0 for never
    OnDown on_down = OnDown::keep;
    int tries = 3;  ///< targets tried for one client before it is refused
    RelayMode relay = RelayMode::automatic;
    WhenDown when_down = WhenDown::refuse;
    Access access;
    OnDeny on_deny = OnDeny::refuse;
    Limits limits;
    bool count_ports = false;      ///< the kernel counts connections for each of its ports
    bool transparent = false;      ///< targets are dialled from the client's own address
    std::vector<Element> filters;  ///< in the order of the way to the target
    uint64_t chunk_size = 4096;    ///< the most bytes that an element is shown at once
    std::optional<Cache> cache;
    std::optional<Tls> tls;
    std::optional<TargetTls> target_tls;
    std::vector<Prefix> accept_proxy;  ///< from whom a PROXY header comes first
    std::optional<SendProxy> send_proxy;
    /// Of services that share a port: the names that clients ask for in their TLS hello, "*.x.y"
    /// for any one label more; none for those whose name no other has.
    std::vector<std::string> sni;

    size_t port_count() const {
        size_t count = 0;
        for (auto [first, last] : ports) count += last - first + 1u;
        return count;
    }
    /// Its clients go where they aimed; other targets are for those of whom that is unknown.
    bool goes_to_original() const {
        for (const auto& target : targets)
            if (target.port.is_original()) return true;
        return false;
    }
    bool goes_through_tunnel() const {
        for (const auto& target : targets)
            if (target.port.is_tunnel()) return true;
        return false;
    }
    bool has_one_port() const { return ports.size() == 1 && ports[0].first == ports[0].last; }
    bool operator==(const Service&) const = default;
};

/// Ways for connections to arrive, beside ports that proxify steers or listens on;
/// docs/captures.md describes each.
enum class CaptureType { connect, ingress, redirect, tproxy, tunnel };

/// Where a client may want to go.
struct Destination {
    Prefix prefix;
    uint16_t port = 0;  ///< 0 for any
    auto operator<=>(const Destination&) const = default;
};

struct ContainerSpec {
    std::string name;   ///< or the beginning of its id
    uint16_t port = 0;  ///< 0 for any
    bool operator==(const ContainerSpec&) const = default;
};

/// How programs are hooked to an interface: links that end with the process, or filters of a clsact
/// qdisc, as kernels before 6.6 have them.
enum class TcHook { automatic, tcx, clsact };

struct Capture {
    CaptureType type = CaptureType::redirect;
    std::string service;  ///< empty: whose the port is that was aimed at, or the default service
    /// Where proxify takes the connections; none when somebody else's proxy does.
    std::vector<uint16_t> listen;
    std::optional<Ip> address;  ///< of connect and tunnel: only there; of connect one of loopback

    // Of connect.
    std::vector<Destination> destinations;  ///< with `containers`; none of both for all
    std::vector<ContainerSpec> containers;
    std::vector<ContainerSpec> from_containers;  ///< only what these dial
    std::string cgroup;                          ///< only what is dialled in it; empty for all
    std::vector<std::string> exempt_cgroups;
    std::optional<Address> proxy;  ///< gets the connections instead of proxify
    bool only_watch = false;       ///< nobody gets them; they are seen
    bool events = false;           ///< a log line for each
    Duration report_every{};       ///< 0 for never
    std::string runtime = "docker";

    // Of ingress.
    std::vector<PortRange> ports;     ///< that are dialled
    std::optional<uint16_t> to_port;  ///< of somebody else's proxy on this host, instead of proxify
    std::vector<std::string> interfaces;  ///< none for all but loopback
    TcHook hook = TcHook::automatic;

    bool operator==(const Capture&) const = default;
};

/// What becomes of a client when nobody listens at the tunnel's port where it goes.
enum class Fallback { refuse, plain };

/// The tunnel to the proxifys of other hosts, both ends of it; docs/mesh.md.
struct Tunnel {
    tls::Identity identity;                  ///< shown to every other end
    tls::Pem ca;                             ///< who vouches for every other end
    uint16_t port = 18001;                   ///< dialled at the address that a client aimed at
    std::optional<Ip> address;               ///< dialled instead of that address
    std::string server_name;                 ///< of every far end; empty: the address dialled
    std::vector<std::string> allowed_names;  ///< see tls::ServerSettings
    std::vector<PortRange> ports;            ///< of this host that others may reach; none for all
    Fallback fallback = Fallback::refuse;
    int max_hops = 4;  ///< tunnels that a connection may come through, one behind the other
    bool operator==(const Tunnel&) const = default;

    bool may_reach(uint16_t port_here) const;
    tls::ServerSettings server_settings() const;
    tls::ClientSettings client_settings() const;
};

struct Log {
    LogFormat format = LogFormat::text;
    LogLevel level = LogLevel::info;
    bool operator==(const Log&) const = default;
};

/// How operators reach a running proxify.
struct Admin {
    std::string socket = "/run/proxify/admin.sock";  ///< a full path; empty for none
    std::string group;                               ///< whose members may use it; empty for none
    std::optional<Address> http;                     ///< reads only; for metrics
    bool operator==(const Admin&) const = default;
};

struct Config {
    uint16_t listen = 8080;                 ///< the steering listener's port; -p overrides it
    std::optional<size_t> default_service;  ///< index into services
    std::optional<size_t> workers;          ///< threads that carry connections; unset: one a core
    Duration drain = 10s;                   ///< how long sessions may finish after SIGTERM
    Duration resolve_interval = 30s;        ///< how often names are resolved again
    std::string user;   ///< whom proxify becomes once it has started; empty: it stays who it is
    std::string group;  ///< its group; empty: the user's own
    /// What sockets that dial are marked with, while there are captures, and which bits of a mark
    /// count: so that no door catches what proxify itself dials.
    uint32_t mark = 0x2035;
    uint32_t mark_mask = 0xffffffff;
    Log log;
    Admin admin;
    Access access;  ///< of all services, beside their own
    std::vector<Service> services;
    std::vector<Capture> captures;
    std::optional<Tunnel> tunnel;
    bool operator==(const Config&) const = default;
};

/// Reads and checks a file. Errors name file, line, column, what was expected and what to write.
Result<Config> load(const std::string& path);

/// The same for text that is already here; `name` stands for the file in errors, and scripts are
/// looked for beside it. Only regular files are read as scripts, so it never waits.
Result<Config> parse(std::string_view text, const std::string& name);

/// With -b, the listener's own port leads to the default service, so no service may list it. Not
/// part of parse(): without -b there is no such listener, and -p may move it.
Result<> check_listener_port(const Config& config, uint16_t listener_port);

/// The ports on which captures take connections, and the type of each.
std::map<uint16_t, CaptureType> capture_listeners(const Config& config);

/// Of these ports, those that are to be had at one address only.
std::map<uint16_t, Ip> capture_addresses(const Config& config);

/// The settings of a service in words, one for each label, but for its ports and targets; those
/// that are as usual are left out.
using Settings = std::vector<std::pair<std::string, std::string>>;
Settings settings_of(const Service& service);

/// Every file with certificates, keys or lists of revoked ones that was read.
std::vector<const tls::Pem*> pems_of(const Config& config);

/// "match \"secret\", close", "cap: rate 1MiB/s per source, 100KiB at once"
std::string describe(const Element& element);
/// "answers for 10s, 64MiB in all"
std::string describe(const Cache& cache);

/// Neighbours joined, in rising order: 5001, 5002, "5003-5005" is 5001-5005.
std::vector<PortRange> joined(std::vector<PortRange> ranges);

/// What would run, for a person: `proxify check` prints it.
std::string describe(const Config& config);

}  // namespace proxify::config
