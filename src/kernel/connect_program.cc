// SPDX-License-Identifier: Apache-2.0
#include "kernel/connect_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fd.h"
#include "base/format.h"
#include "connect.h"
#include "connect.skel.h"
#include "kernel/libbpf.h"
#include "kernel/owners.h"
#include "kernel/privileges.h"

namespace proxify::kernel {

static_assert(sizeof(connect_end) == 20 && offsetof(connect_end, port_be) == 16);
static_assert(sizeof(connect_tuple) == 48 && offsetof(connect_tuple, netns) == 40);
static_assert(connect_numbers == CONNECT_NUMBERS_MAX);

static int fd_of(const bpf_map* map) {
    return bpf_map__fd(map);
}

static std::string permission_hint() {
    auto missing = missing_for_connect();
    if (!missing.empty()) return format("run as root, or grant {}", join_with_and(missing));
    return "the capabilities are there, so something else forbids bpf(): a user namespace\n"
           "(rootless container), a seccomp profile, or kernel lockdown";
}

// ---- where we are

/// The inode of the PID namespace whose numbers we use; 0 when it is the first one, in which the
/// kernel itself counts.
static Result<uint32_t> pid_namespace_here() {
    constexpr ino_t first = 0xEFFFFFFC;  // PROC_PID_INIT_INO
    struct stat about{};
    if (stat("/proc/self/ns/pid", &about) != 0)
        return fail(Error::from_errno(errno, "look at /proc/self/ns/pid"));
    return about.st_ino == first ? 0 : static_cast<uint32_t>(about.st_ino);
}

// ---- loading

/// A plain reason, where there is one.
static std::string why_not_loaded(int error_number) {
    if (error_number == ENOSYS) return "this kernel was built without the bpf system call";
    if (error_number != EPERM && access("/sys/kernel/btf/vmlinux", F_OK) != 0)
        return "this kernel does not say where the fields of its structs are: it was built without "
               "CONFIG_DEBUG_INFO_BTF, or /sys is not mounted";
    return {};
}

Result<ConnectProgram> ConnectProgram::load(const ConnectHooks& hooks) {
    ConnectProgram program;
    program.hooks_ = hooks;
    TRY_TO(netns, netns_cookie_here());
    TRY_TO(pid_namespace, pid_namespace_here());
    program.netns_ = netns;
    program.pid_namespace_ = pid_namespace;
    program.original_lasts_ = hooks.original_lasts > Duration{}
                                  ? hooks.original_lasts
                                  : Duration(std::chrono::nanoseconds(CONNECT_ORIGINAL_LASTS_NS));

    std::string said;
    int error_number = hear_libbpf(
        [&] {
            program.object_.reset(connect__open());
            if (!program.object_) return -errno;
            program.object_->rodata->original_lasts_ns =
                static_cast<uint64_t>(program.original_lasts_.count());
            auto& programs = program.object_->progs;
            bpf_program__set_autoload(programs.proxify_peer4, hooks.redirects);
            bpf_program__set_autoload(programs.proxify_peer6, hooks.redirects);
            bpf_program__set_autoload(programs.proxify_original, hooks.has_foreign_proxy);
            return connect__load(program.object_.get());
        },
        said);
    if (error_number != 0)
        return fail(load_error("cannot load the connect programs", error_number, said,
                               why_not_loaded(error_number), permission_hint()));

    program.originals_fd_ = fd_of(program.object_->maps.original_dsts);
    program.drain_ = std::make_unique<Drain>();
    program.ring_.reset(ring_buffer__new(fd_of(program.object_->maps.connect_events), on_record,
                                         program.drain_.get(), nullptr));
    if (!program.ring_) return fail(Error::from_errno(errno, "map the ring buffer of events"));
    TRY(program.write_settings());
    return program;
}

Result<ConnectProgram::Link> ConnectProgram::link(bpf_program* program, int cgroup) {
    if (auto* link = bpf_program__attach_cgroup(program, cgroup)) return Link(link);
    const int error_number = errno;
    std::string hint;
    if (error_number == EPERM) {
        hint = missing_for_connect().empty()
                   ? "another program may be attached there that allows no other beside it;\n"
                     "`bpftool cgroup tree` shows it"
                   : permission_hint();
    }
    return fail(Error::from_errno(
        error_number, format("attach {} to the cgroup", bpf_program__name(program)), hint));
}

Result<> ConnectProgram::attach(int cgroup) {
    auto attached = try_to_attach(cgroup);
    if (!attached) detach();
    return attached;
}

Result<> ConnectProgram::try_to_attach(int cgroup) {
    // First those that know what becomes of a connection, then those that capture it.
    const auto& programs = object_->progs;
    TRY_TO(follow, link(programs.proxify_follow, cgroup));
    follow_ = std::move(follow);
    if (hooks_.redirects) {
        TRY_TO(peer4, link(programs.proxify_peer4, cgroup));
        TRY_TO(peer6, link(programs.proxify_peer6, cgroup));
        peer4_ = std::move(peer4);
        peer6_ = std::move(peer6);
    }
    if (hooks_.has_foreign_proxy && !original_) TRY(answer_in(cgroup));
    TRY_TO(connect6, link(programs.proxify_connect6, cgroup));
    TRY_TO(connect4, link(programs.proxify_connect4, cgroup));
    connect6_ = std::move(connect6);
    connect4_ = std::move(connect4);
    return {};
}

Result<> ConnectProgram::answer_in(int cgroup) {
    TRY_TO(original, link(object_->progs.proxify_original, cgroup));
    original_ = std::move(original);
    return {};
}

void ConnectProgram::detach() {
    connect4_.reset();
    connect6_.reset();
    // original_ stays: a proxy may have accepted what it has not asked about yet.
    peer6_.reset();
    peer4_.reset();
    follow_.reset();
}

// ---- settings

static connect_end to_end(const Address& address) {
    sockaddr_storage storage{};
    address.to_sockaddr(storage, /*as_v6=*/true);
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    connect_end end{};
    std::memcpy(end.address, &v6.sin6_addr, sizeof end.address);
    end.port_be = v6.sin6_port;
    return end;
}

static Address to_address(const connect_end& end) {
    sockaddr_storage storage{};
    auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, end.address, sizeof end.address);
    v6.sin6_port = end.port_be;
    return Address::from_sockaddr(storage);
}

