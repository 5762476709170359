// SPDX-License-Identifier: Apache-2.0
#include "kernel/steering_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <optional>
#include <thread>

#include "base/fd.h"
#include "base/format.h"
#include "contract.h"
#include "kernel/info.h"
#include "kernel/libbpf.h"
#include "kernel/privileges.h"
#include "steer.skel.h"

namespace proxify::kernel {

static_assert(sizeof(steer_end) == 20 && offsetof(steer_end, port_be) == 16);
static_assert(int{STEER_PASS} == int(Verdict::pass) && int{STEER_DROP} == int(Verdict::drop) &&
              int{STEER_REFUSE} == int(Verdict::refuse));
static_assert(steering_program_name.size() < BPF_OBJ_NAME_LEN, "the kernel cuts longer names");

/// A plain reason, where there is one.
static std::string why_not_loaded(int error_number) {
    if (error_number == ENOSYS) return "this kernel was built without the bpf system call";
    if (error_number == EPERM) return {};
    if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SK_LOOKUP, nullptr) == 0)
        return "this kernel has no sk_lookup hook; it came with Linux 5.9";
    return {};
}

Result<SteeringProgram> SteeringProgram::load() {
    SteeringProgram program(nullptr);
    std::string said;
    int error_number = hear_libbpf(
        [&] {
            program.object_.reset(steer__open());
            return program.object_ ? steer__load(program.object_.get()) : -errno;
        },
        said);
    if (error_number != 0)
        return fail(load_error("cannot load the steering program", error_number, said,
                               why_not_loaded(error_number), how_to_be_allowed()));
    TRY(program.count_service(0, true));
    return program;
}

static int fd_of(const bpf_map* map) {
    return bpf_map__fd(map);
}

Result<> SteeringProgram::set_listener(int listener_fd) {
    uint32_t slot = 0;
    uint64_t socket = static_cast<uint64_t>(listener_fd);
    if (bpf_map_update_elem(bpf_map__fd(object_->maps.proxy_sock), &slot, &socket, BPF_ANY) == 0)
        return {};
    return fail(
        Error::from_errno(errno, "put the listener into proxy_sock",
                          errno == EOPNOTSUPP ? "it has to be a TCP socket that listens" : ""));
}

