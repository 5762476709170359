// SPDX-License-Identifier: Apache-2.0
#include "support/namespace.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <thread>

namespace proxify::test {

// A thread can change its namespace alone, so a thread that ends afterwards is the cleanest way to
// visit one: the rest of the process never notices.
static void run_in_fresh_thread(const std::function<void()>& work) {
    std::exception_ptr thrown;
    std::thread([&] {
        try {
            work();
        } catch (...) {
            thrown = std::current_exception();
        }
    }).join();
    if (thrown) std::rethrow_exception(thrown);
}

[[noreturn]] static void fail_with_errno(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

static void bring_loopback_up() {
    auto socket = Fd::adopt(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(socket.get(), SIOCSIFFLAGS, &request) < 0)
        fail_with_errno("cannot bring loopback up");
}

Namespace Namespace::create() {
    Fd fd;
    run_in_fresh_thread([&] {
        if (unshare(CLONE_NEWNET) < 0)
            throw Missing(
                std::string("needs a network namespace of its own, and unshare says: ") +
                std::strerror(errno) +
                (errno == EPERM ? " (CAP_SYS_ADMIN is missing; run the test as root)" : ""));
        fd = Fd::adopt(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
        if (!fd) fail_with_errno("cannot open /proc/thread-self/ns/net");
        bring_loopback_up();
    });
    return Namespace(std::move(fd));
}

void Namespace::run(const std::function<void()>& work) const {
    run_in_fresh_thread([&] {
        if (!enter_in_child()) fail_with_errno("cannot enter the test's network namespace");
        work();
    });
}

bool Namespace::enter_in_child() const noexcept {
    return setns(fd_.get(), CLONE_NEWNET) == 0;
}

void Namespace::reserve_ports(uint16_t first, uint16_t last) const {
    // /proc/sys/net shows the namespace of the thread that opens the file. Writing replaces the
    // whole list, so what was reserved before is written again.
    run([&] {
        auto file =
            Fd::adopt(open("/proc/sys/net/ipv4/ip_local_reserved_ports", O_RDWR | O_CLOEXEC));
        char before[4096] = {};
        if (!file || pread(file.get(), before, sizeof before - 1, 0) < 0)
            fail_with_errno("cannot read ip_local_reserved_ports");
        std::string list(before, std::strcspn(before, "\n"));
        if (!list.empty()) list += ',';
        list += std::to_string(first) + "-" + std::to_string(last) + "\n";
        if (pwrite(file.get(), list.data(), list.size(), 0) < 0)
            fail_with_errno("cannot reserve the ports " + list);
    });
}

void Namespace::add_address(const std::string& cidr) const {
    run([&] {
        // An IPv6 address is not usable until duplicates were looked for, unless told not to.
        const char* nodad = cidr.find(':') == std::string::npos ? nullptr : "nodad";
        const char* words[] = {"ip", "addr", "add", cidr.c_str(), "dev", "lo", nodad, nullptr};
        pid_t child = 0;
        int error =
            posix_spawnp(&child, words[0], nullptr, nullptr, const_cast<char**>(words), environ);
        if (error != 0) throw Missing(std::string("needs the ip command: ") + std::strerror(error));
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        if (status != 0) throw std::runtime_error("`ip addr add " + cidr + " dev lo` failed");
    });
}

uint64_t Namespace::inode() const {
    struct stat about{};
    if (fstat(fd_.get(), &about) < 0) fail_with_errno("cannot stat the test's network namespace");
    return about.st_ino;
}

}  // namespace proxify::test
