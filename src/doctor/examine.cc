// SPDX-License-Identifier: Apache-2.0
#include <ifaddrs.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <thread>

#include "base/fd.h"
#include "doctor/host.h"
#include "io/ring.h"
#include "kernel/privileges.h"
#include "kernel/steering_program.h"

namespace proxify::doctor {

namespace {

std::string read_line(const std::string& path) {
    std::string line;
    std::getline(std::ifstream(path), line);
    return line;
}

std::optional<long> read_number(const std::string& path) {
    const std::string line = read_line(path);
    long value = 0;
    auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
    if (error != std::errc()) return std::nullopt;
    return value;
}

/// "net.core.somaxconn", with slashes as in /proc.
std::optional<long> sysctl(const std::string& name) {
    return read_number("/proc/sys/" + name);
}

/// "5000-5999,8080"
steering::PortSet read_ports(const std::string& path) {
    steering::PortSet ports;
    std::istringstream list(read_line(path));
    for (std::string range; std::getline(list, range, ',');) {
        unsigned first = 0, last = 0;
        const char* end = range.data() + range.size();
        auto dash = std::from_chars(range.data(), end, first).ptr;
        last = first;
        if (dash != end) std::from_chars(dash + 1, end, last);
        for (unsigned port = first; port <= last && port < ports.size(); ++port) ports.set(port);
    }
    return ports;
}

bool has_seccomp_filter() {
    std::ifstream status("/proc/thread-self/status");
    for (std::string line; std::getline(status, line);)
        if (line == "Seccomp:\t2") return true;
    return false;
}

/// The first place where such a file system is mounted.
std::string mount_point_of(std::string_view type) {
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);) {
        std::istringstream words(line);
        std::string device, place, of_type;
        words >> device >> place >> of_type;
        if (of_type == type) return place;
    }
    return {};
}

size_t limit_of(__rlimit_resource resource) {
    rlimit limit{};
    if (getrlimit(resource, &limit) != 0 || limit.rlim_max == RLIM_INFINITY) return SIZE_MAX;
    return limit.rlim_max;
}

void try_ring(Host& host) {
    // Its flags came with Linux 6.1, after everything else that is asked of a ring later.
    if (auto ring = io::Ring::open({}); !ring) host.ring_refused = std::move(ring).error();
    io_uring_params plain{};
    auto fd = Fd::adopt(static_cast<int>(syscall(SYS_io_uring_setup, 1, &plain)));
    if (!fd) host.io_uring_errno = errno;
    host.io_uring_disabled = sysctl("kernel/io_uring_disabled");
    host.has_seccomp_filter = has_seccomp_filter();
    host.locked_memory_max = limit_of(RLIMIT_MEMLOCK);
}

void try_program(Host& host) {
    host.missing_for_steering = kernel::missing_for_steering();
    host.unprivileged_bpf_disabled = sysctl("kernel/unprivileged_bpf_disabled");
    host.bpf_jit_enable = sysctl("net/core/bpf_jit_enable");
    host.has_btf = access("/sys/kernel/btf/vmlinux", F_OK) == 0;
    host.bpffs = mount_point_of("bpf");
    host.cgroup2 = mount_point_of("cgroup2");

    if (auto links = kernel::steering_links_here()) host.steering_links = std::move(*links);
    if (!host.missing_for_steering.empty()) return;
    host.program_was_tried = true;
    if (auto program = kernel::SteeringProgram::load(); !program)
        host.program_refused = std::move(program).error();
}

void look_at_ports(Host& host, const steering::PortSet& ports) {
    if (auto listeners = kernel::tcp_listeners_here()) {
        std::vector<kernel::Listening> of_interest;
        for (const auto& one : *listeners)
            if (ports.test(one.address.port)) of_interest.push_back(one);
        if (!of_interest.empty()) kernel::name_processes(of_interest);
        host.listeners = std::move(of_interest);
    }
    std::ifstream range("/proc/sys/net/ipv4/ip_local_port_range");
    if (uint16_t first = 0, last = 0; range >> first >> last) host.local_ports = {first, last};
    host.reserved_ports = read_ports("/proc/sys/net/ipv4/ip_local_reserved_ports");
    if (auto from = sysctl("net/ipv4/ip_unprivileged_port_start"))
        host.unprivileged_from = static_cast<uint16_t>(*from);
    host.may_bind_low_ports = kernel::may_bind_low_ports();
}

void look_at_interfaces(Host& host) {
    ifaddrs* first = nullptr;
    if (getifaddrs(&first) != 0) return;
    const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> list(first, freeifaddrs);

    // The kernel goes by the higher one.
    auto setting = [](const std::string& interface, const std::string& name) {
        const std::string conf = "net/ipv4/conf/";
        return static_cast<int>(std::max(sysctl(conf + "all/" + name).value_or(0),
                                         sysctl(conf + interface + "/" + name).value_or(0)));
    };
    std::set<std::string> names;
    for (const ifaddrs* one = first; one; one = one->ifa_next) {
        if (one->ifa_addr &&
            (one->ifa_addr->sa_family == AF_INET || one->ifa_addr->sa_family == AF_INET6)) {
            sockaddr_storage address{};
            std::memcpy(
                &address, one->ifa_addr,
                one->ifa_addr->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
            host.addresses.push_back(Address::from_sockaddr(address).ip);
        }
        if (!(one->ifa_flags & IFF_UP) || one->ifa_flags & IFF_LOOPBACK) continue;
        const std::string name = one->ifa_name;
        if (!names.insert(name).second) continue;
        host.interfaces.push_back({.name = name,
                                   .rp_filter = setting(name, "rp_filter"),
                                   .src_valid_mark = setting(name, "src_valid_mark") != 0,
                                   .accept_local = setting(name, "accept_local") != 0});
    }
}

void look_at_limits(Host& host) {
    host.descriptors_max = limit_of(RLIMIT_NOFILE);
    host.nr_open = sysctl("fs/nr_open");
    host.file_max = sysctl("fs/file-max");
    host.files_open = sysctl("fs/file-nr");
    host.somaxconn = sysctl("net/core/somaxconn");
    host.syncookies = sysctl("net/ipv4/tcp_syncookies");
    host.max_syn_backlog = sysctl("net/ipv4/tcp_max_syn_backlog");
    host.conntrack_count = sysctl("net/netfilter/nf_conntrack_count");
    host.conntrack_max = sysctl("net/netfilter/nf_conntrack_max");
}

}  // namespace

std::vector<std::string> readable_by_all(const std::vector<std::string>& files) {
    std::vector<std::string> out;
    for (const auto& file : files)
        if (struct stat info{}; stat(file.c_str(), &info) == 0 && info.st_mode & S_IROTH)
            out.push_back(file);
    return out;
}

Host examine_host(const steering::PortSet& ports, const std::vector<std::string>& keys) {
    Host host;
    utsname system{};
    if (uname(&system) == 0) host.kernel = system.release;
    host.cores = std::max(std::thread::hardware_concurrency(), 1u);
    struct stat here{}, first{};
    if (stat("/proc/thread-self/ns/net", &here) == 0) host.network_namespace = here.st_ino;
    if (stat("/proc/1/ns/net", &first) == 0) host.is_first_namespace = here.st_ino == first.st_ino;

    try_ring(host);
    try_program(host);
    look_at_ports(host, ports);
    look_at_interfaces(host);
    host.marks = marks_here();
    look_at_limits(host);
    host.now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    host.open_keys = readable_by_all(keys);
    return host;
}

}  // namespace proxify::doctor
