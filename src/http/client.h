// SPDX-License-Identifier: Apache-2.0
// Requests to a socket of the file system.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "http/message.h"

namespace proxify::http {

/// An Error when there is no answer; an answer of any status is one.
Result<Response> ask(const std::string& socket_path, const Request& request, Duration patience);

/// One request whose answer is read as it comes, however long that takes: an answer may go on for
/// ever, as a stream of events does. Nothing here waits; who owns it polls fd(), together with
/// whatever else should wake it.
class Call {
  public:
    /// Connects and asks. An Error also when nobody has time to accept right now.
    static Result<Call> open(const std::string& socket_path, const Request& request);
    Call(Call&&) noexcept;
    Call& operator=(Call&&) noexcept;
    ~Call();

    /// Readable when there is something to read().
    int fd() const { return socket_.get(); }
    /// Takes what is there by now. An Error when this is no HTTP, or the peer went away in the
    /// middle of the answer.
    Result<> read();

    /// Of the answer; 0 until its header is here.
    unsigned status() const;
    bool is_complete() const;
    /// What has come of the body and was not taken yet.
    std::string& body();

  private:
    struct Parser;
    Call(Fd socket, std::unique_ptr<Parser> parser);

    Fd socket_;
    std::unique_ptr<Parser> parser_;
};

}  // namespace proxify::http
