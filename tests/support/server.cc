// SPDX-License-Identifier: Apache-2.0
#include "support/server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>

namespace proxify::test {

// Handlers wait as long as a test may take; stop() wakes them before.
static constexpr Millis as_long_as_it_takes = 10min;

Handler echo() {
    return [](Stream& client) {
        for (;;) {
            std::string bytes = client.receive(64 << 10, as_long_as_it_takes);
            if (bytes.empty()) return;
            client.send(bytes, as_long_as_it_takes);
        }
    };
}

Handler swallow() {
    return [](Stream& client) {
        while (!client.receive(64 << 10, as_long_as_it_takes).empty()) {
        }
    };
}

Handler answer(std::string name) {
    return [line = std::move(name) + "\n"](Stream& client) {
        // What connects and leaves without a word is a health check, and hears nothing.
        if (client.receive(1, as_long_as_it_takes).empty()) return;
        client.send(line);
        swallow()(client);
    };
}

Handler greet(std::string name) {
    return [line = std::move(name) + "\n"](Stream& client) {
        client.send(line);
        swallow()(client);
    };
}

Handler pour(std::atomic<uint64_t>& sent) {
    return [&sent](Stream& client) {
        const std::string block(64 << 10, 'p');
        for (;;) {
            client.send(block, as_long_as_it_takes);
            sent += block.size();
        }
    };
}

Handler stare() {
    return [](Stream& client) { client.wait_until_stopped(); };
}

static Fd new_event() {
    auto event = Fd::adopt(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event) throw StreamError("eventfd", errno);
    return event;
}

static void raise_event(const Fd& event) {
    eventfd_write(event.get(), 1);
}

// Calls `take` with each accepted socket until `stop` is raised.
static void accept_until(const Fd& stop, const Fd& listener, const std::function<void(Fd)>& take) {
    for (;;) {
        pollfd fds[2] = {{.fd = listener.get(), .events = POLLIN, .revents = 0},
                         {.fd = stop.get(), .events = POLLIN, .revents = 0}};
        poll(fds, 2, -1);
        if (fds[1].revents) return;
        auto socket =
            Fd::adopt(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (socket) take(std::move(socket));
    }
}

Server::Server(const Namespace& where, const std::string& address, Handler handler)
    : address_(address),
      handler_(std::move(handler)),
      listener_(listen_at(where, address)),
      stop_(new_event()),
      thread_([this] { accept_all(); }) {}

void Server::accept_all() {
    accept_until(stop_, listener_, [this](Fd socket) {
        reap();
        ++connections_;
        ++open_;
        Connection& connection = live_.emplace_back();
        connection.thread = std::thread(
            [this, &connection, stream = Stream::adopt(std::move(socket), stop_.get())]() mutable {
                try {
                    handler_(stream);
                } catch (const StreamError&) {
                    // The client went away in its own manner; tests look at that from its side.
                }
                stream.close();
                --open_;
                connection.done = true;
            });
    });
}

void Server::reap() {
    std::erase_if(live_, [](Connection& connection) {
        const bool done = connection.done;
        if (done) connection.thread.join();
        return done;
    });
}

void Server::stop() {
    if (!thread_.joinable()) return;
    raise_event(stop_);
    thread_.join();
    listener_.close();
    for (Connection& connection : live_) connection.thread.join();
    live_.clear();
}

Crowd::Crowd(const Namespace& where, const std::string& address)
    : listener_(listen_at(where, address, 4096)), stop_(new_event()), thread_([this] {
          accept_until(stop_, listener_, [this](Fd socket) {
              held_.push_back(std::move(socket));
              ++size_;
          });
      }) {}

Crowd::~Crowd() {
    raise_event(stop_);
    thread_.join();
}

BlackHole::BlackHole(const Namespace& where, const std::string& address)
    : listener_(listen_at(where, address, 0)) {
    // The kernel lets a queue for 0 hold one; whoever comes when it is full is not answered at all.
    try {
        for (;;) fillers_.push_back(Stream::dial(where, address, {.limit = 100ms}));
    } catch (const StreamError&) {
    }
}

std::string answered_by(const Namespace& where, const std::string& address, DialOptions options) {
    try {
        Stream client = Stream::dial(where, address, options);
        client.send("?");
        std::string name = client.receive_line(options.limit);
        name.pop_back();
        return name;
    } catch (const StreamError& error) {
        switch (error.number) {
            case 0:
                return "closed";
            case ECONNREFUSED:
                return "refused";
            case ECONNRESET:
            case EPIPE:
                return "reset";
            case ETIMEDOUT:
                return "nobody";
            default:
                return error.what();
        }
    }
}

}  // namespace proxify::test
