// SPDX-License-Identifier: Apache-2.0
#include "http/server.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <list>
#include <thread>

#include "base/format.h"
#include "base/thread.h"
#include "http/knock.h"

namespace proxify::http {

namespace asio = boost::asio;
namespace beast = boost::beast;
using Local = asio::local::stream_protocol;
using Tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;

namespace {

constexpr size_t connections_max = 8;  ///< at each door
constexpr size_t header_size_max = 16 * 1024;
/// By door: a whole targets.toml, or nothing to speak of.
constexpr size_t body_size_max[] = {4 << 20, 64 * 1024};
constexpr auto step_time_max = std::chrono::seconds(10);  ///< to ask, to be answered, to read

Response complaint(unsigned status, std::string_view text) {
    return {.status = status, .body = format("{{\"error\": \"{}\"}}\n", text)};
}

/// Whether a Host header names no host that somebody else's name server could have made up.
bool names_no_stranger(std::string_view host) {
    if (host.starts_with('[')) {
        const auto end = host.find(']');
        return end != host.npos && Ip::parse(host.substr(1, end - 1)).has_value();
    }
    host = host.substr(0, host.rfind(':'));
    return host == "localhost" || Ip::parse(host).has_value();
}

/// Why a request could not be read; nothing for a client that only went away.
std::optional<Response> complaint_about(const ErrorCode& error) {
    using beast::http::error;
    if (error == error::header_limit) return complaint(431, "the header is too long");
    if (error == error::body_limit) return complaint(413, "the body is too long");
    if (error == error::end_of_stream || error == error::partial_message) return {};
    if (error.category() == make_error_code(error::bad_method).category())
        return complaint(400, "this is no HTTP request");
    return {};
}

/// A connection that waits for its client, to ask or to read.
struct Waiting {
    virtual void end() = 0;
};

/// What a door and its connections share.
struct House {
    Handler handler;
    struct Room {
        size_t connections = 0;
        std::list<Waiting*> waiting;  ///< the longest first
    };
    Room rooms[2];  ///< by door
    asio::io_context context;

    Room& room(Door door) { return rooms[static_cast<size_t>(door)]; }
};

/// One connection: read a request, have it answered, write, and again.
template <class Protocol>
class Connection final : public std::enable_shared_from_this<Connection<Protocol>>, Waiting {
  public:
    Connection(std::shared_ptr<House> house, Door door, typename Protocol::socket socket)
        : house_(house), room_(house->room(door)), door_(door), stream_(std::move(socket)) {
        ++room_.connections;
    }
    ~Connection() {
        waits(false);
        --room_.connections;
    }
    Connection(const Connection&) = delete;

    void read() {
        parser_.emplace();
        parser_->header_limit(header_size_max);
        parser_->body_limit(body_size_max[static_cast<size_t>(door_)]);
        waits(true);
        beast::http::async_read(stream_, buffer_, *parser_,
                                [self = this->shared_from_this()](ErrorCode error, size_t) {
                                    self->waits(false);
                                    if (!error) return self->handle();
                                    if (auto refusal = complaint_about(error))
                                        self->write(std::move(*refusal), /*is_last=*/true);
                                });
    }

  private:
    void end() override {
        waits(false);
        stream_.close();
    }

    void waits(bool now) {
        if (place_) room_.waiting.erase(*std::exchange(place_, {}));
        if (!now) return stream_.expires_never();
        place_ = room_.waiting.insert(room_.waiting.end(), this);
        stream_.expires_after(step_time_max);
    }

    void handle() {
        const auto& message = parser_->get();
        if (door_ == Door::tcp &&
            !names_no_stranger(std::string_view(message[beast::http::field::host])))
            return write(complaint(421, "name this host by its address, or as localhost"));
        // Whoever was asked may never answer, may answer twice, and may do so when all this is
        // gone.
        late_.expires_after(step_time_max);
        late_.async_wait([self = this->shared_from_this(), number = ++number_](ErrorCode error) {
            if (!error && self->number_ == number)
                self->write(complaint(504, "proxify's control thread does not answer"));
        });
        std::weak_ptr<Connection> weak = this->shared_from_this();
        Answer answer = [weak, number = number_, house = house_](Render render) {
            auto open = house.lock();
            if (!open) return;
            asio::post(open->context, [weak, number, render = std::move(render)] {
                if (auto self = weak.lock(); self && self->number_ == number) self->write(render());
            });
        };
        Request request =
            read_target(std::string(message.method_string()), std::string(message.target()));
        request.body = message.body();
        house_.lock()->handler(request, door_, std::move(answer));
    }

