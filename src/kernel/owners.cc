// SPDX-License-Identifier: Apache-2.0
#include "kernel/owners.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include "base/fd.h"
#include "base/format.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14; libc 2.36 leaves it out */
#endif

namespace proxify::kernel {

namespace fs = std::filesystem;

/// The processes that /proc shows.
static std::vector<int> all_processes() {
    std::vector<int> pids;
    std::error_code ignored;
    for (fs::directory_iterator one("/proc", ignored), end; one != end; one.increment(ignored)) {
        const auto name = one->path().filename().string();
        int pid = 0;
        auto [last, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (error == std::errc{} && last == name.data() + name.size()) pids.push_back(pid);
    }
    return pids;
}

/// A process of each network namespace, by inode. False when some could not be looked at. Process 1
/// does not count: in a sandbox it may be hidden from everybody, and as all descend from it, nobody
/// treats what it has as a proxy's.
static bool all_namespaces(const std::vector<int>& pids, std::map<uint64_t, int>& found) {
    bool is_complete = true;
    for (int pid : pids) {
        struct stat about{};
        if (stat(format("/proc/{}/ns/net", pid).c_str(), &about) == 0)
            found.emplace(about.st_ino, pid);
        else if (pid != 1 && (errno == EACCES || errno == EPERM))
            is_complete = false;
    }
    return is_complete;
}

/// Whether this address is one of the calling thread's namespace.
static bool is_address_here(const Ip& ip) {
    ifaddrs* first = nullptr;
    if (getifaddrs(&first) != 0) return false;
    bool is_here = false;
    for (auto* one = first; one && !is_here; one = one->ifa_next) {
        if (!one->ifa_addr) continue;
        if (one->ifa_addr->sa_family != AF_INET && one->ifa_addr->sa_family != AF_INET6) continue;
        sockaddr_storage at{};
        std::memcpy(&at, one->ifa_addr,
                    one->ifa_addr->sa_family == AF_INET ? 16 /* sockaddr_in */ : 28);
        is_here = Address::from_sockaddr(at).ip == ip;
    }
    freeifaddrs(first);
    return is_here;
}

static std::optional<Listening> find_here(const Address& address) {
    if (!address.ip.is_loopback() && !is_address_here(address.ip)) return std::nullopt;
    auto listeners = tcp_listeners_here();
    if (!listeners) return std::nullopt;
    const auto* found = find_listener(*listeners, address);
    if (!found) return std::nullopt;
    return *found;
}

/// All sockets that share the listener's address, as workers of one proxy do (SO_REUSEPORT).
static std::vector<uint64_t> sockets_at(const Address& address) {
    std::vector<uint64_t> inodes;
    auto listeners = tcp_listeners_here();
    if (!listeners) return inodes;
    for (const auto& one : *listeners)
        if (one.address == address) inodes.push_back(one.inode);
    return inodes;
}

struct Found {
    Listening listener;
    std::vector<uint64_t> sockets;
    uint64_t netns = 0, netns_cookie = 0;
};

static std::optional<Found> ask_here(const Address& address, uint64_t netns) {
    auto listener = find_here(address);
    if (!listener) return std::nullopt;
    return Found{.listener = *listener,
                 .sockets = sockets_at(listener->address),
                 .netns = netns,
                 .netns_cookie = netns_cookie_here().value_or(0)};
}

/// A thread that ends afterwards may go anywhere that it is allowed to; false when it is not.
static bool ask_there(const Address& address, uint64_t netns, int pid, std::vector<Found>& found) {
    auto there = Fd::adopt(open(format("/proc/{}/ns/net", pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!there) return errno != EACCES && errno != EPERM;  // or it has just ended
    bool is_let_in = true;
    std::thread([&] {
        is_let_in = setns(there.get(), CLONE_NEWNET) == 0;
        if (!is_let_in) return;
        if (auto one = ask_here(address, netns)) found.push_back(std::move(*one));
    }).join();
    return is_let_in;
}

enum class Sight { has_it, has_it_not, not_allowed };

static bool is_forbidden(const std::error_code& error) {
    return error == std::errc::permission_denied || error == std::errc::operation_not_permitted;
}

static Sight look_for(const std::vector<uint64_t>& sockets, int pid) {
    // A proxy has a file for each connection, and its listeners among the first of them.
    int left = 4096;
    std::error_code error;
    for (fs::directory_iterator one(format("/proc/{}/fd", pid), error), end;
         !error && one != end && --left > 0; one.increment(error)) {
        std::error_code unread;  // or it is closed by now
        const std::string link = fs::read_symlink(one->path(), unread).native();
        if (is_forbidden(unread)) return Sight::not_allowed;
        for (uint64_t inode : sockets)
            if (link == format("socket:[{}]", inode)) return Sight::has_it;
    }
    return is_forbidden(error) ? Sight::not_allowed : Sight::has_it_not;
}

OwnerSearch find_owners(const Address& address, const std::stop_token& stop) {
    const auto pids = all_processes();
    OwnerSearch search;
    std::vector<Found> found;
    struct stat here{};
    stat("/proc/thread-self/ns/net", &here);
    if (auto one = ask_here(address, here.st_ino)) found.push_back(*one);
    if (found.empty() && !address.ip.is_loopback()) {
        std::map<uint64_t, int> namespaces;
        search.is_complete = all_namespaces(pids, namespaces);
        for (auto [netns, pid] : namespaces) {
            if (stop.stop_requested()) return {.found = {}, .is_complete = false};
            if (netns != here.st_ino && !ask_there(address, netns, pid, found))
                search.is_complete = false;
        }
    }

    for (const auto& one : found) {
        Owners group{.address = one.listener.address,
                     .socket = one.listener.inode,
                     .netns = one.netns,
                     .netns_cookie = one.netns_cookie,
                     .pids = {},
                     .name = {},
                     .uid = 0};
        for (int pid : pids) {
            if (stop.stop_requested()) return {.found = {}, .is_complete = false};
            const auto sight = look_for(one.sockets, pid);
            if (sight == Sight::has_it) group.pids.insert(pid);
            if (sight == Sight::not_allowed && pid != 1) search.is_complete = false;
        }
        if (!group.pids.empty()) {
            group.name = name_of_process(*group.pids.begin());
            group.uid = uid_of_process(*group.pids.begin()).value_or(0);
        } else {
            search.is_complete = false;  // /proc may be mounted so that others are not even listed
        }
        search.found.push_back(std::move(group));
    }
    return search;
}

// ---- of a process

std::string name_of_process(int pid) {
    std::string name;
    std::getline(std::ifstream(format("/proc/{}/comm", pid)), name);
    return format("{} (pid {})", name, pid);
}

std::optional<uint32_t> uid_of_process(int pid) {
    std::ifstream status(format("/proc/{}/status", pid));
    for (std::string word; status >> word;) {
        if (word != "Uid:") continue;
        uint32_t real = 0, effective = 0;
        if (status >> real >> effective) return effective;
    }
    return std::nullopt;
}

uint64_t start_of_process(int pid) {
    std::ifstream file(format("/proc/{}/stat", pid));
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    // 812 (so) cat) S 1 ...: the name ends at the last parenthesis, and the 22nd field is meant.
    const size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) return 0;
    std::istringstream rest(text.substr(name_end + 1));
    std::string field;
    for (int i = 3; i <= 22; ++i)
        if (!(rest >> field)) return 0;
    uint64_t start = 0;
    std::from_chars(field.data(), field.data() + field.size(), start);
    return start;
}

Result<uint64_t> netns_cookie_here() {
    auto socket = Fd::adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    if (!socket || getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0)
        return fail(Error::from_errno(errno, "ask for the cookie of this network namespace"));
    return cookie;
}

}  // namespace proxify::kernel
