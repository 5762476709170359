// SPDX-License-Identifier: Apache-2.0
// Stream: one end of a connection in a test, the client's or the target's. Every call waits, and
// every wait has a limit: what does not happen in time is thrown, and fails the test by name.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/address.h"
#include "base/fd.h"
#include "support/eventually.h"
#include "support/namespace.h"

namespace proxify::test {

/// How reading came to its end.
enum class End { clean, reset, none_yet };
const char* to_text(End end);
inline std::ostream& operator<<(std::ostream& out, End end) {
    return out << to_text(end);
}

/// What a Stream throws. `number` is the errno, or 0 at a clean end.
struct StreamError : std::runtime_error {
    StreamError(const std::string& what, int number);
    int number;
};

struct Got {
    std::string bytes;
    End end;
};

struct DialOptions {
    Millis limit = 10s;
    std::string from = {};                   ///< "198.51.100.7:0", or the kernel's choice
    std::optional<int> receive_buffer = {};  ///< small, for a reader that is to be slow
};

class Stream {
  public:
    /// Connects to "127.0.0.1:5001" or "[::1]:5001" inside `where`.
    static Stream dial(const Namespace& where, const std::string& to, DialOptions options = {});
    /// The same, when it is the refusal that matters: 0, or the errno of connect.
    static int dial_error(const Namespace& where, const std::string& to, DialOptions options = {});
    static Stream adopt(Fd socket, int stop_fd = -1);

    /// All of it.
    void send(std::string_view bytes, Millis limit = 30s);
    /// What fits now; 0 when the other side is too slow.
    size_t send_some(std::string_view bytes);
    /// Nothing more will be sent; reading goes on.
    void finish();
    /// Ends it with a reset, at once. What was not delivered is thrown away.
    void reset();
    void close();

    /// Whatever comes next, at most `most` bytes; empty at a clean end.
    std::string receive(size_t most = 64 << 10, Millis limit = 30s);
    std::string receive_exactly(size_t count, Millis limit = 30s);
    /// Up to and with the newline.
    std::string receive_line(Millis limit = 30s);
    /// Everything up to the end, however it ends. `none_yet` when it lasts longer than `limit`.
    Got receive_all(Millis limit = 30s);
    /// For a handler that does nothing: returns when its server is stopped.
    void wait_until_stopped() const;
    /// True when the peer's kernel has acknowledged all that was sent.
    bool is_delivered(Millis limit = 10s) const;

    Address local() const;
    Address peer() const;
    int fd() const { return socket_.get(); }

  private:
    Stream() = default;
    void wait_for(short events, Moment deadline, const char* what) const;

    Fd socket_;
    int stop_fd_ = -1;       ///< readable when its server wants to end
    bool is_reset_ = false;  ///< it was, in the moment between connecting and finding out
};

/// A listening socket inside `where`.
Fd listen_at(const Namespace& where, const std::string& address, int backlog = 1024);

}  // namespace proxify::test