    void write(Response response, bool is_last = false) {
        ++number_;
        late_.cancel();
        const bool keep = parser_->get().keep_alive() && !is_last;
        message_ = {static_cast<beast::http::status>(response.status), parser_->get().version()};
        message_.set(beast::http::field::content_type, response.type);
        message_.set(beast::http::field::cache_control, "no-store");
        message_.set("X-Content-Type-Options", "nosniff");
        message_.body() = std::move(response.body);
        message_.keep_alive(keep);
        message_.prepare_payload();
        if (parser_->get().method() == beast::http::verb::head) message_.body().clear();
        waits(true);
        beast::http::async_write(stream_, message_,
                                 [self = this->shared_from_this(), keep](ErrorCode error, size_t) {
                                     self->waits(false);
                                     self->message_ = {};
                                     if (!error && keep) self->read();
                                 });
    }

    std::weak_ptr<House> house_;
    House::Room& room_;
    std::optional<std::list<Waiting*>::iterator> place_;  ///< in there
    Door door_;
    beast::basic_stream<Protocol> stream_;
    asio::steady_timer late_{stream_.get_executor()};
    beast::flat_buffer buffer_;
    std::optional<beast::http::request_parser<beast::http::string_body>> parser_;
    beast::http::response<beast::http::string_body> message_;
    uint64_t number_ = 0;  ///< of the answer that is awaited
};

template <class Protocol>
class Acceptor {
  public:
    Acceptor(std::weak_ptr<House> house, asio::io_context& context, Door door)
        : house_(std::move(house)), door_(door), acceptor_(context), pause_(context) {}

    typename Protocol::acceptor& socket() { return acceptor_; }

    void accept() {
        acceptor_.async_accept([this](ErrorCode error, typename Protocol::socket socket) {
            if (error == asio::error::operation_aborted) return;
            if (!error) return seat(std::move(socket));
            // No descriptor is left; somebody may give one back.
            after(std::chrono::milliseconds(100), [this] { accept(); });
        });
    }

  private:
    /// When all are being answered this moment, the next one waits for the first of them.
    void seat(typename Protocol::socket socket) {
        auto house = house_.lock();
        if (!house) return;
        if (!make_room(house->room(door_)))
            return after(std::chrono::milliseconds(5),
                         [this, socket = std::move(socket)]() mutable { seat(std::move(socket)); });
        std::make_shared<Connection<Protocol>>(house, door_, std::move(socket))->read();
        accept();
    }

    template <class Then>
    void after(std::chrono::milliseconds time, Then then) {
        pause_.expires_after(time);
        pause_.async_wait([then = std::move(then)](ErrorCode stopped) mutable {
            if (!stopped) then();
        });
    }

    /// Whoever has kept us waiting longest leaves for the next one: a client that says nothing
    /// keeps nobody out.
    static bool make_room(House::Room& room) {
        if (room.connections < connections_max) return true;
        if (room.waiting.empty()) return false;
        room.waiting.front()->end();
        return true;
    }