Result<> ConnectProgram::set(const ConnectSettings& settings) {
    settings_ = settings;
    return write_settings();
}

Result<> ConnectProgram::write_settings() {
    connect_settings next{};
    if (settings_.proxy_v4) next.proxy4 = to_end(*settings_.proxy_v4);
    if (settings_.proxy_v6) next.proxy6 = to_end(*settings_.proxy_v6);
    next.netns = netns_;
    next.proxy_netns = settings_.proxy_netns ? settings_.proxy_netns : netns_;
    next.proxy_uid = settings_.proxy_uid;
    next.pid_namespace = pid_namespace_;
    next.mark = settings_.mark & settings_.mark_mask;  // as a socket's is compared
    next.mark_mask = settings_.mark_mask;
    next.redirects = settings_.redirects;
    next.all_v4 = settings_.all_v4;
    next.all_v6 = settings_.all_v6;
    next.from_sources = settings_.from_sources;
    next.has_foreign_proxy = settings_.has_foreign_proxy;
    next.exempts_processes = exempts_processes_ || settings_.has_foreign_proxy;
    next.exempts_cgroups = exempts_cgroups_;
    next.wants_events = settings_.wants_events;

    std::string bytes(reinterpret_cast<const char*>(&next), sizeof next);
    if (bytes == written_) return {};
    // Into the slot that nobody looks at, which is then the one. A program that began before the
    // change before this one, and still runs, could see half of it; none runs that long.
    uint32_t slot = 1 - (object_->bss->connect_slot & 1);
    if (bpf_map_update_elem(fd_of(object_->maps.connect_config), &slot, &next, BPF_ANY) != 0)
        return fail(Error::from_errno(errno, "write connect_config"));
    __atomic_store_n(&object_->bss->connect_slot, slot, __ATOMIC_RELEASE);
    written_ = std::move(bytes);
    return {};
}

// ---- what is captured

static connect_destination to_key(const ConnectDestination& destination) {
    connect_destination key{};
    const auto& [prefix, port, number] = destination;
    key.prefix_bits = 16u + 8u + prefix.length;
    key.port = port;
    key.family = prefix.ip.is_v4 ? 4 : 6;
    std::memcpy(key.address, prefix.ip.bytes.data(), sizeof key.address);
    return key;
}

Result<> ConnectProgram::add_destinations(std::span<const ConnectDestination> destinations) {
    for (const auto& one : destinations) {
        auto key = to_key(one);
        if (bpf_map_update_elem(fd_of(object_->maps.connect_to), &key, &one.number, BPF_ANY) != 0)
            return fail(
                Error::from_errno(errno, format("capture connections to {}", one.prefix.text())));
    }
    return {};
}

