// SPDX-License-Identifier: Apache-2.0
// Ring over io_uring. The only file that includes liburing.
#include <fcntl.h>
#include <liburing.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <deque>
#include <thread>

#include "base/expect.h"
#include "base/fd.h"
#include "base/format.h"
#include "base/gauge.h"
#include "io/ring.h"
#include "io/spares.h"

namespace proxify::io {

namespace {

constexpr int buffer_group = 0;

/// The state of a listening socket; netinet/tcp.h says it, and does not go with linux/tcp.h.
constexpr int tcp_listen = 10;

/// SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST; linux/netfilter_ipv4.h does not go with netinet/in.h.
constexpr int original_dst_option = 80;

/// To sleep and to be woken costs about as much as so long a wait, here and at the peer who wakes.
constexpr Duration look_out_max = 50us;
constexpr unsigned sleeps_max = 1023;

int fd_of(Handle handle) {
    return static_cast<int>(handle);
}

template <class T>
int set_option(int fd, int level, int name, T value) {
    return setsockopt(fd, level, name, &value, sizeof value);
}

}  // namespace

struct Ring::Impl {
    io_uring ring{};
    bool initialised = false;
    bool enabled = false;
    Options options;
    Fd wake_fd;
    Completion wake_op;
    std::byte* buffers = nullptr;
    size_t buffers_size = 0;
    size_t buffer_stride = 0;
    io_uring_buf_ring* buffer_ring = nullptr;
    Spares spares;
    Time now = std::chrono::steady_clock::now();
    uint64_t random_state = 0;
    Gauge times_overflowed;
    unsigned to_reap = 0;
    unsigned sleeps_to_come = 0;  ///< waits that do not look out first
    unsigned sleeps_on_vain = 0;  ///< so many of them after the last look-out, which was in vain
    // Addresses that queued connects point to, until they are submitted.
    std::deque<sockaddr_storage> addresses;

    ~Impl() {
        if (initialised) io_uring_queue_exit(&ring);
        if (buffers) munmap(buffers, buffers_size);
    }

    /// A queue entry; submits first when the queue is full, so it never fails.
    io_uring_sqe* entry(void* owner) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring);
        while (!sqe) {
            enable();
            submit();
            sqe = io_uring_get_sqe(&ring);
        }
        io_uring_sqe_set_data(sqe, owner);
        return sqe;
    }

    void submit() {
        int result = io_uring_submit(&ring);
        expect(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN,
               "io_uring takes what is submitted");
    }

    /// The thread that turns the ring first is the only one that ever may (SINGLE_ISSUER).
    void enable() {
        if (enabled) return;
        enabled = true;
        // liburing 2.3 declares io_uring_enable_rings() and does not export it.
        expect(::syscall(__NR_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
                         nullptr, 0) == 0,
               "a ring can be enabled once it was set up");
        io_uring_register_ring_fd(&ring);  // saves a file lookup for each turn; optional
        arm_wake();
    }

    bool has_events() const {
        return (IO_URING_READ_ONCE(*ring.sq.kflags) & IORING_SQ_TASKRUN) != 0 ||
               io_uring_cq_ready(&ring) > 0;
    }

    /// Before a sleep, waits a moment awake: a peer that answers at once is met without the cost of
    /// being woken. Whoever else wants the core has it meanwhile. Each look-out in vain doubles the
    /// number of waits that sleep at once, so a quiet proxy burns nothing.
    bool look_out() {
        if (has_events()) return true;
        if (sleeps_to_come > 0) {
            --sleeps_to_come;
            return false;
        }
        if (io_uring_sq_ready(&ring) > 0) submit();
        Time end = std::chrono::steady_clock::now() + look_out_max;
        do {
            sched_yield();
            if (has_events()) {
                sleeps_on_vain = 0;
                return true;
            }
        } while (std::chrono::steady_clock::now() < end);
        sleeps_to_come = sleeps_on_vain = std::min(2 * sleeps_on_vain + 1, sleeps_max);
        return false;
    }

    /// Fetches what the events after the one at the head of the queue will touch.
    void fetch_ahead() const {
        auto owner = [&](unsigned ahead) {
            unsigned index = (*ring.cq.khead + ahead) & *ring.cq.kring_mask;
            return reinterpret_cast<const Completion*>(ring.cq.cqes[index].user_data);
        };
        if (to_reap > 2) fetch(owner(2), 3);
        if (to_reap > 1)
            if (const Completion* next = owner(1)) fetch(next->soon, 5);
    }

    static void fetch(const void* memory, int lines) {
        for (int i = 0; memory && i < lines; ++i)
            __builtin_prefetch(static_cast<const char*>(memory) + 64 * i);
    }

    void arm_wake() { io_uring_prep_poll_multishot(entry(&wake_op), wake_fd.get(), POLLIN); }
};

