// SPDX-License-Identifier: Apache-2.0
#include "kernel/steering_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "base/fd.h"
#include "base/format.h"
#include "contract.h"
#include "kernel/privileges.h"
#include "steer.skel.h"

namespace proxify::kernel {

static_assert(sizeof(steer_dial) == 20 && offsetof(steer_dial, port_be) == 16);
static_assert(steering_program_name.size() < BPF_OBJ_NAME_LEN, "the kernel cuts longer names");

// libbpf prints to stderr while it works. Here it is silent, and what it said last goes into the
// Error if loading fails. It has one printer for the whole process, hence an ear for each thread.
static thread_local std::string* libbpf_said = nullptr;

static int hear_libbpf(libbpf_print_level level, const char* form, va_list values) {
    if (level == LIBBPF_DEBUG || libbpf_said == nullptr) return 0;
    // One call can bring the verifier's whole log, and its end is what matters.
    va_list again;
    va_copy(again, values);
    std::string text(std::vsnprintf(nullptr, 0, form, values), '\0');
    std::vsnprintf(text.data(), text.size() + 1, form, again);
    va_end(again);
    *libbpf_said += text;
    return 0;
}

static void silence_libbpf() {
    [[maybe_unused]] static const auto usual_printer = libbpf_set_print(hear_libbpf);
}

static int load_and_listen(steer* object, std::string& said) {
    libbpf_said = &said;
    int error = steer__load(object);
    libbpf_said = nullptr;
    return -error;
}

static std::vector<std::string> last_lines(const std::string& text, size_t lines_max) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(std::move(line));
    if (lines.size() > lines_max) lines.erase(lines.begin(), lines.end() - lines_max);
    return lines;
}

/// A plain reason, where there is one.
static std::string why_not_loaded(int error_number) {
    if (error_number == ENOSYS) return "this kernel was built without the bpf system call";
    if (error_number == EPERM) return {};
    if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SK_LOOKUP, nullptr) == 0)
        return "this kernel has no sk_lookup hook; it came with Linux 5.9";
    return {};
}

static std::string permission_hint() {
    auto missing = missing_for_steering();
    if (!missing.empty()) return privileges_hint(missing);
    return "the capabilities are there, so something else forbids bpf(): a user namespace\n"
           "(rootless container), a seccomp profile, or kernel lockdown";
}

Result<SteeringProgram> SteeringProgram::load() {
    silence_libbpf();
    SteeringProgram program(steer__open());
    if (!program.object_) return fail(Error::from_errno(errno, "open the steering program"));

    std::string said;
    int error_number = load_and_listen(program.object_.get(), said);
    if (error_number == 0) return program;

    auto error = Error::of("cannot load the steering program");
    if (error_number == EPERM) error.hint = permission_hint();
    if (auto reason = why_not_loaded(error_number); !reason.empty()) {
        error.causes = {reason};
    } else {
        // Nobody foresaw this one, so libbpf and the verifier speak for themselves.
        if (error_number != EPERM) error.causes = last_lines(said, /*lines_max=*/10);
        error.causes.insert(error.causes.begin(), std::strerror(error_number));
    }
    return fail(std::move(error));
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
    if (error_number == EPERM) hint = permission_hint();
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

static steer_dial to_dial(const Address& source) {
    sockaddr_storage storage{};
    source.to_sockaddr(storage, /*as_v6=*/true);
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    steer_dial dial{};
    std::memcpy(dial.address, &v6.sin6_addr, sizeof dial.address);
    dial.port_be = v6.sin6_port;
    return dial;
}

bool SteeringProgram::guard_dial(const Address& source) {
    auto dial = to_dial(source);
    uint8_t value = 0;
    return bpf_map_update_elem(bpf_map__fd(object_->maps.own_dials), &dial, &value, BPF_ANY) == 0;
}

void SteeringProgram::unguard_dial(const Address& source) {
    auto dial = to_dial(source);
    bpf_map_delete_elem(bpf_map__fd(object_->maps.own_dials), &dial);
}

/// Every kind of object has an info struct, filled by one call; reading one's own descriptors
/// needs no capability.
template <class Info>
static Result<Info> info_of(int fd, std::string_view what) {
    Info info{};
    uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
        return fail(Error::from_errno(errno, format("ask for the id of {}", what)));
    return info;
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

Result<std::vector<Counter>> SteeringProgram::counters() const {
#define COUNTER(name, meaning) {#name, meaning},
    std::vector<Counter> counters{STEER_COUNTERS(COUNTER)};
#undef COUNTER
    int cpus = libbpf_num_possible_cpus();
    if (cpus < 0) return fail(Error::from_errno(-cpus, "count the CPUs"));
    std::vector<uint64_t> values(cpus);
    for (uint32_t index = 0; index < counters.size(); ++index) {
        if (bpf_map_lookup_elem(bpf_map__fd(object_->maps.steer_counters), &index, values.data()))
            return fail(Error::from_errno(errno, "read steer_counters"));
        for (uint64_t value : values) counters[index].value += value;
    }
    return counters;
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
