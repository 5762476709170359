// SPDX-License-Identifier: Apache-2.0
#include "kernel/ingress_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/format.h"
#include "ingress.h"
#include "ingress.skel.h"
#include "kernel/info.h"
#include "kernel/libbpf.h"
#include "kernel/links.h"

namespace proxify::kernel {

static_assert(ingress_program_name.size() < BPF_OBJ_NAME_LEN, "the kernel cuts longer names");

// Debian 12's headers are older than tcx (Linux 6.6).
static constexpr auto tcx_ingress = static_cast<bpf_attach_type>(46);
static constexpr auto tcx_egress = static_cast<bpf_attach_type>(47);

// Where our filters stand among those of others in a clsact queueing discipline.
static constexpr uint32_t own_handle = 0x2035, own_priority = 0x2035;

static int fd_of(const bpf_map* map) {
    return bpf_map__fd(map);
}

bool has_tcx() {
    constexpr int loopback = 1;  // in every namespace
    uint32_t count = 0;
    return bpf_prog_query(loopback, tcx_ingress, 0, nullptr, nullptr, &count) == 0;
}

// ---- hooks

Hook::Hook(Hook&& other) noexcept
    : interface_(std::move(other.interface_)),
      kind_(other.kind_),
      ingress_(std::move(other.ingress_)),
      egress_(std::move(other.egress_)),
      ids_{std::exchange(other.ids_[0], 0), std::exchange(other.ids_[1], 0)},
      is_qdisc_ours_(std::exchange(other.is_qdisc_ours_, false)) {}

Hook& Hook::operator=(Hook&& other) noexcept {
    std::swap(interface_, other.interface_);
    std::swap(kind_, other.kind_);
    std::swap(ingress_, other.ingress_);
    std::swap(egress_, other.egress_);
    std::swap(ids_, other.ids_);
    std::swap(is_qdisc_ours_, other.is_qdisc_ours_);
    return *this;
}

Hook::~Hook() {
    unhook();
}

/// A place for filters of one direction, or for both: the queueing discipline itself.
static bpf_tc_hook place_at(uint32_t interface, int direction) {
    LIBBPF_OPTS(bpf_tc_hook, place, .ifindex = static_cast<int>(interface),
                .attach_point = static_cast<bpf_tc_attach_point>(direction));
    return place;
}

static constexpr int directions[] = {BPF_TC_INGRESS, BPF_TC_EGRESS};

/// The program of the filter that stands at our place: its number, or 0.
static uint32_t program_at(uint32_t interface, int direction) {
    const auto place = place_at(interface, direction);
    LIBBPF_OPTS(bpf_tc_opts, filter, .handle = own_handle, .priority = own_priority);
    return bpf_tc_query(&place, &filter) == 0 ? filter.prog_id : 0;
}

static void remove_filter(uint32_t interface, int direction) {
    const auto place = place_at(interface, direction);
    LIBBPF_OPTS(bpf_tc_opts, filter, .handle = own_handle, .priority = own_priority);
    bpf_tc_detach(&place, &filter);
}

static bool is_link_there(const Fd& link) {
    // The union of all kinds begins with the number of the interface; 0 when that is gone.
    bpf_link_info info{};
    uint32_t size = sizeof info;
    return bpf_obj_get_info_by_fd(link.get(), &info, &size) == 0 && info.xdp.ifindex != 0;
}

bool Hook::is_there() const {
    if (kind_ == HookKind::tcx) return is_link_there(ingress_) && is_link_there(egress_);
    return program_at(interface_.index, BPF_TC_INGRESS) == ids_[0] &&
           program_at(interface_.index, BPF_TC_EGRESS) == ids_[1];
}

void Hook::unhook() {
    // What comes in first, so that no flow begins whose answers would not be rewritten.
    ingress_.close();
    egress_.close();
    bool was_there = false;
    for (int i : {0, 1}) {
        if (ids_[i] == 0 || program_at(interface_.index, directions[i]) != ids_[i]) continue;
        remove_filter(interface_.index, directions[i]);
        was_there = true;
    }
    if (!was_there || !is_qdisc_ours_ || has_filters(interface_.index)) return;
    auto qdisc = place_at(interface_.index, BPF_TC_INGRESS | BPF_TC_EGRESS);
    bpf_tc_hook_destroy(&qdisc);
}

// ---- the program

Result<IngressProgram> IngressProgram::load(uint32_t flows_max) {
    IngressProgram program(nullptr);
    std::string said;
    int error_number = hear_libbpf(
        [&] {
            auto* object = ingress__open();
            program.object_.reset(object);
            if (!object) return -errno;
            for (auto* map : {object->maps.ingress_flows, object->maps.ingress_answers,
                              object->maps.ingress_syns})
                bpf_map__set_max_entries(map, flows_max);
            return ingress__load(object);
        },
        said);
    if (error_number == 0) return program;

    std::string reason;
    if (error_number == ENOMEM) reason = format("there is no memory for {} flows", flows_max);
    return fail(load_error("cannot load the ingress programs", error_number, said, reason,
                           how_to_be_allowed()));
}

/// The number of the first program of this name among those that decide here where SYNs go.
static Result<uint32_t> find_door() {
    TRY_TO(links, steering_links_here());
    for (const auto& link : links)
        if (link.program_name == ingress_program_name) return link.program_id;
    return 0;
}

static Error door_is_held(uint32_t program_id) {
    return Error::of(format("another proxify captures incoming connections in this network "
                            "namespace already (program id {})",
                            program_id),
                     "end it first, or start this one in another namespace; `bpftool link` shows "
                     "it");
}

Result<> IngressProgram::open_door() {
    TRY_TO(before, find_door());
    if (before != 0) return fail(door_is_held(before));
    constexpr const char* here = "/proc/thread-self/ns/net";
    auto netns = Fd::adopt(open(here, O_RDONLY | O_CLOEXEC));
    if (!netns) return fail(Error::from_errno(errno, format("open {}", here)));
    door_.reset(bpf_program__attach_netns(object_->progs.proxify_arrive, netns.get()));
    if (!door_)
        return fail(Error::from_errno(errno, "attach sk_lookup to this network namespace",
                                      errno == EPERM ? how_to_be_allowed() : ""));

    // Two that start together both saw nobody. Both are shown the same list, so exactly one of
    // them finds the other in front of it, and gives way.
    TRY_TO(own, info_of<bpf_prog_info>(bpf_program__fd(object_->progs.proxify_arrive), "it"));
    TRY_TO(first, find_door());
    if (first == own.id) return {};
    door_.reset();
    return fail(door_is_held(first));
}

Result<> IngressProgram::set_listener(uint32_t place, int listener_fd) {
    uint64_t socket = static_cast<uint64_t>(listener_fd);
    if (bpf_map_update_elem(fd_of(object_->maps.ingress_listeners), &place, &socket, BPF_ANY) == 0)
        return {};
    return fail(
        Error::from_errno(errno, "put a listener into ingress_listeners",
                          errno == EOPNOTSUPP ? "it has to be a TCP socket that listens" : ""));
}

Result<> IngressProgram::set_port(uint16_t port, const IngressPort& entry) {
    int flags = (entry.has_flows || entry.to_port ? INGRESS_FLOWS : 0) |
                (entry.has_answers ? INGRESS_ANSWERS : 0);
    if (entry.to_port)
        flags |= INGRESS_REWRITE;
    else if (entry.listener)
        flags |= INGRESS_LISTEN;
    ingress_port value{};
    value.to_port = entry.to_port.value_or(0);
    value.listener = static_cast<uint16_t>(entry.listener.value_or(0));
    value.flags = static_cast<uint8_t>(flags);
    value.scope = entry.scope;
    uint32_t key = port;
    if (bpf_map_update_elem(fd_of(object_->maps.ingress_ports), &key, &value, BPF_ANY) == 0)
        return {};
    return fail(Error::from_errno(errno, format("write port {} into ingress_ports", port)));
}

Result<> IngressProgram::set_scope(uint8_t scope, uint32_t interface, bool belongs) {
    const ingress_scope key{.interface = interface, .scope = scope};
    const uint8_t value = 0;
    const int map = fd_of(object_->maps.ingress_scopes);
    int failed =
        belongs ? bpf_map_update_elem(map, &key, &value, BPF_ANY) : bpf_map_delete_elem(map, &key);
    if (failed == 0 || (!belongs && errno == ENOENT)) return {};
    return fail(Error::from_errno(errno, "write ingress_scopes"));
}

// ---- attaching

static Error hook_error(int error_number, const Interface& interface, const char* how) {
    return Error::from_errno(error_number, format("hook interface {} by {}", interface.name, how),
                             error_number == EPERM ? how_to_be_allowed() : "");
}

static bool is_gone(int error_number) {
    return error_number == ENODEV || error_number == ENXIO;
}

/// Takes away what a proxify that was killed has left. Whether there was something.
static Result<bool> remove_stale(const Interface& interface, int direction) {
    const uint32_t id = program_at(interface.index, direction);
    if (id == 0) return false;
    auto program = Fd::adopt(bpf_prog_get_fd_by_id(id));
    TRY_TO(info, info_of<bpf_prog_info>(program.get(), "a filter's program"));
    if (!std::string_view(info.name).starts_with("proxify_"))
        return fail(Error::of(format("a filter of somebody else, \"{}\", stands at {} where "
                                     "proxify's belongs",
                                     info.name, interface.name),
                              "remove it: `tc filter del dev IF ingress pref 8245`, or egress"));
    remove_filter(interface.index, direction);
    return true;
}

/// Also where tcx is used now: a filter goes on working by the maps of the one who was killed.
static void remove_leftovers(const Interface& interface) {
    bool was_there = false;
    for (int direction : directions)
        if (auto removed = remove_stale(interface, direction); removed && *removed)
            was_there = true;
    if (!was_there || has_filters(interface.index)) return;
    auto qdisc = place_at(interface.index, BPF_TC_INGRESS | BPF_TC_EGRESS);
    bpf_tc_hook_destroy(&qdisc);
}

/// False when the interface is gone.
Result<bool> IngressProgram::attach_tcx(Hook& hook) const {
    const auto& interface = hook.interface_;
    remove_leftovers(interface);
    auto attach = [&](int program, bpf_attach_type type) {
        return Fd::adopt(
            bpf_link_create(program, static_cast<int>(interface.index), type, nullptr));
    };
    hook.egress_ = attach(egress_fd(interface.has_ethernet), tcx_egress);
    if (hook.egress_) hook.ingress_ = attach(ingress_fd(interface.has_ethernet), tcx_ingress);
    if (hook.ingress_) return true;
    if (is_gone(errno)) return false;
    return fail(hook_error(errno, interface, "tcx"));
}

Result<bool> IngressProgram::attach_clsact(Hook& hook) const {
    const auto& interface = hook.interface_;
    auto qdisc = place_at(interface.index, BPF_TC_INGRESS | BPF_TC_EGRESS);
    int error_number = -bpf_tc_hook_create(&qdisc);
    if (is_gone(error_number)) return false;
    if (error_number != 0 && error_number != EEXIST)
        return fail(hook_error(error_number, interface, "clsact"));
    // One that stands empty but for filters of a proxify that was killed was made by that one.
    hook.is_qdisc_ours_ = error_number == 0;
    const int programs[] = {ingress_fd(interface.has_ethernet), egress_fd(interface.has_ethernet)};
    for (int i : {1, 0}) {
        TRY_TO(was_there, remove_stale(interface, directions[i]));
        if (was_there) hook.is_qdisc_ours_ = true;
        const auto place = place_at(interface.index, directions[i]);
        LIBBPF_OPTS(bpf_tc_opts, filter, .prog_fd = programs[i], .handle = own_handle,
                    .priority = own_priority);
        error_number = -bpf_tc_attach(&place, &filter);
        if (is_gone(error_number)) return false;
        // EINVAL where an old "ingress" queueing discipline stands, which has no egress.
        if (error_number != 0) return fail(hook_error(error_number, interface, "clsact"));
        TRY_TO(info, info_of<bpf_prog_info>(programs[i], "the program"));
        hook.ids_[i] = info.id;
    }
    return true;
}

Result<std::optional<Hook>> IngressProgram::hook(const Interface& interface, HookKind kind) {
    Hook hook(interface, kind);
    TRY_TO(is_hooked, kind == HookKind::tcx ? attach_tcx(hook) : attach_clsact(hook));
    if (!is_hooked) return std::nullopt;
    return hook;
}

// ---- what is there

Result<std::vector<Counter>> IngressProgram::counters() const {
    std::vector<Counter> counters{
#define COUNTER(name, meaning) {#name, meaning},
        INGRESS_COUNTERS(COUNTER)
#undef COUNTER
    };
    int cpus = libbpf_num_possible_cpus();
    if (cpus < 0) return fail(Error::from_errno(-cpus, "count the CPUs"));
    std::vector<uint64_t> of_cpus(static_cast<size_t>(cpus));
    for (uint32_t i = 0; i < counters.size(); ++i) {
        if (bpf_map_lookup_elem(fd_of(object_->maps.ingress_counts), &i, of_cpus.data()) != 0)
            return fail(Error::from_errno(errno, "read ingress_counts"));
        for (uint64_t value : of_cpus) counters[i].value += value;
    }
    return counters;
}

Result<IngressProgram::Ids> IngressProgram::ids() const {
    TRY_TO(in, info_of<bpf_prog_info>(ingress_fd(), "proxify_ingress"));
    TRY_TO(out, info_of<bpf_prog_info>(egress_fd(), "proxify_egress"));
    TRY_TO(ports, info_of<bpf_map_info>(fd_of(object_->maps.ingress_ports), "ingress_ports"));
    return Ids{.ingress = in.id, .egress = out.id, .ports = ports.id};
}

int IngressProgram::ingress_fd(bool has_ethernet) const {
    return bpf_program__fd(has_ethernet ? object_->progs.proxify_ingress
                                        : object_->progs.proxify_in_l3);
}

int IngressProgram::egress_fd(bool has_ethernet) const {
    return bpf_program__fd(has_ethernet ? object_->progs.proxify_egress
                                        : object_->progs.proxify_out_l3);
}

void IngressProgram::DestroyObject::operator()(::ingress* object) const {
    ingress__destroy(object);
}

void IngressProgram::DestroyLink::operator()(bpf_link* link) const {
    bpf_link__destroy(link);
}

}  // namespace proxify::kernel