Result<> ConnectProgram::remove_destinations(std::span<const ConnectDestination> destinations) {
    for (const auto& one : destinations) {
        auto key = to_key(one);
        if (bpf_map_delete_elem(fd_of(object_->maps.connect_to), &key) != 0 && errno != ENOENT)
            return fail(Error::from_errno(
                errno, format("no longer capture connections to {}", one.prefix.text())));
    }
    return {};
}

static connect_source to_key(const ConnectSource& source) {
    const bool is_cgroup = source.kind == ConnectSource::Kind::cgroup;
    return {.id = source.id,
            .kind = is_cgroup ? uint32_t{CONNECT_CGROUP} : uint32_t{CONNECT_PID_NAMESPACE},
            .zero = 0};
}

Result<> ConnectProgram::add_sources(std::span<const ConnectSource> sources) {
    for (const auto& one : sources) {
        auto key = to_key(one);
        const uint8_t yes = 1;
        if (bpf_map_update_elem(fd_of(object_->maps.connect_from), &key, &yes, BPF_ANY) != 0)
            return fail(Error::from_errno(errno, "write connect_from"));
    }
    return {};
}

Result<> ConnectProgram::remove_sources(std::span<const ConnectSource> sources) {
    for (const auto& one : sources) {
        auto key = to_key(one);
        if (bpf_map_delete_elem(fd_of(object_->maps.connect_from), &key) != 0 && errno != ENOENT)
            return fail(Error::from_errno(errno, "write connect_from"));
    }
    return {};
}

/// Makes `keys` the keys of a hash map: first what is new, then what is no more.
template <class Key>
static Result<> replace_keys(const bpf_map* map, std::span<const Key> keys) {
    const uint8_t yes = 1;
    for (const Key& key : keys)
        if (bpf_map_update_elem(fd_of(map), &key, &yes, BPF_ANY) != 0)
            return fail(Error::from_errno(errno, format("write {}", bpf_map__name(map))));
    std::vector<Key> present;
    Key key{};
    for (const Key* after = nullptr; bpf_map_get_next_key(fd_of(map), after, &key) == 0;
         after = &key) {
        present.push_back(key);
        if (present.size() > CONNECT_EXEMPT_MAX) break;  // entries moved under our feet
    }
    for (const Key& one : present)
        if (std::ranges::find(keys, one) == keys.end()) bpf_map_delete_elem(fd_of(map), &one);
    return {};
}

Result<> ConnectProgram::set_exempt_cgroups(std::span<const uint64_t> ids) {
    TRY(replace_keys<uint64_t>(object_->maps.exempt_cgroups, ids));
    exempts_cgroups_ = !ids.empty();
    return write_settings();
}

Result<> ConnectProgram::set_exempt_processes(std::span<const int> pids) {
    const std::vector<uint32_t> keys(pids.begin(), pids.end());
    TRY(replace_keys<uint32_t>(object_->maps.exempt_procs, keys));
    exempts_processes_ = !pids.empty();
    return write_settings();
}

// ---- what was captured

std::optional<Address> ConnectProgram::take_original_dst(const Address& client,
                                                         const Address& local) const {
    connect_tuple tuple{};
    tuple.client = to_end(client);
    tuple.server = to_end(local);
    tuple.netns = local.ip.is_loopback() ? netns_ : 0;
    connect_original original{};
    if (bpf_map_lookup_and_delete_elem(originals_fd_, &tuple, &original) != 0) return std::nullopt;
    const Time since{std::chrono::nanoseconds(original.since_ns)};
    // The clock is the program's: CLOCK_MONOTONIC.
    if (std::chrono::steady_clock::now() - since > original_lasts_) return std::nullopt;
    return to_address(original.aimed_at);
}

static FollowedConnection to_followed(uint64_t cookie, const connect_connection& from) {
    return {.cookie = cookie,
            .original = to_address(from.original),
            .used = to_address(from.used),
            .cgroup = from.cgroup,
            .netns = from.netns,
            .started = Time(std::chrono::nanoseconds(from.started_ns)),
            .pid = static_cast<int>(from.tgid),
            .uid = from.uid,
            .pid_namespace = from.pid_namespace,
            .number = from.number,
            .state = from.state,
            .is_redirected = from.is_redirected != 0,
            .comm = std::string(from.comm, strnlen(from.comm, sizeof from.comm))};
}

