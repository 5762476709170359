// SPDX-License-Identifier: Apache-2.0
#include "http/client.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>

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

    beast::http::request<beast::http::string_body> message{
        beast::http::string_to_verb(request.method), target_of(request), 11};
    message.set(beast::http::field::host, "localhost");
    message.keep_alive(false);
    message.body() = request.body;
    message.prepare_payload();
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

}  // namespace proxify::http
