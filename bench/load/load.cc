// SPDX-License-Identifier: Apache-2.0
// The load of every bench: one thread that opens connections, moves bytes, checks each byte that
// comes back, and says what it saw in one line of JSON.
//
//   load ping    --connections 50 --size 64   every connection has one message under way
//   load connect --connections 50             connect, one message, close; so many at a time
//   load connect --same                       the message is always the same, with an end behind it
//   load connect --tls 1.3 --resume           ping, connect and bulk may be over TLS
//   load bulk    --connections 4 --down --up  as many bytes as go, one way or both
//   load idle    --steps 1000,4000            opens so many, waits for a line of input, goes on
//   load ports   --count 3000                 one after the other, to random ports of the range
//
// A wrong byte, a reset, an early end: each is an error that the line counts.
#include "load/load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>

#include "base/format.h"
#include "common/arguments.h"

namespace proxify::bench {

// ---- errors

void Errors::add(const std::string& what) {
    ++total_;
    for (const auto& told : told_) {
        if (told == what) return;
    }
    if (told_.size() >= 20) return;
    told_.push_back(what);
    std::fprintf(stderr, "load: %s\n", what.c_str());
}

// ---- the meter

static double seconds_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

Meter::Meter(const Options& options)
    : warm_up_(std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(options.warm_up))),
      length_(std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(options.seconds))) {
    // The clock of another process: all its threads, those of the kernel that work for it and
    // those that have ended too.
    for (auto [pids, clocks] :
         {std::pair(&options.watched, &watched_), std::pair(&options.watched_beside, &beside_)}) {
        for (int pid : *pids) {
            clockid_t clock;
            if (clock_getcpuclockid(pid, &clock) != 0) die(format("there is no process {}", pid));
            clocks->push_back(clock);
        }
    }
}

static double sum_of(const std::vector<clockid_t>& clocks) {
    double sum = 0;
    for (auto clock : clocks) sum += seconds_of(clock);
    return sum;
}

void Meter::open() {
    open_ = true;
    watched_cpu_ = -sum_of(watched_);
    beside_cpu_ = -sum_of(beside_);
    own_cpu_ = -seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    opened_ = Clock::now();
}

void Meter::close() {
    open_ = false;
    closed_ = Clock::now();
    watched_cpu_ += sum_of(watched_);
    beside_cpu_ += sum_of(beside_);
    own_cpu_ += seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

double Meter::seconds() const {
    return std::chrono::duration<double>(closed_ - opened_).count();
}

// ---- dialling

Dialer::Dialer(const Options& options, Errors& errors) : options_(options), errors_(errors) {
    auto read = [](const std::string& text) {
        in_addr address;
        if (inet_pton(AF_INET, text.c_str(), &address) != 1)
            die(format("{} is no IPv4 address", text));
        return ntohl(address.s_addr);
    };
    base_ = read(options.address);
    if (!options.from.empty()) from_ = read(options.from);
}

Fd Dialer::open(int type, uint16_t port, int& result) {
    Fd fd = Fd::adopt(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type, 0));
    if (!fd) die(format("cannot open a socket: {}", strerror(errno)));
    int one = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (type != SOCK_NONBLOCK) {
        timeval limit{.tv_sec = 5, .tv_usec = 0};
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }
    uint32_t turn = turn_++;
    uint32_t range = options_.last_port - options_.first_port + 1u;
    if (port == 0) port = static_cast<uint16_t>(options_.first_port + turn % range);
    if (from_) {
        // The port is chosen at connect, when it is known what it must not be used for.
        setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        auto own = from_ + turn % static_cast<uint32_t>(options_.from_addresses);
        sockaddr_in from{
            .sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(own)}, .sin_zero = {}};
        result = bind(fd.get(), reinterpret_cast<sockaddr*>(&from), sizeof from) < 0 ? errno : 0;
        if (result) return fd;
    }
    auto host = base_ + turn % static_cast<uint32_t>(options_.addresses);
    sockaddr_in to{
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(host)}, .sin_zero = {}};
    result = connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) < 0 ? errno : 0;
    return fd;
}

Fd Dialer::dial() {
    int result;
    Fd fd = open(SOCK_NONBLOCK, 0, result);
    if (result == 0 || result == EINPROGRESS) return fd;
    errors_.add(format("connect: {}", strerror(result)));
    return {};
}

Fd Dialer::dial_and_wait(uint16_t port) {
    int result;
    Fd fd = open(0, port, result);
    if (result != 0) {
        errors_.add(format("connect: {}", strerror(result)));
        return {};
    }
    return is_connected(fd.get()) ? std::move(fd) : Fd();
}