/// A socket for one family or for both, at an address that is nobody's: the IPv4 dummy address
/// (RFC 7600). The socket of both has it v4-mapped, since any other address of its own would make
/// it one of IPv6 only.
static Fd bind_nowhere(int family, uint16_t port) {
    auto fd = Fd::adopt(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const bool is_v6 = family == AF_INET6;
    const int on = 1, off = 0;
    bool is_set =
        setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
        setsockopt(fd.get(), IPPROTO_IP, IP_FREEBIND, &on, sizeof on) == 0 &&
        (!is_v6 || setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0);
    sockaddr_storage at{};
    socklen_t size = Address{Ip::v4(192, 0, 0, 8), port}.to_sockaddr(at, /*as_v6=*/is_v6);
    if (!is_set || bind(fd.get(), reinterpret_cast<sockaddr*>(&at), size) != 0) return Fd();
    return fd;
}

Result<> SteeringProgram::open_sink(uint16_t port) {
    auto sink = bind_nowhere(AF_INET6, port);
    if (!sink) sink = bind_nowhere(AF_INET, port);  // IPv6 may be off
    // A filter that keeps no byte of any packet: the kernel drops it before it looks at it.
    sock_filter keep_nothing[] = {{.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = 0}};
    const sock_fprog filter{.len = 1, .filter = keep_nothing};
    uint32_t slot = 0;
    uint64_t socket = static_cast<uint64_t>(sink.get());
    bool is_open =
        sink && setsockopt(sink.get(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0 &&
        listen(sink.get(), 1) == 0 &&
        bpf_map_update_elem(fd_of(object_->maps.steer_sink), &slot, &socket, BPF_ANY) == 0;
    if (!is_open) return fail(Error::from_errno(errno, "open the socket that drops clients"));
    sink_ = std::move(sink);
    return {};
}

Result<> SteeringProgram::attach() {
    constexpr const char* here = "/proc/thread-self/ns/net";
    auto netns = Fd::adopt(open(here, O_RDONLY | O_CLOEXEC));
    if (!netns) return fail(Error::from_errno(errno, format("open {}", here)));

    bpf_link* link = bpf_program__attach_netns(object_->progs.proxify_steer, netns.get());
    if (link != nullptr) {
        link_.reset(link);
        return {};
    }
    int error_number = errno;
    std::string hint;
    if (error_number == EPERM) hint = how_to_be_allowed();
    if (error_number == E2BIG)
        hint = "64 sk_lookup programs serve here already; see `bpftool link`";
    return fail(
        Error::from_errno(error_number, "attach sk_lookup to this network namespace", hint));
}

void SteeringProgram::detach() {
    link_.reset();
}

Result<std::vector<uint16_t>> SteeringProgram::ports() const {
    // Room for every port there is: the dump is then one system call, and cannot be cut short.
    std::vector<uint16_t> ports(STEER_PORTS_MAX);
    std::vector<uint8_t> values(STEER_PORTS_MAX);
    uint32_t next = 0, count = STEER_PORTS_MAX;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    // ENOENT says that the end of the map was reached.
    if (bpf_map_lookup_batch(bpf_map__fd(object_->maps.proxy_ports), nullptr, &next, ports.data(),
                             values.data(), &count, &options) != 0 &&
        errno != ENOENT)
        return fail(Error::from_errno(errno, "read proxy_ports"));
    ports.resize(count);
    std::ranges::sort(ports);
    return ports;
}

Result<> SteeringProgram::add_ports(std::span<const uint16_t> ports) {
    if (ports.empty()) return {};
    std::vector<uint8_t> values(ports.size());
    auto count = static_cast<uint32_t>(ports.size());
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    if (bpf_map_update_batch(bpf_map__fd(object_->maps.proxy_ports), ports.data(), values.data(),
                             &count, &options) == 0)
        return {};
    return fail(Error::from_errno(
        errno, format("add {} ports to proxy_ports, of which {} were added", ports.size(), count)));
}

Result<> SteeringProgram::remove_ports(std::span<const uint16_t> ports) {
    // The kernel stops at a key that is not there and tells how many it removed before it.
    while (!ports.empty()) {
        auto count = static_cast<uint32_t>(ports.size());
        LIBBPF_OPTS(bpf_map_batch_opts, options);
        if (bpf_map_delete_batch(bpf_map__fd(object_->maps.proxy_ports), ports.data(), &count,
                                 &options) == 0)
            return {};
        if (errno != ENOENT)
            return fail(
                Error::from_errno(errno, format("remove {} ports from proxy_ports", ports.size())));
        ports = ports.subspan(std::min<size_t>(count + 1, ports.size()));
    }
    return {};
}

bool SteeringProgram::has_port(uint16_t port) const {
    uint8_t value;
    return bpf_map_lookup_elem(bpf_map__fd(object_->maps.proxy_ports), &port, &value) == 0;
}

static steer_end to_end(const Address& address) {
    sockaddr_storage storage{};
    address.to_sockaddr(storage, /*as_v6=*/true);
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    steer_end end{};
    std::memcpy(end.address, &v6.sin6_addr, sizeof end.address);
    end.port_be = v6.sin6_port;
    return end;
}

bool SteeringProgram::guard_dial(const Address& source) {
    auto end = to_end(source);
    uint8_t value = 0;
    return bpf_map_update_elem(bpf_map__fd(object_->maps.own_dials), &end, &value, BPF_ANY) == 0;
}

void SteeringProgram::unguard_dial(const Address& source) {
    auto end = to_end(source);
    bpf_map_delete_elem(bpf_map__fd(object_->maps.own_dials), &end);
}

// ---- ports, services, addresses

/// Writes values of an array that follow each other.
template <class T>
static Result<> write_array(const bpf_map* map, uint32_t first, const std::vector<T>& values) {
    std::vector<uint32_t> keys(values.size());
    std::iota(keys.begin(), keys.end(), first);
    auto count = static_cast<uint32_t>(values.size());
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    if (values.empty() ||
        bpf_map_update_batch(fd_of(map), keys.data(), values.data(), &count, &options) == 0)
        return {};
    return fail(Error::from_errno(
        errno, format("write {} entries of {}", values.size(), bpf_map__name(map))));
}

Result<> SteeringProgram::set_ports(uint16_t first, std::span<const PortEntry> entries) {
    std::vector<steer_port> values;
    values.reserve(entries.size());
    for (const auto& entry : entries) {
        int flags = (entry.by_address ? STEER_BY_ADDRESS : 0) | (entry.counted ? STEER_COUNTED : 0);
        values.push_back(
            {.service = entry.service, .flags = static_cast<uint8_t>(flags), .zero = 0});
    }
    return write_array(object_->maps.steer_ports, first, values);
}

Result<> SteeringProgram::set_services(uint16_t first, std::span<const ServiceEntry> entries) {
    std::vector<steer_service> values;
    values.reserve(entries.size());
    for (const auto& entry : entries)
        values.push_back({.number = entry.number,
                          .present = static_cast<uint8_t>(entry.present),
                          .on_deny = static_cast<uint8_t>(entry.on_deny),
                          .rate = entry.rate});
    return write_array(object_->maps.steer_services, first, values);
}

static steer_address to_key(const AddressEntry& entry) {
    steer_address key{};
    key.prefix_bits = 16u + 8u + entry.prefix.length;
    key.port = entry.port;
    key.family = entry.prefix.ip.is_v4 ? 4 : 6;
    std::memcpy(key.address, entry.prefix.ip.bytes.data(), sizeof key.address);
    return key;
}

Result<> SteeringProgram::add_addresses(std::span<const AddressEntry> entries) {
    for (const auto& entry : entries) {
        auto key = to_key(entry);
        if (bpf_map_update_elem(fd_of(object_->maps.steer_addresses), &key, &entry.service,
                                BPF_ANY) != 0)
            return fail(Error::from_errno(
                errno, format("steer port {} at {}", entry.port, entry.prefix.text())));
    }
    return {};
}

Result<> SteeringProgram::remove_addresses(std::span<const AddressEntry> entries) {
    for (const auto& entry : entries) {
        auto key = to_key(entry);
        if (bpf_map_delete_elem(fd_of(object_->maps.steer_addresses), &key) != 0 && errno != ENOENT)
            return fail(Error::from_errno(
                errno, format("no longer steer port {} at {}", entry.port, entry.prefix.text())));
    }
    return {};
}

// ---- access lists

static steer_prefix to_key(const Prefix& prefix) {
    steer_prefix key{};
    key.prefix_bits = 8u + prefix.length;
    key.family = prefix.ip.is_v4 ? 4 : 6;
    std::memcpy(key.address, prefix.ip.bytes.data(), sizeof key.address);
    return key;
}

static Result<Fd> make_trie(const AccessList& list) {
    LIBBPF_OPTS(bpf_map_create_opts, trie_options, .map_flags = BPF_F_NO_PREALLOC);
    auto trie = Fd::adopt(bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "steer_list", sizeof(steer_prefix),
                                         sizeof(uint8_t), STEER_PREFIXES_MAX, &trie_options));
    if (!trie) return fail(Error::from_errno(errno, "create an access list"));

    std::vector<steer_prefix> keys{{}};  // no bits at all: everybody, of either family
    std::vector<uint8_t> values{list.denies_others};
    for (const auto& [prefix, is_denied] : list.prefixes) {
        keys.push_back(to_key(prefix));
        values.push_back(is_denied);
    }
    auto count = static_cast<uint32_t>(keys.size());
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    if (bpf_map_update_batch(trie.get(), keys.data(), values.data(), &count, &options) == 0)
        return trie;
    return fail(Error::from_errno(
        errno, format("fill an access list of {} prefixes", list.prefixes.size())));
}

Result<> SteeringProgram::set_lists(std::span<const AccessList> lists) {
    // After a change of steer_lists the kernel waits until no program uses what was there before:
    // some 10 ms, hence many at a time. But each is a descriptor until it is in its place.
    constexpr size_t at_a_time = 256;
    std::optional<Fd> everybody;  // one for all that are empty
    for (; !lists.empty(); lists = lists.subspan(std::min(at_a_time, lists.size()))) {
        std::vector<Fd> tries;
        std::vector<uint32_t> slots;
        std::vector<int> fds;
        for (const auto& list : lists.first(std::min(at_a_time, lists.size()))) {
            const bool is_empty = list.prefixes.empty() && !list.denies_others;
            if (!is_empty || !everybody) {
                TRY_TO(trie, make_trie(list));
                (is_empty ? everybody.emplace() : tries.emplace_back()) = std::move(trie);
            }
            slots.push_back(list.service);
            fds.push_back(is_empty ? everybody->get() : tries.back().get());
        }
        auto count = static_cast<uint32_t>(slots.size());
        LIBBPF_OPTS(bpf_map_batch_opts, options);
        if (bpf_map_update_batch(fd_of(object_->maps.steer_lists), slots.data(), fds.data(), &count,
                                 &options) != 0)
            return fail(Error::from_errno(errno, "put access lists into steer_lists"));
    }
    return {};
}

Result<SteeringProgram::Ids> SteeringProgram::ids() const {
    Ids ids;
    if (link_) {
        TRY_TO(link, info_of<bpf_link_info>(bpf_link__fd(link_.get()), "the link"));
        ids.link = link.id;
    }
    TRY_TO(program, info_of<bpf_prog_info>(program_fd(), "the program"));
    TRY_TO(ports, info_of<bpf_map_info>(bpf_map__fd(object_->maps.proxy_ports), "proxy_ports"));
    TRY_TO(sock, info_of<bpf_map_info>(bpf_map__fd(object_->maps.proxy_sock), "proxy_sock"));
    ids.program = program.id;
    ids.proxy_ports = ports.id;
    ids.proxy_sock = sock.id;
    return ids;
}

// ---- counters

static Result<size_t> cpu_count() {
    int cpus = libbpf_num_possible_cpus();
    if (cpus < 0) return fail(Error::from_errno(-cpus, "count the CPUs"));
    return static_cast<size_t>(cpus);
}

Result<> SteeringProgram::count_service(uint16_t service, bool is_counted) {
    const int map = fd_of(object_->maps.steer_counters);
    TRY_TO(cpus, cpu_count());
    const std::vector<steer_counts> zeros(cpus);
    uint32_t key = service;
    if (!is_counted) {
        // A sum only grows.
        TRY_TO(last, counters(service));
        counted_before_.resize(last.size());
        for (size_t i = 0; i < last.size(); ++i) counted_before_[i] += last[i].value;
    }
    // The kernel keeps a few elements ready and makes more a moment later: thousands at once can be
    // too many, and the next moment not.
    int failed = -1;
    for (int tries = 0; tries < 100 && failed != 0 && (tries == 0 || errno == ENOMEM); ++tries) {
        if (tries > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        failed = is_counted ? bpf_map_update_elem(map, &key, zeros.data(), BPF_NOEXIST)
                            : bpf_map_delete_elem(map, &key);
    }
    bool is_fine = failed == 0 || errno == EEXIST || errno == ENOENT;
    bool is_full = is_counted && (errno == E2BIG || errno == ENOSPC);
    if (is_fine || is_full) return {};
    return fail(Error::from_errno(errno, "make or remove the counters of a service"));
}

static std::vector<Counter> no_counts() {
#define COUNTER(name, meaning) {#name, meaning},
    return {STEER_COUNTERS(COUNTER)};
#undef COUNTER
}

/// Adds what all CPUs counted for one service.
static Result<> add_counts(int map, uint32_t service, std::vector<Counter>& counters) {
    TRY_TO(cpus, cpu_count());
    std::vector<steer_counts> counts(cpus);
    if (bpf_map_lookup_elem(map, &service, counts.data()) != 0) {
        if (errno == ENOENT) return {};  // it is counted under number 0
        return fail(Error::from_errno(errno, "read steer_counters"));
    }
    for (const auto& of_cpu : counts)
        for (size_t i = 0; i < counters.size(); ++i) counters[i].value += of_cpu.of[i];
    return {};
}

Result<std::vector<Counter>> SteeringProgram::counters(uint16_t service) const {
    auto counters = no_counts();
    TRY(add_counts(fd_of(object_->maps.steer_counters), service, counters));
    return counters;
}

Result<std::vector<Counter>> SteeringProgram::counters() const {
    auto counters = no_counts();
    const int map = fd_of(object_->maps.steer_counters);
    uint32_t service = 0;
    for (void* after = nullptr; bpf_map_get_next_key(map, after, &service) == 0; after = &service)
        TRY(add_counts(map, service, counters));
    for (size_t i = 0; i < counted_before_.size(); ++i) counters[i].value += counted_before_[i];
    return counters;
}

Result<std::vector<uint64_t>> SteeringProgram::port_counts() const {
    std::vector<uint64_t> counts(STEER_PORTS_MAX);
    std::vector<uint32_t> ports(STEER_PORTS_MAX);
    uint32_t next = 0, count = STEER_PORTS_MAX;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    if (bpf_map_lookup_batch(fd_of(object_->maps.port_counts), nullptr, &next, ports.data(),
                             counts.data(), &count, &options) != 0 &&
        errno != ENOENT)
        return fail(Error::from_errno(errno, "read port_counts"));
    return counts;
}

// ---- explaining

static bpf_sk_lookup to_lookup(const Address& client, const Address& destination) {
    bpf_sk_lookup lookup{};
    lookup.protocol = IPPROTO_TCP;
    lookup.remote_port = htons(client.port);
    lookup.local_port = destination.port;
    if (client.ip.is_v4) {
        lookup.family = AF_INET;
        std::memcpy(&lookup.remote_ip4, client.ip.bytes.data(), 4);
        std::memcpy(&lookup.local_ip4, destination.ip.bytes.data(), 4);
    } else {
        lookup.family = AF_INET6;
        std::memcpy(lookup.remote_ip6, client.ip.bytes.data(), 16);
        std::memcpy(lookup.local_ip6, destination.ip.bytes.data(), 16);
    }
    return lookup;
}

/// Whether this is the socket in the first slot of a sockmap; user space reads its cookie there.
static bool holds_socket(const bpf_map* map, uint64_t cookie) {
    uint32_t slot = 0;
    uint64_t held = 0;
    return bpf_map_lookup_elem(fd_of(map), &slot, &held) == 0 && held == cookie;
}

Result<Explained> SteeringProgram::explain(const Address& client,
                                           const Address& destination) const {
    if (client.ip.is_v4 != destination.ip.is_v4)
        return fail(Error::of(format("{} cannot reach {}: one is IPv4, the other IPv6",
                                     client.text(), destination.text()),
                              "give two addresses of one family"));
    bpf_sk_lookup lookup = to_lookup(client, destination);
    LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &lookup, .ctx_out = &lookup,
                .ctx_size_in = sizeof lookup, .ctx_size_out = sizeof lookup);
    if (bpf_prog_test_run_opts(bpf_program__fd(object_->progs.proxify_explain), &run) != 0)
        return fail(Error::from_errno(errno, "run the steering program's twin"));

    uint32_t slot = 0;
    steer_explained found{};
    if (bpf_map_lookup_elem(fd_of(object_->maps.steer_explained), &slot, &found) != 0)
        return fail(Error::from_errno(errno, "read steer_explained"));

    const auto counters = no_counts();
    Explained explained{.outcome = "not_ours",
                        .meaning = "the port is not in proxy_ports",
                        .service = found.service};
    if (found.outcome < counters.size()) {
        explained.outcome = counters[found.outcome].name;
        explained.meaning = counters[found.outcome].meaning;
    }
    if (run.retval != SK_PASS)
        explained.landing = Landing::nowhere;
    else if (lookup.cookie != 0)
        explained.landing = holds_socket(object_->maps.steer_sink, lookup.cookie)
                                ? Landing::sink
                                : Landing::listener;
    return explained;
}

int SteeringProgram::program_fd() const {
    return bpf_program__fd(object_->progs.proxify_steer);
}

void SteeringProgram::DestroyObject::operator()(steer* object) const {
    steer__destroy(object);
}

void SteeringProgram::DestroyLink::operator()(bpf_link* link) const {
    // Closing our descriptor detaches only if nobody else holds one, a bpftool that is listing
    // links for example. This detaches now.
    bpf_link_detach(bpf_link__fd(link));
    bpf_link__destroy(link);
}

}  // namespace proxify::kernel
