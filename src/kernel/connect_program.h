// SPDX-License-Identifier: Apache-2.0
// ConnectProgram: bpf/connect.bpf.c and its maps, in the kernel for as long as this object lives.
// It captures what programs of one cgroup dial, and sends it to a proxy.
//
// Nothing is pinned, so a proxify that was killed leaves nothing behind. Every call is a plain
// system call on a descriptor and waits for nobody; those that change maps, and
// take_original_dst(), may come from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/result.h"
#include "kernel/steering_program.h"

struct bpf_link;
struct bpf_program;
struct connect;  // the generated skeleton
struct ring_buffer;

namespace proxify::kernel {

/// Which hooks are there: one that nobody needs costs every socket call of the cgroup.
struct ConnectHooks {
    bool redirects = false;          ///< else connections are only seen
    bool has_foreign_proxy = false;  ///< it may ask for SO_ORIGINAL_DST
    /// An original destination that nobody has asked for in this time is none any more; 0 for as
    /// long as the kernel keeps the addresses of a closed connection back. Others are for tests.
    Duration original_lasts{};
};

struct ConnectSettings {
    std::optional<Address> proxy_v4, proxy_v6;  ///< where connections of each family go
    bool redirects = false;                     ///< false: they are only seen
    bool all_v4 = false;        ///< every destination is captured; loopback only if seen
    bool all_v6 = false;        ///< the same
    bool from_sources = false;  ///< only connects of the sources are captured
    /// Who begins to listen at its address is exempt at once: root, or proxy_uid, in proxy_netns.
    bool has_foreign_proxy = false;
    uint64_t proxy_netns = 0;  ///< cookie; 0 for that of load()
    uint32_t proxy_uid = 0;    ///< effective
    bool wants_events = false;
    uint32_t mark = 0;  ///< of proxify's own sockets; 0 for none
    uint32_t mark_mask = 0xffffffff;
    bool operator==(const ConnectSettings&) const = default;
};

struct ConnectDestination {
    Prefix prefix;
    uint16_t port = 0;    ///< 0 for any
    uint32_t number = 0;  ///< under which it is counted, below connect_numbers
    auto operator<=>(const ConnectDestination&) const = default;
};
inline constexpr uint32_t connect_numbers = 1024;

/// A cgroup and all below it, or a PID namespace.
struct ConnectSource {
    enum class Kind : uint8_t { cgroup, pid_namespace };
    Kind kind = Kind::cgroup;
    uint64_t id = 0;  ///< of the cgroup, or inode of the namespace
    auto operator<=>(const ConnectSource&) const = default;
};

/// A connection that was captured.
struct FollowedConnection {
    uint64_t cookie = 0;  ///< of the client's socket
    Address original;     ///< where it was aimed
    Address used;         ///< where it went; the same when it was only seen
    uint64_t cgroup = 0;  ///< id
    uint64_t netns = 0;   ///< cookie
    Time started;
    int pid = 0;  ///< as this process sees it; 0 when it cannot
    uint32_t uid = 0;
    uint32_t pid_namespace = 0;  ///< inode
    uint32_t number = 0;         ///< of the destination
    int state = 0;               ///< of TCP, as in linux/bpf.h; 0 until the first SYN
    bool is_redirected = false;
    std::string comm;
};

struct ConnectEvent {
    /// `listened`: somebody began to listen where the proxy is; only `connection.pid` is known:
    /// of one that is exempt at once, else 0.
    enum class Kind { dialled, listened };
    Kind kind = Kind::dialled;
    FollowedConnection connection;
};

class ConnectProgram {
  public:
    /// Loads programs and maps, for the calling thread's network namespace: a proxy at a loopback
    /// address is for clients in this one only. Nothing is captured until attach().
    static Result<ConnectProgram> load(const ConnectHooks& hooks);

    /// All of it at once. Exemptions and sources are taken into account as they are in the maps.
    Result<> set(const ConnectSettings& settings);

    // What is in the maps. Each change is for connects that begin after it. An entry that is there
    // already is replaced, and one that is not there is no error to remove.

    Result<> add_destinations(std::span<const ConnectDestination> destinations);
    Result<> remove_destinations(std::span<const ConnectDestination> destinations);
    Result<> add_sources(std::span<const ConnectSource> sources);
    Result<> remove_sources(std::span<const ConnectSource> sources);
    /// The ids of cgroups that are left alone, with all below them.
    Result<> set_exempt_cgroups(std::span<const uint64_t> ids);
    /// Processes that are left alone, with their descendants. Takes the place of those before, and
    /// of what the program added itself.
    Result<> set_exempt_processes(std::span<const int> pids);

    /// Starts to capture in this cgroup and all below it; nothing of it, when it fails.
    Result<> attach(int cgroup);
    /// Where the foreign proxy lives, if that is outside of what attach() was given: it may ask for
    /// original destinations there. Takes the place of the one before.
    Result<> answer_in(int cgroup);
    /// Stops: no connect() that begins after this meets the program. The maps stay; and a foreign
    /// proxy hears of connections that were captured before for as long as this object lives.
    void detach();

    /// Where the connection was aimed that came from `client` to `local`; nullopt when it was not
    /// captured. Each is known once. One system call.
    std::optional<Address> take_original_dst(const Address& client, const Address& local) const;

    Result<std::vector<Counter>> counters() const;
    /// Connections captured so far, by number of the destination.
    Result<std::vector<uint64_t>> counts_by_number() const;
    /// Those that are open, the last 10 000 of them at most.
    Result<std::vector<FollowedConnection>> connections() const;

    /// Readable while there are events; -1 when nothing is loaded.
    int events_fd() const;
    /// Calls for each event that is there, for 4096 at most; true when there may be more.
    bool drain(const std::function<void(const ConnectEvent&)>& on_event);

    /// The numbers by which bpftool knows it; 0 for what is not there.
    struct Ids {
        uint32_t connect4_program = 0, connect4_link = 0;
        uint32_t connect6_program = 0, connect6_link = 0;
        uint32_t connections = 0, original_dsts = 0, destinations = 0;
    };
    Result<Ids> ids() const;

    uint64_t netns() const { return netns_; }

  private:
    struct DestroyObject {
        void operator()(struct connect* object) const;
    };
    struct DestroyLink {
        void operator()(bpf_link* link) const;
    };
    struct DestroyRing {
        void operator()(ring_buffer* ring) const;
    };
    struct Drain {
        const std::function<void(const ConnectEvent&)>* on_event = nullptr;
        int left = 0;
    };
    using Link = std::unique_ptr<bpf_link, DestroyLink>;

    ConnectProgram() = default;
    Result<Link> link(bpf_program* program, int cgroup);
    Result<> try_to_attach(int cgroup);
    Result<> write_settings();
    static int on_record(void* drain, void* record, size_t size);

    std::unique_ptr<struct connect, DestroyObject> object_;
    ConnectHooks hooks_;
    ConnectSettings settings_;
    std::string written_;  ///< what the valid slot holds
    bool exempts_cgroups_ = false, exempts_processes_ = false;
    uint64_t netns_ = 0;
    uint32_t pid_namespace_ = 0;
    Duration original_lasts_{};
    int originals_fd_ = -1;  ///< the map's; for take_original_dst()
    std::unique_ptr<Drain> drain_;
    std::unique_ptr<ring_buffer, DestroyRing> ring_;
    // Declared last, so they go first; and of them those that capture before those that follow.
    Link follow_, peer4_, peer6_, original_, connect6_, connect4_;
};

}  // namespace proxify::kernel
