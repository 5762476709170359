// SPDX-License-Identifier: Apache-2.0
// Snapshot: the configuration as the workers see it, immutable once published. A session keeps the
// service it was born under, so a reload changes nothing for a connection in mid-life.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "access/list.h"
#include "access/sources.h"
#include "balance/pool.h"
#include "base/clock.h"
#include "base/endpoint.h"
#include "base/prefix_map.h"
#include "cache/store.h"
#include "config/config.h"
#include "routing/names.h"
#include "routing/orders.h"
#include "stats/ports.h"
#include "stats/service.h"
#include "tls/context.h"

namespace proxify::filter {
class Filters;
}

namespace proxify::routing {

/// The tunnel to other hosts, both ends of it.
struct Tunnel {
    config::Tunnel spec;
    tls::ServerContext server;
    tls::ClientContext client;
    std::shared_ptr<const access::List> common_list = {};  ///< of all services; may be null
    /// Of those who are about to come in by it.
    std::shared_ptr<std::atomic<int>> handshakes = std::make_shared<std::atomic<int>>(0);
};

/// One service at work: its configuration, its targets and its guards.
struct Service {
    std::string name;
    config::Service spec;
    balance::Pool pool;
    std::vector<std::string> hosts;        ///< of each target of the pool: as the file names it
    std::vector<balance::Member> members;  ///< the same: how it takes part, by the file alone
    /// Targets that have left, for as long as sessions hold them: one that returns is the same.
    std::vector<std::weak_ptr<balance::Target>> left = {};
    std::shared_ptr<const access::List> common_list = {};  ///< of all services; may be null
    std::shared_ptr<const access::List> own_list = {};     ///< may be null
    std::shared_ptr<access::Sources> sources = {};         ///< null when it has no limits
    std::shared_ptr<stats::Service> stats = {};
    /// Clients with a certificate, for each of tls.allowed_names.
    std::vector<std::shared_ptr<stats::Counter>> allowed_clients = {};
    std::shared_ptr<stats::Ports> port_stats = {};        ///< null unless count_ports asks for it
    std::shared_ptr<const filter::Filters> filters = {};  ///< null when it has none
    std::shared_ptr<cache::Store> cache = {};             ///< null when it keeps no answers
    std::optional<tls::ServerContext> tls = {};           ///< with clients, if so
    std::optional<tls::ClientContext> target_tls = {};    ///< with targets, if so
    /// Clients whose TLS handshake is under way, those of earlier configurations too; see `tls`.
    std::shared_ptr<std::atomic<int>> handshakes = {};
    std::shared_ptr<const Tunnel> tunnel = {};  ///< null unless it goes through it
    /// Set for what is no service but the way to some: they are told apart by the name that a
    /// client asks for, and this has no name, no targets and nothing to count.
    std::shared_ptr<const Names> names = {};

    /// Something comes before the client's own bytes.
    bool greets() const { return tls || !spec.accept_proxy.empty() || names; }
    /// Something goes to a target before them.
    bool introduces() const { return tunnel || target_tls || spec.send_proxy; }

    /// Of one of its targets: as the file names it.
    const std::string& host_of(const balance::Target& target) const {
        size_t at = 0;
        while (pool.targets()[at].get() != &target) ++at;
        return hosts[at];
    }
    /// Whoever connects from here says first, in a PROXY header, whom it carries.
    bool takes_header_from(const Ip& source) const {
        return std::ranges::any_of(spec.accept_proxy,
                                   [&](const Prefix& prefix) { return prefix.contains(source); });
    }
    bool admits(const Ip& client) const {
        return (!common_list || common_list->admits(client)) &&
               (!own_list || own_list->admits(client));
    }
    /// What each source may have of what is counted here. With steering the kernel counts how often
    /// a source connects, but on `uncounted_port`, the listener's own, and where PROXY headers name
    /// clients; without, it is unset.
    access::SourceLimits limits_at(uint16_t dialled_port,
                                   std::optional<uint16_t> uncounted_port) const;
};

/// Where a connection goes, and how that was found.
struct Route {
    enum class By {
        listed,     ///< the service has the port, and the dialled address
        retired,    ///< it had, until a moment ago
        otherwise,  ///< the default service, if there is one
        nobody,     ///< no service
    };
    std::shared_ptr<const Service> service = {};  ///< may be null, or lead further: see `names`
    By by = By::nobody;
};

class Snapshot {
  public:
    /// What a name leads to now; a literal address leads to itself without asking.
    using Resolve = std::function<std::vector<Endpoint>(const std::string& host)>;

