// SPDX-License-Identifier: Apache-2.0
#include "http/client.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <sstream>
#include <utility>

#include "base/format.h"
#include "http/knock.h"

namespace proxify::http {

namespace asio = boost::asio;
namespace beast = boost::beast;

namespace {

/// Far more than the sessions of a full proxify take.
constexpr size_t body_size_max = size_t{1} << 30;

Error cannot_ask(const std::string& path, const boost::system::error_code& error) {
    std::string hint = "is proxify running? --socket names another socket";
    if (error == boost::system::errc::permission_denied)
        hint = "become root, or a member of the group that [admin] in targets.toml names";
    return Error::of(format("cannot ask the proxify at {}: {}", path, error.message()), hint);
}

Error no_answer(const std::string& path, Duration patience) {
    return Error::of(format("the proxify at {} does not answer within {}", path, to_text(patience)),
                     "its log may say what it is busy with");
}

beast::http::request<beast::http::string_body> message_of(const Request& request) {
    beast::http::request<beast::http::string_body> message{
        beast::http::string_to_verb(request.method), target_of(request), 11};
    message.set(beast::http::field::host, "localhost");
    message.keep_alive(false);
    message.body() = request.body;
    message.prepare_payload();
    return message;
}

}  // namespace

Result<Response> ask(const std::string& socket_path, const Request& request, Duration patience) {
    using Stream = beast::basic_stream<asio::local::stream_protocol>;
    asio::io_context context;
    Stream stream(context);
    auto [connected, number] = knock(socket_path, patience);
    if (number == EAGAIN) return fail(no_answer(socket_path, patience));
    boost::system::error_code error(number, boost::system::system_category());
    if (error) return fail(cannot_ask(socket_path, error));
    stream.socket().assign(asio::local::stream_protocol(), connected.release());

    auto message = message_of(request);
    beast::flat_buffer buffer;
    beast::http::response_parser<beast::http::string_body> parser;
    parser.body_limit(body_size_max);
    error = asio::error::timed_out;
    stream.expires_after(std::chrono::duration_cast<std::chrono::milliseconds>(patience));
    beast::http::async_write(stream, message, [&](beast::error_code failed, size_t) {
        if (failed) return void(error = failed);
        beast::http::async_read(stream, buffer, parser,
                                [&](beast::error_code result, size_t) { error = result; });
    });
    context.run();
    if (error == beast::error::timeout || error == asio::error::timed_out)
        return fail(no_answer(socket_path, patience));
    if (error) return fail(cannot_ask(socket_path, error));
    auto& answer = parser.get();
    return Response{.status = answer.result_int(),
                    .type = std::string(answer[beast::http::field::content_type]),
                    .body = std::move(answer.body())};
}

// ---- Call

struct Call::Parser {
    beast::http::response_parser<beast::http::string_body> parser;
    beast::flat_buffer unread;  ///< what the parser could make nothing of without more
};

Call::Call(Fd socket, std::unique_ptr<Parser> parser)
    : socket_(std::move(socket)), parser_(std::move(parser)) {}
Call::Call(Call&&) noexcept = default;
Call& Call::operator=(Call&&) noexcept = default;
Call::~Call() = default;

Result<Call> Call::open(const std::string& socket_path, const Request& request) {
    // Within a moment, since a patience of 0 would be for ever.
    auto [socket, number] = knock(socket_path, 1ms);
    if (number != 0) return fail(Error::of(std::strerror(number)));

    std::ostringstream text;
    text << message_of(request);
    // A socket that nobody wrote to has room for a question.
    const auto question = std::move(text).str();
    const auto sent =
        send(socket.get(), question.data(), question.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return fail(Error::of(std::strerror(errno)));
    if (static_cast<size_t>(sent) < question.size()) return fail(Error::of("it takes no question"));

    auto parser = std::make_unique<Parser>();
    parser->parser.eager(true);
    // Beast makes room at once for what an answer says that it will have.
    parser->parser.body_limit(body_size_max);
    return Call(std::move(socket), std::move(parser));
}

Result<> Call::read() {
    auto& [parser, unread] = *parser_;
    std::array<char, 16384> piece;
    // Not until nothing is left: somebody who never stops would never be left.
    for (int pieces = 0; pieces < 16 && !parser.is_done(); ++pieces) {
        const auto count = recv(socket_.get(), piece.data(), piece.size(), MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (count < 0) return fail(Error::of(std::strerror(errno)));

        beast::error_code error;
        if (count == 0) {
            if (parser.got_some()) parser.put_eof(error);
            if (!parser.got_some() || error)
                return fail(Error::of("the connection was closed before the answer was complete"));
            break;
        }
        const auto taken = static_cast<size_t>(count);
        const auto room = unread.prepare(taken);
        asio::buffer_copy(room, asio::buffer(piece.data(), taken));
        unread.commit(taken);
        for (size_t used = 1; used > 0 && !error && unread.size() > 0 && !parser.is_done();) {
            used = parser.put(unread.data(), error);
            unread.consume(used);
        }
        if (error && error != beast::http::error::need_more)
            return fail(Error::of("what it answers is not HTTP: " + error.message()));
    }
    return {};
}

unsigned Call::status() const {
    return parser_->parser.is_header_done() ? parser_->parser.get().result_int() : 0;
}

bool Call::is_complete() const {
    return parser_->parser.is_done();
}

std::string& Call::body() {
    return parser_->parser.get().body();
}

}  // namespace proxify::http
