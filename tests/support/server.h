// SPDX-License-Identifier: Apache-2.0
// Targets for tests. A Server runs one handler for each connection, in a thread of its own, and
// says by name who answered, so that a test can claim where a client landed, not only that it did.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include "support/stream.h"

namespace proxify::test {

using Handler = std::function<void(Stream&)>;

/// Sends back what it gets, and ends when the client does.
Handler echo();
/// Waits for the first byte (or the end) from the client, says its name on a line, and ends when
/// the client does. A health check, which sends nothing, is not answered.
Handler answer(std::string name);
/// Says its name on a line before it has heard anything.
Handler greet(std::string name);
/// Reads and forgets.
Handler swallow();
/// Sends without end, for as long as somebody takes it; adds to `sent`.
Handler pour(std::atomic<uint64_t>& sent);
/// Neither reads nor writes, and stays.
Handler stare();

class Server {
  public:
    Server(const Namespace& where, const std::string& address, Handler handler);
    ~Server() { stop(); }

    /// Stops listening and ends every connection it has.
    void stop();
    const std::string& address() const { return address_; }
    /// Connections accepted so far, those of health checks among them.
    int connections() const { return connections_; }
    int open() const { return open_; }

  private:
    struct Connection {
        std::thread thread;
        std::atomic<bool> done = false;
    };
    void accept_all();
    void reap();

    std::string address_;
    Handler handler_;
    Fd listener_, stop_;
    std::atomic<int> connections_ = 0, open_ = 0;
    std::list<Connection> live_;  ///< touched by the accepting thread, and by stop() after it
    std::thread thread_;
};

/// Accepts and keeps, without a thread for each: the target of thousands of idle clients.
class Crowd {
  public:
    Crowd(const Namespace& where, const std::string& address);
    ~Crowd();
    int size() const { return size_; }

  private:
    Fd listener_, stop_;
    std::vector<Fd> held_;
    std::atomic<int> size_ = 0;
    std::thread thread_;
};

/// An address where SYNs vanish: a listener whose queue is full and stays so.
class BlackHole {
  public:
    BlackHole(const Namespace& where, const std::string& address);

  private:
    Fd listener_;
    std::vector<Stream> fillers_;
};

/// Who answers a client of `address`: the name of a server, or how the client fared without one:
/// "refused", "reset", "closed", "nobody" (within the limit).
std::string answered_by(const Namespace& where, const std::string& address,
                        DialOptions options = {});

}  // namespace proxify::test