    /// Targets that `before` knows under the same service and address are kept, with all
    /// that was learnt about them, and so is the line of each service; what they are limited to
    /// changes at once, also for sessions of `before`. Weights are as `orders` say. Ports that
    /// `before` had and `config` has not are retired.
    static std::shared_ptr<const Snapshot> build(config::Config config, const Resolve& resolve,
                                                 const Snapshot* before, Time now,
                                                 const Orders& orders = {});

    /// The service of a connection that has come in. Steered ones may also be for ports that are in
    /// no file: `is_added_by_hand` says whether somebody put this one into proxy_ports, and is
    /// asked for retired ports only.
    Route route(const Address& dialled, bool is_steered, Time now,
                const std::function<bool(uint16_t port)>& is_added_by_hand) const;

    /// The same for a connection that a capture took, at our listener on `listener_port`: the
    /// service that the capture names, else whose the port is that was aimed at.
    Route route_captured(uint16_t listener_port, const Address& original_dst, Time now) const;

    /// The service for what a client dialled; null when there is none. Of those that share a port
    /// the one with the longest prefix around the address, else the one without addresses. Where
    /// names decide, it is what leads on to the services.
    const std::shared_ptr<const Service>& find(const Address& dialled) const {
        return by_number_[by_address_.empty() ? route_[dialled.port] : number_of(dialled)];
    }
    /// Whether any service has the port, be it at other addresses.
    bool has_port(uint16_t port) const { return route_[port] != 0 || by_address_.contains(port); }

    /// The service that this belonged to until a moment ago: a client whose connection
    /// was still in the accept queue when its port, or that address of it, was removed keeps what
    /// it aimed at.
    std::shared_ptr<const Service> find_retired(const Address& dialled, Time now) const;

    /// For the listener's own port and for ports that people added by hand.
    const std::shared_ptr<const Service>& default_service() const { return default_; }

    /// What is counted for clients without a service; the same through reloads.
    const std::shared_ptr<stats::Service>& unserved() const { return unserved_; }

    /// Null when there is none.
    const std::shared_ptr<const Tunnel>& tunnel() const { return tunnel_; }

    const config::Config& config() const { return config_; }
    /// All services; the first is null.
    const std::vector<std::shared_ptr<const Service>>& services() const { return services_; }
    size_t port_count() const { return port_count_; }

    /// Longer than a SYN can wait for its handshake and its place in the queue.
    static constexpr Duration retirement = 2min;

  private:
    /// The services of a port that has some at certain addresses only, as they were.
    struct Retired {
        PrefixMap<std::shared_ptr<const Service>> services;
        Time until;
    };
    class Sets;
    void add_routes();
    uint32_t add_names(std::vector<std::shared_ptr<const Service>> services);
    std::shared_ptr<const Service> way_to(const std::shared_ptr<const Service>& service);
    void retire(const Snapshot& before, Time until);
    void retire_captures(const Snapshot& before, const config::Config& config, Time now);
    uint32_t number_of(const Address& dialled) const;

    config::Config config_;
    std::vector<std::shared_ptr<const Service>> services_;
    /// The same, and then what leads to those that are told apart by names.
    std::vector<std::shared_ptr<const Service>> by_number_;
    std::array<uint32_t, 65536> route_{};  ///< index into by_number_, for all addresses; 0: none
    /// The same for ports that have services at certain addresses: what is written, and by address.
    std::unordered_map<uint16_t, std::vector<PrefixMap<uint32_t>::Entry>> written_;
    std::unordered_map<uint16_t, PrefixMap<uint32_t>> by_address_;
    std::shared_ptr<const Service> default_;
    std::shared_ptr<const Service> otherwise_;  ///< the same, or what leads to it
    /// By port of the listener: captures that name a service.
    std::unordered_map<uint16_t, std::shared_ptr<const Service>> captured_;
    /// The same for captures that are gone: clients may still wait at their listeners.
    struct Gone {
        std::shared_ptr<const Service> service;
        Time until;
    };
    std::unordered_map<uint16_t, Gone> captured_before_;
    std::shared_ptr<const Tunnel> tunnel_;
    std::shared_ptr<const access::List> common_list_;
    std::shared_ptr<stats::Service> unserved_;
    std::map<uint16_t, Retired> retired_;
    size_t port_count_ = 0;
};

}  // namespace proxify::routing
