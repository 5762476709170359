// SPDX-License-Identifier: Apache-2.0
#include "kernel/owners.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <thread>

#include "base/fd.h"
#include "base/format.h"

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

/// A process of each network namespace, by inode.
static std::map<uint64_t, int> all_namespaces(const std::vector<int>& pids) {
    std::map<uint64_t, int> found;
    for (int pid : pids) {
        struct stat about{};
        if (stat(format("/proc/{}/ns/net", pid).c_str(), &about) == 0)
            found.emplace(about.st_ino, pid);
    }
    return found;
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
    uint64_t netns = 0;
};

static std::optional<Found> ask_here(const Address& address, uint64_t netns) {
    auto listener = find_here(address);
    if (!listener) return std::nullopt;
    return Found{.listener = *listener, .sockets = sockets_at(listener->address), .netns = netns};
}

/// A thread that ends afterwards may go anywhere.
static std::optional<Found> ask_there(const Address& address, uint64_t netns, int pid) {
    std::optional<Found> found;
    auto there = Fd::adopt(open(format("/proc/{}/ns/net", pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!there) return found;
    std::thread([&] {
        if (setns(there.get(), CLONE_NEWNET) == 0) found = ask_here(address, netns);
    }).join();
    return found;
}

static std::string name_of(int pid) {
    std::string name;
    std::getline(std::ifstream(format("/proc/{}/comm", pid)), name);
    return format("{} (pid {})", name, pid);
}

static bool has_open(int pid, const std::vector<uint64_t>& sockets) {
    std::error_code ignored;
    // A proxy has a file for each connection, and its listeners among the first of them.
    int left = 4096;
    for (fs::directory_iterator one(format("/proc/{}/fd", pid), ignored), end;
         one != end && --left > 0; one.increment(ignored)) {
        const std::string link = fs::read_symlink(one->path(), ignored).native();
        for (uint64_t inode : sockets)
            if (link == format("socket:[{}]", inode)) return true;
    }
    return false;
}

std::vector<Owners> find_owners(const Address& address) {
    const auto pids = all_processes();
    std::vector<Found> found;
    struct stat here{};
    stat("/proc/thread-self/ns/net", &here);
    if (auto one = ask_here(address, here.st_ino)) found.push_back(*one);
    if (found.empty() && !address.ip.is_loopback())
        for (auto [netns, pid] : all_namespaces(pids))
            if (netns != here.st_ino)
                if (auto one = ask_there(address, netns, pid)) found.push_back(*one);

    std::vector<Owners> owners;
    for (const auto& one : found) {
        Owners group{.address = one.listener.address,
                     .socket = one.listener.inode,
                     .netns = one.netns,
                     .pids = {},
                     .name = {}};
        for (int pid : pids)
            if (has_open(pid, one.sockets)) group.pids.insert(pid);
        if (!group.pids.empty()) group.name = name_of(*group.pids.begin());
        owners.push_back(std::move(group));
    }
    return owners;
}

}  // namespace proxify::kernel