    std::weak_ptr<House> house_;
    Door door_;
    typename Protocol::acceptor acceptor_;
    asio::steady_timer pause_;
};

Result<gid_t> find_group(const std::string& name) {
    if (const group* found = getgrnam(name.c_str())) return found->gr_gid;
    return fail(Error::of(format("there is no group \"{}\"", name), "make it, or name another"));
}

/// Which file a path leads to, however often it is made anew.
std::pair<dev_t, ino_t> file_at(const std::string& path) {
    struct stat about{};
    if (lstat(path.c_str(), &about) < 0) return {};
    return {about.st_dev, about.st_ino};
}

Error from(const ErrorCode& error, const std::string& what, std::string hint = {}) {
    return Error::of(format("{}: {}", what, error.message()), std::move(hint));
}

}  // namespace

struct Server::Impl {
    std::shared_ptr<House> house = std::make_shared<House>();
    Acceptor<Local> local{house, house->context, Door::socket};
    Acceptor<Tcp> tcp{house, house->context, Door::tcp};
    std::string path;
    std::pair<dev_t, ino_t> file;
    std::thread thread;
};

Server::Server(Handler handler) : impl_(std::make_unique<Impl>()) {
    impl_->house->handler = std::move(handler);
}

Server::~Server() {
    // Behind the answers that are there already: who kills the last session of a proxify that
    // leaves is to hear of it.
    asio::post(impl_->house->context, [this] { impl_->house->context.stop(); });
    if (impl_->thread.joinable()) impl_->thread.join();
    if (!impl_->path.empty() && file_at(impl_->path) == impl_->file) unlink(impl_->path.c_str());
}

/// Bound under another name and moved to its place when all is as it should be, so that nobody
/// finds it with other rights, or a moment without it.
Result<> Server::listen(const std::string& path, const SocketRights& rights) {
    constexpr auto hint = "name another path with [admin] socket or --socket";
    const std::string fresh = format("{}.{}", path, getpid());
    if (fresh.size() >= sizeof(sockaddr_un::sun_path))
        return fail(Error::of(format("{} is too long for the path of a socket", path), hint));
    const int found = rights.is_ours ? ECONNREFUSED : knock(path, 1ms).error;
    if (found == 0 || found == EAGAIN)
        return fail(Error::of(format("another proxify answers at {}", path), hint));
    if (found != ENOENT && found != ECONNREFUSED)
        return fail(Error::from_errno(found, "make the socket " + path));
    ErrorCode error;
    if (std::filesystem::exists(path, error) && !std::filesystem::is_socket(path, error))
        return fail(Error::of(format("{} is there already, and is no socket", path), hint));
    const auto directory = std::filesystem::path(path).parent_path();
    const bool is_new = !directory.empty() && std::filesystem::create_directories(directory, error);
    if (error) return fail(from(error, format("cannot make the directory of {}", path), hint));

    auto& acceptor = impl_->local.socket();
    unlink(fresh.c_str());
    auto give_up = [&](Error why) {
        acceptor.close();
        unlink(fresh.c_str());
        return fail(std::move(why));
    };
    acceptor.open(Local(), error);
    if (!error) acceptor.bind(Local::endpoint(fresh), error);
    if (error) return give_up(from(error, format("cannot make the socket {}", path), hint));
    // Whoever is to take the socket away in the end has to own its directory as well.
    if (rights.owner &&
        (lchown(fresh.c_str(), *rights.owner, static_cast<gid_t>(-1)) < 0 ||
         (is_new && lchown(directory.c_str(), *rights.owner, static_cast<gid_t>(-1)) < 0)))
        return give_up(Error::from_errno(errno, "give the socket to the user"));
    mode_t mode = 0600;
    if (!rights.group.empty()) {
        auto group = find_group(rights.group);
        if (!group) return give_up(std::move(group).error());
        if (lchown(fresh.c_str(), static_cast<uid_t>(-1), *group) < 0)
            return give_up(Error::from_errno(errno, "give the socket to group " + rights.group));
        mode = 0660;
    }
    // Of the socket itself, never of what somebody has put in its place: its directory may be the
    // user's, and this root's.
    if (fchmodat(AT_FDCWD, fresh.c_str(), mode, AT_SYMLINK_NOFOLLOW) < 0)
        return give_up(Error::from_errno(errno, "set who may use " + path));
    acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (!error) std::filesystem::rename(fresh, path, error);
    if (error) return give_up(from(error, format("cannot make the socket {}", path), hint));
    impl_->path = path;
    impl_->file = file_at(path);
    return {};
}

Result<> Server::listen(const Address& at) {
    auto& acceptor = impl_->tcp.socket();
    ErrorCode error;
    const Tcp::endpoint endpoint(asio::ip::make_address(at.ip.text()), at.port);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (!error) return {};
    acceptor.close();
    return fail(from(error, format("cannot serve HTTP at {}", at.text()),
                     "another program may be there; [admin] http names the address"));
}

void Server::start() {
    if (impl_->local.socket().is_open()) impl_->local.accept();
    if (impl_->tcp.socket().is_open()) impl_->tcp.accept();
    impl_->thread = start_thread("admin", [this] {
        // Of this thread alone: where cores are few, those who carry connections go first.
        setpriority(PRIO_PROCESS, 0, 19);
        impl_->house->context.run();
    });
}

}  // namespace proxify::http
