// SPDX-License-Identifier: Apache-2.0
// What the works of the load share: how to dial, what went wrong, and what is measured when.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "common/pattern.h"
#include "common/wire.h"
#include "load/histogram.h"

namespace proxify::bench {

struct Options {
    // Where to: addresses and ports are taken in turn. Many addresses, because the connections that
    // one pair of addresses may have had in the last minute are limited by the ports of the client.
    std::string address = "127.0.0.1";
    int addresses = 1;
    uint16_t first_port = 5001;
    uint16_t last_port = 5001;

    std::string from;  ///< addresses of our own, in turn; empty: the kernel's choice
    int from_addresses = 1;

    int connections = 1;
    size_t size = 64;            ///< of one message
    bool asks_the_same = false;  ///< connect: one message for all, and our end behind it
    double seconds = 1;
    double warm_up = 0.2;
    std::string tls;       ///< "1.3"; empty: none
    bool resumes = false;  ///< connect with TLS: each connection resumes an earlier one's session
    bool client_sends = false;  ///< bulk
    bool target_sends = false;
    std::vector<int> steps;           ///< idle
    int count = 1000;                 ///< ports
    std::vector<int> watched;         ///< processes whose CPU time is told
    std::vector<int> watched_beside;  ///< others, whose sum is told by itself
    int tally_fd = -1;
};

/// The first of each kind of error is told on standard error; all are counted.
class Errors {
  public:
    void add(const std::string& what);
    uint64_t total() const { return total_; }

  private:
    std::vector<std::string> told_;
    uint64_t total_ = 0;
};

/// The stretch of time that counts, and what happened in it.
class Meter {
  public:
    explicit Meter(const Options& options);

    void open();
    void close();
    bool is_open() const { return open_; }
    /// Lets `epoll` run to warm up, then measures. `each_turn` is called once a turn.
    template <class Handle, class EachTurn>
    void run(Epoll& epoll, Handle&& handle, EachTurn&& each_turn) {
        auto until = [&](Moment when) {
            epoll.run_while([&] { return each_turn(), Clock::now() < when && !told_to_stop; },
                            handle);
        };
        until(Clock::now() + warm_up_);
        open();
        until(opened_ + length_);
        close();
    }
    template <class Handle>
    void run(Epoll& epoll, Handle&& handle) {
        run(epoll, handle, [] {});
    }

    double seconds() const;
    double watched_cpu() const { return watched_cpu_; }
    double beside_cpu() const { return beside_cpu_; }
    double own_cpu() const { return own_cpu_; }

  private:
    Clock::duration warm_up_;
    Clock::duration length_;
    std::vector<clockid_t> watched_, beside_;
    bool open_ = false;
    Moment opened_;
    Moment closed_;
    double watched_cpu_ = 0;
    double beside_cpu_ = 0;
    double own_cpu_ = 0;
};

/// Opens connections to the addresses and ports in turn.
class Dialer {
  public:
    Dialer(const Options& options, Errors& errors);

    /// A non-blocking socket whose connect is under way, or none and an error counted.
    Fd dial();
    /// A connected blocking socket whose calls give up after 5 s; `port` 0 is the next in turn.
    Fd dial_and_wait(uint16_t port = 0);
    /// To be asked once about each socket that is connected: false, and an error counted, if it
    /// failed, or if the kernel connected it to itself.
    bool is_connected(int fd);

  private:
    Fd open(int type, uint16_t port, int& result);

    const Options& options_;
    Errors& errors_;
    uint32_t base_;
    uint32_t from_ = 0;
    uint32_t turn_ = 0;
};

/// One line of JSON on standard output.
class Line {
  public:
    explicit Line(const char* work);
    Line& add(const char* name, double value);
    Line& add(const Histogram& histogram, const std::string& prefix = {});
    Line& add(const Meter& meter);
    ~Line();

  private:
    std::string text_;
};

// The works. Each returns when it has said what came out.
void ping_pong(const Options& options);
void connect_exchange_close(const Options& options);
void bulk(const Options& options);
void idle(const Options& options);
void ports(const Options& options);

/// One message there and back over a blocking socket; false and an error counted if it is not
/// what was sent.
bool exchange(int fd, const Pattern& pattern, uint64_t place, size_t size, Errors& errors);

}  // namespace proxify::bench