Result<std::vector<FollowedConnection>> ConnectProgram::connections() const {
    std::vector<uint64_t> cookies(CONNECT_TRACKED_MAX);
    std::vector<connect_connection> values(CONNECT_TRACKED_MAX);
    uint32_t next = 0, count = CONNECT_TRACKED_MAX;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    if (bpf_map_lookup_batch(fd_of(object_->maps.connections), nullptr, &next, cookies.data(),
                             values.data(), &count, &options) != 0 &&
        errno != ENOENT)
        return fail(Error::from_errno(errno, "read the map of connections"));
    std::vector<FollowedConnection> found;
    for (uint32_t i = 0; i < count; ++i)
        if (values[i].state != 0) found.push_back(to_followed(cookies[i], values[i]));
    return found;
}

Result<std::vector<Counter>> ConnectProgram::counters() const {
#define COUNTER(name, meaning) {#name, meaning},
    std::vector<Counter> counters{CONNECT_COUNTERS(COUNTER)};
#undef COUNTER
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 0) return fail(Error::from_errno(-cpus, "count the CPUs"));
    std::vector<connect_counts> counts(static_cast<size_t>(cpus));
    uint32_t slot = 0;
    if (bpf_map_lookup_elem(fd_of(object_->maps.connect_counts), &slot, counts.data()) != 0)
        return fail(Error::from_errno(errno, "read connect_counts"));
    for (const auto& of_cpu : counts)
        for (size_t i = 0; i < counters.size(); ++i) counters[i].value += of_cpu.of[i];
    return counters;
}

Result<std::vector<uint64_t>> ConnectProgram::counts_by_number() const {
    std::vector<uint32_t> keys(CONNECT_NUMBERS_MAX);
    std::vector<uint64_t> counts(CONNECT_NUMBERS_MAX);
    uint32_t next = 0, count = CONNECT_NUMBERS_MAX;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    if (bpf_map_lookup_batch(fd_of(object_->maps.connect_numbers), nullptr, &next, keys.data(),
                             counts.data(), &count, &options) != 0 &&
        errno != ENOENT)
        return fail(Error::from_errno(errno, "read connect_numbers"));
    return counts;
}

// ---- events

int ConnectProgram::on_record(void* drain, void* record, size_t size) {
    if (size < sizeof(connect_event)) return 0;
    auto& state = *static_cast<Drain*>(drain);
    const auto& event = *static_cast<const connect_event*>(record);
    (*state.on_event)({.kind = event.kind == CONNECT_LISTENED ? ConnectEvent::Kind::listened
                                                              : ConnectEvent::Kind::dialled,
                       .connection = to_followed(event.cookie, event.connection)});
    return --state.left > 0 ? 0 : -ECANCELED;  // what was read so far is read
}

int ConnectProgram::events_fd() const {
    return ring_ ? ring_buffer__epoll_fd(ring_.get()) : -1;
}

bool ConnectProgram::drain(const std::function<void(const ConnectEvent&)>& on_event) {
    *drain_ = {.on_event = &on_event, .left = 4096};
    ring_buffer__consume(ring_.get());
    return drain_->left <= 0;
}

// ---- ids

template <class Info>
static uint32_t id_of(int fd, uint32_t Info::* id) {
    Info info{};
    uint32_t size = sizeof info;
    return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.*id : 0;
}

Result<ConnectProgram::Ids> ConnectProgram::ids() const {
    const auto& [maps, programs] = std::tie(object_->maps, object_->progs);
    Ids ids;
    ids.connect4_program = id_of(bpf_program__fd(programs.proxify_connect4), &bpf_prog_info::id);
    ids.connect6_program = id_of(bpf_program__fd(programs.proxify_connect6), &bpf_prog_info::id);
    if (connect4_) ids.connect4_link = id_of(bpf_link__fd(connect4_.get()), &bpf_link_info::id);
    if (connect6_) ids.connect6_link = id_of(bpf_link__fd(connect6_.get()), &bpf_link_info::id);
    ids.connections = id_of(fd_of(maps.connections), &bpf_map_info::id);
    ids.original_dsts = id_of(fd_of(maps.original_dsts), &bpf_map_info::id);
    ids.destinations = id_of(fd_of(maps.connect_to), &bpf_map_info::id);
    return ids;
}

void ConnectProgram::DestroyObject::operator()(struct connect* object) const {
    connect__destroy(object);
}

void ConnectProgram::DestroyLink::operator()(bpf_link* link) const {
    // Closing our descriptor detaches only if nobody else holds one. This detaches now.
    bpf_link_detach(bpf_link__fd(link));
    bpf_link__destroy(link);
}

void ConnectProgram::DestroyRing::operator()(ring_buffer* ring) const {
    ring_buffer__free(ring);
}

}  // namespace proxify::kernel
