// SPDX-License-Identifier: Apache-2.0
//
// Which capability is needed for what, tried on Linux 6.18 with all others dropped:
//
//     hash, LRU and per-CPU maps       CAP_BPF
//     sockmap, sk_lookup program       CAP_BPF and CAP_NET_ADMIN
//     attach, list who is attached     CAP_NET_ADMIN
//     names and links of others        CAP_SYS_ADMIN; links.cc does without
//     connect programs                 CAP_PERFMON as well, to look at processes
//
// CAP_SYS_ADMIN alone serves for all of them. CAP_SYS_RESOURCE, CAP_PERFMON and a raised
// RLIMIT_MEMLOCK are not needed; maps are charged to the memory cgroup since Linux 5.11.
//
// And after that, for a change of what runs:
//
//     write maps, end the link         nothing, where the descriptors are held; but before
//                                      Linux 5.19 CAP_BPF, if unprivileged_bpf_disabled is set
//     a new access list                CAP_BPF: it is a new map
//     another listener on a port       CAP_NET_BIND_SERVICE where the port is a low one, and the
//                                      sockets that are there have to belong to the same user
//     the socket for dropped clients   CAP_NET_ADMIN, for its filter: hence it is opened before
#include "kernel/privileges.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>

#include "base/fd.h"
#include "base/format.h"

