// SPDX-License-Identifier: Apache-2.0
// Server: answers HTTP requests on a thread of its own, at one socket of the file system and at one
// address. What it knows of its clients is bounded: so many connections at each door, so many bytes
// of a request, so much time for each step. A client that never reads costs one place.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"
#include "http/message.h"

namespace proxify::http {

/// Where a request came in.
enum class Door { socket, tcp };

/// Makes a response. Called on the server's thread, so that whoever answers need not format.
using Render = std::function<Response()>;
/// Takes the answer to one request, from any thread, now or later; only the first one counts. May
/// be dropped: then the client hears that nothing answered.
using Answer = std::function<void(Render)>;
/// Called on the server's thread for each request.
using Handler = std::function<void(const Request&, Door, Answer)>;

/// Who may use a socket of the file system: its owner, and these.
struct SocketRights {
    std::string group;              ///< empty for nobody else
    std::optional<unsigned> owner;  ///< a user's number, who will be us before long
    bool is_ours = false;           ///< a Server of ours may be there already: it is replaced
};

class Server {
  public:
    explicit Server(Handler handler);
    /// Ends all connections and joins the thread. The socket's file goes, if it is still ours.
    ~Server();

    /// Takes the place of a socket that nobody listens on any more. An error when somebody does.
    Result<> listen(const std::string& path, const SocketRights& rights);
    /// Requests that come here must name the host as localhost or as an address: a page that a
    /// browser has loaded from elsewhere cannot read what is here by way of a name of its own.
    Result<> listen(const Address& at);

    /// After the last listen().
    void start();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace proxify::http
