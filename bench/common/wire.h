// SPDX-License-Identifier: Apache-2.0
// What load and target say to each other.
//
// The target listens on two ports. On the first it echoes. On the second, `bulk`, a client says
// Hello and then one or both sides send pattern until the client shuts its direction down; the
// target stops too and closes. So at the end both know how much there was, and compare.
#pragma once

#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/fd.h"

namespace proxify::bench {

using Clock = std::chrono::steady_clock;
using Moment = Clock::time_point;
using namespace std::chrono_literals;

struct Hello {
    static constexpr uint32_t right_magic = 0x70725859;
    uint32_t magic = right_magic;
    uint32_t stream = 0;
    uint8_t client_sends = 0;
    uint8_t target_sends = 0;
    uint8_t reserved[2] = {};
};
static_assert(sizeof(Hello) == 12);

/// What the target tells the load without using the network: one page that both have mapped.
struct Tally {
    std::atomic<uint64_t> bulk_received{0};
    std::atomic<uint64_t> bulk_sent{0};
    std::atomic<uint64_t> errors{0};

    /// The page behind a memory file; without one (a negative fd) a page of one's own.
    static Tally* map(int fd) {
        void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                          fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
        return page == MAP_FAILED ? nullptr : static_cast<Tally*>(page);
    }
};

/// How much the programs move with one call in bulk work: fits the second cache beside the rest.
constexpr size_t bulk_chunk = 128 * 1024;

[[noreturn]] inline void die(const std::string& why) {
    std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, why.c_str());
    std::exit(2);
}

/// Set by SIGTERM and SIGINT: finish what is measured and say what came out.
inline volatile sig_atomic_t told_to_stop = 0;

inline void stop_when_told() {
    struct sigaction action{};
    action.sa_handler = [](int) { told_to_stop = 1; };
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
}

class Epoll {
  public:
    Epoll() : fd_(Fd::adopt(epoll_create1(EPOLL_CLOEXEC))) {
        if (!fd_) die("cannot make an epoll");
    }

    void add(int fd, uint32_t events, void* owner) { control(EPOLL_CTL_ADD, fd, events, owner); }
    void change(int fd, uint32_t events, void* owner) { control(EPOLL_CTL_MOD, fd, events, owner); }

    /// Hands out events until the moment has come, or we are told to stop.
    template <class OnEvent>
    void run_until(Moment end, OnEvent&& on_event) {
        run_while([&] { return Clock::now() < end && !told_to_stop; }, on_event);
    }

    /// The same while a condition holds; it is looked at once a turn, at least every 10 ms.
    template <class Condition, class OnEvent>
    void run_while(Condition&& holds, OnEvent&& on_event) {
        epoll_event events[256];
        while (holds()) {
            int count = epoll_wait(fd_.get(), events, 256, 10);
            for (int i = 0; i < count; ++i) on_event(events[i].data.ptr, events[i].events);
        }
    }

  private:
    void control(int what, int fd, uint32_t events, void* owner) {
        epoll_event event{.events = events, .data = {.ptr = owner}};
        if (epoll_ctl(fd_.get(), what, fd, &event) < 0) die("epoll refuses a socket");
    }

    Fd fd_;
};

}  // namespace proxify::bench