bool Dialer::is_connected(int fd) {
    sockaddr_in own{}, other{};
    socklen_t length = sizeof own;
    getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length);
    length = sizeof other;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&other), &length) < 0) {
        int error = 0;
        length = sizeof error;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        errors_.add(format("connect: {}", strerror(error ? error : errno)));
        return false;
    }
    if (own.sin_port == other.sin_port && own.sin_addr.s_addr == other.sin_addr.s_addr) {
        errors_.add("a socket was connected to itself: its port is not reserved");
        return false;
    }
    return true;
}

bool exchange(int fd, const Pattern& pattern, uint64_t place, size_t size, Errors& errors) {
    const std::byte* message = pattern.at(place);
    if (send(fd, message, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) {
        errors.add(format("send: {}", strerror(errno)));
        return false;
    }
    std::vector<std::byte> answer(size);
    ssize_t got = recv(fd, answer.data(), size, MSG_WAITALL);
    if (got != static_cast<ssize_t>(size)) {
        errors.add(got < 0 ? format("receive: {}", strerror(errno)) : "an early end");
        return false;
    }
    if (std::memcmp(answer.data(), message, size) != 0) {
        errors.add("wrong bytes came back");
        return false;
    }
    return true;
}

// ---- output

Line::Line(const char* work) : text_(format("{{\"work\": \"{}\"", work)) {}

Line& Line::add(const char* name, double value) {
    text_ += format(", \"{}\": {}", name, value);
    return *this;
}

Line& Line::add(const Histogram& histogram, const std::string& prefix) {
    auto us = [](uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1000; };
    add((prefix + "p50_us").c_str(), us(histogram.quantile(0.5)));
    add((prefix + "p99_us").c_str(), us(histogram.quantile(0.99)));
    add((prefix + "p999_us").c_str(), us(histogram.quantile(0.999)));
    return add((prefix + "max_us").c_str(), us(histogram.max()));
}

Line& Line::add(const Meter& meter) {
    add("seconds", meter.seconds());
    add("watched_cpu_s", meter.watched_cpu());
    add("beside_cpu_s", meter.beside_cpu());
    return add("load_cpu_s", meter.own_cpu());
}

Line::~Line() {
    std::printf("%s}\n", text_.c_str());
    std::fflush(stdout);
}

// ---- the command line

static Options read_options(const Arguments& arguments) {
    Options options;
    options.address = arguments.text("address", options.address);
    options.addresses = std::max(1, static_cast<int>(arguments.number("addresses", 1)));
    options.from = arguments.text("from");
    options.from_addresses = std::max(1, static_cast<int>(arguments.number("from-addresses", 1)));
    options.first_port = static_cast<uint16_t>(arguments.number("port", options.first_port));
    options.last_port = static_cast<uint16_t>(arguments.number("last-port", options.first_port));
    options.connections = static_cast<int>(arguments.number("connections", 1));
    options.size = static_cast<size_t>(arguments.number("size", 64));
    options.seconds = arguments.number("seconds", 1);
    options.warm_up = arguments.number("warm-up", 0.2);
    options.asks_the_same = arguments.has("same");
    options.tls = arguments.text("tls");
    options.resumes = arguments.has("resume");
    options.client_sends = arguments.has("up");
    options.target_sends = arguments.has("down");
    options.steps = arguments.numbers("steps");
    options.count = static_cast<int>(arguments.number("count", 1000));
    options.watched = arguments.numbers("watch");
    options.watched_beside = arguments.numbers("watch-beside");
    options.tally_fd = static_cast<int>(arguments.number("tally-fd", -1));
    if (options.size == 0 || options.size > Pattern::longest) die("--size: from 1 to 262144");
    if (options.connections < 1 || options.last_port < options.first_port)
        die("nothing to connect to");
    return options;
}

static int run_load(int argc, char** argv) {
    constexpr Known known[] = {{"address"},     {"addresses"},      {"port"},     {"last-port"},
                               {"connections"}, {"size"},           {"seconds"},  {"warm-up"},
                               {"steps"},       {"count"},          {"watch"},    {"watch-beside"},
                               {"from"},        {"from-addresses"}, {"tally-fd"}, {"up", true},
                               {"down", true},  {"same", true},     {"tls"},      {"resume", true}};
    auto arguments = Arguments::parse(argc, argv, known);
    if (!arguments) die(arguments.error().text());
    auto options = read_options(*arguments);
    auto work = arguments->words.empty() ? std::string() : arguments->words.front();
    stop_when_told();
    if (work == "ping")
        ping_pong(options);
    else if (work == "connect")
        connect_exchange_close(options);
    else if (work == "bulk")
        bulk(options);
    else if (work == "idle")
        idle(options);
    else if (work == "ports")
        ports(options);
    else
        die("usage: load ping|connect|bulk|idle|ports [--option value]...");
    return 0;
}

}  // namespace proxify::bench

int main(int argc, char** argv) {
    return proxify::bench::run_load(argc, argv);
}