namespace proxify::kernel {

static uint64_t effective_capabilities() {
    constexpr std::string_view key = "CapEff:\t";
    std::ifstream status("/proc/thread-self/status");
    for (std::string line; std::getline(status, line);) {
        if (!line.starts_with(key)) continue;
        uint64_t bits = 0;
        std::from_chars(line.data() + key.size(), line.data() + line.size(), bits, 16);
        return bits;
    }
    return ~uint64_t{0};  // no /proc: let the kernel be the one to refuse
}

static bool has(int capability, uint64_t effective) {
    return (effective >> capability & 1) != 0;
}

bool may_set_marks() {
    const auto socket = Fd::adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int mark = 1;
    return !socket || setsockopt(socket.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0;
}

std::vector<std::string> missing_for_steering() {
    const uint64_t effective = effective_capabilities();
    if (has(CAP_SYS_ADMIN, effective)) return {};

    std::vector<std::string> missing;
    if (!has(CAP_BPF, effective)) missing.emplace_back("CAP_BPF");
    if (!has(CAP_NET_ADMIN, effective)) missing.emplace_back("CAP_NET_ADMIN");
    return missing;
}

std::vector<std::string> missing_for_connect() {
    auto missing = missing_for_steering();
    const uint64_t effective = effective_capabilities();
    if (!has(CAP_SYS_ADMIN, effective) && !has(CAP_PERFMON, effective))
        missing.emplace_back("CAP_PERFMON");
    return missing;
}

bool may_bind_low_ports() {
    return has(CAP_NET_BIND_SERVICE, effective_capabilities());
}

std::string privileges_hint(std::span<const std::string> missing) {
    return format(
        "run as root, or grant {}; or leave -b away:\n"
        "the same services then run on ordinary listeners, without privileges",
        join_with_and(missing));
}

std::string join_with_and(std::span<const std::string> words) {
    std::string out;
    for (size_t i = 0; i < words.size(); ++i) {
        if (i > 0) out += i + 1 == words.size() ? " and " : ", ";
        out += words[i];
    }
    return out;
}

void keep_from_programs() {
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

// ---- to become somebody else

/// Calls a function of the getpwnam_r kind with as much room as it needs.
template <class Entry, class Look>
static Result<Entry> look_up(const char* what, const std::string& name, std::vector<char>& room,
                             Look look) {
    Entry entry{};
    Entry* found = nullptr;
    int error = ERANGE;
    for (room.resize(1024); error == ERANGE; room.resize(room.size() * 2))
        if (error = look(name.c_str(), &entry, room.data(), room.size(), &found); error != ERANGE)
            break;
    if (error != 0) return fail(Error::from_errno(error, format("look up {} {}", what, name)));
    if (!found)
        return fail(Error::of(format("there is no {} \"{}\" on this host", what, name),
                              format("make one, or write another `{}` into the file", what)));
    return entry;
}

Result<User> find_user(const std::string& name, const std::string& group) {
    std::vector<char> room;
    TRY_TO(entry, look_up<passwd>("user", name, room, getpwnam_r));
    User user{.name = name, .uid = entry.pw_uid, .gid = entry.pw_gid, .groups = {}};
    if (user.uid == 0)
        return fail(Error::of(format("user \"{}\" is root, whom `user` is there to leave", name),
                              "name another user, or take `user` out of the file"));
    if (!group.empty()) {
        TRY_TO(other, look_up<::group>("group", group, room, getgrnam_r));
        user.gid = other.gr_gid;
    }
    int count = 64;
    do user.groups.resize(static_cast<size_t>(count));
    while (getgrouplist(name.c_str(), user.gid, user.groups.data(), &count) < 0);
    user.groups.resize(static_cast<size_t>(count));
    return user;
}

bool is_user(const User& user) {
    return getuid() == user.uid && geteuid() == user.uid && getegid() == user.gid;
}

static Error cannot_become(const User& user, const char* step) {
    return Error::from_errno(errno, format("become user {}: {}", user.name, step),
                             "start proxify as root with CAP_SETUID, CAP_SETGID, CAP_SETPCAP "
                             "and CAP_CHOWN, or take `user` out of the file");
}

using CapabilitySets = std::array<__user_cap_data_struct, 2>;

static long capabilities_call(long number, CapabilitySets& sets) {
    __user_cap_header_struct of_this_thread{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    return syscall(number, &of_this_thread, sets.data());
}

Result<> prepare_to_become(const User& user) {
    if (is_user(user)) return {};
    if (geteuid() != 0)
        return fail(
            Error::of(format("cannot become user {}: proxify was not started as root", user.name),
                      "start it as root, or take `user` out of the file"));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail(cannot_become(user, "set no_new_privs"));
    for (int capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0;) ++capability;
    // The kernel says so of the first number that is no capability.
    if (errno != EINVAL) return fail(cannot_become(user, "empty the bounding set"));
    CapabilitySets sets{};
    if (capabilities_call(SYS_capget, sets) != 0) return fail(cannot_become(user, "capget"));
    for (auto& set : sets) set.inheritable = 0;
    if (capabilities_call(SYS_capset, sets) != 0) return fail(cannot_become(user, "capset"));
    return {};
}

Result<> give_socket(int fd, const User& user) {
    if (fchown(fd, user.uid, user.gid) == 0) return {};
    return fail(cannot_become(user, "hand it the listeners"));
}

/// Ports below are for CAP_NET_BIND_SERVICE.
static int first_unprivileged_port() {
    int port = 1024;
    std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> port;
    return port;
}

std::vector<int> needed_for_reload(const Work& work) {
    std::vector<int> needed;
    if (work.steering_port || work.has_programs) needed.push_back(CAP_BPF);
    // Without steering a reload may add any port.
    if (work.steering_port.value_or(1) < first_unprivileged_port())
        needed.push_back(CAP_NET_BIND_SERVICE);
    if (work.sets_marks) needed.push_back(CAP_NET_RAW);
    if (work.has_programs) {
        needed.push_back(CAP_NET_ADMIN);
        needed.push_back(CAP_PERFMON);
    }
    return needed;
}

static const char* name_of_capability(int capability) {
    switch (capability) {
        case CAP_BPF:
            return "CAP_BPF";
        case CAP_NET_ADMIN:
            return "CAP_NET_ADMIN";
        case CAP_NET_RAW:
            return "CAP_NET_RAW";
        case CAP_PERFMON:
            return "CAP_PERFMON";
        default:
            return "CAP_NET_BIND_SERVICE";
    }
}

Result<std::vector<std::string>> become(const User& user, std::span<const int> capabilities) {
    // glibc makes every thread of the process take these steps. A thread that becomes an ordinary
    // user loses its capabilities then, but for those that it asked to keep, which only this one
    // does.
    if (setgroups(user.groups.size(), user.groups.data()) != 0)
        return fail(cannot_become(user, "take on its groups"));
    if (setresgid(user.gid, user.gid, user.gid) != 0)
        return fail(cannot_become(user, "take on its group"));
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
        return fail(cannot_become(user, "keep capabilities"));
    if (setresuid(user.uid, user.uid, user.uid) != 0) return fail(cannot_become(user, "setuid"));

    CapabilitySets have{}, kept{};
    if (capabilities_call(SYS_capget, have) != 0) return fail(cannot_become(user, "capget"));
    std::vector<std::string> names;
    for (int capability : capabilities) {
        const auto word = static_cast<size_t>(CAP_TO_INDEX(capability));
        const uint32_t bit = CAP_TO_MASK(capability) & have[word].permitted;
        kept[word].permitted |= bit;
        kept[word].effective |= bit;
        if (bit) names.emplace_back(name_of_capability(capability));
    }
    if (capabilities_call(SYS_capset, kept) != 0) return fail(cannot_become(user, "capset"));
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    return names;
}

}  // namespace proxify::kernel