Ring::Ring(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ring::Ring(Ring&&) noexcept = default;
Ring& Ring::operator=(Ring&&) noexcept = default;
Ring::~Ring() = default;

Result<Ring> Ring::open(const Options& options) {
    auto impl = std::make_unique<Impl>();
    impl->options = options;

    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_R_DISABLED | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE |
                   IORING_SETUP_CLAMP;
    params.cq_entries = options.completions;
    if (int error = io_uring_queue_init_params(options.entries, &impl->ring, &params); error < 0) {
        const char* hint = "proxify needs Linux 6.1 or newer";
        if (error == -EPERM || error == -EACCES || error == -ENOSYS)
            hint =
                "io_uring is switched off here: see sysctl kernel.io_uring_disabled, and the "
                "seccomp profile of the container (Docker's default one blocks it)";
        if (error == -EMFILE || error == -ENFILE)
            hint = "too few file descriptors: raise `ulimit -n`";
        if (error == -ENOMEM) hint = "too little memory may be locked: raise `ulimit -l`";
        return fail(Error::from_errno(-error, "cannot set up io_uring", hint));
    }
    impl->initialised = true;

    // Buffers lie a page and three cache lines further than their size, so that the first
    // lines of all of them, where short messages are, do not share one cache set.
    impl->buffer_stride = options.buffer_size + 192;
    size_t ring_size = (options.buffers * sizeof(io_uring_buf) + 4095) & ~size_t{4095};
    impl->buffers_size = ring_size + options.buffers * impl->buffer_stride;
    void* memory = mmap(nullptr, impl->buffers_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return fail(Error::from_errno(errno, "cannot get memory for receive buffers"));
    impl->buffers = static_cast<std::byte*>(memory);
    impl->buffer_ring = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<uint64_t>(memory);
    registration.ring_entries = options.buffers;
    registration.bgid = buffer_group;
    if (int error = io_uring_register_buf_ring(&impl->ring, &registration, 0); error < 0)
        return fail(Error::from_errno(-error, "cannot register receive buffers with io_uring",
                                      "proxify needs Linux 6.1 or newer"));
    io_uring_buf_ring_init(impl->buffer_ring);

    impl->wake_fd = Fd::adopt(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!impl->wake_fd)
        return fail(Error::from_errno(errno, "cannot make an eventfd", "raise `ulimit -n`"));
    impl->wake_op.on_event = [](Completion&, Event) {};
    if (getrandom(&impl->random_state, sizeof impl->random_state, 0) < 0) impl->random_state = 1;

    Ring ring(std::move(impl));
    for (unsigned id = 0; id < options.buffers; ++id) ring.provide(static_cast<uint16_t>(id));
    return ring;
}

// ---- the turn

void Ring::wait(Time until) {
    auto& ring = impl_->ring;
    impl_->enable();
    if (IO_URING_READ_ONCE(*ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW) ++impl_->times_overflowed;
    io_uring_cqe* cqe;
    int result;
    // A stale `now` only makes the wait a little longer than needed, by one turn's work.
    if (until <= impl_->now || impl_->look_out()) {
        result = io_uring_submit_and_get_events(&ring);
    } else if (until == Time::max()) {
        result = io_uring_submit_and_wait(&ring, 1);
    } else {
        auto left = until - impl_->now;
        __kernel_timespec timeout{.tv_sec = left / 1s, .tv_nsec = (left % 1s).count()};
        result = io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &timeout, nullptr);
    }
    expect(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY ||
               result == -EAGAIN,
           "io_uring waits");
    impl_->addresses.clear();
    impl_->now = std::chrono::steady_clock::now();
    impl_->to_reap = io_uring_cq_ready(&ring);
}

bool Ring::next(Completion*& completion, Event& event) {
    while (impl_->to_reap > 0) {
        io_uring_cqe* cqe;
        if (io_uring_peek_cqe(&impl_->ring, &cqe) != 0) return false;
        impl_->fetch_ahead();
        --impl_->to_reap;
        completion = static_cast<Completion*>(io_uring_cqe_get_data(cqe));
        event = {.result = cqe->res,
                 .more = (cqe->flags & IORING_CQE_F_MORE) != 0,
                 .more_waits = (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) != 0,
                 .buffer = static_cast<uint16_t>(cqe->flags >> IORING_CQE_BUFFER_SHIFT)};
        bool lent_for_nothing = (cqe->flags & IORING_CQE_F_BUFFER) && cqe->res <= 0;
        io_uring_cqe_seen(&impl_->ring, cqe);
        if (lent_for_nothing) provide(event.buffer);
        if (completion == &impl_->wake_op && !event.more) impl_->arm_wake();
        if (completion) return true;  // without an owner it is the answer to a cancel()
    }
    return false;
}

void Ring::wake() {
    uint64_t one = 1;
    // Nobody reads the counter: each write wakes the multishot poll on it.
    [[maybe_unused]] ssize_t written = ::write(impl_->wake_fd.get(), &one, sizeof one);
}

Time Ring::now() const {
    return impl_->now;
}

uint64_t Ring::times_overflowed() const {
    return impl_->times_overflowed;
}

uint64_t Ring::random() {
    // xorshift64*, Vigna 2016: for jitter and choice, not for secrets.
    uint64_t& x = impl_->random_state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    return x * 0x2545F4914F6CDD1Du;
}

// ---- operations in flight

void Ring::accept(Handle listener, Completion& completion) {
    io_uring_prep_multishot_accept(impl_->entry(&completion), fd_of(listener), nullptr, nullptr,
                                   SOCK_NONBLOCK | SOCK_CLOEXEC);
}

void Ring::receive(Handle socket, bool once, Completion& completion) {
    io_uring_sqe* sqe = impl_->entry(&completion);
    if (once)
        io_uring_prep_recv(sqe, fd_of(socket), nullptr, 0, 0);
    else
        io_uring_prep_recv_multishot(sqe, fd_of(socket), nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = buffer_group;
}

void Ring::connect(Handle socket, const Address& to, Completion& completion) {
    sockaddr_storage& address = impl_->addresses.emplace_back();
    socklen_t length = to.to_sockaddr(address);
    io_uring_prep_connect(impl_->entry(&completion), fd_of(socket),
                          reinterpret_cast<sockaddr*>(&address), length);
}

void Ring::wait_writable(Handle socket, Completion& completion) {
    io_uring_prep_poll_add(impl_->entry(&completion), fd_of(socket), POLLOUT);
}

void Ring::wait_readable(Handle socket, Completion& completion) {
    io_uring_prep_poll_add(impl_->entry(&completion), fd_of(socket), POLLIN);
}

void Ring::cancel(Completion& completion) {
    io_uring_prep_cancel(impl_->entry(nullptr), &completion, 0);
}

// ---- shared buffers

unsigned Ring::buffer_count() const {
    return impl_->options.buffers;
}

std::byte* Ring::buffer(uint16_t id) {
    if (id >= impl_->options.buffers) return impl_->spares.at(id - impl_->options.buffers);
    return impl_->buffers + (impl_->buffers_size - impl_->options.buffers * impl_->buffer_stride) +
           id * impl_->buffer_stride;
}

void Ring::provide(uint16_t id) {
    if (id >= impl_->options.buffers) return impl_->spares.give(id - impl_->options.buffers);
    io_uring_buf_ring_add(impl_->buffer_ring, buffer(id), impl_->options.buffer_size, id,
                          io_uring_buf_ring_mask(impl_->options.buffers), 0);
    io_uring_buf_ring_advance(impl_->buffer_ring, 1);
}

uint16_t Ring::take_spare() {
    return static_cast<uint16_t>(impl_->options.buffers + impl_->spares.take());
}

// ---- what never waits

static bool set_transparent(int fd, bool v4) {
    const int on = 1;
    const int level = v4 ? SOL_IP : SOL_IPV6, name = v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT;
    return ::setsockopt(fd, level, name, &on, sizeof on) == 0;
}

int Ring::open_stream(bool v4) {
    int fd = ::socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    return fd;
}

Result<Handle> Ring::listen(const Address& at, const ListenOptions& options) {
    auto cannot = [&](int error, std::string hint = {}) {
        return fail(
            Error::from_errno(error, format("cannot listen on {}", at.text()), std::move(hint)));
    };
    bool as_v6 = !at.ip.is_v4;
    Fd fd = Fd::adopt(
        ::socket(as_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    Address bind_to = at;
    if (!fd && errno == EAFNOSUPPORT && at.ip == Ip{.bytes = {}, .is_v4 = false}) {
        // IPv6 is off in this kernel: every address then means every IPv4 address.
        bind_to.ip = Ip{};
        as_v6 = false;
        fd = Fd::adopt(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    }
    if (!fd) return cannot(errno, errno == EMFILE ? "raise `ulimit -n`" : "");

    // Accepted sockets inherit these, which saves two calls for each connection.
    set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
    if (as_v6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (options.transparent && !set_transparent(fd.get(), !as_v6))
        return cannot(errno, "a transparent listener needs root or CAP_NET_ADMIN");
    if (options.share_port) set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);

    sockaddr_storage address;
    socklen_t length = bind_to.to_sockaddr(address);
    int bound = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length);
    // The listener of a proxify that was killed lives on until the kernel has taken its ring apart,
    // which goes on for some milliseconds after the process is gone: a fresh start waits for that.
    for (int i = 0; i < 50 && bound < 0 && errno == EADDRINUSE; ++i) {
        std::this_thread::sleep_for(10ms);
        bound = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length);
    }
    if (bound < 0) {
        if (errno == EADDRINUSE)
            return cannot(EADDRINUSE,
                          format("`ss -ltnp 'sport = :{}'` shows who has the port", at.port));
        if (errno == EACCES)
            return cannot(EACCES, "ports below 1024 need root or CAP_NET_BIND_SERVICE");
        return cannot(errno);
    }
    if (!options.only_bind && ::listen(fd.get(), options.backlog) < 0) return cannot(errno);
    return static_cast<Handle>(fd.release());
}

int Ring::accept_now(Handle listener) {
    int fd = ::accept4(fd_of(listener), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

unsigned Ring::accept_queue(Handle listener) const {
    tcp_info info{};
    socklen_t length = sizeof info;
    if (::getsockopt(fd_of(listener), IPPROTO_TCP, TCP_INFO, &info, &length) < 0) return 0;
    return info.tcpi_state == tcp_listen ? info.tcpi_unacked : 0;  // of a listener it means this
}

int Ring::bind(Handle socket, const Address& at) {
    sockaddr_storage address;
    socklen_t length = at.to_sockaddr(address);
    return ::bind(fd_of(socket), reinterpret_cast<sockaddr*>(&address), length) < 0 ? -errno : 0;
}

int Ring::bind_transparent(Handle socket, const Address& at, bool choose_port) {
    const int fd = fd_of(socket);
    if (!set_transparent(fd, at.ip.is_v4)) return -errno;
    if (!choose_port) set_option(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    return bind(socket, at);
}

int Ring::set_mark(Handle socket, uint32_t mark) {
    return ::setsockopt(fd_of(socket), SOL_SOCKET, SO_MARK, &mark, sizeof mark) < 0 ? -errno : 0;
}

uint64_t Ring::cookie(Handle socket) {
    uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    ::getsockopt(fd_of(socket), SOL_SOCKET, SO_COOKIE, &cookie, &length);
    return cookie;
}

std::optional<Address> Ring::redirected_from(Handle socket) {
    // An IPv4 client of an IPv6 socket is asked about as what it is.
    const bool v4 = local_address(socket).ip.is_v4;
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getsockopt(fd_of(socket), v4 ? SOL_IP : SOL_IPV6, original_dst_option, &address,
                     &length) < 0)
        return std::nullopt;
    return Address::from_sockaddr(address);
}

int Ring::send_now(Handle socket, std::span<const std::byte> bytes) {
    for (;;) {
        ssize_t sent =
            ::send(fd_of(socket), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) return static_cast<int>(sent);
        if (errno != EINTR) return -errno;
    }
}

int Ring::shutdown_write(Handle socket) {
    return ::shutdown(fd_of(socket), SHUT_WR) < 0 ? -errno : 0;
}

int Ring::open_pipe(size_t size, PipeEnds& ends) {
    int fds[2];
    if (::pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0) return -errno;
    ends = {static_cast<Handle>(fds[0]), static_cast<Handle>(fds[1])};
    if (::fcntl(fds[1], F_SETPIPE_SZ, static_cast<int>(size)) >= 0) return 0;
    int error = errno;
    close_pipe(ends);
    return -error;
}

void Ring::close_pipe(PipeEnds ends) {
    close(ends.read);
    close(ends.write);
}

int Ring::splice_in(Handle socket, PipeEnds pipe, size_t count) {
    // Every socket is born non-blocking: SPLICE_F_NONBLOCK alone would only speak for the pipe.
    ssize_t moved = ::splice(fd_of(socket), nullptr, fd_of(pipe.write), nullptr, count,
                             SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    return moved < 0 ? -errno : static_cast<int>(moved);
}

int Ring::splice_out(PipeEnds pipe, Handle socket, size_t count) {
    ssize_t moved = ::splice(fd_of(pipe.read), nullptr, fd_of(socket), nullptr, count,
                             SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    return moved < 0 ? -errno : static_cast<int>(moved);
}

void Ring::tune_for_bulk(Handle from, Handle to) {
    // Over a short way a window of 256 KiB lets 40 Gbit/s through. The kernel would let buffers
    // grow to megabytes, and each byte would come back from memory instead of the cache.
    auto is_near = [](Handle socket) {
        tcp_info info{};
        socklen_t length = sizeof info;
        return ::getsockopt(fd_of(socket), IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
               info.tcpi_min_rtt < 50;  // microseconds
    };
    if (is_near(from)) set_option(fd_of(from), SOL_SOCKET, SO_RCVBUF, 256 * 1024);
    if (is_near(to)) set_option(fd_of(to), SOL_SOCKET, SO_SNDBUF, 512 * 1024);
}

int Ring::unacknowledged(Handle socket) {
    int count = 0;
    return ::ioctl(fd_of(socket), SIOCOUTQ, &count) < 0 ? 0 : count;
}

void Ring::reset_on_close(Handle socket) {
    set_option(fd_of(socket), SOL_SOCKET, SO_LINGER, linger{.l_onoff = 1, .l_linger = 0});
}

void Ring::close(Handle socket) {
    ::close(fd_of(socket));
}

Address Ring::local_address(Handle socket) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    ::getsockname(fd_of(socket), reinterpret_cast<sockaddr*>(&address), &length);
    return Address::from_sockaddr(address);
}

bool Ring::is_connected(Handle socket) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    return ::getpeername(fd_of(socket), reinterpret_cast<sockaddr*>(&address), &length) == 0;
}

Address Ring::peer_address(Handle socket) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getpeername(fd_of(socket), reinterpret_cast<sockaddr*>(&address), &length) < 0) {
        // A client that was reset before it was accepted is no peer any more, but its address is
        // still known. Asked for this way it must have the exact length, which our own address has
        // too.
        ::getsockname(fd_of(socket), reinterpret_cast<sockaddr*>(&address), &length);
        address = {};
        ::getsockopt(fd_of(socket), SOL_SOCKET, SO_PEERNAME, &address, &length);
    }
    return Address::from_sockaddr(address);
}

}  // namespace proxify::io
